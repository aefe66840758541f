"""A listening TCP socket of IPv6 beside that of IPv4 with the same port number."""

from __future__ import annotations

import socket
import sys
from typing import Any, cast

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorSocket,
)

__all__ = ["listen_tcp_ipv6"]

_BACKLOG = 50


def listen_tcp_ipv6(
    reactor: Any, port: int, factory: IProtocolFactory
) -> IListeningPort:
    """Listen on all IPv6 addresses, and on those alone.

    Twisted leaves it to the system whether ``::`` takes the connections of IPv4 as
    well. Those of Linux and macOS do; then nothing else can listen on the port.

    :param port: 0 takes a free one.
    :raises twisted.internet.error.CannotListenError: if the port is not free, or there
        is no IPv6.
    """
    if not IReactorSocket.providedBy(reactor):
        # Of Windows, where the two never meet.
        listening: IListeningPort = reactor.listenTCP(port, factory, interface="::")
        return listening
    try:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError as error:
        raise CannotListenError("::", port, error) from None
    with made:
        made.setblocking(False)
        try:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if sys.platform != "win32":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("::", port))
            made.listen(_BACKLOG)
        except OSError as error:
            raise CannotListenError("::", port, error) from None
        # The reactor has a descriptor of its own then.
        adopted: IListeningPort = reactor.adoptStreamPort(
            made.fileno(), socket.AF_INET6, cast(Any, factory)
        )
    return adopted
