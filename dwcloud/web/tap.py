"""``twistd mediator``: the mediator, which shows the portal if it keeps accounts."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService

from dwcloud.mediator import tap
from dwcloud.mediator.tap import Options
from dwcloud.web.pages import add_pages

__all__ = ["Options", "makeService"]


def makeService(options: Options, reactor: Any = None) -> IService:
    """Make the service (called by twistd).

    :param reactor: the reactor to run on; twistd's by default.
    """
    return tap.makeService(options, reactor, pages=add_pages)
