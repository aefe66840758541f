"""Grants: what the cloud signs so that a server or relay knows who may come.

See docs/protocol/grants.rst.
"""

from dwcloud.protocol.grants.access import (
    NOBODY,
    AccessGrant,
    GrantKind,
    Role,
    grant_kind,
)
from dwcloud.protocol.grants.possession import ClientGrant, possession_text
from dwcloud.protocol.grants.relay import RelayGrant
from dwcloud.protocol.grants.revocations import (
    AccessState,
    Revocation,
    Revocations,
)
from dwcloud.protocol.grants.signatures import (
    CLOCK_TOLERANCE,
    Signer,
    Verifier,
)

__all__ = [
    "CLOCK_TOLERANCE",
    "NOBODY",
    "AccessGrant",
    "AccessState",
    "ClientGrant",
    "GrantKind",
    "RelayGrant",
    "Revocation",
    "Revocations",
    "Role",
    "Signer",
    "Verifier",
    "grant_kind",
    "possession_text",
]
