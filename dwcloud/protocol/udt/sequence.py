"""Sequence numbers: 31 bits on the wire, endless counts inside.

On the wire numbers wrap from 2^31-1 to 0. Inside, packets are counted
from the initial sequence number with plain integers, here called an *index*, so that
comparison is comparison; only the border of the core translates.
"""

from __future__ import annotations

__all__ = ["SEQUENCE_MASK", "SequenceSpace", "distance"]

SEQUENCE_MASK = 0x7FFFFFFF

_MODULUS = 1 << 31
_HALF = 1 << 30


def distance(start: int, end: int) -> int:
    """Return the signed number of steps from one sequence number to another."""
    steps = (end - start) & SEQUENCE_MASK
    return steps - _MODULUS if steps >= _HALF else steps


class SequenceSpace:
    """The numbers of one direction of a connection.

    :ivar initial: the initial sequence number, which has index 0.
    """

    __slots__ = ("initial",)

    def __init__(self, initial: int) -> None:
        self.initial = initial & SEQUENCE_MASK

    def number(self, index: int) -> int:
        """Return the sequence number of an index."""
        return (self.initial + index) & SEQUENCE_MASK

    # [udt:sequence-wrap]
    def index(self, number: int, near: int) -> int:
        """Return the index of a sequence number: the one nearest to ``near``."""
        steps = (number - self.initial - near) & SEQUENCE_MASK
        return near + (steps - _MODULUS if steps >= _HALF else steps)
