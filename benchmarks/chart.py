"""Bar charts as SVG, drawn without any library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import attrs

from benchmarks.results import BASELINE, FIGURES, Results, Series, rounded

__all__ = ["draw"]

_WIDTH = 860
_LABELS = 150
_NUMBERS = 150
_BAR = 15
_STEP = 19
_GROUP = 30
_TITLE = 40
_MARGIN = 14
_COLOURS = {"dwcloud": "#1b6ca8", BASELINE: "#c1666b"}
_SHADE = "#7fa9c9"
_OTHER = "#9a9a9a"
_STYLE = (
    "text{font:12px sans-serif;fill:#222}"
    ".title{font-size:15px;font-weight:bold}"
    ".group{font-weight:bold}"
    ".number{fill:#555}"
)


@attrs.define
class _Drawing:
    """Lines of SVG from the top down.

    :ivar y: where the next thing goes.
    """

    lines: list[str] = attrs.field(factory=list)
    y: int = _MARGIN

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        style = f' class="{kind}"' if kind else ""
        self.lines.append(f'<text x="{x:g}" y="{y:g}"{style}>{escape(words)}</text>')

    def bar(self, width: float, colour: str, hint: str) -> None:
        self.lines.append(
            f'<rect x="{_LABELS}" y="{self.y}" width="{width:.1f}" height="{_BAR}" '
            f'fill="{colour}"><title>{escape(hint)}</title></rect>'
        )


def _colour(transport: str) -> str:
    if transport in _COLOURS:
        return _COLOURS[transport]
    return _SHADE if transport.startswith("dwcloud") else _OTHER


def _draw_bars(
    drawing: _Drawing, results: Results, series: Sequence[Series], largest: float
) -> None:
    room = _WIDTH - _LABELS - _NUMBERS
    for each in series:
        ratio = results.ratio(each)
        number = rounded(each.median)
        if ratio is not None and each.transport != BASELINE:
            number += f"  ({rounded(ratio)}x)"
        width = max(1.0, room * each.median / largest) if largest else 1.0
        drawing.text(_MARGIN, drawing.y + _BAR - 3, each.transport)
        values = ", ".join(map(rounded, each.values))
        drawing.bar(width, _colour(each.transport), values)
        drawing.text(_LABELS + width + 6, drawing.y + _BAR - 3, number, "number")
        drawing.y += _STEP


def draw(
    results: Results, titles: Mapping[str, str], figures: Sequence[str] = ()
) -> str:
    """Return an SVG with one block of bars for each figure and network.

    Each network has a scale of its own; ratios to the reference library stand at the
    bars, and the single measurements appear when one is pointed at.

    :param titles: of the networks, by name.
    :param figures: names in :data:`~benchmarks.results.FIGURES`; all by default.
    """
    drawing = _Drawing()
    for name in figures or FIGURES:
        networks = results.networks(name)
        if not networks:
            continue
        drawing.text(_MARGIN, drawing.y + 16, FIGURES[name].title, "title")
        drawing.y += _TITLE
        for network in networks:
            series = results.series(name, network)
            drawing.text(_MARGIN, drawing.y, titles.get(network, network), "group")
            drawing.y += 8
            largest = max(each.median for each in series)
            _draw_bars(drawing, results, series, largest)
            drawing.y += _GROUP
    height = drawing.y
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" '
            f'height="{height}" viewBox="0 0 {_WIDTH} {height}" role="img">',
            "<title>UDT beside other transports</title>",
            f"<style>{_STYLE}</style>",
            *drawing.lines,
            "</svg>\n",
        ]
    )
