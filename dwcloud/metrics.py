"""Figures in the form that Prometheus collects them in.

Names and units follow https://prometheus.io/docs/practices/naming/. A service describes
its figures by families, which need no library; only writing them down needs
prometheus-client, the extra ``metrics``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

__all__ = [
    "INSTALL",
    "CallableCollector",
    "Family",
    "Histogram",
    "MetricsUnavailable",
    "Sample",
    "counter",
    "gauge",
    "histogram",
    "render",
]

INSTALL = "pip install 'dwcloud[metrics]'"
"""What makes :func:`render` work."""


class MetricsUnavailable(Exception):
    """The package that writes metrics down is not installed."""


@attrs.frozen
class Sample:
    """One value, or one histogram's figures, with its labels.

    :ivar labels: a value for each label of the family.
    :ivar value: a number; of a histogram what :meth:`Histogram.figures` returned.
    """

    labels: Mapping[str, str]
    value: Any


@attrs.frozen
class Family:
    """Values of one name.

    :ivar name: without the suffix ``_total`` of a counter.
    :ivar kind: ``"counter"``, ``"gauge"`` or ``"histogram"``.
    :ivar help: a sentence for the operator.
    :ivar labels: their names, the same for each sample.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]


def counter(name: str, help: str, value: float) -> Family:
    """Return a counter without labels."""
    return Family(name, "counter", help, (), (Sample({}, value),))


def gauge(name: str, help: str, value: float) -> Family:
    """Return a gauge without labels."""
    return Family(name, "gauge", help, (), (Sample({}, value),))


def histogram(name: str, help: str, figures: Mapping[str, Any]) -> Family:
    """Return a histogram without labels, from :meth:`Histogram.figures`."""
    return Family(name, "histogram", help, (), (Sample({}, figures),))


class Histogram:
    """Counts durations by size.

    :param bounds: upper bounds of the buckets in seconds, ascending; one without a
        bound is added.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration; a bound belongs to the bucket below it."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def figures(self) -> dict[str, Any]:
        """Return what was counted as plain values that can be added up.

        :return: ``sum``, in seconds, and ``buckets``, how many durations each bucket
            holds that are not in the one before it, by upper bound.
        """
        bounds = [*map(repr, self._bounds), "+Inf"]
        return {
            "sum": round(self._sum, 6),
            "buckets": dict(zip(bounds, self._counts, strict=True)),
        }


def _cumulated(buckets: Mapping[str, int]) -> list[tuple[str, float]]:
    """Return buckets as Prometheus has them: each contains those before it."""
    total = 0
    result: list[tuple[str, float]] = []
    for bound, count in sorted(buckets.items(), key=lambda item: float(item[0])):
        total += count
        result.append((bound, total))
    return result


class CallableCollector:
    """Gives families to prometheus-client, as a collector of its registry.

    :param families: returns them.
    """

    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Any]:
        """Yield what the library understands (called by the registry)."""
        from prometheus_client import core

        kinds: dict[str, Any] = {
            "counter": core.CounterMetricFamily,
            "gauge": core.GaugeMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }
        for family in self._families():
            metric = kinds[family.kind](family.name, family.help, labels=family.labels)
            for sample in family.samples:
                labels = [sample.labels[name] for name in family.labels]
                if family.kind == "histogram":
                    value = sample.value
                    metric.add_metric(
                        labels, _cumulated(value["buckets"]), sum_value=value["sum"]
                    )
                else:
                    metric.add_metric(labels, sample.value)
            yield metric


def render(families: Iterable[Family], accept: str) -> tuple[bytes, str]:
    """Return the text for who collects metrics, and its content type.

    :param accept: the request's ``Accept`` field, which chooses between the formats of
        Prometheus and OpenMetrics.
    :raises MetricsUnavailable: if prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ImportError as e:
        raise MetricsUnavailable(
            f"metrics need a package that is not installed ({e}): {INSTALL}"
        ) from e
    described = list(families)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(CallableCollector(lambda: described))
    encode, content_type = choose_encoder(accept)
    text: bytes = encode(registry)
    return text, content_type
