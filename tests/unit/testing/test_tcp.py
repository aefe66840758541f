"""Tests of TCP between simulated hosts."""

import errno

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.testing import TCP, LinkProfile, World

from .programs import HalfCloseable, PullProducer, PushProducer, Server, connect

CLIENT, SERVER = "203.0.113.1", "203.0.113.2"


class TCPCase(SynchronousTestCase):
    """A client and a server host, 20 ms apart and back."""

    def setUp(self):
        self.world = World(seed=1)
        self.internet = self.world.internet()
        self.client_host = self.internet.host(CLIENT, name="client")
        self.server_host = self.internet.host(SERVER, name="server")

    def connected(self, client=None, server=None, **kwargs):
        """Return the protocols of both ends of a new connection."""
        factory = Server(server) if server else Server()
        port = self.server_host.reactor.listenTCP(0, factory)
        reactor = self.client_host.reactor
        protocol = self.world.run_until(
            connect(reactor, SERVER, port.getHost().port, client, **kwargs)
        )
        self.world.run_until(lambda: factory.protocols)
        return protocol, factory.protocols[0]


class ConnectTests(TCPCase):
    """Connections are made, or fail as they do in real networks."""

    def test_round_trip(self):
        """Connecting takes a round trip and a half, an answer one more."""
        client, server = self.connected()
        self.assertAlmostEqual(self.world.seconds(), 0.03, places=6)
        client.transport.write(b"question")
        self.world.run_until(lambda: server.received == b"question")
        server.transport.write(b"answer")
        self.world.run_until(lambda: client.received == b"answer")
        self.assertAlmostEqual(self.world.seconds(), 0.05, places=6)

    def test_addresses(self):
        """Both ends know both addresses."""
        client, server = self.connected()
        self.assertEqual(client.transport.getHost().host, CLIENT)
        self.assertEqual(client.transport.getPeer().host, SERVER)
        self.assertEqual(client.transport.getHost(), server.transport.getPeer())
        self.assertEqual(client.transport.getPeer(), server.transport.getHost())
        self.assertEqual(client.transport.getHost().type, "TCP")

    def test_ipv6(self):
        """IPv6 addresses work alike."""
        a = self.internet.host("2001:db8::1")
        b = self.internet.host("2001:DB8::2")
        factory = Server()
        port = b.reactor.listenTCP(80, factory, interface="::")
        self.assertEqual(port.getHost().host, "::")
        client = self.world.run_until(connect(a.reactor, "2001:db8::2", 80))
        self.world.run_until_idle()
        self.assertEqual(client.transport.getPeer().host, "2001:db8::2")
        self.assertEqual(factory.protocols[0].transport.getPeer().host, "2001:db8::1")

    def test_bind_address(self):
        """A client may choose its own address and port."""
        client, _ = self.connected(bindAddress=(CLIENT, 5555))
        self.assertEqual(client.transport.getHost().port, 5555)

    def test_bad_bind_address(self):
        """Only own addresses can be bound."""
        made = connect(
            self.client_host.reactor, SERVER, 80, bindAddress=("192.0.2.1", 0)
        )
        self.assertRaises(error.ConnectBindError, self.world.run_until, made)

    def test_refused(self):
        """A port where nobody listens refuses at once."""
        made = connect(self.client_host.reactor, SERVER, 80)
        self.assertRaises(error.ConnectionRefusedError, self.world.run_until, made)
        self.assertAlmostEqual(self.world.seconds(), 0.02, places=6)

    def test_nobody_there(self):
        """An address that nobody has lets the connection time out."""
        made = connect(self.client_host.reactor, "198.51.100.9", 80, timeout=10)
        self.assertRaises(error.TimeoutError, self.world.run_until, made)
        self.assertAlmostEqual(self.world.seconds(), 10.0)

    def test_kernel_gives_up(self):
        """Without a limit of the program the kernel gives up after two minutes."""
        made = connect(self.client_host.reactor, "198.51.100.9", 80, timeout=None)
        self.assertRaises(
            error.TCPTimedOutError, self.world.run_until, made, limit=300.0
        )
        self.assertGreater(self.world.seconds(), 60.0)

    def test_no_route(self):
        """A host without a way out is told at once."""
        alone = self.world.lan("10.0.0.0/24").host("10.0.0.1")
        made = connect(alone.reactor, SERVER, 80)
        self.assertRaises(error.ConnectError, self.world.run_until, made)
        self.assertEqual(self.world.seconds(), 0.0)

    def test_no_neighbour(self):
        """An address of the LAN that nobody has is reported after three seconds."""
        host = self.world.lan("10.0.0.0/24").host("10.0.0.1")
        made = connect(host.reactor, "10.0.0.9", 80)
        problem = self.assertRaises(error.ConnectError, self.world.run_until, made)
        self.assertEqual(problem.osError, errno.EHOSTUNREACH)
        self.assertAlmostEqual(self.world.seconds(), 3.0, places=2)

    def test_cancel(self):
        """A connection attempt can be given up."""
        made = connect(self.client_host.reactor, SERVER, 80)
        made.cancel()
        self.failureResultOf(made)
        self.world.run_until_idle()
        self.assertEqual(self.client_host.connections, [])
        self.assertEqual(self.client_host.reactor.getDelayedCalls(), [])

    def test_lost_syn(self):
        """A SYN into a dead link is repeated."""
        self.client_host.link.cut()
        factory = Server()
        self.server_host.reactor.listenTCP(80, factory)
        made = connect(self.client_host.reactor, SERVER, 80)
        self.world.advance(0.5)
        self.client_host.link.restore()
        self.world.run_until(made)
        self.assertAlmostEqual(self.world.seconds(), 1.02, places=6)

    def test_loopback(self):
        """A host reaches itself without the network."""
        factory = Server()
        self.client_host.reactor.listenTCP(80, factory, interface="127.0.0.1")
        self.client_host.link.cut()
        client = self.world.run_until(
            connect(self.client_host.reactor, "127.0.0.1", 80)
        )
        self.assertEqual(client.transport.getHost().host, "127.0.0.1")
        self.assertEqual(self.world.seconds(), 0.0)

    def test_name(self):
        """Names are resolved when connecting."""
        self.world.add_name("server.example", SERVER)
        factory = Server()
        self.server_host.reactor.listenTCP(80, factory)
        made = connect(self.client_host.reactor, "server.example", 80)
        self.assertEqual(self.world.run_until(made).transport.getPeer().host, SERVER)

    def test_both_open_at_once(self):
        """Two ends that connect to each other's bound ports make one connection."""
        first = connect(
            self.client_host.reactor, SERVER, 7000, bindAddress=(CLIENT, 7000)
        )
        second = connect(
            self.server_host.reactor, CLIENT, 7000, bindAddress=(SERVER, 7000)
        )
        a, b = self.world.run_until(first), self.world.run_until(second)
        a.transport.write(b"from a")
        b.transport.write(b"from b")
        self.world.run_until_idle()
        self.assertEqual((a.received, b.received), (b"from b", b"from a"))


