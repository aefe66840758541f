"""How a server proves to a relay that a name is its own.

An HTTP authentication scheme (RFC 9110, 11)::

    401  WWW-Authenticate: DWCloud nonce="..."
         Authorization: DWCloud nonce="...", server="...", system="...", signature="..."
    101  DWCloud-Ticket: ...
         Authorization: DWCloud-Ticket ...

``server`` and ``system`` are certificates (DER), and everything is in base64. The
signature covers :func:`signed_text`. The nonce is for one proof of one server
(:mod:`~dwcloud.protocol.relaying.challenges`), the ticket opens further connections of
the same server without another round trip.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName

__all__ = [
    "SCHEME",
    "TICKET_HEADER",
    "TICKET_SCHEME",
    "Proof",
    "Signer",
    "Verifier",
    "authorization_scheme",
    "challenge_field",
    "make_proof",
    "nonce_of_challenge",
    "signed_text",
]

SCHEME = "DWCloud"
TICKET_SCHEME = "DWCloud-Ticket"
TICKET_HEADER = "dwcloud-ticket"

_CONTEXT = b"dwcloud relay 1"
_MAX_FIELD = 6000
_PARAMETER = re.compile(r'([a-z]+)="([A-Za-z0-9+/=]*)"')

Signer = Callable[[bytes], bytes]
"""Signs with the server's key."""

Verifier = Callable[[tuple[bytes, bytes], bytes, bytes], PeerName]
"""Returns whose certificates, signature and text these are.

Raises RemoteProtocolError(code=401) if they prove nothing.
"""


def signed_text(
    method: str, nonce: bytes, name: PeerName, channel_binding: bytes
) -> bytes:
    """Return what a server signs.

    Each part goes with its length, so that no two different sets of parts give the
    same text; the first keeps the signature from meaning anything elsewhere.

    :param method: the tunnelling method of the request.
    :param nonce: the relay's.
    :param channel_binding: the TLS exporter's value, empty without TLS.
    """
    parts = (
        _CONTEXT,
        method.encode("ascii"),
        nonce,
        str(name).encode("ascii"),
        channel_binding,
    )
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def authorization_scheme(field: str) -> str:
    """The scheme of an ``Authorization`` field, in lower case."""
    return field.partition(" ")[0].lower()


def _parameters(field: str, scheme: str) -> dict[str, bytes]:
    """Read ``scheme name="base64", ...``; RemoteProtocolError(401) if it is not."""
    found_scheme, _, rest = field.strip().partition(" ")
    if found_scheme.lower() != scheme.lower() or len(field) > _MAX_FIELD:
        raise RemoteProtocolError(f"the authentication is not of scheme {scheme}", 401)
    values = {}
    for parameter in rest.split(","):
        match = _PARAMETER.fullmatch(parameter.strip())
        try:
            if match is None:
                raise ValueError("not of the form name=value")
            values[match[1]] = base64.b64decode(match[2], validate=True)
        except (ValueError, binascii.Error) as e:
            raise RemoteProtocolError(
                f"the authentication is malformed: {e}", 401
            ) from e
    return values


def _field(scheme: str, **values: bytes) -> str:
    parameters = (
        f'{name}="{base64.b64encode(value).decode("ascii")}"'
        for name, value in values.items()
    )
    return f"{scheme} {', '.join(parameters)}"


def challenge_field(nonce: bytes) -> str:
    """Write the value of ``WWW-Authenticate``."""
    return _field(SCHEME, nonce=nonce)


def nonce_of_challenge(field: str) -> bytes:
    """Take the nonce out of ``WWW-Authenticate``.

    :raises RemoteProtocolError: if there is none.
    """
    nonce = _parameters(field, SCHEME).get("nonce", b"")
    if not nonce:
        raise RemoteProtocolError("the relay's challenge has no nonce", 401)
    return nonce


@attrs.frozen
class Proof:
    """What a server answers a challenge with."""

    nonce: bytes
    certificates: tuple[bytes, bytes]
    signature: bytes

    def encode(self) -> str:
        """Write the value of ``Authorization``."""
        server, system = self.certificates
        return _field(
            SCHEME,
            nonce=self.nonce,
            server=server,
            system=system,
            signature=self.signature,
        )

    @classmethod
    def decode(cls, field: str) -> Proof:
        """Read the value of ``Authorization``.

        :raises RemoteProtocolError: with 401 if it is not one of ours.
        """
        values = _parameters(field, SCHEME)
        try:
            return cls(
                values["nonce"],
                (values["server"], values["system"]),
                values["signature"],
            )
        except KeyError as e:
            raise RemoteProtocolError(f"the proof has no {e.args[0]}", 401) from e


def make_proof(
    challenge: str,
    *,
    method: str,
    name: PeerName,
    channel_binding: bytes,
    certificates: tuple[bytes, bytes],
    sign: Signer,
) -> Proof:
    """Answer the ``WWW-Authenticate`` of a relay.

    :raises RemoteProtocolError: if it is no challenge of ours.
    """
    nonce = nonce_of_challenge(challenge)
    signature = sign(signed_text(method, nonce, name, channel_binding))
    return Proof(nonce, certificates, signature)
