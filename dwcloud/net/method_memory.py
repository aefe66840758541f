"""Which tunnelling method worked, by destination and network, and which relays are."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.logger import Logger

from dwcloud.net.local_network import SystemNetwork
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES
from dwcloud.protocol.tunnelling.prober import Candidate, Carrier, ProbeReport
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["MethodMemory", "NetworkName", "default_memory_file", "name_network"]

_VERSION = 1
_MOST = 200
_LIFETIME = 30 * 86400.0
"""Seconds after which what was not used is forgotten."""
_LASTING = 120.0
"""Seconds after which the loss of a stream is none of the method's making."""
_CUTS = 2
_ONE_CUT = 10.0
"""Seconds in which what is lost counts as lost at once, as with a service that ends."""
_CUT_FOR = 3600.0
"""Seconds for which endless streams are not used again where they are cut."""
_UNUSABLE = (
    AttributeError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    RecursionError,
)
"""What reading a file may fail with that anybody could have written."""
_LOCAL = ("127.", "169.254.")
_NAMED_FOR = 1.0
"""Seconds for which the system is not asked again in which network it is."""


def default_memory_file() -> Path | None:
    """Where the programs keep what they learned; None for who has no home."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(state) / "dwcloud" / "tunnelling.json"


def name_network(local: Any) -> str:
    """A text that differs between the networks that a machine gets into.

    It has the machine's IPv4 networks and its router, where the system tells that.

    :param local: an :class:`~dwcloud.interfaces.ILocalNetwork`.
    """
    parts = {
        f"{address.host}/{address.prefix_length}"
        for address in local.localAddresses()
        if ":" not in address.host and not address.host.startswith(_LOCAL)
    }
    gateway = local.defaultGateway("")
    if gateway is not None:
        parts.add(f"router {gateway}")
    return ", ".join(sorted(parts))


class NetworkName:
    """Calls to it return :func:`name_network`, asked for once a second at most.

    A process asks for it several times for each tunnel, and to list the addresses of a
    machine costs as much as a handshake.

    :param local: tells the addresses; that of this machine without it.
    :param seconds: a clock.
    """

    def __init__(
        self, local: Any = None, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._local = SystemNetwork(None) if local is None else local
        self._seconds = seconds
        self._asked_at = -math.inf
        self._name = ""

    def __call__(self) -> str:
        """Return the text."""
        now = self._seconds()
        if not 0.0 <= now - self._asked_at < _NAMED_FOR:
            self._asked_at, self._name = now, name_network(self._local)
        return self._name


@attrs.frozen
class _Entry:
    candidate: Candidate
    at: float
    searched: float


@attrs.frozen
class _Cuts:
    """Streams that were lost one after the other, none after a long life.

    :ivar at: when the last one was.
    """

    count: int
    at: float


class MethodMemory:
    """What worked, in this process, and in a file if it is given one.

    :param file: read once and written at each change; a file that cannot be read or
        written is told in the log and done without.
    :param network: tells in which network this machine is; without it the system is
        asked.
    """

    _log = Logger()

    def __init__(
        self, file: Path | None = None, network: Callable[[], str] | None = None
    ) -> None:
        self._file = file
        self._network = NetworkName() if network is None else network
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._reports: dict[str, tuple[ProbeReport, ...]] = {}
        self._demoted: dict[tuple[str, str], Candidate] = {}
        self._cuts: dict[tuple[str, str], _Cuts] = {}
        self._relays: dict[str, tuple[ServiceURL, ...]] = {}
        if file is not None:
            self._load(file)

    def relays(self, mediator: str) -> tuple[ServiceURL, ...] | None:
        """The relays that :meth:`note_relays` was told last, None if never."""
        return self._relays.get(mediator)

    def note_relays(self, mediator: str, relays: tuple[ServiceURL, ...]) -> None:
        """Remember which relays a mediator leads to."""
        if self._relays.get(mediator) == relays:
            return
        self._relays.pop(mediator, None)
        self._relays[mediator] = relays
        self._drop_oldest()
        self._save()

    def selected(self, destination: str, *, now: float) -> Candidate | None:
        """What worked for a destination from this network, None if nothing is known."""
        entry = self._entries.get((self._network(), destination))
        if entry is None or not 0.0 <= now - entry.at <= _LIFETIME:
            return None
        return entry.candidate

    def searched(self, destination: str) -> float:
        """When something cheaper than what works was last looked for, 0 if never."""
        entry = self._entries.get((self._network(), destination))
        return 0.0 if entry is None else entry.searched

    def note_search(self, destination: str, *, now: float) -> None:
        """Nothing cheaper works."""
        key = (self._network(), destination)
        if key in self._entries:
            self._entries[key] = attrs.evolve(self._entries[key], searched=now)
            self._save()

    def demoted(self, destination: str) -> Candidate | None:
        """What worked once and failed since, from this network."""
        return self._demoted.get((self._network(), destination))

    def reports(self, destination: str) -> tuple[ProbeReport, ...]:
        """What the last probe of a destination found."""
        return self._reports.get(destination, ())

    def note(self, destination: str, reports: tuple[ProbeReport, ...]) -> None:
        """Keep what a probe found."""
        self._reports[destination] = reports
        while len(self._reports) > _MOST:
            del self._reports[next(iter(self._reports))]

    def select(self, destination: str, candidate: Candidate, *, now: float) -> None:
        """Remember what works."""
        key = (self._network(), destination)
        self._demoted.pop(key, None)
        self._entries.pop(key, None)
        self._entries[key] = _Entry(candidate, now, now)
        self._drop_oldest()
        self._save()

    def _drop_oldest(self) -> None:
        tables: tuple[dict[Any, Any], ...] = (self._entries, self._cuts, self._relays)
        for table in tables:
            while len(table) > _MOST:
                del table[next(iter(table))]

    def demote(self, destination: str, candidate: Candidate) -> None:
        """Forget what does not work any more, if it is still what is remembered."""
        key = (self._network(), destination)
        entry = self._entries.get(key)
        if entry is not None and entry.candidate == candidate:
            del self._entries[key]
            self._demoted[key] = candidate
            self._save()

    def note_cut(self, destination: str, *, lasted: float, now: float) -> bool:
        """An endless stream was lost, having worked before.

        There are proxies that cut whatever has lived for some time, or was quiet.

        :param lasted: seconds.
        :return: whether streams are cut again and again as of now.
        """
        key = (self._network(), destination)
        known = self._cuts.pop(key, _Cuts(0, -_ONE_CUT))
        if lasted >= _LASTING:
            if known.count:
                self._save()
            return False
        recent = 0.0 <= now - known.at < _CUT_FOR
        if recent and known.count and now - known.at < _ONE_CUT:
            self._cuts[key] = known
            return False
        count = known.count + 1 if recent else 1
        self._cuts[key] = _Cuts(count, now)
        self._drop_oldest()
        self._save()
        return count == _CUTS

    def is_cut(self, destination: str, *, now: float) -> bool:
        """Whether endless streams to a destination do not last in this network."""
        cuts = self._cuts.get((self._network(), destination))
        if cuts is None or cuts.count < _CUTS:
            return False
        return 0.0 <= now - cuts.at < _CUT_FOR

    def _load(self, file: Path) -> None:
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
            if value["version"] != _VERSION:
                return
            for each in value["methods"]:
                if each["method"] not in METHOD_NAMES:
                    continue
                candidate = Candidate(each["method"], Carrier(each["carrier"]))
                key = (str(each["network"]), str(each["destination"]))
                at = float(each["at"])
                searched = float(each.get("searched", at))
                if not (math.isfinite(at) and math.isfinite(searched)):
                    raise ValueError(f"{at} is no time")
                self._entries[key] = _Entry(candidate, at, searched)
            for each in value.get("cuts", ()):
                key = (str(each["network"]), str(each["destination"]))
                cuts = _Cuts(int(each["count"]), float(each["at"]))
                if not math.isfinite(cuts.at):
                    raise ValueError(f"{cuts.at} is no time")
                self._cuts[key] = cuts
            for each in value.get("relays", ()):
                urls = tuple(ServiceURL.parse(url) for url in each["urls"])
                self._relays[str(each["mediator"])] = urls
            self._drop_oldest()
        except FileNotFoundError:
            return
        except _UNUSABLE as e:
            self._log.warn("{file} cannot be used: {reason}", file=file, reason=str(e))

    def _save(self) -> None:
        if self._file is None:
            return
        methods = [
            {
                "network": network,
                "destination": destination,
                "method": entry.candidate.method,
                "carrier": entry.candidate.carrier.value,
                "at": math.floor(entry.at),
                "searched": math.floor(entry.searched),
            }
            for (network, destination), entry in self._entries.items()
        ]
        cuts = [
            {
                "network": network,
                "destination": destination,
                "count": each.count,
                "at": math.floor(each.at),
            }
            for (network, destination), each in self._cuts.items()
        ]
        relays = [
            {"mediator": mediator, "urls": [str(url) for url in urls]}
            for mediator, urls in self._relays.items()
        ]
        known = {"methods": methods, "cuts": cuts, "relays": relays}
        text = json.dumps({"version": _VERSION, **known}, indent=1)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # A reader finds the old text or the new one, never a part.
            with tempfile.NamedTemporaryFile(
                "w", dir=self._file.parent, delete=False, encoding="utf-8"
            ) as new:
                new.write(text + "\n")
            Path(new.name).replace(self._file)
        except OSError as e:
            self._log.warn(
                "{file} cannot be written: {reason}", file=self._file, reason=str(e)
            )
            self._file = None
