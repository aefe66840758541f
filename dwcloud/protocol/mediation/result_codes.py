"""How a connection request ended, as mediator and client tell each other."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ResultCode"]


class ResultCode(IntEnum):
    """The outcome of a connect session; numbers are those of the wire."""

    OK = 0
    """Introduced (in ``connect_response``), or connected (``connection_result``)."""
    NO_MEDIATOR_ANSWER = 1
    """The mediator answered neither over UDP nor over TCP."""
    PEER_UNKNOWN = 2
    """The mediator does not remember any server of that name."""
    PEER_OFFLINE = 3
    """The server is known, but has no control channel to the mediator now."""
    SERVER_DID_NOT_ANSWER = 4
    """The server did not confirm, and there is no other way to reach it."""
    NO_SUITABLE_METHOD = 5
    """No path that both ends can use is left to be tried."""
    UDT_FAILED = 6
    """The UDP rendezvous did not come to a connection."""
    TCP_FAILED = 7
    """No TCP address of the server could be reached."""
    IDENTITY_MISMATCH = 8
    """What was reached could not prove to be the wanted server."""
    RELAY_REFUSED = 9
    """The relay did not provide a connection."""
    TIMED_OUT = 10
    """No path was verified within the time limit."""
    CANCELLED = 11
    """The client gave up by its own choice."""

    @property
    def label(self) -> str:
        """The code in words, for logs and tables: ``peer unknown``."""
        return "ok" if self is ResultCode.OK else self.name.lower().replace("_", " ")