class ListenTests(TCPCase):
    """Ports are taken and given back."""

    def test_port_in_use(self):
        """A port is taken once; another address of the host is another matter."""
        self.internet.attach(self.server_host, "203.0.113.3")
        reactor = self.server_host.reactor
        reactor.listenTCP(80, Server(), interface=SERVER)
        self.assertRaises(error.CannotListenError, reactor.listenTCP, 80, Server())
        reactor.listenTCP(80, Server(), interface="203.0.113.3")

    def test_foreign_interface(self):
        """Only own addresses can be listened on."""
        reactor = self.server_host.reactor
        with self.assertRaises(error.CannotListenError):
            reactor.listenTCP(80, Server(), interface="192.0.2.1")

    def test_stop_listening(self):
        """A closed port refuses, its open connections go on, it can be taken again."""
        reactor = self.server_host.reactor
        factory = Server()
        port = reactor.listenTCP(80, factory)
        client = self.world.run_until(connect(self.client_host.reactor, SERVER, 80))
        self.world.run_until_idle()
        self.world.run_until(port.stopListening())
        made = connect(self.client_host.reactor, SERVER, 80)
        self.assertRaises(error.ConnectionRefusedError, self.world.run_until, made)
        client.transport.write(b"still here")
        self.world.run_until_idle()
        self.assertEqual(factory.protocols[0].received, b"still here")
        reactor.listenTCP(80, factory)

    def test_bound_interface(self):
        """A port of one address does not answer for another."""
        self.internet.attach(self.server_host, "203.0.113.3")
        self.server_host.reactor.listenTCP(80, Server(), interface=SERVER)
        self.world.run_until(connect(self.client_host.reactor, SERVER, 80))
        made = connect(self.client_host.reactor, "203.0.113.3", 80)
        self.assertRaises(error.ConnectionRefusedError, self.world.run_until, made)

    def test_refusing_factory(self):
        """A factory that builds no protocol closes the connection."""
        factory = Server(lambda: None)
        factory.buildProtocol = lambda address: None
        self.server_host.reactor.listenTCP(80, factory)
        client = self.world.run_until(connect(self.client_host.reactor, SERVER, 80))
        self.world.run_until(lambda: client.reason)
        self.assertTrue(client.reason.check(error.ConnectionDone))


