"""A server's registration and a mediator's admission, joined without a network."""

from __future__ import annotations

import hashlib
import itertools
import uuid

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.admission import AdmissionCore, ControlConnection
from dwcloud.protocol.mediation.messages import Bind, ListenResponse
from dwcloud.protocol.mediation.parameters import ConnectionParameters, KeepAlive
from dwcloud.protocol.mediation.registration import (
    Credentials,
    RegistrationCore,
    answer_received,
    registration_machine,
)
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.sealing import Sealing, Unsealed

SERVER = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
OTHER = PeerName(uuid.UUID(int=1), uuid.UUID(int=3))


class Exchange:
    """A key agreement for tests: the shared secret is no secret at all."""

    def __init__(self, number: int) -> None:
        self.public_key = bytes([number]) * 32

    def derive(self, peer_public_key: bytes, context: bytes) -> bytes:
        if not any(peer_public_key):
            raise ValueError("not a key")
        both = b"".join(sorted([self.public_key, peer_public_key]))
        return hashlib.sha256(both + context).digest()


def sign_as(name: PeerName):  # type: ignore[no-untyped-def]
    """Return a signer whose signatures :func:`verify` takes."""
    return lambda data: hashlib.sha256(str(name).encode() + data).digest()


def credentials(name: PeerName = SERVER) -> Credentials:
    """Return what a server proves itself with: its name is its certificate."""
    return Credentials(name, (str(name).encode(), b"system"), sign_as(name))


def verify(
    certificates: tuple[bytes, bytes], signature: bytes, data: bytes
) -> PeerName:
    """Check what :func:`sign_as` made."""
    try:
        name = PeerName.parse(certificates[0].decode())
    except ValueError as error:
        raise RemoteProtocolError("not a certificate", 401) from error
    if sign_as(name)(data) != signature:
        raise RemoteProtocolError("not his signature", 401)
    return name


class ControlPair:
    """Both ends of a control connection; what is sent arrives at once, sealed.

    :ivar refuse: the code with which the mediator's policy refuses, if any.
    """

    def __init__(
        self,
        name: PeerName = SERVER,
        *,
        bindings: tuple[bytes, bytes] = (b"", b""),
        first: int = 1,
    ) -> None:
        numbers = itertools.count(first)
        self.now = 0.0
        self.refuse: int | None = None
        self.server_sealing: Sealing = Unsealed()
        self.mediator_sealing: Sealing = Unsealed()
        self.sent_by_server: list[bytes] = []
        self.answers: list[STUNMessage] = []
        self.registered: list[ListenResponse] = []
        self.refused: list[tuple[int, str]] = []
        self.listening: list[PeerName] = []
        self.bound: list[Bind] = []
        self.deliver = True
        self.server_core = RegistrationCore(
            credentials=credentials(name),
            exchange=Exchange(next(numbers)),
            channel_binding=lambda: bindings[0],
            random_bytes=lambda size: next(numbers).to_bytes(size, "big"),
            request=self.server_sends,
            seal=lambda sealing: setattr(self, "server_sealing", sealing),
            on_registered=self.registered.append,
            on_refused=lambda code, reason: self.refused.append((code, reason)),
        )
        self.server = registration_machine(self.server_core)
        self.mediator_core = AdmissionCore(
            verify=verify,
            new_exchange=lambda: Exchange(next(numbers)),
            channel_binding=lambda: bindings[1],
            random_bytes=lambda size: next(numbers).to_bytes(size, "big"),
            policy=self.check,
            welcome=self.welcome,
            answer=self.mediator_answers,
            seal=lambda sealing: setattr(self, "mediator_sealing", sealing),
            on_listening=self.listening.append,
            on_bound=self.bound.append,
        )
        self.mediator = ControlConnection(self.mediator_core)

    def check(self, name: PeerName) -> None:
        if self.refuse is not None:
            raise RemoteProtocolError("not here", self.refuse)

    def welcome(self, public_key: bytes) -> ListenResponse:
        return ListenResponse(
            public_key=public_key,
            keep_alive=KeepAlive(),
            parameters=ConnectionParameters(),
        )

    def server_sends(self, message: STUNMessage) -> None:
        """Send a request to the mediator; its answer comes back at once."""
        raw = self.server_sealing.seal(message)
        self.sent_by_server.append(raw)
        if self.deliver:
            self.mediator_receives(raw)

    def mediator_receives(self, raw: bytes) -> None:
        self.mediator.receive_request(self.mediator_sealing.open(raw), now=self.now)

    def mediator_answers(self, message: STUNMessage) -> None:
        raw = self.mediator_sealing.seal(message)
        answer = self.server_sealing.open(raw)
        self.answers.append(answer)
        if self.deliver:
            answer_received(self.server, answer)
