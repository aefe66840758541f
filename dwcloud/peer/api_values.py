"""Values that the HTTP API of a cloud answers with, and how they are read."""

from __future__ import annotations

import base64
import binascii
import datetime
from typing import Any
from uuid import UUID

import attrs

from dwcloud.errors import APIRefused
from dwcloud.protocol.names import PeerName

__all__ = [
    "Account",
    "CloudDescription",
    "Fields",
    "Grant",
    "Invitation",
    "Member",
    "OpenInvitation",
    "ServerState",
    "System",
    "Token",
    "Tokens",
]


class Fields:
    """The members of an object in JSON.

    Each method raises :class:`~dwcloud.errors.APIRefused` if a member is missing or of
    another kind.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    @classmethod
    def of(cls, value: Any) -> Fields:
        """Read what has to be an object."""
        if not isinstance(value, dict):
            raise _malformed("an object was expected")
        return cls(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def present(self, name: str) -> bool:
        """Whether there is a member other than null."""
        return self._values.get(name) is not None

    def text(self, name: str) -> str:
        """A text of printable characters: it may be shown on a terminal."""
        text = str(self._typed(name, str))
        if not text.isprintable():
            raise _malformed(f"{name!r} has characters that cannot be shown")
        return text

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts of printable characters."""
        values: list[Any] = self._typed(name, list)
        if not all(isinstance(each, str) and each.isprintable() for each in values):
            raise _malformed(f"{name!r} is not a list of texts")
        return tuple(values)

    def yes(self, name: str) -> bool:
        """A truth value, False if it is missing."""
        return name in self._values and bool(self._typed(name, bool))

    def number(self, name: str) -> float:
        """A number."""
        value = self._typed(name, int, float)
        return float(value)

    def time(self, name: str) -> float:
        """A moment in seconds since 1970, given so or as in RFC 3339."""
        value = self._values.get(name)
        if isinstance(value, str):
            try:
                return datetime.datetime.fromisoformat(value).timestamp()
            except (ValueError, OverflowError):
                raise _malformed(f"{name!r} is not a time") from None
        return self.number(name)

    def guid(self, name: str) -> UUID:
        """A UUID."""
        try:
            return UUID(self.text(name))
        except ValueError:
            raise _malformed(f"{name!r} is not a UUID") from None

    def octets(self, name: str) -> bytes:
        """Octets in Base64."""
        try:
            return base64.b64decode(self.text(name), validate=True)
        except (binascii.Error, ValueError):
            raise _malformed(f"{name!r} is not Base64") from None

    def object(self, name: str) -> Fields:
        """An object."""
        return Fields(self._typed(name, dict))

    def objects(self, name: str) -> tuple[Fields, ...]:
        """A list of objects."""
        return tuple(Fields.of(each) for each in self._typed(name, list))

    def _typed(self, name: str, *kinds: type) -> Any:
        value = self._values.get(name)
        if not isinstance(value, kinds) or (
            isinstance(value, bool) and bool not in kinds
        ):
            wanted = "missing" if value is None else "of another kind"
            raise _malformed(f"{name!r} is {wanted}")
        return value


def _malformed(why: str) -> APIRefused:
    return APIRefused(
        f"the answer is not that of a dwcloud mediator: {why}; it may be of another "
        "version",
        200,
        "malformed",
    )


@attrs.frozen
class CloudDescription:
    """What a cloud says of itself to anybody.

    :ivar cloud_key: under which it signs grants, 32 octets.
    :ivar registration: ``open``, ``invited`` or ``closed``.
    """

    version: str
    cloud_key: bytes
    registration: str

    @classmethod
    def read(cls, fields: Fields) -> CloudDescription:
        """Read it."""
        key = fields.octets("cloud_key")
        if len(key) != 32:
            raise _malformed("'cloud_key' has not 32 octets")
        return cls(fields.text("version"), key, fields.text("registration"))


@attrs.frozen
class Account:
    """An account."""

    id: UUID
    name: str

    @classmethod
    def read(cls, fields: Fields) -> Account:
        """Read it."""
        return cls(fields.guid("id"), fields.text("name"))


