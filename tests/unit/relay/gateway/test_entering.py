"""Who is let in, and all the ways in which one is not."""

from __future__ import annotations

import uuid

from dwcloud.net.signing import SigningKey, verifier
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.cookies import LOGIN_COOKIE, SESSION_COOKIE
from dwcloud.protocol.gateway.login import decode_token
from dwcloud.protocol.grants import AccessState, GrantKind, Revocation
from dwcloud.protocol.names import PeerName
from dwcloud.relay.gateway.sessions import WebSessions
from tests.unit.peer.cloud_grants import ANN, TestCloud
from tests.unit.relay.gateway.gateway_world import (
    DOMAIN,
    WEB_ON,
    Answer,
    GatewayTestCase,
    fields_of,
    silent,
)

OTHER_SYSTEM = uuid.UUID("0190163d-8694-8c3e-9a00-7ab7d7b42e1d")


class EnteringTests(GatewayTestCase):
    """The way through the portal."""

    def test_way(self) -> None:
        """A page is asked for, the portal gives a grant, and the page is shown."""
        self.serve()
        cookie = self.enter("/live?camera=1")
        self.assertEqual(self.ask_web(cookie=cookie).body, b"hello")

    def test_portal_is_told(self) -> None:
        """The portal is told the host, the gateway's key, and a state."""
        query, login = self.to_portal("/x")
        self.assertEqual(query["host"], self.host)
        self.assertEqual(len(decode_token(query["key"])), 32)
        self.assertNotIn(login.partition("=")[2].split(".")[0], query["state"])

    def test_cookies(self) -> None:
        """Cookies are of this host alone, for no script, and not the grant."""
        query, login = self.to_portal()
        grant = self.grant_for(query["key"])
        answer = self.ask_web(self.entry(query, grant), cookie=login)
        set_cookies = answer.all("set-cookie")
        self.assertEqual(len(set_cookies), 2)
        for field in set_cookies:
            self.assertTrue(field.startswith("__Host-"))
            self.assertIn("; Path=/; Secure; HttpOnly; SameSite=Lax", field)
            self.assertNotIn("Domain", field)
        self.assertNotIn(query["state"], set_cookies[0])
        value = set_cookies[0].partition("=")[2].partition(";")[0]
        self.assertNotIn(decode_token(value), grant)
        self.assertIn(f"{LOGIN_COOKIE}=; Max-Age=0", set_cookies[1])
        self.assertEqual(answer.header("cache-control"), "no-store")
        self.assertEqual(answer.header("referrer-policy"), "no-referrer")

    def test_not_a_page(self) -> None:
        """Programs, images and sockets are not sent to the portal."""
        answer = self.ask_web(navigation=False)
        self.assertEqual(answer.status, 401)
        self.assertEqual(answer.all("set-cookie"), [])
        self.assertEqual(self.ask_web(method="POST").status, 401)

    def test_end_of_grant(self) -> None:
        """When the grant has expired the browser goes to the portal again."""
        self.serve()
        cookie = self.enter()
        self.world.advance(3601)
        answer = self.ask_web(cookie=cookie)
        self.assertEqual(answer.status, 303)
        self.assertIn("/gateway?", answer.header("location"))

    def test_leaving(self) -> None:
        """Who leaves has a page to do it, and is out then."""
        self.serve()
        cookie = self.enter()
        about = self.ask_web("/.dwcloud/", cookie=cookie)
        self.assertIn("the relay itself can read it", about.text)
        self.assertIn("ann", about.text)
        left = self.ask_web("/.dwcloud/leave", method="POST", cookie=cookie)
        self.assertIn(f"{SESSION_COOKIE}=; Max-Age=0", left.header("set-cookie"))
        self.assertEqual(self.ask_web(cookie=cookie).status, 303)

    def test_own_paths_stay(self) -> None:
        """No server is asked for what is the gateway's own."""
        self.serve()
        cookie = self.enter()
        answer = self.ask_web("/.dwcloud/else", cookie=cookie)
        self.assertEqual(answer.status, 404)
        self.assertEqual(self.web.requests, [])

    def test_two_tabs(self) -> None:
        """The slower one of two tabs is led on by the session of the faster."""
        self.serve()
        first, _ = self.to_portal()
        second, login = self.to_portal()
        grant = self.grant_for(second["key"])
        entered = self.ask_web(self.entry(second, grant), cookie=login)
        cookie = entered.all("set-cookie")[0].partition(";")[0]
        late = self.grant_for(first["key"])
        answer = self.ask_web(self.entry(first, late), cookie=cookie)
        self.assertEqual((answer.status, answer.header("location")), (303, "/"))

    def test_without_cloud(self) -> None:
        """A server that knows of no cloud lets no gateway in."""
        self.access = None  # type: ignore[assignment]
        self.serve()
        answer = self.ask_web(cookie=self.enter())
        self.assertEqual(answer.status, 502)
        self.assertEqual(self.web.connections, [])


