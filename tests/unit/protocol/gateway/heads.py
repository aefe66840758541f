"""Heads of requests as h11 reads them."""

from __future__ import annotations

import h11

from dwcloud.protocol.gateway.requests import BrowserRequest, read_request

__all__ = ["head", "request"]


def head(text: str) -> h11.Request:
    """Read the head of a request, given with plain line ends."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(text.strip().replace("\n", "\r\n").encode() + b"\r\n\r\n")
    event = connection.next_event()
    assert isinstance(event, h11.Request), event
    return event


def request(text: str) -> BrowserRequest:
    """Read a request."""
    return read_request(head(text))
