"""The HTTP API of a cloud with accounts, from the side of who uses it.

``docs/protocol/accounts.rst`` describes it. All of it is JSON over HTTPS; only to the
own machine plain HTTP will do.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote
from uuid import UUID

import h11
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint

from dwcloud.errors import (
    APIRefused,
    CloudKeyChanged,
    ConnectTimeout,
    NoAccounts,
)
from dwcloud.net.cloud_trust import CloudTLS, Presented
from dwcloud.net.http_client import HTTPAnswer, HTTPClientConnection, TLSEndpoint
from dwcloud.net.http_messages import HeaderList
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.api_values import (
    Account,
    CloudDescription,
    Fields,
    Grant,
    Invitation,
    Member,
    OpenInvitation,
    System,
    Token,
    Tokens,
)
from dwcloud.peer.known_clouds import CloudTrust, KnownClouds, cloud_name
from dwcloud.peer.mediator_address import MediatorAddress, is_loopback
from dwcloud.protocol.names import PeerName

__all__ = ["API_PATH", "CloudAPI"]

API_PATH = "/api/v1"
"""In front of all paths of the API."""

REQUEST_TIMEOUT = 20.0
"""Seconds for one request, the connection included."""

_FIRST_TIMEOUT = 6.0
"""Seconds for a connection to the mediator's own port, as there is another way."""

_HTTPS_PORT = 443
_NOT_REACHED = (CloudKeyChanged, ConnectError, ConnectionLost, NoAccounts)
_MOST_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer's body; a longer one is an error."""
_PORTABLE_HEADERS: HeaderList = (
    (b"accept", b"application/json"),
    (b"user-agent", b"dwcloud"),
)

Confirm = Callable[[Presented], Awaitable[None]]
"""Asked whether a cloud of which nothing is known is to be believed; raises if not."""


