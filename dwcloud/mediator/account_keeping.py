"""A mediator with accounts: who is online, and what becomes of connections."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.logger import Logger

from dwcloud.accounts.api.endpoints import BASE
from dwcloud.accounts.api.services import Limits
from dwcloud.accounts.changes import AccessChange, SystemUnbound
from dwcloud.accounts.database import open_database
from dwcloud.accounts.directory import AccountsDirectory
from dwcloud.accounts.recorder import Connection
from dwcloud.accounts.service import AccountsService
from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.mediator import Mediator
from dwcloud.mediator.watching import LastOutcomes, Watching
from dwcloud.net.cloud_trust import fingerprint
from dwcloud.net.https import CertificateTLS
from dwcloud.net.signing import verifier
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.hosts import WebGateway
from dwcloud.protocol.grants import AccessGrant
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.activity import Activity
from dwcloud.protocol.mediation.registry import Registry
from dwcloud.protocol.mediation.session import ConnectSessionCore
from dwcloud.protocol.names import PeerName

__all__ = ["AccountsObserver", "RegistryPresence", "with_accounts"]

_log = Logger()


def with_accounts(
    reactor: Any,
    configuration: MediatorConfiguration,
    path: Path,
    *,
    database: str | None = None,
    registration: str = "open",
    gateways: tuple[WebGateway, ...] = (),
    owner: tuple[int, int] = (-1, -1),
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Return what makes a :class:`~dwcloud.mediator.service.MediatorService` keep
    accounts, as its arguments.

    :param path: the directory of keys.
    :param database: URL of a database that is not the file in that directory.
    :param registration: ``open``, ``invited`` or ``closed``.
    :param gateways: relays that let browsers in.
    :param owner: user and group that the program will run as, -1 for this one.
    :param limits: how often the API may be asked.
    :raises ConfigurationError: if the directory or what is in it cannot be used.
    """
    directory = AccountsDirectory(path, owner)
    accounts = AccountsService(
        reactor,
        directory,
        database=open_database(reactor, reactor.seconds, directory.database, database),
        registration=registration,
        relays=configuration.relay_urls,
        gateways=gateways,
        limits=limits,
    )
    key, certificate = directory.certificate()
    tls = CertificateTLS(key, certificate)
    _log.info(
        "the key of the HTTPS certificate in {path} is {fingerprint}",
        path=str(certificate),
        fingerprint=fingerprint(
            x509.load_pem_x509_certificate(certificate.read_bytes())
        ),
    )
    observer = AccountsObserver(reactor, accounts)
    mediator = Mediator(
        reactor, configuration, admitter=accounts.access, observer=observer
    )
    observer.attach(mediator)
    application = accounts.application(RegistryPresence(mediator.registry))
    # All keys have been made by now.
    directory.give_away()
    return {
        "mediator": mediator,
        "parts": [accounts],
        "accounts": (BASE, application),
        "tls": tls,
    }


class RegistryPresence:
    """Tells from a mediator's registry which servers are online."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def online(self, system: uuid.UUID) -> Mapping[uuid.UUID, float]:
        """See :class:`dwcloud.accounts.api.services.Presence`."""
        return {
            record.name.server: record.since
            for record in self._registry.online(system)
            if record.name.server is not None
        }


class AccountsObserver:
    """Writes down what happens to bound systems, and tells browsers that watch."""

    def __init__(self, reactor: Any, accounts: AccountsService) -> None:
        self._reactor = reactor
        self._watching: Watching | None = None
        self._outcomes = LastOutcomes()
        self._access = accounts.access
        self._events = accounts.events
        self._recorder = accounts.recorder
        accounts.store.on_change.append(self.access_changed)
        self._verify = verifier(accounts.access.cloud_key)

    def attach(self, mediator: Mediator) -> None:
        """Have the servers of a mediator asked about systems that are watched."""
        self._watching = Watching(self._reactor, mediator.watch, self._events.publish)
        self._events.on_watched = self._watched

    def access_changed(self, change: AccessChange) -> None:
        """What happened under an owner is not the next one's business."""
        if isinstance(change, SystemUnbound):
            self._outcomes.forget(change.system)

    def _watched(self, system: uuid.UUID, fresh: bool) -> None:
        assert self._watching is not None
        self._watching.watched(system, fresh)
        last = self._outcomes.get(system)
        if fresh and last is not None:
            self._events.publish(system, "outcome", last)

    def server_online(self, name: PeerName) -> None:
        """See :class:`~dwcloud.mediator.observer.Observer`."""
        self._server(name, True)
        if self._watching is not None:
            self._watching.server_online(name.system)

    def server_offline(self, name: PeerName) -> None:
        """See :class:`~dwcloud.mediator.observer.Observer`."""
        self._server(name, False)
        if self._watching is not None:
            self._watching.server_offline(name)

    def activity_reported(self, name: PeerName, activity: Activity) -> None:
        """See :class:`~dwcloud.mediator.observer.Observer`."""
        if self._watching is not None and self._access.is_bound(name.system):
            self._watching.report(name, activity)

    def _server(self, name: PeerName, online: bool) -> None:
        if name.server is None or not self._access.is_bound(name.system):
            return
        self._recorder.server_seen(name.system, name.server)
        self._events.publish(
            name.system, "server", {"server": str(name.server), "online": online}
        )

    def introduction_failed(self, core: ConnectSessionCore, reason: str) -> None:
        """See :class:`~dwcloud.mediator.observer.Observer`."""
        self.connection_ended(core, reason, path="", seconds=None)

    def connection_ended(
        self,
        core: ConnectSessionCore,
        outcome: str,
        *,
        path: str,
        seconds: float | None,
    ) -> None:
        """See :class:`~dwcloud.mediator.observer.Observer`."""
        if core.admittance is None:
            return  # A stranger: whoever owns the system need not read of all of them.
        target = core.admittance.target
        if not self._access.is_bound(target.system):
            return
        server = target.server if core.server is None else core.server.name.server
        account, who = self._account(core.admittance.for_server)
        session = log_id(core.session_id)
        made = Connection(
            session=uuid.UUID(session),
            system=target.system,
            server=server,
            account=account,
            who=who,
            client=core.request.client_name or "",
            outcome=outcome,
            path=path,
            seconds=seconds,
            address=min(core.hosts, default=""),
        )
        self._recorder.connection(made)
        last = {"at": self._reactor.seconds(), "outcome": outcome, "path": path}
        self._outcomes.add(target.system, last)
        self._events.publish(target.system, "outcome", last)
        self._events.publish(
            target.system,
            "connection",
            {
                "server": None if server is None else str(server),
                "session": session,
                "who": who,
                "outcome": outcome,
                "path": path,
                "seconds": seconds,
            },
        )

    def _account(self, grant: bytes | None) -> tuple[uuid.UUID | None, str]:
        """Return whose grant it is that was admitted."""
        try:
            read = AccessGrant.decode(grant or b"", self._verify)
        except RemoteProtocolError:
            return None, ""
        if read.is_for_everybody:
            return None, ""
        return read.account, read.account_name
