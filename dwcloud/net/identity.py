"""Self-certifying identities: keys, certificates, and their verification.

A system owns a key pair and is a small certificate authority; each of its servers has
a key pair and a certificate under it. The GUID of both is made from the public key
(:mod:`dwcloud.protocol.names`), so that a GUID is all that is needed to verify.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, verify_service_identity

from dwcloud.errors import ConfigurationError, IdentityMismatch
from dwcloud.net.private_files import make_private_directory, write_new_file
from dwcloud.protocol.names import PeerName, guid_from_public_key

__all__ = [
    "KeyAgreement",
    "ServerIdentity",
    "SystemIdentity",
    "default_identity_directory",
    "verify_certificates",
    "verify_signature",
]

_SYSTEM_KEY, _SYSTEM_CERTIFICATE = "system.key", "system.crt"
_SERVER_KEY, _SERVER_CERTIFICATE = "server.key", "server.crt"
_SECRETS = (_SYSTEM_KEY, _SERVER_KEY)
# X509_V_FLAG_NO_CHECK_TIME of OpenSSL: the time is not a matter of the signatures.
_NO_CHECK_TIME = 0x200000
_ONE_DAY = datetime.timedelta(days=1)
_SYSTEM_LIFETIME = 50 * 365 * _ONE_DAY
_SERVER_LIFETIME = 10 * 365 * _ONE_DAY


def default_identity_directory() -> Path:
    """Where ``dwcloud serve`` keeps its identity when no option names a place."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "dwcloud" / "identity"


def _public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate_builder(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePublicKey,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:
    # A day of grace: the clocks of small machines are often a little slow.
    start = datetime.datetime.now(datetime.UTC) - _ONE_DAY
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(subject))
        .issuer_name(_common_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
    )


