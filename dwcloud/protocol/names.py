"""Names of systems and servers: GUIDs made from their public keys.

A system's GUID is a version 8 UUID (RFC 9562, 5.8) taken from the SHA-256 of the
public key of its certificate authority; a server's GUID likewise from its own key.
Whoever knows the GUID can therefore verify the far end with nothing else.
"""

from __future__ import annotations

import hashlib
import uuid

import attrs

__all__ = ["DNS_SUFFIX", "PeerName", "guid_from_public_key", "parse_guid"]

DNS_SUFFIX = "dwcloud.internal"
"""The domain under which certificates name servers: ``server.system.<suffix>``."""


def guid_from_public_key(subject_public_key_info: bytes) -> uuid.UUID:
    """Return the GUID of the holder of a key.

    :param subject_public_key_info: the public key as DER (RFC 5280, 4.1.2.7).
    """
    digest = bytearray(hashlib.sha256(subject_public_key_info).digest()[:16])
    digest[6] = 0x80 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    return uuid.UUID(bytes=bytes(digest))


def parse_guid(text: str) -> uuid.UUID:
    """Read a GUID in its 36-character form, in either case.

    :raises ValueError: if the text has another form.
    """
    try:
        guid = uuid.UUID(text)
    except ValueError:
        guid = None
    if guid is None or str(guid) != text.lower():
        raise ValueError(
            f"{text!r} is not a GUID: expected 36 characters such as "
            "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"
        )
    return guid


@attrs.frozen
class PeerName:
    """The name of a server, ``server.system``, or of any server of a system.

    :ivar system: GUID of the system.
    :ivar server: GUID of the server; None means any online server of the system.
    """

    system: uuid.UUID
    server: uuid.UUID | None = None

    @classmethod
    def parse(cls, text: str) -> PeerName:
        """Read ``server.system`` or ``system``, in either case.

        :raises ValueError: if the text is neither.
        """
        parts = text.split(".")
        if len(parts) > 2:
            raise ValueError(
                f"{text!r} is not a peer name: expected SYSTEM or SERVER.SYSTEM, "
                "each a GUID"
            )
        guids = [parse_guid(part) for part in parts]
        return cls(guids[-1], guids[0] if len(guids) == 2 else None)

    def __str__(self) -> str:
        if self.server is None:
            return str(self.system)
        return f"{self.server}.{self.system}"

    @property
    def dns_name(self) -> str:
        """The name in certificates, below :data:`DNS_SUFFIX`."""
        return f"{self}.{DNS_SUFFIX}"

    def includes(self, other: PeerName) -> bool:
        """Tell whether ``other`` is this server, or one of this system's."""
        if self.server is None:
            return self.system == other.system
        return self == other
