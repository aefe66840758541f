"""Systems by the names that people give them, in place of GUIDs.

``garage`` is a system on which one has a role, ``anna/garage`` the one that belongs to
anna, ``4f1c.garage`` its server whose GUID begins so, and ``.`` the system in use.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from dwcloud.errors import SystemUnknown
from dwcloud.protocol.names import PeerName

if TYPE_CHECKING:
    from dwcloud.peer.api_values import System

__all__ = ["IN_USE", "SystemReference", "read_reference"]

_FORM = re.compile(
    r"(?:(?P<owner>[a-z0-9][a-z0-9._-]{1,62})/)?(?P<name>[a-z0-9][a-z0-9._-]*)"
)
_SERVER = re.compile(r"(?P<server>[0-9a-f][0-9a-f-]{3,35})\.(?P<name>.+)")
_MOST = 120
_LIKE_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-|[0-9a-f-]{36}\b")


@attrs.frozen
class SystemReference:
    """A system, or a server of one, as a person calls it.

    :ivar owner: the account that it belongs to; empty for any.
    :ivar name: the name; empty for the system in use.
    """

    owner: str
    name: str

    @classmethod
    def parse(cls, text: str) -> SystemReference:
        """Read a name.

        :raises ValueError: if it cannot be one; the message says what would be right.
        """
        if text == ".":
            return IN_USE
        match = _FORM.fullmatch(text.lower())
        if match is None or len(text) > _MOST:
            raise ValueError(
                f"{text[:_MOST]!r} is neither a GUID nor the name of a system: "
                "expected a name such as garage or anna/garage"
            )
        return cls(match["owner"] or "", match["name"])

    def __str__(self) -> str:
        if not self.name:
            return "."
        return f"{self.owner}/{self.name}" if self.owner else self.name

    def find(self, systems: Sequence[System]) -> PeerName:
        """Return which one is meant.

        :param systems: those on which the account has a role.
        :raises SystemUnknown: if it is none of them, or may be several.
        """
        if system := self.find_system(systems):
            return system.peer
        if match := _SERVER.fullmatch(self.name):
            inner = SystemReference(self.owner, match["name"])
            if system := inner.find_system(systems):
                return _server_of(system, match["server"], str(self))
        raise self._unknown(systems)

    def require_system(self, systems: Sequence[System]) -> System:
        """Return the system that is meant.

        :raises SystemUnknown: if it is none of them, or may be several.
        """
        system = self.find_system(systems)
        if system is None:
            raise self._unknown(systems)
        return system

    def find_system(self, systems: Sequence[System]) -> System | None:
        """Return the system that is meant, None if it is none of them.

        :raises SystemUnknown: if it may be several.
        """
        found = [
            system
            for system in systems
            if system.name.lower() == self.name
            and self.owner in ("", system.owner.lower())
        ]
        if len(found) > 1:
            names = ", ".join(sorted(f"{s.owner}/{s.name}" for s in found))
            raise SystemUnknown(f"{self} may be any of {names}: say which")
        return found[0] if found else None

    def _unknown(self, systems: Sequence[System]) -> SystemUnknown:
        names = ", ".join(sorted(f"{s.owner}/{s.name}" for s in systems)) or "none"
        return SystemUnknown(
            f"you have no system {self}; those that you may use: {names}"
        )


IN_USE = SystemReference("", "")
"""The system that ``dwcloud system use`` has chosen."""


def _server_of(system: System, beginning: str, text: str) -> PeerName:
    found = [s.id for s in system.servers if str(s.id).startswith(beginning)]
    if len(found) == 1:
        return PeerName(system.id, found[0])
    what = "more than one server" if found else "no server"
    servers = ", ".join(str(each.id) for each in system.servers) or "none"
    raise SystemUnknown(
        f"{text} means {what} of {system.owner}/{system.name}; it has {servers}"
    )


def read_reference(text: str) -> PeerName | SystemReference:
    """Read a GUID, or the name of a system.

    :raises ValueError: if it is neither.
    """
    if _LIKE_GUID.match(text.lower()):
        try:
            return PeerName.parse(text)
        except ValueError:
            # The beginning of a server's GUID may stand before the name of a system.
            if text.count(".") == 0 or text.count("-") > 7:
                raise
    return SystemReference.parse(text)
