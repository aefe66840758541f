"""Connecting by a token for one system."""

from __future__ import annotations

import base64
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.errors import (
    APIRefused,
    ConfigurationError,
    NotSignedIn,
    SystemUnknown,
)
from dwcloud.interfaces import IGrantSource
from dwcloud.net.signing import verify
from dwcloud.peer.cloud_account import CloudAccount, account_at
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.system_names import IN_USE, SystemReference
from dwcloud.peer.system_token import (
    TokenAccount,
    read_token_file,
    token_of_environment,
)
from dwcloud.protocol.names import PeerName
from tests.unit.peer.api_world import APITestCase, Asked, problem
from tests.unit.peer.test_cloud_account import GARAGE, GRANTS, GUID, PEER, SYSTEM

TOKEN = "t" * 43


class TokenAccountTests(APITestCase):
    """What a token lets in."""

    def setUp(self) -> None:
        """Have a cloud that knows the token, and a program that has it."""
        super().setUp()
        self.cloud.answers["GET /systems"] = (200, {"systems": [SYSTEM]})
        self.cloud.answers[GRANTS] = self.grant
        self.lifetime = 600.0
        self.account = TokenAccount(self.client.reactor, self.api(), TOKEN)
        verifyObject(IGrantSource, self.account)

    def grant(self, asked: Asked) -> Any:
        """Grant what can be told from the grant before."""
        number = sum(each.path == asked.path for each in self.cloud.asked)
        octets = base64.b64encode(b"grant %d" % number).decode()
        return 201, {
            "grant": octets,
            "expires": self.client.reactor.seconds() + self.lifetime,
        }

    def ask(self, peer: PeerName = PEER, renew: bool = False) -> Any:
        """Ask for a grant."""
        return self.world.run_until(self.account.grant_for(peer, renew))

    def test_grant(self) -> None:
        """It gets a grant for a key of the process, and uses it as long as it can."""
        grant = self.ask()
        self.assertEqual(grant.encoded, b"grant 1")
        self.assertEqual(self.ask().encoded, b"grant 1")
        asked = self.cloud.asked[-1]
        self.assertEqual(asked.token, TOKEN)
        key = base64.b64decode(asked.value["client_key"])
        self.assertTrue(verify(key, grant.sign(b"text"), b"text"))
        self.assertEqual(self.ask(renew=True).encoded, b"grant 2")
        self.world.advance(597)
        self.assertEqual(self.ask().encoded, b"grant 3")

    def test_other_system(self) -> None:
        """A system that is not the token's may be public all the same."""
        other = PeerName.parse(GUID.replace("0190", "0191"))
        path = f"POST /systems/{other.system}/grants"
        self.cloud.answers[path] = problem(404, "no_such_system")
        self.assertIsNone(self.ask(other))

    def test_worthless(self) -> None:
        """One that has ended is told as such, and what to do."""
        for path in (GRANTS, "GET /systems"):
            self.cloud.answers[path] = problem(401, "signed_out")
        error = self.assertRaises(NotSignedIn, self.ask)
        self.assertIn("dwcloud system token create", str(error))
        self.refused(NotSignedIn, self.account.resolve(GARAGE))

    def test_trouble(self) -> None:
        """Other refusals are told as they are."""
        self.cloud.answers[GRANTS] = problem(503, "unavailable", "Later.")
        error = self.assertRaises(APIRefused, self.ask)
        self.assertEqual(str(error), "Later.")

    def test_names(self) -> None:
        """Its system has a name, and is the one that is meant; there is no other."""
        for reference in (GARAGE, IN_USE, SystemReference.parse("anna/garage")):
            self.assertEqual(self.do(self.account.resolve(reference)), PEER)
        shed = SystemReference.parse("shed")
        error = self.refused(SystemUnknown, self.account.resolve(shed))
        self.assertIn("anna/garage", str(error))
        self.cloud.answers["GET /systems"] = (200, {"systems": []})
        self.refused(SystemUnknown, self.account.resolve(IN_USE))


class ReadingTests(APITestCase):
    """Where tokens come from."""

    def test_file(self) -> None:
        """A file has one, with or without the end of its line."""
        file = self.directory / "token"
        for text in (TOKEN, f"{TOKEN}\n"):
            file.write_text(text)
            self.assertEqual(read_token_file(str(file)), TOKEN)
        for data in (b"", b"secret", f"{TOKEN}\n{TOKEN}".encode(), b"\xff" * 43):
            file.write_bytes(data)
            error = self.assertRaises(ConfigurationError, read_token_file, str(file))
            self.assertIn("dwcloud system token create", str(error))
            self.assertNotIn("secret", str(error))
        file.unlink()
        error = self.assertRaises(ConfigurationError, read_token_file, str(file))
        self.assertIn(f"cannot read {file}: No such file", str(error))

    def test_environment(self) -> None:
        """It names a file, or holds the token; the file goes first."""
        file = self.directory / "token"
        file.write_text("f" * 43)
        named = {"DWCLOUD_TOKEN_FILE": str(file)}
        self.assertEqual(token_of_environment({"DWCLOUD_TOKEN": TOKEN}), TOKEN)
        self.assertEqual(token_of_environment(named), "f" * 43)
        both = {**named, "DWCLOUD_TOKEN": TOKEN}
        self.assertEqual(token_of_environment(both), "f" * 43)
        for nothing in ({}, {"DWCLOUD_TOKEN": "", "DWCLOUD_TOKEN_FILE": ""}):
            self.assertIsNone(token_of_environment(nothing))
        wrong = {"DWCLOUD_TOKEN": "hunter2"}
        error = self.assertRaises(ConfigurationError, token_of_environment, wrong)
        self.assertNotIn("hunter2", str(error))

    def test_programs(self) -> None:
        """Programs that use endpoint strings take that of the environment."""
        mediator = MediatorAddress.parse("cloud.example.org")
        for token, kind in ((TOKEN, TokenAccount), (None, CloudAccount)):
            named = {} if token is None else {"DWCLOUD_TOKEN": token}
            self.patch(os, "environ", {"HOME": str(self.directory), **named})
            account = account_at(self.client.reactor, mediator)
            self.assertIsInstance(account, kind)
            account.close()


class AnyTextTests(SynchronousTestCase):
    """Whatever the environment holds."""

    @given(st.text())
    def test_any(self, text: str) -> None:
        """It is a token, nothing, or an error in words."""
        try:
            token = token_of_environment({"DWCLOUD_TOKEN": text})
        except ConfigurationError as e:
            self.assertTrue(str(e))
        else:
            self.assertIn(token, (None, text.strip()))
