"""An HTTP proxy whose defects are chosen one by one.

Each request that it passes on goes by another connection to the origin.

It runs on any reactor, simulated or real::

    proxy = BadProxy(host.reactor, Defects(connect_ports=(443,), strips_upgrade=True))
    host.reactor.listenTCP(3128, proxy)
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import h11
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

__all__ = ["BadProxy", "ClientSide", "Defects"]

_TLS_HANDSHAKE = 0x16


@attrs.frozen(kw_only=True)
class Defects:
    """What is wrong with a proxy; by default nothing.

    :ivar connect_ports: ports that CONNECT may lead to; None for all.
    :ivar connect_tls_only: whether what is no TLS inside CONNECT is cut off.
    :ivar strips_upgrade: whether it removes ``Upgrade`` from requests.
    :ivar refuses_passing_on: whether it answers 403 to everything but CONNECT.
    :ivar swallows_upgraded: whether nothing passes any more after a 101.
    :ivar buffers_requests: whether it sends a request on only when it is whole.
    :ivar buffers_answers: whether it sends an answer on only when it is whole.
    :ivar holds_answers: whether an answer waits for the end of its request's body.
    :ivar closes_connections: whether it closes a connection after each answer.
    :ivar refuses_chunked: whether it answers 411 to a body of unknown length.
    :ivar body_limit: bytes of a request's body that it takes, more get 413.
    :ivar speaks_http_1_0: whether it asks the origin by HTTP/1.0, which has no
        ``Upgrade``, with bodies buffered.
    :ivar credentials: user name and password that it wants.
    :ivar digest: whether it wants them by Digest instead of Basic.
    :ivar nonce_uses: how many requests one nonce of Digest is good for; None for any
        number. One that comes late, with a lower count than another had, is refused in
        any case (RFC 7616, 3.4).
    :ivar idle_limit: seconds without a byte after which it cuts a connection.
    :ivar one_way_limit: seconds after which it cuts what is inside CONNECT, or follows
        a 101, if one of the two sides says nothing.
    :ivar life_limit: seconds after which it cuts any connection.
    """

    connect_ports: tuple[int, ...] | None = None
    connect_tls_only: bool = False
    strips_upgrade: bool = False
    refuses_passing_on: bool = False
    swallows_upgraded: bool = False
    buffers_requests: bool = False
    buffers_answers: bool = False
    holds_answers: bool = False
    closes_connections: bool = False
    refuses_chunked: bool = False
    body_limit: int | None = None
    speaks_http_1_0: bool = False
    credentials: tuple[str, str] | None = None
    digest: bool = False
    nonce_uses: int | None = None
    idle_limit: float | None = None
    one_way_limit: float | None = None
    life_limit: float | None = None


class BadProxy(Factory):
    """Makes the proxy's connections.

    :ivar requests: method and target of each request that came, also refused ones.
    :ivar stale: how many of them were refused for their nonce alone.
    """

    noisy = False

    def __init__(self, reactor: Any, defects: Defects | None = None) -> None:
        self.reactor = reactor
        self.defects = defects or Defects()
        self.requests: list[tuple[str, str]] = []
        self.connections: set[ClientSide] = set()
        self.stale = 0
        self._nonces: dict[str, int] = {}
        self._numbers = itertools.count(1)

    def new_nonce(self) -> str:
        """Make a nonce for Digest."""
        nonce = _md5(f"nonce {next(self._numbers)}")
        self._nonces[nonce] = 0
        return nonce

    def use_nonce(self, nonce: str, count: int) -> bool:
        """Take a request with a nonce; False if that is of no use any more."""
        last = self._nonces.get(nonce)
        uses = self.defects.nonce_uses
        if last is None or count <= last or (uses is not None and count > uses):
            self._nonces.pop(nonce, None)
            self.stale += 1
            return False
        self._nonces[nonce] = count
        return True

    def buildProtocol(self, addr: IAddress | None) -> ClientSide:
        """Make one."""
        return ClientSide(self)

    def cut_all(self) -> None:
        """Break all connections."""
        for connection in list(self.connections):
            connection.cut()


class _Pipe(Protocol):
    """The proxy's connection to an origin, of which bytes go to a client."""

    def __init__(self, client: ClientSide) -> None:
        self._client = client

    def dataReceived(self, data: bytes) -> None:
        self._client.origin_said(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._client.origin_left(self)


class ClientSide(Protocol):
    """A client's connection to the proxy."""

    def __init__(self, proxy: BadProxy) -> None:
        self._proxy = proxy
        self._defects = proxy.defects
        self._http = h11.Connection(h11.SERVER)
        self._origin_http: h11.Connection | None = None
        self._origin: _Pipe | None = None
        self._head: h11.Request | None = None
        self._waiting = b""
        self._body: list[bytes] = []
        self._received = 0
        self._answer: list[h11.Event] = []
        self._request_ended = False
        self._raw = False
        self._connecting = False
        self._first_inside = True
        self._stale = False
        self._timers: dict[str, IDelayedCall] = {}

    # Time and ends

    def connectionMade(self) -> None:
        self._proxy.connections.add(self)
        self._limit("life", self._defects.life_limit)
        self._touch()

    def _limit(self, name: str, seconds: float | None) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()
        if seconds is not None:
            self._timers[name] = self._proxy.reactor.callLater(seconds, self.cut)

    def _touch(self) -> None:
        self._limit("idle", self._defects.idle_limit)

    def _begin_raw(self) -> None:
        """From now on bytes pass that are nobody's request or answer."""
        self._raw = True
        for way in ("up", "down"):
            self._limit(way, self._defects.one_way_limit)

    def cut(self) -> None:
        """Break the connection and the one to the origin."""
        for side in (self, self._origin):
            if side is not None and side.transport is not None:
                cast(Any, side.transport).abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._proxy.connections.discard(self)
        for name in list(self._timers):
            self._limit(name, None)
        if self._origin is not None and self._origin.transport is not None:
            cast(Any, self._origin.transport).abortConnection()

    # From the client

    def dataReceived(self, data: bytes) -> None:
        self._touch()
        if self._raw:
            self._limit("up", self._defects.one_way_limit)
            self._pass_on(data)
            return
        self._http.receive_data(data)
        self._read()

    def _read(self) -> None:
        while not self._raw and not self._connecting:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                self.cut()
                return
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._body_came(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._request_over()
            else:
                return

    def _begin(self, head: h11.Request) -> None:
        method, target = head.method.decode(), head.target.decode()
        self._proxy.requests.append((method, target))
        self._head, self._body, self._received = head, [], 0
        self._request_ended, self._answer = False, []
        headers = dict(head.headers)
        defects = self._defects
        length = int(headers.get(b"content-length", b"0"))
        if not self._is_authorized(method, target, headers):
            self._challenge()
        elif defects.refuses_chunked and b"transfer-encoding" in headers:
            self._refuse(411)
        elif defects.body_limit is not None and length > defects.body_limit:
            self._refuse(413)
        elif method == "CONNECT":
            host, _, port = target.rpartition(":")
            allowed = defects.connect_ports
            if allowed is not None and int(port) not in allowed:
                self._refuse(403)
            else:
                self._connect(host.strip("[]"), int(port))
        elif defects.refuses_passing_on:
            self._refuse(403)
        else:
            parts = urlsplit(target)
            if not parts.hostname:
                self._refuse(400)
            else:
                self._connect(parts.hostname, parts.port or 80)

    def _body_came(self, data: bytes) -> None:
        self._received += len(data)
        limit = self._defects.body_limit
        if limit is not None and self._received > limit:
            self.cut()
        elif self._buffers_request:
            self._body.append(data)
        else:
            self._to_origin(h11.Data(data=data))

    @property
    def _buffers_request(self) -> bool:
        return self._defects.buffers_requests or self._defects.speaks_http_1_0

    def _request_over(self) -> None:
        self._request_ended = True
        if self._origin_http is None:
            return  # it was refused, or is a CONNECT
        if self._buffers_request:
            self._send_head(b"".join(self._body))
        else:
            self._to_origin(h11.EndOfMessage())
        self._answer_on()

    # Authentication

    def _is_authorized(
        self, method: str, target: str, headers: dict[bytes, bytes]
    ) -> bool:
        if self._defects.credentials is None:
            return True
        user, password = self._defects.credentials
        field = headers.get(b"proxy-authorization", b"").decode()
        if not self._defects.digest:
            wanted = base64.b64encode(f"{user}:{password}".encode()).decode()
            return field == f"Basic {wanted}"
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', field))
        secret = _md5(f"{user}:proxy:{password}")
        what = _md5(f"{method}:{target}")
        nonce, count = given.get("nonce", ""), given.get("nc", "0")
        nonces = f"{nonce}:{count}:{given.get('cnonce')}:{given.get('qop')}"
        if given.get("response") != _md5(f"{secret}:{nonces}:{what}"):
            return False
        self._stale = not self._proxy.use_nonce(nonce, int(count, 16))
        return not self._stale

    def _challenge(self) -> None:
        challenge = 'Basic realm="proxy"'
        if self._defects.digest:
            nonce = self._proxy.new_nonce()
            challenge = f'Digest realm="proxy", nonce="{nonce}", qop="auth"'
            if self._stale:
                challenge += ", stale=true"
        self._refuse(407, [("Proxy-Authenticate", challenge)])

    def _refuse(self, status: int, headers: Any = ()) -> None:
        self._connecting = True
        fields = [*headers, ("Content-Length", "0"), ("Connection", "close")]
        self._to_client(h11.Response(status_code=status, headers=fields))
        self._to_client(h11.EndOfMessage())
        assert self.transport is not None
        self.transport.loseConnection()

    # To the origin

    def _connect(self, host: str, port: int) -> None:
        self._connecting = True
        endpoint = HostnameEndpoint(self._proxy.reactor, host, port, timeout=10)
        connecting = connectProtocol(endpoint, _Pipe(self))
        connecting.addCallbacks(self._connected, lambda _: self._refuse(502))

    def _connected(self, origin: Any) -> None:
        assert self._head is not None
        self._origin, self._connecting = origin, False
        if self._head.method == b"CONNECT":
            self._to_client(h11.Response(status_code=200, headers=[]))
            self._begin_raw()
            early, _ = self._http.trailing_data
            if early:
                self._pass_on(early)
            return
        self._origin_http = h11.Connection(h11.CLIENT)
        if not self._buffers_request:
            self._send_head(None)
        self._read()

    def _send_head(self, body: bytes | None) -> None:
        assert self._head is not None
        dropped = {b"proxy-authorization", b"proxy-connection"}
        strips = self._defects.strips_upgrade or self._defects.speaks_http_1_0
        upgrades = not strips and b"upgrade" in dict(self._head.headers)
        if not upgrades:
            dropped |= {b"connection", b"upgrade"}
        if body is not None:
            dropped |= {b"transfer-encoding", b"content-length"}
        headers = [h for h in self._head.headers if h[0] not in dropped]
        if body:
            headers.append((b"content-length", str(len(body)).encode()))
        if not upgrades:
            headers.append((b"connection", b"close"))
        parts = urlsplit(self._head.target.decode())
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._to_origin(
            h11.Request(method=self._head.method, target=target, headers=headers)
        )
        if body is not None:
            if body:
                self._to_origin(h11.Data(data=body))
            self._to_origin(h11.EndOfMessage())

    def _to_origin(self, event: h11.Event) -> None:
        assert self._origin_http is not None
        if self._origin is None or self._origin_http.our_state is h11.ERROR:
            return
        data = self._origin_http.send(event) or b""
        if isinstance(event, h11.Request) and self._defects.speaks_http_1_0:
            data = data.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
        cast(Any, self._origin.transport).write(data)

    def _pass_on(self, data: bytes) -> None:
        if self._first_inside and self._head is not None:
            self._first_inside = False
            wants_tls = (
                self._defects.connect_tls_only and self._head.method == b"CONNECT"
            )
            if wants_tls and data[0] != _TLS_HANDSHAKE:
                self.cut()
                return
        if self._is_swallowing or self._origin is None:
            return
        cast(Any, self._origin.transport).write(data)

    @property
    def _is_swallowing(self) -> bool:
        return self._defects.swallows_upgraded and self._origin_http is not None

    # From the origin

    def origin_said(self, data: bytes) -> None:
        """Bytes came from the origin."""
        self._touch()
        if self._raw:
            self._limit("down", self._defects.one_way_limit)
            if not self._is_swallowing:
                cast(Any, self.transport).write(data)
            return
        assert self._origin_http is not None
        self._origin_http.receive_data(data)
        self._read_answer()

    def origin_left(self, origin: _Pipe) -> None:
        """The origin closed its connection."""
        if origin is not self._origin:
            return
        self._origin = None
        if self._raw or self._origin_http is None:
            cast(Any, self.transport).loseConnection()
            return
        if self._origin_http.their_state is h11.SEND_BODY:
            self._origin_http.receive_data(b"")
            self._read_answer()
        elif self._origin_http.their_state is not h11.CLOSED and not self._answer:
            cast(Any, self.transport).loseConnection()

    def _read_answer(self) -> None:
        assert self._origin_http is not None
        while True:
            try:
                event = self._origin_http.next_event()
            except h11.RemoteProtocolError:
                self.cut()
                return
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    self._upgraded(event)
                    return
                continue
            if not isinstance(event, h11.Response | h11.Data | h11.EndOfMessage):
                return
            self._answer.append(event)
            self._answer_on()
            if isinstance(event, h11.EndOfMessage):
                return

    def _upgraded(self, event: h11.InformationalResponse) -> None:
        assert self._origin_http is not None
        self._to_client(event)
        self._begin_raw()
        late, _ = self._origin_http.trailing_data
        if late and not self._is_swallowing:
            cast(Any, self.transport).write(late)
        early, _ = self._http.trailing_data
        if early:
            self._pass_on(early)

    def _answer_on(self) -> None:
        """Send on what has come of the answer, if its time has come."""
        over = bool(self._answer) and isinstance(self._answer[-1], h11.EndOfMessage)
        if self._defects.holds_answers and not self._request_ended:
            return
        if self._defects.buffers_answers and not over:
            return
        events, self._answer = self._answer, []
        for event in events:
            if isinstance(event, h11.Response):
                dropped = (b"connection", b"keep-alive")
                headers = [h for h in event.headers if h[0] not in dropped]
                event = h11.Response(
                    status_code=event.status_code, headers=headers, reason=event.reason
                )
            self._to_client(event)
        if over:
            self._finish()

    def _finish(self) -> None:
        """Be ready for the next request, or close."""
        if self._origin is not None:
            cast(Any, self._origin.transport).abortConnection()
            self._origin = None
        self._origin_http = None
        again = self._http.our_state is self._http.their_state is h11.DONE
        if again and not self._defects.closes_connections:
            self._http.start_next_cycle()
            self._read()
        else:
            cast(Any, self.transport).loseConnection()

    def _to_client(self, event: h11.Event) -> None:
        if self._http.our_state in (h11.ERROR, h11.CLOSED):
            return
        data = self._http.send(event)
        if data:
            cast(Any, self.transport).write(data)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
