"""Secrets that must be read again, sealed under a key that is not in the database."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from dwcloud.errors import ConfigurationError

__all__ = ["KEY_LENGTH", "Seal"]

KEY_LENGTH = 32
_NONCE_LENGTH = 12


class Seal:
    """Encrypts and authenticates (:rfc:`8439`), bound to what the secret belongs to.

    :param key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def close(self, secret: bytes, owner: str) -> str:
        """Seal a secret.

        :param owner: what it belongs to; needed to open it again.
        """
        nonce = os.urandom(_NONCE_LENGTH)
        sealed = self._cipher.encrypt(nonce, secret, owner.encode())
        return (nonce + sealed).hex()

    def open(self, sealed: str, owner: str) -> bytes:
        """Return a secret.

        :raises ConfigurationError: if it was sealed under another key or for another
            owner, or has been changed.
        """
        try:
            data = bytes.fromhex(sealed)
            return self._cipher.decrypt(
                data[:_NONCE_LENGTH], data[_NONCE_LENGTH:], owner.encode()
            )
        except (InvalidTag, ValueError):
            raise ConfigurationError(
                "a sealed secret in the database of accounts cannot be opened: "
                "seal.key is not the one it was sealed with, or somebody changed the "
                "database"
            ) from None
