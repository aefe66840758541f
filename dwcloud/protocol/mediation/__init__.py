"""Mediation: how servers register, and how clients are introduced to them."""

from dwcloud.protocol.mediation.messages import (
    Bind,
    Connect,
    ConnectionAck,
    ConnectionRequested,
    ConnectionResult,
    ConnectResponse,
    GetConnectionState,
    Listen,
    ListenResponse,
)
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.mediation.parameters import ConnectionParameters, KeepAlive
from dwcloud.protocol.mediation.result_codes import ResultCode

__all__ = [
    "Bind",
    "Connect",
    "ConnectResponse",
    "ConnectionAck",
    "ConnectionParameters",
    "ConnectionRequested",
    "ConnectionResult",
    "GetConnectionState",
    "KeepAlive",
    "Listen",
    "ListenResponse",
    "Method",
    "ResultCode",
]
