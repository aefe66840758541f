"""Errors that adapters and peers raise.

Each derives from :class:`CloudError` and from the matching class of
:mod:`twisted.internet.error`, so that programs which trap those trap these.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet import error
from twisted.python.failure import Failure

from dwcloud.protocol.stun.message import STUNMessage

__all__ = [
    "APIRefused",
    "AccessDenied",
    "AccessRevoked",
    "AllAttemptsFailed",
    "AuthenticationFailed",
    "CloudError",
    "CloudKeyChanged",
    "ConfigurationError",
    "ConnectTimeout",
    "IdentityMismatch",
    "MediatorUnreachable",
    "NoAccounts",
    "NotSignedIn",
    "PeerOffline",
    "PeerUnknown",
    "PortMappingRefused",
    "PortMappingUnavailable",
    "PortUnavailable",
    "ProxyAuthenticationFailed",
    "ProxyRefused",
    "RelayRefused",
    "RequestRefused",
    "RequestTimeout",
    "ServerDidNotAnswer",
    "ServiceRefused",
    "SessionRefused",
    "SystemUnknown",
    "TunnelRefused",
    "UDTConnectionLost",
    "UDTHandshakeTimeout",
    "UDTRejected",
]


class CloudError(Exception):
    """Something between client, mediator, relay and server went wrong."""

    osError = None

    def __init__(self, message: str = "") -> None:
        # Twisted's connection errors take an error number first and print their
        # own docstring: ours take and print what happened.
        Exception.__init__(self, message)
        self.message = message or (type(self).__doc__ or "").strip().split("\n")[0]

    def __str__(self) -> str:
        return self.message


class ConfigurationError(CloudError, ValueError):
    """An option, a file or an endpoint string cannot be used as it is."""


class RequestTimeout(CloudError, error.TimeoutError):
    """A STUN request got no answer within its retransmissions."""


class RequestRefused(CloudError, error.ConnectError):
    """The mediator answered a request with an error.

    :ivar code: the STUN error code (RFC 8489, 14.8).
    :ivar response: the error answer, with what a further request needs (a nonce);
        None where there was none.
    """

    def __init__(
        self, message: str, code: int, response: STUNMessage | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.response = response


class AuthenticationFailed(CloudError, error.ConnectError):
    """The mediator or the relay did not accept this server's proof of identity."""


class MediatorUnreachable(CloudError, error.ConnectError):
    """The mediator answered neither over UDP nor over TCP; check its address."""


class PeerUnknown(CloudError, error.ConnectError):
    """No server of that name has registered at this mediator; check the GUID."""


class PeerOffline(CloudError, error.ConnectError):
    """The server is known but has no contact with the mediator; start it."""


class ServerDidNotAnswer(CloudError, error.ConnectError):
    """The server did not confirm the connection request in time."""


class IdentityMismatch(CloudError, error.VerifyError, error.ConnectError):
    """The far end could not prove that it is the wanted server; nothing was sent."""


class PortUnavailable(CloudError, error.CannotListenError):
    """A service cannot listen on its port; another program may have it."""


class PortMappingUnavailable(CloudError, error.ConnectError):
    """The router does not map ports by the protocol it was asked in."""


class PortMappingRefused(CloudError, error.ConnectionRefusedError):
    """The router maps ports, but not this one or not for this machine."""


class RelayRefused(CloudError, error.ConnectError):
    """The relay did not provide a connection to the server.

    :ivar status: the HTTP status of its answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class TunnelRefused(CloudError, error.ConnectError):
    """No byte stream could be opened through HTTP.

    :ivar status: the HTTP status of the answer, 0 if it was not HTTP at all.
    :ivar by_service: whether the service itself said so, not a proxy on the way.
    """

    def __init__(self, message: str, status: int, *, by_service: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.by_service = by_service


class ProxyRefused(CloudError, error.ConnectError):
    """The proxy did not connect to the destination.

    :ivar status: the HTTP status of its answer, 0 if it was not HTTP at all.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ProxyUnreachable(CloudError, error.ConnectError):
    """The proxy itself cannot be reached."""


class ProxyAuthenticationFailed(ProxyRefused):
    """The proxy wants a user name and password, or others than it was given."""


class ServiceRefused(CloudError, error.ConnectionRefusedError):
    """The server was reached but does not offer the service asked for.

    :ivar code: the word for it in the protocol (docs/protocol/opening).
    """

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(message)
        self.code = code


class ConnectTimeout(CloudError, error.TimeoutError):
    """No path to the server was verified within the time limit."""


class AccessDenied(CloudError, error.ConnectionRefusedError):
    """The server was reached, but its cloud does not let this client in."""


class AccessRevoked(CloudError, error.ConnectionLost):
    """The client may not connect any more: its stream was cut."""


class UDTHandshakeTimeout(CloudError, error.TimeoutError):
    """The far end did not answer the UDT handshake."""


class UDTRejected(CloudError, error.ConnectionRefusedError):
    """The far end rejected the UDT handshake."""


class UDTConnectionLost(CloudError, error.ConnectionLost):
    """The far end of a UDT connection fell silent or broke the protocol."""


class AllAttemptsFailed(CloudError, error.ConnectError):
    """Every path to the server was tried and failed.

    :ivar reasons: attempt (``"udp 192.0.2.1:5"``) to the failure of it.
    """

    def __init__(self, message: str, reasons: Mapping[str, Failure]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


class SessionRefused(CloudError, error.ConnectionRefusedError):
    """The server does not know the connect session that this path belongs to."""


class APIRefused(CloudError, error.ConnectError):
    """The cloud did not do what it was asked for under an account.

    :ivar status: the HTTP status of its answer.
    :ivar code: a word for the reason, of ``docs/protocol/accounts.rst``.
    :ivar retry_after: seconds after which it may be asked again, None if it does not
        say so.
    """

    def __init__(
        self, message: str, status: int, code: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class NoAccounts(CloudError, error.ConnectError):
    """There are no accounts at this mediator."""


class NotSignedIn(CloudError, error.ConnectError):
    """Nobody is signed in to this cloud here, or not any more."""


class CloudKeyChanged(CloudError, error.VerifyError, error.ConnectError):
    """A cloud shows another key than before; somebody may have taken its place."""


class SystemUnknown(CloudError, error.ConnectError):
    """A system is called by a name that means none, or more than one."""
