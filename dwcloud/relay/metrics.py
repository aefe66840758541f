"""The relay's figures as Prometheus has them (docs/howto/operate)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from dwcloud.metrics import Family, Sample
from dwcloud.relay.statistics import Figures

__all__ = ["families"]

_PREFIX = "dwcloud_relay_"
_WORKER = "worker"

_NOW = {
    "servers": "Servers that count as present.",
    "idle_connections": "Connections of servers that wait for a client.",
    "waiting_clients": "Clients that wait for a connection.",
    "sessions": "Client sessions in the table.",
    "tunnels": "Clients joined with a server.",
    "tunnels_spliced": "Tunnels whose bytes the kernel passes on.",
    "tunnels_limit": "Tunnels that there may be.",
    "http_connections": "Connections that are HTTP, not yet a tunnel.",
}
_ENDED = {
    "tunnels": ("tunnels_opened", "Clients joined with a server since the start."),
    "clients_timed_out": (
        "clients_timed_out",
        "Clients for whom no connection of their server came free in time.",
    ),
    "proofs_accepted": ("proofs_accepted", "Proofs of identity that held."),
    "redirected": ("redirected", "Clients sent to another relay."),
    "http_connections_evicted": (
        "http_connections_evicted",
        "HTTP connections closed to make room for others.",
    ),
}
_WEB_NOW = {
    "sessions": "Browsers that may see a system.",
    "streams": "Connections to servers for browsers.",
    "idle_connections": "Connections of browsers that wait for a request.",
}
_WEB_RESULTS = {
    "requests": "Requests of browsers, by what became of them.",
    "logins": "Browsers that came back from the portal, by what became of them.",
}
_DIRECTIONS = ("to_server", "to_client")
_HISTOGRAMS = {
    "wait_seconds": "From a client's request to an idle connection of its server.",
    "tunnel_seconds": "How long tunnels lasted that have ended.",
}


def families(parts: Sequence[Figures]) -> list[Family]:
    """Return the figures of all processes of a relay.

    Each has its own label: of a process that was started again the counters begin
    anew, and of one that tells nothing there is a gap, not a dent in a sum.

    :param parts: what each process tells.
    """

    def family(
        name: str, kind: str, help: str, value: Callable[[Figures], Any]
    ) -> Family:
        samples = tuple(
            Sample({_WORKER: str(part.get("worker", 0))}, value(part)) for part in parts
        )
        return Family(_PREFIX + name, kind, help, (_WORKER,), samples)

    found = [
        Family(
            "dwcloud_build_info",
            "gauge",
            "Constant 1; the labels tell what is running.",
            ("service", _WORKER, "version"),
            tuple(
                Sample(
                    {
                        "service": "relay",
                        _WORKER: str(part.get("worker", 0)),
                        "version": part["version"],
                    },
                    1,
                )
                for part in parts
            ),
        ),
        family(
            "uptime_seconds", "gauge", "Time since the start.", lambda p: p["uptime"]
        ),
        family(
            "worker_restarts",
            "counter",
            "How often the process had to be started again.",
            lambda part: part.get("worker_restarts", 0),
        ),
    ]
    for key, help in _NOW.items():
        found.append(family(key, "gauge", help, partial(_member, "now", key)))
    for key, (name, help) in _ENDED.items():
        found.append(family(name, "counter", help, partial(_member, "ended", key)))
    for key, help in _HISTOGRAMS.items():
        found.append(family(key, "histogram", help, partial(_member, "ended", key)))
    return [*found, _bytes(parts), _refused(parts), *_web(parts)]


def _web(parts: Sequence[Figures]) -> list[Family]:
    """The figures about browsers, of a relay that lets them in."""
    parts = [part for part in parts if "web" in part]
    if not parts:
        return []

    def family(name: str, kind: str, help: str, label: str, group: str) -> Family:
        samples = []
        for part in parts:
            told = part["web"][group]
            worker = {_WORKER: str(part.get("worker", 0))}
            for key, value in told.items() if label else (("", told),):
                labels = {**worker, label: key} if label else worker
                samples.append(Sample(labels, value))
        names = (_WORKER, label) if label else (_WORKER,)
        return Family(f"{_PREFIX}web_{name}", kind, help, names, tuple(samples))

    found = [family(n, "gauge", help, "", n) for n, help in _WEB_NOW.items()]
    found += [
        family(n, "counter", help, "result", n) for n, help in _WEB_RESULTS.items()
    ]
    carried = [
        Sample(
            {_WORKER: str(part.get("worker", 0)), "direction": direction},
            part["web"][f"bytes_{direction}"],
        )
        for part in parts
        for direction in _DIRECTIONS
    ]
    return [
        *found,
        Family(
            f"{_PREFIX}web_bytes",
            "counter",
            "Bytes of browsers between relay and servers, part of payload_bytes.",
            (_WORKER, "direction"),
            tuple(carried),
        ),
        family(
            "answer_seconds",
            "histogram",
            "From the head of a browser's request to that of the service's answer.",
            "",
            "answer_seconds",
        ),
    ]


def _member(group: str, key: str, part: Figures) -> Any:
    return part[group][key]


def _bytes(parts: Sequence[Figures]) -> Family:
    samples = []
    for part in parts:
        for direction in _DIRECTIONS:
            key = f"bytes_{direction}"
            labels = {
                _WORKER: str(part.get("worker", 0)),
                "direction": direction,
            }
            samples.append(Sample(labels, part["ended"][key] + part["now"][key]))
    return Family(
        f"{_PREFIX}payload_bytes",
        "counter",
        "Bytes passed on between clients and servers.",
        (_WORKER, "direction"),
        tuple(samples),
    )


def _refused(parts: Sequence[Figures]) -> Family:
    return Family(
        f"{_PREFIX}refused",
        "counter",
        "Requests refused, by HTTP status.",
        (_WORKER, "status"),
        tuple(
            Sample({_WORKER: str(part.get("worker", 0)), "status": status}, n)
            for part in parts
            for status, n in part["ended"]["refused"].items()
        ),
    )