class CloseTests(TCPCase):
    """Connections end in the ways TCP has."""

    def test_orderly(self):
        """Closing sends what was written before; both ends are told it is done."""
        client, server = self.connected()
        data = self.world.random_bytes(300_000)
        client.transport.write(data)
        client.transport.loseConnection()
        self.world.run_until(lambda: server.reason and client.reason)
        self.assertEqual(server.received, data)
        self.assertTrue(client.reason.check(error.ConnectionDone))
        self.assertTrue(server.reason.check(error.ConnectionDone))

    def test_nothing_left(self):
        """Closed connections leave nothing in the kernels."""
        client, _ = self.connected()
        client.transport.loseConnection()
        self.world.advance(5.0)
        self.assertEqual(self.client_host.connections, [])
        self.assertEqual(self.server_host.connections, [])

    def test_abort(self):
        """Aborting throws away what is buffered and resets the other end."""
        client, server = self.connected()
        client.transport.write(b"x" * 10_000_000)
        client.transport.abortConnection()
        self.world.run_until(lambda: server.reason and client.reason)
        self.assertTrue(client.reason.check(error.ConnectionAborted))
        self.assertTrue(server.reason.check(error.ConnectionLost))
        self.assertLess(len(server.received), 10_000_000)

    def test_half_close(self):
        """After one direction ended the other one still carries."""
        client, server = self.connected(HalfCloseable(), HalfCloseable)
        client.transport.write(b"request")
        client.transport.loseWriteConnection()
        self.world.run_until(lambda: server.read_lost)
        self.assertTrue(client.write_lost)
        self.assertEqual((server.received, server.reason), (b"request", None))
        server.transport.write(b"response")
        self.world.run_until(lambda: client.received == b"response")
        server.transport.loseConnection()
        self.world.run_until(lambda: client.read_lost and server.reason)
        client.transport.loseConnection()
        self.world.run_until(lambda: client.reason)
        self.assertTrue(client.reason.check(error.ConnectionDone))

    def test_unread_data(self):
        """Closing with unread octets resets, as kernels do; nothing lingers."""
        client, server = self.connected(HalfCloseable())
        server.transport.pauseProducing()
        client.transport.write(b"x" * 10_000)
        self.world.run_until_idle()
        server.transport.loseConnection()
        self.world.run_until_idle()
        self.assertEqual(self.server_host.connections, [])
        client.transport.write(b"more")
        self.world.run_until(lambda: client.reason)
        self.assertTrue(client.reason.check(error.ConnectionLost))

    def test_write_after_the_other_end_closed(self):
        """Data for somebody who is gone is answered with a reset."""
        client, server = self.connected(HalfCloseable())
        server.transport.loseConnection()
        self.world.run_until(lambda: client.read_lost)
        client.transport.write(b"too late")
        self.world.run_until_idle()
        client.transport.write(b"again")
        self.world.run_until(lambda: client.reason)
        self.assertTrue(client.reason.check(error.ConnectionLost))

    def test_power_failure(self):
        """A dead host is noticed only by what it does not acknowledge."""
        client, _ = self.connected()
        self.server_host.power_off()
        self.world.advance(1000.0)
        self.assertIsNone(client.reason)
        client.transport.write(b"anybody there?")
        self.world.run_until(lambda: client.reason, limit=2000.0)
        self.assertTrue(client.reason.check(error.ConnectionLost))

    def test_restarted_host(self):
        """A host that lost the connection resets it."""
        client, _ = self.connected()
        self.server_host.power_off()
        self.internet.host(SERVER)
        client.transport.write(b"who are you?")
        self.world.run_until(lambda: client.reason)
        self.assertTrue(client.reason.check(error.ConnectionLost))
        self.assertLess(self.world.seconds(), 1.0)

    def test_failing_protocol(self):
        """A protocol that raises loses its connection and the error is logged."""
        client, server = self.connected()
        server.dataReceived = lambda data: 1 / 0
        client.transport.write(b"x")
        self.world.run_until(lambda: server.reason and client.reason)
        self.assertTrue(server.reason.check(ZeroDivisionError))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_same_addresses_again(self):
        """The same two addresses may be connected again after an orderly end."""
        self.server_host.reactor.listenTCP(80, Server())
        for _ in range(3):
            client = self.world.run_until(
                connect(
                    self.client_host.reactor, SERVER, 80, bindAddress=(CLIENT, 5000)
                )
            )
            client.transport.loseConnection()
            self.world.run_until(lambda client=client: client.reason)
            self.world.run_until_idle()


