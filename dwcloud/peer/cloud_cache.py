"""What a cloud has told and is still good: names of systems, and grants.

So that connecting again costs no question, and works in a LAN without Internet.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
from twisted.logger import Logger

from dwcloud.errors import APIRefused, ConfigurationError
from dwcloud.net.personal_files import FileLock, data_directory, read_json, write_json
from dwcloud.peer.api_values import Fields, Grant, System

__all__ = ["CachedSystems", "CloudCache"]

_VERSION = 1
_EXPIRY_MARGIN = 60.0
"""Seconds before its end at which a grant is not used any more."""


@attrs.frozen
class CachedSystems:
    """A list of systems.

    :ivar at: when the cloud told it, in seconds since 1970.
    """

    at: float
    systems: tuple[System, ...]


class CloudCache:
    """What one session has been told by its cloud.

    :param cloud: the name of the cloud.
    :param client_key: the public key of the session; what others were told is of no
        use to it.
    :param file: by default ``cloud_cache.json`` in the directory of this person.
    """

    _log = Logger()

    def __init__(self, cloud: str, client_key: bytes, file: Path | None = None):
        self._cloud = cloud
        self._key = base64.b64encode(client_key).decode("ascii")
        self._file = file or data_directory() / "cloud_cache.json"

    def systems(self) -> CachedSystems | None:
        """The last list of systems, None without one."""
        value = self._own(self._read()).get("systems")
        if value is None:
            return None
        try:
            fields = Fields.of(value)
            systems = tuple(System.read(each) for each in fields.objects("list"))
            return CachedSystems(fields.number("at"), systems)
        except APIRefused as e:
            self._damaged(e)
            return None

    def grant(self, system: UUID, now: float) -> Grant | None:
        """A grant for a system that is still good, None without one."""
        value = self._own(self._read()).get("grants", {}).get(str(system))
        if value is None:
            return None
        try:
            grant = Grant.read(Fields.of(value))
        except APIRefused as e:
            self._damaged(e)
            return None
        return grant if grant.expires - now > _EXPIRY_MARGIN else None

    def keep_systems(self, systems: Sequence[System], now: float) -> None:
        """Keep a list of systems; grants for others are forgotten."""
        known = {str(system.id) for system in systems}

        def change(own: dict[str, Any]) -> None:
            entries = [system.as_dict() for system in systems]
            own["systems"] = {"at": now, "list": entries}
            grants = own.get("grants", {})
            own["grants"] = {k: v for k, v in grants.items() if k in known}

        self._change(change)

    def keep_grant(self, system: UUID, grant: Grant) -> None:
        """Keep a grant."""
        value = {
            "grant": base64.b64encode(grant.octets).decode("ascii"),
            "expires": grant.expires,
        }
        self._change(
            lambda own: own.setdefault("grants", {}).update({str(system): value})
        )

    def drop_grant(self, system: UUID) -> None:
        """Forget a grant that was refused."""
        self._change(lambda own: own.get("grants", {}).pop(str(system), None))

    def _change(self, change: Any) -> None:
        try:
            with FileLock(self._file).held():
                clouds = self._read()
                own = self._own(clouds)
                own["key"] = self._key
                change(own)
                clouds[self._cloud] = own
                write_json(self._file, {"version": _VERSION, "clouds": clouds})
        except ConfigurationError as e:
            # Everything works without it, only slower.
            self._log.warn("{reason}", reason=str(e))

    def _own(self, clouds: dict[str, Any]) -> dict[str, Any]:
        own = clouds.get(self._cloud)
        if not isinstance(own, dict) or own.get("key") != self._key:
            return {}
        if not isinstance(own.get("grants", {}), dict):
            return {}
        return own

    def _read(self) -> dict[str, Any]:
        try:
            value = read_json(self._file)
        except ConfigurationError as e:
            self._damaged(e)
            return {}
        if value is None or value.get("version") != _VERSION:
            return {}
        clouds = value.get("clouds")
        return clouds if isinstance(clouds, dict) else {}

    def _damaged(self, error: Exception) -> None:
        self._log.warn(
            "{file} is not used: {reason}", file=str(self._file), reason=str(error)
        )
