"""What this person is signed in to, and the secrets that prove it."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import attrs

from dwcloud.errors import ConfigurationError
from dwcloud.net.personal_files import FileLock, data_directory, read_json, write_json
from dwcloud.protocol.names import parse_guid

__all__ = [
    "CredentialStore",
    "Credentials",
    "SecretPlace",
    "SignedIn",
    "platform_keyring",
]

_VERSION = 1
_SERVICE = "dwcloud"
_KEYRING = "keyring"
_LEAST_PRIORITY = 1
"""Of keyring's backends, those that it recommends have more."""


@attrs.frozen
class Credentials:
    """The session of an account at a cloud.

    :ivar account: its name.
    :ivar expires: when the access token does, in seconds since 1970.
    :ivar client_key: the Ed25519 private key of this session (RFC 8032, 5.1.5), whose
        public half is in each grant.
    """

    account: str
    account_id: uuid.UUID
    access_token: str = attrs.field(repr=False)
    expires: float
    refresh_token: str = attrs.field(repr=False)
    client_key: bytes = attrs.field(repr=False)

    def secret(self) -> dict[str, Any]:
        """What nobody else may know, as plain values."""
        return {
            "access_token": self.access_token,
            "expires": self.expires,
            "refresh_token": self.refresh_token,
            "client_key": base64.b64encode(self.client_key).decode("ascii"),
        }


@attrs.frozen
class SignedIn:
    """What is known without a secret.

    :ivar account: its name.
    :ivar system: the system in use, None while none is.
    :ivar place: where the secrets are: ``keyring`` or ``file``.
    """

    account: str
    account_id: uuid.UUID
    system: uuid.UUID | None
    place: str


class SecretPlace(Protocol):
    """Keeps one text for each cloud."""

    def get(self, cloud: str) -> str | None:
        """Return the text, None if there is none.

        :raises ConfigurationError: if the place cannot be read.
        """

    def set(self, cloud: str, text: str) -> bool:
        """Keep a text; False if that is not possible."""

    def delete(self, cloud: str) -> None:
        """Keep nothing for a cloud any more."""


class _Keyring:
    """The keyring of the platform, by the package of that name."""

    def __init__(self, backend: Any, error: type[Exception]) -> None:
        self._backend = backend
        self._error = error

    def get(self, cloud: str) -> str | None:
        try:
            text: str | None = self._backend.get_password(_SERVICE, cloud)
        except self._error as e:
            raise ConfigurationError(
                f"the keyring cannot be read: {e}; unlock it, or sign in again"
            ) from e
        return text

    def set(self, cloud: str, text: str) -> bool:
        try:
            self._backend.set_password(_SERVICE, cloud, text)
        except self._error:
            return False
        return True

    def delete(self, cloud: str) -> None:
        # What is gone already, or cannot be reached, is worth nothing anyway once the
        # session is ended.
        try:
            self._backend.delete_password(_SERVICE, cloud)
        except self._error:
            return


