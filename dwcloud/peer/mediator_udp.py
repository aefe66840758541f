"""Where the mediator takes UDP, over IPv4 and over IPv6."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import DNSLookupError
from twisted.python.failure import Failure

from dwcloud.errors import MediatorUnreachable, RequestRefused
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_resolution import resolve_host
from dwcloud.protocol.addresses import Address

__all__ = ["MediatorUDP", "first_answer"]

T = TypeVar("T")


class MediatorUDP:
    """The UDP addresses of a mediator, by version of IP.

    Those of its name, or the one that it is named by; for the other version what it
    said of itself.

    :param mediator: as the user named it.
    """

    def __init__(self, reactor: Any, mediator: MediatorAddress) -> None:
        self._reactor = reactor
        self._mediator = mediator
        self._told: dict[int, Address] = {}

    def learn(self, endpoints: Iterable[Address]) -> None:
        """Take what the mediator says of itself: one address of each version."""
        for address in endpoints:
            self._told[address.family] = address

    def resolve(self, family: int) -> Deferred[Address]:
        """Return the address of a version of IP.

        :param family: 4 or 6.
        :return: fires with the address; fails with DNSLookupError. Cancellable.
        """
        resolving = resolve_host(
            self._reactor, self._mediator.host, self._mediator.port, family
        )

        def not_named(failure: Failure) -> Address:
            failure.trap(DNSLookupError)
            if family not in self._told:
                failure.raiseException()
            return self._told[family]

        return resolving.addErrback(not_named)

    def resolve_any(self, families: Collection[int]) -> Deferred[Address]:
        """Return an address of one of these versions, IPv4 if there is a choice.

        :return: fires with the address; fails with DNSLookupError. Cancellable.
        """
        if not families:
            return fail(DNSLookupError("there is no UDP socket"))
        first, *others = sorted(families)
        resolving = self.resolve(first)

        def not_first(failure: Failure) -> Any:
            failure.trap(DNSLookupError)
            return self.resolve_any(others) if others else failure

        return resolving.addErrback(not_first)


def first_answer(
    asking: Sequence[Deferred[T]],
    *,
    on_answer: Callable[[Deferred[T]], object] = lambda other: other.cancel(),
) -> Deferred[T]:
    """Return the first of several answers to one question.

    :param on_answer: called with each question that is still open then.
    :return: fires with it. Fails with a refusal, which is as good as an answer, or with
        the last failure: who failed later came further. Cancelling cancels all.
    """
    if not asking:
        return fail(MediatorUnreachable("there is no UDP socket"))
    still_open = list(asking)

    def cancel(_: object) -> None:
        for each in list(still_open):
            each.cancel()

    result: Deferred[T] = Deferred(cancel)

    def ended(outcome: Any, each: Deferred[T]) -> None:
        still_open.remove(each)
        failed = isinstance(outcome, Failure)
        if result.called or (
            failed and still_open and not outcome.check(RequestRefused)
        ):
            return
        result.callback(outcome)
        for other in list(still_open):
            on_answer(other)

    for each in asking:
        each.addBoth(ended, each)
    return result
