"""Whom a server admits whose system is bound to a cloud.

It checks by itself, under the key that was pinned when the system was bound: neither
mediator nor relay can let anybody in. What the mediator says can only keep people out.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.logger import Logger

from dwcloud.errors import AccessDenied, ConfigurationError
from dwcloud.net.private_files import replace_file
from dwcloud.net.signing import verifier, verify
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.grants.access import (
    LONGEST_LIFE,
    NOBODY,
    AccessGrant,
    GrantKind,
)
from dwcloud.protocol.grants.possession import possession_text
from dwcloud.protocol.grants.revocations import AccessState, Revocation, Revocations
from dwcloud.protocol.grants.signatures import milliseconds
from dwcloud.protocol.mediation.messages import AccessChanged, ConnectionRequested
from dwcloud.protocol.names import PeerName

__all__ = ["STATE_FILE", "ServerAccess"]

STATE_FILE = "access.json"
"""What the mediator said last, beside ``cloud.json``."""

_MAX_USED = 10_000
"""Proofs of possession without TLS that are remembered, so that none is used twice."""

_BOUND = AccessState(is_bound=True)
"""Before the mediator has said anything."""

Cut = Callable[[str], None]
"""Ends a stream, for a reason."""


class ServerAccess:
    """The access to one server.

    :param membership: the cloud.
    :param server: the server's full name.
    :param clock: gives seconds since 1970 (UTC).
    :param directory: where the state is kept over a restart; None for nowhere.
    :raises ConfigurationError: if that cannot be read.
    """

    _log = Logger()

    def __init__(
        self,
        membership: CloudMembership,
        server: PeerName,
        clock: Callable[[], float],
        directory: Path | None = None,
    ) -> None:
        self.membership = membership
        self._server = server
        self._clock = clock
        self._verify = verifier(membership.cloud_key)
        self._file = None if directory is None else directory / STATE_FILE
        self._state = _BOUND
        self._revocations = Revocations()
        self._streams: dict[object, tuple[AccessGrant, Cut]] = {}
        self._used: OrderedDict[bytes, None] = OrderedDict()
        self._out_of_touch_since: float | None = clock()
        self._read_state()

    @classmethod
    def load(
        cls, directory: Path, server: PeerName, clock: Callable[[], float]
    ) -> ServerAccess | None:
        """Make that of an identity; None if its system is not bound to a cloud.

        :raises ConfigurationError: if its files cannot be read.
        """
        membership = CloudMembership.load(directory)
        if membership is None:
            return None
        return cls(membership, server, clock, directory)

    @property
    def state(self) -> AccessState:
        """What the mediator said last."""
        return self._state

    def __len__(self) -> int:
        return len(self._streams)

    # Whom to admit

    def check_request(self, request: ConnectionRequested) -> AccessGrant:
        """Decide on a client of whom the mediator tells.

        :raises AccessDenied: if it may not connect; the message says why.
        """
        return self._check(request.grant or b"", GrantKind.CONNECT)

    def check_path(
        self,
        grant: bytes,
        possession: bytes,
        session: uuid.UUID | None,
        binding: bytes,
        *,
        kind: GrantKind = GrantKind.CONNECT,
        in_tls: bool = True,
    ) -> AccessGrant:
        """Decide on a path that a client has opened.

        :param binding: what only this path has; see
            :func:`~dwcloud.protocol.grants.possession.possession_text`.
        :param kind: of grant that the path is for.
        :raises AccessDenied: if it is not admitted; the message says why.
        """
        admitted = self._check(grant, kind)
        if admitted.is_for_everybody:
            return admitted
        text = possession_text(session, binding)
        if not verify(admitted.client_key, possession, text):
            raise AccessDenied("the grant is somebody else's: its key is missing")
        if not in_tls:
            # The binding is the client's own choice there.
            self._use_once(possession)
        return admitted

    def _check(self, encoded: bytes, kind: GrantKind) -> AccessGrant:
        if not encoded:
            raise AccessDenied(
                "this server admits only who has access to its system; sign in: "
                "dwcloud account login"
            )
        try:
            grant = AccessGrant.decode(encoded, self._verify)
            grant.check(self._server, now=self._clock())
        except RemoteProtocolError as e:
            raise AccessDenied(str(e)) from e
        if grant.kind is not kind:
            raise AccessDenied(f"a {grant.kind.name.lower()} grant is of no use here")
        why = self._objection(grant)
        if why:
            raise AccessDenied(why)
        return grant

    def _objection(self, grant: AccessGrant) -> str:
        if not self._state.is_bound:
            return "no account owns this system"
        if not self._state.allows(grant):
            return "this system is not open to everybody"
        if self._revocations.concern(grant):
            return "the access was taken away"
        return ""

    def _use_once(self, possession: bytes) -> None:
        digest = hashlib.sha256(possession).digest()
        if digest in self._used:
            raise AccessDenied("the proof was used before")
        self._used[digest] = None
        while len(self._used) > _MAX_USED:
            self._used.popitem(last=False)

    # Who is in

    def add_stream(self, stream: object, grant: AccessGrant, cut: Cut) -> None:
        """A path was admitted; ``cut`` ends it when the grant counts no more."""
        self._streams[stream] = (grant, cut)

    def remove_stream(self, stream: object) -> None:
        """A path has ended."""
        self._streams.pop(stream, None)

    # What the mediator says

    def lost_touch(self) -> None:
        """There is no control channel any more: nothing is heard of revocations."""
        if self._out_of_touch_since is None:
            self._out_of_touch_since = self._clock()

    def change(self, change: AccessChanged) -> int:
        """Act on what the mediator says.

        :return: how many streams were cut.
        """
        now = self._clock()
        latest = milliseconds(now + LONGEST_LIFE)
        before = self._snapshot()
        self._state = change.state
        for revocation in change.revocations:
            # This machine's clock may be slow; but no word keeps people out for ever.
            until = min(revocation.until_ms, latest)
            self._revocations.add(attrs.evolve(revocation, until_ms=until))
        self._revocations.forget_old(now=now)
        if self._snapshot() != before:
            self._write_state()
        forgotten = self._forgotten_by_now(now)
        cut = 0
        for grant, end in list(self._streams.values()):
            why = self._objection(grant)
            if not why and grant.issued_ms < forgotten:
                why = "the access could not be confirmed for a day"
            if why:
                cut += 1
                end(why)
        return cut

    def _forgotten_by_now(self, now: float) -> int:
        """Return until when issued grants may have been revoked without our knowing.

        Revocations are told for a day. Who was out of touch for longer has missed
        some, and streams live on with grants that have long expired.
        """
        since, self._out_of_touch_since = self._out_of_touch_since, None
        if since is None or now - since < LONGEST_LIFE or not self._state.is_bound:
            return 0
        return milliseconds(now - LONGEST_LIFE)

    # What is kept

    def _snapshot(self) -> dict[str, Any]:
        return {
            "bound": self._state.is_bound,
            "public": self._state.is_public,
            "web": self._state.has_web,
            "revocations": sorted(
                [str(r.account), r.until_ms] for r in self._revocations.list()
            ),
        }

    def _write_state(self) -> None:
        if self._file is None:
            return
        data = json.dumps(self._snapshot(), indent=1).encode("ascii") + b"\n"
        try:
            replace_file(self._file, data)
        except ConfigurationError as e:
            # It holds for as long as this process lives, and is told again after.
            self._log.error("the state of access is not kept: {reason}", reason=str(e))

    def _read_state(self) -> None:
        if self._file is None:
            return
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return
        except OSError as e:
            raise ConfigurationError(f"cannot read {self._file}: {e.strerror}") from e
        try:
            self._take(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            # Whom it kept out is not known any more: everybody needs a new grant.
            self._log.error(
                "{file} is damaged ({reason}): grants of before now are not accepted",
                file=str(self._file),
                reason=str(e),
            )
            self._state, self._revocations = _BOUND, Revocations()
            now_ms = milliseconds(self._clock())
            self._revocations.add(Revocation(NOBODY, now_ms))

    def _take(self, values: dict[str, Any]) -> None:
        self._state = AccessState(
            is_bound=values["bound"] is True,
            is_public=values["public"] is True,
            has_web=values["web"] is True,
        )
        for account, until_ms in values["revocations"]:
            self._revocations.add(Revocation(uuid.UUID(account), int(until_ms)))
