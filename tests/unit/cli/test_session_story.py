"""Stories of connect sessions, from lines as the programs write them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.log_reading import LogLine
from dwcloud.cli.session_story import PROGRAMS, STEPS, tell_story
from dwcloud.cli.trace import TraceCommand, _as_dict, _page
from tests.unit.cli.test_log_reading import SESSION

RELAY = "relay http://192.0.2.3:3349"
UDP = "udp 192.0.2.9:5000"
CLIENT = [
    (0.00, "asking mediator 192.0.2.1:3345 for SERVER"),
    (0.05, "the mediator answered ok over UDP after 0.05 s"),
    (0.051, f"trying {UDP}"),
    (0.052, "trying tcp 10.0.0.1:7000"),
    (0.053, f"trying {RELAY}"),
    (0.06, "tcp 10.0.0.1:7000 failed after 0.008 s: Connection refused"),
    (0.15, f"{RELAY} verified after 0.097 s"),
    (0.45, f"{RELAY} selected"),
    (0.48, "connected by relay to 192.0.2.3:3349 after 0.480 s"),
]
MEDIATOR = [
    (0.01, "'' at 192.0.2.8:4000 asks for SERVER"),
    (0.011, "telling the server of ['192.0.2.8:4000']"),
    (0.04, "answered ok, server SERVER, UDP ['192.0.2.9:5000'], observed client X"),
    (0.46, "the client tells: relay, 0.45 s"),
]
SERVER = [
    (0.02, "the mediator tells of client '' at ['192.0.2.8:4000']"),
    (0.05, "the mediator has the confirmation"),
    (0.14, "path by relay from 192.0.2.3:3349 admitted"),
    (0.47, "stream opened: service web, path relay"),
    (9.0, "stream closed: service web, path relay"),
]
RELAY_LINES = [
    (0.07, "relay session 0123 created for SERVER"),
    (0.09, "relay session 0123 client '' at 192.0.2.8:4001 joined with SERVER"),
    (9.1, "relay session 0123 tunnel ended after 9.0 s, 1 bytes to the server, 2 to"),
]


def log(
    program: str,
    lines: list[tuple[float, str]],
    ahead: float = 0.0,
    precision: float = 1e-6,
) -> list[LogLine]:
    """Lines of a program whose clock is ahead, cut to what it writes."""
    return [
        LogLine(
            program=program,
            time=(1e9 + at + ahead) // precision * precision,
            precision=precision,
            message=message,
        )
        for at, message in lines
    ]


def everything(
    ahead: dict[str, float] | None = None, precision: dict[str, float] | None = None
) -> list[list[LogLine]]:
    """All four logs."""
    lines = zip(PROGRAMS, (CLIENT, MEDIATOR, SERVER, RELAY_LINES), strict=True)
    return [
        log(
            program,
            said,
            (ahead or {}).get(program, 0.0),
            (precision or {}).get(program, 1e-6),
        )
        for program, said in lines
    ]


ORDER = [message for _, message in sorted([*CLIENT, *MEDIATOR, *SERVER, *RELAY_LINES])]


class OrderTests(SynchronousTestCase):
    """Lines are put in the order in which they were written."""

    def messages(self, logs: list[list[LogLine]]) -> list[str]:
        return [said.line.message for said in tell_story(SESSION, logs).said]

    def test_exact_times(self) -> None:
        """With clocks that agree the times decide."""
        self.assertEqual(self.messages(everything()), ORDER)

    def test_clocks_differ(self) -> None:
        """Clocks that are off are noticed by what cannot be, and set right."""
        ahead = {"client": 30.0, "server": -7.0, "relay": 2.0}
        story = tell_story(SESSION, everything(ahead))
        for program, seconds in ahead.items():
            self.assertApproximates(story.shifts[program], -seconds, 0.5, program)
        before = [said.step and said.step.name for said in story.said]
        for earlier, later in (
            ("asked", "heard"),
            ("announced", "told"),
            ("answered", "introduced"),
            ("relay asked", "joined"),
            ("joined", "connected"),
        ):
            self.assertLess(before.index(earlier), before.index(later))

    def test_whole_seconds(self) -> None:
        """Where times are coarse, what must come before what decides."""
        coarse = dict.fromkeys(PROGRAMS, 1.0)
        story = tell_story(SESSION, everything(precision=coarse))
        self.assertEqual(story.shifts, {})
        names = [said.step and said.step.name for said in story.said]
        expected = ["asked", "heard", "announced", "told", "answered", "confirmed"]
        self.assertEqual(names[:6], expected)
        self.assertLess(names.index("trying"), names.index("relay asked"))
        self.assertLess(names.index("joined"), names.index("connected"))
        self.assertEqual({*names[-2:]}, {"closed", "tunnel ended"})

    @given(
        st.lists(
            st.lists(
                st.tuples(
                    st.floats(-1e9, 1e9),
                    st.sampled_from([1.0, 1e-6]),
                    st.sampled_from([*PROGRAMS, "other"]),
                    st.sampled_from(ORDER) | st.text(),
                ),
                max_size=6,
            ),
            min_size=1,
            max_size=4,
        ).filter(any)
    )
    def test_any_lines(self, logs: list[list[tuple[float, float, str, str]]]) -> None:
        """Of any lines none is lost, and those of one file stay in order."""
        parsed = [
            [
                LogLine(
                    program=program,
                    time=time,
                    precision=precision,
                    message=message,
                    source=str(number),
                    number=place,
                )
                for place, (time, precision, program, message) in enumerate(one)
            ]
            for number, one in enumerate(logs)
        ]
        story = tell_story(SESSION, parsed)
        self.assertEqual(len(story.said), sum(map(len, logs)))
        for number in range(len(logs)):
            places = [
                said.line.number
                for said in story.said
                if said.line.source == str(number)
            ]
            self.assertEqual(places, sorted(places))
        json.dumps(_as_dict(story))
        self.assertTrue(_page(story)[-1].startswith("result: "))


class MeaningTests(SynchronousTestCase):
    """What it all amounts to."""

    def test_paths(self) -> None:
        """Each path that was tried, when, how long, and what came of it."""
        story = tell_story(SESSION, everything())
        found = [(p.attempt, p.outcome, p.seconds, p.reason) for p in story.paths]
        self.assertEqual(
            found,
            [
                (UDP, "given up", None, ""),
                ("tcp 10.0.0.1:7000", "failed", 0.008, "Connection refused"),
                (RELAY, "selected", 0.097, ""),
            ],
        )
        for path, began in zip(story.paths, (0.051, 0.052, 0.053), strict=True):
            assert path.began is not None
            self.assertApproximates(path.began, began, 1e-4)

    def test_success(self) -> None:
        """A connection, and who says nothing of it."""
        story = tell_story(SESSION, [log("client", CLIENT)])
        self.assertEqual(story.succeeded, True)
        self.assertEqual(story.conclusion, "connected by relay after 0.480 s")
        self.assertEqual(story.silent, ("mediator", "server", "relay"))

    def test_failures(self) -> None:
        """Each failure is told with the step at which it happened."""
        failed = (3.5, "failed after 3.500 s: the reason.")
        unanswered = (3.0, "the mediator did not answer: {'UDP': 'no', 'TCP': 'no'}")
        told = [*MEDIATOR[:3], (20.0, "the client tells: timed out, 1 s")]
        offline = (0.1, "the mediator answered peer offline over UDP after 0.1 s")
        for logs, expected in (
            (
                {"client": [CLIENT[0], unanswered, failed]},
                "failed asking the mediator: nothing shows that it heard of the client",
            ),
            (
                {"client": [CLIENT[0], unanswered, failed], "mediator": MEDIATOR[:3]},
                "failed telling the server",
            ),
            (
                {"client": [CLIENT[0], unanswered], "mediator": MEDIATOR[:1]},
                "failed answering: the client did not get the mediator's answer",
            ),
            ({"client": [CLIENT[0], offline, failed]}, "failed asking the mediator: "),
            (
                {"client": [*CLIENT[:6], failed]},
                "failed reaching the server: no path led to it: the reason",
            ),
            (
                {"client": [*CLIENT[:8], failed]},
                "failed opening the service, on a path that works: the reason",
            ),
            (
                {"mediator": told},
                "failed between the introduction and the first path, as",
            ),
        ):
            story = tell_story(SESSION, [log(who, said) for who, said in logs.items()])
            self.assertEqual(story.succeeded, False, expected)
            if expected.startswith("failed telling"):
                # The mediator answered OK, so that is not where it failed.
                self.assertIn("between the introduction", story.conclusion)
            else:
                self.assertTrue(story.conclusion.startswith(expected), story.conclusion)

    def test_unknown_end(self) -> None:
        """Logs that stop early say where."""
        story = tell_story(SESSION, [log("server", SERVER[:1])])
        self.assertIsNone(story.succeeded)
        self.assertIn("not in these logs", story.conclusion)

    def test_steps_are_told_apart(self) -> None:
        """Each line of the examples is the step that it was written as."""
        names = {
            said.step and said.step.name
            for said in tell_story(SESSION, everything()).said
        }
        self.assertNotIn(None, names)
        self.assertLessEqual(names, {step.name for step in STEPS})
        self.assertEqual(len({step.name for step in STEPS}), len(STEPS))


class CommandLineTests(SynchronousTestCase):
    """``dwcloud trace`` and its words."""

    def test_words(self) -> None:
        """An id, or enough of one, and files."""
        options = TraceCommand()
        options.parseOptions([SESSION.upper(), "a.log", "-", "--json"])
        self.assertEqual(options.session, SESSION)
        self.assertEqual(options.files, ("a.log", "-"))
        for words, expected in (
            ([SESSION], "expected ID LOGFILE..."),
            (["0190163", "a.log"], "not the id of a connect session"),
            (["zzzzzzzzzzz", "a.log"], "not the id of a connect session"),
            ([SESSION + "0", "a.log"], "not the id of a connect session"),
            ([SESSION, "-", "-"], "only once"),
        ):
            error = self.assertRaises(UsageError, TraceCommand().parseOptions, words)
            self.assertIn(expected, str(error))
