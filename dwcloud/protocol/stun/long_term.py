"""Long-term credentials (RFC 8489, 9.2): user name, password, realm and nonce.

Both sides of the exchange: :class:`LongTermClient` answers a server's challenge,
:class:`LongTermServer` makes challenges and checks requests.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.stun.attributes import (
    AttributeType,
    PasswordAlgorithm,
    decode_error_code,
    decode_password_algorithm,
    decode_password_algorithms,
    decode_text,
    error_attribute,
    password_algorithm_attribute,
    password_algorithms_attribute,
    text_attribute,
)
from dwcloud.protocol.stun.credentials import (
    NonceSource,
    SecurityFeature,
    long_term_key,
    nonce_features,
    user_hash,
)
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage

__all__ = ["Authenticated", "CredentialSource", "LongTermClient", "LongTermServer"]

_OFFER = password_algorithms_attribute(
    ((PasswordAlgorithm.SHA256, b""), (PasswordAlgorithm.MD5, b""))
)
_ALGORITHMS = frozenset(PasswordAlgorithm)
_FEATURES = SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY


@attrs.frozen
class _Challenge:
    realm: RawAttribute
    nonce: RawAttribute
    key: bytes = attrs.field(repr=False)
    algorithm: PasswordAlgorithm
    offer: RawAttribute | None
    anonymous: bool


class LongTermClient:
    """A user at one server: protects requests once the server has sent a challenge.

    The first request goes out as it is. Each error answer goes to
    :meth:`challenge_received`; when that says so, the request is made anew with a new
    transaction id and protected by :meth:`protect`.
    """

    def __init__(self, username: str, password: str) -> None:
        self._username = username
        self._password = password
        self._challenge: _Challenge | None = None

    def challenge_received(self, response: STUNMessage) -> bool:
        """Take an error answer; tell whether to try again.

        False for other errors than 401 and 438, and when the server does not accept
        the credentials.

        :raises RemoteProtocolError: if the challenge is incomplete, or has been
            changed on its way to weaken the protection; it is not answered.
        """
        if response.message_class is not MessageClass.ERROR:
            return False
        code, _ = decode_error_code(response.require(AttributeType.ERROR_CODE))
        if code not in (401, 438):
            return False
        before, self._challenge = self._challenge, self._read(response)
        # A second 401 means that the password is wrong; a 438 only that time passed.
        return code == 438 or before is None or before.realm != self._challenge.realm

    def protect(self, request: STUNMessage) -> bytes:
        """Return the encoded request with the credentials, if there is a challenge."""
        challenge = self._challenge
        if challenge is None:
            return request.encode()
        if challenge.anonymous:
            realm = decode_text(challenge.realm.value)
            user = RawAttribute(
                AttributeType.USERHASH, user_hash(self._username, realm)
            )
        else:
            user = text_attribute(AttributeType.USERNAME, self._username)
        request = request.with_attributes(user, challenge.realm, challenge.nonce)
        if challenge.offer is None:
            return request.encode(integrity_sha1_key=challenge.key)
        return request.with_attributes(
            password_algorithm_attribute(challenge.algorithm), challenge.offer
        ).encode(integrity_key=challenge.key)

    def is_authentic(self, response: STUNMessage) -> bool:
        """Tell whether an answer to a protected request comes from the server."""
        challenge = self._challenge
        if challenge is None:
            return False
        if challenge.offer is None:
            return response.verify_integrity_sha1(challenge.key)
        return response.verify_integrity(challenge.key)

    def _read(self, response: STUNMessage) -> _Challenge:
        realm = response.require(AttributeType.REALM)
        nonce = response.require(AttributeType.NONCE)
        offer = response.get(AttributeType.PASSWORD_ALGORITHMS)
        features = nonce_features(nonce)
        algorithm = PasswordAlgorithm.MD5
        # Nonce and attribute must agree: one without the other was tampered with.
        if (offer is not None) != (SecurityFeature.PASSWORD_ALGORITHMS in features):
            raise RemoteProtocolError("the challenge contradicts its nonce", 400)
        if offer is not None:
            offered = [number for number, _ in decode_password_algorithms(offer)]
            known = [number for number in offered if number in _ALGORITHMS]
            if not known:
                raise RemoteProtocolError("no known password algorithm", 400)
            algorithm = max(map(PasswordAlgorithm, known))
        return _Challenge(
            realm=RawAttribute(AttributeType.REALM, realm),
            nonce=RawAttribute(AttributeType.NONCE, nonce),
            key=long_term_key(
                self._username, decode_text(realm), self._password, algorithm
            ),
            algorithm=algorithm,
            offer=(
                None
                if offer is None
                else RawAttribute(AttributeType.PASSWORD_ALGORITHMS, offer)
            ),
            anonymous=SecurityFeature.USERNAME_ANONYMITY in features,
        )


class CredentialSource(Protocol):
    """The users of a server."""

    def key(self, username: str, algorithm: PasswordAlgorithm) -> bytes | None:
        """Return :func:`~.credentials.long_term_key` of a user, or None."""

    def username(self, user_hash: bytes) -> str | None:
        """Return the user with this :func:`~.credentials.user_hash`, or None."""


@attrs.frozen
class Authenticated:
    """A request whose sender knows the password.

    :ivar username: who sent it.
    """

    username: str
    _key: bytes = attrs.field(repr=False)
    _sha256: bool

    def protect(self, response: STUNMessage) -> bytes:
        """Return the encoded answer, protected in the way of the request."""
        if self._sha256:
            return response.encode(integrity_key=self._key)
        return response.encode(integrity_sha1_key=self._key)


class LongTermServer:
    """Checks the credentials of requests (9.2.4).

    :param realm: shown to users; part of their keys.
    :param secret: random bytes, at least 16, for the nonces.
    :param lifetime: seconds that a nonce is good for.
    """

    def __init__(
        self,
        realm: str,
        secret: bytes,
        credentials: CredentialSource,
        *,
        lifetime: float = 600.0,
    ) -> None:
        self._realm = text_attribute(AttributeType.REALM, realm)
        self._secret = secret
        self._credentials = credentials
        self._nonces = NonceSource(secret, _FEATURES, lifetime=lifetime)

    def authenticate(
        self, request: STUNMessage, client: bytes, *, now: float
    ) -> Authenticated | STUNMessage:
        """Check a request.

        :param client: who sent it, such as an address as bytes; nonces are bound to
            it.
        :return: the proof, or the error answer to send.
        """
        if not request.has_integrity:
            return self._challenge(request, 401, client, now)
        try:
            username, algorithm = self._claim(request)
        except RemoteProtocolError:
            return request.error((error_attribute(400),))
        key = None
        if username is not None:
            key = self._credentials.key(username, algorithm)
        # A stranger gets the same answer after the same work.
        sha256 = request.has_integrity_sha256
        verify = request.verify_integrity if sha256 else request.verify_integrity_sha1
        genuine = verify(self._secret if key is None else key)
        if not genuine or username is None or key is None:
            return self._challenge(request, 401, client, now)
        nonce = request.require(AttributeType.NONCE)
        if not self._nonces.is_valid(nonce, client, now=now):
            return self._challenge(request, 438, client, now)
        return Authenticated(username, key, sha256)

    def _challenge(
        self, request: STUNMessage, code: int, client: bytes, now: float
    ) -> STUNMessage:
        nonce = self._nonces.issue(client, now=now)
        return request.error(
            (
                error_attribute(code),
                self._realm,
                RawAttribute(AttributeType.NONCE, nonce),
                _OFFER,
            )
        )

    def _claim(self, request: STUNMessage) -> tuple[str | None, PasswordAlgorithm]:
        """Return who a request claims to be from, if anybody, and its algorithm."""
        request.require(AttributeType.NONCE)
        if request.require(AttributeType.REALM) != self._realm.value:
            raise RemoteProtocolError("another realm", 400)
        hashed = request.get(AttributeType.USERHASH)
        if hashed is not None:
            username = self._credentials.username(hashed)
        else:
            username = decode_text(request.require(AttributeType.USERNAME))
        offer = request.get(AttributeType.PASSWORD_ALGORITHMS)
        chosen = request.get(AttributeType.PASSWORD_ALGORITHM)
        if offer is None and chosen is None:
            return username, PasswordAlgorithm.MD5
        if offer != _OFFER.value or chosen is None or not request.has_integrity_sha256:
            raise RemoteProtocolError("password algorithms other than agreed", 400)
        number, _ = decode_password_algorithm(chosen)
        try:
            return username, PasswordAlgorithm(number)
        except ValueError as error:
            raise RemoteProtocolError("an algorithm not on offer", 400) from error
