"""Lines of logs, of whatever form."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogPublisher, jsonFileLogObserver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.log_reading import LogLine, parse_line, read_logs
from dwcloud.net.log_lines import log_observer

SESSION = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"
OTHER = "0190163d-9999-8c3e-9a00-7ab7d7b42e1d"
MOMENT = datetime(2026, 11, 29, 14, 26, 32, 250000, tzinfo=UTC).timestamp()


def at_the_moment(observer: ILogObserver) -> ILogObserver:
    """Let everything happen at one moment."""
    return LogPublisher(lambda event: observer({**event, "log_time": MOMENT}))


def written(
    log_format: str, text: str = "session {connect_session_id}: trying {attempt}"
) -> str:
    """What our observers write of an event of a client."""
    stream = io.StringIO()
    observer = at_the_moment(log_observer(stream, log_format))
    Logger(namespace="dwcloud.peer.race", observer=observer).info(
        text,
        connect_session_id=SESSION,
        attempt="udp 192.0.2.1:5",
    )
    return stream.getvalue()


class FormTests(SynchronousTestCase):
    """All forms say the same."""

    def check(self, text: str, precision: float, program: str = "client") -> None:
        line = parse_line(text, SESSION)
        assert line is not None, text
        self.assertEqual(line.program, program)
        self.assertEqual(line.message, "trying udp 192.0.2.1:5")
        self.assertApproximates(line.time, MOMENT, precision)
        self.assertApproximates(line.precision, precision, precision / 100)

    def test_twistd(self) -> None:
        """What ``twistd`` writes by default has whole seconds."""
        said = f"session {SESSION}: trying udp 192.0.2.1:5\n"
        for logger, program in (
            ("dwcloud.peer.race#info", "client"),
            ("dwcloud.peer.responders.Responders#info", "server"),
            ("dwcloud.mediator.mediator.Mediator#info", "mediator"),
            ("dwcloud.relay.switchboard.Switchboard#info", "relay"),
            ("-", "other"),
        ):
            line = f"2026-11-29T14:26:32+0000 [{logger}] {said}"
            self.check(line, 1.0, program)
            self.check(f"Nov 29 15:26:32 host twistd[7]: {line}", 1.0, program)
            east = line.replace("14:26:32+0000", "16:56:32+0230")
            self.check(east, 1.0, program)

    def test_workers(self) -> None:
        """A worker's line is the relay's, whoever writes it."""
        line = (
            "2026-11-29T14:26:32+0000 [dwcloud.relay.workers._Worker#info] worker 2: "
            f"session {SESSION}: trying udp 192.0.2.1:5"
        )
        self.check(line, 1.0, "relay")

    def test_ours(self) -> None:
        """Our own text and JSON have fractions of seconds."""
        self.check(written("text"), 1e-6)
        self.check(written("json"), 1e-6)
        self.check("mediator-1  | " + written("json"), 1e-6)

    def test_twisted_json(self) -> None:
        """Twisted's own JSON is read as well."""
        stream = io.StringIO()
        observer = at_the_moment(jsonFileLogObserver(stream))
        Logger(namespace="dwcloud.peer.race", observer=observer).info(
            "session {connect_session_id}: trying {attempt}",
            connect_session_id=SESSION,
            attempt="udp 192.0.2.1:5",
        )
        self.check(stream.getvalue(), 1e-6)

    def test_json_fields(self) -> None:
        """A JSON line has the event's own plain fields, and the traceback of a bug."""
        event = json.loads(written("json"))
        self.assertEqual(
            event,
            {
                "time": "2026-11-29T14:26:32.250000+00:00",
                "level": "info",
                "logger": "dwcloud.peer.race",
                "message": f"session {SESSION}: trying udp 192.0.2.1:5",
                "connect_session_id": SESSION,
                "attempt": "udp 192.0.2.1:5",
            },
        )
        stream = io.StringIO()
        log = Logger(observer=LogPublisher(log_observer(stream, "json")))
        log.failure("a bug", Failure(ZeroDivisionError("1/0")))
        lines = stream.getvalue().splitlines()
        self.assertEqual(len(lines), 1)
        self.assertIn("ZeroDivisionError", json.loads(lines[0])["message"])

    @given(st.text(), st.text())
    def test_any_line(self, before: str, after: str) -> None:
        """Any line is one of a log, or none."""
        line = parse_line(f"{before}{SESSION}{after}", SESSION)
        self.assertTrue(line is None or isinstance(line, LogLine))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
        st.sampled_from(["message", "time", "log_time", "logger", "log_format"]),
    )
    def test_any_json(self, value: object, name: str) -> None:
        """Any JSON is a line, or none."""
        event = {**json.loads(written("json")), name: value}
        line = parse_line(json.dumps(event), SESSION)
        self.assertTrue(line is None or isinstance(line, LogLine))


class FileTests(SynchronousTestCase):
    """What is in which file."""

    def write(self, *lines: str) -> str:
        name = self.mktemp()
        Path(name).write_text("".join(lines), encoding="utf-8")
        return name

    def test_files(self) -> None:
        """Lines of other sessions are skipped; file and line are named."""
        name = self.write("noise\n", written("text"), "more\n", written("json"))
        zipped = self.mktemp() + ".gz"
        with gzip.open(zipped, "wt") as stream:
            stream.write(written("text").replace(SESSION, OTHER) + written("text"))
        session, logs = read_logs([name, zipped], SESSION)
        self.assertEqual(session, SESSION)
        places = [[(line.source, line.number) for line in log] for log in logs]
        self.assertEqual(places, [[(name, 2), (name, 4)], [(zipped, 2)]])

    def test_beginning_of_an_id(self) -> None:
        """Eight characters do where only one session begins so."""
        name = self.write(written("text"))
        self.assertEqual(read_logs([name], SESSION[:8])[0], SESSION)
        both = self.write(written("text"), written("text").replace(SESSION, OTHER))
        error = self.assertRaises(CommandFailed, read_logs, [both], SESSION[:8])
        self.assertIn(SESSION, str(error))
        self.assertIn(OTHER, str(error))

    def test_nothing(self) -> None:
        """Logs that say nothing are told apart from files that cannot be read."""
        name = self.write("noise\n")
        error = self.assertRaises(CommandFailed, read_logs, [name], SESSION)
        self.assertIn("none of 1 lines", str(error))
        error = self.assertRaises(CommandFailed, read_logs, ["/none"], SESSION)
        self.assertIn("/none: No such file", str(error))

    def test_any_bytes(self) -> None:
        """Bytes that are no text are no obstacle."""
        name = self.mktemp()
        Path(name).write_bytes(b"\xff\xfe\x00\n" + written("text").encode() + b"\xff")
        self.assertEqual(len(read_logs([name], SESSION)[1][0]), 1)
