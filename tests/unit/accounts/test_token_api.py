"""Tokens for one system, over the API: what they open, and what they do not."""

from __future__ import annotations

import base64
import uuid
from typing import Any

from dwcloud.accounts.api.endpoints import Access, Endpoint
from dwcloud.accounts.sessions import BEARER, session_of
from dwcloud.accounts.system_tokens import revoke_token
from dwcloud.accounts.systems import get_system
from tests.unit.accounts.api_world import APICase


class TokenTests(APICase):
    """Tokens for one system, at each endpoint."""

    def setUp(self) -> None:
        super().setUp()
        self.ann, self.bob = self.world.token("ann"), self.world.token("bob")
        self.garage = self.world.system_of(self.ann)
        self.shed = self.world.system_of(self.ann, "shed")
        self.path = f"/systems/{self.garage.id}"

    def make(self, **body: Any) -> Any:
        """Make a token for the garage."""
        answer = self.ask("POST", f"{self.path}/tokens", body, token=self.ann)
        self.assertEqual(answer.status, 201)
        return answer

    def body_for(self, endpoint: Endpoint) -> Any:
        """A body with which a request would succeed."""
        key = base64.b64encode(bytes(32)).decode()
        return {
            "POST /systems/{id}/grants": {"client_key": key},
            "PATCH /systems/{id}": {"name": "barn"},
        }.get(f"{endpoint.method} {endpoint.path}")

    def test_other_systems(self) -> None:
        """Another system of the same account is as one that does not exist."""
        token = self.make(role="administrator")["access_token"]
        checked = 0
        for endpoint in self.world.api.endpoints:
            if not endpoint.tokens or "{id}" not in endpoint.path:
                continue
            answers = [
                self.ask(
                    endpoint.method,
                    endpoint.path.replace("{id}", str(system)),
                    self.body_for(endpoint),
                    token=token,
                )
                for system in (self.shed.id, uuid.uuid4(), self.garage.id)
            ]
            self.assertRefused(answers[0], 404, "no_such_system")
            self.assertEqual(answers[0].response, answers[1].response)
            self.assertIn(answers[2].status, (200, 201), endpoint.path)
            checked += 1
        self.assertGreater(checked, 4)
        [seen] = self.ask("GET", "/systems", token=token)["systems"]
        self.assertEqual((seen["id"], seen["name"]), (str(self.garage.id), "barn"))
        self.assertEqual(seen["role"], "administrator")

    def test_everything_else(self) -> None:
        """For the account and all that a token is not for, it is no token at all."""
        token = self.make(role="administrator")["access_token"]
        made = self.make()["token"]["id"]
        checked = 0
        for endpoint in self.world.api.endpoints:
            if endpoint.access is Access.ANYBODY or endpoint.tokens:
                continue
            path = endpoint.path.replace("{id}", str(self.garage.id))
            path = path.replace("{name}", "bob").replace("{token}", made)
            answers = [
                self.ask(endpoint.method, path, token=one) for one in (token, "x")
            ]
            self.assertRefused(answers[0], 401, "signed_out")
            self.assertEqual(answers[0].response, answers[1].response)
            checked += 1
        self.assertGreater(checked, 20)

    def test_grant(self) -> None:
        """A grant that it gets ends when it does, and before that if it is revoked."""
        answer = self.make(lifetime=600)
        token, made = answer["access_token"], answer["token"]["id"]
        body = self.body_for(self.endpoint("POST", "/systems/{id}/grants"))
        granted = self.ask("POST", f"{self.path}/grants", body, token=token)
        self.assertEqual(granted["expires"], self.world.clock.seconds() + 600)
        before = self.world.access.state(self.garage.id)[1]
        answer = self.ask("DELETE", f"{self.path}/tokens/{made}", token=self.ann)
        self.assertEqual(answer.status, 204)
        after = self.world.access.state(self.garage.id)[1]
        self.assertEqual(len(after), len(before) + 1)
        answer = self.ask("POST", f"{self.path}/grants", body, token=token)
        self.assertRefused(answer, 401, "signed_out")

    def test_revoked_while_it_is_used(self) -> None:
        """A grant is dated from when its request came, not from after a revocation."""
        answer = self.make()
        token, made = answer["access_token"], answer["token"]["id"]
        found = self.world.run

        def slow(function: Any, *args: Any, **named: Any) -> Any:
            if function is not get_system:
                return found_later(function, *args, **named)
            # The token was looked up; now it is revoked, and time goes by.
            self.world.advance(1)
            actor = found(session_of, self.ann, BEARER, "")
            found(revoke_token, actor, self.garage.id, uuid.UUID(made))
            self.world.advance(1)
            return found_later(function, *args, **named)

        found_later = self.world.store.run
        self.patch(self.world.store, "run", slow)
        body = self.body_for(self.endpoint("POST", "/systems/{id}/grants"))
        answer = self.ask("POST", f"{self.path}/grants", body, token=token)
        self.assertRefused(answer, 404, "no_such_system")

    def endpoint(self, method: str, path: str) -> Endpoint:
        """The endpoint of a path."""
        [found] = [
            e for e in self.world.api.endpoints if (e.method, e.path) == (method, path)
        ]
        return found

    def test_listed(self) -> None:
        """Its owner sees it among the sessions and with its system, others do not."""
        made = self.make(label="night build", role="viewer", lifetime=60)["token"]
        now = self.world.clock.seconds()
        self.assertEqual(made["expires"], now + 60)
        [listed] = self.ask("GET", f"{self.path}/tokens", token=self.ann)["tokens"]
        self.assertEqual(listed, made)
        sessions = self.ask("GET", "/sessions", token=self.ann)["sessions"]
        [found] = [s for s in sessions if s["kind"] == "token"]
        self.assertEqual(
            (found["id"], found["system"], found["role"], found["label"]),
            (made["id"], str(self.garage.id), "viewer", "night build"),
        )
        self.ask("PUT", f"{self.path}/members/bob", {"role": "viewer"}, token=self.ann)
        answer = self.ask("GET", f"{self.path}/tokens", token=self.bob)
        self.assertEqual(answer["tokens"], [])
        for token in (made["id"], str(uuid.uuid4()), "x"):
            answer = self.ask("DELETE", f"{self.path}/tokens/{token}", token=self.bob)
            self.assertRefused(answer, 404, "no_such_token")

    def test_malformed(self) -> None:
        """Owners, long lives and strange labels are refused."""
        for body, part in (
            ({"role": "owner"}, "$.role"),
            ({"lifetime": 59}, "$.lifetime"),
            ({"lifetime": 86401}, "$.lifetime"),
            ({"label": "a\nb"}, "$.label"),
            ({"label": ""}, "$.label"),
        ):
            answer = self.ask("POST", f"{self.path}/tokens", body, token=self.ann)
            self.assertRefused(answer, 400, "invalid_request")
            self.assertIn(part, answer["detail"])

    def test_browser(self) -> None:
        """Nobody gets it in by a cookie."""
        token = self.make()["access_token"]
        headers = {"Cookie": f"__Host-dwcloud={token}"}
        answer = self.ask("GET", self.path, headers=headers)
        self.assertRefused(answer, 401, "signed_out")
