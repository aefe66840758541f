"""The mediator's figures as Prometheus has them (docs/howto/operate)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from dwcloud.mediator.outcomes import Outcomes
from dwcloud.metrics import Family, Sample, counter, gauge, histogram

__all__ = ["families"]

_PREFIX = "dwcloud_mediator_"

_COUNTERS = {
    "datagrams_received": "STUN messages that came over UDP.",
    "datagrams_ignored": "Datagrams that were no STUN message.",
    "answers_withheld": "Answers not sent over UDP, being longer than the request.",
    "send_failures": "Datagrams that the operating system did not take.",
    "bindings": "Binding requests answered.",
    "challenges": "Nonces given out to servers that register.",
    "registrations": "Servers that came online.",
    "replacements": "Servers that came online while an older channel was there.",
    "refused_registrations": "Servers refused by policy or for lack of room.",
    "bad_proofs": "Proofs of identity that did not hold.",
    "bad_acks": "connection_ack messages that were not authentic.",
    "servers_forgotten": "Servers driven out of the table of known ones.",
    "servers_silent": "Control channels closed because they fell silent.",
    "sessions_started": "Connect sessions begun.",
    "sessions_without_udp": "Sessions answered without UDP addresses of the server.",
    "sessions_evicted": "Answered sessions forgotten early, to make room.",
    "sessions_refused": "Requests refused because all sessions were waiting.",
    "sessions_not_admitted": "Clients who may not connect, and were told of no server.",
    "sessions_unreported": "Introductions of which no outcome was ever told.",
    "connections_evicted": "TCP connections closed to make room for others.",
    "connections_silent": "TCP connections closed because nothing was asked.",
    "connections_http_evicted": "HTTP connections closed to make room for others.",
}
_GAUGES = {
    "servers_online": "Servers with a control channel.",
    "servers_known": "Servers that are remembered.",
    "sessions": "Connect sessions in the table.",
    "sessions_waiting": "Connect sessions that wait for their server.",
    "connections_anonymous": "TCP connections that belong to no server.",
    "connections_http": "Connections that are HTTP, not yet a tunnel.",
}
_KEPT_APART = frozenset({"answers", "results"})


def families(
    snapshot: Mapping[str, Any], outcomes: Outcomes, uptime: float
) -> list[Family]:
    """Return all figures.

    :param snapshot: counters and the fill of tables.
    :param uptime: seconds since the start.
    """
    found = [
        Family(
            "dwcloud_build_info",
            "gauge",
            "Constant 1; the labels tell what is running.",
            ("service", "version"),
            (Sample({"service": "mediator", "version": version("dwcloud")}, 1),),
        ),
        gauge(f"{_PREFIX}uptime_seconds", "Time since the start.", round(uptime, 1)),
    ]
    for name, value in snapshot.items():
        if name in _COUNTERS:
            found.append(counter(_PREFIX + name, _COUNTERS[name], value))
        elif name not in _KEPT_APART and isinstance(value, int | float):
            found.append(gauge(_PREFIX + name, _GAUGES.get(name, name), value))
    found.append(_by_label("answers", "Sessions answered.", "result", snapshot))
    return found + _outcomes(outcomes)


def _by_label(name: str, help: str, label: str, snapshot: Mapping[str, Any]) -> Family:
    samples = tuple(
        Sample({label: value.replace(" ", "_")}, count)
        for value, count in sorted(snapshot[name].items())
    )
    return Family(_PREFIX + name, "counter", help, (label,), samples)


def _outcomes(outcomes: Outcomes) -> list[Family]:
    return [
        Family(
            f"{_PREFIX}connects_succeeded",
            "counter",
            "Connections that clients made after an introduction, by kind of path.",
            ("path",),
            tuple(Sample({"path": p}, n) for p, n in outcomes.by_path.items()),
        ),
        Family(
            f"{_PREFIX}connects_failed",
            "counter",
            "Introductions after which clients found no path, by reason.",
            ("reason",),
            tuple(
                Sample({"reason": reason.replace(" ", "_")}, n)
                for reason, n in sorted(outcomes.by_reason.items())
            ),
        ),
        Family(
            f"{_PREFIX}punches",
            "counter",
            "Hole punching by the kinds of NAT of client and server: direct, later "
            "(after a relay was ready first), relayed, or failed. Of a client that "
            "succeeds at once the kind is often unknown.",
            ("client_nat", "server_nat", "result"),
            tuple(
                Sample(
                    {"client_nat": client, "server_nat": server, "result": result}, n
                )
                for (client, server, result), n in sorted(outcomes.punches.items())
            ),
        ),
        histogram(
            f"{_PREFIX}ack_seconds",
            "From the first copy of a connect to the server's connection_ack.",
            outcomes.ack_seconds.figures(),
        ),
        Family(
            f"{_PREFIX}connect_seconds",
            "histogram",
            "From the first copy of a connect to the news of its verified path, or as "
            "long as the client says if that is shorter.",
            ("path",),
            tuple(
                Sample({"path": path}, seconds.figures())
                for path, seconds in outcomes.connect_seconds.items()
            ),
        ),
    ]
