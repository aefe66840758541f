"""How a user of a proxy proves itself: Basic, Digest, NTLM, Negotiate."""

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

from dwcloud.net.proxy_handshake import (
    HANDSHAKES,
    Handshake,
    HandshakeFailed,
    why_no_handshake,
)
from dwcloud.protocol.tunnelling.connect import ProxyChallenge
from dwcloud.protocol.tunnelling.proxies import Proxy

__all__ = ["ConnectionProof", "ProxyCredentials"]

_MOST_REJECTIONS = 3
_MOST_STALES = 2
"""Proofs in a row that a proxy may call out of date."""
_REJECTION_PAUSE = 15 * 60.0
"""Seconds before a rejected password is tried once more; a proxy's own user data may
be out of order, but each try counts at those that lock users out."""


class ProxyCredentials:
    """A user name and password for one proxy, and what the proxy said of them.

    Of what a proxy offers, Negotiate is taken before NTLM, Digest and Basic, in this
    order. What it asked for is remembered, so that later connections need no request
    to find it out.

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
        self._unusable: dict[str, str] = {}
        self.rejected = ""

    @property
    def is_asked(self) -> bool:
        """Whether it is known what the proxy wants."""
        return self._challenge is not None

    @property
    def handshake(self) -> str:
        """The scheme that proves each connection by itself; empty if it is another."""
        scheme = "" if self._challenge is None else self._challenge.scheme
        return scheme if scheme in HANDSHAKES else ""

    def connection(self) -> ConnectionProof:
        """Return what proves one connection."""
        return ConnectionProof(self, self._proxy)

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

    def learn(
        self, challenges: Sequence[ProxyChallenge], proven: bool, now: float
    ) -> bool:
        """Take an answer 407; True if the request is worth a second try.

        Otherwise :attr:`rejected` says why not.

        :param proven: whether the request carried a proof: other connections may have
            learned meanwhile what the proxy wants.
        """
        offered = {challenge.scheme: challenge for challenge in challenges}
        self._challenge = None
        if self._proxy.username is None:
            return self._reject(
                f"proxy {self._proxy} wants a user name and password", now
            )
        for scheme in HANDSHAKES:
            if scheme in offered and not (
                why_no_handshake() or scheme in self._unusable
            ):
                self._challenge = offered[scheme]
                return True
        digest = offered.get("digest")
        if digest is not None and self._understand(digest):
            stale = self._digest.get("stale", "").lower() == "true"
            self._challenge = digest
        elif "basic" in offered:
            stale, self._challenge = False, offered["basic"]
        elif proven and not offered:
            return self.reject_password(now)
        else:
            listing = ", ".join(sorted(offered)) or "nothing"
            why = "; ".join(self._unusable.values())
            if why_no_handshake() and not offered.keys().isdisjoint(HANDSHAKES):
                why = why_no_handshake()
            return self._reject(
                f"proxy {self._proxy} accepts none of Basic and Digest, but {listing}"
                + (f"; {why}" if why else ""),
                now,
            )
        if proven and not stale:
            self._challenge = None
            return self.reject_password(now)
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

    def give_up(self, scheme: str, why: str) -> None:
        """Use a scheme no more."""
        self._unusable[scheme] = why
        self._challenge = None

    def reject_password(self, now: float) -> bool:
        """The proxy does not accept the proof; returns False."""
        self._challenge = None
        user = self._proxy.username
        return self._reject(
            f"proxy {self._proxy} rejects the password of {user!r}", now
        )

    def _reject(self, why: str, now: float) -> bool:
        self.rejected = why
        self._rejections += 1
        self._rejected_at = now
        return False


class ConnectionProof:
    """What proves the requests on one connection to a proxy.

    It may serve the next connection while it has not :attr:`begun`.
    """

    def __init__(self, credentials: ProxyCredentials, proxy: Proxy) -> None:
        self._credentials = credentials
        self._proxy = proxy
        self._handshake: Handshake | None = None
        self._scheme = ""
        self._stales = 0

    @property
    def rejected(self) -> str:
        """Why no other request is worth it; empty while one may be."""
        if self._stales > _MOST_STALES:
            return f"proxy {self._proxy} calls every new proof out of date"
        return self._credentials.rejected

    @property
    def begun(self) -> bool:
        """Whether another connection would have to begin anew."""
        return self._handshake is not None and self._handshake.begun

    def authorization(self, method: str, target: str) -> str:
        """Value of ``Proxy-Authorization``; empty for none."""
        scheme = self._scheme or self._credentials.handshake
        if not scheme:
            return self._credentials.authorization(method, target)
        try:
            if self._handshake is None:
                self._handshake, self._scheme = Handshake(scheme, self._proxy), scheme
            return self._handshake.step()
        except HandshakeFailed as e:
            # The answer to a request without proof tells what else there is.
            self._handshake, self._scheme = None, ""
            self._credentials.give_up(scheme, str(e))
            return ""

    def passed(self) -> None:
        """A request was passed on."""
        self._stales = 0

    def learn(
        self, challenges: Sequence[ProxyChallenge], proven: bool, now: float
    ) -> bool:
        """Take an answer 407; True if another request is worth it.

        Otherwise :attr:`rejected` says why not.
        """
        if self._handshake is None:
            if not self._credentials.learn(challenges, proven, now):
                return False
            self._stales += proven
            return self._stales <= _MOST_STALES
        tokens = [c.parameters for c in challenges if c.scheme == self._scheme]
        if any(self._handshake.receive(token) for token in tokens):
            return True
        return self._credentials.reject_password(now)
