"""The stream of events of the systems that somebody may see."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from twisted.internet.defer import Deferred

from dwcloud.accounts.api.authentication import token_of
from dwcloud.accounts.api.endpoints import Call, Endpoint, Outcome
from dwcloud.accounts.roles import Role
from dwcloud.accounts.sessions import session_of
from dwcloud.accounts.systems import list_systems
from dwcloud.accounts.transactions import Transaction
from dwcloud.net.http_messages import StreamBodies

__all__ = ["ENDPOINTS"]

_EVENTS = "text/event-stream"


async def watch(call: Call) -> Outcome:
    """Events of the systems that one may see, as they happen (text/event-stream)."""
    token, kind = token_of(call.request)

    def look_up() -> Deferred[Mapping[uuid.UUID, Role] | None]:
        return call.services.store.run(_visible, token, kind, call.address)

    stream = call.services.events.open(call.actor, look_up)
    return StreamBodies(stream.start, content_type=_EVENTS)


def _visible(
    transaction: Transaction, token: str, kind: str, address: str
) -> Mapping[uuid.UUID, Role] | None:
    """Return the systems that may be watched; None if the session has ended."""
    actor = session_of(transaction, token, kind, address)
    if actor is None:
        return None
    return {system.id: system.role for system in list_systems(transaction, actor)}


ENDPOINTS = (Endpoint(method="GET", path="/events", run=watch, media_type=_EVENTS),)
