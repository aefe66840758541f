"""Which proxy leads where, and what proxies ask for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.tunnelling.connect import (
    ProxyChallenge,
    connect_request,
    read_challenges,
    why_refused,
)
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings


class ProxyTests(SynchronousTestCase):
    """Proxies as people write them."""

    def test_forms(self) -> None:
        """All usual forms are understood."""
        for text, proxy in {
            "http://proxy.example:3128": Proxy("proxy.example", 3128),
            "proxy.example:3128": Proxy("proxy.example", 3128),
            "http://proxy.example/": Proxy("proxy.example", 80),
            "https://proxy.example": Proxy("proxy.example", 443, True),
            "http://[2001:db8::1]:8080": Proxy("2001:db8::1", 8080),
            "http://a:b%40c@p:1": Proxy("p", 1, False, "a", "b@c"),
        }.items():
            self.assertEqual(Proxy.parse(text), proxy, text)

    def test_not_a_proxy(self) -> None:
        """What is no proxy is refused without repeating what may be a password."""
        for text in (
            "socks5://u:secret@p:1",
            "http://u:secret@:80",
            "http://u:secret@p:port",
            "http://u:secret@p/path",
            "http://u:secret@[::1",
            "http://u:secret@bücher:1",
        ):
            error = self.assertRaises(ValueError, Proxy.parse, text)
            self.assertIn("expected", str(error))
            self.assertNotIn("secret", str(error))

    def test_password_is_not_shown(self) -> None:
        """Neither logs nor tracebacks show it."""
        proxy = Proxy.parse("http://user:secret@[::1]:3128")
        self.assertNotIn("secret", repr(proxy) + str(proxy))
        self.assertEqual(str(proxy), "[::1]:3128")

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a proxy or a ValueError."""
        try:
            self.assertTrue(Proxy.parse(text).host)
        except ValueError as e:
            self.assertIn("expected", str(e))


class SettingsTests(SynchronousTestCase):
    """The environment's word."""

    def test_variables(self) -> None:
        """Each variable has its part; lower case and the special one come first."""
        settings = ProxySettings.from_environment(
            {
                "http_proxy": "http://a:1",
                "HTTP_PROXY": "http://evil:1",
                "HTTPS_PROXY": "http://b:2",
                "all_proxy": "http://c:3",
            }
        )
        self.assertEqual(settings.choose("x", 80, secure=False), Proxy("a", 1))
        self.assertEqual(settings.choose("x", 443), Proxy("b", 2))
        settings = ProxySettings.from_environment({"all_proxy": "c:3"})
        self.assertEqual(settings.choose("x", 80, secure=False), Proxy("c", 3))
        self.assertIsNone(ProxySettings.from_environment({}).choose("x", 443))
        settings = ProxySettings.from_environment({"HTTP_PROXY": "http://evil:1"})
        self.assertIsNone(settings.choose("x", 80, secure=False))

    def test_wrong_variable(self) -> None:
        """The error names the variable."""
        error = self.assertRaises(
            ValueError, ProxySettings.from_environment, {"https_proxy": "socks4://x"}
        )
        self.assertIn("https_proxy in the environment", str(error))

    def test_exceptions(self) -> None:
        """Names, domains, ports, addresses and networks can be left out."""
        settings = ProxySettings.from_environment(
            {
                "all_proxy": "p:1",
                "no_proxy": "example.org, .example.net,*.example.com,192.0.2.7,"
                "10.0.0.0/8  2001:db8::/32 ,host:8080,,",
            }
        )
        direct = [
            "example.org",
            "www.EXAMPLE.org",
            "a.example.net",
            "a.example.com",
            "192.0.2.7",
            "10.1.2.3",
            "2001:db8::5",
            "localhost",
            "127.0.0.5",
            "::1",
        ]
        for host in direct:
            self.assertIsNone(settings.choose(host, 443), host)
        for host in ("notexample.org", "192.0.2.8", "11.0.0.1", "host"):
            self.assertEqual(settings.choose(host, 443), Proxy("p", 1), host)
        self.assertIsNone(settings.choose("host", 8080))
        everything = ProxySettings.from_environment({"all_proxy": "p", "no_proxy": "*"})
        self.assertIsNone(everything.choose("x", 443))


class ChallengeTests(SynchronousTestCase):
    """Answers 407."""

    def read(self, *fields: str) -> tuple[ProxyChallenge, ...]:
        return read_challenges(
            tuple((b"proxy-authenticate", field.encode()) for field in fields)
        )

    def test_fields(self) -> None:
        """Several challenges come in one field or in several."""
        self.assertEqual(
            self.read('Negotiate, Digest realm="a, b", nonce="x", Basic realm="c"'),
            (
                ProxyChallenge("negotiate", ""),
                ProxyChallenge("digest", 'realm="a, b", nonce="x"'),
                ProxyChallenge("basic", 'realm="c"'),
            ),
        )
        schemes = [c.scheme for c in self.read("NTLM", 'Basic realm="x"')]
        self.assertEqual(schemes, ["ntlm", "basic"])
        self.assertEqual(read_challenges(((b"www-authenticate", b"Basic"),)), ())

    @given(st.text())
    def test_any_field(self, text: str) -> None:
        """Any field is read."""
        for challenge in self.read(text):
            self.assertEqual(challenge.scheme, challenge.scheme.lower())

    def test_request(self) -> None:
        """A request names host and port, and carries the proof."""
        head = connect_request("2001:db8::1", 443, "Basic eDp5")
        self.assertEqual((head.method, head.target), ("CONNECT", "[2001:db8::1]:443"))
        self.assertIn((b"proxy-authorization", b"Basic eDp5"), head.headers)

    def test_reasons(self) -> None:
        """Refusals are put in words."""
        self.assertIn("443", why_refused(403))
        self.assertIn("418", why_refused(418))
