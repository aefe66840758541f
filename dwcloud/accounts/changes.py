"""What changes about who may connect where, as told to those who enforce it.

Times are milliseconds since 1970.
"""

from __future__ import annotations

import uuid

import attrs

from dwcloud.accounts.roles import Role

__all__ = [
    "AccessChange",
    "AccessSnapshot",
    "RoleGranted",
    "RoleRevoked",
    "SystemState",
    "SystemUnbound",
]


@attrs.frozen
class SystemState:
    """A system is bound to an account, or its settings are others now.

    :ivar public: whether everybody who knows its name may connect.
    :ivar web: whether a relay may open its web service to browsers.
    """

    system: uuid.UUID
    public: bool
    web: bool


@attrs.frozen
class SystemUnbound:
    """A system belongs to nobody any more; nobody may connect to it."""

    system: uuid.UUID


@attrs.frozen
class RoleGranted:
    """An account has a role on a system."""

    system: uuid.UUID
    account: uuid.UUID
    role: Role
    at: int


@attrs.frozen
class RoleRevoked:
    """What was granted to an account for a system until now counts no more.

    Its role was taken away or made smaller, the account was closed, or its password
    changed; in the last cases new grants may follow at once.
    """

    system: uuid.UUID
    account: uuid.UUID
    at: int


AccessChange = SystemState | SystemUnbound | RoleGranted | RoleRevoked


@attrs.frozen
class AccessSnapshot:
    """All that counts at one moment.

    :ivar systems: those that are bound.
    :ivar revocations: those of the time for which grants live.
    """

    systems: tuple[SystemState, ...]
    revocations: tuple[RoleRevoked, ...]
