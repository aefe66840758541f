"""How much guessing one process may do, for all its sessions together.

Guessing ports costs others: NATs keep a mapping for each socket, and whoever has the
ports that were not meant gets packets. So there is a limit whatever the peers say.
"""

from __future__ import annotations

from collections import deque

from dwcloud.protocol.errors import LocalProtocolError

__all__ = ["MAX_MAPPINGS", "MAX_PACKETS_PER_SECOND", "Governor"]

MAX_MAPPINGS = 300
"""Sockets beside the usual ones that may be open for guessing at a time."""
MAX_PACKETS_PER_SECOND = 200
"""Packets to guessed addresses, and first packets of such sockets, in any second."""


class Governor:
    """Gives out permissions to send and to open.

    :param most_mappings: sockets that may be open; never more than 300.
    :ivar mappings: sockets that are open now.
    """

    def __init__(self, most_mappings: int = MAX_MAPPINGS) -> None:
        self.mappings = 0
        self._most_mappings = min(most_mappings, MAX_MAPPINGS)
        self._sent: deque[float] = deque(maxlen=MAX_PACKETS_PER_SECOND)

    def take_packet(self, *, now: float) -> bool:
        """Tell whether one more packet may be sent now; if so it counts."""
        if len(self._sent) == MAX_PACKETS_PER_SECOND and self._sent[0] > now - 1.0:
            return False
        self._sent.append(now)
        return True

    def take_mapping(self) -> bool:
        """Tell whether one more socket may be opened; if so it counts."""
        if self.mappings >= self._most_mappings:
            return False
        self.mappings += 1
        return True

    def release_mapping(self) -> None:
        """A socket was closed.

        :raises LocalProtocolError: if none was open.
        """
        if self.mappings <= 0:
            raise LocalProtocolError("more sockets closed than opened")
        self.mappings -= 1
