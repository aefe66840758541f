"""A mediator with accounts, asked over real TLS."""

from __future__ import annotations

import base64
import contextlib
import os
import sqlite3
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dwcloud.accounts.refusals import Refused
from dwcloud.errors import ConfigurationError
from dwcloud.net.identity import SystemIdentity
from dwcloud.net.signing import SigningKey, verifier
from dwcloud.protocol.grants import AccessGrant, Role
from dwcloud.protocol.mediation.admittance import NotBound
from dwcloud.protocol.names import PeerName
from tests.integration.accounts_cloud import (
    PASSWORD,
    AccountsCloud,
    Answer,
    encode,
)

IDENTITY = SystemIdentity.generate()


class AccountsCase(TestCase):
    """A mediator with accounts in the test's own process."""

    timeout = 60
    registration = "open"

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.directory = Path(self.mktemp())
        self.start()
        self.addCleanup(lambda: self.cloud.stop())

    def make_options(self) -> dict[str, Any]:
        """Return what else there is to say of the accounts."""
        return {}

    def start(self) -> None:
        """Start a mediator on what is in the directory."""
        self.cloud = AccountsCloud(
            self.reactor,
            self.directory,
            registration=self.registration,
            **self.make_options(),
        )

    @inlineCallbacks
    def restart(self) -> Generator[Any, Any, None]:
        """Stop the mediator and start one on the same directory."""
        yield self.cloud.stop()
        self.start()

    def assertRefused(self, answer: Answer, status: int, code: str) -> None:
        """Check that an answer is this refusal."""
        self.assertEqual((answer.status, answer["code"]), (status, code))
        self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
        self.assertEqual(answer["status"], status)


