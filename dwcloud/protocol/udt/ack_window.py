"""The ACKs that were sent and wait for their ACK2 (docs/protocol/udt)."""

from __future__ import annotations

__all__ = ["AckWindow"]


class AckWindow:
    """Number, acknowledged index and time of the last ACKs.

    :param size: how many are remembered.
    """

    def __init__(self, size: int = 1024) -> None:
        self._size = size
        self._sent: dict[int, tuple[int, float]] = {}

    def store(self, ack_number: int, index: int, now: float) -> None:
        """Remember an ACK that is sent at ``now``."""
        self._sent[ack_number] = (index, now)
        if len(self._sent) > self._size:
            # A dictionary keeps the order of insertion.
            del self._sent[next(iter(self._sent))]

    def acknowledge(self, ack_number: int, now: float) -> tuple[int, int] | None:
        """Take an ACK2.

        :returns: the index that the ACK acknowledged and the round-trip time in
            microseconds; None for a number that is unknown or was confirmed before.
        """
        entry = self._sent.pop(ack_number, None)
        if entry is None:
            return None
        index, sent_at = entry
        return index, max(1, round((now - sent_at) * 1e6))
