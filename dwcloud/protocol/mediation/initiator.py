"""The client's side of an introduction: ask over UDP, and over TCP where that tarries.

The request goes over UDP from the socket that will punch. Half a second later, or as
soon as UDP fails, the same request goes over TCP as well; the first answer wins
(docs/protocol/mediation).
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.deadlines import Deadlines
from dwcloud.protocol.mediation.messages import ConnectResponse

__all__ = [
    "TCP_DELAY",
    "Answered",
    "AskOverTCP",
    "AskOverUDP",
    "Channel",
    "Initiation",
    "InitiationCore",
    "Initiator",
    "InitiatorEvent",
    "NoAnswer",
    "StopAsking",
    "initiation_machine",
]

TCP_DELAY = 0.5
"""Seconds after which the request is doubled over TCP."""


class Channel(Enum):
    """How a request goes to the mediator."""

    UDP = "UDP"
    TCP = "TCP"


class _Timer(Enum):
    TCP_DUE = "TCP is due"
    LIMIT = "time limit"


@attrs.frozen
class AskOverUDP:
    """Send the request over UDP, with retransmissions."""


@attrs.frozen
class AskOverTCP:
    """Connect and send the request over TCP."""


@attrs.frozen
class StopAsking:
    """Stop a request that is under way."""

    channel: Channel


@attrs.frozen
class Answered:
    """The mediator answered; the end.

    :ivar channel: how the first answer came.
    :ivar seconds: it took this long.
    """

    response: ConnectResponse
    channel: Channel
    seconds: float


@attrs.frozen
class NoAnswer:
    """There is no answer and will be none; the end.

    :ivar reasons: what went wrong on each channel that was tried.
    """

    reasons: dict[Channel, str]


InitiatorEvent = AskOverUDP | AskOverTCP | StopAsking | Answered | NoAnswer


class Initiation(Protocol):
    """What happens to a client's request, in the past tense."""

    def started(self) -> None:
        """The client wants to be introduced."""

    def tcp_due(self) -> None:
        """UDP has had its head start."""

    def answered(self, channel: Channel, response: ConnectResponse) -> None:
        """The answer came."""

    def udp_failed(self, reason: str) -> None:
        """UDP is no way to the mediator."""

    def tcp_failed(self, reason: str) -> None:
        """TCP is no way to the mediator."""

    def time_ran_out(self) -> None:
        """The time limit is over."""

    def cancelled(self) -> None:
        """The client does not want it any more."""


@attrs.define
class InitiationCore:
    """What the machine acts on.

    :ivar limit: seconds until an answer is not waited for any longer.
    :ivar now: time of the current input.
    :ivar started_at: time of the start.
    """

    limit: float
    now: float = 0.0
    started_at: float = 0.0
    deadlines: Deadlines[_Timer] = attrs.field(factory=Deadlines)
    events: deque[InitiatorEvent] = attrs.field(factory=deque)
    under_way: set[Channel] = attrs.field(factory=set)
    reasons: dict[Channel, str] = attrs.field(factory=dict)

    def ask(self, channel: Channel) -> None:
        """Send the request over a channel."""
        self.under_way.add(channel)
        self.events.append(AskOverUDP() if channel is Channel.UDP else AskOverTCP())

    def failed(self, channel: Channel, reason: str) -> None:
        """Note that a channel is of no use."""
        self.under_way.discard(channel)
        self.reasons[channel] = reason

    def end(self, event: InitiatorEvent | None) -> None:
        """Stop what is under way and tell the end."""
        self.deadlines.clear()
        for channel in Channel:
            if channel in self.under_way:
                self.events.append(StopAsking(channel))
        self.under_way.clear()
        if event is not None:
            self.events.append(event)


_builder = TypeMachineBuilder(Initiation, InitiationCore)
_fresh = _builder.state("fresh")
_asking_udp = _builder.state("asking over UDP")
_asking_both = _builder.state("asking over UDP and TCP")
_only_udp = _builder.state("asking over UDP after TCP failed")
_only_tcp = _builder.state("asking over TCP after UDP failed")
_over = _builder.state("over")


@_fresh.upon(Initiation.started).to(_asking_udp)
def _start(inputs: Initiation, core: InitiationCore) -> None:
    core.started_at = core.now
    core.deadlines.set(_Timer.TCP_DUE, core.now + TCP_DELAY)
    core.deadlines.set(_Timer.LIMIT, core.now + core.limit)
    core.ask(Channel.UDP)


@_asking_udp.upon(Initiation.tcp_due).to(_asking_both)
def _double(inputs: Initiation, core: InitiationCore) -> None:
    core.ask(Channel.TCP)


@_asking_udp.upon(Initiation.udp_failed).to(_only_tcp)
def _change_to_tcp(inputs: Initiation, core: InitiationCore, reason: str) -> None:
    core.failed(Channel.UDP, reason)
    core.deadlines.cancel(_Timer.TCP_DUE)
    core.ask(Channel.TCP)


