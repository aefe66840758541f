"""Roles on a system, and who may do what to whom."""

from __future__ import annotations

from dwcloud.accounts.refusals import Refused, forbidden
from dwcloud.protocol.grants import Role

__all__ = ["ROLES", "Role", "check_at_least", "check_role_change"]


ROLES = (Role.VIEWER, Role.ADMINISTRATOR, Role.OWNER)
"""Those that somebody may have."""


def check_at_least(role: Role, needed: Role, what: str) -> None:
    """Make sure that a role reaches.

    :param what: what it is needed for: ``"rename a system"``.
    :raises Refused: 403, if it does not.
    """
    if role < needed:
        who = "its owner" if needed is Role.OWNER else f"an {needed.label} or its owner"
        raise forbidden(f"You are {role.label} of this system; only {who} may {what}.")


def check_role_change(
    acting: Role, before: Role | None, after: Role | None, *, oneself: bool
) -> None:
    """Make sure that somebody may change somebody's role on a system.

    Making another one the owner is a transfer: the one who acts, who must be the
    owner, becomes an administrator.

    :param acting: the role of the one who changes.
    :param before: the other's role until now, None without one.
    :param after: the other's role from now on, None to remove it.
    :param oneself: whether both are the same account.
    :raises Refused: 403 or 409, if not.
    """
    if before is Role.OWNER:
        if after is Role.OWNER:
            return
        if oneself:
            raise Refused(
                409,
                "owner_must_transfer",
                "A system always has an owner: make somebody else the owner first, "
                "or unbind the system.",
            )
        raise forbidden("Nobody can change the role of a system's owner.")
    if oneself and (after is None or after <= acting):
        return  # Everybody may leave, or have less.
    if acting is Role.OWNER:
        return
    if acting is Role.VIEWER:
        raise forbidden("A viewer cannot share a system; ask its administrators.")
    if Role.ADMINISTRATOR in (before, after) or after is Role.OWNER:
        raise forbidden("Only the owner of a system can change its administrators.")
