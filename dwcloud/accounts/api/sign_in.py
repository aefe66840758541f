"""Registration, sign-in, and sessions."""

from __future__ import annotations

import uuid
from importlib.metadata import version
from typing import Any

import attrs

from dwcloud.accounts.api.authentication import (
    clear_cookie,
    cookie_field,
    csrf_token,
)
from dwcloud.accounts.api.endpoints import Access, Answered, Call, Endpoint, Outcome
from dwcloud.accounts.api.messages import (
    CloudAnswer,
    NewAccount,
    NewAccountAnswer,
    Person,
    Refresh,
    SessionAnswer,
    SessionItem,
    SessionsAnswer,
    SignIn,
)
from dwcloud.accounts.lock_out import LockOut
from dwcloud.accounts.names import account_name
from dwcloud.accounts.people import (
    CLOSED,
    Account,
    Credentials,
    create_account,
    find_credentials,
    renew_hash,
)
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.sessions import (
    BEARER,
    COOKIE,
    OpenedSession,
    SignInOutcome,
    close_session,
    list_sessions,
    record_failed_sign_in,
    refresh_session,
    sign_in,
)
from dwcloud.accounts.transactions import Transaction

__all__ = ["ENDPOINTS", "check_credentials", "person"]


def person(account: Account) -> Person:
    """Return an account for an answer."""
    return Person(id=str(account.id), name=account.name, totp=account.totp)


def bad_credentials() -> Refused:
    """A wrong password, or a wrong code: nobody is told which, or whether anybody has
    that name."""
    return Refused(
        401, "bad_credentials", "Name, password or second factor is not right."
    )


async def show_cloud(call: Call) -> Outcome:
    """What this cloud is, and the key by which its grants are known."""
    services = call.services
    return CloudAnswer(
        version=version("dwcloud"),
        cloud_key=services.access.cloud_key,
        registration=services.registration,  # type: ignore[arg-type]
        relays=list(services.relays),
        web_gateways=[str(gateway) for gateway in services.gateways],
    )


async def register(call: Call) -> Outcome:
    """Make an account."""
    services, body = call.services, call.body
    assert isinstance(body, NewAccount)
    services.limits.check_registration(call.address, services.clock())
    if services.registration == CLOSED:
        # Before there is any work with it.
        raise Refused(403, "registration_closed", "This cloud takes no new accounts.")
    name = account_name(body.name)
    kept = await services.passwords.hash(body.password, name)
    account = await services.store.run(
        create_account,
        name,
        kept,
        registration=services.registration,
        invitation=body.invitation,
        address=call.address,
    )
    return NewAccountAnswer(account=person(account))


async def check_credentials(call: Call, name: str, password: str) -> Credentials:
    """Check a password; returns what it was right for.

    :raises Refused: 401, 429 or 503.
    """
    services = call.services
    services.limits.check_sign_in(call.address, services.clock())
    name = name.lower()
    lock = services.limits.lock_out
    wait, known = await services.store.run(_begin, lock, name, call.address)
    if wait > 0:
        raise Refused(
            429,
            "locked",
            "Too many wrong passwords were tried for this account; wait a minute.",
            retry_after=wait,
        )
    try:
        usable = known is not None and not known.disabled
        kept = known.password_hash if known is not None and usable else None
        right = await services.passwords.verify(kept, password)
    except Refused:
        await services.store.run(lock.give_back, name)
        raise
    if known is None or not right:
        await services.store.run(
            record_failed_sign_in, name, known, "bad_credentials", call.address
        )
        raise bad_credentials()
    return await _renewed(call, known, password)


def _begin(
    transaction: Transaction, lock: LockOut, name: str, address: str
) -> tuple[float, Credentials | None]:
    """Begin a try of a password: how long to wait, and what it is checked against."""
    wait = lock.begin(transaction, name)
    if wait > 0:
        record_failed_sign_in(transaction, name, None, "locked", address)
        return wait, None
    return 0.0, find_credentials(transaction, name)


async def _renewed(call: Call, known: Credentials, password: str) -> Credentials:
    """Hash a password again that was hashed with other parameters than today's."""
    passwords = call.services.passwords
    if not passwords.needs_renewal(known.password_hash):
        return known
    kept = await passwords.hash_again(password)
    await call.services.store.run(renew_hash, known, kept)
    return attrs.evolve(known, password_hash=kept)


