"""Keeping memory that was freed, for those who soon need as much again."""

from __future__ import annotations

from functools import cache

__all__ = ["keep_freed_memory"]

_KEPT = 8 << 20
"""Bytes that are kept at most."""


@cache
def keep_freed_memory() -> None:
    """Let the C library keep some megabytes that were freed; once for a process.

    As it comes, glibc returns more than 128 KiB at the end of its heap to the system at
    once, and gets it back page by page, which for whoever passes large blocks on costs
    as much as all else. It takes twice the largest block that was mapped and freed for
    the limit (mallopt(3)).
    """
    bytearray(_KEPT // 2)
