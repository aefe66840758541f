"""The server's answer to a connection request."""

from __future__ import annotations

import uuid
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectionAck, ConnectionRequested
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.mediation.responder import (
    MAX_PUNCHED,
    ResponseCore,
    response_machine,
)
from tests.unit.protocol.mediation.machine_walk import walk

REQUEST = ConnectionRequested(
    session_id=uuid.UUID(int=1),
    token=b"t" * 16,
    client_name="c",
    udp_endpoints=(Address("192.0.2.1", 1),),
    parameters=ConnectionParameters(),
)
LOCAL = (Address("10.0.0.2", 5000),)


class ResponderTests(SynchronousTestCase):
    """One connect session at the server."""

    def setUp(self) -> None:
        self.calls: list[Any] = []
        self.machine = response_machine(
            ResponseCore(
                local_endpoints=LOCAL,
                acknowledge=lambda ack, token: self.calls.append((ack, token)),
                punch=lambda request, new: self.calls.append(new),
                abandon=lambda: self.calls.append("abandon"),
                withdraw=lambda: self.calls.append("withdraw"),
            )
        )

    def test_confirms_first(self) -> None:
        """The confirmation goes out before the first packet to the client."""
        self.machine.requested(REQUEST)
        ack = ConnectionAck(session_id=REQUEST.session_id, udp_endpoints=LOCAL)
        self.assertEqual(self.calls, [(ack, REQUEST.token), REQUEST.udp_endpoints])

    def test_more_addresses(self) -> None:
        """A further request adds addresses, and confirms nothing again."""
        self.machine.requested(REQUEST)
        further = Address("192.0.2.2", 2)
        self.calls.clear()
        self.machine.requested(REQUEST)
        self.assertEqual(self.calls, [])
        self.machine.requested(
            attrs.evolve(REQUEST, udp_endpoints=(further, *REQUEST.udp_endpoints))
        )
        self.assertEqual(self.calls, [(further,)])

    def test_no_addresses(self) -> None:
        """A client without UDP addresses is announced, too."""
        self.machine.requested(attrs.evolve(REQUEST, udp_endpoints=()))
        self.assertEqual(self.calls[1:], [()])

    def test_addresses_are_bounded(self) -> None:
        """A mediator cannot make a server send to everybody."""
        for start in range(0, 160, 16):
            many = tuple(Address("192.0.2.1", start + n) for n in range(16))
            self.machine.requested(attrs.evolve(REQUEST, udp_endpoints=many))
        punched = [a for call in self.calls[1:] for a in call]
        self.assertEqual(len(punched), MAX_PUNCHED)

    def test_refused(self) -> None:
        """A session that the mediator does not know any more is given up."""
        self.machine.requested(REQUEST)
        self.machine.ack_refused()
        self.assertEqual(self.calls[-1], "abandon")

    def test_ended(self) -> None:
        """When the session is over the confirmation is not repeated any more."""
        self.machine.requested(REQUEST)
        self.machine.ended()
        self.assertEqual(self.calls[-1], "withdraw")


class ResponseWalk(SynchronousTestCase):
    """Each input in each state."""

    INPUTS = {
        "requested": lambda m: m.requested(REQUEST),
        "accepted": lambda m: m.ack_accepted(),
        "refused": lambda m: m.ack_refused(),
        "timed out": lambda m: m.ack_timed_out(),
        "ended": lambda m: m.ended(),
    }

    def make(self, *steps: str) -> Any:
        """Return a machine after some inputs."""
        core = ResponseCore(
            LOCAL,
            lambda ack, token: None,
            lambda request, new: None,
            lambda: None,
            lambda: None,
        )
        machine = response_machine(core)
        for step in steps:
            self.INPUTS[step](machine)
        return machine

    def test_walk(self) -> None:
        """The table of transitions, whole."""
        reach = {
            "fresh": lambda: self.make(),
            "confirming": lambda: self.make("requested"),
            "confirmed": lambda: self.make("requested", "accepted"),
            "unconfirmed": lambda: self.make("requested", "timed out"),
            "over": lambda: self.make("ended"),
        }
        moves = {
            ("fresh", "requested"): "confirming",
            ("confirming", "accepted"): "confirmed",
            ("confirming", "timed out"): "unconfirmed",
            ("confirming", "refused"): "over",
        }
        for (state, given_input), after in walk(reach, self.INPUTS).items():
            expected = moves.get((state, given_input), state)
            if given_input == "ended":
                expected = "over"
            self.assertEqual(after, expected, (state, given_input))