@_asking_both.upon(Initiation.udp_failed).to(_only_tcp)
def _tcp_remains(inputs: Initiation, core: InitiationCore, reason: str) -> None:
    core.failed(Channel.UDP, reason)


@_asking_both.upon(Initiation.tcp_failed).to(_only_udp)
def _udp_remains(inputs: Initiation, core: InitiationCore, reason: str) -> None:
    core.failed(Channel.TCP, reason)


@_only_tcp.upon(Initiation.tcp_failed).to(_over)
def _tcp_failed_last(inputs: Initiation, core: InitiationCore, reason: str) -> None:
    core.failed(Channel.TCP, reason)
    core.end(NoAnswer(core.reasons))


@_only_udp.upon(Initiation.udp_failed).to(_over)
def _udp_failed_last(inputs: Initiation, core: InitiationCore, reason: str) -> None:
    core.failed(Channel.UDP, reason)
    core.end(NoAnswer(core.reasons))


def _answer(
    inputs: Initiation,
    core: InitiationCore,
    channel: Channel,
    response: ConnectResponse,
) -> None:
    core.under_way.discard(channel)
    core.end(Answered(response, channel, core.now - core.started_at))


def _give_up(inputs: Initiation, core: InitiationCore) -> None:
    for channel in core.under_way:
        core.reasons[channel] = f"no answer within {core.limit:g} seconds"
    core.end(NoAnswer(core.reasons))


def _cancel(inputs: Initiation, core: InitiationCore) -> None:
    core.end(None)


for _state in (_asking_udp, _asking_both, _only_udp, _only_tcp):
    _state.upon(Initiation.answered).to(_over)(_answer)
    _state.upon(Initiation.time_ran_out).to(_over)(_give_up)
    _state.upon(Initiation.cancelled).to(_over)(_cancel)
    # It starts once.
    _state.upon(Initiation.started).loop().returns(None)

_fresh.upon(Initiation.cancelled).to(_over).returns(None)
# Before the start nothing is under way.
_fresh.upon(Initiation.tcp_due).loop().returns(None)
_fresh.upon(Initiation.answered).loop().returns(None)
_fresh.upon(Initiation.udp_failed).loop().returns(None)
_fresh.upon(Initiation.tcp_failed).loop().returns(None)
_fresh.upon(Initiation.time_ran_out).loop().returns(None)
# Nor is TCP before its turn, or again after it.
_asking_udp.upon(Initiation.tcp_failed).loop().returns(None)
_asking_both.upon(Initiation.tcp_due).loop().returns(None)
_only_udp.upon(Initiation.tcp_due).loop().returns(None)
_only_tcp.upon(Initiation.tcp_due).loop().returns(None)
_only_udp.upon(Initiation.tcp_failed).loop().returns(None)
_only_tcp.upon(Initiation.udp_failed).loop().returns(None)
# The second answer, and failures of what was stopped, change nothing.
_over.upon(Initiation.started).loop().returns(None)
_over.upon(Initiation.tcp_due).loop().returns(None)
_over.upon(Initiation.answered).loop().returns(None)
_over.upon(Initiation.udp_failed).loop().returns(None)
_over.upon(Initiation.tcp_failed).loop().returns(None)
_over.upon(Initiation.time_ran_out).loop().returns(None)
_over.upon(Initiation.cancelled).loop().returns(None)

initiation_machine = _builder.build()
"""Builds an :class:`Initiation` from an :class:`InitiationCore`."""


class Initiator:
    """One request for an introduction: fed with answers, failures and time.

    :param limit: seconds for all of it.
    """

    def __init__(self, *, limit: float) -> None:
        self._core = InitiationCore(limit)
        self._machine = initiation_machine(self._core)

    def start(self, *, now: float) -> None:
        """Begin."""
        self._core.now = now
        self._machine.started()

    def receive_answer(
        self, channel: Channel, response: ConnectResponse, *, now: float
    ) -> None:
        """The mediator answered over ``channel``."""
        self._core.now = now
        self._machine.answered(channel, response)

    def fail(self, channel: Channel, reason: str, *, now: float) -> None:
        """``channel`` failed."""
        self._core.now = now
        if channel is Channel.UDP:
            self._machine.udp_failed(reason)
        else:
            self._machine.tcp_failed(reason)

    def cancel(self) -> None:
        """Stop; there will be neither answer nor failure."""
        self._machine.cancelled()

    def handle_timer(self, *, now: float) -> None:
        """Time has passed."""
        self._core.now = now
        for timer in self._core.deadlines.pop_due(now):
            if timer is _Timer.TCP_DUE:
                self._machine.tcp_due()
            else:
                self._machine.time_ran_out()

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called, absolute seconds."""
        return self._core.deadlines.next()

    def next_event(self) -> InitiatorEvent | None:
        """Return what is to be done next, or None."""
        return self._core.events.popleft() if self._core.events else None
