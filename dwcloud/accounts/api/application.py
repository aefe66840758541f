"""The API as an application of the HTTP server."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.accounts.api import (
    account,
    gateway,
    members,
    operator,
    sign_in,
    systems,
    tokens,
    watching,
)
from dwcloud.accounts.api.authentication import (
    check_operator,
    check_origin,
    check_transport,
    source_address,
    token_of,
    who_asks,
)
from dwcloud.accounts.api.endpoints import (
    Access,
    Call,
    Endpoint,
    NotAllowed,
    RoutingTable,
    problem_response,
)
from dwcloud.accounts.api.openapi import description_endpoint
from dwcloud.accounts.api.services import Services
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.sessions import COOKIE
from dwcloud.net.http_messages import Reply, Request

__all__ = ["AccountsAPI"]

_ENDPOINTS = (
    *sign_in.ENDPOINTS,
    *account.ENDPOINTS,
    *systems.ENDPOINTS,
    *members.ENDPOINTS,
    *tokens.ENDPOINTS,
    *gateway.ENDPOINTS,
    *operator.ENDPOINTS,
    *watching.ENDPOINTS,
)


class AccountsAPI:
    """Answers requests below :data:`~dwcloud.accounts.api.endpoints.BASE`."""

    _log = Logger()

    def __init__(self, services: Services) -> None:
        self._services = services
        self.endpoints: tuple[Endpoint, ...] = (
            *_ENDPOINTS,
            description_endpoint(_ENDPOINTS),
        )
        self._table = RoutingTable(self.endpoints)

    def __call__(self, request: Request) -> Deferred[Reply]:
        """Answer a request; what it has begun is done even if nobody waits for it."""
        answer: Deferred[Reply] = Deferred()
        working = Deferred.fromCoroutine(self._answer(request))
        working.addErrback(self._refuse, request)
        # A client that leaves cancels this one, which nothing else hangs on.
        working.addCallbacks(answer.callback, answer.errback)
        return answer

    async def _answer(self, request: Request) -> Reply:
        check_transport(request)
        endpoint, variables = self._table.find(request.method, request.path)
        check_origin(request)
        address = source_address(request)
        self._services.limits.check_request(address, self._services.clock())
        began = self._services.access.now_ms()
        token, kind = "", ""
        session = None
        if endpoint.access is Access.OPERATOR:
            check_operator(request, self._services.operator_hash)
        elif endpoint.access is Access.SIGNED_IN:
            token, kind = token_of(request)
            asking = who_asks(self._services.store, request, address)
            session = None if asking is None else await asking
            if session is None or not (session.scope is None or endpoint.tokens):
                # One for a system is nobody's where it does not reach.
                raise Refused(401, "signed_out", "Sign in, or sign in again.")
        call = Call(
            services=self._services,
            request=request,
            address=address,
            began_ms=began,
            session=session,
            access_token=token,
            by_cookie=kind == COOKIE,
            path=variables,
            query=endpoint.read_query(request),
            body=endpoint.read_body(request),
        )
        return await endpoint.answer_to(call)

    def _refuse(self, failure: Failure, request: Request) -> Any:
        refused = failure.value
        if isinstance(refused, NotAllowed):
            return problem_response(refused, (("Allow", refused.allowed),))
        if isinstance(refused, Refused):
            headers: tuple[tuple[str, str], ...] = ()
            if refused.status == 401:
                headers = (("WWW-Authenticate", 'Bearer realm="dwcloud"'),)
            return problem_response(refused, headers)
        if not failure.check(CancelledError):
            self._log.failure(
                "{method} {path} could not be answered",
                failure,
                method=request.method,
                path=request.path,
            )
        mistake = Refused(
            500, "internal", "This service made a mistake; its log tells more."
        )
        return problem_response(mistake)
