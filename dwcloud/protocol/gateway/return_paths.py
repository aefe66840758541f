"""Where a browser goes after it has entered: always to the same host."""

from __future__ import annotations

__all__ = ["MAX_RETURN_PATH", "OWN_PATHS", "return_path"]

MAX_RETURN_PATH = 2000
"""Characters; a browser that was at a longer one begins at the top."""

OWN_PATHS = "/.dwcloud/"
"""What lies below is answered by the gateway, never by a server."""

_TOP = "/"


def return_path(text: str) -> str:
    """Return a target of this host, the top of it for what is none.

    A browser reads ``//host`` and ``/\\host`` as other hosts, and drops tabs and line
    ends before it reads anything.
    """
    is_path = (
        text.startswith("/")
        and not text.startswith("//")
        and len(text) <= MAX_RETURN_PATH
        and text.isascii()
        and text.isprintable()
        and not any(c in text for c in ' \\"<>')
        and not text.startswith(OWN_PATHS)
    )
    return text if is_path else _TOP
