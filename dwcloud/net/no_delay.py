"""Small writes that leave at once, instead of waiting for earlier ones to arrive."""

from __future__ import annotations

from typing import Any

__all__ = ["send_at_once"]


def send_at_once(transport: Any) -> None:
    """Have TCP hold nothing back (RFC 9293, 3.7.4).

    It would keep a small segment until the one before is acknowledged, for which the
    far end may take its time: some tens of milliseconds (RFC 9293, 3.8.6.3). What we
    write is whole messages, so that more would hardly be gathered.

    :param transport: TCP, or TLS on it; others have nothing to hold back.
    """
    # Interfaces do not tell: TLS claims those of TCP, whatever is below it.
    set_no_delay = getattr(transport, "setTcpNoDelay", None)
    if set_no_delay is not None:
        set_no_delay(True)
