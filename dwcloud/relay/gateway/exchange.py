"""One request of a browser and its answer, passed on while they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from dwcloud.errors import AccessDenied
from dwcloud.net.pump import PumpEnd, join
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.gateway.requests import BrowserRequest, accepts_websocket
from dwcloud.protocol.gateway.responses import to_browser
from dwcloud.relay.gateway.pages import Trouble, trouble_of
from dwcloud.relay.gateway.service_connection import ServiceConnection
from dwcloud.relay.gateway.sessions import WebSession

if TYPE_CHECKING:
    from dwcloud.relay.gateway.browser import BrowserConnection
    from dwcloud.relay.gateway.gateway import Gateway

__all__ = ["Exchange"]


class Exchange:
    """Joins a browser's connection with a stream to the server for one request.

    Whoever writes faster than the other side reads is paused, so that no more is kept
    than the buffers of both connections hold.
    """

    def __init__(
        self,
        gateway: Gateway,
        browser: BrowserConnection,
        request: BrowserRequest,
        session: WebSession,
        address: Address,
    ) -> None:
        self._gateway = gateway
        self._browser = browser
        self._request = request
        self._session = session
        self._address = address
        self._service: ServiceConnection | None = None
        self._began = gateway.now()
        self._reads_browser = False
        self._reads_service = False
        self._over = False
        self.is_ready = False
        self.has_begun = False

    def begin(self, kept: ServiceConnection | None) -> None:
        """Send the request.

        :param kept: a stream of an earlier request that is still usable.
        """
        if kept is not None:
            self._use(kept)
        else:
            self._open()

    def _open(self) -> None:
        self._service = service = ServiceConnection(self._session)
        factory = Factory.forProtocol(lambda: service)
        opening = self._gateway.streams.open(self._session, self._address, factory)
        service.opens(opening)
        opening.addCallbacks(lambda _: self._use(service), self._not_opened)
        opening.addErrback(self._broke)

    def _not_opened(self, failure: Failure) -> None:
        if self._over:
            # Nobody wanted it any more, which is why.
            return
        if failure.check(AccessDenied):
            self._gateway.sessions.end(self._session)
        self._refuse(trouble_of(failure))

    def _broke(self, failure: Failure) -> None:
        self._gateway.log.failure("a browser's request broke the gateway", failure)
        self.browser_lost()
        self._browser.abort()

    def _refuse(self, trouble: Trouble) -> None:
        self._over = True
        self._browser.refuse(trouble)

    def _count(self, result: str) -> None:
        self._gateway.statistics.requests[result] += 1

    def _use(self, service: ServiceConnection) -> None:
        self._service = service
        if self._over:
            service.leave()
            return
        head = self._request.to_server(self._session.host.authority, self._address.host)
        service.send(head, self)
        self._pass_request_on(self._request.has_body)
        self.is_ready = True
        self._browser.read_body()

    def _pass_request_on(self, wanted: bool) -> None:
        """Pause the browser while the server does not read, or no more."""
        assert self._service is not None
        if wanted != self._reads_browser:
            self._reads_browser = wanted
            _pace(self._service.transport, self._browser.transport, wanted)

    def _pass_answer_on(self, wanted: bool) -> None:
        """Pause the server while the browser does not read, or no more."""
        if wanted != self._reads_service:
            self._reads_service = wanted
            producer = self._service.transport if self._service else None
            _pace(self._browser.transport, producer, wanted)

    # What the browser says

    def body_continued(self, data: bytes) -> None:
        """A piece of the request's body has come."""
        if self._service is not None and not self._over:
            self._service.send(h11.Data(data=data), self)

    def body_ended(self) -> None:
        """The request is whole."""
        if self._service is None or self._over:
            return
        self._pass_request_on(False)
        self._service.send(h11.EndOfMessage(), self)

    def browser_lost(self) -> None:
        """The browser does not want the answer any more."""
        if not self._over:
            self._over = True
            self._count("left")
            if self._service is not None:
                self._service.leave()

    # What the service says

    def answered(self, head: h11.Response) -> None:
        """Pass the head of the answer on."""
        assert self._service is not None
        self.has_begun = True
        self._gateway.answered_after(self._began)
        fields = to_browser(tuple(head.headers), self._session.host.authority)
        if not self._browser.has_whole_request:
            # What is still to come of it will not be waited for.
            fields.append((b"Connection", b"close"))
        self._browser.send(
            h11.Response(
                status_code=head.status_code, headers=fields, reason=head.reason
            )
        )
        self._pass_answer_on(True)

    def answer_continued(self, data: bytes) -> None:
        """Pass a piece of its body on."""
        self._browser.send(h11.Data(data=data))

    def answer_ended(self) -> None:
        """The answer is whole; both connections may be used again."""
        assert self._service is not None
        self._over = True
        self._pass_answer_on(False)
        self._pass_request_on(False)
        self._browser.send(h11.EndOfMessage())
        self._count("answered")
        kept = self._service if self._service.finished() else None
        self._browser.exchange_ended(kept)

    def switched(self, head: h11.InformationalResponse) -> None:
        """Both speak WebSocket from here on, and nothing of it is looked at."""
        assert self._service is not None
        headers = tuple(head.headers)
        if not self._request.wants_websocket or not accepts_websocket(
            self._request, headers
        ):
            self._service.leave()
            self._refuse(
                Trouble(
                    502,
                    "The service answers what nobody has asked for",
                    "It wants to speak another protocol than HTTP or WebSocket.",
                    result="no_answer",
                )
            )
            return
        self._over = True
        self._count("websocket")
        fields = to_browser(headers, self._session.host.authority)
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        self._browser.send(
            h11.InformationalResponse(
                status_code=101, headers=fields, reason=b"Switching Protocols"
            )
        )
        near, far = PumpEnd(), PumpEnd()
        self._browser.switch(near)
        self._service.switch(far)
        join(near, far)

    def service_lost(self, reason: Failure) -> None:
        """There will be no answer, or no more of it."""
        if self._over:
            return
        service, self._service = self._service, None
        if self.has_begun:
            self._over = True
            self._count("cut")
            self._pass_answer_on(False)
            self._browser.cut_off()
            return
        assert service is not None
        if service.has_answered and self._request.may_be_repeated:
            # It was closed for its silence while the request was on its way.
            self.is_ready = False
            self._open()
            return
        self._refuse(
            Trouble(
                502,
                "The service does not answer",
                f"The connection to it ended: {reason.getErrorMessage()}",
                result="no_answer",
            )
        )


def _pace(consumer: Any, producer: Any, wanted: bool) -> None:
    if wanted:
        consumer.registerProducer(producer, True)
    else:
        consumer.unregisterProducer()
