"""The method ``upgrade``: one GET, 101, then raw bytes (RFC 9110, 7.8)."""

from __future__ import annotations

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.methods import HeaderList, Opening, RequestHead

__all__ = ["UpgradeMethod", "wants_upgrade"]


def _tokens(headers: HeaderList, name: bytes) -> set[str]:
    """The members of a comma-separated field, in lower case."""
    return {
        token.strip().lower()
        for key, value in headers
        if key == name
        for token in value.decode("latin-1").split(",")
    }


def wants_upgrade(headers: HeaderList, token: str) -> bool:
    """Tell whether a request (or an answer 101) names the protocol ``token``."""
    return "upgrade" in _tokens(headers, b"connection") and token.lower() in _tokens(
        headers, b"upgrade"
    )


class UpgradeMethod:
    """One GET with ``Connection: Upgrade``, then raw bytes both ways."""

    name = "upgrade"

    def requests(self, opening: Opening) -> tuple[RequestHead, ...]:
        """The one request."""
        return (
            RequestHead(
                "GET",
                f"{opening.path.rstrip('/')}/{self.name}",
                (
                    (b"connection", b"Upgrade"),
                    (b"upgrade", opening.token.encode("ascii")),
                    (b"cache-control", b"no-store"),
                    *opening.headers,
                ),
            ),
        )

    def check_answer(
        self, opening: Opening, index: int, status: int, headers: HeaderList
    ) -> None:
        """Accept 101 that names our protocol."""
        if status in (200, 426):
            raise RemoteProtocolError(
                "a proxy on the way removed the request to upgrade the connection",
                status,
            )
        if status != 101:
            raise RemoteProtocolError(f"the answer was HTTP status {status}", status)
        if not wants_upgrade(headers, opening.token):
            raise RemoteProtocolError(
                f"the connection was upgraded to another protocol than {opening.token}",
                status,
            )
