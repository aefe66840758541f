"""What a test needs of the machine it runs on."""

from __future__ import annotations

import os
from unittest import SkipTest

__all__ = ["require"]

ALL_VARIABLE = "DWCLOUD_TEST_ALL"
"""Set on machines that are meant to run everything: nothing may be skipped there."""


def require(condition: object, reason: str) -> None:
    """Skip the current test unless ``condition`` holds, or fail where all must run.

    :param reason: what is missing, for the report.
    """
    if condition:
        return
    if os.environ.get(ALL_VARIABLE, "") not in ("", "0"):
        raise AssertionError(f"{reason}, and {ALL_VARIABLE} allows no skipped test")
    raise SkipTest(reason)
