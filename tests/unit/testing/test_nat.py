"""Tests of translation tables: mapping, filtering, ports, timeouts, forwards."""

import random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.testing import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    LINUX_WITHOUT_FIREWALL,
    NAT_KINDS,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
    TCP,
    UDP,
    Filtering,
    Mapping,
    NATBehaviour,
    NATTable,
    PortAllocation,
)
from dwcloud.testing import nat as nat_module

INSIDE = Address("192.168.1.10", 5000)
OTHER_INSIDE = Address("192.168.1.11", 5000)
R1, R1_OTHER_PORT = Address("203.0.113.1", 1), Address("203.0.113.1", 2)
R2 = Address("203.0.113.2", 1)


def table(behaviour=PORT_RESTRICTED, **changes):
    return NATTable(attrs.evolve(behaviour, **changes), random.Random(1))


class MappingTests(SynchronousTestCase):
    """Which flows share an external port."""

    def ports(self, mapping):
        nat = table(mapping=mapping, port_allocation=PortAllocation.SEQUENTIAL)
        return [nat.outbound(UDP, INSIDE, r, 0.0) for r in (R1, R1_OTHER_PORT, R2, R1)]

    def test_endpoint_independent(self):
        """One port for all remote addresses."""
        self.assertEqual(self.ports(Mapping.ENDPOINT_INDEPENDENT), [20000] * 4)

    def test_address_dependent(self):
        """One port for each remote host."""
        self.assertEqual(
            self.ports(Mapping.ADDRESS_DEPENDENT), [20000, 20000, 20001, 20000]
        )

    def test_address_and_port_dependent(self):
        """One port for each remote address and port."""
        self.assertEqual(
            self.ports(Mapping.ADDRESS_AND_PORT_DEPENDENT),
            [20000, 20001, 20002, 20000],
        )

    def test_protocols_are_apart(self):
        """UDP and TCP may have the same external port."""
        nat = table()
        self.assertEqual(nat.outbound(UDP, INSIDE, R1, 0.0), 5000)
        self.assertEqual(nat.outbound(TCP, OTHER_INSIDE, R1, 0.0), 5000)
        self.assertEqual(nat.mapped_ports(UDP, 0.0), {5000: INSIDE})
        self.assertEqual(nat.mapped_ports(TCP, 0.0), {5000: OTHER_INSIDE})


class FilteringTests(SynchronousTestCase):
    """From whom a mapped port takes packets."""

    def admitted(self, filtering):
        nat = table(filtering=filtering)
        nat.outbound(UDP, INSIDE, R1, 0.0)
        return [
            nat.inbound(UDP, remote, 5000, 1.0) == INSIDE
            for remote in (R1, R1_OTHER_PORT, R2)
        ]

    def test_table(self):
        """The three kinds of filtering."""
        self.assertEqual(self.admitted(Filtering.ENDPOINT_INDEPENDENT), [True] * 3)
        self.assertEqual(
            self.admitted(Filtering.ADDRESS_DEPENDENT), [True, True, False]
        )
        self.assertEqual(
            self.admitted(Filtering.ADDRESS_AND_PORT_DEPENDENT), [True, False, False]
        )

    def test_nothing_sent(self):
        """A port without a mapping takes nothing, whatever the filtering."""
        for behaviour in NAT_KINDS.values():
            self.assertIsNone(table(behaviour).inbound(UDP, R1, 5000, 0.0))

    def test_tcp(self):
        """TCP from strangers is refused even by a full cone."""
        nat = table(FULL_CONE)
        nat.outbound(TCP, INSIDE, R1, 0.0)
        self.assertEqual(nat.inbound(TCP, R1, 5000, 1.0), INSIDE)
        self.assertIsNone(nat.inbound(TCP, R2, 5000, 1.0))


