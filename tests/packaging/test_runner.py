"""How the closing line of a test run comes about."""

from twisted.trial.unittest import SynchronousTestCase

from tests.__main__ import ROOT, Outcome, parts


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

    def test_sum(self) -> None:
        """The outcome of several runs is one."""
        total = Outcome(1, 2, 3).plus(Outcome(10, 20, 30))
        self.assertEqual(total, Outcome(11, 22, 33))


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
