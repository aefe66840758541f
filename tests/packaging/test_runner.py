"""How the closing line of a test run comes about."""

from io import StringIO

from hypothesis import given
from hypothesis.strategies import text
from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestSuite
from twisted.trial.unittest import SynchronousTestCase

from tests.__main__ import ROOT, Outcome, failed_tests, parts


class OutcomeTests(SynchronousTestCase):
    """Trial's verdict becomes one plain line."""

    def _line(self, *output: str) -> str:
        return str(Outcome.from_output(output))

    def test_passed(self) -> None:
        """Passed tests are counted."""
        line = self._line("Ran 3 tests in 0.1s", "", "PASSED (successes=3)\n")
        self.assertEqual(line, "3 passed, 0 failed")

    def test_failed(self) -> None:
        """Errors and unexpected successes are failures too."""
        line = self._line(
            "FAILED (failures=1, errors=2, unexpectedSuccesses=4, successes=30)"
        )
        self.assertEqual(line, "30 passed, 7 failed")

    def test_expected_failures(self) -> None:
        """A test marked as to do that fails as expected has passed."""
        line = self._line("PASSED (expectedFailures=2, successes=3)")
        self.assertEqual(line, "5 passed, 0 failed")

    def test_skipped(self) -> None:
        """Skipped tests are mentioned, as a third number."""
        line = self._line("PASSED (skips=2, successes=3)")
        self.assertEqual(line, "3 passed, 0 failed, 2 skipped")

    def test_skips_not_allowed(self) -> None:
        """Where all tests must run, a skip is a failure."""
        outcome = Outcome(passed=3, failed=1, skipped=2).without_skips()
        self.assertEqual(str(outcome), "3 passed, 3 failed")

    def test_no_test(self) -> None:
        """A run of no tests has numbers too."""
        self.assertEqual(self._line("PASSED"), "0 passed, 0 failed")

    def test_no_verdict(self) -> None:
        """A run that ended before its verdict has no outcome."""
        self.assertIsNone(Outcome.from_output(["Segmentation fault"]))

    def test_last_verdict_counts(self) -> None:
        """What a test prints is not taken for the verdict that comes after it."""
        line = self._line("PASSED (successes=9)", "FAILED (errors=1)")
        self.assertEqual(line, "0 passed, 1 failed")

    def test_second_attempt(self) -> None:
        """What failed and was run again counts as it ended then."""
        total = Outcome(10, 3, 1).after(Outcome(2, 1, 0))
        self.assertEqual(total, Outcome(12, 1, 1))

    def test_sum(self) -> None:
        """The outcome of several runs is one."""
        total = Outcome(1, 2, 3).plus(Outcome(10, 20, 30))
        self.assertEqual(total, Outcome(11, 22, 33))


class FailedTests(SynchronousTestCase):
    """Which tests failed is read from trial's report."""

    def _report(self, *cases: SynchronousTestCase) -> list[str]:
        stream = StringIO()
        reporter = TreeReporter(stream)
        TestSuite(cases).run(reporter)
        reporter.done()
        return stream.getvalue().splitlines(keepends=True)

    def test_names(self) -> None:
        """Failures and errors are named once each, what passed is not."""

        class Sample(SynchronousTestCase):
            def test_right(self) -> None:
                pass

            def test_wrong(self) -> None:
                self.assertEqual(1, 2)

            def test_broken(self) -> None:
                raise OSError("tests.lab.test_paths.DirectTests.test_udp")

            def test_as_wrong(self) -> None:
                self.assertEqual(1, 2)

        names = ("test_right", "test_wrong", "test_broken", "test_as_wrong")
        samples = [Sample(name) for name in names]
        wrong = [sample.id() for sample in samples[1:]]
        # Classes in functions have names that no test has.
        report = "".join(self._report(*samples)).replace(".<locals>", "")
        expected = [name.replace(".<locals>", "") for name in wrong]
        self.assertEqual(sorted(failed_tests(report.splitlines())), sorted(expected))

    def test_none(self) -> None:
        """A report without failures names none."""

        class Sample(SynchronousTestCase):
            def test_right(self) -> None:
                pass

        self.assertEqual(failed_tests(self._report(Sample("test_right"))), [])

    @given(text())
    def test_anything(self, output: str) -> None:
        """Whatever is printed, what is found are names of tests."""
        for name in failed_tests(output.splitlines()):
            self.assertTrue(name.startswith("tests."))


class PartsTests(SynchronousTestCase):
    """What is run, and how."""

    def test_all(self) -> None:
        """Without a name each package of tests is in one part, and in one only."""
        named = [name for part in parts([], None) for name in part if "tests." in name]
        packages = {path.parent for path in ROOT.glob("tests/*/**/test_*.py")}
        tops = {f"tests.{p.relative_to(ROOT / 'tests').parts[0]}" for p in packages}
        self.assertEqual(sorted(named), sorted(set(named)))
        self.assertLessEqual(tops, set(named))

    def test_named(self) -> None:
        """What is named is run as asked for."""
        self.assertEqual(parts(["tests.unit"], None), [["tests.unit"]])
        self.assertEqual(parts(["tests.lab"], "2"), [["--jobs", "2", "tests.lab"]])
