"""The way of a browser to the portal and back.

See docs/protocol/relaying. Nothing is kept for a browser that has not entered: the
cookie carries a random text and the path to return to, and the portal is told only the
hash of the text, so that who sees an address of the portal cannot make the cookie.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from urllib.parse import parse_qsl, quote, urlencode

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.hosts import WebHost
from dwcloud.protocol.gateway.return_paths import return_path

__all__ = [
    "ENTER_PATH",
    "LEAVE_PATH",
    "PORTAL_PATH",
    "PendingLogin",
    "decode_token",
    "encode_token",
    "entry_address",
    "read_entry",
]

PORTAL_PATH = "/gateway"
"""Of the page at the portal that asks whether to enter."""

ENTER_PATH = "/.dwcloud/enter"
"""To where the portal sends the browser back, with state and grant."""

LEAVE_PATH = "/.dwcloud/leave"
"""Where a browser gives its session back."""

_STATE_BYTES = 32
_MAX_QUERY = 4096


def encode_token(data: bytes) -> str:
    """Return bytes for a URL or cookie (RFC 4648, 5), without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def decode_token(text: str) -> bytes:
    """Read what :func:`encode_token` wrote.

    :raises RemoteProtocolError: code 400, for anything else.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or encode_token(data) != text:
        raise RemoteProtocolError("that is not base64 for URLs", 400)
    return data


@attrs.frozen
class PendingLogin:
    """A browser that was sent to the portal.

    :ivar secret: 32 random bytes that only its cookie has.
    :ivar path: where it wanted to go.
    """

    secret: bytes = attrs.field(repr=False)
    path: str

    @property
    def state(self) -> str:
        """What the portal is told and tells back."""
        return encode_token(hashlib.sha256(b"dwcloud web 1\0" + self.secret).digest())

    @property
    def cookie(self) -> str:
        """The value of the cookie."""
        return f"{encode_token(self.secret)}.{encode_token(self.path.encode())}"

    @classmethod
    def from_cookie(cls, value: str) -> PendingLogin:
        """Read the value of the cookie.

        :raises RemoteProtocolError: code 400, if it is none.
        """
        secret, _, path = value.partition(".")
        login = cls(
            decode_token(secret),
            return_path(decode_token(path).decode("utf-8", "replace")),
        )
        if len(login.secret) != _STATE_BYTES:
            raise RemoteProtocolError("no sign-in was begun here", 400)
        return login

    def matches(self, state: str) -> bool:
        """Tell whether the portal answers to this one."""
        return hmac.compare_digest(state.encode("utf-8"), self.state.encode("ascii"))

    def portal_address(self, portal: str, host: WebHost, key: bytes) -> str:
        """Return where the browser is sent.

        :param portal: its URL, without the path.
        :param key: the gateway's public key, to which the grant is to be bound.
        """
        query = urlencode(
            {"host": host.authority, "key": encode_token(key), "state": self.state},
            quote_via=quote,
        )
        return f"{portal.rstrip('/')}{PORTAL_PATH}?{query}"


def entry_address(host: WebHost, state: str, grant: bytes) -> str:
    """Return where the portal sends the browser with a grant."""
    query = urlencode({"state": state, "grant": encode_token(grant)}, quote_via=quote)
    return f"{host.origin}{ENTER_PATH}?{query}"


def read_entry(query: str) -> tuple[str, bytes]:
    """Read what the portal sends: state and grant.

    :raises RemoteProtocolError: code 400, if it is not that.
    """
    if len(query) > _MAX_QUERY:
        raise RemoteProtocolError("the address is too long", 400)
    try:
        pairs = parse_qsl(query, strict_parsing=True, max_num_fields=4)
    except ValueError:
        pairs = []
    values = dict(pairs)
    if len(values) != len(pairs) or not {"state", "grant"} <= set(values):
        raise RemoteProtocolError("the address is not one that the portal makes", 400)
    return values["state"], decode_token(values["grant"])