class FlowTests(TCPCase):
    """Back-pressure reaches the writer, memory stays bounded, all arrives."""

    def buffered(self):
        return sum(
            connection.buffered_bytes
            for host in (self.client_host, self.server_host)
            for connection in host.connections
        )

    def test_slow_reader(self):
        """A reader that stops pauses the producer; what is buffered is bounded."""
        client, server = self.connected()
        server.transport.pauseProducing()
        producer = PushProducer(client.transport, 5_000_000, self.client_host.reactor)
        producer.start()
        self.world.advance(30.0)
        self.assertTrue(producer.is_paused)
        in_transport = len(client.transport.dataBuffer) + client.transport._tempDataLen
        self.assertLess(self.buffered() + in_transport, 600_000)
        server.transport.resumeProducing()
        self.world.run_until(lambda: len(server.received) == 5_000_000)
        self.assertTrue(producer.is_stopped)

    def test_pull_producer(self):
        """A pull producer is asked piece by piece."""
        client, server = self.connected()
        client.transport.registerProducer(PullProducer(client.transport, 50), False)
        client.transport.loseConnection()
        self.world.run_until(lambda: server.reason)
        self.assertEqual(len(server.received), 50_000)

    def test_both_directions(self):
        """Both directions carry at once, in order."""
        client, server = self.connected()
        up, down = self.world.random_bytes(500_000), self.world.random_bytes(400_000)
        client.transport.writeSequence([up[:1000], up[1000:]])
        server.transport.write(down)
        self.world.run_until(
            lambda: (
                len(server.received) == len(up) and len(client.received) == len(down)
            )
        )
        self.assertEqual((server.received, client.received), (up, down))

    def test_rate(self):
        """A link's rate bounds the throughput and a full queue slows TCP down."""
        self.client_host.link.configure(rate=100_000.0, queue=30_000)
        client, server = self.connected()
        client.transport.write(b"x" * 1_000_000)
        started = self.world.seconds()
        self.world.run_until(lambda: len(server.received) == 1_000_000)
        took = self.world.seconds() - started
        self.assertGreater(took, 10.0)
        self.assertLess(took, 13.0)

    def test_loss(self):
        """Loss makes TCP late, not wrong."""
        self.client_host.link.configure(loss=0.05, jitter=0.005)
        client, server = self.connected()
        data = self.world.random_bytes(300_000)
        client.transport.write(data)
        self.world.run_until(lambda: len(server.received) == len(data))
        self.assertEqual(server.received, data)

    def test_outage(self):
        """An interrupted link delays a transfer; it goes on afterwards."""
        client, server = self.connected()
        data = self.world.random_bytes(2_000_000)
        client.transport.write(data)
        self.world.advance(0.1)
        self.client_host.link.cut()
        self.world.advance(20.0)
        self.assertLess(len(server.received), len(data))
        self.client_host.link.restore()
        self.world.run_until(lambda: len(server.received) == len(data))
        self.assertEqual(server.received, data)

    def test_lost_window_update(self):
        """A writer whose news that there is room again got lost asks for it."""
        client, server = self.connected()
        server.transport.pauseProducing()
        client.transport.write(b"x" * 1_000_000)
        self.world.advance(10.0)
        self.server_host.link.cut()
        server.transport.resumeProducing()
        self.world.advance(1.0)
        self.server_host.link.restore()
        self.world.run_until(lambda: len(server.received) == 1_000_000, limit=120.0)

    def test_latency_of_small_writes(self):
        """Two writes in one turn arrive together; nothing waits to be filled up."""
        client, server = self.connected()
        client.transport.write(b"a")
        client.transport.write(b"b")
        self.world.run_until(lambda: server.received == b"ab")
        self.world.trace.clear()
        client.transport.write(b"c")
        self.world.run_until_idle()
        self.assertEqual(self.world.trace.bytes_carried("client", "server", TCP), 1)

    def test_options(self):
        """The usual options are accepted."""
        client, _ = self.connected()
        client.transport.setTcpNoDelay(True)
        client.transport.setTcpKeepAlive(True)
        self.assertTrue(client.transport.getTcpNoDelay())
        self.assertTrue(client.transport.getTcpKeepAlive())

    def test_same_seed_same_trace(self):
        """Two runs of one seed are alike to the last packet; another seed differs."""

        def digest(seed):
            self.world = World(seed=seed)
            link = LinkProfile(latency=0.01, jitter=0.01, loss=0.02)
            internet = self.world.internet(link=link)
            self.client_host = internet.host(CLIENT)
            self.server_host = internet.host(SERVER)
            client, server = self.connected()
            client.transport.write(b"x" * 100_000)
            self.world.run_until(lambda: len(server.received) == 100_000)
            return self.world.trace.digest()

        self.assertEqual(digest(1), digest(1))
        self.assertNotEqual(digest(1), digest(2))

    def test_the_reactor_tells_time(self):
        """The host's reactor is the clock of its connections."""
        self.assertTrue(IReactorTime.providedBy(self.client_host.reactor))


