"""Loading the modules of a program when it starts."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["loading"]


@contextmanager
def loading() -> Iterator[None]:
    """Load modules without a search for garbage, as nearly all that they make stays.

    The searches would take an eighth of the time, and as long again when the process
    ends. Later ones leave out what is there now: they are short, which who waits for
    a stream notices.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
