"""Tickets and queues of things that expire."""

import uuid
from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.expiry import ExpiryQueue
from dwcloud.protocol.relaying.tickets import TICKET_LIFETIME, Tickets

NAME = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
OTHER = PeerName(uuid.UUID(int=1), uuid.UUID(int=3))


class TicketTests(SynchronousTestCase):
    def setUp(self) -> None:
        numbers = count(1)
        self.tickets = Tickets(lambda size: next(numbers).to_bytes(size, "big"))

    def test_opens_several_connections_of_its_server(self) -> None:
        """A ticket is good for its server, many times, until it expires."""
        ticket = self.tickets.issue(NAME, now=0.0)
        for now in (0.0, 1.0, TICKET_LIFETIME - 1):
            self.assertTrue(self.tickets.accepts(ticket, NAME, now=now))
        self.assertFalse(self.tickets.accepts(ticket, OTHER, now=1.0))
        self.assertFalse(self.tickets.accepts(ticket, NAME, now=TICKET_LIFETIME))
        self.assertEqual(len(self.tickets), 0)

    def test_unknown(self) -> None:
        """What was never issued opens nothing, whatever it consists of."""
        for ticket in ("", "x", "\udc80", "é" * 1000):
            self.assertFalse(self.tickets.accepts(ticket, NAME, now=0.0))

    def test_most(self) -> None:
        """Many servers do not fill the table either: the oldest ticket goes."""
        numbers = count(1)
        tickets = Tickets(lambda size: next(numbers).to_bytes(size, "big"), most=3)
        names = [PeerName(uuid.UUID(int=1), uuid.UUID(int=n)) for n in range(5)]
        issued = [tickets.issue(name, now=0.0) for name in names]
        self.assertEqual(len(tickets), 3)
        valid = [
            tickets.accepts(ticket, name, now=1.0)
            for ticket, name in zip(issued, names, strict=True)
        ]
        self.assertEqual(valid, [False, False, True, True, True])

    def test_few_of_one_server(self) -> None:
        """A server that proves itself over and over does not fill the table."""
        issued = [self.tickets.issue(NAME, now=float(n)) for n in range(10)]
        self.assertEqual(len(self.tickets), 4)
        valid = [self.tickets.accepts(ticket, NAME, now=10.0) for ticket in issued]
        self.assertEqual(valid, [False] * 6 + [True] * 4)


class ExpiryQueueTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 20))))
    def test_like_a_plain_table(self, steps: list[tuple[int, bool, int]]) -> None:
        """It does what a table of deadlines does that is searched each time."""
        queue: ExpiryQueue[int] = ExpiryQueue(10.0)
        table: dict[int, float] = {}
        now = 0.0
        for key, touch, pause in steps:
            now += pause
            due = queue.pop_due(now)
            self.assertEqual(set(due), {k for k, at in table.items() if at <= now})
            table = {k: at for k, at in table.items() if at > now}
            if touch:
                queue.touch(key, now)
                table[key] = now + 10.0
            else:
                queue.discard(key)
                table.pop(key, None)
            self.assertEqual(queue.next(), min(table.values(), default=None))
            self.assertEqual(len(queue), len(table))
            self.assertEqual(key in queue, key in table)