def platform_keyring() -> SecretPlace | None:
    """The keyring of this platform, None if there is none that is fit for use."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    backend = keyring.get_keyring()
    if backend.priority < _LEAST_PRIORITY:
        return None
    return _Keyring(backend, KeyringError)


class CredentialStore:
    """All sessions of this person, one for each cloud.

    A file of mode 0600 has everything but the secrets; those, too, where the platform
    has no keyring.

    :param file: by default ``credentials.json`` in the directory of this person.
    :param keyring: keeps the secrets; None for the file.
    """

    def __init__(self, file: Path | None = None, keyring: SecretPlace | None = None):
        self._file = file
        self._find_keyring: Callable[[], SecretPlace | None] = lambda: keyring

    @classmethod
    def default(cls) -> CredentialStore:
        """That of this person, with the keyring of the platform."""
        store = cls()
        store._find_keyring = platform_keyring
        return store

    @cached_property
    def file(self) -> Path:
        """The file."""
        return self._file or data_directory() / "credentials.json"

    @cached_property
    def _keyring(self) -> SecretPlace | None:
        # Looking for one takes time, and not every command needs it.
        return self._find_keyring()

    # All methods raise ConfigurationError if the file is damaged or not to be had.

    @property
    def current(self) -> str | None:
        """The cloud that is meant where none is named."""
        current = self._read()["current"]
        return None if current is None else str(current)

    def clouds(self) -> dict[str, SignedIn]:
        """All clouds that this person is signed in to."""
        return {
            name: self._described(entry)
            for name, entry in self._read()["clouds"].items()
        }

    def signed_in(self, cloud: str) -> SignedIn | None:
        """Who is signed in to a cloud."""
        return self.clouds().get(cloud)

    def load(self, cloud: str) -> Credentials | None:
        """The session at a cloud, None without one."""
        entry = self._read()["clouds"].get(cloud)
        if entry is None:
            return None
        secret = entry["secret"]
        if secret == _KEYRING:
            secret = self._from_keyring(cloud)
            if secret is None:
                return None
        who = self._described(entry)
        try:
            key = base64.b64decode(secret["client_key"], validate=True)
            if len(key) != 32:
                raise ValueError("no key")
            return Credentials(
                who.account,
                who.account_id,
                str(secret["access_token"]),
                float(secret["expires"]),
                str(secret["refresh_token"]),
                key,
            )
        except (KeyError, TypeError, ValueError):
            raise self._damaged() from None

    def save(self, cloud: str, credentials: Credentials) -> SignedIn:
        """Keep a session; the first one is that of the current cloud.

        The system in use stays as long as the account does.
        """
        secret: Any = credentials.secret()
        if self._keyring is not None and self._keyring.set(cloud, json.dumps(secret)):
            secret = _KEYRING
        with FileLock(self.file).held():
            value = self._read()
            before = value["clouds"].get(cloud, {})
            same = before.get("account_id") == str(credentials.account_id)
            entry = {
                "account": credentials.account,
                "account_id": str(credentials.account_id),
                "system": before.get("system") if same else None,
                "secret": secret,
            }
            value["clouds"][cloud] = entry
            value["current"] = value["current"] or cloud
            write_json(self.file, value)
        return self._described(entry)

    def remove(self, cloud: str) -> None:
        """Keep nothing of a session any more."""
        with FileLock(self.file).held():
            value = self._read()
            entry = value["clouds"].pop(cloud, None)
            if entry is None:
                return
            if value["current"] == cloud:
                value["current"] = next(iter(sorted(value["clouds"])), None)
            write_json(self.file, value)
        if entry["secret"] == _KEYRING and self._keyring is not None:
            self._keyring.delete(cloud)

    def use(self, cloud: str) -> None:
        """Mean this cloud where none is named.

        :raises ConfigurationError: also if nobody is signed in there.
        """
        self._change(cloud, lambda value, _: value.update(current=cloud))

    def use_system(self, cloud: str, system: uuid.UUID | None) -> None:
        """Mean this system where none is named.

        :raises ConfigurationError: also if nobody is signed in to the cloud.
        """
        text = None if system is None else str(system)
        self._change(cloud, lambda _, entry: entry.update(system=text))

    def _change(self, cloud: str, change: Any) -> None:
        with FileLock(self.file).held():
            value = self._read()
            entry = value["clouds"].get(cloud)
            if entry is None:
                names = ", ".join(sorted(value["clouds"])) or "none"
                raise ConfigurationError(
                    f"nobody is signed in to {cloud} here; signed in to: {names}"
                )
            change(value, entry)
            write_json(self.file, value)

    def _from_keyring(self, cloud: str) -> Any:
        if self._keyring is None:
            raise ConfigurationError(
                f"the session at {cloud} is kept in the keyring, which is not there "
                "now; install the package keyring, or sign in again: dwcloud account "
                f"login --mediator {cloud}"
            )
        text = self._keyring.get(cloud)
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            raise ConfigurationError(
                f"what the keyring holds for {cloud} is damaged; sign in again: "
                f"dwcloud account login --mediator {cloud}"
            ) from None

    def _read(self) -> dict[str, Any]:
        value = read_json(self.file)
        if value is None:
            return {"version": _VERSION, "current": None, "clouds": {}}
        if value.get("version") != _VERSION:
            raise ConfigurationError(
                f"{self.file} was written by another version of dwcloud "
                f"({value.get('version')!r}, this one knows {_VERSION})"
            )
        clouds = value.get("clouds")
        if not isinstance(clouds, dict) or "current" not in value:
            raise self._damaged()
        for entry in clouds.values():
            self._described(entry)
        return value

    def _described(self, entry: Any) -> SignedIn:
        try:
            system = entry["system"]
            return SignedIn(
                str(entry["account"]),
                uuid.UUID(entry["account_id"]),
                None if system is None else parse_guid(system),
                _KEYRING if entry["secret"] == _KEYRING else "file",
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._damaged() from None

    def _damaged(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.file} is damaged; remove it and sign in again: dwcloud account "
            "login --mediator HOST"
        )