@attrs.frozen
class Tokens:
    """What a session is gone on with.

    :ivar expires_in: seconds that the access token is good for.
    """

    access_token: str = attrs.field(repr=False)
    expires_in: float
    refresh_token: str = attrs.field(repr=False)
    account: Account

    @classmethod
    def read(cls, fields: Fields) -> Tokens:
        """Read them."""
        tokens = [fields.text(name) for name in ("access_token", "refresh_token")]
        if not all(token.isascii() for token in tokens):
            raise _malformed("a token has characters that no token has")
        return cls(
            tokens[0],
            fields.number("expires_in"),
            tokens[1],
            Account.read(fields.object("account")),
        )


@attrs.frozen
class ServerState:
    """A server of a system."""

    id: UUID
    online: bool

    @classmethod
    def read(cls, fields: Fields) -> ServerState:
        """Read it."""
        return cls(fields.guid("id"), fields.yes("online"))


@attrs.frozen
class System:
    """A system on which the account has a role.

    :ivar owner: the name of the account that has it.
    :ivar role: of the account that asks: owner, administrator or viewer.
    :ivar public: whether anybody may connect.
    :ivar web: whether browsers may, through the relay.
    :ivar state: ``online``, ``offline``, or empty where that was not told.
    """

    id: UUID
    name: str
    owner: str
    role: str
    public: bool = False
    web: bool = False
    state: str = ""
    servers: tuple[ServerState, ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> System:
        """Read it."""
        return cls(
            fields.guid("id"),
            fields.text("name"),
            fields.text("owner"),
            fields.text("role"),
            fields.yes("public"),
            fields.yes("web"),
            fields.text("state") if "state" in fields else "",
            tuple(ServerState.read(each) for each in fields.objects("servers"))
            if "servers" in fields
            else (),
        )

    @property
    def peer(self) -> PeerName:
        """The name that proves itself."""
        return PeerName(self.id)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "id": str(self.id),
            "name": self.name,
            "owner": self.owner,
            "role": self.role,
            "public": self.public,
            "web": self.web,
            "state": self.state,
            "servers": [
                {"id": str(each.id), "online": each.online} for each in self.servers
            ],
        }


@attrs.frozen
class Member:
    """An account with a role on a system."""

    account: str
    role: str

    @classmethod
    def read(cls, fields: Fields) -> Member:
        """Read it."""
        return cls(fields.text("account"), fields.text("role"))


@attrs.frozen
class Invitation:
    """A code that gives a role to whoever brings it first.

    :ivar expires: in seconds since 1970.
    """

    code: str
    expires: float

    @classmethod
    def read(cls, fields: Fields) -> Invitation:
        """Read it."""
        return cls(fields.text("code"), fields.time("expires"))


@attrs.frozen
class OpenInvitation:
    """An invitation that nobody has accepted yet, without its code.

    :ivar inviter: account that made it.
    :ivar expires: in seconds since 1970.
    """

    id: str
    role: str
    inviter: str
    expires: float

    @classmethod
    def read(cls, fields: Fields) -> OpenInvitation:
        """Read it."""
        return cls(
            fields.text("id"),
            fields.text("role"),
            fields.text("inviter"),
            fields.time("expires"),
        )


@attrs.frozen
class Token:
    """A token for one system, without its secret.

    :ivar role: the most that may be done with it.
    :ivar used: when it was used last, None if never; like ``expires`` in seconds since
        1970.
    """

    id: UUID
    label: str
    role: str
    used: float | None
    expires: float

    @classmethod
    def read(cls, fields: Fields) -> Token:
        """Read it."""
        return cls(
            fields.guid("id"),
            fields.text("label"),
            fields.text("role"),
            fields.time("used") if fields.present("used") else None,
            fields.time("expires"),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "id": str(self.id),
            "label": self.label,
            "role": self.role,
            "used": self.used,
            "expires": self.expires,
        }


@attrs.frozen
class Grant:
    """The proof that an account may connect.

    :ivar octets: as :mod:`dwcloud.protocol.grants` knows it.
    :ivar expires: in seconds since 1970.
    """

    octets: bytes
    expires: float

    @classmethod
    def read(cls, fields: Fields) -> Grant:
        """Read it."""
        return cls(fields.octets("grant"), fields.time("expires"))
