"""One path from a client to a server: opened, verified, then selected or dropped."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import cast

import attrs
from automat import NoTransition
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from dwcloud.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectTimeout,
    IdentityMismatch,
    ServiceRefused,
    SessionRefused,
)
from dwcloud.net.cloud_stream import CloudStream
from dwcloud.net.early_tls import EarlyTLSFactory
from dwcloud.net.identity import verify_certificates, verify_signature
from dwcloud.net.tls import PeerVerifier
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.grants.possession import ClientGrant
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.opening.client import (
    ClientOpeningCore,
    client_opening_machine,
)
from dwcloud.protocol.opening.messages import (
    NONCE_BYTES,
    Message,
    Open,
    Proof,
    Ready,
    RefusalCode,
    Refused,
    Start,
    Started,
    encode,
    signed_text,
)
from dwcloud.protocol.path_kinds import PathKind

__all__ = ["VERIFICATION_TIMEOUT", "Path", "open_path"]

VERIFICATION_TIMEOUT = 10.0
"""Seconds for TLS and the first answer once a path is connected."""


class Path:
    """A path whose far end is being asked who it is.

    :param tls: False to send everything in the clear, for applications that encrypt
        by themselves; the far end has to agree, and proves its identity by signing.
    :param grant: what says that this client may connect.

    :ivar kind: how the bytes travel.
    :ivar attempt: the attempt's name in reports.
    :ivar method: the tunnelling method that carries it; empty without one.
    :ivar on_open: told when ``OPEN`` is on its way and, inside TLS, the far end has
        proven who it is: :meth:`begin` may be called from now on.
    :ivar proven: whether the far end has proven, by TLS, that it is the wanted server.
    :ivar on_lost: told when the path is lost after it was verified and before it was
        started.
    :ivar on_cut: told when the stream is lost in the midst, by none of its ends' doing
        as far as can be known, and for how many seconds the path lasted.
    :ivar verified: fires with this object when the far end has proven, through the
        path, that it is the wanted server and knows the session; fails with
        :class:`~dwcloud.errors.IdentityMismatch`,
        :class:`~dwcloud.errors.SessionRefused`, a
        :class:`~twisted.internet.error.ConnectionLost` or
        :class:`~dwcloud.errors.ConnectTimeout`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        kind: PathKind,
        attempt: str,
        wanted: PeerName,
        session: uuid.UUID | None,
        client_name: str = "",
        *,
        tls: bool = True,
        grant: ClientGrant | None = None,
    ) -> None:
        self.kind = kind
        self.attempt = attempt
        self.method = ""
        self.session = session
        self._clock = clock
        self._wanted = wanted
        self._verifier = PeerVerifier(wanted) if tls else None
        self._server: PeerName | None = None
        self._grant = grant
        self._first = Open(
            session, client_name, b"" if tls else os.urandom(NONCE_BYTES)
        )
        self._stream = CloudStream(self, clock)
        self._timer: IDelayedCall | None = None
        self._started: Deferred[IProtocol] | None = None
        self._factory: IProtocolFactory | None = None
        self._begun = False
        self._outcome: IProtocol | Failure | None = None
        self._lost = False
        self.proven = False
        self.on_open: Callable[[Path], None] | None = None
        self.on_lost: Callable[[Failure], None] | None = None
        self.on_cut: Callable[[float], None] | None = None
        self._connected_at = 0.0
        self._settled = False
        self.verified: Deferred[Path] = Deferred(self._verification_cancelled)
        self._core = ClientOpeningCore(
            opening=self._first,
            send=self._stream.send,
            on_ready=self._ready,
            on_started=self._data_may_flow,
            on_refused=self._refused,
        )
        self._opening = client_opening_machine(self._core)

    def protocol_factory(self) -> IProtocolFactory:
        """A factory for the one connection that carries the path."""
        inner = Factory.forProtocol(lambda: self._stream)
        inner.noisy = False
        if self._verifier is None:
            return inner
        return EarlyTLSFactory(self._verifier, inner, self._clock)

    @property
    def server(self) -> PeerName:
        """The full name that the far end has proven."""
        assert self._server is not None, "not verified yet"
        return self._server

    @property
    def address(self) -> Address:
        """The far end of the path."""
        peer = self._stream.getPeer()
        return Address(peer.host, peer.port)

    @property
    def remote_address(self) -> str:
        """``host:port`` at the far end of the path."""
        return str(self.address)

    def begin(self, service: str, factory: IProtocolFactory) -> bool:
        """Have the service connected as soon as the server has admitted the session.

        ``START`` goes right behind ``OPEN``, which saves a round trip. Only one path of
        a race may do that. :meth:`start` has to follow when the path is verified.

        :return: False if the name of the service cannot be sent.
        """
        try:
            encode(Start(service))
        except LocalProtocolError:
            # To be told by start(), when there is somebody to tell.
            return False
        self._begun, self._factory = True, factory
        self._opening.start_requested(service)
        return True

    def start(self, service: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect the service and give the stream to ``factory``'s protocol.

        :return: fires with the connected protocol; fails with
            :class:`~dwcloud.errors.ServiceRefused` or why the path was lost.
        """
        started: Deferred[IProtocol] = Deferred(self._start_cancelled)
        if self._begun:
            if self._outcome is not None:
                started.callback(self._outcome)
            else:
                self._started = started
            return started
        self._started, self._factory = started, factory
        if self._lost:
            self._fail_start(Failure(ConnectionLost("the path was lost meanwhile")))
            return started
        try:
            # Within the machine it may be too late to raise: inputs can be postponed.
            encode(Start(service))
        except LocalProtocolError as e:
            self._fail_start(Failure(ConfigurationError(str(e))))
            self.close()
        else:
            self._opening.start_requested(service)
        return started

    def _verification_cancelled(self, _: Deferred[Path]) -> None:
        self._settled = True
        self.close()

    def _start_cancelled(self, _: Deferred[IProtocol]) -> None:
        self._started = None
        self.close()

    def close(self) -> None:
        """Give the path up; nothing more comes of it."""
        if not self._lost:
            self._stream.abortConnection()

    # StreamOpening: what the stream tells.

    def path_connected(self, stream: CloudStream) -> None:
        """The path is connected: begin, and do not wait for ever."""
        self._timer = self._clock.callLater(VERIFICATION_TIMEOUT, self._timed_out)
        self._connected_at = self._clock.seconds()
        if self._verifier is None:
            self._use_grant(self._first.nonce + self._wanted.system.bytes)
            self._opening.path_connected()
            self._opened()
        elif self._grant is None:
            self._opening.path_connected()

    def path_secured(self, stream: CloudStream) -> None:
        """The far end has the key of the certificate that was accepted."""
        self.proven = True
        if self._grant is not None:
            self._use_grant(stream.tls_binding)
            self._opening.path_connected()
        self._opened()

    def _use_grant(self, binding: bytes) -> None:
        """Show the server that this client may connect, by this very path."""
        if self._grant is not None:
            self._first = self._core.opening = attrs.evolve(
                self._first,
                grant=self._grant.encoded,
                possession=self._grant.possession(self.session, binding),
            )

    def _opened(self) -> None:
        if self.on_open is not None:
            self.on_open(self)

    def message_received(self, stream: CloudStream, message: Message) -> None:
        """Advance the opening."""
        try:
            match message:
                case Ready(proof):
                    if self._verified(proof):
                        self._opening.ready_received()
                case Started():
                    self._opening.started_received()
                case Refused():
                    self._opening.refused_received(message)
                case _:
                    self._unexpected(message)
        except NoTransition:
            self._unexpected(message)

    def _verified(self, proof: Proof | None) -> bool:
        """Whether the far end has proven who it is, by TLS or by what it signed."""
        if self._verifier is not None:
            self._server = self._verifier.verified_name
        elif proof is not None:
            try:
                self._server = self._proven(proof)
            except IdentityMismatch as e:
                self._stream.fail(Failure(e))
                return False
        if self._server is None:
            self._stream.fail(Failure(IdentityMismatch("the far end proved nothing")))
            return False
        return True

    def _proven(self, proof: Proof) -> PeerName:
        name = verify_certificates(proof.certificates)
        text = signed_text(self._first)
        if not verify_signature(proof.certificates[0], proof.signature, text):
            raise IdentityMismatch(f"the far end has no key of {name}")
        if not self._wanted.includes(name):
            raise IdentityMismatch(f"wanted {self._wanted}, but the far end is {name}")
        return name

    def _unexpected(self, message: Message) -> None:
        what = type(message).__name__
        self._stream.fail(
            Failure(ConnectionLost(f"the far end sent {what} out of turn"))
        )

    def path_lost(self, stream: CloudStream, reason: Failure) -> None:
        """The path ended; say why in words that name the cause."""
        self._lost = True
        self._stop_timer()
        if self._verifier is not None and self._verifier.failure is not None:
            reason = Failure(self._verifier.failure)
        elif reason.check(SSL.Error):
            reason = Failure(ConnectionLost(f"TLS failed: {_openssl_words(reason)}"))
        elif reason.check(ConnectionDone):
            when = "selected" if self._settled else "the server proved itself"
            reason = Failure(ConnectionLost(f"closed before {when}"))
        self._fail_verification(reason)
        self._fail_start(reason)
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost(reason)

    # What the opening machine does.

    def _ready(self) -> None:
        self._stop_timer()
        self._settled = True
        self.verified.callback(self)

    def _data_may_flow(self) -> None:
        assert self._factory is not None
        protocol = self._factory.buildProtocol(self._stream.getPeer())
        if protocol is None:
            self.close()
            self._finish_start(Failure(ConnectionLost("no protocol for the stream")))
            return
        self._stream.attach(protocol, self._stream_ended)
        self._finish_start(protocol)

    def _stream_ended(self, reason: Failure) -> None:
        if self.on_cut is not None and not reason.check(
            ConnectionDone, ConnectionAborted
        ):
            self.on_cut(self._clock.seconds() - self._connected_at)

    def _refused(self, refused: Refused) -> None:
        if refused.code is RefusalCode.UNKNOWN_SESSION:
            failure = Failure(SessionRefused(refused.reason))
        elif refused.code is RefusalCode.ACCESS_DENIED:
            failure = Failure(AccessDenied(refused.reason))
        else:
            failure = Failure(ServiceRefused(refused.reason, refused.code))
        self._fail_verification(failure)
        self._fail_start(failure)
        self.close()

    def _timed_out(self) -> None:
        self._timer = None
        self._stream.fail(
            Failure(
                ConnectTimeout(
                    "connected, but the far end did not prove its identity within "
                    f"{VERIFICATION_TIMEOUT:.0f} s"
                )
            )
        )

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _fail_verification(self, reason: Failure) -> None:
        if not self._settled:
            self._settled = True
            self.verified.errback(reason)

    def _fail_start(self, reason: Failure) -> None:
        if self._begun or self._started is not None:
            self._finish_start(reason)

    def _finish_start(self, outcome: IProtocol | Failure) -> None:
        """Tell what came of the start, now or when somebody asks."""
        started, self._started = self._started, None
        if started is not None:
            started.callback(outcome)
        elif self._outcome is None:
            self._outcome = outcome


def _openssl_words(reason: Failure) -> str:
    arguments = getattr(reason.value, "args", ())
    errors = arguments[0] if arguments else []
    words = [str(entry[-1]) for entry in errors if entry] if errors else []
    return ", ".join(words) or "the connection was closed"


def open_path(path: Path, endpoint: IStreamClientEndpoint) -> Deferred[Path]:
    """Connect ``endpoint`` and verify who is there.

    :return: as :attr:`Path.verified`; fails also with whatever the endpoint fails
        with. Cancelling closes the path.
    """
    connecting = endpoint.connect(path.protocol_factory())
    connecting.addCallback(lambda _: path.verified)
    return cast("Deferred[Path]", connecting)
