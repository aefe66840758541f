"""The server's side of becoming reachable: ``listen`` with a proof of identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.key_exchange import KeyExchange, server_sealing
from dwcloud.protocol.mediation.messages import (
    PROTOCOL_VERSION,
    Listen,
    ListenResponse,
)
from dwcloud.protocol.mediation.proof import Signer, add_proof
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.attributes import AttributeType, decode_error_code
from dwcloud.protocol.stun.message import MessageClass, STUNMessage
from dwcloud.protocol.stun.sealing import Sealing

__all__ = [
    "Credentials",
    "Registration",
    "RegistrationCore",
    "answer_received",
    "registration_machine",
]


@attrs.frozen
class Credentials:
    """What a server proves itself with.

    :ivar name: ``server.system``.
    :ivar certificates: the server's and its system's, DER.
    :ivar sign: signs with the server's key.
    """

    name: PeerName
    certificates: tuple[bytes, bytes] = attrs.field(repr=False)
    sign: Signer = attrs.field(repr=False)


class Registration(Protocol):
    """What happens on a new control connection, in the past tense."""

    def connection_made(self) -> None:
        """The connection is there, with TLS if it has any."""

    def challenge_received(self, nonce: bytes) -> None:
        """The mediator wants a proof."""

    def success_received(self, answer: STUNMessage) -> None:
        """The mediator accepted; its answer is not verified yet."""

    def refusal_received(self, code: int, reason: str) -> None:
        """The mediator refused, or its answer was of no use."""

    def connection_lost(self) -> None:
        """The connection is gone."""


@attrs.define
class RegistrationCore:
    """What the machine acts on.

    :ivar credentials: of the server.
    :ivar exchange: a fresh key agreement, for this connection only.
    :ivar channel_binding: gives what only the ends of the TLS connection know; empty
        without TLS.
    :ivar random_bytes: a source of randomness.
    :ivar request: sends a request; the answer comes back as an input.
    :ivar seal: from now on the connection is protected so.
    :ivar on_registered: told once when the server is reachable.
    :ivar on_refused: told once, with a STUN error code and a text.
    """

    credentials: Credentials
    exchange: KeyExchange
    channel_binding: Callable[[], bytes]
    random_bytes: Callable[[int], bytes]
    request: Callable[[STUNMessage], None]
    seal: Callable[[Sealing], None]
    on_registered: Callable[[ListenResponse], None]
    on_refused: Callable[[int, str], None]
    nonce: bytes = b""

    def listen(self) -> STUNMessage:
        """Return a new ``listen`` without a proof."""
        message = Listen(
            name=self.credentials.name,
            protocol_version=PROTOCOL_VERSION,
            public_key=self.exchange.public_key,
        )
        return message.to_stun(self.random_bytes(12))

    def accept(self, answer: STUNMessage) -> ListenResponse:
        """Derive the keys, verify the answer with them, and use them from now on."""
        response = ListenResponse.from_stun(answer)
        sealing = server_sealing(self.exchange, response.public_key, self.nonce)
        sealing.open(answer.raw)
        self.seal(sealing)
        return response


_builder = TypeMachineBuilder(Registration, RegistrationCore)
_fresh = _builder.state("fresh")
_asking = _builder.state("asking")
_proving = _builder.state("proving")
_registered = _builder.state("registered")
_refused = _builder.state("refused")
_lost = _builder.state("lost")


@_fresh.upon(Registration.connection_made).to(_asking)
def _ask(inputs: Registration, core: RegistrationCore) -> None:
    core.request(core.listen())


@_asking.upon(Registration.challenge_received).to(_proving)
def _prove(inputs: Registration, core: RegistrationCore, nonce: bytes) -> None:
    core.nonce = nonce
    core.request(
        add_proof(
            core.listen(),
            nonce=nonce,
            certificates=core.credentials.certificates,
            sign=core.credentials.sign,
            channel_binding=core.channel_binding(),
        )
    )


@_proving.upon(Registration.success_received).to(_registered)
def _accept(inputs: Registration, core: RegistrationCore, answer: STUNMessage) -> None:
    try:
        response = core.accept(answer)
    except RemoteProtocolError as error:
        # No state of its own: the owner closes the connection.
        core.on_refused(error.code or 400, f"the answer to listen: {error}")
    else:
        core.on_registered(response)


# One proof a connection: who is challenged again did not prove himself.
@_proving.upon(Registration.challenge_received).to(_refused)
def _not_proven(inputs: Registration, core: RegistrationCore, nonce: bytes) -> None:
    core.on_refused(401, "the mediator did not accept the proof of identity")


@_asking.upon(Registration.refusal_received).to(_refused)
@_proving.upon(Registration.refusal_received).to(_refused)
def _refuse(
    inputs: Registration, core: RegistrationCore, code: int, reason: str
) -> None:
    core.on_refused(code, reason)


# A mediator that accepts without a proof gave no keys and cannot be talked to.
@_asking.upon(Registration.success_received).to(_refused)
def _accepted_too_early(
    inputs: Registration, core: RegistrationCore, answer: STUNMessage
) -> None:
    core.on_refused(400, "the mediator asked for no proof of identity")


_fresh.upon(Registration.connection_lost).to(_lost).returns(None)
_asking.upon(Registration.connection_lost).to(_lost).returns(None)
_proving.upon(Registration.connection_lost).to(_lost).returns(None)
_registered.upon(Registration.connection_lost).to(_lost).returns(None)
_refused.upon(Registration.connection_lost).to(_lost).returns(None)

# Answers come to requests only; where none is under way there can be none.
for _state in (_fresh, _registered, _refused, _lost):
    _state.upon(Registration.challenge_received).loop().returns(None)
    _state.upon(Registration.success_received).loop().returns(None)
    _state.upon(Registration.refusal_received).loop().returns(None)
# A connection is made once and lost once.
for _state in (_asking, _proving, _registered, _refused, _lost):
    _state.upon(Registration.connection_made).loop().returns(None)
_lost.upon(Registration.connection_lost).loop().returns(None)

registration_machine = _builder.build()
"""Builds a :class:`Registration` from a :class:`RegistrationCore`."""


def answer_received(registration: Registration, answer: STUNMessage) -> None:
    """Give the answer to the last request to the machine, as the input that it is."""
    if answer.message_class is MessageClass.SUCCESS:
        registration.success_received(answer)
        return
    try:
        code, reason = decode_error_code(answer.require(AttributeType.ERROR_CODE))
    except RemoteProtocolError as error:
        registration.refusal_received(400, str(error))
        return
    nonce = answer.get(AttributeType.NONCE)
    if code == 401 and nonce is not None:
        registration.challenge_received(nonce)
    else:
        registration.refusal_received(code, reason)
