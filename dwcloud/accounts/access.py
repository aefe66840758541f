"""Who may connect to which system, asked for each connection without waiting.

The store of accounts knows who has a role; it takes time to ask. A grant carries the
answer for some hours, signed by the cloud. What the mediator has to know besides fits
into memory: which systems are bound, which are public, and what was revoked.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import attrs

from dwcloud.accounts.changes import (
    AccessChange,
    AccessSnapshot,
    RoleGranted,
    RoleRevoked,
    SystemState,
    SystemUnbound,
)
from dwcloud.net.signing import SigningKey, verifier
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.grants.access import (
    LONGEST_LIFE,
    NOBODY,
    AccessGrant,
    GrantKind,
    Role,
)
from dwcloud.protocol.grants.relay import RelayGrant
from dwcloud.protocol.grants.revocations import AccessState, Revocation, Revocations
from dwcloud.protocol.grants.signatures import milliseconds
from dwcloud.protocol.mediation.admittance import Admittance
from dwcloud.protocol.mediation.admittance import NotBound as RegistrationRefused
from dwcloud.protocol.names import PeerName

__all__ = [
    "DEFAULT_LIFE",
    "PUBLIC_LIFE",
    "AccessTable",
    "BrowsersOff",
    "IssuedGrant",
    "NotBound",
    "Revoked",
]

DEFAULT_LIFE = 12 * 3600.0
"""Seconds for which an account's grant is good."""
PUBLIC_LIFE = 3600.0
"""Seconds for which a grant for everybody is good: a new one costs nothing."""


_TRANSACTION_MS = 2000
"""What the store may need to take a role away, from the time that it notes."""


class NotBound(Exception):
    """No account owns the system."""


class Revoked(Exception):
    """The role was taken away since it was looked up."""


class BrowsersOff(Exception):
    """The owner of the system lets no browsers in."""


@attrs.frozen
class IssuedGrant:
    """A new grant.

    :ivar encoded: for the wire.
    :ivar expires: until when it is good, seconds since 1970 (UTC).
    """

    encoded: bytes
    expires: float


@attrs.define(eq=False)
class _System:
    is_public: bool
    has_web: bool
    revocations: Revocations = attrs.field(factory=Revocations)


_ABSENT = _System(False, False)
"""In the place of a system that is not there: private, to cost the same."""


