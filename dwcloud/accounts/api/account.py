"""One's own account: password, second factor, log, and its end."""

from __future__ import annotations

from dwcloud.accounts.api.authentication import clear_cookie, csrf_token
from dwcloud.accounts.api.endpoints import Answered, Call, Endpoint, Outcome, Parameter
from dwcloud.accounts.api.messages import (
    AccountAnswer,
    ChangePassword,
    Code,
    LogAnswer,
    LogItem,
    RecoveryCodes,
    RemoveSecondFactor,
    TOTPSecret,
    VerifyPassword,
)
from dwcloud.accounts.api.sign_in import bad_credentials, check_credentials, person
from dwcloud.accounts.audit import Actor, LogEntry, read_account_log
from dwcloud.accounts.lock_out import LockOut
from dwcloud.accounts.people import (
    Credentials,
    begin_totp,
    change_password,
    close_account,
    confirm_totp,
    find_account,
    remove_totp,
)
from dwcloud.accounts.sealing import Seal
from dwcloud.accounts.second_factor import provisioning_uri
from dwcloud.accounts.transactions import Transaction

__all__ = ["ENDPOINTS", "LOG_PARAMETERS", "log_answer"]

_MOST_ENTRIES = 200
_USUAL_ENTRIES = 50

LOG_PARAMETERS = (
    Parameter("before", 0, (1 << 63) - 1, "only entries with smaller ids"),
    Parameter(
        "limit", 1, _MOST_ENTRIES, f"at most as many; {_USUAL_ENTRIES} if not told"
    ),
)


def log_answer(entries: list[LogEntry]) -> LogAnswer:
    """Return entries of a log for an answer."""
    return LogAnswer(
        entries=[
            LogItem(
                id=entry.id,
                at=entry.at / 1000,
                action=entry.action,
                outcome=entry.outcome,
                who=entry.who,
                detail=entry.detail,
                address=entry.address,
            )
            for entry in entries
        ]
    )


def page(call: Call) -> tuple[int | None, int]:
    """Return which entries of a log are asked for."""
    return call.query.get("before"), call.query.get("limit", _USUAL_ENTRIES)


async def show_account(call: Call) -> Outcome:
    """Who is signed in."""
    account = await call.services.store.run(find_account, call.actor.account)
    return AccountAnswer(
        account=person(account),
        csrf_token=csrf_token(call.access_token) if call.by_cookie else None,
    )


async def close(call: Call) -> Outcome:
    """Close the account for good; it must own no systems any more."""
    body = call.body
    assert isinstance(body, VerifyPassword)
    await _check_own_password(call, body.password)
    await call.services.store.run(close_account, call.actor)
    return Answered(None, (clear_cookie(),) if call.by_cookie else ())


async def put_password(call: Call) -> Outcome:
    """Change the password; other sessions end, and all grants count no more."""
    services, body = call.services, call.body
    assert isinstance(body, ChangePassword)
    known = await _check_own_password(call, body.old)
    kept = await services.passwords.hash(body.new, call.actor.name)
    await services.store.run(change_password, call.actor, known, kept)
    return None


async def _check_own_password(call: Call, password: str) -> Credentials:
    known = await check_credentials(call, call.actor.name, password)
    lock = call.services.limits.lock_out
    await call.services.store.run(lock.succeeded, call.actor.name)
    return known


async def new_totp(call: Call) -> Outcome:
    """Make the secret of a second factor, which counts once it is confirmed."""
    services = call.services
    secret = await services.store.run(begin_totp, call.actor, services.seal)
    uri = provisioning_uri(secret, call.actor.name)
    return TOTPSecret(secret=secret, uri=uri, qr=_qr_code(uri))


def _qr_code(text: str) -> list[str]:
    import segno  # Few processes ever need it.

    code = segno.make(text, error="m", micro=False)
    return ["".join("1" if dark else "0" for dark in row) for row in code.matrix]


async def turn_totp_on(call: Call) -> Outcome:
    """Ask for a second factor from now on, of which a code is shown."""
    services, body = call.services, call.body
    assert isinstance(body, Code)
    codes = await services.store.run(confirm_totp, call.actor, services.seal, body.code)
    return RecoveryCodes(recovery_codes=codes)


async def turn_totp_off(call: Call) -> Outcome:
    """Ask for no second factor any more."""
    services, body = call.services, call.body
    assert isinstance(body, RemoveSecondFactor)
    await check_credentials(call, call.actor.name, body.password)
    removed = await services.store.run(
        _remove_totp, services.limits.lock_out, call.actor, services.seal, body.code
    )
    if not removed:
        raise bad_credentials()
    return None


def _remove_totp(
    transaction: Transaction, lock: LockOut, actor: Actor, seal: Seal, code: str
) -> bool:
    removed = remove_totp(transaction, actor, seal, code)
    if removed:
        lock.succeeded(transaction, actor.name)
    return removed


async def show_log(call: Call) -> Outcome:
    """What the account did, and who tried to sign in to it, the newest first."""
    entries = await call.services.store.run(
        read_account_log, call.actor.account, *page(call)
    )
    return log_answer(entries)


ENDPOINTS = (
    Endpoint(method="GET", path="/account", run=show_account, answer=AccountAnswer),
    Endpoint(
        method="DELETE",
        path="/account",
        run=close,
        body=VerifyPassword,
        status=204,
        refusals=(409, 503),
    ),
    Endpoint(
        method="PUT",
        path="/account/password",
        run=put_password,
        body=ChangePassword,
        status=204,
        refusals=(409, 503),
    ),
    Endpoint(
        method="POST",
        path="/account/totp",
        run=new_totp,
        answer=TOTPSecret,
        status=201,
        refusals=(409,),
    ),
    Endpoint(
        method="POST",
        path="/account/totp/confirm",
        run=turn_totp_on,
        body=Code,
        answer=RecoveryCodes,
        refusals=(409,),
    ),
    Endpoint(
        method="DELETE",
        path="/account/totp",
        run=turn_totp_off,
        body=RemoveSecondFactor,
        status=204,
        refusals=(409, 503),
    ),
    Endpoint(
        method="GET",
        path="/account/log",
        run=show_log,
        answer=LogAnswer,
        query=LOG_PARAMETERS,
    ),
)
