"""Figures about the browsers that a relay lets in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs

from dwcloud.metrics import Histogram
from dwcloud.relay.statistics import Figures

__all__ = ["LOGINS", "REQUESTS", "GatewayStatistics"]

REQUESTS: Mapping[str, str] = {
    "answered": "the service's answer was passed on, whole",
    "websocket": "a WebSocket was opened",
    "cut": "the answer broke off in the middle",
    "left": "the browser went away before the end",
    "portal": "sent to the portal to sign in",
    "own": "a page of the relay itself, such as the end of a sign-in",
    "signed_out": "not a page, and nobody is signed in",
    "refused": "malformed, too slow, from another site, or to a host that there is not",
    "offline": "the server has no connection to this relay",
    "busy": "the server has no connection free, or the browser too many",
    "denied": "the server does not let the account in, or browsers",
    "no_service": "the server publishes no web service",
    "no_answer": "the server or its service did not answer as it should",
}
"""What becomes of requests."""

LOGINS: Mapping[str, str] = {
    "entered": "a browser came back from the portal and was let in",
    "foreign": "it was not begun in this browser, or too long ago",
    "refused": "what it brought is of another relay or system, too old, or used",
}
"""What becomes of those who come back from the portal."""

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@attrs.define
class GatewayStatistics:
    """What a gateway has done since it began.

    :ivar requests: by what became of them, see :data:`REQUESTS`.
    :ivar logins: see :data:`LOGINS`.
    :ivar streams: to servers, at present.
    :ivar bytes_to_server: of streams to servers, encrypted as they go.
    :ivar bytes_to_client: of streams from servers, encrypted as they come.
    :ivar answer_seconds: from the head of a request to that of the service's answer.
    """

    requests: Counter[str] = attrs.Factory(Counter)
    logins: Counter[str] = attrs.Factory(Counter)
    streams: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    answer_seconds: Histogram = attrs.Factory(lambda: Histogram(_BOUNDS))

    def totals(self) -> Figures:
        """The figures as JSON has them: each result is there from the start."""
        return {
            "streams": self.streams,
            "requests": {result: self.requests[result] for result in REQUESTS},
            "logins": {result: self.logins[result] for result in LOGINS},
            "bytes_to_server": self.bytes_to_server,
            "bytes_to_client": self.bytes_to_client,
            "answer_seconds": self.answer_seconds.figures(),
        }
