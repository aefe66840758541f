"""Requests to the API: who may ask what, and what comes back."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import argon2
import pyotp
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcloud.accounts.api.endpoints import Access
from dwcloud.accounts.api.services import Limits
from dwcloud.accounts.lock_out import LockOut
from dwcloud.accounts.members import set_member
from dwcloud.accounts.operator import set_disabled
from dwcloud.accounts.passwords import Passwords
from dwcloud.accounts.people import CLOSED
from dwcloud.accounts.rate_limits import Allowance
from dwcloud.accounts.roles import Role
from dwcloud.accounts.systems import note_server
from dwcloud.accounts.transactions import Transaction
from tests.unit.accounts.api_world import PASSWORD, APICase, APIWorld

JSON = {"Content-Type": "application/json"}


class RequestTests(APICase):
    """Requests that are not as they should be."""

    def test_paths(self) -> None:
        """Where nothing is and what is not understood is told."""
        self.assertRefused(self.ask("GET", "/nothing"), 404, "no_such_resource")
        self.assertRefused(
            self.ask("GET", "/../../etc/passwd"), 404, "no_such_resource"
        )
        answer = self.ask("PUT", "/sessions")
        self.assertRefused(answer, 405, "method_not_allowed")
        self.assertEqual(answer.headers["Allow"], "GET, HEAD, POST")
        self.assertEqual(self.ask("HEAD", "/cloud").status, 200)
        # What has no end has no head alone either.
        token = self.world.token("ann")
        answer = self.ask("HEAD", "/events", token=token)
        self.assertRefused(answer, 405, "method_not_allowed")
        self.assertEqual(answer.headers["Allow"], "GET")

    def test_bodies(self) -> None:
        """A body that is not as it should be is told, with the member."""
        for body, headers, status, part in (
            (b"{}", {"Content-Type": "text/plain"}, 415, "application/json"),
            (b"{}", {}, 415, "application/json"),
            (b"{", JSON, 400, "truncated"),
            (b"\xff", JSON, 400, ""),
            (b"[" * 5000, JSON, 400, ""),
            (b"[]", JSON, 400, "array"),
            (b'{"name": 1}', JSON, 400, "$.name"),
            (b'{"name": "ann"}', JSON, 400, "password"),
            (b'{"name": "ann", "password": "x", "admin": true}', JSON, 400, "admin"),
            (b'{"name": "a b", "password": "x"}', JSON, 400, "$.name"),
            (b'{"name": "ann", "password": 1}', JSON, 400, "$.password"),
        ):
            answer = self.ask("POST", "/accounts", body, headers=headers)
            self.assertEqual(answer.status, status, body)
            self.assertIn(part, answer["detail"])
        answer = self.ask("GET", "/cloud", b"x")
        self.assertRefused(answer, 400, "invalid_request")
        self.assertEqual(self.ask("GET", "/cloud", {}).status, 200)

    def test_queries(self) -> None:
        """Parameters that are unknown or no numbers are told."""
        token = self.world.token("ann")
        for query, part in (
            ("limit=0", "from 1 to 200"),
            ("limit=201", "from 1 to 200"),
            ("limit=x", "whole number"),
            ("before=-1", "whole number"),
            ("before=" + "9" * 30, "whole number"),
            ("colour=red", "'colour'"),
        ):
            answer = self.ask("GET", f"/account/log?{query}", token=token)
            self.assertRefused(answer, 400, "invalid_request")
            self.assertIn(part, answer["detail"])
        answer = self.ask("GET", "/account/log?limit=1&before=2", token=token)
        self.assertEqual(
            [e["action"] for e in answer["entries"]], ["account.registered"]
        )

    @settings(max_examples=200, deadline=None)
    @given(
        st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "X"]),
        st.sampled_from(
            [
                "/accounts",
                "/sessions",
                "/sessions/refresh",
                "/account",
                "/account/totp/confirm",
                "/systems",
                "/systems/a%00b/members/%ff",
                "/systems/x/grants?a=b",
                "/invitations/accept",
                "/events/",
            ]
        ),
        st.one_of(
            st.binary(max_size=100),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.text(),
                lambda inner: (
                    st.lists(inner) | st.dictionaries(st.text(max_size=9), inner)
                ),
                max_leaves=9,
            ),
        ),
        st.dictionaries(
            st.sampled_from(
                ["authorization", "cookie", "origin", "host", "x-forwarded-for"]
            ),
            st.text(st.characters(max_codepoint=255), max_size=60),
        ),
    )
    def test_any(self, method: str, path: str, body: Any, headers: Any) -> None:
        """Whatever comes, the answer is a refusal that says what is wrong."""
        world = APIWorld()
        answer = world.ask(method, path, body, headers=headers)
        self.assertIn(answer.status, (400, 401, 403, 404, 405, 415))
        self.assertTrue(answer["detail"])
        world.database.close()

    def test_plain(self) -> None:
        """Without TLS only the machine itself gets an answer."""
        self.assertRefused(self.ask("GET", "/cloud", secure=False), 403, "tls_required")
        for address in ("127.0.0.1", "127.5.5.5"):
            answer = self.ask("GET", "/cloud", secure=False, address=address)
            self.assertEqual(answer.status, 200)

    def test_mistake(self) -> None:
        """A mistake of ours is told without any detail, and logged."""

        def broken(*args: Any, **named: Any) -> Any:
            raise ZeroDivisionError("secret")

        self.patch(self.world.store, "run", broken)
        answer = self.world.sign_in("ann")
        self.assertRefused(answer, 500, "internal")
        self.assertNotIn("secret", answer["detail"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class SignInTests(APICase):
    """Passwords, codes, and how often they may be tried."""

    def test_names(self) -> None:
        """Case of names does not matter; strange ones are like unknown ones."""
        self.world.register("Ann")
        self.assertEqual(self.world.sign_in("aNN").status, 201)
        for name in ("", "ä", "../x", "ann\0", "a" * 300):
            self.assertRefused(self.world.sign_in(name), 401, "bad_credentials")

    def test_same_work(self) -> None:
        """For an unknown, a disabled and a known name as many hashes are made."""
        self.world.register("ann")
        self.world.register("bob")
        self.world.run(set_disabled, "bob", True)
        answers = []
        for name in ("ann", "bob", "cat"):
            before = self.world.threads.done
            answer = self.world.sign_in(name, "kettle orbit 8")
            answers.append(answer.response)
            self.assertEqual(self.world.threads.done, before + 1)
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(answers[0], answers[2])

    def test_lock(self) -> None:
        """Five wrong ones lock an account for a minute, also one that is not there."""
        self.world.register("ann")
        for name in ("ann", "nobody"):
            for _ in range(5):
                answer = self.world.sign_in(name, "kettle orbit 8")
                self.assertRefused(answer, 401, "bad_credentials")
            before = self.world.threads.done
            answer = self.world.sign_in(name)
            self.assertRefused(answer, 429, "locked")
            self.assertEqual(answer.headers["Retry-After"], "60")
            self.assertEqual(self.world.threads.done, before)
        self.world.advance(60)
        self.assertEqual(self.world.sign_in("ann").status, 201)

    def test_other_lock(self) -> None:
        """The operator's own limits are those that count."""
        world = APIWorld(limits=Limits(lock_out=LockOut(tries=2)))
        answers = [world.sign_in("ann").status for _ in range(3)]
        self.assertEqual(answers, [401, 401, 429])

    def test_limit_by_address(self) -> None:
        """One address does not try many accounts; others are not held up."""
        for number in range(20):
            answer = self.world.sign_in(f"name{number}")
            self.assertRefused(answer, 401, "bad_credentials")
        self.assertRefused(self.world.sign_in("name99"), 429, "rate_limited")
        answer = self.world.sign_in("name99", address="192.0.2.2")
        self.assertRefused(answer, 401, "bad_credentials")
        self.world.advance(3)
        self.assertRefused(self.world.sign_in("name99"), 401, "bad_credentials")

    def test_registrations_by_address(self) -> None:
        """One address registers ten accounts, then one in two minutes."""
        for number in range(11):
            answer = self.ask(
                "POST", "/accounts", {"name": f"name{number}", "password": PASSWORD}
            )
        self.assertRefused(answer, 429, "rate_limited")
        self.assertEqual(answer.headers["Retry-After"], "120")

    def test_requests_by_address(self) -> None:
        """So it is with requests of any kind."""
        limits = Limits(requests=Allowance(3, 60))
        world = APIWorld(limits=limits)
        statuses = [world.ask("GET", "/cloud").status for _ in range(4)]
        self.assertEqual(statuses, [200, 200, 200, 429])

    def test_address_behind_a_server(self) -> None:
        """A server on this machine tells whom it passes on; nobody else may."""
        for told, peer, logged in (
            ("203.0.113.9, 198.51.100.7", "127.0.0.1", "198.51.100.7"),
            ("198.51.100.7", "192.0.2.9", "192.0.2.9"),
            ("nonsense", "127.0.0.1", "127.0.0.1"),
        ):
            world = APIWorld()
            world.register("ann")
            opened = world.sign_in(
                "ann", headers={"X-Forwarded-For": told}, address=peer
            )
            log = world.ask("GET", "/account/log", token=opened["access_token"])
            self.assertEqual(log["entries"][0]["address"], logged)

    def test_renewal(self) -> None:
        """A hash of other parameters is renewed when the password comes by."""
        self.world.register("ann")
        dearer = argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)
        passwords = Passwords(self.world.threads, dearer)
        object.__setattr__(self.world.services, "passwords", passwords)
        for _ in range(2):
            self.assertEqual(self.world.sign_in("ann").status, 201)
        row = self.world.run(_hash_of, "ann")
        self.assertIn("t=2", row[0])

    def test_second_factor(self) -> None:
        """It is asked for after the right password only, and wrong codes count."""
        token = self.world.token("ann")
        secret = self.ask("POST", "/account/totp", token=token)["secret"]
        code = pyotp.TOTP(secret).at(for_time=int(self.world.clock.seconds()))
        confirmed = self.ask(
            "POST", "/account/totp/confirm", {"code": code}, token=token
        )
        self.assertEqual(len(confirmed["recovery_codes"]), 10)
        self.assertRefused(self.world.sign_in("ann"), 401, "totp_required")
        answer = self.world.sign_in("ann", "kettle orbit 8")
        self.assertRefused(answer, 401, "bad_credentials")
        for _ in range(4):
            answer = self.world.sign_in("ann", totp="000000")
            self.assertRefused(answer, 401, "bad_credentials")
        self.assertRefused(self.world.sign_in("ann"), 429, "locked")
        self.world.advance(60)
        recovery = confirmed["recovery_codes"][0]
        self.assertEqual(self.world.sign_in("ann", totp=recovery).status, 201)
        body = {"password": PASSWORD, "code": "000000"}
        answer = self.ask("DELETE", "/account/totp", body, token=token)
        self.assertRefused(answer, 401, "bad_credentials")
        body["code"] = confirmed["recovery_codes"][1]
        answer = self.ask("DELETE", "/account/totp", body, token=token)
        self.assertEqual(answer.status, 204)
        self.assertEqual(self.world.sign_in("ann").status, 201)

    def test_closed(self) -> None:
        """A closed cloud hashes no passwords of those who want in."""
        world = APIWorld(CLOSED)
        answer = world.register("ann")
        self.assertRefused(answer, 403, "registration_closed")
        self.assertEqual(world.threads.done, 0)
        self.assertEqual(world.ask("GET", "/cloud")["registration"], "closed")


