"""The captured packets, see ``tests/data/udt-vectors.json``."""

from __future__ import annotations

import json
import pathlib
from typing import Any

_FILE = pathlib.Path(__file__).parents[3] / "data" / "udt-vectors.json"

VECTORS: dict[str, Any] = json.loads(_FILE.read_text())


def all_datagrams() -> list[tuple[str, bytes]]:
    """Return every datagram of the file with a name for it."""
    named = [
        (packet["name"], bytes.fromhex(packet["hex"]))
        for packet in VECTORS["packets"] + VECTORS["constructed"]
    ]
    for transcript in VECTORS["transcripts"]:
        for number, packet in enumerate(transcript["packets"]):
            name = f"{transcript['name']} {number}"
            named.append((name, bytes.fromhex(packet["hex"])))
    return named
