"""How a user of a proxy proves itself: Basic and Digest."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from urllib.request import (
    AbstractDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    Request,
    parse_http_list,
    parse_keqv_list,
)

from dwcloud.protocol.tunnelling.connect import ProxyChallenge
from dwcloud.protocol.tunnelling.proxies import Proxy

__all__ = ["ProxyCredentials"]

_MOST_REJECTIONS = 3
_REJECTION_PAUSE = 15 * 60.0
"""Seconds before a rejected password is tried once more; a proxy's own user data may
be out of order, but each try counts at those that lock users out."""


class ProxyCredentials:
    """A user name and password for one proxy, and what the proxy said of them.

    Of what a proxy offers, Digest is taken before Basic. What it asked for is
    remembered, so that later connections need no second request.

    :ivar rejected: why they are of no use; empty while they may be.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._challenge: ProxyChallenge | None = None
        self._digest: dict[str, str] = {}
        self._passwords = HTTPPasswordMgrWithDefaultRealm()
        self._handler = AbstractDigestAuthHandler(self._passwords)
        self._rejections = 0
        self._rejected_at = 0.0
        self.rejected = ""

    def may_try(self, now: float) -> bool:
        """Tell whether to use the proxy at all now."""
        if not self.rejected:
            return True
        return (
            self._rejections < _MOST_REJECTIONS
            and now - self._rejected_at >= _REJECTION_PAUSE
        )

    def authorization(self, method: str, target: str) -> str:
        """Value of ``Proxy-Authorization``; empty while the proxy has not asked."""
        if self._challenge is None:
            return ""
        user, password = self._proxy.username or "", self._proxy.password
        if self._challenge.scheme == "basic":
            text = f"{user}:{password}".encode()
            return f"Basic {base64.b64encode(text).decode('ascii')}"
        url = f"http://{self._proxy}/"
        self._passwords.add_password(None, url, user, password)
        request: Any = Request(url, method=method)
        # In Digest a request is named by its target as sent.
        request.selector = target
        return f"Digest {self._handler.get_authorization(request, self._digest)}"

    def accepted(self) -> None:
        """The proxy let a request through."""
        self.rejected = ""
        self._rejections = 0

    def learn(self, challenges: Sequence[ProxyChallenge], now: float) -> bool:
        """Take an answer 407; True if the request is worth a second try.

        Otherwise :attr:`rejected` says why not.
        """
        offered = {challenge.scheme: challenge for challenge in challenges}
        was_asked = self._challenge is not None
        self._challenge = None
        if self._proxy.username is None:
            return self._reject(
                f"proxy {self._proxy} wants a user name and password", now
            )
        digest = offered.get("digest")
        if digest is not None and self._understand(digest):
            stale = self._digest.get("stale", "").lower() == "true"
            self._challenge = digest
        elif "basic" in offered:
            stale, self._challenge = False, offered["basic"]
        elif was_asked and not offered:
            return self._reject_password(now)
        else:
            listing = ", ".join(sorted(offered)) or "nothing"
            return self._reject(
                f"proxy {self._proxy} accepts none of Basic and Digest, but {listing}",
                now,
            )
        if was_asked and not stale:
            self._challenge = None
            return self._reject_password(now)
        return True

    def _understand(self, challenge: ProxyChallenge) -> bool:
        items = parse_http_list(challenge.parameters)
        self._digest = parse_keqv_list([item for item in items if "=" in item])
        qop = self._digest.get("qop", "auth").replace(" ", "")
        if "qop" in self._digest:
            self._digest["qop"] = qop
        algorithm = self._digest.get("algorithm", "MD5").upper()
        return (
            algorithm in ("MD5", "SHA")
            and "auth" in qop.split(",")
            and {"realm", "nonce"} <= self._digest.keys()
        )

    def _reject_password(self, now: float) -> bool:
        user = self._proxy.username
        return self._reject(
            f"proxy {self._proxy} rejects the password of {user!r}", now
        )

    def _reject(self, why: str, now: float) -> bool:
        self.rejected = why
        self._rejections += 1
        self._rejected_at = now
        return False
