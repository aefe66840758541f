"""The mediator's side of a control connection: who may use it as which server.

A connection starts as anybody's. A request that needs an identity is answered with
401 and a nonce; the proof that uses the nonce up makes the connection that of a
server. From the answer to ``listen`` on each message is protected by keys that come
of the proof, so that what arrives needs no further check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.key_exchange import KeyExchange, mediator_sealing
from dwcloud.protocol.mediation.messages import (
    PROTOCOL_VERSION,
    Bind,
    BindResponse,
    ConnectionStateResponse,
    GetConnectionState,
    Listen,
    ListenResponse,
    error_answer,
)
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.mediation.proof import Verifier, has_proof, verify_proof
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.attributes import AttributeType, error_attribute
from dwcloud.protocol.stun.message import RawAttribute, STUNMessage
from dwcloud.protocol.stun.sealing import Sealing

__all__ = [
    "MAX_CHALLENGES",
    "NONCE_LIFETIME",
    "Admission",
    "AdmissionCore",
    "ControlConnection",
    "ProvenListen",
    "admission_machine",
]

NONCE_LIFETIME = 60.0
"""Seconds that a nonce may be used."""

MAX_CHALLENGES = 4
"""Nonces that one connection gets: checking a proof is work."""


@attrs.frozen
class ProvenListen:
    """A ``listen`` whose proof holds and that nothing stands against.

    :ivar name: of the server.
    :ivar public_key: the mediator's half of the key agreement.
    :ivar sealing: how the connection is protected from the answer on.
    """

    name: PeerName
    public_key: bytes
    sealing: Sealing


class Admission(Protocol):
    """What happens on a control connection, in the past tense."""

    def bind_received(self, request: STUNMessage, bind: Bind, now: float) -> None:
        """A ``bind`` came without a proof."""

    def listen_received(self, request: STUNMessage, now: float) -> None:
        """A ``listen`` came without a proof."""

    def proof_failed(self, request: STUNMessage, now: float) -> None:
        """A proof came that does not hold, or with a nonce that is not good."""

    def bind_proven(self, request: STUNMessage, bind: Bind, name: PeerName) -> None:
        """A ``bind`` came with the proof of a name."""

    def listen_proven(self, request: STUNMessage, listen: ProvenListen) -> None:
        """A ``listen`` came with the proof of a name."""

    def state_requested(self, request: STUNMessage, now: float) -> None:
        """A ``get_connection_state`` came."""

    def closed(self) -> None:
        """The connection is gone, or another one took its place."""


@attrs.define
class AdmissionCore:
    """What the machine acts on.

    :ivar verify: checks proofs.
    :ivar new_exchange: makes a key agreement.
    :ivar channel_binding: see :class:`~.registration.RegistrationCore`.
    :ivar random_bytes: a source of randomness.
    :ivar policy: raises RemoteProtocolError, code 403 or 503, for a name that must not
        or cannot be registered now.
    :ivar welcome: makes the answer to ``listen``; gets the mediator's public key.
    :ivar answer: sends an answer.
    :ivar seal: from now on the connection is protected so.
    :ivar on_listening: told once: this connection is the server's control channel.
    :ivar on_bound: told the server's addresses, each time.
    :ivar on_challenged: told each time that a nonce is given out.
    :ivar name: the server that the connection belongs to, once proven.
    """

    verify: Verifier
    new_exchange: Callable[[], KeyExchange]
    channel_binding: Callable[[], bytes]
    random_bytes: Callable[[int], bytes]
    policy: Callable[[PeerName], None]
    welcome: Callable[[bytes], ListenResponse]
    answer: Callable[[STUNMessage], None]
    seal: Callable[[Sealing], None]
    on_listening: Callable[[PeerName], None]
    on_bound: Callable[[Bind], None]
    on_challenged: Callable[[], None] = lambda: None
    name: PeerName | None = None
    nonce: bytes = b""
    nonce_expires: float = 0.0
    challenges: int = 0

    def take_nonce(self, request: STUNMessage, now: float) -> bytes:
        """Use up the nonce, whoever asks; return it if ``request`` has it in time.

        :raises RemoteProtocolError: code 401, if it has not.
        """
        nonce, self.nonce = self.nonce, b""
        given = request.get(AttributeType.NONCE)
        if not nonce or given != nonce or now >= self.nonce_expires:
            raise RemoteProtocolError("the nonce is not good", 401)
        return nonce

    def challenge(self, request: STUNMessage, now: float) -> None:
        """Answer with 401 and, not too often, a new nonce."""
        attributes = [error_attribute(401)]
        if self.challenges < MAX_CHALLENGES:
            self.challenges += 1
            self.nonce = self.random_bytes(16).hex().encode()
            self.nonce_expires = now + NONCE_LIFETIME
            attributes.append(RawAttribute(AttributeType.NONCE, self.nonce))
            self.on_challenged()
        self.answer(request.error(attributes))

    def store_addresses(self, request: STUNMessage, bind: Bind) -> None:
        """Take the addresses of a ``bind`` and answer it."""
        self.on_bound(bind)
        self.answer(BindResponse().to_stun(request.transaction_id))


_builder = TypeMachineBuilder(Admission, AdmissionCore)
_anonymous = _builder.state("anonymous")
_listening = _builder.state("listening")
_closed = _builder.state("closed")


@_anonymous.upon(Admission.listen_received).loop()
@_anonymous.upon(Admission.proof_failed).loop()
@_anonymous.upon(Admission.state_requested).loop()
def _challenge(
    inputs: Admission, core: AdmissionCore, request: STUNMessage, now: float
) -> None:
    core.challenge(request, now)


@_anonymous.upon(Admission.bind_received).loop()
def _challenge_bind(
    inputs: Admission, core: AdmissionCore, request: STUNMessage, bind: Bind, now: float
) -> None:
    core.challenge(request, now)


@_anonymous.upon(Admission.bind_proven).loop()
@_listening.upon(Admission.bind_proven).loop()
def _bind_proven(
    inputs: Admission,
    core: AdmissionCore,
    request: STUNMessage,
    bind: Bind,
    name: PeerName,
) -> None:
    core.name = name
    core.store_addresses(request, bind)


@_anonymous.upon(Admission.listen_proven).to(_listening)
def _start_listening(
    inputs: Admission, core: AdmissionCore, request: STUNMessage, listen: ProvenListen
) -> None:
    core.name = listen.name
    response = core.welcome(listen.public_key)
    core.seal(listen.sealing)
    core.answer(response.to_stun(request.transaction_id))
    core.on_listening(listen.name)


@_listening.upon(Admission.bind_received).loop()
def _bind(
    inputs: Admission, core: AdmissionCore, request: STUNMessage, bind: Bind, now: float
) -> None:
    core.store_addresses(request, bind)


@_listening.upon(Admission.state_requested).loop()
def _confirm(
    inputs: Admission, core: AdmissionCore, request: STUNMessage, now: float
) -> None:
    core.answer(ConnectionStateResponse().to_stun(request.transaction_id))


# Keys are agreed once a connection: a server that wants new ones reconnects.
@_listening.upon(Admission.listen_received).loop()
@_listening.upon(Admission.proof_failed).loop()
def _refuse_again(
    inputs: Admission, core: AdmissionCore, request: STUNMessage, now: float
) -> None:
    core.answer(request.error([error_attribute(400)]))


@_listening.upon(Admission.listen_proven).loop()
def _refuse_second_listen(
    inputs: Admission, core: AdmissionCore, request: STUNMessage, listen: ProvenListen
) -> None:
    core.answer(request.error([error_attribute(400)]))


_anonymous.upon(Admission.closed).to(_closed).returns(None)
_listening.upon(Admission.closed).to(_closed).returns(None)

# What was in the receive buffer when the connection was closed finds no one.
_closed.upon(Admission.bind_received).loop().returns(None)
_closed.upon(Admission.listen_received).loop().returns(None)
_closed.upon(Admission.proof_failed).loop().returns(None)
_closed.upon(Admission.bind_proven).loop().returns(None)
_closed.upon(Admission.listen_proven).loop().returns(None)
_closed.upon(Admission.state_requested).loop().returns(None)
_closed.upon(Admission.closed).loop().returns(None)

admission_machine = _builder.build()
"""Builds an :class:`Admission` from an :class:`AdmissionCore`."""


class ControlConnection:
    """Reads requests, checks proofs, and tells the machine what happened."""

    METHODS = frozenset({Method.BIND, Method.LISTEN, Method.GET_CONNECTION_STATE})
    """The methods that concern it."""

    def __init__(self, core: AdmissionCore) -> None:
        self._core = core
        self._machine = admission_machine(core)

    @property
    def name(self) -> PeerName | None:
        """The server that the connection belongs to, once proven."""
        return self._core.name

    def receive_request(self, request: STUNMessage, *, now: float) -> None:
        """Take a request of one of :attr:`METHODS`; each gets exactly one answer."""
        try:
            self._dispatch(request, now)
        except RemoteProtocolError as error:
            if error.code == 401:
                self._machine.proof_failed(request, now)
            else:
                self._core.answer(error_answer(request, error))

    def close(self) -> None:
        """The connection is gone or about to be; nothing is answered any more."""
        self._machine.closed()

    def _dispatch(self, request: STUNMessage, now: float) -> None:
        if request.method == Method.GET_CONNECTION_STATE:
            GetConnectionState.from_stun(request)
            self._machine.state_requested(request, now)
        elif request.method == Method.BIND:
            bind = Bind.from_stun(request)
            if has_proof(request):
                name, _ = self._proven_name(request, now)
                self._machine.bind_proven(request, bind, name)
            else:
                self._machine.bind_received(request, bind, now)
        else:
            listen = Listen.from_stun(request)
            if has_proof(request):
                self._machine.listen_proven(request, self._prove(request, listen, now))
            else:
                self._machine.listen_received(request, now)

    def _proven_name(self, request: STUNMessage, now: float) -> tuple[PeerName, bytes]:
        """Return the name that a request proves and that may register, and the nonce.

        :raises RemoteProtocolError: code 401 if the proof fails, 403 or 503 by policy.
        """
        nonce = self._core.take_nonce(request, now)
        name = verify_proof(
            request,
            verify=self._core.verify,
            channel_binding=self._core.channel_binding(),
        )
        if self._core.name not in (None, name):
            raise RemoteProtocolError("the connection belongs to another server", 400)
        self._core.policy(name)
        return name, nonce

    def _prove(self, request: STUNMessage, listen: Listen, now: float) -> ProvenListen:
        name, nonce = self._proven_name(request, now)
        if listen.name != name:
            raise RemoteProtocolError(f"not the proof of {listen.name}", 401)
        if listen.protocol_version < PROTOCOL_VERSION:
            raise RemoteProtocolError("the protocol version is too old", 400)
        exchange = self._core.new_exchange()
        sealing = mediator_sealing(exchange, listen.public_key, nonce)
        return ProvenListen(name, exchange.public_key, sealing)
