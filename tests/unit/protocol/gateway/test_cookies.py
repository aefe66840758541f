"""The gateway's cookies and those of servers do not mix."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.gateway.cookies import (
    LOGIN_COOKIE,
    SESSION_COOKIE,
    clear_cookie,
    cookie_of,
    host_only,
    set_cookie,
    without_own_cookies,
)


class OwnCookieTests(SynchronousTestCase):
    """Cookies that the gateway sets and reads."""

    def test_attributes(self) -> None:
        """No script reads them, and they go to this host over TLS only."""
        name, value = set_cookie(SESSION_COOKIE, "abc", 60)
        self.assertEqual(name, "Set-Cookie")
        first, *attributes = value.split("; ")
        self.assertEqual(first, "__Host-dwcloud-web=abc")
        self.assertEqual(
            attributes, ["Max-Age=60", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"]
        )
        self.assertIn("Max-Age=0", clear_cookie(LOGIN_COOKIE)[1])

    def test_read(self) -> None:
        """A cookie is found by its exact name; one that is there twice is none."""
        field = f"a=1; {SESSION_COOKIE}=x=y; b=2"
        self.assertEqual(cookie_of(field, SESSION_COOKIE), "x=y")
        self.assertEqual(cookie_of(field, LOGIN_COOKIE), "")
        twice = f"{SESSION_COOKIE}=x; {SESSION_COOKIE}=y"
        self.assertEqual(cookie_of(twice, SESSION_COOKIE), "")

    @given(st.text(), st.text())
    def test_any_text(self, field: str, name: str) -> None:
        """Any text can be looked through."""
        cookie_of(field, name)


class ServerCookieTests(SynchronousTestCase):
    """Cookies between browsers and servers."""

    def test_never_to_a_server(self) -> None:
        """What lets a browser in at the gateway is not shown to any server."""
        field = f"a=1; {SESSION_COOKIE}=secret;b=2 ; __hOST-dwcloud-LOGIN=x;; c"
        self.assertEqual(without_own_cookies(field.encode()), b"a=1; b=2; c")
        self.assertEqual(without_own_cookies(f"{SESSION_COOKIE}=s".encode()), b"")

    def test_never_from_a_server(self) -> None:
        """A server cannot plant a cookie of the gateway."""
        for field in (
            b"__Host-dwcloud-web=x; Path=/; Secure",
            b" __host-dwcloud-login =x",
            b"=__Host-dwcloud-web=x",
            b"__Host-dwcloud-web",
            b"nameless",
        ):
            self.assertIsNone(host_only(field), field)

    def test_not_for_other_hosts(self) -> None:
        """A server's cookie stays with its own host; all else is kept as it is."""
        self.assertEqual(
            host_only(b"a=1; Path=/x; DOMAIN = relay.example.org; HttpOnly"),
            b"a=1; Path=/x; HttpOnly",
        )
        self.assertEqual(host_only(b"domain=1; Secure"), b"domain=1; Secure")

    @given(st.binary())
    def test_any_bytes(self, field: bytes) -> None:
        """Whatever comes, nothing of the gateway's comes through."""
        for text in (field, b"a=1;" + field, b"__Host-dwcloud-web" + field):
            self.assertNotIn(
                b"__host-dwcloud",
                [
                    pair.partition(b"=")[0].strip().lower()[:14]
                    for pair in without_own_cookies(text).split(b";")
                ],
            )
            kept = host_only(text)
            if kept is not None:
                self.assertFalse(kept.strip().lower().startswith(b"__host-dwcloud"))
                names = [p.partition(b"=")[0].strip() for p in kept.split(b";")[1:]]
                self.assertNotIn(b"domain", [name.lower() for name in names])
