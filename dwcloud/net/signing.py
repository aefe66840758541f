"""Ed25519 keys (RFC 8032): the cloud's, which signs grants, and those of clients."""

from __future__ import annotations

import base64
import binascii
from functools import partial
from pathlib import Path

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from dwcloud.errors import ConfigurationError
from dwcloud.net.private_files import make_private_directory, replace_file
from dwcloud.protocol.grants.signatures import Verifier

__all__ = [
    "PUBLIC_KEY_BYTES",
    "SigningKey",
    "parse_public_key",
    "public_key_text",
    "read_public_key",
    "verifier",
    "verify",
]

PUBLIC_KEY_BYTES = 32


@attrs.frozen(eq=False)
class SigningKey:
    """A key that signs.

    :ivar public_key: its public part, 32 bytes.
    """

    _key: Ed25519PrivateKey = attrs.field(repr=False)
    public_key: bytes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        public = self._key.public_key().public_bytes_raw()
        object.__setattr__(self, "public_key", public)

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> SigningKey:
        """Make the key of 32 secret bytes.

        :raises ValueError: if there are more or fewer.
        """
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a key.

        :raises ConfigurationError: if the file cannot be read or holds none.
        """
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except OSError as e:
            raise ConfigurationError(f"cannot read {path}: {e.strerror}") from e
        except (ValueError, TypeError) as e:
            raise ConfigurationError(
                f"{path} is not an unencrypted private key in PEM form"
            ) from e
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError(f"{path} is not an Ed25519 key")
        return cls(key)

    @classmethod
    def load_or_create(cls, path: Path, public: Path | None = None) -> SigningKey:
        """Read a key, or make one on first use.

        :param public: where its public part is to stand in base64, beside it.
        :raises ConfigurationError: if that cannot be done.
        """
        if path.exists():
            key = cls.load(path)
        else:
            key = cls.generate()
            key.save(path)
        text = f"{public_key_text(key.public_key)}\n".encode("ascii")
        if public is not None and not _holds(public, text):
            replace_file(public, text, 0o644)
        return key

    def save(self, path: Path) -> None:
        """Write the key for nobody else to read.

        :raises ConfigurationError: if it cannot be written.
        """
        try:
            make_private_directory(path.parent)
        except OSError as e:
            raise ConfigurationError(f"cannot make {path.parent}: {e.strerror}") from e
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        replace_file(path, pem, 0o600)

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes, for who keeps keys in another place than a file."""
        return self._key.private_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """Sign; 64 bytes."""
        return self._key.sign(data)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False
    except OSError as e:
        raise ConfigurationError(f"cannot read {path}: {e.strerror}") from e


def verify(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Tell whether the holder of a key has signed ``data``."""
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def verifier(public_key: bytes) -> Verifier:
    """Return what checks signatures of one key.

    :raises ConfigurationError: if the key is none.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ConfigurationError(f"a public key of {len(public_key)} bytes")
    return partial(verify, public_key)


def public_key_text(public_key: bytes) -> str:
    """Return a public key for files, options and JSON."""
    return base64.b64encode(public_key).decode("ascii")


def parse_public_key(text: str) -> bytes:
    """Read a public key as :func:`public_key_text` writes it.

    :raises ConfigurationError: if it is none.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != PUBLIC_KEY_BYTES:
        raise ConfigurationError(
            f"{text.strip()[:60]!r} is no public key: expected 44 characters of "
            "base64, as in the cloud's file cloud.pub"
        )
    return key


def read_public_key(text: str) -> bytes:
    """Read a public key that is given as such, or by the name of a file.

    :raises ConfigurationError: if it is neither.
    """
    path = Path(text).expanduser()
    try:
        if path.is_file():
            return parse_public_key(path.read_text("utf-8"))
    except OSError as e:
        raise ConfigurationError(f"cannot read {path}: {e.strerror}") from e
    except (UnicodeDecodeError, ConfigurationError) as e:
        raise ConfigurationError(f"{path} holds no public key: {e}") from e
    return parse_public_key(text)