@attrs.frozen
class SystemIdentity:
    """A system's key and certificate: whoever holds them can add servers to it.

    :ivar name: the system's name, without a server.
    """

    name: PeerName
    _key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)
    certificate: x509.Certificate = attrs.field(repr=False)

    @classmethod
    def generate(cls) -> SystemIdentity:
        """Make the key of a new system and its self-signed certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = PeerName(guid_from_public_key(_public_bytes(key.public_key())))
        certificate = (
            _certificate_builder(
                str(name), str(name), key.public_key(), _SYSTEM_LIFETIME
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .add_extension(_key_usage(certificate_authority=True), True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(name, key, certificate)

    @classmethod
    def load(cls, directory: Path) -> SystemIdentity:
        """Read the system's key and certificate from ``directory``.

        :raises ConfigurationError: if they are missing or do not belong together.
        """
        certificate = _read_certificate(directory / _SYSTEM_CERTIFICATE)
        key = _read_key(directory / _SYSTEM_KEY)
        _check_pair(directory / _SYSTEM_KEY, key, certificate)
        guid = guid_from_public_key(_public_bytes(key.public_key()))
        return cls(PeerName(guid), key, certificate)

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` with the system's key (ECDSA with SHA-256, DER)."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def issue_server(self) -> ServerIdentity:
        """Make the key of a further server and its certificate under this system."""
        key = ec.generate_private_key(ec.SECP256R1())
        server = guid_from_public_key(_public_bytes(key.public_key()))
        name = PeerName(self.name.system, server)
        certificate = (
            _certificate_builder(
                str(server), str(self.name), key.public_key(), _SERVER_LIFETIME
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(_key_usage(certificate_authority=False), True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name.dns_name)]), False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self._key.public_key()
                ),
                False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return ServerIdentity(name, key, certificate, self.certificate)

    def files(self) -> dict[str, bytes]:
        """The files that keep it, by name."""
        return {
            _SYSTEM_KEY: _key_pem(self._key),
            _SYSTEM_CERTIFICATE: _certificate_pem(self.certificate),
        }


@attrs.frozen
class ServerIdentity:
    """A server's key, its certificate, and that of its system.

    :ivar name: ``server.system``.
    """

    name: PeerName
    key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)
    certificate: x509.Certificate = attrs.field(repr=False)
    system_certificate: x509.Certificate = attrs.field(repr=False)

    @classmethod
    def create(cls, directory: Path) -> ServerIdentity:
        """Make a new system with one server and write both into ``directory``.

        :raises ConfigurationError: if the directory holds an identity already or
            cannot be written.
        """
        if _holds_identity(directory):
            raise ConfigurationError(
                f"{directory} holds an identity already; choose another directory, "
                "or remove that one to give the identity up for good"
            )
        system = SystemIdentity.generate()
        server = system.issue_server()
        _write(directory, system.files() | server.files())
        return server

    @classmethod
    def load(cls, directory: Path) -> ServerIdentity:
        """Read a server's identity from ``directory``.

        :raises ConfigurationError: if files are missing, unreadable, or do not
            belong together; the message names the file.
        """
        certificate = _read_certificate(directory / _SERVER_CERTIFICATE)
        system_certificate = _read_certificate(directory / _SYSTEM_CERTIFICATE)
        key = _read_key(directory / _SERVER_KEY)
        _check_pair(directory / _SERVER_KEY, key, certificate)
        try:
            name = verify_certificates(
                (
                    certificate.public_bytes(serialization.Encoding.DER),
                    system_certificate.public_bytes(serialization.Encoding.DER),
                )
            )
        except IdentityMismatch as e:
            raise ConfigurationError(f"the identity in {directory}: {e}") from e
        return cls(name, key, certificate, system_certificate)

    @classmethod
    def load_or_create(cls, directory: Path) -> ServerIdentity:
        """Read the identity in ``directory``, or make one there on first use.

        :raises ConfigurationError: as :meth:`load` and :meth:`create`.
        """
        if _holds_identity(directory):
            return cls.load(directory)
        return cls.create(directory)

    @classmethod
    def add_server(cls, directory: Path, new_directory: Path) -> ServerIdentity:
        """Make a further server of the system in ``directory``.

        The new server's files go to ``new_directory``, to be moved to its machine;
        the system's own key stays where it is.

        :raises ConfigurationError: if ``directory`` holds no system key or
            ``new_directory`` holds an identity already.
        """
        if _holds_identity(new_directory):
            raise ConfigurationError(f"{new_directory} holds an identity already")
        has_server = (directory / _SERVER_KEY).exists()
        if has_server and not (directory / _SYSTEM_KEY).exists():
            raise ConfigurationError(
                f"{directory} holds a server without the key of its system; name the "
                "directory of the system's first server, where that key is"
            )
        server = SystemIdentity.load(directory).issue_server()
        server.save(new_directory)
        return server

    def save(self, directory: Path) -> None:
        """Write what a server needs into ``directory``: not the system's key.

        :raises ConfigurationError: if it cannot be written.
        """
        _write(directory, self.files())

    def files(self) -> dict[str, bytes]:
        """The files that keep it, by name."""
        return {
            _SERVER_KEY: _key_pem(self.key),
            _SERVER_CERTIFICATE: _certificate_pem(self.certificate),
            _SYSTEM_CERTIFICATE: _certificate_pem(self.system_certificate),
        }

    @property
    def certificates(self) -> tuple[bytes, bytes]:
        """The server's and the system's certificate as DER."""
        encoding = serialization.Encoding.DER
        return (
            self.certificate.public_bytes(encoding),
            self.system_certificate.public_bytes(encoding),
        )

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` with the server's key (ECDSA with SHA-256, DER)."""
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


def verify_certificates(
    certificates: tuple[bytes, bytes], *, at: datetime.datetime | None = None
) -> PeerName:
    """Return the name that a server's and a system's certificate prove.

    The server's certificate must be issued by the system's, both must be valid now,
    the GUIDs must be those of the keys, and the certificate must carry the name.

    :param certificates: the server's and the system's, as DER.
    :param at: the moment at which they have to be valid, in UTC; now without it.
    :raises IdentityMismatch: if anything of this does not hold; the message says what.
    """
    name, begin, end = _prove(certificates)
    if not begin <= (at or datetime.datetime.now(datetime.UTC)) <= end:
        raise IdentityMismatch(
            f"the certificates of {name} are valid from {begin} until {end} only; "
            "does the clock of this machine go right?"
        )
    return name


