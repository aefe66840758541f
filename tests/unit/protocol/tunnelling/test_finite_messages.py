"""A byte stream in short requests that get lost, repeated and cut."""

from __future__ import annotations

import math
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.tunnelling.byte_stream import (
    HEAD_SIZE,
    WINDOW,
    Flags,
    Message,
    Receiver,
    Sender,
)
from dwcloud.protocol.tunnelling.finite_messages import (
    HOLD,
    LARGEST_BODY,
    MessageClient,
    MessageServer,
)


class Wire:
    """A client, a server, and a network between them that is as bad as asked for.

    :param faults: share of requests that something happens to.
    """

    def __init__(
        self, seed: int = 0, faults: float = 0.0, round_trip: float = 0.05
    ) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.round_trip = round_trip
        self.body_limit: int | None = None
        self.now = 0.0
        self.client = MessageClient()
        self.server = MessageServer(now=0.0)
        self.queue: list[tuple[float, int, Any]] = []
        self.count = 0
        self.requests = 0
        self.most_in_flight = 0
        self.up = b""
        self.down = b""
        # GET's number to what its answers go through.
        self.waiting: dict[int, list[bool]] = {}

    def later(self, call: Any, delay: float | None = None) -> None:
        half = self.round_trip / 2
        wait = half * (1 + self.random.random()) if delay is None else delay
        self.count += 1
        self.queue.append((self.now + wait, self.count, call))

    def fate(self) -> str:
        if self.random.random() >= self.faults:
            return ""
        return self.random.choice(
            ["lost", "repeated", "answer lost", "error", "repeated late"]
        )

    def send(self) -> None:
        for number in self.client.expired(now=self.now):
            self.client.fail(number, "too late", now=self.now)
        for request in self.client.requests(now=self.now):
            self.requests += 1
            fate = self.fate()
            limit = self.body_limit
            if request.is_post and limit and len(request.body) > limit:
                number = request.number
                self.later(lambda n=number: self.answer(n, 413, b""))
                continue
            if fate == "lost":
                self.later(lambda n=request.number: self.fail(n))
                continue
            self.later(lambda r=request, f=fate: self.arrive(r, f))
            if fate == "repeated":
                self.later(lambda r=request: self.arrive(r, "answer unseen"))
            elif fate == "repeated late":
                self.later(lambda r=request: self.arrive(r, "answer unseen"), 3.0)

    def arrive(self, request: Any, fate: str) -> None:
        if request.is_post:
            body = self.server.receive_post(request.body, now=self.now)
            self.reply(request.number, body, fate)
        else:
            self.server.receive_get(
                request.number, request.body, request.hold, now=self.now
            )
            self.waiting.setdefault(request.number, []).append(fate)  # type: ignore[arg-type]

    def reply(self, number: int, body: bytes, fate: str) -> None:
        if fate in ("answer lost", "error"):
            self.later(lambda: self.fail(number))
        elif fate != "answer unseen":
            self.later(lambda: self.answer(number, 200, body))

    def answer(self, number: int, status: int, body: bytes) -> None:
        self.client.receive_answer(number, status, body, now=self.now)

    def fail(self, number: int) -> None:
        self.client.fail(number, "a fault", now=self.now)

    def step(self) -> None:
        self.send()
        self.server.handle_timer(now=self.now)
        for number, body in self.server.answers(now=self.now):
            for fate in self.waiting.pop(number, []):
                self.reply(number, body, fate)  # type: ignore[arg-type]
        self.up += self.server.receiver.read()
        self.down += self.client.receiver.read()
        self.send()
        times = [at for at, _, _ in self.queue]
        times.append(self.server.next_timer())
        timer = self.client.next_timer()
        if timer is not None:
            times.append(max(timer, self.now + 0.001))
        self.now = max(self.now, min(times))
        due = sorted(item for item in self.queue if item[0] <= self.now)
        self.queue = [item for item in self.queue if item[0] > self.now]
        for _, _, call in due:
            call()

    def run(self, reached: Any, limit: float = 600.0) -> None:
        while not reached():
            assert self.now < limit, (self.now, self.client.lost, self.server.lost)
            self.step()


