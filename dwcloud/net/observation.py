"""``/metrics`` and ``/health``: what watches over a service asks it.

See docs/howto/operate.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.python import usage

from dwcloud.metrics import Family, MetricsUnavailable, render
from dwcloud.net.http_messages import (
    Reply,
    Request,
    Response,
    json_response,
    plain_response,
)
from dwcloud.protocol.addresses import parse_ip

__all__ = [
    "HEALTH_PATH",
    "METRICS_PATH",
    "Health",
    "MetricsOptions",
    "MetricsPage",
    "MetricsReaders",
]

METRICS_PATH = "/metrics"
HEALTH_PATH = "/health"

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_ANY, _NONE = "any", "none"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen
class MetricsReaders:
    """Who may read metrics.

    :ivar networks: from where; by default this machine alone.
    :ivar anybody: whether everybody may.
    """

    networks: tuple[Network, ...] = (
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    )
    anybody: bool = False

    @classmethod
    def parse(cls, texts: Iterable[str]) -> MetricsReaders:
        """Read the values of ``--metrics-from``; without any the default is meant.

        :raises ValueError: if one is neither an address, nor a network, ``any`` or
            ``none``, or if ``any`` or ``none`` is not alone.
        """
        values = list(texts)
        if not values:
            return cls()
        for word in (_ANY, _NONE):
            if word in values and len(values) > 1:
                raise ValueError(f"{word!r} goes with no other")
        if values == [_ANY]:
            return cls((), True)
        if values == [_NONE]:
            return cls(())
        return cls(tuple(_network(text) for text in values))

    def admit(self, request: Request) -> bool:
        """Tell whether a request may read.

        One that a proxy has passed on comes from nobody knows where, whatever address
        the proxy has.
        """
        if self.anybody:
            return True
        if any(request.header(name) is not None for name in _FORWARDED):
            return False
        address = _host(request.peer)
        if address is None:
            # A UNIX socket: a program of this machine.
            return bool(self.networks)
        return any(
            address.version == network.version and address in network
            for network in self.networks
        )


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as e:
        raise ValueError(
            f"{text!r}: expected a network such as 192.0.2.0/24, an address, any or "
            f"none ({e})"
        ) from None


def _host(peer: IAddress) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = getattr(peer, "host", None)
    return None if text is None else parse_ip(str(text))


class MetricsOptions(usage.Options):
    """The option of a service that says who may read its metrics."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["metrics-from"] = []

    def opt_metrics_from(self, network: str) -> None:
        """Show metrics at /metrics to requests from this network or address, such as
        192.0.2.0/24; any for everybody, none for nobody. Repeatable.
        [default: this machine]"""
        values = [*self["metrics-from"], network]
        try:
            MetricsReaders.parse(values)
        except ValueError as e:
            raise usage.UsageError(f"--metrics-from: {e}") from None
        self["metrics-from"] = values

    @property
    def metrics_readers(self) -> MetricsReaders:
        """Who may read."""
        return MetricsReaders.parse(self["metrics-from"])


class MetricsPage:
    """The metrics of a service, for those who may read them.

    :param families: returns them, at once or later.
    """

    def __init__(
        self,
        families: Callable[[], list[Family] | Deferred[list[Family]]],
        readers: MetricsReaders,
    ) -> None:
        self._families = families
        self._readers = readers

    def __call__(self, request: Request) -> Reply | Deferred[Reply]:
        """Answer 200, 403 to who may not read, 501 where a package is missing."""
        if not self._readers.admit(request):
            return plain_response(
                403,
                "Metrics are not shown here to requests from your address; the "
                "operator of this service may name it by --metrics-from.",
            )
        asking: Deferred[Any] = maybeDeferred(self._families)
        accept = request.header("accept") or ""
        return asking.addCallback(_rendered, accept)


def _rendered(families: list[Family], accept: str) -> Response:
    try:
        text, content_type = render(families, accept)
    except MetricsUnavailable as e:
        sentence = str(e)
        return plain_response(501, f"{sentence[:1].upper()}{sentence[1:]}")
    return Response(200, text, content_type)


class Health:
    """Whether a service does its work, for balancers and supervisors.

    Anybody may ask: it tells nothing that trying the service would not tell.

    :param problems: returns a sentence for each thing that is not as it should be.
    """

    def __init__(self, problems: Callable[[], list[str]]) -> None:
        self._problems = problems

    def __call__(self, request: Request) -> Reply:
        """Answer 200, or 503 with what is wrong."""
        problems = self._problems()
        if not problems:
            return json_response(200, {"status": "ok"})
        return json_response(503, {"status": "unavailable", "problems": problems})
