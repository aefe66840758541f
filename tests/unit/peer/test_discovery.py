"""LAN discovery between simulated hosts."""

from __future__ import annotations

import random
import uuid
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.interfaces import LocalAddress
from dwcloud.peer import discovery
from dwcloud.peer.discovery import (
    ANNOUNCE_INTERVAL,
    ENTRY_LIFETIME,
    GROUP,
    PORT,
    QUERY_WAIT,
    LANAnnouncer,
    LANTable,
    lan_interfaces,
)
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.lan_messages import LANMessage, LANMessageType, decode, encode
from dwcloud.protocol.names import PeerName
from dwcloud.testing import World

SYSTEM = uuid.UUID(int=1)
SERVER = PeerName(SYSTEM, uuid.UUID(int=2))
OTHER = PeerName(uuid.UUID(int=3), uuid.UUID(int=4))


class Listener(DatagramProtocol):
    """Keeps what is said in the group, and says anything."""

    def __init__(self, address: str) -> None:
        self.heard: list[tuple[LANMessage, str]] = []
        self.junk = 0
        self._address = address

    def startProtocol(self) -> None:
        transport: Any = self.transport
        transport.setOutgoingInterface(self._address)
        transport.joinGroup(GROUP, self._address)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        try:
            self.heard.append((decode(datagram), addr[0]))
        except RemoteProtocolError:
            self.junk += 1

    def say(self, datagram: bytes, address: tuple[str, int] = (GROUP, PORT)) -> None:
        transport: Any = self.transport
        transport.write(datagram, address)


class DiscoveryTestCase(SynchronousTestCase):
    """A server, a client and a listener in one LAN."""

    def setUp(self) -> None:
        self.world = World()
        self.lan = self.world.lan()
        self.server_host = self.lan.host("192.168.1.2", name="server")
        self.client_host = self.lan.host("192.168.1.3", name="client")
        listening = self.lan.host("192.168.1.4", name="listener")
        self.listener = Listener("192.168.1.4")
        listening.reactor.listenMulticast(PORT, self.listener, listenMultiple=True)
        self.announcer = self.announce(SERVER, self.server_host)
        self.table = LANTable(self.client_host.reactor, ["192.168.1.3"])

    def announce(self, name: PeerName, host: Any, port: int = 4000) -> LANAnnouncer:
        """An announcer that is not started yet."""
        return LANAnnouncer(host.reactor, name, port, [host.address])

    def kinds(self) -> list[str]:
        """What the listener heard."""
        return [message.type.value for message, _ in self.listener.heard]