class PortTests(SynchronousTestCase):
    """How external ports are chosen."""

    def test_preserve(self):
        """The internal port is kept if it is free, else another one taken."""
        nat = table()
        self.assertEqual(nat.outbound(UDP, INSIDE, R1, 0.0), 5000)
        other = nat.outbound(UDP, OTHER_INSIDE, R1, 0.0)
        self.assertNotEqual(other, 5000)
        self.assertEqual(nat.outbound(UDP, OTHER_INSIDE, R2, 0.0), other)
        self.assertEqual(nat.inbound(UDP, R1, other, 0.0), OTHER_INSIDE)

    def test_overloaded(self):
        """One external port for two hosts: answers go to who asked, and only those."""
        nat = table(port_allocation=PortAllocation.OVERLOAD)
        self.assertEqual(nat.outbound(UDP, INSIDE, R1, 0.0), 5000)
        self.assertEqual(nat.outbound(UDP, OTHER_INSIDE, R2, 0.0), 5000)
        self.assertEqual(nat.inbound(UDP, R1, 5000, 1.0), INSIDE)
        self.assertEqual(nat.inbound(UDP, R2, 5000, 1.0), OTHER_INSIDE)
        self.assertIsNone(nat.inbound(UDP, R1_OTHER_PORT, 5000, 1.0))
        # Where both talk to the same far end, the one who did so last gets all.
        self.assertEqual(nat.outbound(UDP, OTHER_INSIDE, R1, 2.0), 5000)
        self.assertEqual(nat.inbound(UDP, R1, 5000, 3.0), OTHER_INSIDE)
        self.assertEqual(nat.outbound(UDP, INSIDE, R1, 4.0), 5000)
        self.assertEqual(nat.inbound(UDP, R1, 5000, 5.0), INSIDE)

    def test_parity(self):
        """Even ports stay even and odd ones odd, as long as there are such."""
        for allocation in (PortAllocation.SEQUENTIAL, PortAllocation.RANDOM):
            nat = table(SYMMETRIC, port_allocation=allocation, preserves_parity=True)
            for port in range(5000, 5050):
                inside = Address("192.168.1.10", port)
                external = nat.outbound(UDP, inside, R1, 0.0)
                self.assertEqual(external % 2, port % 2)
        self.patch(nat_module, "EXTERNAL_PORTS", range(1024, 1028))
        nat = table(SYMMETRIC, preserves_parity=True)
        remotes = [Address("203.0.113.1", n) for n in range(4)]
        ports = {nat.outbound(UDP, INSIDE, remote, 0.0) for remote in remotes}
        self.assertEqual(len(ports), 4)

    def test_sequential_step(self):
        """Sequential ports have the distance asked for."""
        nat = table(SYMMETRIC_SEQUENTIAL, port_step=3)
        ports = [
            nat.outbound(UDP, INSIDE, Address("203.0.113.1", n), 0.0) for n in range(3)
        ]
        self.assertEqual(ports, [20000, 20003, 20006])

    def test_random(self):
        """Random ports differ and depend on the seed only."""
        runs = [
            [table(SYMMETRIC).outbound(UDP, INSIDE, R1, 0.0) for _ in range(2)],
            [table(SYMMETRIC).outbound(UDP, INSIDE, R1, 0.0) for _ in range(2)],
        ]
        self.assertEqual(runs[0], runs[1])
        nat = table(SYMMETRIC)
        remotes = [Address("203.0.113.1", n) for n in range(1, 200)]
        ports = {nat.outbound(UDP, INSIDE, remote, 0.0) for remote in remotes}
        self.assertEqual(len(ports), 199)

    def test_exhaustion(self):
        """When all ports are taken there is none; they come back with time."""
        self.patch(nat_module, "SEQUENTIAL_PORTS", range(20000, 20050))
        self.patch(nat_module, "EXTERNAL_PORTS", range(1024, 1124))
        for allocation, count in (
            (PortAllocation.SEQUENTIAL, 50),
            (PortAllocation.RANDOM, 100),
        ):
            nat = table(SYMMETRIC, port_allocation=allocation)
            remotes = [Address("203.0.113.1", n) for n in range(count)]
            ports = {nat.outbound(UDP, INSIDE, remote, 0.0) for remote in remotes}
            self.assertEqual(len(ports), count)
            self.assertIsNone(nat.outbound(UDP, INSIDE, R2, 1.0))
            self.assertIsNotNone(nat.outbound(UDP, INSIDE, R2, 121.0))


