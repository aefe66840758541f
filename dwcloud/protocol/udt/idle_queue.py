"""A queue that costs nothing while it is empty.

An empty deque takes 760 bytes of memory, which counts when thousands of connections
are idle and each has several.
"""

from __future__ import annotations

from collections import deque
from typing import Any

__all__ = ["NOTHING"]

NOTHING: deque[Any] = deque(maxlen=0)
"""Stands for every queue that is empty; whoever appends puts a new one in its place."""