class AnnouncerTests(DiscoveryTestCase):
    """What a server says."""

    def test_announcements(self) -> None:
        """At once and then every ten seconds, with all that a client needs."""
        self.announcer.start()
        self.world.advance(0.1)
        ((message, source),) = self.listener.heard
        self.assertEqual(source, "192.168.1.2")
        self.assertEqual((message.server, message.tcp_port), (SERVER, 4000))
        self.world.advance(3 * ANNOUNCE_INTERVAL)
        self.assertEqual(self.kinds(), ["announce"] * 4)
        self.assertEqual(len({m.instance for m, _ in self.listener.heard}), 1)

    def test_goodbye(self) -> None:
        """A server that stops says so, and nothing after."""
        self.announcer.start()
        self.world.advance(0.1)
        stopped = self.announcer.stop()
        self.world.run_until(stopped)
        self.world.advance(30)
        self.assertEqual(self.kinds(), ["announce", "goodbye"])
        self.assertEqual(list(self.server_host.reactor.getDelayedCalls()), [])

    def test_stopped_before_it_started(self) -> None:
        """Stopping needs nothing to be started."""
        self.world.run_until(self.announcer.stop())
        self.assertEqual(self.kinds(), [])

    def test_instances(self) -> None:
        """Another run of the server has another id."""
        for _ in range(2):
            announcer = self.announce(SERVER, self.server_host)
            announcer.start()
            self.world.advance(0.1)
            self.world.run_until(announcer.stop())
        announced = [m for m, _ in self.listener.heard if m.type == "announce"]
        self.assertEqual(len({message.instance for message in announced}), 2)

    def test_queries(self) -> None:
        """It answers who looks for it, its system, or everybody, and no one else."""
        self.announcer.start()
        self.world.advance(0.1)
        self.listener.heard.clear()
        for wanted, answers in (
            (None, 1),
            (SERVER, 1),
            (PeerName(SYSTEM), 1),
            (OTHER, 0),
            (PeerName(SYSTEM, uuid.UUID(int=9)), 0),
        ):
            self.listener.say(encode(LANMessage(LANMessageType.QUERY, wanted)))
            self.world.advance(0.25)
            heard = [kind for kind in self.kinds() if kind == "announce"]
            self.assertEqual(len(heard), answers, wanted)
            self.listener.heard.clear()

    def test_many_queries(self) -> None:
        """One answer, which all hear, serves all who ask in a moment."""
        self.announcer.start()
        self.world.advance(0.1)
        self.listener.heard.clear()
        for _ in range(100):
            self.listener.say(encode(LANMessage(LANMessageType.QUERY, None)))
            self.world.advance(0.01)
        self.world.advance(0.25)
        answers = self.kinds().count("announce")
        self.assertGreaterEqual(answers, 4)
        self.assertLessEqual(answers, 7)

    def test_announcements_of_others(self) -> None:
        """Nothing but a query is answered."""
        self.announcer.start()
        self.world.advance(0.1)
        self.listener.heard.clear()
        message = LANMessage(LANMessageType.ANNOUNCE, OTHER, 5, uuid.UUID(int=5))
        self.listener.say(encode(message))
        self.world.advance(0.1)
        self.assertEqual([m for m, s in self.listener.heard if s != "192.168.1.4"], [])

    def test_port_taken(self) -> None:
        """Without a socket the server runs on, unheard."""
        self.server_host.reactor.listenUDP(PORT, DatagramProtocol())
        self.announcer.start()
        self.world.advance(1)
        self.assertEqual(self.kinds(), [])
        self.world.run_until(self.announcer.stop())

    def test_interface_gone(self) -> None:
        """An interface that loses its network takes nothing down."""
        self.announcer.start()
        interface = self.server_host.interfaces[0]
        self.server_host.change_addresses(interface, ["192.168.1.77"])
        self.world.advance(25)
        self.world.run_until(self.announcer.stop())


