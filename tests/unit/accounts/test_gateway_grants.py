"""Grants by which browsers see a system through a relay: for whom, and for where."""

from __future__ import annotations

import base64
import uuid
from typing import Any
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.access import BrowsersOff
from dwcloud.accounts.members import set_member
from dwcloud.accounts.roles import Role
from dwcloud.accounts.sessions import BEARER, session_of
from dwcloud.net.signing import verifier
from dwcloud.protocol.gateway.hosts import WebGateway
from dwcloud.protocol.gateway.login import read_entry
from dwcloud.protocol.grants import AccessGrant, GrantKind
from tests.unit.accounts.api_world import Answer, APIWorld

KEY = bytes(range(32))
SERVER = uuid.UUID("1190163d-8694-8c3e-9a00-7ab7d7b42e1d")


class GatewayGrantTests(SynchronousTestCase):
    """The API."""

    def setUp(self) -> None:
        self.world = APIWorld()
        self.ann, self.bob = self.world.token("ann"), self.world.token("bob")
        self.system = self.world.system_of(self.ann)
        self.host = f"{self.system.id}.relay.example.org:8443"
        self.path = f"/systems/{self.system.id}"

    def switch(self, on: bool) -> None:
        """The owner lets browsers in, or not."""
        answer = self.world.ask("PATCH", self.path, {"web": on}, token=self.ann)
        self.assertEqual(answer.status, 200)

    def enter(self, token: str = "", **changed: Any) -> Answer:
        body = {
            "host": self.host,
            "client_key": base64.b64encode(KEY).decode(),
            "state": "s" * 43,
            **changed,
        }
        path = f"{self.path}/gateway-grants"
        return self.world.ask("POST", path, body, token=token or self.ann)

    def grant(self, answer: Answer) -> AccessGrant:
        """The grant in an answer's address."""
        self.assertEqual(answer.status, 201)
        state, encoded = read_entry(urlsplit(answer["location"]).query)
        self.assertEqual(state, "s" * 43)
        return AccessGrant.decode(encoded, verifier(self.world.access.cloud_key))

    def test_owner(self) -> None:
        """The owner is sent to the relay with a grant for its key, for an hour."""
        self.switch(True)
        answer = self.enter()
        grant = self.grant(answer)
        address = urlsplit(answer["location"])
        self.assertEqual(address.netloc, self.host)
        self.assertEqual(address.path, "/.dwcloud/enter")
        self.assertIs(grant.kind, GrantKind.GATEWAY)
        self.assertEqual((grant.client_key, grant.account_name), (KEY, "ann"))
        self.assertEqual((grant.system, grant.server), (self.system.id, None))
        self.assertEqual(grant.expires_ms - grant.issued_ms, 3_600_000)
        self.assertEqual(answer["expires"], grant.expires_ms / 1000)

    def test_one_server(self) -> None:
        """At a server's own host the grant is for that one."""
        self.switch(True)
        grant = self.grant(self.enter(host=f"{SERVER}.{self.host}"))
        self.assertEqual(grant.server, SERVER)

    def test_viewer(self) -> None:
        """A viewer may look, somebody without a role may not."""
        self.switch(True)
        self.assertEqual(self.enter(self.bob).status, 404)
        actor = self.world.run(session_of, self.ann, BEARER, "192.0.2.1")
        self.world.run(set_member, actor, self.system.id, "bob", Role.VIEWER)
        self.assertEqual(self.grant(self.enter(self.bob)).role, Role.VIEWER)

    def test_switch(self) -> None:
        """As long as the owner has not switched it on, nobody gets a grant."""
        answer = self.enter()
        self.assertEqual((answer.status, answer["code"]), (409, "browsers_off"))
        self.switch(True)
        self.switch(False)
        self.assertEqual(self.enter().status, 409)
        self.assertRaises(
            BrowsersOff,
            self.world.access.issue,
            self.system.id,
            uuid.uuid4(),
            Role.OWNER,
            KEY,
            account_name="ann",
            asked_ms=self.world.access.now_ms(),
            kind=GrantKind.GATEWAY,
        )

    def test_other_hosts(self) -> None:
        """The browser is sent to no host but those of relays that the cloud knows."""
        self.switch(True)
        for host in (
            f"{self.system.id}.evil.example",
            f"{self.system.id}.relay.example.org.evil.example:8443",
            f"{self.system.id}.relay.example.org",
            f"{self.system.id}.relay.example.org:8444",
            "relay.example.org:8443",
            f"{self.host}/x",
            f"a@{self.host}",
            "",
        ):
            answer = self.enter(host=host)
            self.assertEqual((answer.status, answer["code"]), (403, "gateway_unknown"))

    def test_host_of_another_system(self) -> None:
        """A grant for one system is not sent to the host of another."""
        self.switch(True)
        host = f"{uuid.uuid4()}.relay.example.org:8443"
        self.assertEqual(self.enter(host=host).status, 404)

    def test_malformed(self) -> None:
        """Keys and states that cannot be are refused."""
        self.switch(True)
        for changed in (
            {"client_key": "AAAA"},
            {"state": "x"},
            {"state": "s" * 42 + "&"},
            {"host": None},
            {"more": 1},
        ):
            self.assertEqual(self.enter(**changed).status, 400, changed)

    def test_revoked(self) -> None:
        """Who had a role until a moment ago gets nothing."""
        self.switch(True)
        account = self.world.run(session_of, self.ann, BEARER, "192.0.2.1").account
        self.world.access.revoke(self.system.id, account, self.world.access.now_ms())
        self.assertEqual(self.enter().status, 404)

    def test_written_down(self) -> None:
        """The owner finds in the log who looked, through which relay."""
        self.switch(True)
        self.enter()
        answer = self.world.ask("GET", f"{self.path}/log", token=self.ann)
        entry = answer["entries"][0]
        self.assertEqual(entry["action"], "browser.entered")
        self.assertEqual((entry["who"], entry["detail"]), ("ann", {"host": self.host}))

    def test_named(self) -> None:
        """The portal learns where systems can be opened, to show a link."""
        shown = self.world.ask("GET", "/cloud")
        self.assertEqual(shown["web_gateways"], ["relay.example.org:8443"])


class WebGatewayTests(SynchronousTestCase):
    """What an operator says of relays that let browsers in."""

    def test_read(self) -> None:
        """A domain, with a port if it is another than that of https."""
        gateway = WebGateway.parse("Relay.example.org")
        self.assertEqual(
            (gateway.domain.name, gateway.port), ("relay.example.org", 443)
        )
        self.assertEqual(WebGateway.parse("relay.example.org:8443").port, 8443)
        for text in ("relay.example.org", "relay.example.org:8443"):
            self.assertEqual(str(WebGateway.parse(text)), text)

    def test_refused(self) -> None:
        """Anything else is told what would be right."""
        for text in ("", "https://x", "a:", "a:0", "a:b", "a:1:2", "192.0.2.1"):
            error = self.assertRaises(ValueError, WebGateway.parse, text)
            self.assertIn("expected", str(error))
