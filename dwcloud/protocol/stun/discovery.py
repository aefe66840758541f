"""The client's side of NAT behaviour discovery (RFC 5780): which questions to ask.

First, from one socket, what the NAT maps it to for different far ends, one after the
other, so that ports given out in sequence show. Then, from a fresh socket, what the
NAT lets in from addresses that were not sent to, and whether it turns packets round.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from enum import Enum
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.nat import Filtering, Mapping, NATBehaviour
from dwcloud.protocol.stun.behaviour import CHANGE_ADDRESS, CHANGE_PORT

__all__ = [
    "Answer",
    "Ask",
    "Discovered",
    "Discovery",
    "DiscoveryCore",
    "DiscoveryEvent",
    "MappingDiscovered",
    "NATDiscovery",
    "Test",
    "discovery_machine",
]

_MOST_STEPS = 32
"""Ports between two mappings that count as given out in sequence."""
_MOST_AT_ONCE = 2
"""The same where only one step is seen, which chance makes small now and then."""


class Test(Enum):
    """One question."""

    FIRST = "the server's own address"
    SECOND = "its other IP address, same port"
    THIRD = "its other IP address and other port"
    FOURTH = "its own IP address, other port"
    FILTER_ADDRESS = "an answer from the other address and port"
    FILTER_PORT = "an answer from the other port"
    HAIRPIN = "the external address of one's own"


_FILTERING = (Test.FILTER_ADDRESS, Test.FILTER_PORT, Test.HAIRPIN)


@attrs.frozen
class Answer:
    """An answer that came.

    :ivar mapped: the address that the server saw.
    :ivar other: OTHER-ADDRESS, from a server that has one.
    :ivar origin: RESPONSE-ORIGIN.
    """

    mapped: Address
    other: Address | None = None
    origin: Address | None = None


@attrs.frozen
class Ask:
    """Send a Binding request; tell the answer, or that none came.

    :ivar fresh: from the second socket, which sends nothing else.
    :ivar destination: where to.
    :ivar flags: of CHANGE-REQUEST; the answer comes from elsewhere then.
    """

    test: Test
    destination: Address
    fresh: bool = False
    flags: int = 0

    @property
    def may_be_lost(self) -> bool:
        """Whether no answer is as likely as one, and not worth waiting for long."""
        return self.test in _FILTERING


@attrs.frozen
class MappingDiscovered:
    """The mapping is known; the rest takes a moment longer."""

    behaviour: NATBehaviour


@attrs.frozen
class Discovered:
    """The end."""

    behaviour: NATBehaviour


DiscoveryEvent = Ask | MappingDiscovered | Discovered


class Discovery(Protocol):
    """What happens in a discovery, in the past tense."""

    def started(self) -> None:
        """Somebody wants to know."""

    def answered(self, test: Test, answer: Answer) -> None:
        """The answer of a test came."""

    def unanswered(self, test: Test) -> None:
        """No answer of a test came in time."""

    def mapping_known(self) -> None:
        """All that can be known of the mapping is known."""

    def all_settled(self) -> None:
        """Nothing is left to be asked."""


@attrs.define
class DiscoveryCore:
    """What the machine acts on.

    :ivar server: the mediator's address.
    :ivar local_port: of the first socket.
    :ivar own_hosts: IP addresses of this host, the best guess first.
    """

    server: Address
    local_port: int
    own_hosts: tuple[str, ...]
    answers: dict[Test, Answer] = attrs.field(factory=dict)
    settled: set[Test] = attrs.field(factory=set)
    events: deque[DiscoveryEvent] = attrs.field(factory=deque)

    @property
    def other(self) -> Address | None:
        """The server's other address, if it has one."""
        first = self.answers.get(Test.FIRST)
        return None if first is None else first.other

    def ask(self, test: Test, destination: Address) -> None:
        """Ask from the socket of the mapping tests."""
        self.events.append(Ask(test, destination))

    def ask_filtering(self) -> None:
        """Ask what needs a socket of its own."""
        self.events.append(MappingDiscovered(self._behaviour()))
        first = self.answers[Test.FIRST]
        both = CHANGE_ADDRESS | CHANGE_PORT
        self.events += (
            Ask(Test.FILTER_ADDRESS, self.server, True, both),
            Ask(Test.FILTER_PORT, self.server, True, CHANGE_PORT),
            # From the same socket: what it sends there opens its own filter.
            Ask(Test.HAIRPIN, first.mapped),
        )

    def mapped(self, test: Test) -> Address | None:
        """What a test of the mapping found."""
        answer = self.answers.get(test)
        return None if answer is None else answer.mapped

    def finish(self) -> None:
        """Tell what was found."""
        self.events.append(Discovered(self._behaviour()))

    def _behaviour(self) -> NATBehaviour:
        first = self.mapped(Test.FIRST)
        if first is None:
            return NATBehaviour(udp=False)
        local = None
        if self.own_hosts:
            host = first.host if first.host in self.own_hosts else self.own_hosts[0]
            local = Address(host, self.local_port)
        mapping = self._mapping(first)
        if local == first:
            mapping = mapping or Mapping.ENDPOINT_INDEPENDENT
        return NATBehaviour(
            local_address=local,
            mapped_address=first,
            mapping=mapping,
            filtering=self._filtering(),
            port_preservation=first.port == self.local_port,
            hairpinning=self._hairpinning(),
            port_step=None if mapping is None else self._port_step(mapping),
        )

    def _mapping(self, first: Address) -> Mapping | None:
        second, third = self.mapped(Test.SECOND), self.mapped(Test.THIRD)
        if second is None:
            return None
        if second == first:
            return Mapping.ENDPOINT_INDEPENDENT
        if third is None:
            return None
        if third == second:
            return Mapping.ADDRESS_DEPENDENT
        return Mapping.ADDRESS_AND_PORT_DEPENDENT

    def _filtering(self) -> Filtering | None:
        other = self.other
        if other is None or not self.settled.issuperset(_FILTERING):
            return None
        if self._came_from(Test.FILTER_ADDRESS, other):
            return Filtering.ENDPOINT_INDEPENDENT
        if self._came_from(Test.FILTER_PORT, Address(self.server.host, other.port)):
            return Filtering.ADDRESS_DEPENDENT
        return Filtering.ADDRESS_AND_PORT_DEPENDENT

    def _came_from(self, test: Test, origin: Address) -> bool:
        answer = self.answers.get(test)
        # A server that does not know CHANGE-REQUEST answers from where it was asked.
        return answer is not None and answer.origin == origin

    def _hairpinning(self) -> bool | None:
        if Test.HAIRPIN not in self.settled:
            return None
        return Test.HAIRPIN in self.answers

    def _port_step(self, mapping: Mapping) -> int:
        if mapping is Mapping.ENDPOINT_INDEPENDENT:
            return 0
        tests = [Test.FIRST, Test.SECOND]
        if mapping is Mapping.ADDRESS_AND_PORT_DEPENDENT:
            tests += [Test.THIRD, Test.FOURTH]
        ports = [a.port for a in map(self.mapped, tests) if a is not None]
        steps = [after - before for before, after in itertools.pairwise(ports)]
        # Others may have been given ports between two of these.
        common = math.gcd(*steps)
        sign = 1 if steps and steps[0] > 0 else -1
        most = _MOST_STEPS if len(steps) > 1 else _MOST_AT_ONCE
        in_sequence = all(0 < step * sign <= most for step in steps)
        return common * sign if in_sequence else 0