class TableTests(DiscoveryTestCase):
    """What a client learns."""

    def look_up(self, peer: PeerName = SERVER) -> list[Address]:
        """The addresses that are found."""
        found = self.world.run_until(self.table.look_up(peer))
        assert found is not None
        return found

    def start_both(self) -> None:
        """A server that is there before the client."""
        self.announcer.start()
        self.table.start()

    def test_found_by_query(self) -> None:
        """A client that starts finds who is there at once."""
        self.announcer.start()
        self.world.advance(5)
        self.table.start()
        begin = self.world.seconds()
        self.assertEqual(self.look_up(), [("192.168.1.2", 4000)])
        self.assertLess(self.world.seconds() - begin, 0.01)
        self.assertEqual(self.look_up(PeerName(SYSTEM)), [("192.168.1.2", 4000)])
        self.assertEqual(self.table.addresses(OTHER), [])

    def test_found_by_announcement(self) -> None:
        """A server that comes later is known without asking."""
        self.table.start()
        self.world.advance(3)
        self.announcer.start()
        self.world.advance(0.1)
        self.assertEqual(self.look_up(), [("192.168.1.2", 4000)])

    def test_nobody(self) -> None:
        """Who is not there is waited for a quarter of a second, once."""
        self.table.start()
        self.assertEqual(self.look_up(), [])
        self.assertAlmostEqual(self.world.seconds(), QUERY_WAIT)
        self.world.advance(1)
        self.assertEqual(self.successResultOf(self.table.look_up(SERVER)), [])

    def test_busy_client(self) -> None:
        """An answer that came in time counts, though the late timer is served first."""
        self.table.start()
        looking = self.table.look_up(SERVER)
        answer = LANMessage(LANMessageType.ANNOUNCE, SERVER, 4000, uuid.UUID(int=1))
        reactor, source = self.client_host.reactor, Address("192.168.1.2", PORT)
        reactor.callLater(QUERY_WAIT, self.table._received, answer, source, None)
        self.world.advance(1.0)
        self.assertEqual(self.successResultOf(looking), [("192.168.1.2", 4000)])

    def test_several_servers(self) -> None:
        """A system's name finds all of its servers."""
        second = PeerName(SYSTEM, uuid.UUID(int=8))
        host = self.lan.host("192.168.1.8")
        self.start_both()
        self.announce(second, host, 4001).start()
        self.world.advance(1)
        self.assertEqual(
            sorted(self.look_up(PeerName(SYSTEM))),
            [("192.168.1.2", 4000), ("192.168.1.8", 4001)],
        )
        self.assertEqual(self.look_up(second), [("192.168.1.8", 4001)])

    def test_goodbye(self) -> None:
        """A server that says goodbye is forgotten at once."""
        self.start_both()
        self.world.advance(1)
        self.announcer.stop()
        self.world.advance(0.1)
        self.assertEqual(self.table.entries(), [])

    def test_ageing(self) -> None:
        """A server that falls silent is forgotten after a while, not before."""
        self.start_both()
        self.world.advance(1)
        self.server_host.power_off()
        self.world.advance(ENTRY_LIFETIME - 1.5)
        self.assertEqual(len(self.table.entries()), 1)
        self.world.advance(1.5)
        self.assertEqual(self.table.entries(), [])

    def test_announcements_keep_it(self) -> None:
        """As long as it announces itself it stays."""
        self.start_both()
        self.world.advance(300)
        self.assertEqual(len(self.table.entries()), 1)

    def test_goodbye_of_somebody_else(self) -> None:
        """Nobody can say goodbye for another machine."""
        self.start_both()
        self.world.advance(1)
        goodbye = LANMessage(LANMessageType.GOODBYE, SERVER, 4000, uuid.UUID(int=1))
        self.listener.say(encode(goodbye))
        self.world.advance(0.1)
        self.assertEqual(len(self.table.entries()), 1)

    def test_junk(self) -> None:
        """Whatever is sent to the port, nothing breaks and nothing is believed."""
        self.start_both()
        self.world.advance(1)
        source = random.Random(1)
        for _ in range(300):
            datagram = source.randbytes(source.randrange(1500))
            for address in ((GROUP, PORT), ("192.168.1.3", PORT)):
                self.listener.transport.write(datagram, address)  # type: ignore
        mangled = bytearray(
            encode(LANMessage(LANMessageType.ANNOUNCE, OTHER, 5, uuid.UUID(int=5)))
        )
        for at in range(len(mangled)):
            broken = bytes(mangled[:at]) + b"\xff" + bytes(mangled[at + 1 :])
            self.listener.say(broken, ("192.168.1.3", PORT))
        self.world.advance(1)
        self.assertEqual(self.look_up(), [("192.168.1.2", 4000)])
        self.assertEqual(self.table.addresses(OTHER), [])

    def flood(self, count: int) -> None:
        """Announce many servers that do not exist."""
        for number in range(count):
            name = PeerName(SYSTEM, uuid.UUID(int=100 + number))
            message = LANMessage(LANMessageType.ANNOUNCE, name, 9, uuid.UUID(int=1))
            self.listener.say(encode(message), ("192.168.1.3", PORT))
        self.world.advance(0.1)

    def test_flood(self) -> None:
        """The table has a limit, known servers stay, and the rest ages."""
        self.patch(discovery, "_MAX_ENTRIES", 20)
        self.start_both()
        self.world.advance(1)
        self.flood(100)
        self.assertEqual(len(self.table.entries()), 20)
        self.assertEqual(self.look_up(), [("192.168.1.2", 4000)])

    def test_after_a_flood(self) -> None:
        """What is past its time keeps no place from a new server."""
        self.patch(discovery, "_MAX_ENTRIES", 20)
        self.table.start()
        self.world.advance(1)
        self.flood(100)
        self.world.advance(ENTRY_LIFETIME)
        self.announcer.start()
        self.world.advance(0.1)
        self.assertEqual(self.look_up(), [("192.168.1.2", 4000)])

    def test_started_again(self) -> None:
        """A server that starts again on another port leaves no old address."""
        self.table.start()
        for port in (4000, 4001):
            announcer = self.announce(SERVER, self.server_host, port)
            announcer.start()
            self.world.advance(1)
            self.assertEqual(self.look_up(), [("192.168.1.2", port)])
        late = LANMessage(LANMessageType.GOODBYE, SERVER, 4000, uuid.UUID(int=1))
        self.announcer._sockets.start()
        self.announcer._sockets.send(late)
        self.world.advance(1)
        self.assertEqual(self.look_up(), [("192.168.1.2", 4001)])

    def test_many_addresses(self) -> None:
        """A name leads to a few addresses, the latest, however many announce it."""
        self.table.start()
        for number in range(10, 30):
            host = self.lan.host(f"192.168.1.{number}")
            self.announce(SERVER, host, number).start()
            self.world.advance(0.1)
        self.assertEqual(
            self.look_up(), [(f"192.168.1.{n}", n) for n in range(29, 21, -1)]
        )

    def test_one_machine_with_many_ports(self) -> None:
        """One machine has one address for a name, whatever it announces."""
        self.table.start()
        for port in range(1, 200):
            message = LANMessage(
                LANMessageType.ANNOUNCE, SERVER, port, uuid.UUID(int=1)
            )
            self.listener.say(encode(message), ("192.168.1.3", PORT))
        self.world.advance(1)
        self.announcer.start()
        self.world.advance(0.1)
        found = self.look_up()
        self.assertEqual(found, [("192.168.1.2", 4000), ("192.168.1.4", 199)])

    def test_cancelled(self) -> None:
        """Who does not want to wait leaves no trace."""
        self.table.start()
        looking = self.table.look_up(SERVER)
        looking.cancel()
        self.failureResultOf(looking, CancelledError)
        self.announcer.start()
        self.world.advance(1)
        self.assertEqual(self.look_up(), [("192.168.1.2", 4000)])

    def test_stopped(self) -> None:
        """Stopping ends what waits and hears nothing more."""
        self.table.start()
        looking = self.table.look_up(SERVER)
        self.world.run_until(self.table.stop())
        self.failureResultOf(looking, CancelledError)
        self.assertEqual(list(self.client_host.reactor.getDelayedCalls()), [])
        self.announcer.start()
        self.world.advance(1)
        self.assertEqual(self.table.entries(), [])

    def test_several_programs(self) -> None:
        """Programs of one machine hear each other, and all hear the server."""
        second = LANTable(self.client_host.reactor, ["192.168.1.3"])
        local = self.announce(OTHER, self.client_host, 4100)
        second.start()
        self.start_both()
        local.start()
        self.world.advance(0.1)
        for table in (self.table, second):
            self.assertEqual(table.addresses(SERVER), [("192.168.1.2", 4000)])
            self.assertEqual(table.addresses(OTHER), [("192.168.1.3", 4100)])


