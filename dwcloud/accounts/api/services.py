"""What the API stands on."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs
from twisted.logger import Logger

from dwcloud.accounts.access import AccessTable
from dwcloud.accounts.api.events import EventBus
from dwcloud.accounts.lock_out import LockOut
from dwcloud.accounts.passwords import Passwords
from dwcloud.accounts.people import OPEN
from dwcloud.accounts.rate_limits import Allowance, RateLimit, network_of
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.sealing import Seal
from dwcloud.accounts.store import Store
from dwcloud.protocol.gateway.hosts import WebGateway

__all__ = ["Limits", "NobodyOnline", "Presence", "Services"]


REQUESTS = Allowance(burst=300, per_minute=600)
SIGN_INS = Allowance(burst=20, per_minute=20)
REGISTRATIONS = Allowance(burst=10, per_minute=0.5)


class Presence(Protocol):
    """Tells which servers are online."""

    def online(self, system: uuid.UUID) -> Mapping[uuid.UUID, float]:
        """Return the servers of a system that are online, and since when.

        Times are seconds since 1970.
        """


class NobodyOnline:
    """A cloud without a mediator."""

    def online(self, system: uuid.UUID) -> Mapping[uuid.UUID, float]:
        """See :meth:`Presence.online`."""
        return {}


class Limits:
    """How often the API may be asked for what is worth guarding.

    :param requests: of any kind, by address.
    :param sign_ins: and whatever else tries a password, by address.
    :param registrations: by address.
    :ivar lock_out: of accounts, by name, which the store keeps.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        requests: Allowance = REQUESTS,
        sign_ins: Allowance = SIGN_INS,
        registrations: Allowance = REGISTRATIONS,
        lock_out: LockOut | None = None,
    ) -> None:
        self._requests = RateLimit(requests)
        self._sign_ins = RateLimit(sign_ins)
        self._registrations = RateLimit(registrations)
        self.lock_out = LockOut() if lock_out is None else lock_out

    def check_request(self, address: str, now: float) -> None:
        """Count a request.

        :raises Refused: 429, if there were too many.
        """
        self._check(self._requests, address, now)

    def check_sign_in(self, address: str, now: float) -> None:
        """Count a try of a password.

        :raises Refused: 429, if there were too many.
        """
        self._check(self._sign_ins, address, now)

    def check_registration(self, address: str, now: float) -> None:
        """Count a registration.

        :raises Refused: 429, if there were too many.
        """
        self._check(self._registrations, address, now)

    def _check(self, limit: RateLimit, address: str, now: float) -> None:
        wait = limit.wait_for(network_of(address), now=now)
        if wait > 0:
            raise Refused(
                429,
                "rate_limited",
                "Too many requests came from your address; wait a little.",
                retry_after=wait,
            )


@attrs.frozen(kw_only=True)
class Services:
    """What the functions of the API work with.

    :ivar access: issues grants, and has the cloud's public key.
    :ivar clock: tells the time, seconds since 1970.
    :ivar relays: URLs of the cloud's relays.
    :ivar gateways: relays that let browsers in.
    :ivar operator_hash: of the operator's key.
    :ivar registration: who may register: ``open``, ``invited`` or ``closed``.
    """

    store: Store
    passwords: Passwords
    seal: Seal
    access: AccessTable
    clock: Callable[[], float]
    events: EventBus
    operator_hash: str
    presence: Presence = attrs.field(factory=NobodyOnline)
    limits: Limits = attrs.field(factory=Limits)
    registration: str = OPEN
    relays: tuple[str, ...] = ()
    gateways: tuple[WebGateway, ...] = ()
