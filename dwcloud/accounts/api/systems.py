"""Systems: the list, binding, settings, log, and grants to connect."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from dwcloud.accounts.access import NotBound, Revoked
from dwcloud.accounts.api.account import LOG_PARAMETERS, log_answer, page
from dwcloud.accounts.api.endpoints import Call, Endpoint, Outcome
from dwcloud.accounts.api.messages import (
    BindSystem,
    ChallengeAnswer,
    ChangeSystem,
    GrantAnswer,
    GrantRequest,
    LogAnswer,
    NewSystemAnswer,
    ServerItem,
    SystemAnswer,
    SystemItem,
    SystemsAnswer,
)
from dwcloud.accounts.audit import Actor, LogEntry, read_system_log
from dwcloud.accounts.binding import binding_text, prove_system
from dwcloud.accounts.names import system_name
from dwcloud.accounts.refusals import invalid, system_unknown
from dwcloud.accounts.roles import Role, check_at_least
from dwcloud.accounts.systems import (
    System,
    bind_system,
    change_system,
    get_system,
    known_servers,
    list_systems,
    new_challenge,
    unbind_system,
)
from dwcloud.accounts.transactions import Transaction
from dwcloud.protocol.names import parse_guid

__all__ = ["ENDPOINTS", "show", "system_of"]


def system_of(call: Call) -> uuid.UUID:
    """Return the system that the path names.

    :raises Refused: 404, if it cannot be one.
    """
    try:
        return parse_guid(call.path["id"])
    except ValueError:
        raise system_unknown() from None


async def show(call: Call, systems: Sequence[System]) -> list[SystemItem]:
    """Return systems, with their servers, for an answer."""
    seen = await call.services.store.run(
        known_servers, call.actor, [system.id for system in systems]
    )
    return [_item(call, system, seen[system.id]) for system in systems]


def _item(call: Call, system: System, seen: dict[uuid.UUID, int]) -> SystemItem:
    online = call.services.presence.online(system.id)
    servers = {
        server: ServerItem(id=str(server), online=False, since=at / 1000)
        for server, at in seen.items()
    } | {
        server: ServerItem(id=str(server), online=True, since=since)
        for server, since in online.items()
    }
    return SystemItem(
        id=str(system.id),
        name=system.name,
        owner=system.owner,
        role=system.role.label,  # type: ignore[arg-type]
        public=system.public,
        web=system.web,
        state="online" if online else "offline",
        servers=sorted(servers.values(), key=lambda server: server.id),
    )


async def show_systems(call: Call) -> Outcome:
    """The systems on which one has a role, with their servers."""
    systems = await call.services.store.run(list_systems, call.actor)
    return SystemsAnswer(systems=await show(call, systems))


async def challenge(call: Call) -> Outcome:
    """Make a nonce to be signed by the key of a system that is to be bound."""
    nonce = await call.services.store.run(new_challenge, call.actor)
    return ChallengeAnswer(nonce=nonce)


async def bind(call: Call) -> Outcome:
    """Bind a system to the account, which owns it from then on."""
    services, body = call.services, call.body
    assert isinstance(body, BindSystem)
    name = system_name(body.name)
    cloud_key = services.access.cloud_key
    system, public_key = prove_system(
        body.certificate,
        body.signature,
        binding_text(body.nonce, call.actor.account, cloud_key),
    )
    bound = await services.store.run(
        bind_system,
        call.actor,
        name,
        system=system,
        public_key=public_key,
        nonce=body.nonce,
    )
    [item] = await show(call, [bound])
    return NewSystemAnswer(system=item, cloud_key=cloud_key)


async def show_system(call: Call) -> Outcome:
    """One system."""
    system = await call.services.store.run(get_system, call.actor, system_of(call))
    [item] = await show(call, [system])
    return SystemAnswer(system=item)


async def change(call: Call) -> Outcome:
    """Rename a system, or open it to everybody or to browsers."""
    body = call.body
    assert isinstance(body, ChangeSystem)
    changed = await call.services.store.run(
        change_system,
        call.actor,
        system_of(call),
        name=None if body.name is None else system_name(body.name),
        public=body.public,
        web=body.web,
    )
    [item] = await show(call, [changed])
    return SystemAnswer(system=item)


async def unbind(call: Call) -> Outcome:
    """Take the system from its account and from everybody who has a role on it."""
    await call.services.store.run(unbind_system, call.actor, system_of(call))
    return None


async def show_log(call: Call) -> Outcome:
    """Changes of a system and connections to it, the newest first."""
    entries = await call.services.store.run(
        _read_log, call.actor, system_of(call), *page(call)
    )
    return log_answer(entries)


def _read_log(
    transaction: Transaction,
    actor: Actor,
    system: uuid.UUID,
    before: int | None,
    limit: int,
) -> list[LogEntry]:
    known = get_system(transaction, actor, system)
    check_at_least(known.role, Role.ADMINISTRATOR, "read its log")
    return read_system_log(transaction, system, before, limit)


async def grant(call: Call) -> Outcome:
    """Issue a grant, by which a client that holds the key may connect."""
    services, body = call.services, call.body
    assert isinstance(body, GrantRequest)
    system = system_of(call)
    server = None
    if body.server is not None:
        try:
            server = parse_guid(body.server)
        except ValueError as error:
            raise invalid(f"server: {error}.") from None
    known = await services.store.run(get_system, call.actor, system)
    try:
        issued = services.access.issue(
            system,
            call.actor.account,
            known.role,
            body.client_key,
            account_name=call.actor.name,
            asked_ms=call.began_ms,
            server=server,
            life=_rest(call),
        )
    except (NotBound, Revoked):
        # Unbound, or the role taken away, since it was looked up.
        raise system_unknown() from None
    return GrantAnswer(grant=issued.encoded, expires=issued.expires)


def _rest(call: Call) -> float | None:
    """Return for how many seconds a token goes on, None for a session."""
    scope = call.actor.scope
    return None if scope is None else (scope.expires - call.began_ms) / 1000


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/systems",
        run=show_systems,
        tokens=True,
        answer=SystemsAnswer,
    ),
    Endpoint(
        method="POST",
        path="/systems/challenge",
        run=challenge,
        answer=ChallengeAnswer,
        status=201,
    ),
    Endpoint(
        method="POST",
        path="/systems",
        run=bind,
        body=BindSystem,
        answer=NewSystemAnswer,
        status=201,
        refusals=(409,),
    ),
    Endpoint(
        method="GET",
        path="/systems/{id}",
        run=show_system,
        tokens=True,
        answer=SystemAnswer,
        refusals=(404,),
    ),
    Endpoint(
        method="PATCH",
        path="/systems/{id}",
        run=change,
        tokens=True,
        body=ChangeSystem,
        answer=SystemAnswer,
        refusals=(404, 409),
    ),
    Endpoint(
        method="DELETE",
        path="/systems/{id}",
        run=unbind,
        status=204,
        refusals=(404,),
    ),
    Endpoint(
        method="GET",
        path="/systems/{id}/log",
        run=show_log,
        tokens=True,
        answer=LogAnswer,
        query=LOG_PARAMETERS,
        refusals=(404,),
    ),
    Endpoint(
        method="POST",
        path="/systems/{id}/grants",
        run=grant,
        tokens=True,
        body=GrantRequest,
        answer=GrantAnswer,
        status=201,
        refusals=(404,),
    ),
)