class CloudAPI:
    """Speaks with one cloud.

    Methods return coroutines. Each of them may fail with :class:`~dwcloud.errors.
    APIRefused` if the cloud refuses, ``NoAccounts`` if it has none, ``CloudKeyChanged``
    if somebody else is in its place, or with a relative of ``ConnectError``.

    :param clouds: what is known of all clouds.
    :param proxies: those that lead there.
    :param interface: local IP address to connect from, empty for any.
    :param expected: fingerprint of the key that it must show.
    :param confirm: asked about a new cloud before anything else is sent; without it
        new ones are believed.
    :param timeout: seconds for each request.
    """

    def __init__(
        self,
        reactor: Any,
        mediator: MediatorAddress,
        clouds: KnownClouds,
        *,
        proxies: Proxies | None = None,
        interface: str = "",
        expected: str | None = None,
        confirm: Confirm | None = None,
        timeout: float = REQUEST_TIMEOUT,
        authorities: str | None = None,
    ) -> None:
        self._reactor = reactor
        self._mediator = mediator
        self._proxies = proxies or Proxies(reactor)
        self._interface = interface
        self._confirm = confirm
        self._timeout = timeout
        self._authorities = authorities
        self._connection: HTTPClientConnection | None = None
        self._tls: CloudTLS | None = None
        self.name = cloud_name(mediator)
        self.trust = CloudTrust(clouds, self.name, expected)
        url = mediator.url
        self._port = mediator.port if url is None else url.port
        self._web_port = _HTTPS_PORT if url is None else None
        self._prefix = API_PATH if url is None else url.path + API_PATH
        # A plain way is taken only where nobody can listen in.
        self._plain = url is not None and not url.secure and is_loopback(url.host)
        self._described = self._plain
        self._expects = expected is not None

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    # What anybody may ask

    async def describe(self) -> CloudDescription:
        """Ask what the cloud is, and learn to know it if it is new."""
        answer = Fields.of(await self._exchange("GET", "/cloud", None, ""))
        description = CloudDescription.read(answer)
        fresh = self.trust.fresh
        if fresh is not None:
            if self._confirm is not None and self.trust.known is None:
                await self._confirm(fresh)
            self.trust.confirm()
        if self.trust.known is not None:
            self.trust.check_cloud_key(description.cloud_key)
        self._described = True
        return description

    async def register(
        self, name: str, password: str, invitation: str | None = None
    ) -> Account:
        """Make an account."""
        value = {"name": name, "password": password}
        if invitation is not None:
            value["invitation"] = invitation
        answer = Fields.of(await self._ask("POST", "/accounts", value))
        return Account.read(answer.object("account"))

    async def sign_in(
        self, name: str, password: str, totp: str | None = None
    ) -> Tokens:
        """Begin a session.

        :raises APIRefused: with code ``totp_required`` if the password is right and a
            code of the second factor is needed as well.
        """
        value = {"name": name, "password": password}
        if totp is not None:
            value["totp"] = totp
        return Tokens.read(Fields.of(await self._ask("POST", "/sessions", value)))

    async def refresh(self, refresh_token: str) -> Tokens:
        """Go on with a session by new tokens; the old ones are worth nothing then."""
        value = {"refresh_token": refresh_token}
        answer = await self._ask("POST", "/sessions/refresh", value)
        return Tokens.read(Fields.of(answer))

    # The own account

    async def sign_out(self, token: str) -> None:
        """End the session of ``token``."""
        await self._ask("DELETE", "/sessions/current", None, token)

    async def change_password(self, token: str, old: str, new: str) -> None:
        """Change the password, which ends all other sessions."""
        await self._ask("PUT", "/account/password", {"old": old, "new": new}, token)

    async def begin_totp(self, token: str) -> tuple[str, str]:
        """Ask for the secret of a second factor; it counts once it is confirmed.

        :return: the secret, and as an ``otpauth:`` URI.
        """
        answer = Fields.of(await self._ask("POST", "/account/totp", None, token))
        return answer.text("secret"), answer.text("uri")

    async def confirm_totp(self, token: str, code: str) -> tuple[str, ...]:
        """Make a second factor count.

        :return: codes, each good once in its place.
        """
        path = "/account/totp/confirm"
        answer = Fields.of(await self._ask("POST", path, {"code": code}, token))
        return answer.texts("recovery_codes")

    async def remove_totp(self, token: str, password: str, code: str) -> None:
        """Do without a second factor again."""
        value = {"password": password, "code": code}
        await self._ask("DELETE", "/account/totp", value, token)

    # Systems

    async def systems(self, token: str) -> tuple[System, ...]:
        """List the systems on which the account has a role."""
        answer = Fields.of(await self._ask("GET", "/systems", None, token))
        return tuple(System.read(each) for each in answer.objects("systems"))

    async def challenge(self, token: str) -> bytes:
        """Ask for what has to be signed to bind a system."""
        answer = Fields.of(await self._ask("POST", "/systems/challenge", None, token))
        return answer.octets("nonce")

    async def bind(
        self,
        token: str,
        name: str,
        certificate: bytes,
        nonce: bytes,
        signature: bytes,
    ) -> System:
        """Bind a system to the account.

        :param certificate: the system's, as DER.
        :param signature: by the system's key; see :mod:`dwcloud.peer.binding`.
        """
        value = {
            "name": name,
            "certificate": _base64(certificate),
            "nonce": _base64(nonce),
            "signature": _base64(signature),
        }
        answer = Fields.of(await self._ask("POST", "/systems", value, token))
        return System.read(answer.object("system"))

    async def change_system(self, token: str, system: UUID, **values: object) -> System:
        """Change ``name``, ``public`` or ``web`` of a system."""
        answer = await self._ask("PATCH", f"/systems/{system}", values, token)
        fields = Fields.of(answer)
        return System.read(fields.object("system") if "system" in fields else fields)

    async def unbind(self, token: str, system: UUID) -> None:
        """Release a system from its account, and from all who had a role on it."""
        await self._ask("DELETE", f"/systems/{system}", None, token)

    async def members(self, token: str, system: UUID) -> tuple[Member, ...]:
        """List who has a role on a system."""
        path = f"/systems/{system}/members"
        answer = Fields.of(await self._ask("GET", path, None, token))
        return tuple(Member.read(each) for each in answer.objects("members"))

    async def share(self, token: str, system: UUID, account: str, role: str) -> None:
        """Give an account a role on a system."""
        path = f"/systems/{system}/members/{quote(account, safe='')}"
        await self._ask("PUT", path, {"role": role}, token)

    async def unshare(self, token: str, system: UUID, account: str) -> None:
        """Take an account's role on a system away."""
        path = f"/systems/{system}/members/{quote(account, safe='')}"
        await self._ask("DELETE", path, None, token)

    async def invite(self, token: str, system: UUID, role: str) -> Invitation:
        """Make a code for whoever brings it first."""
        path = f"/systems/{system}/invitations"
        answer = await self._ask("POST", path, {"role": role}, token)
        return Invitation.read(Fields.of(answer))

    async def invitations(self, token: str, system: UUID) -> tuple[OpenInvitation, ...]:
        """List the invitations to a system that can be accepted."""
        path = f"/systems/{system}/invitations"
        answer = Fields.of(await self._ask("GET", path, None, token))
        return tuple(
            OpenInvitation.read(each) for each in answer.objects("invitations")
        )

    async def withdraw(self, token: str, system: UUID, invitation: str) -> None:
        """Let nobody accept an invitation any more."""
        path = f"/systems/{system}/invitations/{quote(invitation, safe='')}"
        await self._ask("DELETE", path, None, token)

    async def accept(self, token: str, code: str) -> System:
        """Take up an invitation."""
        answer = await self._ask("POST", "/invitations/accept", {"code": code}, token)
        return System.read(Fields.of(answer).object("system"))

    async def make_token(
        self, token: str, system: UUID, *, role: str, label: str, lifetime: int
    ) -> tuple[Token, str]:
        """Make a token for a system; the second value is the token itself.

        :param lifetime: seconds for which it is good.
        """
        value = {"role": role, "label": label, "lifetime": lifetime}
        answer = await self._ask("POST", f"/systems/{system}/tokens", value, token)
        fields = Fields.of(answer)
        return Token.read(fields.object("token")), fields.text("access_token")

    async def tokens(self, token: str, system: UUID) -> tuple[Token, ...]:
        """List one's own tokens for a system."""
        path = f"/systems/{system}/tokens"
        answer = Fields.of(await self._ask("GET", path, None, token))
        return tuple(Token.read(each) for each in answer.objects("tokens"))

    async def revoke_token(self, token: str, system: UUID, revoked: UUID) -> None:
        """Revoke one of them."""
        path = f"/systems/{system}/tokens/{revoked}"
        await self._ask("DELETE", path, None, token)

    async def grant(self, token: str, peer: PeerName, client_key: bytes) -> Grant:
        """Ask for the proof that the account may connect.

        :param client_key: the public key of who connects.
        """
        value: dict[str, Any] = {"client_key": _base64(client_key)}
        if peer.server is not None:
            value["server"] = str(peer.server)
        path = f"/systems/{peer.system}/grants"
        return Grant.read(Fields.of(await self._ask("POST", path, value, token)))

    # The operator

    async def operate(
        self, method: str, path: str, key: str, value: object = None
    ) -> Any:
        """Ask for what only who runs the cloud may, from its own machine.

        :param key: the operator's.
        """
        return await self._ask(method, f"/operator{path}", value, key)

    # Requests

    async def _ask(
        self, method: str, path: str, value: object = None, token: str = ""
    ) -> Any:
        """Send a request, which may hold secrets, to a cloud that is known."""
        if not self._described:
            known = self.trust.known
            if known is None or known.cloud_key is None or self._expects:
                await self.describe()
        return await self._exchange(method, path, value, token)

    async def _exchange(self, method: str, path: str, value: object, token: str) -> Any:
        """Send a request by the mediator's port, or by that of the web."""
        try:
            return await self._attempt(method, path, value, token)
        except _NOT_REACHED as e:
            if self._is_believed or self._web_port is None:
                raise
            first = e
        # Networks that let only web pages pass let this through, if it is there.
        ports = self._port, self._web_port
        self._port, self._web_port = self._web_port, None
        try:
            if path != "/cloud":
                # Somebody else's web server gets no secrets.
                await self.describe()
            return await self._attempt(method, path, value, token)
        except _NOT_REACHED:
            self._port, self._web_port = ports
            raise first from None

    @property
    def _is_believed(self) -> bool:
        """Whether the far end of the last connection is the cloud."""
        tls = self._tls
        return tls is not None and tls.presented is not None and tls.failure is None

    async def _attempt(self, method: str, path: str, value: object, token: str) -> Any:
        answering = Deferred.fromCoroutine(self._request(method, path, value, token))

        def timed_out(_: object, __: float) -> Any:
            raise ConnectTimeout(
                f"{self.name} did not answer within {self._timeout:g} s"
            )

        answering.addTimeout(self._timeout, self._reactor, onTimeoutCancel=timed_out)
        return self._read(await answering)

    async def _request(
        self, method: str, path: str, value: object, token: str
    ) -> HTTPAnswer:
        headers = _PORTABLE_HEADERS
        body = b""
        if value is not None:
            body = json.dumps(value).encode("ascii")
            headers = (*headers, (b"content-type", b"application/json"))
        if token:
            bearer = f"Bearer {token}".encode("ascii")
            headers = (*headers, (b"authorization", bearer))
        target = self._prefix + path
        again = method == "GET" and self._connection is not None
        while True:
            connection = await self._connected()
            try:
                answer = await connection.request(method, target, headers, body)
                if connection is not self._connection:
                    # Another question was asked meanwhile, on a newer one.
                    connection.disconnect()
                return answer
            except (ConnectionLost, ConnectError, h11.RemoteProtocolError, SSL.Error):
                self._drop()
                # The far end may have closed what it thought was used no longer.
                if not again:
                    self._explain()
                    raise
                again = False
            except CancelledError:
                self._drop()
                raise

    def _explain(self) -> None:
        """Raise what was behind the loss of a connection, if that is known."""
        if self._tls is not None and self._tls.failure is not None:
            raise self._tls.failure from None
        if self._tls is not None and self._tls.presented is None:
            raise NoAccounts(
                f"{self.name} does not speak HTTPS: it has no accounts, or is no "
                "mediator; its operator starts it with: twistd mediator --accounts DIR"
            ) from None

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _connected(self) -> HTTPClientConnection:
        if self._connection is not None and self._connection.reusable:
            return self._connection
        self._connection = None
        host = self._mediator.host
        authority = f"[{host}]" if ":" in host else host
        if self._port != _HTTPS_PORT:
            authority += f":{self._port}"
        connection = HTTPClientConnection(authority, most_answer=_MOST_ANSWER)
        await connectProtocol(self._endpoint(host), connection)
        self._connection = connection
        return connection

    def _endpoint(self, host: str) -> IStreamClientEndpoint:
        self._tls = None
        timeout = self._timeout
        if self._web_port is not None:
            timeout = min(timeout, _FIRST_TIMEOUT)
        through = self._proxies.endpoint(
            host, self._port, timeout=timeout, interface=self._interface
        )
        endpoint = through or HostnameEndpoint(
            self._reactor,
            host,
            self._port,
            timeout=timeout,
            bindAddress=self._interface or None,
        )
        if self._plain:
            return endpoint
        self._tls = CloudTLS(host, self.trust.believe, self._authorities)
        return TLSEndpoint(self._reactor, self._tls, endpoint)

    def _read(self, answer: HTTPAnswer) -> Any:
        content = (answer.header("content-type") or "").partition(";")[0].strip()
        value: Any = None
        if content in ("application/json", "application/problem+json"):
            try:
                value = json.loads(answer.body)
            except (ValueError, RecursionError):
                value = None
        if 200 <= answer.status < 300:
            return value
        if not isinstance(value, dict):
            if answer.status == 404:
                raise NoAccounts(
                    f"{self.name} has no accounts; its operator starts it with: "
                    "twistd mediator --accounts DIR"
                )
            why = answer.sentence or f"HTTP status {answer.status}"
            raise APIRefused(f"{self.name}: {why}", answer.status, "")
        raise _refusal(value, answer)


def _refusal(problem: dict[str, Any], answer: HTTPAnswer) -> APIRefused:
    """The error of a problem document (RFC 9457)."""
    words = problem.get("detail") or problem.get("title") or f"status {answer.status}"
    code = problem.get("code")
    try:
        retry = float(answer.header("retry-after") or "")
    except ValueError:
        retry = None
    text = "".join(c for c in str(words)[:500] if c.isprintable())
    return APIRefused(text, answer.status, code if isinstance(code, str) else "", retry)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
