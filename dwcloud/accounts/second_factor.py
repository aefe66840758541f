"""Time-based one-time passwords (:rfc:`6238`) and codes for when the device is lost."""

from __future__ import annotations

import secrets

import pyotp

from dwcloud.accounts.sealing import Seal
from dwcloud.accounts.tokens import RandomBytes, hash_secret, new_code, normal_code
from dwcloud.accounts.transactions import Transaction

__all__ = [
    "RECOVERY_CODES",
    "check_second_factor",
    "matching_step",
    "new_recovery_codes",
    "new_secret",
    "provisioning_uri",
]

RECOVERY_CODES = 10
_INTERVAL = 30
_TOLERATED_STEPS = 1
"""Steps that the device's clock may be wrong, or the person slow."""


def new_secret() -> str:
    """Make the secret of a device: 160 bits in base32."""
    secret: str = pyotp.random_base32()
    return secret


def provisioning_uri(secret: str, account: str, issuer: str = "dwcloud") -> str:
    """Return what authenticator programs read from a QR code."""
    uri: str = pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)
    return uri


def matching_step(secret: str, code: str, now: int, last_step: int) -> int | None:
    """Return the time step whose code this is, None if it is none that counts.

    :param now: milliseconds since 1970.
    :param last_step: the step of the code used last; it and older ones do not count, so
        that a code that somebody saw is of no use to him.
    """
    digits = "".join(code.split())
    if len(digits) != 6 or not (digits.isascii() and digits.isdigit()):
        return None
    current = now // 1000 // _INTERVAL
    totp = pyotp.TOTP(secret, interval=_INTERVAL)
    matching = [
        step
        for step in range(current - _TOLERATED_STEPS, current + _TOLERATED_STEPS + 1)
        if step > last_step and secrets.compare_digest(totp.generate_otp(step), digits)
    ]
    return matching[-1] if matching else None


def new_recovery_codes(
    transaction: Transaction,
    account: str,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> list[str]:
    """Make an account's recovery codes; those it had count no more."""
    transaction.execute("DELETE FROM recovery_codes WHERE account = ?", account)
    codes = [new_code(10, random_bytes) for _ in range(RECOVERY_CODES)]
    for code in codes:
        transaction.execute(
            "INSERT INTO recovery_codes VALUES (?, ?)", hash_secret(code), account
        )
    return codes


def check_second_factor(
    transaction: Transaction, seal: Seal, account: str, code: str
) -> bool:
    """Tell whether a code is right, and see to it that it is not right again.

    :param account: one that has a second factor.
    """
    row = transaction.one(
        "SELECT totp_sealed, totp_step FROM accounts WHERE id = ?", account
    )
    if row is None or row[0] is None:
        return False
    secret = seal.open(row[0], account).decode("ascii")
    step = matching_step(secret, code, transaction.now, row[1])
    if step is not None:
        transaction.execute(
            "UPDATE accounts SET totp_step = ? WHERE id = ?", step, account
        )
        return True
    return bool(
        transaction.execute(
            "DELETE FROM recovery_codes WHERE account = ? AND hash = ?",
            account,
            hash_secret(normal_code(code)),
        )
    )
