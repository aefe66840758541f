"""What the operator of a cloud does about accounts: transactions of the store."""

from __future__ import annotations

import uuid

import attrs

from dwcloud.accounts.audit import record
from dwcloud.accounts.changes import SystemUnbound
from dwcloud.accounts.people import Credentials, find_credentials, revoke_everywhere
from dwcloud.accounts.refusals import account_unknown
from dwcloud.accounts.transactions import Transaction

__all__ = [
    "OPERATOR",
    "AccountSummary",
    "list_accounts",
    "remove_account",
    "remove_second_factor",
    "reset_password",
    "set_disabled",
]

OPERATOR = "(operator)"
"""Who did it, in the log; no account is named so."""


@attrs.frozen
class AccountSummary:
    """An account as the operator sees it.

    :ivar used: when it was used last, None if no session is left; milliseconds since
        1970, as is ``created``.
    :ivar systems: how many it owns.
    """

    id: uuid.UUID
    name: str
    disabled: bool
    totp: bool
    created: int
    used: int | None
    systems: int


def list_accounts(
    transaction: Transaction, after: str, limit: int
) -> list[AccountSummary]:
    """Return accounts by name.

    :param after: only those whose name comes later.
    """
    rows = transaction.all(
        "SELECT id, name, disabled, totp_sealed, created,"
        " (SELECT MAX(used) FROM sessions WHERE account = accounts.id),"
        " (SELECT COUNT(*) FROM roles WHERE account = accounts.id AND role = 3)"
        " FROM accounts WHERE name > ? ORDER BY name LIMIT ?",
        after,
        limit,
    )
    return [
        AccountSummary(
            uuid.UUID(i), name, bool(disabled), totp is not None, created, used, owned
        )
        for i, name, disabled, totp, created, used, owned in rows
    ]


def _find(transaction: Transaction, name: str) -> Credentials:
    found = find_credentials(transaction, name)
    if found is None:
        raise account_unknown(name)
    return found


def _sign_out(transaction: Transaction, account: uuid.UUID) -> None:
    """End all sessions of an account, and let nothing count that was granted to it."""
    transaction.execute("DELETE FROM sessions WHERE account = ?", str(account))
    revoke_everywhere(transaction, account)


def set_disabled(transaction: Transaction, name: str, disabled: bool) -> None:
    """Lock an account, which ends its sessions and grants, or unlock it.

    What the account owns stays as it is.

    :raises Refused: 404, if there is no such account.
    """
    found = _find(transaction, name)
    if found.disabled == disabled:
        return
    transaction.execute(
        "UPDATE accounts SET disabled = ? WHERE id = ?",
        int(disabled),
        str(found.account),
    )
    if disabled:
        _sign_out(transaction, found.account)
    action = "account.disabled" if disabled else "account.enabled"
    record(transaction, action, account=found.account, who=OPERATOR)


def reset_password(transaction: Transaction, name: str, new_hash: str) -> None:
    """Give an account another password, which ends its sessions and grants.

    :raises Refused: 404, if there is no such account.
    """
    found = _find(transaction, name)
    transaction.execute(
        "UPDATE accounts SET password_hash = ? WHERE id = ?",
        new_hash,
        str(found.account),
    )
    _sign_out(transaction, found.account)
    record(transaction, "password.reset", account=found.account, who=OPERATOR)


def remove_second_factor(transaction: Transaction, name: str) -> None:
    """Ask an account for no second factor any more: its device was lost.

    :raises Refused: 404, if there is no such account.
    """
    account = str(_find(transaction, name).account)
    transaction.execute(
        "UPDATE accounts SET totp_sealed = NULL, totp_pending = NULL WHERE id = ?",
        account,
    )
    transaction.execute("DELETE FROM recovery_codes WHERE account = ?", account)
    record(transaction, "totp.removed", account=uuid.UUID(account), who=OPERATOR)


def remove_account(transaction: Transaction, name: str) -> None:
    """Close an account and unbind all that it owns.

    :raises Refused: 404, if there is no such account.
    """
    found = _find(transaction, name)
    _sign_out(transaction, found.account)
    rows = transaction.all(
        "SELECT system FROM roles WHERE account = ? AND role = 3 ORDER BY system",
        str(found.account),
    )
    for (system,) in rows:
        transaction.execute("DELETE FROM systems WHERE id = ?", system)
        transaction.changes.append(SystemUnbound(uuid.UUID(system)))
        record(transaction, "system.unbound", who=OPERATOR, system=uuid.UUID(system))
    record(transaction, "account.closed", account=found.account, who=OPERATOR)
    transaction.execute("DELETE FROM accounts WHERE id = ?", str(found.account))
