"""One UDP port and its UDT connections."""

from __future__ import annotations

from collections.abc import Callable

from dwcloud.protocol.udt.configuration import Configuration
from dwcloud.protocol.udt.connection import Connection
from dwcloud.protocol.udt.events import Event
from dwcloud.protocol.udt.trace import Trace
from dwcloud.protocol.udt.transmit import Transmit

__all__ = ["Multiplexer"]


class Multiplexer:
    """The UDT side of one UDP port."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        random_bytes: Callable[[int], bytes],
        now: float,
        trace: Trace | None = None,
    ) -> None: ...

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections that exist, in whatever state."""
        ...

    def receive_datagram(
        self, data: bytes | memoryview, address: tuple[str, int], *, now: float
    ) -> None:
        """Take one received datagram."""

    def receive_datagrams(
        self,
        data: bytes | memoryview,
        segment_size: int | None,
        address: tuple[str, int],
        *,
        now: float,
    ) -> None:
        """Take several datagrams of one address that the kernel joined (UDP_GRO)."""

    def handle_timer(self, *, now: float) -> None:
        """Do what is due."""

    def datagrams_to_send(self, *, now: float) -> list[Transmit]:
        """Return what is to be sent now; call it after every other call."""
        ...

    def next_event(self) -> Event | None:
        """Return the next event, or None."""
        ...

    def next_timer(self) -> float | None:
        """Return when to call :meth:`handle_timer`, in absolute seconds, or None."""
        ...

    def connect(self, address: tuple[str, int], *, now: float) -> Connection:
        """Start a connection to a listener."""
        ...

    def rendezvous(self, address: tuple[str, int], *, now: float) -> Connection:
        """Start a connection to a peer that starts one to us."""
        ...

    def listen(self, *, backlog: int = 50) -> None:
        """Accept connections; ``backlog`` limits those not yet taken as events."""

    def stop_listening(self) -> None:
        """Accept no more; existing connections stay."""
