"""What a process has used, measured in itself, and how it tells."""

from __future__ import annotations

import gc
import json
import pathlib
import resource

__all__ = ["cpu_seconds", "resident_bytes", "say"]


def cpu_seconds() -> float:
    """Return the processor time of this process in seconds, the kernel's included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> int:
    """Return the memory that this process occupies, in bytes."""
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def say(**figures: float) -> None:
    """Print measurements as one line, for :class:`benchmarks.peers.Peer`."""
    print(json.dumps(figures), flush=True)
