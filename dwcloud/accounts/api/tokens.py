"""Tokens for one system: made, listed and revoked by whoever has a role on it."""

from __future__ import annotations

import uuid

from dwcloud.accounts.api.endpoints import Call, Endpoint, Outcome
from dwcloud.accounts.api.messages import (
    NewToken,
    NewTokenAnswer,
    TokenItem,
    TokensAnswer,
)
from dwcloud.accounts.api.systems import system_of
from dwcloud.accounts.roles import Role
from dwcloud.accounts.system_tokens import (
    SystemToken,
    list_tokens,
    make_token,
    revoke_token,
)

__all__ = ["ENDPOINTS"]


def _item(token: SystemToken) -> TokenItem:
    return TokenItem(
        id=str(token.id),
        label=token.label,
        role=token.role.label,  # type: ignore[arg-type]
        created=token.created / 1000,
        used=None if token.used is None else token.used / 1000,
        expires=token.expires / 1000,
        address=token.address,
    )


async def new_token(call: Call) -> Outcome:
    """Make a token that opens this system and nothing else, for a short time."""
    body = call.body
    assert isinstance(body, NewToken)
    made, secret = await call.services.store.run(
        make_token,
        call.actor,
        system_of(call),
        Role[body.role.upper()],
        body.label,
        body.lifetime,
    )
    return NewTokenAnswer(token=_item(made), access_token=secret)


async def show_tokens(call: Call) -> Outcome:
    """One's own tokens for a system, the newest first."""
    found = await call.services.store.run(list_tokens, call.actor, system_of(call))
    return TokensAnswer(tokens=[_item(token) for token in found])


async def end_token(call: Call) -> Outcome:
    """Revoke one's own token; connections of the account to the system are cut."""
    system = system_of(call)
    try:
        token = uuid.UUID(call.path["token"])
    except ValueError:
        # None has such an id, which is told only to who may know of the system.
        token = uuid.UUID(int=0)
    await call.services.store.run(revoke_token, call.actor, system, token)
    return None


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/systems/{id}/tokens",
        run=new_token,
        body=NewToken,
        answer=NewTokenAnswer,
        status=201,
        refusals=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/systems/{id}/tokens",
        run=show_tokens,
        answer=TokensAnswer,
        refusals=(404,),
    ),
    Endpoint(
        method="DELETE",
        path="/systems/{id}/tokens/{token}",
        run=end_token,
        status=204,
        refusals=(404,),
    ),
)
