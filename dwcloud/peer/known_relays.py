"""The relays that a mediator is going to name, as far as that is known before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.attempts import AttemptMaker
from dwcloud.peer.connector import Attempt
from dwcloud.peer.head_start import HeadStart, HeadStarts
from dwcloud.peer.mediator_address import (
    ASSUMED_RELAY_URL,
    MediatorAddress,
    resolve_relay_url,
)
from dwcloud.peer.relay_ports import RelayPorts
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.tunnelling.prober import Carrier
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["KnownRelays"]


class KnownRelays:
    """Leads to the relays of one mediator, and begins before they are named.

    Begun with are those that it named last. One that has named none to this machine
    yet is taken to have one on its own host, as it has unless told otherwise. Nothing
    is begun through a proxy, nor where the mediator's operator lets relays wait for
    other paths.

    :param mediator: None for a client that has none.
    :param proxies: those that lead to relays; what is remembered of the tunnels through
        them has the relays that were named.
    :param interface: local IP address to connect from, empty for any.
    """

    def __init__(
        self,
        reactor: Any,
        mediator: MediatorAddress | None,
        proxies: Proxies,
        interface: str = "",
    ) -> None:
        self._reactor = reactor
        self._mediator = mediator
        self._ports = RelayPorts(reactor, proxies)
        self._proxies = proxies
        self._memory = proxies.tunnels.memory
        self._interface = interface

    @contextmanager
    def begun(self, wanted: bool) -> Iterator[HeadStarts]:
        """Begin connections, and close in the end those that nobody took.

        :param wanted: whether relays are to be used at all.
        """
        starts = HeadStarts()
        try:
            if wanted and self._mediator is not None:
                self._begin(starts, self._mediator)
            yield starts
        finally:
            starts.end()

    def _begin(self, starts: HeadStarts, mediator: MediatorAddress) -> None:
        ways: Proxies = self._ports
        relays = self._memory.relays(str(mediator))
        if relays is None:
            # Perhaps there is no relay: nothing is asked of other ports.
            ways = self._proxies
            relays = (_read(ASSUMED_RELAY_URL, mediator),)
        for url in relays:
            destination = ways.destination(url, interface=self._interface)
            if destination.carriers == (Carrier.DIRECT,):
                connecting = destination.connect(Carrier.DIRECT)
                starts.add(url, HeadStart(self._reactor, url, connecting))

    def attempts(
        self, maker: AttemptMaker, response: ConnectResponse, begun: HeadStarts
    ) -> list[Attempt]:
        """Make the attempts by the relays that are named, and remember those.

        :param begun: those to relays that are not named are closed.
        :raises ConfigurationError: if something else is named.
        """
        mediator = self._mediator
        assert mediator is not None
        attempts = maker.relays(response, mediator, self._ports, begun)
        at_once = response.parameters.relay_start_delay <= 0.0
        named = dict.fromkeys(_read(url, mediator) for url in response.relay_urls)
        self._memory.note_relays(str(mediator), tuple(named) if at_once else ())
        return attempts


def _read(url: str, mediator: MediatorAddress) -> ServiceURL:
    return ServiceURL.parse(resolve_relay_url(url, mediator))
