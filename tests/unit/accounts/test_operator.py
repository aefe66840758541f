"""What the operator of a cloud does about accounts."""

from __future__ import annotations

from typing import Any

import pyotp

from dwcloud.accounts.changes import RoleRevoked, SystemUnbound
from tests.unit.accounts.api_world import (
    ADDRESS,
    OPERATOR_KEY,
    PASSWORD,
    Answer,
    APICase,
)


class OperatorTests(APICase):
    """Requests with the operator's key, from the machine itself."""

    def setUp(self) -> None:
        super().setUp()
        self.ann = self.world.token("ann")

    def operate(self, method: str, path: str, body: Any = None, **named: Any) -> Answer:
        named = {"token": OPERATOR_KEY, "address": "127.0.0.1", **named}
        return self.ask(method, f"/operator{path}", body, **named)

    def test_others(self) -> None:
        """Nobody else is the operator, nor is he from elsewhere."""
        for named in (
            {"token": ""},
            {"token": self.ann},
            {"token": OPERATOR_KEY[:-1]},
            {"address": ADDRESS},
            {"headers": {"X-Forwarded-For": "127.0.0.1"}},
            {"token": "", "headers": {"Cookie": f"__Host-dwcloud={OPERATOR_KEY}"}},
        ):
            for endpoint in self.world.api.endpoints:
                if endpoint.path.startswith("/operator"):
                    path = endpoint.path.removeprefix("/operator")
                    path = path.replace("{name}", "ann")
                    answer = self.operate(endpoint.method, path, **named)
                    self.assertRefused(answer, 401, "signed_out")
        self.assertEqual(self.ask("GET", "/account", token=OPERATOR_KEY).status, 401)

    def test_list(self) -> None:
        """Accounts are listed by name, page by page."""
        self.world.system_of(self.ann)
        self.world.register("bob")
        first = self.operate("POST", "/accounts", {})
        now = self.world.clock.seconds()
        self.assertEqual(
            first["accounts"],
            [
                {
                    "name": "ann",
                    "disabled": False,
                    "totp": False,
                    "created": now,
                    "used": now,
                    "systems": 1,
                },
                {
                    "name": "bob",
                    "disabled": False,
                    "totp": False,
                    "created": now,
                    "used": None,
                    "systems": 0,
                },
            ],
        )
        self.assertIs(first["more"], False)
        rest = self.operate("POST", "/accounts", {"after": "Ann"})
        self.assertEqual([a["name"] for a in rest["accounts"]], ["bob"])

    def test_disable(self) -> None:
        """A locked account is out at once, everywhere, and back when unlocked."""
        system = self.world.system_of(self.ann)
        self.world.changes.clear()
        answer = self.operate("PATCH", "/accounts/Ann", {"disabled": True})
        self.assertEqual(answer.status, 204)
        [change] = self.world.changes
        assert isinstance(change, RoleRevoked)
        self.assertEqual(change.system, system.id)
        self.assertEqual(self.ask("GET", "/account", token=self.ann).status, 401)
        self.assertRefused(self.world.sign_in("ann"), 401, "bad_credentials")
        self.operate("PATCH", "/accounts/ann", {"disabled": False})
        self.assertEqual(self.world.sign_in("ann").status, 201)

    def test_reset(self) -> None:
        """Who forgot the password and lost the device gets in by what is told him."""
        secret = self.ask("POST", "/account/totp", token=self.ann)["secret"]
        code = pyotp.TOTP(secret).at(for_time=int(self.world.clock.seconds()))
        self.ask("POST", "/account/totp/confirm", {"code": code}, token=self.ann)
        for _ in range(5):
            self.world.sign_in("ann", "kettle orbit 8")
        body = {"password": "barrel sonnet 9", "totp": False}
        self.assertEqual(self.operate("PATCH", "/accounts/ann", body).status, 204)
        self.assertEqual(self.ask("GET", "/account", token=self.ann).status, 401)
        self.assertRefused(self.world.sign_in("ann"), 401, "bad_credentials")
        self.assertEqual(self.world.sign_in("ann", "barrel sonnet 9").status, 201)
        answer = self.operate("PATCH", "/accounts/ann", {"password": "1234567890"})
        self.assertRefused(answer, 400, "weak_password")
        answer = self.operate("PATCH", "/accounts/ann", {"totp": True})
        self.assertRefused(answer, 400, "invalid_request")

    def test_close(self) -> None:
        """Closing an account unbinds what it owned."""
        system = self.world.system_of(self.ann)
        self.world.register("bob")
        self.assertEqual(self.operate("DELETE", "/accounts/ann").status, 204)
        self.assertIn(SystemUnbound(system.id), self.world.changes)
        self.assertFalse(self.world.access.is_bound(system.id))
        self.assertRefused(self.world.sign_in("ann"), 401, "bad_credentials")
        self.assertEqual(self.world.sign_in("bob").status, 201)

    def test_unknown(self) -> None:
        """An account that is not there is told."""
        for method, body in (
            ("PATCH", {"disabled": True}),
            ("PATCH", {"password": PASSWORD}),
            ("PATCH", {"totp": False}),
            ("DELETE", None),
        ):
            answer = self.operate(method, "/accounts/nobody", body)
            self.assertRefused(answer, 404, "no_such_account")

    def test_invitation(self) -> None:
        """An invitation to register is one to nothing else."""
        code = self.operate("POST", "/invitations")["code"]
        answer = self.ask("POST", "/invitations/accept", {"code": code}, token=self.ann)
        self.assertRefused(answer, 404, "no_such_invitation")

    def test_log(self) -> None:
        """What the operator did is in the log of the account."""
        self.operate("PATCH", "/accounts/ann", {"password": "barrel sonnet 9"})
        token = self.world.sign_in("ann", "barrel sonnet 9")["access_token"]
        log = self.ask("GET", "/account/log", token=token)["entries"]
        self.assertEqual(
            [(e["action"], e["who"]) for e in log[:2]],
            [("session.opened", "ann"), ("password.reset", "(operator)")],
        )