@lru_cache(maxsize=32)
def _prove(
    certificates: tuple[bytes, bytes],
) -> tuple[PeerName, datetime.datetime, datetime.datetime]:
    """Return the name that the certificates prove, and from when until when they do.

    What a signature proves does not change, so who meets the same server again need not
    compute it again; what fails is not remembered.
    """
    try:
        server, system = (x509.load_der_x509_certificate(der) for der in certificates)
        keys = [certificate.public_key() for certificate in (server, system)]
    except ValueError as e:
        raise IdentityMismatch(f"a certificate cannot be read: {e}") from e
    if not all(isinstance(key, ec.EllipticCurvePublicKey) for key in keys):
        raise IdentityMismatch("a certificate holds a key that is not elliptic-curve")
    guids = [
        guid_from_public_key(
            key.public_bytes(
                serialization.Encoding.DER,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
        )
        for key in keys
    ]
    name = PeerName(system=guids[1], server=guids[0])
    store = crypto.X509Store()
    store.set_flags(_NO_CHECK_TIME)
    store.add_cert(crypto.X509.from_cryptography(system))
    context = crypto.X509StoreContext(store, crypto.X509.from_cryptography(server))
    try:
        context.verify_certificate()
    except crypto.X509StoreContextError as e:
        raise IdentityMismatch(f"the chain to system {name.system} fails: {e}") from e
    try:
        verify_service_identity(
            extract_patterns(server), [DNS_ID(name.dns_name)], optional_ids=[]
        )
    except (CertificateError, VerificationError) as e:
        raise IdentityMismatch(f"the certificate does not name {name}") from e
    return (
        name,
        max(server.not_valid_before_utc, system.not_valid_before_utc),
        min(server.not_valid_after_utc, system.not_valid_after_utc),
    )


def verify_signature(certificate: bytes, signature: bytes, data: bytes) -> bool:
    """Tell whether the holder of ``certificate`` (DER) signed ``data``."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        return False
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


class KeyAgreement:
    """One side of an X25519 exchange (RFC 7748) with HKDF-SHA256 (RFC 5869).

    :ivar public_key: 32 bytes for the far end.
    """

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()
        self.public_key: bytes = self._key.public_key().public_bytes_raw()

    def derive(self, peer_public_key: bytes, context: bytes) -> bytes:
        """Return the 32-byte key shared with the holder of ``peer_public_key``.

        :param context: what the key is for; both sides must name the same.
        :raises ValueError: if the public key is not one.
        """
        shared = self._key.exchange(X25519PublicKey.from_public_bytes(peer_public_key))
        return HKDF(hashes.SHA256(), 32, salt=None, info=context).derive(shared)


def _key_usage(*, certificate_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_authority,
        key_cert_sign=certificate_authority,
        crl_sign=certificate_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _holds_identity(directory: Path) -> bool:
    names = (_SYSTEM_KEY, _SYSTEM_CERTIFICATE, _SERVER_KEY, _SERVER_CERTIFICATE)
    return any((directory / name).exists() for name in names)


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write all files of an identity or none; keys for nobody else to read.

    :raises ConfigurationError: if they cannot be written; what was there stays.
    """
    new = {directory / f"{name}.new": data for name, data in files.items()}
    path = directory
    try:
        make_private_directory(directory)
        for path, data in new.items():
            write_new_file(path, data, 0o600 if path.stem in _SECRETS else 0o644)
        for path in new:
            path.replace(path.with_suffix(""))
    except OSError as e:
        for left in new:
            with suppress(OSError):
                left.unlink()
        what = path if path == directory else path.with_suffix("")
        raise ConfigurationError(f"cannot write {what}: {e.strerror}") from e


def _read(path: Path, parse: Callable[[bytes], object], what: str) -> object:
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path} is missing; `dwcloud system create` makes a new identity"
        ) from None
    except OSError as e:
        raise ConfigurationError(f"cannot read {path}: {e.strerror}") from e
    except (ValueError, TypeError):
        raise ConfigurationError(f"{path} is not {what} in PEM form") from None


def _read_certificate(path: Path) -> x509.Certificate:
    certificate = _read(path, x509.load_pem_x509_certificate, "a certificate")
    assert isinstance(certificate, x509.Certificate)
    return certificate


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = _read(
        path,
        lambda data: serialization.load_pem_private_key(data, None),
        "an unencrypted private key",
    )
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{path} is not an elliptic-curve key")
    return key


def _check_pair(
    path: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or _public_bytes(
        public
    ) != _public_bytes(key.public_key()):
        raise ConfigurationError(f"{path} is not the key of the certificate beside it")