class NetworkChangeTests(DiscoveryTestCase):
    """Machines that come into another network."""

    def test_moved(self) -> None:
        """Both ends announce and ask in the new one, and forget the old one."""
        self.announcer.start()
        self.table.start()
        self.world.advance(1.0)
        self.assertEqual(self.table.addresses(SERVER), [("192.168.1.2", 4000)])
        other = self.world.lan("10.0.0.0/24", name="other")
        other.attach(self.client_host, "10.0.0.3")
        self.table.use(["10.0.0.3"])
        self.world.advance(1.0)
        self.assertEqual(self.table.addresses(SERVER), [])
        other.attach(self.server_host, "10.0.0.2")
        self.announcer.use(["10.0.0.2"])
        self.world.advance(0.1)
        self.assertEqual(self.table.addresses(SERVER), [("10.0.0.2", 4000)])
        self.listener.heard.clear()
        self.world.advance(30.0)
        self.assertEqual(self.kinds(), [])

    def test_stopped(self) -> None:
        """One that has stopped does not begin again."""
        self.announcer.start()
        self.announcer.stop()
        self.announcer.use(["192.168.1.2"])
        self.world.advance(30.0)
        self.assertEqual(self.kinds(), ["announce", "goodbye"])


class InterfaceTests(SynchronousTestCase):
    """Where to discover."""

    def test_loopback_only_without_others(self) -> None:
        """Loopback is for machines without a network; IPv6 is not used."""

        loopback, address, link_local = (
            LocalAddress(host, 24, "a") for host in ("127.0.0.1", "10.0.0.1", "fe80::1")
        )
        self.assertEqual(lan_interfaces([loopback]), ["127.0.0.1"])
        self.assertEqual(lan_interfaces([loopback, address, link_local]), ["10.0.0.1"])
        self.assertEqual(lan_interfaces([]), [])

    def test_one_interface(self) -> None:
        """The one address that was asked for is used; over IPv6 there is none."""
        self.assertEqual(lan_interfaces([], "192.168.1.5"), ["192.168.1.5"])
        self.assertEqual(lan_interfaces([], "2001:db8::5"), [])
