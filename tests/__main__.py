"""Run the tests: ``python -m tests [-j N] [NAME...]``, without a name all of them.

All of them are run in two parts: those that need no more than a processor are shared
out between as many processes as there are processors; then come the others, which need
ports, programs and time of their own, one after another. Trial does the work in a
process of its own, so that even a crash is counted. Its output is passed through; the
last line tells how many tests passed and failed.

Those others depend on what else the machine does in these seconds. Where a few tests
fail, each of them gets a second attempt, with the machine to itself; what passes only
then is named, as it is to be mended.

With ``DWCLOUD_TEST_ALL`` in the environment a skipped test is a failed one: there
the machine is meant to be able to run everything.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

import attrs

ROOT = pathlib.Path(__file__).resolve().parent.parent

_VERDICT = re.compile(r"^(PASSED|FAILED)(?: \((?P<counts>[^)]*)\))?$")
"""Trial's last line, such as ``FAILED (failures=1, errors=2, successes=30)``."""

_PURE = ("tests.unit", "tests.scenarios")
"""Packages of tests that disturb nobody."""

_MOST_AGAIN = 5
"""Failed tests that get a second attempt; more of them are no matter of chance."""

_TEST_NAME = re.compile(r"tests(\.\w+){3,}")
_SEPARATOR = re.compile(r"={79}|-{79}")

_INTERRUPTED = 130
"""Exit status of a shell whose command was stopped by SIGINT."""


@attrs.frozen
class Outcome:
    """How the tests of one run ended.

    :ivar passed: tests that did what they promise; those marked as to do count when
        they failed as expected.
    :ivar failed: failures, errors and tests to do that passed all the same.
    :ivar skipped: tests that this machine cannot run.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @classmethod
    def from_counts(cls, counts: Mapping[str, int]) -> Outcome:
        """Add up the numbers of trial's last line, by the names it gives them."""
        return cls(
            passed=counts.get("successes", 0) + counts.get("expectedFailures", 0),
            failed=counts.get("failures", 0)
            + counts.get("errors", 0)
            + counts.get("unexpectedSuccesses", 0),
            skipped=counts.get("skips", 0),
        )

    @classmethod
    def from_output(cls, lines: Iterable[str]) -> Outcome | None:
        """Find the numbers in what trial printed; None if it did not get that far."""
        outcome = None
        for line in lines:
            match = _VERDICT.match(line.strip())
            if match:
                pairs = re.findall(r"(\w+)=(\d+)", match["counts"] or "")
                outcome = cls.from_counts({name: int(n) for name, n in pairs})
        return outcome

    def plus(self, other: Outcome) -> Outcome:
        """The outcome of both runs."""
        return Outcome(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )

    def after(self, again: Outcome) -> Outcome:
        """The outcome when all that failed was run again with this outcome."""
        return Outcome(
            self.passed + again.passed, again.failed, self.skipped + again.skipped
        )

    def without_skips(self) -> Outcome:
        """The same, each skipped test being a failed one."""
        return Outcome(self.passed, self.failed + self.skipped)

    def __str__(self) -> str:
        line = f"{self.passed} passed, {self.failed} failed"
        return f"{line}, {self.skipped} skipped" if self.skipped else line


def failed_tests(lines: Iterable[str]) -> list[str]:
    """Find the names of the failed tests in what trial printed.

    They stand at the end of each section of its report, before the separator.
    """
    found: dict[str, None] = {}
    names: list[str] = []
    for line in lines:
        text = line.strip()
        if _TEST_NAME.fullmatch(text):
            names.append(text)
            continue
        if _SEPARATOR.fullmatch(text):
            found.update(dict.fromkeys(names))
        names.clear()
    return list(found)


@attrs.frozen
class _Run:
    """What one run of trial came to.

    :ivar outcome: None if it ended before it had one.
    :ivar status: its exit status.
    :ivar failed: names of the tests that failed.
    """

    outcome: Outcome | None
    status: int
    failed: list[str]


def _run_trial(arguments: Sequence[str]) -> _Run:
    """Run trial and pass its output through."""
    trial = subprocess.Popen(
        [sys.executable, "-u", "-m", "twisted.trial", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert trial.stdout is not None
    lines: list[str] = []
    for line in trial.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        lines.append(line)
    # The verdict is on the last lines; a test may print one like it before.
    outcome = Outcome.from_output(lines[-10:])
    return _Run(outcome, trial.wait(), failed_tests(lines))


def _second_attempt(first: _Run, options: Sequence[str]) -> _Run:
    """Run what failed once more, if that is little; return what it comes to."""
    if first.outcome is None or not 0 < len(first.failed) <= _MOST_AGAIN:
        return first
    print("\nA second attempt:", *first.failed, sep="\n  ", flush=True)
    again = _run_trial([*options, *first.failed])
    if again.outcome is None:
        return first
    for name in first.failed:
        if name not in again.failed:
            print(f"passed at the second attempt only: {name}")
    return _Run(first.outcome.after(again.outcome), again.status, again.failed)


def parts(names: Sequence[str], jobs: str | None) -> list[list[str]]:
    """Return the arguments of each run of trial.

    :param names: the tests asked for; none for all.
    :param jobs: the number of processes asked for.
    """
    asked = [] if jobs is None else ["--jobs", jobs]
    if names:
        return [[*asked, *names]]
    packages = [
        f"tests.{path.parent.name}" for path in ROOT.glob("tests/*/__init__.py")
    ]
    shared = ["--jobs", jobs or str(os.cpu_count() or 1)]
    others = sorted(set(packages) - set(_PURE))
    return [[*shared, *_PURE], [*asked, *others]]


def main(arguments: Sequence[str]) -> int:
    """Run the tests named, print the closing line, return the exit status."""
    # A shell starts background jobs deaf to interrupts, which some tests are about.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(
        prog="python -m tests",
        description="Run the tests of dwcloud.",
        epilog="Any other option is trial's: see 'trial --help'.",
    )
    parser.add_argument("-j", "--jobs", metavar="N", help="run in N processes")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as tests.unit")
    options, trial_options = parser.parse_known_args(arguments)
    total, status = Outcome(), 0
    for part in parts(options.names, options.jobs):
        try:
            run = _run_trial([*trial_options, *part])
            if not options.names:
                run = _second_attempt(run, trial_options)
        except KeyboardInterrupt:
            return _INTERRUPTED
        outcome = run.outcome
        if outcome is None:
            print(f"trial ended with status {run.status} before it had a result")
            outcome = Outcome(failed=1)
        total, status = total.plus(outcome), status or run.status
    if os.environ.get("DWCLOUD_TEST_ALL") and total.skipped:
        print(f"{total.skipped} skipped: a failure where DWCLOUD_TEST_ALL is set")
        total = total.without_skips()
    print(total, flush=True)
    return status or (1 if total.failed else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
