"""The way to the portal and back: nothing but the same browser, host and path."""

from __future__ import annotations

import uuid
from urllib.parse import parse_qs, urljoin, urlsplit

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.hosts import WebHost
from dwcloud.protocol.gateway.login import (
    PendingLogin,
    decode_token,
    encode_token,
    entry_address,
    read_entry,
)
from dwcloud.protocol.gateway.return_paths import MAX_RETURN_PATH, return_path
from dwcloud.protocol.names import PeerName

HOST = WebHost(PeerName(uuid.UUID(int=5)), "x.relay.example.org:8443")
SECRET = bytes(range(32))


class ReturnPathTests(SynchronousTestCase):
    """No open redirect."""

    def test_kept(self) -> None:
        """Paths and queries of this host are kept."""
        for path in ("/", "/a/b?c=d&e=%2F/", "/a//b", "/a?u=https://x/", "/..//a"):
            self.assertEqual(return_path(path), path)

    def test_others(self) -> None:
        """What leads elsewhere leads to the top instead."""
        for path in (
            "",
            "a",
            "//evil.example/",
            "/\\evil.example/",
            "\\\\evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/a\r\nSet-Cookie: x=y",
            "/a b",
            "/\u00e9",
            "/.dwcloud/leave",
            "/" + "a" * MAX_RETURN_PATH,
        ):
            self.assertEqual(return_path(path), "/", path)

    @given(st.text())
    def test_same_host(self, text: str) -> None:
        """A browser that follows it stays at its host."""
        for given_text in (text, f"/{text}"):
            there = urlsplit(urljoin("https://here.example/x", return_path(given_text)))
            self.assertEqual((there.scheme, there.netloc), ("https", "here.example"))


class LoginTests(SynchronousTestCase):
    """The cookie and the state that the portal tells back."""

    def test_round_trip(self) -> None:
        """The portal is told host, key and state, and the cookie has the rest."""
        login = PendingLogin(SECRET, "/live?camera=1")
        address = urlsplit(
            login.portal_address("https://mediator.example.org:3345/", HOST, SECRET)
        )
        self.assertEqual(address.netloc, "mediator.example.org:3345")
        self.assertEqual(address.path, "/gateway")
        query = parse_qs(address.query)
        self.assertEqual(query["host"], [HOST.authority])
        self.assertEqual(decode_token(query["key"][0]), SECRET)
        back = PendingLogin.from_cookie(login.cookie)
        self.assertEqual(back, login)
        self.assertTrue(back.matches(query["state"][0]))

    def test_state_tells_nothing(self) -> None:
        """Who sees the portal's address cannot make the cookie of it."""
        login = PendingLogin(SECRET, "/")
        self.assertNotIn(encode_token(SECRET), login.state)
        self.assertNotEqual(decode_token(login.state), SECRET)

    def test_foreign_state(self) -> None:
        """Another browser's state does not match, nor does any text."""
        login = PendingLogin(SECRET, "/")
        self.assertFalse(login.matches(PendingLogin(bytes(32), "/").state))
        self.assertFalse(login.matches(""))
        self.assertFalse(login.matches("\u2603"))

    def test_cookie_path_checked(self) -> None:
        """A page of the host may have written the cookie: its path counts as any."""
        forged = f"{encode_token(SECRET)}.{encode_token(b'//evil.example/')}"
        self.assertEqual(PendingLogin.from_cookie(forged).path, "/")

    def test_entry(self) -> None:
        """The portal's answer leads to the host that was asked for, with the grant."""
        address = urlsplit(entry_address(HOST, "state", b"\xff" * 200))
        self.assertEqual(address.netloc, HOST.authority)
        self.assertEqual(address.path, "/.dwcloud/enter")
        self.assertEqual(read_entry(address.query), ("state", b"\xff" * 200))

    def test_entry_refused(self) -> None:
        """Anything else is refused with 400."""
        for query in ("", "state=x", "grant=YQ", "state=x&grant=a&grant=b", "a" * 5000):
            error = self.assertRaises(RemoteProtocolError, read_entry, query)
            self.assertEqual(error.code, 400)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """No cookie and no query does harm."""
        for act in (PendingLogin.from_cookie, read_entry, decode_token):
            for given_text in (text, f"{encode_token(SECRET)}.{text}", f"state={text}"):
                try:
                    act(given_text)
                except RemoteProtocolError as e:
                    self.assertEqual(e.code, 400)