def data(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


class TransferTests(SynchronousTestCase):
    """Everything arrives exactly once and in order, whatever happens."""

    def transfer(self, wire: Wire, up: bytes, down: bytes) -> None:
        for sender, content in ((wire.client.sender, up), (wire.server.sender, down)):
            sender.write(content)
            sender.finish()
        wire.run(lambda: wire.client.closed and wire.server.closed)
        self.assertEqual(wire.up, up)
        self.assertEqual(wire.down, down)
        self.assertEqual((wire.client.lost, wire.server.lost), ("", ""))

    def test_good_network(self) -> None:
        """Both directions at once, to their ends."""
        self.transfer(Wire(), data(1, 300_000), data(2, 500_000))

    def test_nothing_to_say(self) -> None:
        """A stream may end without a byte."""
        self.transfer(Wire(), b"", b"")

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(0, 1 << 30),
        st.floats(0.0, 0.4),
        st.integers(0, 400_000),
        st.integers(0, 400_000),
    )
    def test_bad_network(self, seed: int, faults: float, up: int, down: int) -> None:
        """Requests and answers are lost, repeated, late and refused."""
        self.transfer(Wire(seed, faults), data(seed, up), data(seed + 1, down))

    def test_body_limit(self) -> None:
        """A proxy's limit for bodies is found, and kept."""
        wire = Wire()
        wire.body_limit = 5000
        self.transfer(wire, data(1, 200_000), b"")
        self.assertLess(wire.requests, 150)

    def test_throughput(self) -> None:
        """At 50 ms round trip more than 5 Mbit/s go each way, and nearby 20."""
        for round_trip, rate in ((0.05, 5e6), (0.005, 20e6)):
            wire = Wire(round_trip=round_trip)
            self.transfer(wire, data(1, 2_000_000), data(2, 2_000_000))
            self.assertGreater(2_000_000 * 8 / wire.now, rate)

    def test_reader_that_waits(self) -> None:
        """Nothing is lost while nobody reads, and the sender is stopped."""
        wire = Wire()
        content = data(3, 3 * WINDOW)
        wire.server.sender.write(content)
        for _ in range(400):
            held = wire.client.receiver.read
            wire.client.receiver.read = lambda: b""  # type: ignore[method-assign]
            wire.step()
            wire.client.receiver.read = held  # type: ignore[method-assign]
        self.assertEqual(wire.client.receiver.unread, WINDOW)
        wire.run(lambda: len(wire.down) == len(content), wire.now + 600.0)
        self.assertEqual(wire.down, content)


class QuietTests(SynchronousTestCase):
    """When nothing is said, and when it ends."""

    def test_idle(self) -> None:
        """An idle tunnel lives on, with one request in 20 s."""
        wire = Wire()
        wire.run(lambda: wire.now > 400.0)
        self.assertEqual((wire.client.lost, wire.server.lost), ("", ""))
        self.assertLess(wire.requests, 25)

    def test_proxy_cuts_silence(self) -> None:
        """Where requests may not wait for long they wait for less."""
        client = MessageClient()
        now = 0.0
        holds = []
        for _ in range(4):
            (request,) = client.requests(now=now)
            holds.append(request.hold)
            now += 5.0
            client.fail(request.number, "504", now=now)
            now += 5.0
        self.assertEqual(holds[0], 20.0)
        self.assertLess(holds[1], 5.0)

    def test_gone_client(self) -> None:
        """A client that is not heard any more is given up."""
        server = MessageServer(now=0.0)
        server.handle_timer(now=server.next_timer())
        self.assertIn("silent", server.lost)

    def test_gone_server(self) -> None:
        """A tunnel through which nothing gets is given up, with the reason."""
        wire = Wire(faults=0.0)
        wire.arrive = lambda request, fate: wire.fail(request.number)  # type: ignore[method-assign]
        wire.client.sender.write(b"x")
        wire.run(lambda: wire.client.lost)
        self.assertIn("a fault", wire.client.lost)
        self.assertEqual(wire.client.requests(now=wire.now), [])

    def test_unknown_tunnel(self) -> None:
        """A server that has forgotten the tunnel ends it."""
        client = MessageClient()
        (request,) = client.requests(now=0.0)
        client.receive_answer(request.number, 404, b"", now=1.0)
        self.assertIn("does not know", client.lost)

    def test_broken_off(self) -> None:
        """Either side tells the other that it breaks the tunnel."""
        wire = Wire()
        wire.client.abort()
        wire.run(lambda: wire.server.lost)
        self.assertIn("far end", wire.server.lost)
        wire = Wire()
        wire.server.abort()
        wire.run(lambda: wire.client.lost)
        self.assertIn("far end", wire.client.lost)