class HostileTests(GatewayTestCase):
    """Each attack, and that it gets nowhere."""

    def entered(self, query: dict[str, str], grant: bytes, cookie: str) -> Answer:
        answer = self.ask_web(self.entry(query, grant), cookie=cookie)
        self.assertNotIn(
            f"{SESSION_COOKIE}=",
            answer.header("set-cookie").replace("=; Max-Age=0", ""),
        )
        return answer

    def test_login_csrf(self) -> None:
        """An attacker's own grant, put upon a victim by a link, is not taken."""
        attacker, _ = self.to_portal()
        grant = self.grant_for(attacker["key"])
        for cookie in ("", self.to_portal()[1]):
            answer = self.entered(attacker, grant, cookie)
            self.assertEqual(answer.status, 400)

    def test_fixation(self) -> None:
        """A cookie that an attacker chose is never one of a session."""
        self.serve()
        planted = f"{SESSION_COOKIE}=" + "A" * 43
        query, login = self.to_portal()
        grant = self.grant_for(query["key"])
        answer = self.ask_web(self.entry(query, grant), cookie=f"{login}; {planted}")
        self.assertEqual(answer.status, 303)
        self.assertNotIn(planted, answer.header("set-cookie"))
        self.assertEqual(self.ask_web(cookie=planted).status, 303)

    def test_fixation_by_the_server(self) -> None:
        """A server's pages cannot set the gateway's cookies in a header."""
        self.serve()
        self.web.script = lambda service: service.transport.write(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: __Host-dwcloud-web=x; Secure; Path=/\r\n"
            b"Set-Cookie: ok=1; Domain=relay.example.org\r\nContent-Length: 0\r\n\r\n"
        )
        answer = self.ask_web(cookie=self.enter())
        self.assertEqual(answer.all("set-cookie"), ["ok=1"])

    def test_cookie_stays_here(self) -> None:
        """What lets the browser in is not shown to the server, which could use it."""
        self.serve()
        cookie = self.enter()
        self.ask_web(cookie=f"a=1; {cookie}; b=2")
        self.assertIn("cookie: a=1; b=2", fields_of(self.web.requests[0]))
        self.assertNotIn("__host-dwcloud", self.web.requests[0].lower())

    def test_cookie_of_another_system(self) -> None:
        """A cookie of one host opens no other, not even of the same system."""
        self.serve()
        cookie = self.enter()
        for host in (
            f"{OTHER_SYSTEM}.{DOMAIN}",
            f"{self.name.server}.{self.host}",
            f"{self.host}:8443",
        ):
            self.assertEqual(self.ask_web(host=host, cookie=cookie).status, 303, host)
        self.assertEqual(self.web.requests, [])

    def test_grant_of_another_system(self) -> None:
        """A grant for the attacker's own system opens no other."""
        query, login = self.to_portal()
        other = PeerName(OTHER_SYSTEM)
        grant = self.grant_for(query["key"], other, system=OTHER_SYSTEM)
        self.assertEqual(self.entered(query, grant, login).status, 403)

    def test_grant_of_another_relay(self) -> None:
        """A grant that was made for another relay's key is of no use here."""
        query, login = self.to_portal()
        grant = self.grant_for(SigningKey.generate().public_key)
        answer = self.entered(query, grant, login)
        self.assertEqual(answer.status, 403)
        self.assertIn("another relay", answer.text)

    def test_grant_of_this_relay_elsewhere(self) -> None:
        """Who steals the grant cannot use it: the relay's key is missing."""
        query, _ = self.to_portal()
        grant = self.grant_for(query["key"])
        thief = SigningKey.generate()
        sessions = WebSessions(
            self.world.seconds,
            self.world.random_bytes,
            verifier(self.cloud.key.public_key),
            thief.public_key,
        )
        host = DOMAIN.find(self.host)
        assert host is not None
        self.assertRaises(RemoteProtocolError, sessions.begin, host, grant)

    def test_connect_grant(self) -> None:
        """A grant for clients is none for browsers."""
        query, login = self.to_portal()
        grant = self.grant_for(query["key"], kind=GrantKind.CONNECT)
        self.assertEqual(self.entered(query, grant, login).status, 403)

    def test_forged_grant(self) -> None:
        """A grant of another cloud, or none at all, is not taken."""
        query, login = self.to_portal()
        self.cloud = TestCloud()
        forged = self.grant_for(query["key"])
        for grant in (forged, forged[:-1], b"", b"x" * 300):
            answer = self.entered(query, grant, login)
            self.assertEqual(answer.status, 403 if grant else 400)

    def test_grant_used_twice(self) -> None:
        """An address of the portal that somebody noted lets nobody in again."""
        query, login = self.to_portal()
        grant = self.grant_for(query["key"])
        target = self.entry(query, grant)
        self.assertEqual(self.ask_web(target, cookie=login).status, 303)
        self.assertEqual(self.entered(query, grant, login).status, 403)

    def test_expired_grant(self) -> None:
        """A grant from yesterday is of no use."""
        query, login = self.to_portal()
        grant = self.grant_for(query["key"])
        self.world.advance(3700)
        self.assertEqual(self.entered(query, grant, login).status, 403)

    def test_open_redirect(self) -> None:
        """No address that begins here ends elsewhere."""
        for target in ("//evil.example/", "/\\evil.example", "/\\/evil.example"):
            query, login = self.to_portal(target)
            grant = self.grant_for(query["key"])
            answer = self.ask_web(self.entry(query, grant), cookie=login)
            self.assertEqual((answer.status, answer.header("location")), (303, "/"))

    def test_other_systems_pages(self) -> None:
        """A hostile system's page makes no request with a victim's cookie."""
        self.serve()
        cookie = self.enter()
        site = ("Sec-Fetch-Site", "same-site")
        evil = ("Origin", f"https://{OTHER_SYSTEM}.{DOMAIN}")
        for method, fields in (
            ("POST", (site, evil)),
            ("POST", (evil,)),
            ("GET", (site, ("Sec-Fetch-Mode", "no-cors"))),
            ("GET", (evil,)),
        ):
            answer = self.ask_web(
                "/", *fields, method=method, cookie=cookie, navigation=False
            )
            self.assertEqual(answer.status, 403, (method, fields))
        self.assertEqual(self.web.requests, [])

    def test_hidden_request(self) -> None:
        """A second request hidden in a body stays a body."""
        self.serve()
        cookie = self.enter()
        hidden = f"GET /admin HTTP/1.1\r\nHost: {self.host}\r\n\r\n"
        ended = f"0\r\n\r\n{hidden}"
        head = f"POST / HTTP/1.1\r\nHost: {self.host}\r\nCookie: {cookie}\r\n"
        self.web.script = silent
        for fields, body, status in (
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                ended,
                400,
            ),
            ("Content-Length: 4\r\nContent-Length: 50\r\n", hidden, 400),
            ("Transfer-Encoding: xchunked\r\n", hidden, 501),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n", hidden, 501),
            ("Transfer-Encoding\x0b: chunked\r\n", hidden, 400),
            ("X: y\rTransfer-Encoding: chunked\r\n", hidden, 400),
        ):
            browser = self.browse()
            browser.send_raw(f"{head}{fields}\r\n{body}".encode())
            self.world.run_until(lambda browser=browser: browser.lost is not None)
            self.assertEqual(browser.answers[0].status, status, fields)
        self.assertEqual(self.web.connections, [])

    def test_hidden_answer(self) -> None:
        """An answer with two lengths is not passed on, nor what follows it."""
        self.serve()
        self.web.script = lambda service: service.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nabHTTP/"
        )
        answer = self.ask_web(cookie=self.enter())
        self.assertEqual(answer.status, 502)

    def test_answer_ahead(self) -> None:
        """What a service says before it is asked is nobody's answer."""
        self.serve()
        cookie = self.enter()
        browser = self.browse()
        self.ask_web(cookie=cookie, browser=browser)
        self.web.connections[0].transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        )
        self.world.run_until(lambda: self.web.connections[0].lost is not None)
        self.assertEqual(self.ask_web(cookie=cookie, browser=browser).body, b"hello")

    def test_header_injection(self) -> None:
        """A line end within a value ends the connection, not the field."""
        browser = self.browse()
        browser.send_raw(
            f"GET / HTTP/1.1\r\nHost: {self.host}\nX-Forwarded-For: 1\r\n\r\n".encode()
        )
        self.world.run_until(lambda: bool(browser.answers))
        self.assertIn(browser.answers[0].status, (400, 401))
        self.assertEqual(self.web.requests, [])

    def test_host_header(self) -> None:
        """Hosts that are no single name of a system are not served."""
        self.serve()
        cookie = self.enter()
        for host in (f"{self.host}.", f"{self.host}:80:80", f"x.{self.host}"):
            browser = self.browse()
            browser.send_raw(
                f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n".encode()
            )
            self.world.run_until(lambda browser=browser: bool(browser.answers))
            self.assertIn(browser.answers[0].status, (404, 400), host)
        self.assertEqual(self.web.requests, [])


