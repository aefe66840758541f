"""``dwcloud system token``, and programs that connect by one, at a real mediator."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from dwcloud.cli.demo_cloud import LOOPBACK
from tests.integration.accounts_case import AccountsTestCase, Machine
from tests.integration.cloud import READY_TIMEOUT

HERE = ("--interface", LOOPBACK, "--no-lan")


class TokenTests(AccountsTestCase):
    """Anna has two systems; a robot gets a token for one of them."""

    async def begin(self) -> None:
        """Have a cloud, both systems, and a machine where nobody signs in."""
        mediator = self.start_accounts_cloud()
        self.anna, self.robot = (Machine(self, n, mediator) for n in ("anna", "robot"))
        await self.anna.register("anna")
        for name in ("garage", "shed"):
            await self.anna.serve(name, "--identity", self.identity(name))

    async def connect(self, system: str, *words: str) -> None:
        """Let the robot send something through the echo of a system."""
        result = await self.robot.run(
            "connect", system, "echo", *words, *HERE, data=b"hello"
        )
        self.assertEqual((result.code, result.out), (0, b"hello"), result.err)

    async def test_life(self) -> None:
        """It connects to its system by each path, and to nothing else."""
        await self.begin()
        file = self.directory / "token"
        made = await self.anna.ok(
            *("system", "token", "create", "garage", "--file", str(file)),
            *("--lifetime", "15m", "--label", "night build"),
        )
        self.assertNotIn("access_token", made)
        self.assertEqual(made["token"]["role"], "viewer")
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        token = ("--token-file", str(file), "--fingerprint", made["fingerprint"])
        for path in ("tcp", "udp", "relay"):
            await self.connect("garage", *token, "--path", path)
        await self.connect(".", *token)
        await self.connect(made["system"]["id"], *token)
        shed = await self.anna.ok("system", "show", "--identity", self.identity("shed"))
        told = await self.robot.refused("connect", "shed", "echo", *token, *HERE)
        self.assertIn("you have no system shed", told)
        # The other system is as one that does not exist, for whoever knows its GUID.
        answers = []
        for guid in (shed["system"], "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"):
            told = await self.robot.refused("connect", guid, "echo", *token, *HERE)
            # What it says before has a number of its own.
            answers.append(told.splitlines()[-1].replace(guid, "GUID"))
        self.assertEqual(*answers)
        # Nothing is kept of the token, or of anybody's session.
        kept = [p.read_text() for p in self.robot.data.rglob("*") if p.is_file()]
        self.assertNotIn(file.read_text().strip(), "".join(kept))
        self.assertEqual([p.name for p in self.robot.data.rglob("cred*")], [])

        [listed] = (await self.anna.ok("system", "token", "list", "garage"))["tokens"]
        self.assertEqual(listed["label"], "night build")
        self.assertIsNotNone(listed["used"])
        await self.anna.ok("system", "token", "revoke", "garage", "night build")
        told = await self.robot.refused("connect", "garage", "echo", *token, *HERE)
        self.assertIn("has expired or was revoked", told)
        # Whoever made it is not concerned.
        result = await self.anna.run("connect", "garage", "echo", *HERE, data=b"hello")
        self.assertEqual((result.code, result.out), (0, b"hello"), result.err)

    def identity(self, name: str) -> str:
        """The directory of a server of Anna's."""
        return str(self.anna.data / name)

    async def test_environment(self) -> None:
        """A token alone on standard output goes into the environment of a program."""
        await self.begin()
        made = await self.anna.run("system", "token", "create", "shed")
        self.assertEqual(made.code, 0, made.err)
        token = made.out.decode().strip()
        self.assertRegex(token, "^[A-Za-z0-9_-]{43}$")
        self.assertIn("viewer of anna/shed until", made.err)
        self.assertNotIn(token, made.err)
        self.environment["DWCLOUD_TOKEN"] = token
        await self.connect("shed")
        check = await self.robot.ok("check", "shed", "--interface", LOOPBACK)
        self.assertEqual(check["peer"]["state"], "connected")
        status = await self.robot.ok("status", "shed", *HERE)
        self.assertTrue(status["peer"]["online"], status)
        self.assertEqual(status["account"], {"account": None, "token": True})
        self.robot.use()
        forward = self.robot.start("forward", "shed", "0:echo", *HERE, "--json")
        line = await forward.wait_for(r'^\{"event": "listening".*', READY_TIMEOUT)
        self.assertIn("address", json.loads(line[0]))
        # The account of a machine where somebody is signed in is not asked.
        self.environment["DWCLOUD_TOKEN_FILE"] = str(Path(self.mktemp()))
        told = await self.anna.refused("connect", "shed", "echo", *HERE)
        self.assertIn("cannot read", told)
