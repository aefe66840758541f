"""A cloud that answers what a test says, over HTTPS in a simulated network."""

from __future__ import annotations

import atexit
import base64
import functools
import json
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import attrs
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dwcloud.net.http_messages import Request, Response
from dwcloud.net.http_server import HTTPServerFactory
from dwcloud.peer.api_values import Fields, Tokens
from dwcloud.peer.cloud_api import CloudAPI
from dwcloud.peer.cloud_session import credentials_of
from dwcloud.peer.credentials import Credentials, CredentialStore
from dwcloud.peer.known_clouds import KnownClouds
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.testing import World
from tests.certificates import write_certificate

_T = TypeVar("_T")

ADDRESS = "203.0.113.5"
NAME = "cloud.example.org"
CLOUD = f"{NAME}:3345"
CLOUD_KEY = bytes(range(32))
ACCOUNT = {"id": "11111111-2222-4333-8444-555555555555", "name": "anna"}
DESCRIPTION = {
    "version": "1",
    "cloud_key": base64.b64encode(CLOUD_KEY).decode(),
    "registration": "open",
    "relays": [],
}


@functools.cache
def certificate(number: int = 0, host: str = NAME) -> tuple[Path, Path]:
    """A key and a certificate that is signed by itself, made once for all tests."""
    directory = Path(tempfile.mkdtemp(prefix="dwcloud-certificate-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return write_certificate(directory, host)


def read_certificate(path: Path) -> x509.Certificate:
    """Read one."""
    return x509.load_pem_x509_certificate(path.read_bytes())


@implementer(IOpenSSLServerConnectionCreator)
class _ServerTLS:
    def __init__(self, key: Path, certificate: Path) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_privatekey_file(str(key))
        self._context.use_certificate_file(str(certificate))

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


@attrs.frozen
class Asked:
    """What the cloud was asked."""

    method: str
    path: str
    token: str
    value: Any


class ScriptedCloud:
    """Answers what a test has put down for each method and path.

    :ivar answers: ``"METHOD /path"`` to status and value, or to what makes these of
        what was asked.
    :ivar asked: all that it was asked, in order.
    """

    def __init__(self, world: World, host: Any, number: int = 0) -> None:
        self._world = world
        self._host = host
        self.answers: dict[str, Any] = {"GET /cloud": (200, DESCRIPTION)}
        self.asked: list[Asked] = []
        self._port: Any = None
        self.listen(number)

    def listen(self, number: int = 0, port: int = 3345) -> None:
        """Listen, with another certificate than before."""
        if self._port is not None:
            self._world.run_until(maybeDeferred(self._port.stopListening))
        http = HTTPServerFactory(self._answer, self._host.reactor)
        tls = TLSMemoryBIOFactory(
            _ServerTLS(*certificate(number)), False, http, self._host.reactor
        )
        self._port = self._host.reactor.listenTCP(port, tls)

    def _answer(self, request: Request) -> Response:
        path = request.path.removeprefix("/api/v1")
        authorization = request.header("authorization") or ""
        asked = Asked(
            request.method,
            path,
            authorization.removeprefix("Bearer "),
            json.loads(request.body) if request.body else None,
        )
        self.asked.append(asked)
        answer = self.answers.get(f"{request.method} {path}")
        if callable(answer):
            answer = answer(asked)
        if answer is None:
            return Response(404, b"nothing here\n")
        if isinstance(answer, Response):
            return answer
        status, value = answer
        if status == 204:
            return Response(204)
        kind = "application/json" if status < 300 else "application/problem+json"
        return Response(status, json.dumps(value).encode(), kind)

    def questions(self) -> list[str]:
        """Methods and paths that were asked, in order."""
        return [f"{each.method} {each.path}" for each in self.asked]


def problem(status: int, code: str, detail: str = "No.") -> tuple[int, Any]:
    """An answer that refuses."""
    return status, {"status": status, "code": code, "title": "t", "detail": detail}


def tokens(number: int, expires_in: float = 900) -> tuple[int, Any]:
    """An answer that begins or goes on with a session."""
    value = {
        "access_token": f"access-{number}",
        "expires_in": expires_in,
        "refresh_token": f"refresh-{number}",
        "account": ACCOUNT,
    }
    return 201, value


class APITestCase(SynchronousTestCase):
    """A cloud and a client in a simulated network."""

    def setUp(self) -> None:
        """Have both."""
        self.directory = Path(tempfile.mkdtemp(prefix="dwcloud-test-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.world = World(seed=1)
        self.internet = internet = self.world.internet()
        self.world.add_name(NAME, ADDRESS)
        self.host = internet.host(ADDRESS, name="cloud")
        self.client = internet.host("203.0.113.20", name="client")
        self.cloud = ScriptedCloud(self.world, self.host)
        self.clouds = KnownClouds(self.directory / "known.json")
        self.store = CredentialStore(self.directory / "credentials.json")

    def api(self, **options: Any) -> CloudAPI:
        """One that asks the cloud, as a new process would."""
        api = CloudAPI(
            self.client.reactor, MediatorAddress.parse(NAME), self.clouds, **options
        )
        self.addCleanup(api.close)
        return api

    def do(self, asking: Coroutine[Deferred[Any], Any, _T]) -> _T:
        """Run the world until something is done."""
        result: _T = self.world.run_until(Deferred.fromCoroutine(asking))
        return result

    def refused(
        self, kind: type[Exception], asking: Coroutine[Deferred[Any], Any, Any]
    ) -> Any:
        """The error of something."""
        waiting = Deferred.fromCoroutine(asking)
        return self.assertRaises(kind, self.world.run_until, waiting)

    def sign_in(self, expires_in: float = 900, number: int = 1) -> Credentials:
        """Store a session that began now."""
        _, value = tokens(number, expires_in)
        now = self.client.reactor.seconds()
        credentials = credentials_of(Tokens.read(Fields.of(value)), b"k" * 32, now)
        self.store.save(CLOUD, credentials)
        return credentials
