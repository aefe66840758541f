"""How a router may be asked to map ports, and what it maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from dwcloud.errors import ConfigurationError
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.port_mapping.mappings import MappedPort

__all__ = ["METHODS", "PortMappings", "read_methods"]

METHODS = ("pcp", "nat-pmp", "upnp")
"""How a router can be asked, in the order in which that is tried."""


def read_methods(text: str) -> tuple[str, ...]:
    """Read ``any``, ``no`` or one of :data:`METHODS`.

    :raises ConfigurationError: if it is something else.
    """
    if text in ("any", "no"):
        return METHODS if text == "any" else ()
    if text not in METHODS:
        choices = ", ".join(("any", *METHODS, "no"))
        raise ConfigurationError(f"port mapping {text!r} is not one of {choices}")
    return (text,)


@attrs.frozen
class PortMappings:
    """What the router maps now.

    :ivar router: protocol and address of the router; empty if none maps ports.
    :ivar external: the router's addresses that lead to ports of this machine.
    """

    router: str = ""
    external: Mapping[MappedPort, Address] = attrs.field(factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "router": self.router,
            **{p.transport.name.lower(): str(a) for p, a in self.external.items()},
        }
