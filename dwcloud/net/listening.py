"""Listening sockets of a service, with errors that fit on a line."""

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL, crypto
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError, VerifyError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from dwcloud.errors import ConfigurationError, PortUnavailable
from dwcloud.net.log_lines import LogOptions, use_log_format
from dwcloud.net.start_failure import exit_twistd, stop_twistd
from dwcloud.protocol.addresses import format_address

__all__ = ["ListeningService", "Program", "parse_endpoint"]


def parse_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Read the endpoint string of a listening socket.

    :raises ConfigurationError: if it is not one; the message shows how they look.
    """
    try:
        return cast(IStreamServerEndpoint, serverFromString(reactor, description))
    except (ValueError, TypeError, KeyError, LookupError, OSError) as e:
        raise ConfigurationError(
            f"{description!r} is not an endpoint to listen on ({e}): expected one such "
            "as tcp:3349, tcp:3349:interface=127.0.0.1 or "
            "ssl:443:privateKey=key.pem:certKey=cert.pem"
        ) from e
    except (crypto.Error, SSL.Error, VerifyError) as e:
        raise ConfigurationError(
            f"the files of {description!r} cannot be used for TLS: expected a private "
            "key without a passphrase in privateKey and the certificate of this key "
            "in certKey, both in PEM"
        ) from e


class ListeningService(Service):
    """Listens on one endpoint while it runs.

    :param what: who listens, for the log: ``"relay"``.
    :param description: the endpoint string.
    :ivar port: the listening port, None while there is none.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, what: str, description: str, factory: IProtocolFactory
    ) -> None:
        self.what = what
        self.description = description
        self.port: IListeningPort | None = None
        self._reactor = reactor
        self._endpoint = parse_endpoint(reactor, description)
        self._factory = factory
        self._listening: Deferred[Any] | None = None

    def privilegedStartService(self) -> None:
        """Listen, while the process may still use ports below 1024.

        :raises PortUnavailable: if the address or port cannot be had.
        """
        failed: list[Failure] = []
        returned = False

        def not_listening(failure: Failure) -> None:
            if not returned:
                failed.append(failure)
            elif self.running:
                self.log.critical(
                    "{what} cannot listen on {endpoint}: {reason}",
                    what=self.what,
                    endpoint=self.description,
                    reason=failure.getErrorMessage(),
                )
                stop_twistd(self._reactor)

        self._listening = self._endpoint.listen(self._factory)
        self._listening.addCallbacks(self._listens, not_listening)
        returned = True
        if failed:
            error = failed[0].value
            if isinstance(error, (CannotListenError, OSError, OverflowError)):
                reason = getattr(error, "socketError", error)
                raise PortUnavailable(
                    f"{self.what} cannot listen on {self.description}: {reason}"
                ) from error
            failed[0].raiseException()

    def _listens(self, port: IListeningPort) -> None:
        self.port = port
        host: Any = port.getHost()
        try:
            address = format_address((host.host, host.port))
        except AttributeError:  # a UNIX socket
            address = str(host)
        self.log.info(
            "{what} listening on {address} ({endpoint})",
            what=self.what,
            address=address,
            endpoint=self.description,
        )

    def startService(self) -> None:
        """Listen, unless that has begun already."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._listening is None:
            self.privilegedStartService()

    def stopService(self) -> Deferred[None]:
        """Close the socket; connections stay."""
        super().stopService()  # type: ignore[no-untyped-call]
        listening, self._listening = self._listening, None
        port, self.port = self.port, None
        if port is None:
            if listening is not None:
                listening.cancel()
            return succeed(None)
        stopping: Any = port.stopListening()
        return cast("Deferred[None]", maybeDeferred(lambda: stopping))


class Program(MultiService):
    """The top service of a program: a port in use ends it, with one line.

    :param options: of the service, below twistd's own.
    """

    def __init__(self, name: str, options: usage.Options) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._options = options
        self.setName(name)  # type: ignore[no-untyped-call]

    def setServiceParent(self, parent: Any) -> None:
        """Become the program's service; the log begins then."""
        if isinstance(self._options, LogOptions):
            use_log_format(self._options, parent)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Begin to listen, or exit with status 1 and the reason."""
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except PortUnavailable as e:
            exit_twistd(self._options, str(e))