class SignInTests(AccountsCase):
    """From registration to the end of a session."""

    @inlineCallbacks
    def test_session(self) -> Generator[Any, Any, None]:
        """One registers, signs in, renews the session, and signs out."""
        body = {"name": "Ann", "password": PASSWORD}
        made = yield self.cloud.request("POST", "/accounts", body)
        self.assertEqual(made.status, 201)
        again = yield self.cloud.request("POST", "/accounts", body)
        self.assertRefused(again, 409, "name_taken")
        opened = yield self.cloud.request("POST", "/sessions", body)
        self.assertEqual((opened.status, opened["expires_in"]), (201, 900))
        self.assertEqual(opened["account"], made["account"])
        renewed = yield self.cloud.request(
            "POST", "/sessions/refresh", {"refresh_token": opened["refresh_token"]}
        )
        for token, status in (
            (opened["access_token"], 401),
            (renewed["access_token"], 200),
        ):
            answer = yield self.cloud.request("GET", "/account", token=token)
            self.assertEqual(answer.status, status)
        token = renewed["access_token"]
        gone = yield self.cloud.request("DELETE", "/sessions/current", token=token)
        self.assertEqual((gone.status, gone.content), (204, b""))
        answer = yield self.cloud.request("GET", "/account", token=token)
        self.assertRefused(answer, 401, "signed_out")
        dead = yield self.cloud.request(
            "POST", "/sessions/refresh", {"refresh_token": renewed["refresh_token"]}
        )
        self.assertRefused(dead, 401, "session_ended")

    @inlineCallbacks
    def test_wrong(self) -> Generator[Any, Any, None]:
        """An unknown name and a wrong password get the same answer."""
        yield self.cloud.person("ann")
        answers = []
        for name, password in (("ann", "kettle orbit 8"), ("bob", PASSWORD)):
            answer = yield self.cloud.request(
                "POST", "/sessions", {"name": name, "password": password}
            )
            self.assertRefused(answer, 401, "bad_credentials")
            answers.append((answer.headers, answer.content))
        self.assertEqual(answers[0], answers[1])

    @inlineCallbacks
    def test_lock(self) -> Generator[Any, Any, None]:
        """After five wrong passwords the right one does not help, for a while."""
        yield self.cloud.person("ann")
        body = {"name": "ann", "password": "kettle orbit 8"}
        answers = yield gatherResults(
            [self.cloud.request("POST", "/sessions", body) for _ in range(8)]
        )
        self.assertEqual(sorted(a.status for a in answers), [401] * 5 + [429] * 3)
        answer = yield self.cloud.request(
            "POST", "/sessions", {"name": "ANN", "password": PASSWORD}
        )
        self.assertRefused(answer, 429, "locked")
        self.assertLessEqual(int(answer.headers["Retry-After"]), 60)

    @inlineCallbacks
    def test_lock_over_a_restart(self) -> Generator[Any, Any, None]:
        """A mediator that starts again has not forgotten the wrong passwords."""
        yield self.cloud.person("ann")
        body = {"name": "ann", "password": "kettle orbit 8"}
        yield gatherResults(
            [self.cloud.request("POST", "/sessions", body) for _ in range(5)]
        )
        yield self.restart()
        body["password"] = PASSWORD
        answer = yield self.cloud.request("POST", "/sessions", body)
        self.assertRefused(answer, 429, "locked")

    def test_second_mediator(self) -> None:
        """It refuses to start on the same accounts, and tells who has them."""
        error = self.assertRaises(ConfigurationError, self.second)
        self.assertIn(f"({os.getpid()})", str(error))
        self.assertIn("another mediator", str(error))

    def second(self) -> None:
        """Start a second mediator, which fails."""
        cloud = self.cloud
        try:
            self.start()
        finally:
            self.cloud = cloud

    @inlineCallbacks
    def test_cookie(self) -> Generator[Any, Any, None]:
        """A browser has a cookie, and shows with each change that it is this site's."""
        yield self.cloud.person("ann")
        opened = yield self.cloud.request(
            "POST",
            "/sessions",
            {"name": "ann", "password": PASSWORD, "cookie": True},
        )
        self.assertNotIn("access_token", opened.body)
        cookie, *attributes = opened.headers["Set-Cookie"].split("; ")
        for attribute in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
            self.assertIn(attribute, attributes)
        shown = yield self.cloud.request("GET", "/account", headers={"Cookie": cookie})
        self.assertEqual(shown["csrf_token"], opened["csrf_token"])
        for headers, status in (
            ({}, 403),
            ({"X-DWCloud-CSRF": "0" * 64}, 403),
            ({"X-DWCloud-CSRF": opened["csrf_token"], "Origin": "https://evil"}, 403),
            (
                {
                    "X-DWCloud-CSRF": opened["csrf_token"],
                    "Sec-Fetch-Site": "cross-site",
                },
                403,
            ),
            ({"X-DWCloud-CSRF": opened["csrf_token"]}, 201),
        ):
            answer = yield self.cloud.request(
                "POST", "/systems/challenge", headers={"Cookie": cookie, **headers}
            )
            self.assertEqual(answer.status, status, headers)
        gone = yield self.cloud.request(
            "DELETE",
            "/sessions/current",
            headers={"Cookie": cookie, "X-DWCloud-CSRF": opened["csrf_token"]},
        )
        self.assertIn("Max-Age=0", gone.headers["Set-Cookie"])
        answer = yield self.cloud.request("GET", "/account", headers={"Cookie": cookie})
        self.assertEqual(answer.status, 401)


