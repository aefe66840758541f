"""What a mediator with accounts writes down and tells of servers and connections."""

from __future__ import annotations

import uuid
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.access import AccessTable
from dwcloud.accounts.api.events import EventBus
from dwcloud.accounts.audit import read_system_log
from dwcloud.accounts.recorder import Recorder
from dwcloud.accounts.store import Store
from dwcloud.accounts.systems import (
    bind_system,
    known_servers,
    new_challenge,
    unbind_system,
)
from dwcloud.mediator.account_keeping import AccountsObserver, RegistryPresence
from dwcloud.net.signing import SigningKey
from dwcloud.protocol.grants import Role
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.activity import Activity
from dwcloud.protocol.mediation.messages import ConnectionResult
from dwcloud.protocol.mediation.result_codes import ResultCode
from tests.unit.accounts.store_world import StoreWorld

from .world import IDENTITIES, SYSTEM, MediatedWorld

NAME = IDENTITIES[0].name
GUID = SYSTEM.name.system


class Events(EventBus):
    """Remembers what is told."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.told: list[tuple[str, dict[str, Any]]] = []

    def publish(self, system: uuid.UUID, event: str, data: Any) -> None:
        assert system == GUID
        self.told.append((event, dict(data)))


@attrs.frozen
class Accounts:
    """What the observer needs of the service."""

    access: AccessTable
    events: Events
    recorder: Recorder
    store: Store


class _Later:
    """An observer that is there once the reactor of the world is."""

    def __init__(self) -> None:
        self.observer: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.observer, name)


class ObserverTests(SynchronousTestCase):
    """A bound system with one server, a member and strangers."""

    def setUp(self) -> None:
        self.store = StoreWorld()
        self.ann = self.store.actor("ann")
        self.key = SigningKey.generate()
        self.table = AccessTable(
            self.key,
            lambda: self.world.world.seconds(),
            lambda size: uuid.uuid4().bytes,
        )
        later: Any = _Later()
        self.world = MediatedWorld(admitter=self.table, observer=later)
        reactor: Any = self.world.host.reactor
        self.events = Events(reactor)
        self.recorder = Recorder(reactor, self.store.store)
        later.observer = self.observer = AccountsObserver(
            reactor,
            Accounts(self.table, self.events, self.recorder, self.store.store),  # type: ignore[arg-type]
        )
        self.bind()
        self.server = self.world.online_server()
        self.client = self.world.client()

    def bind(self) -> None:
        """Bind the system to Ann."""
        self.store.run(
            bind_system,
            self.ann,
            "garage",
            system=GUID,
            public_key=b"",
            nonce=self.store.run(new_challenge, self.ann),
        )
        self.table.load(GUID, public=False, web=False)

    def connect(self, grant: bool = True) -> uuid.UUID:
        """Ask for an introduction; return the session."""
        session = uuid.uuid4()
        encoded = None
        if grant:
            encoded = self.table.issue(
                GUID,
                self.ann.account,
                Role.OWNER,
                b"k" * 32,
                account_name="ann",
                asked_ms=self.table.now_ms(),
            ).encoded
        asking = self.client.mediator.request_connection(
            session, NAME, "laptop", grant=encoded
        )
        asking.addErrback(lambda failure: None)
        self.world.world.run_until(asking, 10.0)
        return session

    def report(self, session: uuid.UUID, result: ResultCode, path: str | None) -> None:
        """Tell how it ended."""
        told = ConnectionResult(
            session_id=session, result=result, path=path, connect_time=0.25
        )
        self.world.mediator.receive_result(told.to_stun(b"transactions"))

    def entries(self) -> list[Any]:
        self.world.world.advance(2.0)
        log = self.store.run(read_system_log, GUID, None, 100)
        return [entry for entry in log if entry.action == "connection"]

    def test_server(self) -> None:
        """A server is remembered, and its coming and going is told."""
        self.world.world.advance(2.0)
        known = self.store.run(known_servers, self.ann, [GUID])
        self.assertEqual(list(known[GUID]), [NAME.server])
        presence = RegistryPresence(self.world.mediator.registry)
        self.assertEqual(list(presence.online(GUID)), [NAME.server])
        self.server.link.stopService()
        self.world.world.advance(1.0)
        self.assertEqual(presence.online(GUID), {})
        self.assertEqual(
            [data["online"] for event, data in self.events.told if event == "server"],
            [True, False],
        )

    def test_connection(self) -> None:
        """A connection is written down with who made it, and its path."""
        session = self.connect()
        self.report(session, ResultCode.OK, "udp")
        [entry] = self.entries()
        self.assertEqual((entry.who, entry.outcome), ("ann", "ok"))
        self.assertEqual(
            entry.detail,
            {
                "session": log_id(session),
                "server": str(NAME.server),
                "client": "laptop",
                "path": "udp",
                "seconds": 0.25,
            },
        )
        self.assertEqual(entry.address, "198.51.100.3")
        [told] = [data for event, data in self.events.told if event == "connection"]
        self.assertEqual((told["who"], told["path"]), ("ann", "udp"))

    def test_failure(self) -> None:
        """So is one that failed, with the reason."""
        self.report(self.connect(), ResultCode.NO_SUITABLE_METHOD, None)
        [entry] = self.entries()
        self.assertEqual(entry.outcome, ResultCode.NO_SUITABLE_METHOD.label)
        self.assertEqual(entry.detail["path"], "")

    def test_offline(self) -> None:
        """And one that could not begin."""
        self.server.link.stopService()
        self.world.world.advance(1.0)
        self.connect()
        [entry] = self.entries()
        self.assertEqual(entry.outcome, ResultCode.PEER_OFFLINE.label)

    def test_guest(self) -> None:
        """To a public system somebody comes who has no name."""
        self.table.change(GUID, public=True, web=False)
        self.report(self.connect(grant=False), ResultCode.OK, "tcp")
        [entry] = self.entries()
        self.assertEqual((entry.who, entry.outcome), ("", "ok"))

    def test_stranger(self) -> None:
        """A stranger does not fill the log of a system."""
        self.connect(grant=False)
        self.assertEqual(self.entries(), [])
        self.assertEqual(
            [event for event, _ in self.events.told if event == "connection"], []
        )

    def test_nobodys(self) -> None:
        """Of a system that nobody owns nothing is told or written."""
        self.table.unbind(GUID)
        self.events.told.clear()
        self.world.world.advance(5.0)
        self.assertEqual(self.events.told, [])
        self.assertEqual(self.entries(), [])

    def told(self, event: str) -> list[dict[str, Any]]:
        """What was told of one kind, without what came before."""
        self.world.world.advance(1.0)
        found = [data for kind, data in self.events.told if kind == event]
        self.events.told.clear()
        return found

    def test_activity(self) -> None:
        """A system that is watched has its server asked, whose answer is told."""
        self.observer.attach(self.world.mediator)
        self.server.link.report(Activity(0, ()))
        self.assertEqual(self.told("activity"), [])
        self.events.on_watched(GUID, True)
        self.world.world.advance(1.0)
        self.assertEqual(self.server.watched, 1)
        self.server.link.report(Activity(0, ()))
        expected = {"server": str(NAME.server), "count": 0, "streams": []}
        self.assertEqual(self.told("activity"), [expected])

    def test_server_comes_back(self) -> None:
        """A server that comes while its system is watched is asked as well."""
        self.observer.attach(self.world.mediator)
        self.events.on_watched(GUID, True)
        other = self.world.online_server("198.51.100.7", IDENTITIES[1])
        self.assertEqual(other.watched, 1)

    def test_activity_of_nobodys_system(self) -> None:
        """What a server tells whose system was unbound meanwhile is told to nobody."""
        self.observer.attach(self.world.mediator)
        self.events.on_watched(GUID, True)
        self.table.unbind(GUID)
        self.events.told.clear()
        self.observer.activity_reported(NAME, Activity(0, ()))
        self.assertEqual(self.told("activity"), [])

    def test_last_outcome(self) -> None:
        """Who begins to watch learns how it went last; a later owner does not."""
        self.observer.attach(self.world.mediator)
        self.events.on_watched(GUID, True)
        self.assertEqual(self.told("outcome"), [])
        self.report(self.connect(), ResultCode.TIMED_OUT, None)
        [at_once] = self.told("outcome")
        self.assertEqual((at_once["outcome"], at_once["path"]), ("timed out", ""))
        self.events.on_watched(GUID, False)
        self.assertEqual(self.told("outcome"), [])
        self.events.on_watched(GUID, True)
        self.assertEqual(self.told("outcome"), [at_once])
        self.store.run(unbind_system, self.ann, GUID)
        self.events.on_watched(GUID, True)
        self.assertEqual(self.told("outcome"), [])
