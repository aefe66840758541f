"""The API on a store in memory and a simulated clock, asked without any network."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import attrs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.access import AccessTable
from dwcloud.accounts.api.application import AccountsAPI
from dwcloud.accounts.api.endpoints import BASE
from dwcloud.accounts.api.events import EventBus
from dwcloud.accounts.api.services import Limits, Services
from dwcloud.accounts.audit import Actor
from dwcloud.accounts.passwords import Passwords
from dwcloud.accounts.people import OPEN
from dwcloud.accounts.systems import System
from dwcloud.accounts.tokens import hash_secret
from dwcloud.net.http_messages import Reply, Request, Response
from dwcloud.net.signing import SigningKey
from dwcloud.protocol.gateway.hosts import WebGateway
from tests.unit.accounts.store_world import CHEAP, START, Inline, StoreWorld

PASSWORD = "kettle orbit 7"
ADDRESS = "192.0.2.1"
OPERATOR_KEY = "k" * 43


@attrs.frozen
class Answer:
    """What came back."""

    response: Response

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.response.headers)

    def __getitem__(self, name: str) -> Any:
        return json.loads(self.response.body)[name]


class Online:
    """Tells what a test wants."""

    def __init__(self) -> None:
        self.servers: dict[uuid.UUID, dict[uuid.UUID, float]] = {}

    def online(self, system: uuid.UUID) -> Mapping[uuid.UUID, float]:
        return self.servers.get(system, {})


class APIWorld(StoreWorld):
    """A store and the API in front of it.

    :ivar threads: what counts the passwords that were hashed.
    """

    def __init__(self, registration: str = OPEN, limits: Limits | None = None) -> None:
        super().__init__()
        self._registered = 0
        self.clock = Clock()
        self.clock.advance(START)
        self.threads = Inline()
        self.presence = Online()
        self.access = AccessTable(
            SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32))),
            self.clock.seconds,
            lambda size: bytes(size),
        )
        self.events = EventBus(self.clock)
        self.store.on_change += [self.access.apply, self.events.access_changed]
        self.services = Services(
            store=self.store,
            passwords=Passwords(self.threads, CHEAP),
            seal=self.seal,
            access=self.access,
            clock=self.clock.seconds,
            events=self.events,
            operator_hash=hash_secret(OPERATOR_KEY),
            presence=self.presence,
            limits=limits or Limits(),
            registration=registration,
            relays=("http://:3349",),
            gateways=(WebGateway.parse("relay.example.org:8443"),),
        )
        self.api = AccountsAPI(self.services)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.clock.advance(seconds)

    def reply(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        address: str = ADDRESS,
        secure: bool = True,
    ) -> Reply:
        """Make a request; return the reply as it is."""
        fields = {k.lower(): v for k, v in (headers or {}).items()}
        if token:
            fields["authorization"] = f"Bearer {token}"
        if body is None:
            data = b""
        elif isinstance(body, bytes):
            data = body
        else:
            data = json.dumps(body).encode()
            fields.setdefault("content-type", "application/json")
        path, _, query = path.partition("?")
        request = Request(
            method=method,
            path=BASE + path,
            query=query,
            headers=tuple((k.encode(), v.encode("latin-1")) for k, v in fields.items()),
            body=data,
            peer=IPv4Address("TCP", address, 4000),
            secure=secure,
            connection=None,  # type: ignore[arg-type]
        )
        replies: list[Any] = []
        self.api(request).addBoth(replies.append)
        reply: Reply = replies[0]
        return reply

    def ask(self, *args: Any, **named: Any) -> Answer:
        """Make a request that is answered in one piece."""
        reply = self.reply(*args, **named)
        assert isinstance(reply, Response), reply
        return Answer(reply)

    def register(self, name: str, password: str = PASSWORD) -> Answer:
        """Register somebody, each from an address of its own."""
        self._registered += 1
        address = f"198.51.100.{self._registered}"
        return self.ask(
            "POST",
            "/accounts",
            {"name": name, "password": password},
            address=address,
        )

    def sign_in(self, name: str, password: str = PASSWORD, **more: Any) -> Answer:
        """Sign somebody in."""
        headers = more.pop("headers", None)
        address = more.pop("address", ADDRESS)
        return self.ask(
            "POST",
            "/sessions",
            {"name": name, "password": password, **more},
            headers=headers,
            address=address,
        )

    def token(self, name: str) -> str:
        """Register somebody; return the access token after signing in."""
        self.register(name)
        token: str = self.sign_in(name)["access_token"]
        return token

    def system_of(self, token: str, name: str = "garage") -> System:
        """Bind a system to an account that is signed in."""
        account = self.ask("GET", "/account", token=token)["account"]
        actor = Actor(uuid.UUID(account["id"]), account["name"], uuid.uuid4(), "")
        return self.system(actor, name)


class APICase(SynchronousTestCase):
    """A test of the API."""

    def setUp(self) -> None:
        self.world = APIWorld()
        self.ask = self.world.ask

    def assertRefused(self, answer: Answer, status: int, code: str) -> None:
        """Check that an answer is this refusal."""
        self.assertEqual((answer.status, answer["code"]), (status, code))
        self.assertEqual(answer.response.content_type, "application/problem+json")