class TimeoutTests(SynchronousTestCase):
    """Mappings die of silence."""

    def test_idle(self):
        """An idle mapping is forgotten after its time."""
        nat = table(mapping_timeout=20.0)
        nat.outbound(UDP, INSIDE, R1, 0.0)
        self.assertEqual(nat.inbound(UDP, R1, 5000, 19.0), INSIDE)
        self.assertEqual(nat.inbound(UDP, R1, 5000, 38.0), INSIDE)
        self.assertIsNone(nat.inbound(UDP, R1, 5000, 60.0))
        self.assertEqual(nat.mapped_ports(UDP, 60.0), {})

    def test_outbound_refreshes(self):
        """Packets from inside keep a mapping."""
        nat = table(SYMMETRIC, mapping_timeout=20.0)
        port = nat.outbound(UDP, INSIDE, R1, 0.0)
        for time in range(10, 100, 10):
            self.assertEqual(nat.outbound(UDP, INSIDE, R1, float(time)), port)
        self.assertNotEqual(nat.outbound(UDP, INSIDE, R1, 200.0), port)

    def test_no_inbound_refresh(self):
        """A NAT may not count packets from outside."""
        nat = table(mapping_timeout=20.0, inbound_refresh=False)
        nat.outbound(UDP, INSIDE, R1, 0.0)
        self.assertEqual(nat.inbound(UDP, R1, 5000, 19.0), INSIDE)
        self.assertIsNone(nat.inbound(UDP, R1, 5000, 21.0))

    def test_permission_dies_alone(self):
        """A mapping kept alive for one remote closes for another one."""
        nat = table(ADDRESS_RESTRICTED, mapping_timeout=20.0)
        nat.outbound(UDP, INSIDE, R2, 0.0)
        nat.outbound(UDP, INSIDE, R1, 15.0)
        self.assertIsNone(nat.inbound(UDP, R2, 5000, 25.0))
        self.assertEqual(nat.inbound(UDP, R1, 5000, 25.0), INSIDE)

    def test_tcp_lives_longer(self):
        """TCP mappings last hours (RFC 5382, REQ-5)."""
        nat = table()
        nat.outbound(TCP, INSIDE, R1, 0.0)
        self.assertEqual(nat.inbound(TCP, R1, 5000, 7000.0), INSIDE)

    def test_forget(self):
        """A reboot forgets mappings and keeps forwards."""
        nat = table(FULL_CONE)
        nat.outbound(UDP, INSIDE, R1, 0.0)
        nat.add_forward(TCP, 80, INSIDE)
        nat.forget()
        self.assertIsNone(nat.inbound(UDP, R1, 5000, 0.0))
        self.assertEqual(nat.forwards, {(TCP, 80): INSIDE})


class ForwardTests(SynchronousTestCase):
    """Port forwards."""

    def test_forward(self):
        """Anybody comes in, and answers leave from the forwarded port."""
        nat = table(SYMMETRIC)
        nat.add_forward(UDP, 80, INSIDE)
        self.assertEqual(nat.inbound(UDP, R1, 80, 0.0), INSIDE)
        self.assertEqual(nat.outbound(UDP, INSIDE, R1, 1.0), 80)
        self.assertNotEqual(nat.outbound(UDP, INSIDE, R2, 1.0), 80)

    def test_taken(self):
        """A port is forwarded to one address; mappings leave it alone."""
        nat = table()
        nat.add_forward(UDP, 5000, OTHER_INSIDE)
        nat.add_forward(UDP, 5000, OTHER_INSIDE)
        self.assertRaises(ValueError, nat.add_forward, UDP, 5000, INSIDE)
        self.assertNotEqual(nat.outbound(UDP, INSIDE, R1, 0.0), 5000)

    def test_remove(self):
        """A removed forward is closed."""
        nat = table()
        nat.add_forward(UDP, 80, INSIDE)
        nat.remove_forward(UDP, 80)
        nat.remove_forward(UDP, 80)
        self.assertIsNone(nat.inbound(UDP, R1, 80, 0.0))


