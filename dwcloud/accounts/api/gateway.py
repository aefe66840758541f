"""Letting a browser in through a relay, which people allow on a page of the portal."""

from __future__ import annotations

import uuid

from dwcloud.accounts.access import BrowsersOff, NotBound, Revoked
from dwcloud.accounts.api.endpoints import Call, Endpoint, Outcome
from dwcloud.accounts.api.messages import GatewayEntry, GatewayGrantRequest
from dwcloud.accounts.api.systems import system_of
from dwcloud.accounts.audit import Actor, record
from dwcloud.accounts.refusals import Refused, system_unknown
from dwcloud.accounts.systems import System, get_system
from dwcloud.accounts.transactions import Transaction
from dwcloud.protocol.gateway.hosts import WebHost
from dwcloud.protocol.gateway.login import entry_address
from dwcloud.protocol.grants import GrantKind

__all__ = ["ENDPOINTS"]

_LIFE = 3600.0
"""Seconds for which a browser may look before the portal is asked again."""


async def enter(call: Call) -> Outcome:
    """Let the browser that asks look at a system through a relay, which can read
    what it sees; the answer is the address to go to."""
    services, body = call.services, call.body
    assert isinstance(body, GatewayGrantRequest)
    system = system_of(call)
    host = _host(call, body.host, system)
    known = await services.store.run(_look_up, call.actor, system, host.authority)
    try:
        issued = services.access.issue(
            system,
            call.actor.account,
            known.role,
            body.client_key,
            account_name=call.actor.name,
            asked_ms=call.began_ms,
            server=host.name.server,
            kind=GrantKind.GATEWAY,
            life=_LIFE,
        )
    except (NotBound, Revoked):
        # Unbound, or the role taken away, since it was looked up.
        raise system_unknown() from None
    except BrowsersOff:
        raise Refused(
            409,
            "browsers_off",
            "The owner of this system has not switched on that browsers may see it "
            "through a relay.",
        ) from None
    return GatewayEntry(
        location=entry_address(host, body.state, issued.encoded),
        expires=issued.expires,
    )


def _host(call: Call, text: str, system: uuid.UUID) -> WebHost:
    """Return the host to which the browser is sent, if this cloud knows its relay.

    :raises Refused: 404 if it is another system's, 403 for a stranger's.
    """
    for gateway in call.services.gateways:
        host = gateway.find(text)
        if host is not None:
            if host.name.system != system:
                raise system_unknown()
            return host
    raise Refused(
        403,
        "gateway_unknown",
        "This cloud knows of no relay at that address. Whoever runs the cloud can name "
        "it by --web-gateway.",
    )


def _look_up(
    transaction: Transaction, actor: Actor, system: uuid.UUID, host: str
) -> System:
    known = get_system(transaction, actor, system)
    record(transaction, "browser.entered", actor, system=system, detail={"host": host})
    return known


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/systems/{id}/gateway-grants",
        run=enter,
        body=GatewayGrantRequest,
        answer=GatewayEntry,
        status=201,
        refusals=(403, 404, 409),
    ),
)