def _hash_of(transaction: Transaction, name: str) -> Any:
    return transaction.one("SELECT password_hash FROM accounts WHERE name = ?", name)


class AccountTests(APICase):
    """What one does with one's own account."""

    def setUp(self) -> None:
        super().setUp()
        self.token = self.world.token("ann")

    def test_password(self) -> None:
        """It is changed by who knows it, to one that is good enough."""
        other = self.world.sign_in("ann")["access_token"]
        for old, new, status, code in (
            ("kettle orbit 8", "barrel sonnet 9", 401, "bad_credentials"),
            (PASSWORD, "1234567890", 400, "weak_password"),
            (PASSWORD, "barrel sonnet 9", 204, None),
        ):
            answer = self.ask(
                "PUT", "/account/password", {"old": old, "new": new}, token=self.token
            )
            self.assertEqual(answer.status, status)
            if code is not None:
                self.assertEqual(answer["code"], code)
        self.assertEqual(self.ask("GET", "/account", token=other).status, 401)
        self.assertEqual(self.ask("GET", "/account", token=self.token).status, 200)
        self.assertRefused(self.world.sign_in("ann"), 401, "bad_credentials")
        self.assertEqual(self.world.sign_in("ann", "barrel sonnet 9").status, 201)

    def test_close(self) -> None:
        """Closing it takes the password, and no systems."""
        body = {"password": "kettle orbit 8"}
        answer = self.ask("DELETE", "/account", body, token=self.token)
        self.assertRefused(answer, 401, "bad_credentials")
        system = self.world.system_of(self.token)
        body = {"password": PASSWORD}
        answer = self.ask("DELETE", "/account", body, token=self.token)
        self.assertRefused(answer, 409, "owns_systems")
        self.ask("DELETE", f"/systems/{system.id}", token=self.token)
        answer = self.ask("DELETE", "/account", body, token=self.token)
        self.assertEqual(answer.status, 204)
        self.assertRefused(self.world.sign_in("ann"), 401, "bad_credentials")

    def test_guesses_with_a_token(self) -> None:
        """Who stole a token does not try passwords by it as often as he likes."""
        for _ in range(5):
            self.ask("DELETE", "/account", {"password": "x"}, token=self.token)
        answer = self.ask(
            "DELETE", "/account", {"password": PASSWORD}, token=self.token
        )
        self.assertRefused(answer, 429, "locked")

    def test_sessions(self) -> None:
        """One ends one's sessions, and nobody else's."""
        self.world.sign_in("ann", headers={"User-Agent": "browser"})
        listed = self.ask("GET", "/sessions", token=self.token)["sessions"]
        self.assertEqual({s["agent"] for s in listed}, {"browser", ""})
        [other] = [s for s in listed if not s["current"]]
        bob = self.world.token("bob")
        for session in (other["id"], str(uuid.uuid4()), "x"):
            answer = self.ask("DELETE", f"/sessions/{session}", token=bob)
            self.assertRefused(answer, 404, "no_such_session")
        answer = self.ask("DELETE", f"/sessions/{other['id']}", token=self.token)
        self.assertEqual(answer.status, 204)

    def test_without_token(self) -> None:
        """Without a token that counts nobody is anybody."""
        for endpoint in self.world.api.endpoints:
            if endpoint.access is Access.ANYBODY:
                continue
            path = endpoint.path.replace("{id}", str(uuid.uuid4()))
            for headers in (
                {},
                {"Authorization": "Bearer x"},
                {"Authorization": f"Basic {self.token}"},
                {"Authorization": self.token},
                {"Cookie": f"dwcloud={self.token}"},
            ):
                answer = self.ask(endpoint.method, path, headers=headers)
                self.assertRefused(answer, 401, "signed_out")
                self.assertIn("WWW-Authenticate", answer.headers)


