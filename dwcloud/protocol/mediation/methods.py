"""The methods of mediation: which questions a mediator is asked.

Their numbers lie above 0x0FF. The registry of STUN methods ends there (RFC 8489,
18.2), so that they can never collide with a method of another protocol.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Method"]


class Method(IntEnum):
    """Numbers of the methods on the wire, 12 bits."""

    BINDING = 0x001
    """What is my address? RFC 8489; asked by anyone."""
    BIND = 0xD01
    """Server to mediator: at these TCP addresses I can be reached."""
    LISTEN = 0xD02
    """Server to mediator: this connection is my control channel from now on."""
    GET_CONNECTION_STATE = 0xD03
    """Server to mediator: does this control channel still work?"""
    CONNECTION_REQUESTED = 0xD04
    """Mediator to server, an indication: a client wants to connect to you."""
    CONNECTION_ACK = 0xD05
    """Server to mediator over UDP: I am ready, at the address this came from."""
    CONNECT = 0xD06
    """Client to mediator: introduce me to that server."""
    CONNECTION_RESULT = 0xD07
    """Client to mediator: this is how it went."""
    REPLACED = 0xD08
    """Mediator to server, an indication: a newer registration took your place."""
    WATCH = 0xD0A
    """Mediator to server, an indication: somebody watches; tell what you carry."""
    ACTIVITY = 0xD0B
    """Server to mediator, an indication: this is what I carry."""
    ACCESS_CHANGED = 0xD0C
    """Mediator to server, an indication: who may connect is decided otherwise now."""
