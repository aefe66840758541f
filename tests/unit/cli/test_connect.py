"""When a stream that is joined to standard input and output is over."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.connect import LINGER, FarEnd, StandardEnd
from dwcloud.net.pump import join
from tests.unit.cli.transports import PumpTransport


class StandardEndTests(SynchronousTestCase):
    """Standard streams and a stream of the cloud, joined."""

    def setUp(self) -> None:
        """Join."""
        self.clock = Clock()
        self.near, self.far = StandardEnd(self.clock), FarEnd()
        self.streams, self.cloud = PumpTransport(), PumpTransport()
        self.far.makeConnection(self.cloud)
        self.near.makeConnection(self.streams)
        join(self.near, self.far)

    def test_input_ends(self) -> None:
        """The end of the input ends that direction and waits for the answer."""
        self.near.readConnectionLost()
        self.assertTrue(self.cloud.half_closed)
        self.clock.advance(1000)
        self.assertFalse(self.cloud.disconnecting)
        self.far.readConnectionLost()
        self.assertTrue(self.cloud.disconnecting and self.streams.disconnecting)

    def test_far_end_closes(self) -> None:
        """After the far end closed, silent input ends the stream."""
        self.far.readConnectionLost()
        self.assertTrue(self.streams.half_closed)
        self.assertFalse(self.streams.disconnecting)
        self.clock.advance(LINGER)
        self.assertTrue(self.cloud.half_closed)
        self.assertTrue(self.cloud.disconnecting and self.streams.disconnecting)

    def test_input_goes_on(self) -> None:
        """As long as input comes it is sent, whatever the far end closed."""
        self.far.readConnectionLost()
        for _ in range(10):
            self.clock.advance(LINGER * 0.9)
            self.near.dataReceived(b"x")
        self.assertEqual(self.cloud.value(), b"x" * 10)
        self.assertFalse(self.cloud.disconnecting)
        self.near.readConnectionLost()
        self.assertTrue(self.cloud.disconnecting)

    def test_slow_far_end(self) -> None:
        """Input that the far end does not take yet is not silence."""
        self.far.readConnectionLost()
        self.streams.paused = True
        self.clock.pump([LINGER] * 20)
        self.assertFalse(self.cloud.half_closed)
        self.streams.paused = False
        self.clock.advance(LINGER)
        self.assertTrue(self.cloud.half_closed)

    def test_over(self) -> None:
        """Each end tells when it is gone, and no timer is left."""
        self.far.readConnectionLost()
        self.near.connectionLost(Failure(ConnectionDone()))
        self.assertNoResult(self.far.over)
        self.far.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(self.near.over)
        self.successResultOf(self.far.over)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_reads_the_output(self) -> None:
        """Without a reader of the output there is nothing to go on for."""
        self.near.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(self.cloud.aborted)

    def test_stream_breaks(self) -> None:
        """A broken stream ends the output, and the reason is kept."""
        self.far.connectionLost(Failure(ConnectionLost("gone")))
        self.assertTrue(self.streams.aborted)
        assert self.far.lost is not None
        self.assertTrue(self.far.lost.check(ConnectionLost))
