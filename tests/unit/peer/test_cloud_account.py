"""Grants and names of the account that is signed in, and binding of systems."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectError
from zope.interface.verify import verifyObject

from dwcloud.errors import (
    APIRefused,
    ConfigurationError,
    NotSignedIn,
    SystemUnknown,
)
from dwcloud.interfaces import IGrantSource
from dwcloud.net.identity import ServerIdentity, verify_signature
from dwcloud.net.signing import SigningKey, verify
from dwcloud.peer.api_values import Grant
from dwcloud.peer.binding import bind_system
from dwcloud.peer.cloud_account import CloudAccount
from dwcloud.peer.cloud_cache import CloudCache
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.peer.cloud_session import CloudSession
from dwcloud.peer.system_names import IN_USE, SystemReference
from dwcloud.protocol.names import PeerName
from tests.unit.peer.api_world import (
    ACCOUNT,
    CLOUD,
    CLOUD_KEY,
    APITestCase,
    Asked,
    problem,
)

GUID = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"
PEER = PeerName.parse(GUID)
SYSTEM = {"id": GUID, "name": "garage", "owner": "anna", "role": "owner"}
GARAGE = SystemReference.parse("garage")
GRANTS = f"POST /systems/{GUID}/grants"


class AccountTestCase(APITestCase):
    """An account that is signed in and has a system."""

    def setUp(self) -> None:
        """Sign in."""
        super().setUp()
        self.do(self.api().describe())
        self.sign_in(expires_in=10_000_000)
        self.cloud.answers["GET /systems"] = (200, {"systems": [SYSTEM]})
        self.granted = 0
        self.cloud.answers[GRANTS] = self.grant
        self.cloud.asked.clear()
        self.account = self.open()

    def open(self) -> CloudAccount:
        """The account for a new process."""
        account = CloudAccount(
            self.client.reactor, self.api(), self.store, self.directory / "cache.json"
        )
        self.addCleanup(account.close)
        return account

    def grant(self, asked: Asked) -> Any:
        """Grant, for half a day, what can be told from the grant before."""
        self.granted += 1
        octets = base64.b64encode(b"grant %d" % self.granted).decode()
        expires = self.client.reactor.seconds() + 43_200
        return 201, {"grant": octets, "expires": expires}

    def ask(self, renew: bool = False) -> Any:
        """Ask for a grant in a new process."""
        return self.world.run_until(self.open().grant_for(PEER, renew))


class GrantTests(AccountTestCase):
    """What lets the client in."""

    def test_interface(self) -> None:
        """It is a source of grants."""
        verifyObject(IGrantSource, self.account)

    def test_grant(self) -> None:
        """A grant is for the key of the session, which signs for it."""
        grant = self.ask()
        self.assertEqual(grant.encoded, b"grant 1")
        key = SigningKey.from_bytes(b"k" * 32)
        (asked,) = self.cloud.asked
        self.assertEqual(base64.b64decode(asked.value["client_key"]), key.public_key)
        assert grant.sign is not None
        self.assertTrue(verify(key.public_key, grant.sign(b"text"), b"text"))

    def test_at_hand(self) -> None:
        """A grant that is still good is used again by other processes, unasked."""
        self.ask()
        self.world.advance(40_000)
        self.cloud.listen(port=9)
        self.assertEqual(self.ask().encoded, b"grant 1")
        self.assertEqual(len(self.cloud.asked), 1)

    def test_expired(self) -> None:
        """One that is about to end is replaced."""
        self.ask()
        self.world.advance(43_150)
        self.assertEqual(self.ask().encoded, b"grant 2")

    def test_refused(self) -> None:
        """One that was refused is never given again."""
        self.ask()
        self.assertEqual(self.ask(renew=True).encoded, b"grant 2")
        self.assertEqual(self.ask().encoded, b"grant 2")
        self.cloud.answers[GRANTS] = problem(404, "no_such_system")
        self.assertIsNone(self.ask(renew=True))
        self.cloud.listen(port=9)
        self.assertRaises(ConnectError, self.ask)

    def test_other_session(self) -> None:
        """A grant for the key of another session is of no use."""
        self.ask()
        file = self.store.file
        key = base64.b64encode(b"K" * 32).decode()
        old = base64.b64encode(b"k" * 32).decode()
        file.write_text(file.read_text().replace(old, key))
        self.assertEqual(self.ask().encoded, b"grant 2")

    def test_not_signed_in(self) -> None:
        """Who is not signed in has none, and nobody is asked."""
        self.store.remove(CLOUD)
        self.assertIsNone(self.ask())
        self.assertEqual(self.cloud.asked, [])

    def test_no_role(self) -> None:
        """A system on which the account has no role may be public all the same."""
        self.cloud.answers[GRANTS] = problem(404, "no_such_system")
        self.assertIsNone(self.ask())

    def test_failures_are_told(self) -> None:
        """Other refusals are not taken for a missing role."""
        self.cloud.answers[GRANTS] = problem(429, "too_many")
        self.assertRaises(APIRefused, self.ask)


class NameTests(AccountTestCase):
    """Names in place of GUIDs."""

    def resolve(self, reference: SystemReference = GARAGE) -> PeerName:
        """Resolve in a new process."""
        return self.do(self.open().resolve(reference))

    def test_name(self) -> None:
        """A name is asked for once, and then known for an hour."""
        self.assertEqual(self.resolve(), PEER)
        self.world.advance(3500)
        self.assertEqual(self.resolve(), PEER)
        self.assertEqual(self.cloud.questions(), ["GET /systems"])
        self.world.advance(200)
        self.assertEqual(self.resolve(), PEER)
        self.assertEqual(self.cloud.questions(), ["GET /systems"] * 2)

    def test_new_name(self) -> None:
        """A name that is not known is asked for, however new the list is."""
        self.resolve()
        cellar = {**SYSTEM, "name": "cellar"}
        self.cloud.answers["GET /systems"] = (200, {"systems": [cellar]})
        self.assertEqual(self.resolve(SystemReference.parse("cellar")), PEER)
        open_account = self.open()
        self.refused(SystemUnknown, open_account.resolve(GARAGE))

    def test_cloud_out_of_reach(self) -> None:
        """In a LAN without Internet the names of before are good enough."""
        self.resolve()
        self.world.advance(10_000)
        self.cloud.listen(port=9)
        self.assertEqual(self.resolve(), PEER)

    def test_silent_cloud(self) -> None:
        """A cloud that does not answer is not waited for as long as a new one."""
        self.resolve()
        self.world.advance(10_000)
        self.host.power_off()
        before = self.client.reactor.seconds()
        self.assertEqual(self.resolve(), PEER)
        self.assertLess(self.client.reactor.seconds() - before, 5)

    def test_out_of_reach_at_first(self) -> None:
        """Names that were never known are an error."""
        self.cloud.listen(port=9)
        self.refused(ConnectError, self.open().resolve(GARAGE))

    def test_not_signed_in(self) -> None:
        """Names belong to accounts."""
        self.store.remove(CLOUD)
        self.refused(NotSignedIn, self.open().resolve(GARAGE))

    def test_in_use(self) -> None:
        """The system in use needs no question."""
        self.refused(SystemUnknown, self.open().resolve(IN_USE))
        self.store.use_system(CLOUD, PEER.system)
        self.assertEqual(self.resolve(IN_USE), PEER)
        self.assertEqual(self.cloud.asked, [])


class CacheTests(APITestCase):
    """The file that saves questions."""

    def cache(self) -> CloudCache:
        """That of a new process."""
        return CloudCache(CLOUD, bytes(32), self.directory / "cache.json")

    def test_damaged(self) -> None:
        """Whatever is in the file, it is used or replaced, never an error."""
        self.cache().keep_grant(PEER.system, Grant(b"x", 1000.0))
        good = json.loads((self.directory / "cache.json").read_text())
        own = good["clouds"][CLOUD]
        for change in (
            [],
            {"version": 9},
            {**good, "clouds": []},
            {**good, "clouds": {CLOUD: []}},
            {**good, "clouds": {CLOUD: {**own, "grants": []}}},
            {**good, "clouds": {CLOUD: {**own, "grants": {GUID: {}}}}},
            {**good, "clouds": {CLOUD: {**own, "systems": {"at": "x"}}}},
        ):
            (self.directory / "cache.json").write_text(json.dumps(change))
            self.cache().systems()
            self.cache().grant(PEER.system, 0.0)
            self.cache().keep_grant(PEER.system, Grant(b"y", 1000.0))
            self.assertEqual(
                self.cache().grant(PEER.system, 0.0), Grant(b"y", 1000.0), change
            )

    def test_lost_roles(self) -> None:
        """Grants for systems that are not in the list any more are forgotten."""
        self.cache().keep_grant(PEER.system, Grant(b"x", 1000.0))
        self.cache().keep_systems([], 0.0)
        self.assertIsNone(self.cache().grant(PEER.system, 0.0))

    def test_not_writable(self) -> None:
        """Without the file everything works."""
        cache = CloudCache(CLOUD, bytes(32), self.directory / "none" / "x" / "c.json")
        (self.directory / "none").write_text("in the way")
        cache.keep_systems([], 0.0)
        self.assertIsNone(cache.systems())

    @given(st.binary(max_size=100))
    def test_any_content(self, data: bytes) -> None:
        """Any bytes survive."""
        file = self.directory / "any.json"
        file.write_bytes(data)
        self.assertIsNone(CloudCache(CLOUD, bytes(32), file).systems())


class BindingTests(AccountTestCase):
    """Proving that a system is one's own."""

    def setUp(self) -> None:
        """Have a system that is bound to nothing."""
        super().setUp()
        self.identity_directory = self.directory / "identity"
        self.identity = ServerIdentity.create(self.identity_directory)
        self.cloud.answers["POST /systems/challenge"] = (
            201,
            {"nonce": base64.b64encode(b"n" * 32).decode()},
        )
        self.cloud.answers["POST /systems"] = self.bound

    def bound(self, asked: Asked) -> Any:
        """Bind what is proven; the key has to be pinned by then."""
        self.assertIsNotNone(CloudMembership.load(self.identity_directory))
        value = {k: v for k, v in asked.value.items() if k != "name"}
        parts = {name: base64.b64decode(text) for name, text in value.items()}
        account = bytes.fromhex(ACCOUNT["id"].replace("-", ""))
        signed = b"dwcloud bind 1\0" + b"n" * 32 + account + CLOUD_KEY
        if parts["nonce"] != b"n" * 32 or not verify_signature(
            parts["certificate"], parts["signature"], signed
        ):
            return problem(400, "bad_signature")
        system = {**SYSTEM, "id": str(self.identity.name.system)}
        system["name"] = asked.value["name"]
        key = base64.b64encode(CLOUD_KEY).decode()
        return 201, {"system": system, "cloud_key": key}

    def bind(self, name: str = "cellar") -> Any:
        """Bind it."""
        session = CloudSession(self.client.reactor, self.api(), self.store)
        return bind_system(session, self.identity_directory, name)

    def test_bound(self) -> None:
        """The key signs nonce, account and cloud, and the cloud's key is pinned."""
        system = self.do(self.bind())
        self.assertEqual(system.name, "cellar")
        self.assertEqual(
            CloudMembership.load(self.identity_directory),
            CloudMembership(CLOUD, CLOUD_KEY, "cellar"),
        )

    def test_bound_already(self) -> None:
        """What is bound to the account is not bound again; the file is written."""
        system = {**SYSTEM, "id": str(self.identity.name.system)}
        self.cloud.answers["GET /systems"] = (200, {"systems": [system]})
        self.do(self.bind())
        self.assertEqual(self.cloud.questions(), ["GET /systems"])
        membership = CloudMembership.load(self.identity_directory)
        assert membership is not None
        self.assertEqual(membership.name, "garage")

    def test_refused(self) -> None:
        """A refusal names the system, and nothing is written."""
        self.cloud.answers["POST /systems"] = problem(409, "bound", "It is bound.")
        error = self.refused(APIRefused, self.bind())
        self.assertIn(f"{self.identity.name.system} failed: It is bound", str(error))
        self.assertEqual(error.code, "bound")
        self.assertIsNone(CloudMembership.load(self.identity_directory))

    def test_lost_answer(self) -> None:
        """Who does not know whether it was bound lets nobody in without a grant."""
        self.cloud.answers["POST /systems"] = lambda _: self.host.power_off()
        self.refused(ConnectError, self.bind())
        self.assertIsNotNone(CloudMembership.load(self.identity_directory))

    def test_refused_again(self) -> None:
        """A refusal leaves what was pinned before."""
        old = CloudMembership("old.example.org:3345", bytes(32), "old")
        old.save(self.identity_directory)
        self.cloud.answers["POST /systems"] = problem(409, "bound", "It is bound.")
        self.refused(APIRefused, self.bind())
        self.assertEqual(CloudMembership.load(self.identity_directory), old)

    def test_further_server(self) -> None:
        """A server without the system's key cannot bind it, and is told who can."""
        (self.identity_directory / "system.key").unlink()
        error = self.refused(ConfigurationError, self.bind())
        self.assertIn("only the holder of the system's key", str(error))
        self.assertEqual(self.cloud.questions(), ["GET /systems"])
