"""Tests of the reactor of a simulated host."""

from twisted.internet import interfaces
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, DNSLookupError, ReactorNotRunning
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dwcloud.testing import SimulationTimeout, World


@implementer(interfaces.IResolutionReceiver)
class Receiver:
    """Keeps what a resolver tells it."""

    def __init__(self):
        self.addresses = []
        self.is_complete = False

    def resolutionBegan(self, resolutionInProgress):
        self.resolution = resolutionInProgress

    def addressResolved(self, address):
        self.addresses.append(address)

    def resolutionComplete(self):
        self.is_complete = True


class HostReactorTests(SynchronousTestCase):
    """The reactor offers what Twisted's programs ask of one."""

    def setUp(self):
        self.world = World()
        self.internet = self.world.internet()
        self.host = self.internet.host("203.0.113.1", name="host")
        self.reactor = self.host.reactor

    def test_interfaces(self):
        """The reactor and its parts have the methods that Twisted's interfaces name."""
        for interface in (
            interfaces.IReactorCore,
            interfaces.IReactorFDSet,
            interfaces.IReactorFromThreads,
            interfaces.IReactorMulticast,
            interfaces.IReactorPluggableNameResolver,
            interfaces.IReactorSSL,
            interfaces.IReactorTCP,
            interfaces.IReactorTime,
            interfaces.IReactorUDP,
        ):
            verifyObject(interface, self.reactor)
        verifyObject(interfaces.IHostnameResolver, self.reactor.nameResolver)
        verifyObject(interfaces.IListeningPort, self.reactor.listenTCP(0, Factory()))
        verifyObject(
            interfaces.IUDPTransport, self.reactor.listenUDP(0, DatagramProtocol())
        )
        verifyObject(
            interfaces.IMulticastTransport,
            self.reactor.listenMulticast(0, DatagramProtocol()),
        )

    def test_transports(self):
        """TCP transports at both ends are what Twisted calls TCP transports."""
        server = Factory.forProtocol(Protocol)
        made = []
        build = server.buildProtocol
        server.buildProtocol = lambda address: made.append(build(address)) or made[-1]
        port = self.reactor.listenTCP(80, server)
        client = Protocol()
        connector = self.reactor.connectTCP(
            "127.0.0.1", port.getHost().port, _OneShot(client)
        )
        verifyObject(interfaces.IConnector, connector)
        self.world.run_until_idle()
        for protocol in (client, made[0]):
            verifyObject(interfaces.ITCPTransport, protocol.transport)
            verifyObject(interfaces.ITLSTransport, protocol.transport)
            verifyObject(interfaces.IConsumer, protocol.transport)
            verifyObject(interfaces.IPushProducer, protocol.transport)

    def test_time(self):
        """All reactors of a world share its time."""
        other = self.world.internet().host("203.0.113.2").reactor
        waited = deferLater(other, 3.0)
        self.assertEqual(len(other.getDelayedCalls()), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.world.run_until(waited)
        self.assertEqual(self.reactor.seconds(), 3.0)
        self.reactor.iterate(2.0)
        self.assertEqual(self.world.seconds(), 5.0)

    def test_call_from_thread(self):
        """Calls from threads come soon, but not at once."""
        called = []
        self.reactor.callFromThread(called.append, 1)
        self.assertEqual(called, [])
        self.world.run_until_idle()
        self.assertEqual(called, [1])

    def test_call_when_running(self):
        """The reactor runs from the start."""
        called = []
        self.assertIsNone(self.reactor.callWhenRunning(called.append, 1))
        self.assertEqual(called, [1])

    def test_shutdown(self):
        """Stopping runs the triggers phase by phase and waits for "before"."""
        called = []
        wait = Deferred()
        add = self.reactor.addSystemEventTrigger
        add("after", "shutdown", called.append, "after")
        add("during", "shutdown", called.append, "during")
        add("before", "shutdown", lambda: called.append("before") or wait)
        removed = add("before", "shutdown", called.append, "removed")
        self.reactor.removeSystemEventTrigger(removed)
        self.reactor.stop()
        self.assertEqual((called, self.reactor.running), (["before"], True))
        wait.callback(None)
        self.assertEqual(called, ["before", "during", "after"])
        self.assertFalse(self.reactor.running)
        self.assertRaises(ReactorNotRunning, self.reactor.stop)

    def test_failing_trigger(self):
        """A trigger that fails is logged and does not keep the others from running."""
        called = []
        self.assertRaises(
            KeyError, self.reactor.addSystemEventTrigger, "x", "shutdown", len
        )
        self.reactor.addSystemEventTrigger("before", "shutdown", lambda: 1 / 0)
        self.reactor.addSystemEventTrigger("after", "shutdown", called.append, 1)
        self.reactor.stop()
        self.assertEqual(called, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_run(self):
        """Running a reactor runs the world until it is stopped."""
        called = []
        self.reactor.addSystemEventTrigger("after", "startup", called.append, "start")
        self.reactor.callLater(7.0, self.reactor.stop)
        self.reactor.run()
        self.assertEqual((called, self.world.seconds()), (["start"], 7.0))

    def test_end_of_the_program(self):
        """A stopped program leaves no timer, and its sockets are closed."""
        self.reactor.listenTCP(80, Factory.forProtocol(Protocol))
        self.reactor.callLater(1000.0, len)
        client = _OneShot(Protocol())
        other = self.internet.host("203.0.113.2")
        other.reactor.connectTCP("203.0.113.1", 80, client)
        self.world.run_until_idle()
        self.reactor.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.getReaders(), [])
        self.world.run_until_idle()
        self.assertTrue(client.reason.check(ConnectionDone))
        reactor = self.host.restart()
        self.assertIs(reactor, self.host.reactor)
        reactor.listenTCP(80, Factory.forProtocol(Protocol))

    def test_remove_all(self):
        """All transports can be taken from the reactor."""
        port = self.reactor.listenTCP(0, Factory())
        self.assertEqual(self.reactor.removeAll(), [port])
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertEqual(self.reactor.getWriters(), [])


class ResolverTests(SynchronousTestCase):
    """Names are resolved from the world's table, without threads."""

    def setUp(self):
        self.world = World()
        self.host = self.world.internet().host("203.0.113.1")
        self.reactor = self.host.reactor
        self.world.add_name("www.example", "203.0.113.7", "2001:DB8::7")

    def resolve(self, name, types=None):
        receiver = Receiver()
        resolution = self.reactor.nameResolver.resolveHostName(
            receiver, name, 80, types
        )
        verifyObject(interfaces.IHostResolution, resolution)
        self.assertFalse(receiver.is_complete)
        self.world.advance(1.0)
        self.assertTrue(receiver.is_complete)
        return receiver.addresses

    def test_name(self):
        """A name has all its addresses, whatever the case of its letters."""
        both = [
            IPv4Address("TCP", "203.0.113.7", 80),
            IPv6Address("TCP", "2001:db8::7", 80),
        ]
        self.assertEqual(self.resolve("WWW.example"), both)
        self.assertEqual(self.resolve("www.example", [IPv6Address]), both[1:])

    def test_literal(self):
        """An address literal stands for itself."""
        self.assertEqual(
            self.resolve("192.0.2.1"), [IPv4Address("TCP", "192.0.2.1", 80)]
        )

    def test_unknown(self):
        """An unknown name has no address."""
        self.assertEqual(self.resolve("nowhere.example"), [])

    def test_names_of_one_host(self):
        """A host may know names of its own."""
        self.host.names["www.example"] = ["192.0.2.2"]
        self.assertEqual(
            self.resolve("www.example"), [IPv4Address("TCP", "192.0.2.2", 80)]
        )

    def test_delay_and_cancel(self):
        """A lookup takes its time and can be given up."""
        self.world.name_lookup_delay = 2.0
        receiver = Receiver()
        resolution = self.reactor.nameResolver.resolveHostName(receiver, "www.example")
        self.world.advance(1.9)
        self.assertFalse(receiver.is_complete)
        resolution.cancel()
        self.world.advance(1.0)
        self.assertFalse(receiver.is_complete)
        resolution.cancel()

    def test_simple_resolution(self):
        """The old way to resolve gives the first IPv4 address or fails."""
        resolve = self.reactor.resolve
        self.assertEqual(self.world.run_until(resolve("www.example")), "203.0.113.7")
        self.assertEqual(self.world.run_until(resolve("192.0.2.9")), "192.0.2.9")
        self.assertRaises(DNSLookupError, self.world.run_until, resolve("nowhere"))

    def test_install(self):
        """Another resolver can be installed."""
        other = object()
        previous = self.reactor.installNameResolver(other)
        self.assertIs(self.reactor.nameResolver, other)
        self.assertIs(self.reactor.installNameResolver(previous), other)


class RunUntilTests(SynchronousTestCase):
    """Tests wait in simulated time, with a limit."""

    def setUp(self):
        self.world = World()

    def test_result(self):
        """The result of a Deferred is returned, its failure raised."""
        waited = Deferred()
        self.world.scheduler.schedule(1.0, waited.callback, 5)
        self.assertEqual(self.world.run_until(waited), 5)
        self.assertEqual(self.successResultOf(waited), 5)
        failing = Deferred()
        self.world.scheduler.schedule(1.0, failing.errback, ZeroDivisionError())
        self.assertRaises(ZeroDivisionError, self.world.run_until, failing)

    def test_limit(self):
        """What does not happen ends the test at the limit."""
        self.assertRaises(SimulationTimeout, self.world.run_until, Deferred(), 5.0)
        self.assertRaises(
            SimulationTimeout, self.world.run_until, lambda: False, limit=5.0
        )
        self.world.scheduler.schedule(50.0, len)
        with self.assertRaises(SimulationTimeout):
            self.world.run_until(lambda: False, limit=5.0)
        self.assertEqual(self.world.seconds(), 5.0)

    def test_idle(self):
        """Waiting timers are no activity, packets are."""
        internet = self.world.internet()
        a, b = internet.host("192.0.2.1"), internet.host("192.0.2.2")
        b.reactor.listenUDP(5, DatagramProtocol())
        a.reactor.callLater(1000.0, len)
        port = a.reactor.listenUDP(5, DatagramProtocol())
        port.write(b"x", ("192.0.2.2", 5))
        self.world.run_until_idle()
        self.assertEqual(self.world.seconds(), 0.01)
        self.assertEqual(self.world.trace.packets_carried(), 1)

    def test_random_bytes(self):
        """Random octets depend on the seed alone."""
        self.assertEqual(World(seed=7).random_bytes(9), World(seed=7).random_bytes(9))
        self.assertNotEqual(
            World(seed=7).random_bytes(9), World(seed=8).random_bytes(9)
        )


class _OneShot(Factory):
    """A client factory for one given protocol."""

    noisy = False

    def __init__(self, protocol):
        self.made = protocol

    def startedConnecting(self, connector):
        pass

    def buildProtocol(self, addr):
        return self.made

    def clientConnectionFailed(self, connector, reason):
        self.reason = reason

    def clientConnectionLost(self, connector, reason):
        self.reason = reason
