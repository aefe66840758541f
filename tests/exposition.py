"""Reading metrics as Prometheus does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import cast

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

__all__ = ["complaints", "hide_package", "read_metrics", "values"]


def read_metrics(text: str) -> dict[str, Metric]:
    """Return the families of a page by name, read by prometheus-client's parser."""
    return {metric.name: metric for metric in text_string_to_metric_families(text)}


def values(
    metric: Metric, suffix: str = "", labels: Sequence[str] = ()
) -> dict[tuple[str, ...], float]:
    """Return the samples of a family whose names end so, by their labels' values.

    :param labels: their names in the order wanted, if there are several.
    """
    name = metric.name + suffix
    return {
        tuple(sample.labels[label] for label in labels or sample.labels): sample.value
        for sample in metric.samples
        if sample.name == name
    }


def complaints(text: str) -> str:
    """Return what ``promtool`` finds wrong with a page, where it is installed."""
    tool = shutil.which("promtool")
    if tool is None:
        return ""
    done = subprocess.run(
        [tool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def hide_package(test: SynchronousTestCase, name: str) -> None:
    """Let a package be missing until a test is over."""
    loaded = sys.modules[name]
    # None is how Python marks a module that must not be imported.
    sys.modules[name] = cast(ModuleType, None)
    test.addCleanup(sys.modules.__setitem__, name, loaded)