class LinuxTests(SynchronousTestCase):
    """The trap of a Linux router without a firewall (nat.md)."""

    def test_early_packet(self):
        """An early packet of the peer moves the own flow to another port."""
        nat = table(LINUX_WITHOUT_FIREWALL)
        self.assertEqual(nat.outbound(UDP, INSIDE, R1, 0.0), 5000)
        self.assertIsNone(nat.inbound(UDP, R2, 5000, 1.0))
        moved = nat.outbound(UDP, INSIDE, R2, 2.0)
        self.assertNotEqual(moved, 5000)
        self.assertEqual(nat.outbound(UDP, INSIDE, R2, 3.0), moved)
        self.assertEqual(nat.outbound(UDP, INSIDE, R1, 3.0), 5000)
        self.assertEqual(nat.inbound(UDP, R2, moved, 4.0), INSIDE)

    def test_spoilt(self):
        """What is new leaves by the other port as well, once there is one."""
        nat = table(LINUX_WITHOUT_FIREWALL)
        self.assertEqual(nat.outbound(UDP, INSIDE, R1, 0.0), 5000)
        nat.inbound(UDP, R2, 5000, 1.0)
        moved = nat.outbound(UDP, INSIDE, R2, 2.0)
        self.assertEqual(nat.outbound(UDP, INSIDE, R1_OTHER_PORT, 3.0), moved)
        self.assertEqual(nat.outbound(UDP, INSIDE, R1, 3.0), 5000)
        self.assertEqual(nat.inbound(UDP, R1, 5000, 4.0), INSIDE)

    def test_own_packet_first(self):
        """Who sends first keeps the port."""
        nat = table(LINUX_WITHOUT_FIREWALL)
        self.assertEqual(nat.outbound(UDP, INSIDE, R2, 0.0), 5000)
        self.assertEqual(nat.inbound(UDP, R2, 5000, 1.0), INSIDE)
        self.assertEqual(nat.outbound(UDP, INSIDE, R2, 2.0), 5000)

    def test_forgotten(self):
        """The router forgets the early packet after 30 s."""
        nat = table(LINUX_WITHOUT_FIREWALL)
        nat.inbound(UDP, R2, 5000, 0.0)
        self.assertEqual(nat.outbound(UDP, INSIDE, R2, 31.0), 5000)


class PropertyTests(SynchronousTestCase):
    """What holds for every behaviour and any traffic."""

    @given(
        st.builds(
            NATBehaviour,
            mapping=st.sampled_from(Mapping),
            filtering=st.sampled_from(Filtering),
            port_allocation=st.sampled_from(PortAllocation),
            preserves_parity=st.booleans(),
            without_firewall=st.booleans(),
        ),
        st.lists(
            st.tuples(
                st.booleans(),
                st.integers(0, 2),
                st.integers(0, 2),
                st.floats(0.0, 60.0),
            ),
            max_size=40,
        ),
    )
    @settings(max_examples=150, deadline=None)
    def test_no_port_is_shared(self, behaviour, traffic):
        """No external port stands for two internal addresses at once, but where ports
        are overloaded, and who was just sent to may answer."""
        nat = table(behaviour)
        now = 0.0
        inside = [INSIDE, OTHER_INSIDE, Address("192.168.1.10", 5001)]
        remotes = [R1, R1_OTHER_PORT, R2]
        for is_outbound, who, whom, wait in traffic:
            now += wait
            if is_outbound:
                port = nat.outbound(UDP, inside[who], remotes[whom], now)
                if behaviour.port_allocation is not PortAllocation.OVERLOAD:
                    self.assertEqual(nat.mapped_ports(UDP, now)[port], inside[who])
                self.assertEqual(
                    nat.inbound(UDP, remotes[whom], port, now), inside[who]
                )
            else:
                nat.inbound(UDP, remotes[whom], 5000 + who, now)