class SystemTests(AccountsCase):
    """Systems and who may do what with them."""

    @inlineCallbacks
    def test_life(self) -> Generator[Any, Any, None]:
        """A system is bound, shared, used by a grant, and unbound."""
        ann = yield self.cloud.person("ann")
        bob = yield self.cloud.person("bob")
        bound = yield ann.bind(IDENTITY)
        self.assertEqual(bound.status, 201)
        system = bound["system"]
        self.assertEqual(system["id"], str(IDENTITY.name.system))
        self.assertEqual((system["role"], system["state"]), ("owner", "offline"))
        path = f"/systems/{system['id']}"
        stranger = yield bob.request("GET", path)
        nothing = yield bob.request("GET", f"/systems/{uuid.uuid4()}")
        self.assertRefused(stranger, 404, "no_such_system")
        self.assertEqual(stranger, nothing)
        taken = yield bob.bind(IDENTITY)
        self.assertRefused(taken, 409, "bound")
        shared = yield ann.request("PUT", f"{path}/members/Bob", {"role": "viewer"})
        self.assertEqual((shared["account"], shared["role"]), ("bob", "viewer"))
        listed = yield bob.request("GET", "/systems")
        self.assertEqual(listed["systems"][0]["owner"], "ann")
        client = SigningKey.generate()
        issued = yield bob.request(
            "POST", f"{path}/grants", {"client_key": encode(client.public_key)}
        )
        key = base64.b64decode(bound["cloud_key"])
        grant = AccessGrant.decode(base64.b64decode(issued["grant"]), verifier(key))
        self.assertEqual(grant.target, PeerName(IDENTITY.name.system))
        self.assertEqual((grant.role, grant.account_name), (Role.VIEWER, "bob"))
        self.assertEqual(grant.client_key, client.public_key)
        log = yield ann.request("GET", f"{path}/log?limit=2")
        self.assertEqual(
            [entry["action"] for entry in log["entries"]],
            ["member.added", "system.bound"],
        )
        gone = yield ann.request("DELETE", path)
        self.assertEqual(gone.status, 204)
        answer = yield bob.request("GET", path)
        self.assertRefused(answer, 404, "no_such_system")

    @inlineCallbacks
    def test_restart(self) -> Generator[Any, Any, None]:
        """What was made is there after a restart, and enforced."""
        ann = yield self.cloud.person("ann")
        yield ann.bind(IDENTITY)
        key = (self.directory / "cloud.pub").read_text()
        yield self.restart()
        self.assertEqual((self.directory / "cloud.pub").read_text(), key)
        answer = yield self.cloud.request("GET", "/systems", token=ann.token)
        [system] = answer["systems"]
        self.assertEqual(system["name"], "garage")
        name = PeerName(IDENTITY.name.system, uuid.uuid4())
        self.cloud.service.mediator.check_registration(name)

    @inlineCallbacks
    def test_invitation(self) -> Generator[Any, Any, None]:
        """A code that one sends gives the other a role."""
        ann = yield self.cloud.person("ann")
        bob = yield self.cloud.person("bob")
        bound = yield ann.bind(IDENTITY)
        path = f"/systems/{bound['system']['id']}"
        made = yield ann.request(
            "POST", f"{path}/invitations", {"role": "administrator"}
        )
        self.assertEqual(made.status, 201)
        accepted = yield bob.request(
            "POST", "/invitations/accept", {"code": made["code"]}
        )
        self.assertEqual(accepted["system"]["role"], "administrator")
        members = yield bob.request("GET", f"{path}/members")
        self.assertEqual(
            [(m["account"], m["role"]) for m in members["members"]],
            [("ann", "owner"), ("bob", "administrator")],
        )

    @inlineCallbacks
    def test_bad_proof(self) -> Generator[Any, Any, None]:
        """A signature for another account binds nothing."""
        ann = yield self.cloud.person("ann")
        bob = yield self.cloud.person("bob")
        other = type(ann)(self.cloud, bob.account, ann.token)
        answer = yield other.bind(IDENTITY)
        self.assertRefused(answer, 400, "bad_signature")

    def test_unbound(self) -> None:
        """A cloud that was just made lets no server register that nobody owns."""
        mediator = self.cloud.service.mediator
        name = PeerName(IDENTITY.name.system, uuid.uuid4())
        error = self.assertRaises(NotBound, mediator.check_registration, name)
        self.assertEqual(error.code, 403)

    def test_two_mediators(self) -> None:
        """A second mediator on the same directory does not start."""
        error = self.assertRaises(
            ConfigurationError, AccountsCloud, self.reactor, self.directory
        )
        self.assertIn(str(self.directory), str(error))


class InvitedTests(AccountsCase):
    """A cloud whose operator lets only invited people in."""

    registration = "invited"

    @inlineCallbacks
    def test_first(self) -> Generator[Any, Any, None]:
        """The first account is made by the invitation that the start left."""
        body = {"name": "ann", "password": PASSWORD}
        answer = yield self.cloud.request("POST", "/accounts", body)
        self.assertRefused(answer, 403, "invitation_needed")
        path = self.directory / "invitation"
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        body["invitation"] = path.read_text().strip()
        answer = yield self.cloud.request("POST", "/accounts", body)
        self.assertEqual(answer.status, 201)


