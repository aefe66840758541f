"""A client that asks a mediator for an introduction, and tells what became of it."""

from __future__ import annotations

import base64
import os
import socket
import uuid
from typing import Any

from dwcloud.net.signing import SigningKey
from dwcloud.protocol.mediation.messages import (
    Connect,
    ConnectionResult,
    ConnectResponse,
    Message,
)
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.stream import StreamDecoder
from tests.browser.chromium import WAIT

__all__ = ["introduce"]


def introduce(
    person: Any, system: str, client_name: str, outcome: ResultCode | None = None
) -> ResultCode:
    """Ask with somebody's grant; return the mediator's answer.

    :param client_name: what the client calls itself.
    :param outcome: what the client tells afterwards, if it tells anything.
    """
    key = base64.b64encode(SigningKey.generate().public_key).decode()
    granted = person.ask("POST", f"/systems/{system}/grants", {"client_key": key})
    session = uuid.uuid4()
    connect = Connect(
        session_id=session,
        target=PeerName(uuid.UUID(system)),
        client_name=client_name,
        grant=base64.b64decode(granted["grant"]),
    )
    host, _, port = person.case.mediator.partition(":")
    with socket.create_connection((host, int(port)), WAIT) as connection:
        answer = ConnectResponse.from_stun(_exchange(connection, connect))
        if outcome is not None:
            told = ConnectionResult(session_id=session, result=outcome)
            _exchange(connection, told)
    return answer.result


def _exchange(connection: socket.socket, message: Message) -> STUNMessage:
    """Send a request; return its answer."""
    connection.sendall(message.to_stun(os.urandom(12)).encode())
    decoder = StreamDecoder()
    while True:
        data = connection.recv(4096)
        if not data:
            raise AssertionError("the mediator closed the connection")
        for raw in decoder.receive_data(data):
            return STUNMessage.decode(raw)
