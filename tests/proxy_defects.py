"""What each defect of a proxy leaves of the tunnelling methods.

One table for the simulated network and for the real one.
"""

from __future__ import annotations

from typing import Any

from dwcloud.protocol.tunnelling.methods import METHOD_NAMES

__all__ = ["ALL", "DEFECTS", "MESSAGES", "NOTHING", "NO_UPGRADE"]

ALL = frozenset(METHOD_NAMES)
NOTHING: frozenset[str] = frozenset()
NO_UPGRADE = frozenset({"post", "get_post", "finite_messages"})
NO_ENDLESS_BODIES = frozenset({"upgrade", "websocket", "finite_messages"})
MESSAGES = frozenset({"finite_messages"})

DEFECTS: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
    "none": ({}, ALL),
    "strips_upgrade": ({"strips_upgrade": True}, NO_UPGRADE),
    "swallows_upgraded": ({"swallows_upgraded": True}, NO_UPGRADE),
    "buffers_requests": ({"buffers_requests": True}, NO_ENDLESS_BODIES),
    "buffers_answers": ({"buffers_answers": True}, NO_ENDLESS_BODIES),
    "holds_answers": ({"holds_answers": True}, ALL - {"post"}),
    "closes_connections": ({"closes_connections": True}, ALL),
    # Endless bodies have a length: a very great one.
    "refuses_chunked": ({"refuses_chunked": True}, ALL),
    "body_limit": ({"body_limit": 64 * 1024}, NO_ENDLESS_BODIES),
    "small_body_limit": ({"body_limit": 4 * 1024}, NO_ENDLESS_BODIES),
    "speaks_http_1_0": ({"speaks_http_1_0": True}, MESSAGES),
    "the Squid of the overview": (
        {"connect_ports": (443,), "strips_upgrade": True, "buffers_requests": True},
        MESSAGES,
    ),
    "all at once": (
        {
            "connect_ports": (),
            "strips_upgrade": True,
            "buffers_requests": True,
            "buffers_answers": True,
            "refuses_chunked": True,
            "body_limit": 16 * 1024,
            "speaks_http_1_0": True,
        },
        MESSAGES,
    ),
}