class TheftTests(AccountsCase):
    """What a thief of the database has."""

    def stored(self) -> tuple[str, bytes]:
        """Return all that is kept, as text and as it is on the disk."""
        path = self.directory / "accounts.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as database:
            return "\n".join(database.iterdump()), path.read_bytes()

    @inlineCallbacks
    def test_nothing_plain(self) -> Generator[Any, Any, None]:
        """No secret that was ever given out is in it, as it was given out or raw."""
        ann = yield self.cloud.person("ann")
        opened = yield self.cloud.request(
            "POST", "/sessions", {"name": "ann", "password": PASSWORD}
        )
        cookie = yield self.cloud.request(
            "POST",
            "/sessions",
            {"name": "ann", "password": PASSWORD, "cookie": True},
        )
        bound = yield ann.bind(IDENTITY)
        made = yield ann.request(
            "POST",
            f"/systems/{bound['system']['id']}/invitations",
            {"role": "viewer"},
        )
        system = bound["system"]["id"]
        token = yield ann.request("POST", f"/systems/{system}/tokens", {})
        challenge = yield ann.request("POST", "/systems/challenge")
        totp = yield ann.request("POST", "/account/totp")
        import pyotp

        codes = yield ann.request(
            "POST",
            "/account/totp/confirm",
            {"code": pyotp.TOTP(totp["secret"]).now()},
        )
        yield self.cloud.stop()
        secrets = [
            PASSWORD,
            ann.token,
            opened["access_token"],
            opened["refresh_token"],
            cookie.headers["Set-Cookie"].partition("=")[2].partition(";")[0],
            cookie["csrf_token"],
            made["code"],
            token["access_token"],
            totp["secret"],
            *codes["recovery_codes"],
        ]
        raw = [base64.b64decode(challenge["nonce"])]
        for token in (ann.token, opened["refresh_token"]):
            raw.append(base64.urlsafe_b64decode(token + "="))
        raw.append(base64.b32decode(totp["secret"]))
        dump, stored = self.stored()
        self.assertIn("ann", dump)
        for secret in secrets:
            self.assertGreater(len(secret), 8)
            for form in {secret, secret.replace("-", ""), secret.upper()}:
                self.assertNotIn(form, dump)
                self.assertNotIn(form.encode(), stored)
        for data in raw:
            self.assertNotIn(data.hex(), dump.lower())
            self.assertNotIn(data, stored)
        self.start()


class TransportTests(AccountsCase):
    """The one port on which all is spoken."""

    @inlineCallbacks
    def test_loopback(self) -> Generator[Any, Any, None]:
        """From the same machine, as from a server in front, plain HTTP is answered."""
        answer = yield self.cloud.request("GET", "/cloud", tls=False)
        self.assertEqual(answer.status, 200)

    @inlineCallbacks
    def test_large(self) -> Generator[Any, Any, None]:
        """A request that is too large is refused, and costs nobody else anything."""
        answer = yield self.cloud.request(
            "POST",
            "/sessions",
            b" " * 70_000,
            headers={"Content-Type": "application/json"},
        )
        self.assertEqual(answer.status, 413)

    @inlineCallbacks
    def test_many(self) -> Generator[Any, Any, None]:
        """Requests at once are all answered, while passwords are being hashed."""
        people = [self.cloud.person(f"person{n}") for n in range(6)]
        answers = [self.cloud.request("GET", "/cloud") for _ in range(20)]
        found = yield gatherResults(answers)
        self.assertEqual({a.status for a in found}, {200})
        yield gatherResults(people)

    @inlineCallbacks
    def test_stopped(self) -> Generator[Any, Any, None]:
        """Requests that come while it is being stopped are told so."""
        ann = yield self.cloud.person("ann")
        yield self.cloud.service.stopService()
        accounts: Any = self.cloud.service._parts[0]
        error = yield self.assertFailure(
            accounts.store.run(lambda transaction: None), Refused
        )
        self.assertEqual((error.status, error.code), (503, "unavailable"))
        self.start()
        answer = yield self.cloud.request("GET", "/account", token=ann.token)
        self.assertEqual(answer.status, 200)

    @inlineCallbacks
    def test_client_leaves(self) -> Generator[Any, Any, None]:
        """What a client asked for is done, though it did not wait for the answer."""
        ann = yield self.cloud.person("ann")
        connection = self.cloud.connection()

        def leave() -> None:
            connection.request(
                "POST",
                "/api/v1/account/totp",
                headers={"Authorization": f"Bearer {ann.token}"},
            )
            connection.close()

        from twisted.internet.threads import deferToThread

        yield deferToThread(leave)
        yield deferLater(self.reactor, 0.2, lambda: None)
        answer = yield ann.request("GET", "/account")
        self.assertEqual(answer.status, 200)
