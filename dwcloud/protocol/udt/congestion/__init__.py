"""Congestion controllers, chosen by name.

A controller sees indices (packets counted from 0), microseconds where a name ends in
``_us``, and seconds elsewhere; see :class:`~.base.CongestionControl`.
"""

from __future__ import annotations

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt.congestion.base import (
    Acknowledgement,
    CongestionControl,
    Delivery,
    Parameters,
)
from dwcloud.protocol.udt.congestion.bbr import BBRControl
from dwcloud.protocol.udt.congestion.cubic import CubicControl
from dwcloud.protocol.udt.congestion.fixed import FixedControl
from dwcloud.protocol.udt.congestion.native import NativeControl

__all__ = [
    "CONTROLLERS",
    "Acknowledgement",
    "BBRControl",
    "CongestionControl",
    "CubicControl",
    "Delivery",
    "FixedControl",
    "NativeControl",
    "Parameters",
    "create_congestion_control",
]

CONTROLLERS: dict[str, type[CongestionControl]] = {
    controller.name: controller
    for controller in (BBRControl, CubicControl, NativeControl, FixedControl)
}
"""All controllers by name."""


def create_congestion_control(name: str, parameters: Parameters) -> CongestionControl:
    """Return a new controller.

    :raises LocalProtocolError: if there is none of that name.
    """
    try:
        controller = CONTROLLERS[name]
    except KeyError:
        known = ", ".join(sorted(CONTROLLERS))
        raise LocalProtocolError(
            f"no congestion control named {name!r}; there are {known}"
        ) from None
    return controller(parameters)
