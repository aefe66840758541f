"""What a mediator sees, written down together."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.audit import read_system_log
from dwcloud.accounts.recorder import Connection, Recorder
from dwcloud.accounts.systems import known_servers
from tests.unit.accounts.store_world import StoreWorld


class RecorderTests(SynchronousTestCase):
    """Once a second, without losing what comes meanwhile."""

    def setUp(self) -> None:
        self.world = StoreWorld()
        self.ann = self.world.actor("ann")
        self.system = self.world.system(self.ann).id
        self.clock = Clock()
        self.recorder = Recorder(self.clock, self.world.store)

    def connection(self, outcome: str = "ok") -> Connection:
        return Connection(
            session=uuid.UUID(int=5),
            system=self.system,
            server=uuid.UUID(int=1),
            account=None,
            who="bob",
            client="laptop",
            outcome=outcome,
            path="udp",
            seconds=0.25,
            address="192.0.2.9",
        )

    def entries(self) -> list[Any]:
        log = self.world.run(read_system_log, self.system, None, 1000)
        return [entry for entry in log if entry.action == "connection"]

    def test_written(self) -> None:
        """What happened is in the log a second later."""
        self.recorder.connection(self.connection())
        self.recorder.server_seen(self.system, uuid.UUID(int=1))
        self.assertEqual(self.entries(), [])
        self.clock.advance(1)
        [entry] = self.entries()
        self.assertEqual(
            (entry.who, entry.outcome, entry.address), ("bob", "ok", "192.0.2.9")
        )
        self.assertEqual(entry.detail["path"], "udp")
        self.assertEqual(entry.detail["session"], str(uuid.UUID(int=5)))
        seen = self.world.run(known_servers, self.ann, [self.system])
        self.assertEqual(list(seen[self.system]), [uuid.UUID(int=1)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_together(self) -> None:
        """Many are one transaction."""
        transactions = []
        run = self.world.store.run
        self.patch(
            self.world.store,
            "run",
            lambda *args, **named: (transactions.append(args), run(*args, **named))[1],
        )
        for _ in range(500):
            self.recorder.connection(self.connection())
        self.clock.advance(1)
        self.assertEqual(len(transactions), 1)
        self.assertEqual(len(self.entries()), 500)

    def test_meanwhile(self) -> None:
        """What comes while the last is being written is written next."""
        slow: Deferred[None] = Deferred()
        run = self.world.store.run
        self.patch(self.world.store, "run", lambda *args: slow)
        self.recorder.connection(self.connection("first"))
        self.clock.advance(1)
        self.world.store.run = run  # type: ignore[method-assign]
        self.recorder.connection(self.connection("second"))
        self.clock.advance(5)
        self.assertEqual(self.entries(), [])
        slow.callback(None)
        self.clock.advance(1)
        self.assertEqual([e.outcome for e in self.entries()], ["second"])

    def test_flood(self) -> None:
        """What comes faster than can be written is dropped, and counted."""
        for number in range(5_010):
            self.recorder.connection(self.connection())
            self.recorder.server_seen(self.system, uuid.UUID(int=number))
        self.assertEqual(self.recorder.dropped, 20)

    def test_flush(self) -> None:
        """At the end all is written at once."""
        self.successResultOf(self.recorder.flush())
        self.recorder.connection(self.connection())
        self.successResultOf(self.recorder.flush())
        self.assertEqual(len(self.entries()), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """A database that fails is told, and what comes later is written."""
        run = self.world.store.run
        self.patch(self.world.store, "run", lambda *args: fail(ZeroDivisionError()))
        self.recorder.connection(self.connection("first"))
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.world.store.run = run  # type: ignore[method-assign]
        self.recorder.connection(self.connection("second"))
        self.clock.advance(1)
        self.assertEqual([e.outcome for e in self.entries()], ["second"])
