"""The directory of a mediator with accounts: its keys and its database.

========================  =============================================================
``accounts.sqlite``       the database, unless another one is named
``cloud.key``             Ed25519 key that signs grants (PKCS #8, PEM)
``cloud.pub``             its public key, one line of base64
``seal.key``              32 bytes under which secrets in the database are sealed
``operator.key``          token of who runs the mediator
``https.key|https.crt``   self-signed certificate of the mediator's HTTPS
========================  =============================================================

What is missing is made. A copy of the database alone opens nothing.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dwcloud.accounts.sealing import KEY_LENGTH, Seal
from dwcloud.accounts.tokens import new_token
from dwcloud.errors import ConfigurationError
from dwcloud.net.identity_lock import lock_directory
from dwcloud.net.private_files import make_private_directory, replace_file
from dwcloud.net.signing import SigningKey

__all__ = ["OPERATOR_KEY", "AccountsDirectory"]

OPERATOR_KEY = "operator.key"
"""The file with the operator's token."""

_SHORTEST_TOKEN = 43
_ONE_DAY = datetime.timedelta(days=1)
_CERTIFICATE_LIFETIME = 10 * 365 * _ONE_DAY
_SECRET, _PUBLIC = 0o600, 0o644


class AccountsDirectory:
    """Keys in a directory, made when they are first asked for.

    :param path: the directory; made, for nobody else, if it is not there.
    :param owner: user and group that the program will run as, if it is another one by
        then; -1 leaves one as it is.
    :raises ConfigurationError: if it cannot be used.
    """

    def __init__(self, path: Path, owner: tuple[int, int] = (-1, -1)) -> None:
        self.path = path
        self._owner = owner
        try:
            make_private_directory(path)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make the directory {path}: {error.strerror}"
            ) from error

    def lock(self) -> int:
        """Keep other mediators from using the directory until the descriptor is closed.

        What one has in memory of who may connect, another would not know of.

        :raises ConfigurationError: another one uses it.
        """
        return lock_directory(
            self.path,
            f"another mediator{{process}} keeps accounts in {self.path}; stop it "
            "first, or give each a directory of its own",
        )

    def give_away(self) -> None:
        """Let the user that the program will run as own what has been made.

        :raises ConfigurationError: if this one may not.
        """
        if self._owner == (-1, -1):
            return
        try:
            for path in (self.path, *self.path.iterdir()):
                os.chown(path, *self._owner)
        except OSError as error:
            raise ConfigurationError(
                f"cannot give {self.path} to the user that twistd is to run as: "
                f"{error.strerror}"
            ) from error

    @property
    def database(self) -> Path:
        """The file of the database."""
        return self.path / "accounts.sqlite"

    def seal(self) -> Seal:
        """Return what seals secrets.

        :raises ConfigurationError: if the key cannot be read or made.
        """
        path = self.path / "seal.key"
        key = _read_or_make(path, lambda: os.urandom(KEY_LENGTH), _SECRET)
        if len(key) != KEY_LENGTH:
            raise ConfigurationError(
                f"{path} is not a key of {KEY_LENGTH} bytes; restore it from a copy: "
                "second factors cannot be read with another one"
            )
        return Seal(key)

    def cloud_key(self) -> SigningKey:
        """Return the key that signs grants; its public part is written beside it.

        :raises ConfigurationError: if it cannot be read or made.
        """
        return SigningKey.load_or_create(
            self.path / "cloud.key", self.path / "cloud.pub"
        )

    def operator_key(self) -> str:
        """Return the token by which the operator is known to the API.

        :raises ConfigurationError: if it cannot be read or made.
        """
        path = self.path / OPERATOR_KEY
        data = _read_or_make(path, lambda: f"{new_token()}\n".encode(), _SECRET)
        token = data.decode("ascii", "replace").strip()
        if len(token) < _SHORTEST_TOKEN:
            raise ConfigurationError(
                f"{path} is not a token of {_SHORTEST_TOKEN} characters; remove it to "
                "have a new one made"
            )
        return token

    def certificate(self) -> tuple[Path, Path]:
        """Return the files of the HTTPS key and certificate.

        :raises ConfigurationError: if they cannot be read or made.
        """
        key, certificate = self.path / "https.key", self.path / "https.crt"
        if key.exists() != certificate.exists():
            raise ConfigurationError(
                f"of {key} and {certificate} one is missing: restore it, or remove the "
                "other to have a new pair made, which clients will not recognize"
            )
        if not key.exists():
            new = _new_certificate()
            _read_or_make(key, lambda: new[0], _SECRET)
            _read_or_make(certificate, lambda: new[1], _PUBLIC)
        return key, certificate


def _read_or_make(path: Path, make: Callable[[], bytes], mode: int) -> bytes:
    """Read a file; make it, whole or not at all, if it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        data = make()
        replace_file(path, data, mode)
        return data
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _new_certificate() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    host = socket.gethostname()[:60] or "dwcloud"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    # A day of grace: the clocks of small machines are often a little slow.
    start = datetime.datetime.now(datetime.UTC) - _ONE_DAY
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    if host.isascii():
        names.insert(0, x509.DNSName(host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _CERTIFICATE_LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    return _pem(key), certificate.public_bytes(serialization.Encoding.PEM)