async def open_session(call: Call) -> Outcome:
    """Sign in."""
    services, body = call.services, call.body
    assert isinstance(body, SignIn)
    known = await check_credentials(call, body.name, body.password)
    outcome = await services.store.run(
        _sign_in,
        services.limits.lock_out,
        known,
        seal=services.seal,
        totp=body.totp,
        kind=COOKIE if body.cookie else BEARER,
        address=call.address,
        agent=call.request.header("user-agent") or "",
    )
    if isinstance(outcome, OpenedSession):
        return session_answer(outcome)
    if outcome == "totp_required":
        raise Refused(
            401, "totp_required", "This account asks for a code of its second factor."
        )
    raise bad_credentials()


def _sign_in(
    transaction: Transaction, lock: LockOut, known: Credentials, **named: Any
) -> SignInOutcome:
    """Open a session, and let the try count or not."""
    outcome = sign_in(transaction, known, **named)
    if isinstance(outcome, OpenedSession):
        lock.succeeded(transaction, known.name)
    elif outcome == "totp_required":
        lock.give_back(transaction, known.name)
    return outcome


def session_answer(opened: OpenedSession) -> Outcome:
    """Return a new session for its owner."""
    if opened.refresh_token:
        return SessionAnswer(
            account=person(opened.account),
            expires_in=opened.expires_in,
            access_token=opened.access_token,
            refresh_token=opened.refresh_token,
        )
    answer = SessionAnswer(
        account=person(opened.account),
        expires_in=opened.expires_in,
        csrf_token=csrf_token(opened.access_token),
    )
    return Answered(answer, (cookie_field(opened.access_token),))


async def refresh(call: Call) -> Outcome:
    """Replace tokens by new ones; the old refresh token is spent."""
    body = call.body
    assert isinstance(body, Refresh)
    opened = await call.services.store.run(
        refresh_session, body.refresh_token, call.address
    )
    if opened is None:
        raise Refused(401, "session_ended", "This session has ended; sign in again.")
    return session_answer(opened)


async def show_sessions(call: Call) -> Outcome:
    """All sessions of the account, the one used last first."""
    records = await call.services.store.run(list_sessions, call.actor)
    return SessionsAnswer(
        sessions=[
            SessionItem(
                id=str(record.id),
                kind=record.kind,  # type: ignore[arg-type]
                created=record.created / 1000,
                used=record.used / 1000,
                expires=record.expires / 1000,
                address=record.address,
                agent=record.agent,
                current=record.id == call.actor.session,
                system=None if record.system is None else str(record.system),
                role=None if record.role is None else record.role.label,  # type: ignore[arg-type]
                label=record.label,
            )
            for record in records
        ]
    )


async def sign_out(call: Call) -> Outcome:
    """End the session by which the request came."""
    await call.services.store.run(close_session, call.actor, call.actor.session)
    return Answered(None, (clear_cookie(),) if call.by_cookie else ())


async def end_session(call: Call) -> Outcome:
    """End one of the account's sessions."""
    try:
        session = uuid.UUID(call.path["id"])
    except ValueError:
        raise Refused(404, "no_such_session", "You have no such session.") from None
    await call.services.store.run(close_session, call.actor, session)
    return None


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/cloud",
        run=show_cloud,
        access=Access.ANYBODY,
        answer=CloudAnswer,
    ),
    Endpoint(
        method="POST",
        path="/accounts",
        run=register,
        access=Access.ANYBODY,
        body=NewAccount,
        answer=NewAccountAnswer,
        status=201,
        refusals=(403, 409, 503),
    ),
    Endpoint(
        method="POST",
        path="/sessions",
        run=open_session,
        access=Access.ANYBODY,
        body=SignIn,
        answer=SessionAnswer,
        status=201,
        refusals=(401, 503),
    ),
    Endpoint(
        method="POST",
        path="/sessions/refresh",
        run=refresh,
        access=Access.ANYBODY,
        body=Refresh,
        answer=SessionAnswer,
        status=201,
        refusals=(401,),
    ),
    Endpoint(method="GET", path="/sessions", run=show_sessions, answer=SessionsAnswer),
    Endpoint(method="DELETE", path="/sessions/current", run=sign_out, status=204),
    Endpoint(
        method="DELETE",
        path="/sessions/{id}",
        run=end_session,
        status=204,
        refusals=(404,),
    ),
)
