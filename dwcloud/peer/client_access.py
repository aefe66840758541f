"""The grants of a client: its account's, and those for everybody."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import (
    AccessDenied,
    AllAttemptsFailed,
    CloudError,
    ConnectTimeout,
    PeerUnknown,
)
from dwcloud.interfaces import IGrantSource
from dwcloud.peer.connect_request import ConnectRequest
from dwcloud.protocol.grants.possession import ClientGrant
from dwcloud.protocol.names import PeerName

__all__ = ["ClientAccess"]

_T = TypeVar("_T")

_MAX_PUBLIC = 256
"""Grants for everybody that are remembered."""

_PATIENCE = 5.0
"""Seconds for who gives grants; there may be other ways in."""


class ClientAccess:
    """Finds the grant for each connection.

    :param source: where the account's are from; None without an account.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, source: IGrantSource | None) -> None:
        self._clock = clock
        self._source = source
        # For the next streams to systems that are open to everybody.
        self._public: OrderedDict[PeerName, ClientGrant] = OrderedDict()

    async def use(
        self,
        request: ConnectRequest,
        act: Callable[[ConnectRequest], Coroutine[Any, Any, _T]],
    ) -> _T:
        """Act with the grant at hand, and once more with a new one if it is refused."""
        await self._ask(request, renew=False)
        try:
            return await act(request)
        except (CloudError, ConnectError) as e:
            if await self._renew(request, e):
                return await act(request)
            if isinstance(e, CloudError) and request.grant_problem and _is_refusal(e):
                e.message += f" (no grant could be had: {request.grant_problem})"
            raise

    async def _renew(self, request: ConnectRequest, reason: Exception) -> bool:
        """Look for a better grant than the one that was refused.

        :return: whether there is one, so that trying again makes sense.
        """
        refused = request.grant
        if refused is None or not _is_refusal(reason):
            return False
        self._public.pop(PeerName(request.peer.system), None)
        await self._ask(request, renew=True)
        return request.grant is not None and request.grant.encoded != refused.encoded

    def is_public(self, request: ConnectRequest, encoded: bytes | None) -> None:
        """The mediator gave a grant for everybody: use it, for later streams, too."""
        if encoded is None:
            return
        system = PeerName(request.peer.system)
        request.grant = self._public[system] = ClientGrant(encoded)
        self._public.move_to_end(system)
        while len(self._public) > _MAX_PUBLIC:
            self._public.popitem(last=False)

    async def _ask(self, request: ConnectRequest, *, renew: bool) -> None:
        request.grant, request.grant_problem = None, ""
        if self._source is not None:
            try:
                asking = self._source.grant_for(request.peer, renew)
                asking.addTimeout(_PATIENCE, self._clock, _timed_out)
                request.grant = await asking
            except CancelledError:
                raise
            except Exception as e:
                # A public system needs none, and others will tell.
                request.grant_problem = str(e) or type(e).__name__
                self._log.warn(
                    "no grant for {peer} could be had: {reason}",
                    peer=str(request.peer),
                    reason=request.grant_problem,
                )
        if request.grant is None:
            request.grant = self._public.get(PeerName(request.peer.system))


def _timed_out(result: object, seconds: float) -> Any:
    if isinstance(result, Failure):
        raise ConnectTimeout(f"no answer within {seconds:g} s")
    return result


def _is_refusal(reason: Exception) -> bool:
    """Tell whether an error may be for want of a good grant."""
    if isinstance(reason, AllAttemptsFailed):
        failures: list[Failure] = list(reason.reasons.values())
        return any(failure.check(AccessDenied) for failure in failures)
    return isinstance(reason, PeerUnknown | AccessDenied)
