"""Names that people give to accounts and systems."""

from __future__ import annotations

import re

from dwcloud.accounts.refusals import Refused
from dwcloud.protocol.names import PeerName

__all__ = ["ACCOUNT_NAME", "SYSTEM_NAME", "account_name", "system_name"]

ACCOUNT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$"
"""Names of accounts; case does not matter."""

SYSTEM_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Names of systems; case does not matter."""

_CHARACTERS = (
    "letters a to z, digits, '.', '_' and '-', beginning with a letter or digit"
)


def account_name(text: str) -> str:
    """Return the name of an account as it is kept.

    :raises Refused: 400, if it cannot be one.
    """
    if not re.fullmatch(ACCOUNT_NAME[1:-1], text, re.ASCII):
        raise Refused(
            400,
            "invalid_name",
            f"An account's name has 2 to 63 characters: {_CHARACTERS}.",
        )
    return text.lower()


def system_name(text: str) -> str:
    """Return the name of a system as it is kept.

    :raises Refused: 400, if it cannot be one.
    """
    if not re.fullmatch(SYSTEM_NAME[1:-1], text, re.ASCII):
        raise Refused(
            400,
            "invalid_name",
            f"A system's name has 1 to 63 characters: {_CHARACTERS}.",
        )
    try:
        PeerName.parse(text)
    except ValueError:
        return text.lower()
    raise Refused(
        400,
        "invalid_name",
        "A system's name must not look like a GUID, which it is not.",
    )