class AccessTable:
    """The bound systems of a cloud, and the grants that it signs.

    :param key: the cloud's.
    :param clock: gives seconds since 1970 (UTC).
    :param random_bytes: a source of randomness, for ids of grants.
    :param life: seconds for which accounts' grants are good, at most a day.
    """

    def __init__(
        self,
        key: SigningKey,
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        *,
        life: float = DEFAULT_LIFE,
    ) -> None:
        self._key = key
        self._verify = verifier(key.public_key)
        self._clock = clock
        self._random_bytes = random_bytes
        self._life = min(life, LONGEST_LIFE)
        self._systems: dict[uuid.UUID, _System] = {}
        self._watchers: list[Callable[[uuid.UUID], None]] = []

    # No __len__: an empty table, which admits nobody, must not pass for no table.

    @property
    def bound_systems(self) -> int:
        """How many systems belong to an account."""
        return len(self._systems)

    @property
    def cloud_key(self) -> bytes:
        """The public key of the cloud, 32 bytes."""
        return self._key.public_key

    def watch(self, changed: Callable[[uuid.UUID], None]) -> None:
        """Have ``changed`` called with each system whose state is another now."""
        self._watchers.append(changed)

    # What the store tells

    def load_snapshot(self, snapshot: AccessSnapshot) -> None:
        """Take what was so before the start; nobody is told."""
        for state in snapshot.systems:
            self.load(state.system, public=state.public, web=state.web)
        for revoked in snapshot.revocations:
            until = revoked.at + _TRANSACTION_MS
            self.load_revocation(revoked.system, revoked.account, until)

    def apply(self, change: AccessChange) -> None:
        """Take a change, before whoever made it hears of its success."""
        match change:
            case SystemState(system, public, web) if system in self._systems:
                self.change(system, public=public, web=web)
            case SystemState(system, public, web):
                self.bind(system, public=public, web=web)
            case SystemUnbound(system):
                self.unbind(system)
            case RoleRevoked(system, account, at):
                # Not of when it began: a grant may have been asked for before the
                # store had taken the role away.
                self.revoke(system, account, max(at, self.now_ms()))
            case RoleGranted():
                # It shows when a grant is asked for.
                pass

    def load(self, system: uuid.UUID, *, public: bool, web: bool) -> None:
        """Take a system that was bound before the start; nobody is told."""
        self._systems[system] = _System(public, web)

    def load_revocation(
        self, system: uuid.UUID, account: uuid.UUID, until_ms: int
    ) -> None:
        """Take a revocation from before the start; nobody is told."""
        if system in self._systems:
            self._systems[system].revocations.add(Revocation(account, until_ms))

    def bind(
        self, system: uuid.UUID, *, public: bool = False, web: bool = False
    ) -> None:
        """An account owns a system now: what was granted before counts no more."""
        self._systems[system] = entry = _System(public, web)
        entry.revocations.add(Revocation(NOBODY, self.now_ms() - 1))
        self._changed(system)

    def change(self, system: uuid.UUID, *, public: bool, web: bool) -> None:
        """The owner made a system public or private, or decided on its web access.

        :raises NotBound: if nobody owns it.
        """
        entry = self._entry(system)
        if (entry.is_public, entry.has_web) != (public, web):
            entry.is_public, entry.has_web = public, web
            self._changed(system)

    def unbind(self, system: uuid.UUID) -> None:
        """Nobody owns the system any more, and nobody may connect to it."""
        if self._systems.pop(system, None) is not None:
            self._changed(system)

    def revoke(self, system: uuid.UUID, account: uuid.UUID, until_ms: int) -> None:
        """An account has no role any more: its grants are worthless.

        :param until_ms: those issued up to then, milliseconds since 1970 (UTC).
        """
        entry = self._systems.get(system)
        if entry is not None:
            entry.revocations.forget_old(now=self._clock())
            entry.revocations.add(Revocation(account, until_ms))
            self._changed(system)

    # Questions

    def is_bound(self, system: uuid.UUID) -> bool:
        """Tell whether an account owns a system."""
        return system in self._systems

    def state(self, system: uuid.UUID) -> tuple[AccessState, tuple[Revocation, ...]]:
        """Return what a server of the system has to know."""
        entry = self._systems.get(system)
        if entry is None:
            return AccessState(is_bound=False, as_of_ms=self.now_ms()), ()
        entry.revocations.forget_old(now=self._clock())
        state = AccessState(
            is_bound=True,
            is_public=entry.is_public,
            has_web=entry.has_web,
            as_of_ms=self.now_ms(),
        )
        return state, entry.revocations.list()

    def check_registration(self, name: PeerName) -> None:
        """Let a server register whose identity is proven, or not.

        :raises dwcloud.protocol.mediation.admittance.NotBound: if nobody owns its
            system.
        """
        if name.system not in self._systems:
            raise RegistrationRefused

    def admit(self, target: PeerName, encoded: bytes | None) -> Admittance | None:
        """Decide on a client; see :class:`~.admittance.Admitter`."""
        # Whatever depends on the table comes last and costs the same for a system
        # that is there and for one that is not.
        grant = self._read(encoded, target) if encoded else None
        entry = self._systems.get(target.system, _ABSENT)
        if (
            grant is not None
            and entry is not _ABSENT
            and grant.kind is GrantKind.CONNECT
            and not grant.is_for_everybody
            and not entry.revocations.concern(grant)
        ):
            wanted = target if target.server is not None else grant.target
            return Admittance(wanted, encoded)
        if entry.is_public:
            issued = self._issue(target.system, life=PUBLIC_LIFE)
            return Admittance(target, issued.encoded, for_client=issued.encoded)
        return None

    def _read(self, encoded: bytes, target: PeerName) -> AccessGrant | None:
        try:
            grant = AccessGrant.decode(encoded, self._verify)
            # One for a single server is good for its system: that one is chosen.
            fits = target if target.server is not None else grant.target
            if fits.system != target.system:
                return None
            grant.check(fits, now=self._clock())
        except RemoteProtocolError:
            return None
        return grant

    # Grants

    def now_ms(self) -> int:
        """The time, milliseconds since 1970 (UTC)."""
        return milliseconds(self._clock())

    def issue(
        self,
        system: uuid.UUID,
        account: uuid.UUID,
        role: int,
        client_key: bytes,
        *,
        account_name: str,
        asked_ms: int,
        server: uuid.UUID | None = None,
        kind: GrantKind = GrantKind.CONNECT,
        life: float | None = None,
    ) -> IssuedGrant:
        """Make a grant for an account that has a role.

        :param client_key: whose holder may use it, 32 bytes.
        :param asked_ms: :meth:`now_ms` *before* the store was asked for the role, so
            that a revocation meanwhile is not overtaken.
        :param server: the only one to be used, None for all of the system.
        :param life: seconds for which it is good, if it is to be shorter than usual.
        :raises NotBound: if nobody owns the system.
        :raises Revoked: if the role was taken away since it was asked for.
        :raises BrowsersOff: if it is for a browser and the system lets none in.
        """
        if kind is GrantKind.GATEWAY and not self._entry(system).has_web:
            raise BrowsersOff(f"system {system} lets no browsers in")
        life = self._life if life is None else min(life, self._life)
        grant = self._grant(
            system,
            kind=kind,
            server=server,
            account=account,
            role=Role(role),
            issued_ms=asked_ms,
            expires_ms=asked_ms + milliseconds(life),
            client_key=client_key,
            account_name=account_name,
        )
        if self._entry(system).revocations.concern(grant):
            raise Revoked(f"{account_name} has no role any more")
        return IssuedGrant(grant.encode(self._key.sign), grant.expires_ms / 1000)

    def _issue(self, system: uuid.UUID, *, life: float) -> IssuedGrant:
        now = self.now_ms()
        grant = self._grant(system, issued_ms=now, expires_ms=now + milliseconds(life))
        return IssuedGrant(grant.encode(self._key.sign), grant.expires_ms / 1000)

    def _grant(self, system: uuid.UUID, **values: object) -> AccessGrant:
        grant_id = uuid.UUID(bytes=self._random_bytes(16))
        return AccessGrant(grant_id=grant_id, system=system, **values)  # type: ignore[arg-type]

    def relay_grant(self, session_id: uuid.UUID, server: PeerName) -> bytes:
        """Make a grant for one connect session at relays."""
        grant = RelayGrant.issue(session_id, server, self._clock())
        return grant.encode(self._key.sign)

    def _entry(self, system: uuid.UUID) -> _System:
        try:
            return self._systems[system]
        except KeyError:
            raise NotBound(f"no account owns system {system}") from None

    def _changed(self, system: uuid.UUID) -> None:
        for changed in list(self._watchers):
            changed(system)