class BrowserTests(APICase):
    """Sessions by cookie, and pages of other sites."""

    def setUp(self) -> None:
        super().setUp()
        self.world.register("ann")
        opened = self.world.sign_in("ann", cookie=True)
        self.cookie = opened.headers["Set-Cookie"].partition(";")[0]
        self.csrf = opened["csrf_token"]

    def change(self, method: str = "POST", **headers: str) -> int:
        fields = {"Cookie": self.cookie, "Host": "cloud.example:3345"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.ask(method, "/systems/challenge", headers=fields)
        return answer.status

    def test_csrf(self) -> None:
        """A change needs the session's own token, each time."""
        self.assertEqual(self.change(X_DWCloud_CSRF=self.csrf), 201)
        self.assertEqual(self.change(), 403)
        self.assertEqual(self.change(X_DWCloud_CSRF=""), 403)
        self.assertEqual(self.change(X_DWCloud_CSRF=self.csrf[:-1] + "é"), 403)
        other = self.world.sign_in("ann", cookie=True)["csrf_token"]
        self.assertEqual(self.change(X_DWCloud_CSRF=other), 403)

    def test_origin(self) -> None:
        """Pages of other sites change nothing, whatever the browser sends along."""
        for origin, site, status in (
            ("https://cloud.example:3345", "same-origin", 201),
            ("https://cloud.example:3345", "cross-site", 403),
            ("https://evil.example", "same-origin", 403),
            ("https://cloud.example", "same-origin", 403),
            ("null", "same-origin", 403),
            ("https://[", "none", 403),
        ):
            found = self.change(
                X_DWCloud_CSRF=self.csrf, Origin=origin, Sec_Fetch_Site=site
            )
            self.assertEqual(found, status, (origin, site))

    def test_sign_in_by_another_site(self) -> None:
        """No other site signs anybody in, into an account of its own."""
        answer = self.world.sign_in(
            "ann", cookie=True, headers={"Origin": "https://evil.example"}
        )
        self.assertRefused(answer, 403, "cross_site")

    def test_kinds(self) -> None:
        """A cookie's token is none for the header field, and the other way round."""
        token = self.cookie.partition("=")[2]
        self.assertEqual(self.ask("GET", "/account", token=token).status, 401)
        bearer = self.world.sign_in("ann")["access_token"]
        answer = self.ask(
            "GET", "/account", headers={"Cookie": f"__Host-dwcloud={bearer}"}
        )
        self.assertEqual(answer.status, 401)

    def test_fixation(self) -> None:
        """A sign-in takes no token from the browser, but makes one."""
        answer = self.world.sign_in(
            "ann", cookie=True, headers={"Cookie": "__Host-dwcloud=chosen"}
        )
        self.assertNotIn("chosen", answer.headers["Set-Cookie"])

    def test_reload(self) -> None:
        """A page that is loaded again gets its token again, a command gets none."""
        answer = self.ask("GET", "/account", headers={"Cookie": f"a=b; {self.cookie}"})
        self.assertEqual(answer["csrf_token"], self.csrf)
        bearer = self.world.sign_in("ann")["access_token"]
        answer = self.ask("GET", "/account", token=bearer)
        self.assertNotIn(b"csrf", answer.response.body)


class SystemTests(APICase):
    """Systems over the API."""

    def setUp(self) -> None:
        super().setUp()
        self.ann, self.bob = self.world.token("ann"), self.world.token("bob")
        self.system = self.world.system_of(self.ann)
        self.path = f"/systems/{self.system.id}"

    def test_servers(self) -> None:
        """Servers are shown, online or not, and since when."""
        away, here = uuid.UUID(int=1), uuid.UUID(int=2)
        for server in (away, here):
            self.world.run(note_server, self.system.id, server)
        now = self.world.clock.seconds()
        self.world.presence.servers[self.system.id] = {here: now + 5}
        shown = self.ask("GET", self.path, token=self.ann)["system"]
        self.assertEqual(shown["state"], "online")
        self.assertEqual(
            shown["servers"],
            [
                {"id": str(away), "online": False, "since": now},
                {"id": str(here), "online": True, "since": now + 5},
            ],
        )

    def test_strangers(self) -> None:
        """All paths below a system answer strangers as if it did not exist."""
        key = base64.b64encode(bytes(32)).decode()
        bodies: dict[tuple[str, str], Any] = {
            ("PATCH", "/systems/{id}"): {"name": "x"},
            ("PUT", "/systems/{id}/members/{name}"): {"role": "viewer"},
            ("POST", "/systems/{id}/invitations"): {"role": "viewer"},
            ("POST", "/systems/{id}/grants"): {"client_key": key},
            ("POST", "/systems/{id}/gateway-grants"): {
                "client_key": key,
                "host": f"{self.system.id}.relay.example.org:8443",
                "state": "s" * 43,
            },
            ("POST", "/systems/{id}/tokens"): {"role": "viewer"},
        }
        checked = 0
        for endpoint in self.world.api.endpoints:
            if "{id}" not in endpoint.path or not endpoint.path.startswith("/systems"):
                continue
            answers = []
            for system in (self.system.id, uuid.uuid4(), "nonsense"):
                path = endpoint.path.replace("{id}", str(system))
                answer = self.ask(
                    endpoint.method,
                    path.replace("{name}", "ann"),
                    bodies.get((endpoint.method, endpoint.path)),
                    token=self.bob,
                )
                self.assertRefused(answer, 404, "no_such_system")
                answers.append(answer.response)
            self.assertEqual(answers[0], answers[1])
            self.assertEqual(answers[0], answers[2])
            checked += 1
        self.assertEqual(checked, 15)

    def test_log(self) -> None:
        """Administrators read it, viewers do not."""
        self.world.run(set_member, self._actor(), self.system.id, "bob", Role.VIEWER)
        answer = self.ask("GET", f"{self.path}/log", token=self.bob)
        self.assertRefused(answer, 403, "forbidden")
        answer = self.ask("GET", f"{self.path}/log?limit=1", token=self.ann)
        [entry] = answer["entries"]
        self.assertEqual(entry["detail"], {"name": "bob", "role": "viewer"})
        self.assertEqual(entry["who"], "ann")

    def _actor(self) -> Any:
        from dwcloud.accounts.sessions import BEARER, session_of

        return self.world.run(session_of, self.ann, BEARER, "192.0.2.1")

    def test_grants(self) -> None:
        """A grant is for who has a role, and for none whose role was just taken."""
        key = base64.b64encode(bytes(range(32))).decode()
        answer = self.ask(
            "POST", f"{self.path}/grants", {"client_key": key}, token=self.ann
        )
        self.assertEqual(answer.status, 201)
        self.assertEqual(answer["expires"], self.world.clock.seconds() + 12 * 3600)
        for body in (
            {"client_key": "AAAA"},
            {"client_key": "!"},
            {"client_key": key, "server": "x"},
        ):
            answer = self.ask("POST", f"{self.path}/grants", body, token=self.ann)
            self.assertRefused(answer, 400, "invalid_request")
        account = self.ask("GET", "/account", token=self.ann)["account"]["id"]
        now = self.world.access.now_ms()
        self.world.access.revoke(self.system.id, uuid.UUID(account), now)
        answer = self.ask(
            "POST", f"{self.path}/grants", {"client_key": key}, token=self.ann
        )
        self.assertRefused(answer, 404, "no_such_system")

    def test_revocation_comes_first(self) -> None:
        """Who enforces has heard of a revocation when its answer is sent."""
        self.ask("PUT", f"{self.path}/members/bob", {"role": "viewer"}, token=self.ann)
        before = self.world.access.state(self.system.id)[1]
        answer = self.ask("DELETE", f"{self.path}/members/bob", token=self.ann)
        self.assertEqual(answer.status, 204)
        after = self.world.access.state(self.system.id)[1]
        self.assertEqual(len(after), len(before) + 1)

    def test_settings(self) -> None:
        """What is changed is shown, and enforced."""
        answer = self.ask(
            "PATCH", self.path, {"name": "Shed", "public": True}, token=self.ann
        )
        system = answer["system"]
        self.assertEqual((system["name"], system["public"]), ("shed", True))
        self.assertTrue(self.world.access.state(self.system.id)[0].is_public)
        guid = str(uuid.uuid4())
        answer = self.ask("PATCH", self.path, {"name": guid}, token=self.ann)
        self.assertRefused(answer, 400, "invalid_name")

    def test_roles(self) -> None:
        """There is no role but the three."""
        for role in ("nobody", "OWNER", "", 3):
            answer = self.ask(
                "PUT", f"{self.path}/members/bob", {"role": role}, token=self.ann
            )
            self.assertRefused(answer, 400, "invalid_request")