class HoldTests(SynchronousTestCase):
    """For how long a stranger lets a request wait."""

    def test_no_number(self) -> None:
        """A time that is no number is refused, and the timers stay those of before."""
        body = Message(0, WINDOW).encode()
        server = MessageServer(now=0.0)
        for hold in (math.nan, math.inf, -math.inf):
            self.assertRaises(
                RemoteProtocolError, server.receive_get, 1, body, hold, now=0.0
            )
        self.assertEqual(server.next_timer(), MessageServer(now=0.0).next_timer())

    @given(st.floats())
    def test_any(self, hold: float) -> None:
        """Every request that is taken is answered within the limit."""
        server = MessageServer(now=0.0)
        try:
            server.receive_get(1, Message(0, WINDOW).encode(), hold, now=0.0)
        except RemoteProtocolError:
            return
        self.assertTrue(0.0 <= server.next_timer() <= HOLD)
        self.assertEqual(len(server.answers(now=HOLD)), 1)


class ByteStreamTests(SynchronousTestCase):
    """The two halves, and messages of strangers."""

    def test_write_after_end(self) -> None:
        """That is a mistake of the program."""
        sender = Sender()
        sender.finish()
        self.assertRaises(LocalProtocolError, sender.write, b"x")

    def test_hostile(self) -> None:
        """What goes beyond limits is refused."""
        sender, receiver = Sender(), Receiver()
        self.assertRaises(RemoteProtocolError, sender.acknowledge, 1, 0)
        for message in (
            Message(0, 0, WINDOW, b"x"),
            Message(0, 0, 5, b"", Flags.END),
        ):
            if not message.data:
                receiver.receive(message)
                message = Message(0, 0, 6, b"", Flags.END)
            self.assertRaises(RemoteProtocolError, receiver.receive, message)

    def test_overlaps_are_bounded(self) -> None:
        """Overlapping pieces do not fill the memory."""
        receiver = Receiver()

        def flood() -> None:
            for offset in range(1, 100):
                receiver.receive(Message(0, 0, offset, bytes(LARGEST_BODY)))

        self.assertRaises(RemoteProtocolError, flood)

    @given(st.binary(max_size=80))
    def test_any_bytes(self, body: bytes) -> None:
        """Any bytes are a message, or refused; nobody is harmed."""
        try:
            message = Message.decode(body)
        except RemoteProtocolError:
            pass
        else:
            self.assertEqual(message.encode(), body)
            self.assertGreaterEqual(len(body), HEAD_SIZE)
        for act in (
            lambda: MessageServer(now=0.0).receive_post(body, now=0.0),
            lambda: MessageServer(now=0.0).receive_get(1, body, 5.0, now=0.0),
        ):
            try:
                act()
            except RemoteProtocolError as e:
                self.assertEqual(e.code, 400)
