"""Server-sent events: who hears of what, and when that ends."""

from __future__ import annotations

import json
import uuid
from typing import Any

from twisted.internet.defer import fail
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from dwcloud.net.http_messages import StreamBodies
from tests.unit.accounts.api_world import APICase

EVENT = {"server": "s", "online": True}


class Body:
    """The body of an answer, as the HTTP server has it."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = ""
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        self.ended = "closed"

    def abortConnection(self) -> None:
        self.ended = "aborted"

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written


class EventTests(APICase):
    """Streams of somebody who has a system, and of somebody who has none."""

    def setUp(self) -> None:
        super().setUp()
        self.ann, self.bob = self.world.token("ann"), self.world.token("bob")
        self.system = self.world.system_of(self.ann)

    def watch(self, token: str) -> tuple[Body, Any]:
        """Open a stream."""
        reply = self.world.reply("GET", "/events", token=token)
        assert isinstance(reply, StreamBodies)
        self.assertEqual(reply.content_type, "text/event-stream")
        body: Any = Body()
        receiver = reply.start(body)
        head = b"retry: 2000\n\nevent: watching\ndata: {}\n\n"
        self.assertEqual(body.take(), head)
        return body, receiver

    def publish(self) -> None:
        self.world.events.publish(self.system.id, "server", EVENT)

    def test_told(self) -> None:
        """Those who have a role on a system hear of it, others do not."""
        ann, _ = self.watch(self.ann)
        bob, _ = self.watch(self.bob)
        self.publish()
        self.world.events.publish(uuid.uuid4(), "server", EVENT)
        self.assertEqual(
            ann.take(),
            b'event: server\ndata: {"system":"%s","server":"s","online":true}\n\n'
            % str(self.system.id).encode(),
        )
        self.assertEqual(bob.take(), b"")

    def test_role(self) -> None:
        """Who gets a role hears from then on, who loses it no more."""
        bob, _ = self.watch(self.bob)
        path = f"/systems/{self.system.id}/members/bob"
        self.ask("PUT", path, {"role": "viewer"}, token=self.ann)
        self.assertIn(b"event: system\n", bob.take())
        self.publish()
        self.assertIn(b"event: server\n", bob.take())
        self.ask("DELETE", path, token=self.ann)
        bob.take()
        self.publish()
        self.assertEqual(bob.take(), b"")

    def test_watched(self) -> None:
        """What is watched is known at once, and while that goes on."""
        watched: list[tuple[uuid.UUID, bool]] = []
        self.world.events.on_watched = lambda *told: watched.append(told)
        self.watch(self.ann)
        self.watch(self.bob)
        self.assertEqual(watched, [(self.system.id, True)])
        self.world.advance(20)
        self.assertEqual(watched[1:], [(self.system.id, False)])

    def test_watching(self) -> None:
        """A page is told when another system begins to be among what it hears of."""
        bob, _ = self.watch(self.bob)
        path = f"/systems/{self.system.id}/members/bob"
        self.ask("PUT", path, {"role": "viewer"}, token=self.ann)
        self.assertIn(b"event: watching\n", bob.take())
        self.ask("PUT", path, {"role": "administrator"}, token=self.ann)
        self.assertNotIn(b"event: watching\n", bob.take())

    def test_names(self) -> None:
        """A viewer hears of all that happens, and no names but his own."""
        path = f"/systems/{self.system.id}/members/bob"
        self.ask("PUT", path, {"role": "viewer"}, token=self.ann)
        ann, bob = self.watch(self.ann)[0], self.watch(self.bob)[0]
        streams = [
            {"account": "ann", "client": "laptop", "path": "udp"},
            {"account": "bob", "client": "phone", "path": "tcp"},
        ]
        for who in ("ann", "bob"):
            data = {"who": who, "streams": streams}
            self.world.events.publish(self.system.id, "activity", data)
        told = [self.data(body) for body in (ann, bob)]
        self.assertEqual([t["who"] for t in told[0]], ["ann", "bob"])
        self.assertEqual([t["who"] for t in told[1]], ["", "bob"])
        self.assertEqual(told[0][0]["streams"], streams)
        self.assertEqual(
            told[1][0]["streams"],
            [{"account": "", "client": "", "path": "udp"}, streams[1]],
        )

    def data(self, body: Body) -> list[Any]:
        """Return the data of the events that were written."""
        lines = body.take().decode().splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    def test_session(self) -> None:
        """The stream ends with the session that opened it."""
        ann, _ = self.watch(self.ann)
        self.ask("DELETE", "/sessions/current", token=self.ann)
        self.world.advance(20)
        self.assertEqual(ann.ended, "closed")
        self.assertEqual(len(self.world.events), 0)

    def test_kept_alive(self) -> None:
        """It says something every 20 seconds, and ends after ten minutes."""
        ann, _ = self.watch(self.ann)
        for _ in range(29):
            self.world.advance(20)
            self.assertEqual(ann.take(), b": still here\n\n")
        self.world.advance(20)
        self.assertEqual(ann.ended, "closed")
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_left(self) -> None:
        """A browser that is gone is forgotten."""
        ann, receiver = self.watch(self.ann)
        receiver.dataReceived(b"")
        receiver.bodyEnded()
        receiver.carrierLost(Failure(ConnectionDone()))
        self.publish()
        self.assertEqual(ann.take(), b"")
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_slow(self) -> None:
        """One that does not read costs no memory without end."""
        ann, _ = self.watch(self.ann)
        ann.producer.pauseProducing()
        for _ in range(200):
            self.publish()
        self.assertEqual(ann.ended, "")
        ann.producer.resumeProducing()
        ann.producer.pauseProducing()
        for _ in range(300):
            self.publish()
        self.assertEqual(ann.ended, "aborted")
        self.assertEqual(len(self.world.events), 0)
        ann.producer.stopProducing()

    def test_number(self) -> None:
        """An account has ten; one more ends the oldest."""
        bodies = [self.watch(self.ann)[0] for _ in range(11)]
        self.assertEqual([b.ended for b in bodies], ["closed"] + [""] * 10)
        self.world.events.close()
        self.assertEqual({b.ended for b in bodies}, {"closed"})

    def test_failure(self) -> None:
        """If nobody knows what may be watched, nothing is."""
        ann, _ = self.watch(self.ann)
        self.patch(self.world.store, "run", lambda *a: fail(ZeroDivisionError()))
        self.world.advance(20)
        self.assertEqual(ann.ended, "closed")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
