"""A server that tells what it carries while somebody watches."""

from __future__ import annotations

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.activity import ActivityReporter
from dwcloud.protocol.mediation.activity import Activity, RunningStream
from dwcloud.protocol.mediation.messages import Watch
from tests.unit.mediator.world import MediatedWorld

STREAM = RunningStream(
    number=1,
    path="udp",
    session=None,
    age=0,
    to_client=0,
    to_server=0,
    account="alice",
    client="laptop",
)


class ReporterTests(SynchronousTestCase):
    """When it tells, and when it keeps silent."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.activity = Activity(0, ())
        self.told: list[Activity] = []
        self.reporter = ActivityReporter(
            self.clock, lambda: self.activity, self.told.append
        )

    def carry(self, amount: int) -> None:
        """Have one stream that has brought so many bytes."""
        stream = attrs.evolve(STREAM, to_client=amount)
        self.activity = Activity(1, (stream,))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)

    def test_nobody_watches(self) -> None:
        """Unasked nothing is told, whatever happens, and no timer runs."""
        self.carry(5)
        self.reporter.changed()
        self.pass_time(100)
        self.assertEqual(self.told, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_told_at_once(self) -> None:
        """Who begins to watch learns what there is, even if that is nothing."""
        self.reporter.watched()
        self.pass_time(0.2)
        self.assertEqual(self.told, [Activity(0, ())])

    def test_again_for_another(self) -> None:
        """One who begins to watch later learns the same, which has not changed."""
        self.reporter.watched()
        self.pass_time(5)
        self.reporter.watched()
        self.pass_time(0.2)
        self.assertEqual(len(self.told), 2)

    def test_traffic(self) -> None:
        """Traffic is told every two seconds, and silence is not."""
        self.reporter.watched()
        for amount in range(1, 101):
            self.carry(amount)
            self.clock.advance(0.1)
        self.assertIn(len(self.told), range(4, 7))
        self.pass_time(4)
        told = len(self.told)
        self.pass_time(10)
        self.assertEqual(len(self.told), told)
        self.assertEqual(self.told[-1].streams[0].to_client, 100)

    def test_a_stream_begins(self) -> None:
        """A stream that begins or ends is told without waiting for the next look."""
        self.reporter.watched()
        self.pass_time(0.2)
        self.carry(0)
        self.reporter.changed()
        self.pass_time(0.2)
        self.assertEqual([a.count for a in self.told], [0, 1])

    def test_growing_old(self) -> None:
        """That a stream is older than before is nothing to tell."""
        self.carry(7)
        self.reporter.watched()
        self.pass_time(1)
        aged = attrs.evolve(self.activity.streams[0], age=9)
        self.activity = Activity(1, (aged,))
        self.pass_time(10)
        self.assertEqual(len(self.told), 1)

    def test_for_a_minute(self) -> None:
        """A minute after the last question nothing is told any more."""
        self.reporter.watched()
        self.pass_time(63)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.carry(1)
        self.reporter.changed()
        self.pass_time(5)
        self.assertEqual(len(self.told), 1)

    def test_stop(self) -> None:
        """A server that stops looks no more."""
        self.reporter.watched()
        self.reporter.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ChannelTests(SynchronousTestCase):
    """Question and answer on the control channel."""

    def test_both_ways(self) -> None:
        """The mediator's question reaches the server, its answer the mediator."""
        world = MediatedWorld()
        server = world.online_server()
        world.mediator.watch(server.identity.name.system)
        world.world.run_until(lambda: server.watched, 1.0)
        activity = Activity(1, (STREAM,))
        server.link.report(activity)
        world.world.run_until(lambda: world.activities, 1.0)
        self.assertEqual(world.activities, [(server.identity.name, activity)])

    def test_other_systems(self) -> None:
        """Servers of systems that nobody watches are not asked."""
        world = MediatedWorld()
        server = world.online_server()
        [record] = world.mediator.registry.online(server.identity.name.system)
        self.assertEqual(record.name, server.identity.name)
        world.mediator.watch(server.identity.name.server)
        world.world.advance(1.0)
        self.assertEqual(server.watched, 0)

    def test_offline(self) -> None:
        """A server without a channel tells nobody."""
        world = MediatedWorld()
        server = world.server()
        server.link.report(Activity(0, ()))
        world.world.advance(5.0)
        self.assertEqual(world.activities, [])

    def test_malformed(self) -> None:
        """What cannot be understood is passed over; the channel goes on."""
        world = MediatedWorld()
        server = world.online_server()
        channel = server.link._channel
        assert channel is not None
        message = Watch().to_stun(bytes(12))
        channel._connection.sendMessage(attrs.evolve(message, method=0xD0B))
        server.link.report(Activity(0, ()))
        world.world.run_until(lambda: world.activities, 1.0)
        self.assertEqual(len(world.activities), 1)