class StreamProperties(SynchronousTestCase):
    """What holds for any traffic over any link."""

    @given(
        seed=st.integers(0, 1000),
        loss=st.floats(0.0, 0.3),
        jitter=st.floats(0.0, 0.2),
        writes=st.lists(
            st.tuples(st.booleans(), st.integers(1, 50_000), st.floats(0.0, 2.0)),
            max_size=12,
        ),
        outages=st.lists(
            st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 4.0)), max_size=3
        ),
    )
    @settings(max_examples=20, deadline=None)
    def test_streams_arrive_whole(self, seed, loss, jitter, writes, outages):
        """Each end receives what the other wrote, then a clean end, and no
        connection is left."""
        world = World(seed=seed)
        profile = LinkProfile(latency=0.01, loss=loss, jitter=jitter, rate=200_000.0)
        internet = world.internet(link=profile)
        hosts = internet.host(CLIENT), internet.host(SERVER)
        factory = Server()
        hosts[1].reactor.listenTCP(80, factory)
        client = world.run_until(connect(hosts[0].reactor, SERVER, 80))
        world.run_until(lambda: factory.protocols)
        server = factory.protocols[0]
        for begin, duration in outages:
            world.scheduler.schedule(begin, hosts[1].link.cut)
            world.scheduler.schedule(begin + duration, hosts[1].link.restore)
        sent = {client: bytearray(), server: bytearray()}
        for from_client, size, wait in writes:
            writer = client if from_client else server
            data = world.random_bytes(size)
            sent[writer] += data
            writer.transport.write(data)
            world.advance(wait)
        world.run_until(
            lambda: client.received == sent[server] and server.received == sent[client],
            limit=300.0,
        )
        client.transport.loseConnection()
        world.run_until(lambda: client.reason and server.reason, limit=300.0)
        self.assertTrue(client.reason.check(error.ConnectionDone))
        self.assertTrue(server.reason.check(error.ConnectionDone))
        world.advance(200.0)
        self.assertEqual([host.connections for host in hosts], [[], []])
