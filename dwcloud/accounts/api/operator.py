"""What the operator asks for, with the key in the directory of accounts."""

from __future__ import annotations

from dwcloud.accounts.api.endpoints import Access, Call, Endpoint, Outcome
from dwcloud.accounts.api.messages import (
    AccountItem,
    AccountsAnswer,
    ChangeAccount,
    InvitationCode,
    ListAccounts,
)
from dwcloud.accounts.members import invite_to_register
from dwcloud.accounts.operator import (
    list_accounts,
    remove_account,
    remove_second_factor,
    reset_password,
    set_disabled,
)

__all__ = ["ENDPOINTS"]

_PAGE = 200


async def show_accounts(call: Call) -> Outcome:
    """Accounts by name, after the one named."""
    body = call.body
    assert isinstance(body, ListAccounts)
    found = await call.services.store.run(list_accounts, body.after.lower(), _PAGE)
    return AccountsAnswer(
        accounts=[
            AccountItem(
                name=account.name,
                disabled=account.disabled,
                totp=account.totp,
                created=account.created / 1000,
                used=None if account.used is None else account.used / 1000,
                systems=account.systems,
            )
            for account in found
        ],
        more=len(found) == _PAGE,
    )


async def change_account(call: Call) -> Outcome:
    """Lock or unlock an account, give it another password, remove its second factor."""
    services, body = call.services, call.body
    assert isinstance(body, ChangeAccount)
    name = call.path["name"].lower()
    if body.password is not None:
        kept = await services.passwords.hash(body.password, name)
        await services.store.run(reset_password, name, kept)
        await services.store.run(services.limits.lock_out.succeeded, name)
    if body.totp is False:
        await services.store.run(remove_second_factor, name)
    if body.disabled is not None:
        await services.store.run(set_disabled, name, body.disabled)
    return None


async def close_account(call: Call) -> Outcome:
    """Close an account and unbind all that it owns."""
    await call.services.store.run(remove_account, call.path["name"].lower())
    return None


async def new_invitation(call: Call) -> Outcome:
    """Make an invitation that is good for one registration."""
    code = await call.services.store.run(invite_to_register)
    return InvitationCode(code=code)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/operator/accounts",
        run=show_accounts,
        access=Access.OPERATOR,
        body=ListAccounts,
        answer=AccountsAnswer,
    ),
    Endpoint(
        method="PATCH",
        path="/operator/accounts/{name}",
        run=change_account,
        access=Access.OPERATOR,
        body=ChangeAccount,
        status=204,
        refusals=(404, 503),
    ),
    Endpoint(
        method="DELETE",
        path="/operator/accounts/{name}",
        run=close_account,
        access=Access.OPERATOR,
        status=204,
        refusals=(404,),
    ),
    Endpoint(
        method="POST",
        path="/operator/invitations",
        run=new_invitation,
        access=Access.OPERATOR,
        answer=InvitationCode,
        status=201,
    ),
)
