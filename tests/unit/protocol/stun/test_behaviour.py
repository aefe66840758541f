"""NAT behaviour discovery: the server's answers and the client's questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.nat import Mapping, NATBehaviour
from dwcloud.protocol.stun.attributes import AttributeType, decode_address
from dwcloud.protocol.stun.behaviour import (
    CHANGE_ADDRESS,
    CHANGE_PORT,
    BehaviourServer,
    change_request,
)
from dwcloud.protocol.stun.binding import binding_request, reflexive_address
from dwcloud.protocol.stun.discovery import (
    Answer,
    Ask,
    Discovered,
    Discovery,
    DiscoveryCore,
    MappingDiscovered,
    NATDiscovery,
    Test,
    discovery_machine,
)
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage
from tests.unit.protocol.mediation.machine_walk import walk

PRIMARY, OTHER = Address("192.0.2.1", 3345), Address("192.0.2.2", 3346)
CLIENT = Address("198.51.100.7", 4000)
MAPPED = Address("198.51.100.7", 5000)


class ServerTests(SynchronousTestCase):
    """Four sockets, one of which answers."""

    def ask(self, flags: int | None, asked: Address) -> tuple[STUNMessage, Address]:
        """Ask a socket; return the answer and the socket that sends it."""
        request = binding_request(bytes(12))
        if flags is not None:
            request = request.with_attributes(change_request(flags))
        request = STUNMessage.decode(request.encode())
        return BehaviourServer(PRIMARY, OTHER).answer(request, CLIENT, asked)

    def test_who_answers(self) -> None:
        """Each flag changes one part of the address, seen from the socket asked."""
        for asked in BehaviourServer(PRIMARY, OTHER).sockets:
            opposite = Address(
                OTHER.host if asked.host == PRIMARY.host else PRIMARY.host,
                OTHER.port if asked.port == PRIMARY.port else PRIMARY.port,
            )
            for flags, origin in {
                None: asked,
                0: asked,
                CHANGE_PORT: Address(asked.host, opposite.port),
                CHANGE_ADDRESS: Address(opposite.host, asked.port),
                CHANGE_ADDRESS | CHANGE_PORT: opposite,
            }.items():
                answer, sender = self.ask(flags, asked)
                self.assertEqual(sender, origin)
                self.assertEqual(reflexive_address(answer), CLIENT)
                for kind, expected in (
                    (AttributeType.RESPONSE_ORIGIN, origin),
                    (AttributeType.OTHER_ADDRESS, opposite),
                ):
                    self.assertEqual(decode_address(answer.require(kind)), expected)

    def test_unknown(self) -> None:
        """An attribute that is not known is refused, by the socket that was asked."""
        request = binding_request(bytes(12)).with_attributes(
            change_request(CHANGE_PORT),
            RawAttribute(AttributeType.RESPONSE_PORT, b"ab"),
        )
        request = STUNMessage.decode(request.encode())
        answer, sender = BehaviourServer(PRIMARY, OTHER).answer(
            request, CLIENT, PRIMARY
        )
        self.assertIs(answer.message_class, MessageClass.ERROR)
        self.assertEqual(sender, PRIMARY)

    def test_addresses(self) -> None:
        """The other address has another host and port, and the same family."""
        for wrong in (
            Address(PRIMARY.host, 9),
            Address("192.0.2.9", PRIMARY.port),
            Address("2001:db8::1", 9),
        ):
            self.assertRaises(LocalProtocolError, BehaviourServer, PRIMARY, wrong)


def machine(core: DiscoveryCore, *inputs: Callable[[Discovery], None]) -> Any:
    """Return a machine to which these inputs happened."""
    made = discovery_machine(core)
    for give in inputs:
        give(made)
    return made


class MachineTests(SynchronousTestCase):
    """What is asked, and what follows from the answers."""

    def discover(self, *ports: int, host: str = MAPPED.host) -> NATBehaviour:
        """Give the mapping tests these ports and let the rest be unanswered."""
        discovery = NATDiscovery(PRIMARY, 4000, ("192.168.1.2",))
        discovery.start()
        answers = iter(ports)
        while (event := discovery.next_event()) is not None:
            if isinstance(event, Discovered):
                return event.behaviour
            if isinstance(event, MappingDiscovered):
                self.assertIsNone(event.behaviour.filtering)
                continue
            port = next(answers, None)
            if port is None or event.may_be_lost:
                discovery.fail(event.test)
            else:
                answer = Answer(Address(host, port), OTHER, PRIMARY)
                discovery.receive_answer(event.test, answer)
        raise AssertionError("it did not end")

    def test_steps(self) -> None:
        """Ports count as a sequence if they go one way by small multiples of a step."""
        for ports, step in {
            (5000, 5001, 5002, 5003): 1,
            (5000, 5001, 5003, 5004): 1,
            (5000, 5002, 5004, 5008): 2,
            (5003, 5002, 5001, 5000): -1,
            (5000, 5001, 5000, 5001): 0,
            (5000, 5002, 5003, 5005): 1,
            (5000, 5002, 5005, 5007): 1,
            (5000, 5004, 5010, 5014): 2,
            (5000, 5040, 5041, 5042): 0,
            (5000, 41000, 1200, 33000): 0,
            (5000, 5001, 5002, 5002): 0,
        }.items():
            self.assertEqual(self.discover(*ports).port_step, step, ports)

    def test_address_dependent(self) -> None:
        """One mapping a far host, whatever its port: one step is known."""
        found = self.discover(5000, 5001, 5001, 5000)
        self.assertIs(found.mapping, Mapping.ADDRESS_DEPENDENT)
        self.assertEqual(found.port_step, 1)
        # Random ports are as near as that now and then.
        self.assertEqual(self.discover(5000, 5020, 5020, 5000).port_step, 0)

    @given(st.lists(st.integers(1, 65535), max_size=4))
    def test_any_ports(self, ports: list[int]) -> None:
        """Whatever the server says, it comes to an end."""
        self.assertEqual(self.discover(*ports).udp, bool(ports))

    def test_destinations(self) -> None:
        """The mapping tests go to all four sockets, one after the other."""
        discovery = NATDiscovery(PRIMARY, 4000, ())
        discovery.start()
        asked = []
        for port in range(5000, 5004):
            event = discovery.next_event()
            assert isinstance(event, Ask)
            self.assertIsNone(discovery.next_event())
            asked.append(event.destination)
            discovery.receive_answer(
                event.test, Answer(Address("198.51.100.7", port), OTHER)
            )
        self.assertEqual(
            asked,
            [
                PRIMARY,
                Address(OTHER.host, PRIMARY.port),
                OTHER,
                Address(PRIMARY.host, OTHER.port),
            ],
        )

    def test_all_inputs(self) -> None:
        """Each input is possible in each state."""
        answer = Answer(MAPPED, OTHER)
        more = Answer(Address(MAPPED.host, 5001), OTHER)

        def reach(*inputs: Callable[[Discovery], None]) -> Callable[[], Any]:
            return lambda: machine(DiscoveryCore(PRIMARY, 4000, ()), *inputs)

        def start(m: Discovery) -> None:
            m.started()

        def first(m: Discovery) -> None:
            m.answered(Test.FIRST, answer)

        def second(m: Discovery) -> None:
            m.answered(Test.SECOND, answer)

        found = walk(
            {
                "fresh": reach(),
                "asking the server": reach(start),
                "asking for the mapping": reach(start, first),
                "asking for the filtering": reach(start, first, second),
                "over": reach(start, lambda m: m.unanswered(Test.FIRST)),
            },
            {
                "started": start,
                "answered": lambda m: m.answered(Test.SECOND, more),
                "unanswered": lambda m: m.unanswered(Test.SECOND),
                "mapping_known": lambda m: m.mapping_known(),
                "all_settled": lambda m: m.all_settled(),
            },
        )
        moves = {key: to for key, to in found.items() if to != key[0]}
        self.assertEqual(
            moves,
            {
                ("fresh", "started"): "asking the server",
                ("asking the server", "answered"): "asking for the mapping",
                ("asking the server", "unanswered"): "over",
                ("asking for the mapping", "unanswered"): "asking for the filtering",
                ("asking for the mapping", "mapping_known"): "asking for the filtering",
                ("asking for the mapping", "all_settled"): "over",
                ("asking for the filtering", "all_settled"): "over",
            },
        )