_builder = TypeMachineBuilder(Discovery, DiscoveryCore)
_fresh = _builder.state("fresh")
_first = _builder.state("asking the server")
_mapping = _builder.state("asking for the mapping")
_filtering = _builder.state("asking for the filtering")
_over = _builder.state("over")


@_fresh.upon(Discovery.started).to(_first)
def _start(inputs: Discovery, core: DiscoveryCore) -> None:
    core.ask(Test.FIRST, core.server)


@_first.upon(Discovery.answered).to(_mapping)
def _server_answered(
    inputs: Discovery, core: DiscoveryCore, test: Test, answer: Answer
) -> None:
    core.answers[test] = answer
    if answer.other is None:
        # The server has one address: nothing more can be known.
        inputs.all_settled()
    else:
        core.ask(Test.SECOND, Address(answer.other.host, core.server.port))


@_first.upon(Discovery.unanswered).to(_over)
def _no_udp(inputs: Discovery, core: DiscoveryCore, test: Test) -> None:
    core.finish()


@_mapping.upon(Discovery.answered).loop()
def _mapped(inputs: Discovery, core: DiscoveryCore, test: Test, answer: Answer) -> None:
    core.answers[test] = answer
    other = core.other
    if test is Test.SECOND and other and answer.mapped != core.mapped(Test.FIRST):
        core.ask(Test.THIRD, other)
    elif test is Test.THIRD and other:
        core.ask(Test.FOURTH, Address(core.server.host, other.port))
    else:
        inputs.mapping_known()


