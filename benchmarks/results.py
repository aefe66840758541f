"""What was measured, and the ratios in it."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable

import attrs

__all__ = [
    "BASELINE",
    "FIGURES",
    "Figure",
    "Results",
    "Series",
    "describe_machine",
    "rounded",
    "table",
]

BASELINE = "libudt"
"""The transport that ratios refer to."""


@attrs.frozen
class Figure:
    """A kind of measurement.

    :ivar title: with its unit, for headings.
    :ivar more_is_better: whether a ratio above 1 is good.
    """

    title: str
    more_is_better: bool


FIGURES = {
    "goodput": Figure("goodput, MB/s", True),
    "cpu": Figure("processor, s/GB (both ends)", False),
    "setup": Figure("set-up, ms", False),
    "rate": Figure("connections/s", True),
    "memory": Figure("memory of an idle connection, KB (one end)", False),
}
"""All kinds by name; MB, GB and KB are powers of ten."""


@attrs.define
class Series:
    """Repeated measurements of one thing.

    :ivar figure: a name in :data:`FIGURES`.
    :ivar network: where.
    :ivar transport: of what.
    :ivar values: one for each run.
    """

    figure: str
    network: str
    transport: str
    values: list[float] = attrs.field(factory=list)

    @property
    def median(self) -> float:
        """The middle value, nan if there is none."""
        return statistics.median(self.values) if self.values else float("nan")


class Results:
    """All series of one run of the benchmarks.

    :ivar machine: what it ran on, in words.
    :ivar notes: what could not be measured, and why.
    """

    def __init__(self, machine: str = "") -> None:
        self.machine = machine
        self.notes: list[str] = []
        self._series: dict[tuple[str, str, str], Series] = {}

    def add(self, figure: str, network: str, transport: str, value: float) -> None:
        """Take one measurement."""
        key = (figure, network, transport)
        self._series.setdefault(key, Series(*key)).values.append(value)

    def note(self, text: str) -> None:
        """Take down, once, what could not be measured."""
        if text not in self.notes:
            self.notes.append(text)

    def series(self, figure: str, network: str | None = None) -> list[Series]:
        """Return the series of a figure, perhaps on one network only."""
        return [
            series
            for series in self._series.values()
            if series.figure == figure and network in (None, series.network)
        ]

    def networks(self, figure: str) -> list[str]:
        """Return where a figure was measured."""
        return list(dict.fromkeys(s.network for s in self.series(figure)))

    def ratio(self, series: Series) -> float | None:
        """Return how a median relates to the baseline's on the same network."""
        base = self._series.get((series.figure, series.network, BASELINE))
        if base is None or not base.median:
            return None
        return series.median / base.median

    def to_json(self) -> str:
        """Return all that :meth:`from_json` needs."""
        values = [attrs.asdict(series) for series in self._series.values()]
        document = {"machine": self.machine, "notes": self.notes, "series": values}
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Return what was saved."""
        document = json.loads(text)
        made = cls(document["machine"])
        made.notes = document["notes"]
        for each in document["series"]:
            series = Series(**each)
            made._series[series.figure, series.network, series.transport] = series
        return made


def describe_machine() -> str:
    """Return the machine in words, without its name."""
    return (
        f"{platform.system()} {platform.release()} on {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )


def rounded(value: float) -> str:
    """Return a value with three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(results: Results, titles: Iterable[tuple[str, str]]) -> str:
    """Return all results as a simple table of reStructuredText.

    :param titles: name and title of each network.
    """
    named = dict(titles)
    heads = ("figure", "network", "transport", "median", "runs", "to libudt")
    rows = [heads]
    for name, figure in FIGURES.items():
        for network in results.networks(name):
            for series in results.series(name, network):
                ratio = results.ratio(series)
                span = f"{rounded(min(series.values))} to {rounded(max(series.values))}"
                rows.append(
                    (
                        figure.title,
                        named.get(network, network),
                        series.transport,
                        rounded(series.median),
                        span,
                        "" if ratio is None else f"{rounded(ratio)}x",
                    )
                )
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join([rule, lines[0].rstrip(), rule, *map(str.rstrip, lines[1:]), rule])
