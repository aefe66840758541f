"""What is remembered of each cloud, so that nobody else can take its place later."""

from __future__ import annotations

import base64
import binascii
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from dwcloud.errors import CloudKeyChanged, ConfigurationError
from dwcloud.net.cloud_trust import WEB, Presented
from dwcloud.net.personal_files import FileLock, data_directory, read_json, write_json
from dwcloud.peer.mediator_address import MediatorAddress

__all__ = ["CloudTrust", "KnownCloud", "KnownClouds", "cloud_name", "decode_key"]

_VERSION = 1
_KEY_SIZE = 32


def cloud_name(mediator: MediatorAddress) -> str:
    """The one name of a cloud in files and messages: that of its mediator."""
    return str(mediator).lower()


def decode_key(text: object) -> bytes | None:
    """Read a key of 32 octets in Base64, None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _KEY_SIZE else None


@attrs.frozen
class KnownCloud:
    """What is known of a cloud.

    :ivar trust: the fingerprint of its certificate's key, or :data:`WEB` if the
        certificate authorities vouch for it.
    :ivar cloud_key: under which it signs grants; None while it has not told.
    """

    trust: str
    cloud_key: bytes | None = None


class KnownClouds:
    """The file of all clouds that this person has spoken with.

    :param file: by default ``known_clouds.json`` in the directory of this person.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file

    @cached_property
    def file(self) -> Path:
        """The file."""
        return self._file or data_directory() / "known_clouds.json"

    def get(self, cloud: str) -> KnownCloud | None:
        """What is known of a cloud, None if nothing is.

        :raises ConfigurationError: if the file is damaged.
        """
        return self._read().get(cloud)

    def set(self, cloud: str, known: KnownCloud) -> None:
        """Remember what is known of a cloud.

        :raises ConfigurationError: if the file is damaged or cannot be written.
        """
        with FileLock(self.file).held():
            clouds = self._read()
            if clouds.get(cloud) != known:
                clouds[cloud] = known
                self._write(clouds)

    def forget(self, cloud: str) -> None:
        """Know nothing of a cloud any more."""
        with FileLock(self.file).held():
            clouds = self._read()
            if clouds.pop(cloud, None) is not None:
                self._write(clouds)

    def _read(self) -> dict[str, KnownCloud]:
        value = read_json(self.file)
        if value is None:
            return {}
        try:
            if value["version"] != _VERSION:
                raise ConfigurationError(
                    f"{self.file} was written by another version of dwcloud "
                    f"({value['version']!r}, this one knows {_VERSION})"
                )
            return {name: _read_one(each) for name, each in value["clouds"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            if isinstance(e, ConfigurationError):
                raise
            raise ConfigurationError(
                f"{self.file} is damaged; remove it, and what it held is asked anew"
            ) from None

    def _write(self, clouds: dict[str, KnownCloud]) -> None:
        entries = {
            name: {
                "trust": each.trust,
                "cloud_key": each.cloud_key
                and base64.b64encode(each.cloud_key).decode("ascii"),
            }
            for name, each in sorted(clouds.items())
        }
        write_json(self.file, {"version": _VERSION, "clouds": entries})


def _read_one(value: Any) -> KnownCloud:
    trust, key = value["trust"], value["cloud_key"]
    if trust != WEB and not str(trust).startswith("SHA256:"):
        raise ValueError("no fingerprint")
    return KnownCloud(str(trust), None if key is None else _required(key))


def _required(text: object) -> bytes:
    key = decode_key(text)
    if key is None:
        raise ValueError("no key")
    return key


class CloudTrust:
    """Decides whether a cloud is who it was, and learns who it is at first.

    :param cloud: its name.
    :param expected: the fingerprint that it must have, told by who runs it.
    :ivar fresh: what was shown by a cloud of which nothing was known; it is
        remembered by :meth:`confirm`.
    """

    def __init__(
        self, clouds: KnownClouds, cloud: str, expected: str | None = None
    ) -> None:
        self._clouds = clouds
        self._cloud = cloud
        self._expected = expected
        self.fresh: Presented | None = None
        self._known: KnownCloud | None = None
        self._is_read = False

    @property
    def known(self) -> KnownCloud | None:
        """What is known of the cloud, None if nothing is.

        :raises ConfigurationError: if the file is damaged.
        """
        if not self._is_read:
            self._known = self._clouds.get(self._cloud)
            self._is_read = True
        return self._known

    @known.setter
    def known(self, known: KnownCloud) -> None:
        self._known, self._is_read = known, True

    def believe(self, presented: Presented) -> None:
        """Take what the cloud shows.

        :raises CloudKeyChanged: if it is another one than before, or than expected.
        """
        self.fresh = None
        shown = presented.fingerprint
        if self._expected is not None:
            if shown != self._expected:
                raise CloudKeyChanged(
                    f"{self._cloud} shows the key {shown}, not the expected "
                    f"{self._expected}; nothing was sent"
                )
            self.known = self._known_by(shown)
            self.fresh = presented
        elif self.known is None:
            self.fresh = presented
        elif presented.vouched:
            return
        elif self.known.trust == WEB:
            raise CloudKeyChanged(
                f"the certificate of {self._cloud} is not vouched for any more: "
                f"{presented.reason}. Somebody may be listening in; nothing was sent. "
                f"If you know that it has the key {shown} now, forget what it was: "
                f"dwcloud account forget {self._cloud}"
            )
        elif shown != self.known.trust:
            raise CloudKeyChanged(
                f"{self._cloud} shows the key {shown}, it was {self.known.trust} "
                "before. Somebody may be listening in; nothing was sent. If you know "
                "that it has a new key, forget the old one: dwcloud account forget "
                f"{self._cloud}"
            )

    def _known_by(self, trust: str) -> KnownCloud:
        return KnownCloud(trust, None if self.known is None else self.known.cloud_key)

    def confirm(self) -> None:
        """Remember what a new cloud has shown."""
        if self.fresh is not None:
            fresh, self.fresh = self.fresh, None
            pinned = not fresh.vouched or self._expected is not None
            trust = fresh.fingerprint if pinned else WEB
            known = self._known_by(trust)
            self._clouds.set(self._cloud, known)
            self.known = known

    def check_cloud_key(self, key: bytes) -> None:
        """Take the key under which the cloud signs grants.

        :raises CloudKeyChanged: if it was another one before.
        """
        assert self.known is not None
        if self.known.cloud_key == key:
            return
        if self.known.cloud_key is not None:
            raise CloudKeyChanged(
                f"{self._cloud} signs with another key than before: it was set up "
                "anew, or is not the same. If you know that it was set up anew, "
                f"forget the old one: dwcloud account forget {self._cloud}; servers "
                "are to be bound anew, too"
            )
        self.known = attrs.evolve(self.known, cloud_key=key)
        self._clouds.set(self._cloud, self.known)