@_mapping.upon(Discovery.unanswered).loop()
def _not_mapped(inputs: Discovery, core: DiscoveryCore, test: Test) -> None:
    inputs.mapping_known()


@_mapping.upon(Discovery.mapping_known).to(_filtering)
def _ask_filtering(inputs: Discovery, core: DiscoveryCore) -> None:
    core.ask_filtering()


@_filtering.upon(Discovery.answered).loop()
def _let_in(inputs: Discovery, core: DiscoveryCore, test: Test, answer: Answer) -> None:
    core.answers[test] = answer
    _settle(inputs, core, test)


@_filtering.upon(Discovery.unanswered).loop()
def _kept_out(inputs: Discovery, core: DiscoveryCore, test: Test) -> None:
    _settle(inputs, core, test)


def _settle(inputs: Discovery, core: DiscoveryCore, test: Test) -> None:
    core.settled.add(test)
    if core.settled.issuperset(_FILTERING):
        inputs.all_settled()


@_mapping.upon(Discovery.all_settled).to(_over)
@_filtering.upon(Discovery.all_settled).to(_over)
def _finish(inputs: Discovery, core: DiscoveryCore) -> None:
    core.finish()


# Before the start nothing was asked, after the end nothing is of interest.
for _state in (_fresh, _over):
    _state.upon(Discovery.answered).loop().returns(None)
    _state.upon(Discovery.unanswered).loop().returns(None)
    _state.upon(Discovery.all_settled).loop().returns(None)
# It starts once, and the mapping becomes known once.
for _state in (_first, _mapping, _filtering, _over):
    _state.upon(Discovery.started).loop().returns(None)
for _state in (_fresh, _first, _filtering, _over):
    _state.upon(Discovery.mapping_known).loop().returns(None)
_first.upon(Discovery.all_settled).loop().returns(None)

discovery_machine = _builder.build()
"""Builds a :class:`Discovery` from a :class:`DiscoveryCore`."""


class NATDiscovery:
    """One discovery: fed with answers, and with what was not answered in time.

    :param server: the mediator's address.
    :param local_port: of the socket of the mapping tests.
    :param own_hosts: IP addresses of this host, the best guess first.
    """

    def __init__(
        self, server: Address, local_port: int, own_hosts: tuple[str, ...]
    ) -> None:
        self._core = DiscoveryCore(server, local_port, own_hosts)
        self._machine = discovery_machine(self._core)

    def start(self) -> None:
        """Begin."""
        self._machine.started()

    def receive_answer(self, test: Test, answer: Answer) -> None:
        """A test was answered."""
        self._machine.answered(test, answer)

    def fail(self, test: Test) -> None:
        """A test was not answered in time, or by an error."""
        self._machine.unanswered(test)

    def next_event(self) -> DiscoveryEvent | None:
        """Return what is to be done next, or None."""
        return self._core.events.popleft() if self._core.events else None