class AccessTests(GatewayTestCase):
    """What the owner of the system decides."""

    def test_web_off(self) -> None:
        """Without the switch no server lets a browser in, whatever the relay says."""
        self.change(AccessState(is_bound=True))
        self.serve()
        answer = self.ask_web(cookie=self.enter())
        self.assertEqual(answer.status, 403)
        self.assertEqual(self.web.connections, [])

    def test_no_loop(self) -> None:
        """Who is refused is told so, and not sent around in circles."""
        self.change(AccessState(is_bound=True))
        self.serve()
        cookie = self.enter()
        self.assertEqual(self.ask_web(cookie=cookie).status, 403)
        self.assertEqual(self.ask_web(cookie=cookie).status, 303)

    def test_hostile_relay(self) -> None:
        """A relay without a grant for its key gets no stream, even with web on."""
        self.serve()
        cookie = self.enter()
        (session,) = self.gateway.sessions._sessions.values()
        session.encoded = self.grant_for(SigningKey.generate().public_key)
        answer = self.ask_web(cookie=cookie)
        self.assertEqual(answer.status, 403)
        self.assertEqual(self.web.connections, [])

    def running(self) -> tuple[str, Answer]:
        """A browser that gets an answer without end."""
        self.serve()
        self.web.script = lambda service: service.transport.write(
            b"HTTP/1.1 200 OK\r\n\r\nframe"
        )
        cookie = self.enter()
        browser = self.browse()
        browser.send_raw(
            f"GET / HTTP/1.1\r\nHost: {self.host}\r\nCookie: {cookie}\r\n\r\n".encode()
        )
        self.world.run_until(
            lambda: bool(browser.answers) and browser.answers[0].body == b"frame"
        )
        self.browser = browser
        return cookie, browser.answers[0]

    def test_revoked(self) -> None:
        """Taking a role away cuts what runs, at once, and lets nothing new in."""
        cookie, answer = self.running()
        now_ms = round(self.world.seconds() * 1000)
        self.change(WEB_ON, Revocation(ANN, now_ms))
        self.world.run_until(lambda: self.browser.lost is not None, limit=60)
        self.assertFalse(answer.is_whole)
        self.assertEqual(self.ask_web(cookie=cookie).status, 403)

    def test_switched_off(self) -> None:
        """So does switching web access off."""
        cookie, answer = self.running()
        self.change(AccessState(is_bound=True))
        self.world.run_until(lambda: self.browser.lost is not None, limit=60)
        self.assertFalse(answer.is_whole)
        self.assertEqual(self.ask_web(cookie=cookie).status, 403)
