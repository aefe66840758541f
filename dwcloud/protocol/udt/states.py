"""The states of a connection, and which may follow which."""

from __future__ import annotations

import enum

__all__ = ["FLOWING", "INITIATING", "TRANSITIONS", "State"]


class State(enum.Enum):
    """Where a connection stands."""

    REQUESTING = "client: first request sent"
    CONCLUDING = "client: cookie received, conclusion sent"
    MEETING = "rendezvous: nothing heard from the peer"
    AGREEING = "rendezvous: peer heard, conclusion sent"
    CONNECTED = "up"
    LINGERING = "closed here, waiting for acknowledgements"
    DRAINING = "ended by the peer, waiting for the reader and late ACKs"
    CLOSING = "shutdown sent, repeated a few times"
    CLOSED = "gone"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.REQUESTING: frozenset({State.CONCLUDING, State.CONNECTED, State.CLOSED}),
    State.CONCLUDING: frozenset({State.REQUESTING, State.CONNECTED, State.CLOSED}),
    State.MEETING: frozenset({State.AGREEING, State.CONNECTED, State.CLOSED}),
    State.AGREEING: frozenset({State.CONNECTED, State.CLOSING, State.CLOSED}),
    State.CONNECTED: frozenset({State.LINGERING, State.DRAINING, State.CLOSING}),
    State.LINGERING: frozenset({State.DRAINING, State.CLOSING}),
    State.DRAINING: frozenset({State.CLOSED}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""The states that may follow each state."""


INITIATING = frozenset(
    {State.REQUESTING, State.CONCLUDING, State.MEETING, State.AGREEING}
)
"""The states before a connection is up."""

FLOWING = frozenset({State.CONNECTED, State.LINGERING})
"""The states in which data flow."""
