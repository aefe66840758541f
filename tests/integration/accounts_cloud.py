"""A mediator with accounts on loopback, and requests to it over TLS."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import uuid
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread

from dwcloud.accounts.api.endpoints import BASE
from dwcloud.accounts.binding import binding_text
from dwcloud.mediator.account_keeping import with_accounts
from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.net.identity import SystemIdentity

__all__ = ["LOOPBACK", "PASSWORD", "AccountsCloud", "Answer", "Person", "ask"]

LOOPBACK = "127.0.0.1"
PASSWORD = "kettle orbit 7"


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        """The JSON in it."""
        return json.loads(self.content)

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


def connect(port: int, *, tls: bool = True) -> http.client.HTTPConnection:
    """Connect to a mediator on loopback, and trust whoever is there."""
    if not tls:
        return http.client.HTTPConnection(LOOPBACK, port, timeout=90)
    # Without the system's certificate authorities: reading them takes longer than
    # most requests.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(LOOPBACK, port, timeout=90, context=context)


def ask(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str = "",
    headers: Mapping[str, str] | None = None,
    tls: bool = True,
) -> Answer:
    """Make a request and wait: in a thread that is not the reactor's."""
    fields = dict(headers or {})
    if token:
        fields["Authorization"] = f"Bearer {token}"
    data = body
    if body is not None and not isinstance(body, bytes):
        data = json.dumps(body).encode()
        fields.setdefault("Content-Type", "application/json")
    connection = connect(port, tls=tls)
    try:
        connection.request(method, BASE + path, data, fields)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


class AccountsCloud:
    """A mediator with accounts.

    :ivar service: the mediator.
    :ivar port: of TCP, for STUN, HTTP and HTTPS.
    """

    def __init__(self, reactor: Any, directory: Path, **named: Any) -> None:
        configuration = MediatorConfiguration()
        self.directory = directory
        self.service = MediatorService(
            reactor,
            configuration,
            [
                StreamSocket(
                    "tcp", serverFromString(reactor, f"tcp:0:interface={LOOPBACK}")
                )
            ],
            [UDPSocket(0, LOOPBACK)],
            **with_accounts(reactor, configuration, directory, **named),
        )
        self.service.startService()
        self.port = dict(self.service.addresses)["tcp"].port

    def stop(self) -> Deferred[Any]:
        """Stop it."""
        return self.service.stopService()

    def connection(self, *, tls: bool = True) -> http.client.HTTPConnection:
        """Connect, and trust whoever is there."""
        return connect(self.port, tls=tls)

    def ask(self, *args: Any, **named: Any) -> Answer:
        """Make a request and wait: in a thread that is not the reactor's."""
        return ask(self.port, *args, **named)

    def request(self, *args: Any, **named: Any) -> Deferred[Answer]:
        """Make a request."""
        return deferToThread(self.ask, *args, **named)

    @inlineCallbacks
    def person(self, name: str) -> Generator[Any, Any, Person]:
        """Register somebody who signs in."""
        yield self.request("POST", "/accounts", {"name": name, "password": PASSWORD})
        answer = yield self.request(
            "POST", "/sessions", {"name": name, "password": PASSWORD}
        )
        return Person(self, answer["account"], answer["access_token"])


@attrs.frozen
class Person:
    """Somebody who is signed in."""

    cloud: AccountsCloud
    account: dict[str, Any]
    token: str

    def request(self, *args: Any, **named: Any) -> Deferred[Answer]:
        """Make a request."""
        return self.cloud.request(*args, token=self.token, **named)

    @inlineCallbacks
    def bind(
        self, identity: SystemIdentity, name: str = "garage"
    ) -> Generator[Any, Any, Answer]:
        """Bind a system."""

        cloud = yield self.request("GET", "/cloud")
        challenge = yield self.request("POST", "/systems/challenge")
        signed = binding_text(
            base64.b64decode(challenge["nonce"]),
            uuid.UUID(self.account["id"]),
            base64.b64decode(cloud["cloud_key"]),
        )
        key: Any = identity._key
        signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
        answer: Answer = yield self.request(
            "POST",
            "/systems",
            {
                "name": name,
                "certificate": encode(identity.certificate.public_bytes(Encoding.DER)),
                "nonce": challenge["nonce"],
                "signature": encode(signature),
            },
        )
        return answer


def encode(data: bytes) -> str:
    """Return bytes for JSON."""
    return base64.b64encode(data).decode("ascii")
