"""``dwcloud account`` and ``dwcloud system`` at a real mediator with accounts."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import sys

import pyotp
from twisted.internet.protocol import Factory, Protocol

from dwcloud.cli.demo_cloud import LOOPBACK, free_ports
from tests.integration.accounts_case import PASSWORD, AccountsTestCase, Machine
from tests.integration.cloud import READY_TIMEOUT

SECRET = f"{PASSWORD}\n".encode()
ASK = """
import sys
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import react

class Asking(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello")
    def dataReceived(self, data):
        sys.stdout.buffer.write(data)
        self.transport.loseConnection()
    def connectionLost(self, reason):
        over.callback(None)

over = Deferred()

def main(reactor):
    connecting = connectProtocol(clientFromString(reactor, sys.argv[1]), Asking())
    return connecting.addCallback(lambda _: over)

react(main)
"""
TWISTD = "from twisted.scripts.twistd import run; run()"


class AccountTests(AccountsTestCase):
    """One person, one account."""

    def setUp(self) -> None:
        """Have a cloud, and a machine that knows where it is."""
        super().setUp()
        self.mediator = self.start_accounts_cloud()
        self.home = Machine(self, "home", self.mediator)

    async def test_life(self) -> None:
        """Register, sign out and in, change the password."""
        made = await self.home.ok(
            "account", "register", "Anna", "--password-file", "-", data=SECRET
        )
        self.assertEqual((made["account"], made["place"]), ("anna", "file"))
        file = self.home.data / "dwcloud" / "credentials.json"
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        listed = await self.home.ok("account", "list")
        self.assertEqual(listed["clouds"][0]["cloud"], self.mediator)

        out = await self.home.ok("account", "logout")
        self.assertTrue(out["ended_there"])
        self.assertIn("not signed in to", await self.home.refused("system", "list"))
        login = ("account", "login", "anna", "--password-file", "-")
        self.assertIn(
            "password", await self.home.refused(*login, data=b"not the password\n")
        )
        await self.home.ok(*login, data=SECRET)

        new = b"lantern gravel 9"
        both = SECRET + new + b"\n"
        change = ("account", "password", "--password-file", "-")
        await self.home.ok(*change, data=both)
        other = Machine(self, "other", self.mediator)
        await other.refused(*login, data=SECRET)
        await other.ok(*login, data=new + b"\n")

    async def test_password_change_ends_other_sessions(self) -> None:
        """Whoever had the old password is out, and is told what to do."""
        await self.home.register("anna")
        other = Machine(self, "other", self.mediator)
        login = ("account", "login", "anna", "--password-file", "-")
        await other.ok(*login, data=SECRET)
        both = SECRET + b"lantern gravel 9\n"
        await self.home.ok("account", "password", "--password-file", "-", data=both)
        await self.home.ok("system", "list")
        told = await other.refused("system", "list")
        self.assertIn(
            f"sign in again: dwcloud account login --mediator {self.mediator}", told
        )

    async def test_second_factor(self) -> None:
        """Shown as URI and picture, confirmed, asked for, and removed."""
        await self.home.register("anna")
        shown = await self.home.run("account", "totp")
        self.assertEqual(shown.code, 0, shown.err)
        text = shown.out.decode()
        self.assertGreater(text.count("\u2588") + text.count("\u2580"), 50)
        match = re.search(r"otpauth://totp/\S+", text)
        assert match is not None
        factor = pyotp.parse_uri(match[0])
        assert isinstance(factor, pyotp.TOTP)
        self.assertIn("--code CODE", shown.err)
        done = await self.home.ok("account", "totp", "--code", factor.now())
        codes = done["recovery_codes"]

        other = Machine(self, "other", self.mediator)
        login = ("account", "login", "anna", "--password-file", "-")
        self.assertIn("--totp CODE", await other.refused(*login, data=SECRET))
        await other.ok(*login, "--totp", codes[0], data=SECRET)
        remove = ("account", "totp", "--remove", "--password-file", "-")
        await other.ok(*remove, "--code", codes[1], data=SECRET)
        await other.ok(*login, data=SECRET)

    async def test_terminal(self) -> None:
        """Everything is asked for, and no password is seen."""
        register = self.home.talk(
            "account",
            "register",
            answers=[
                (b"Name of the new account: ", b"anna"),
                (b"Is that the right one? [yes/no] ", b"yes"),
                (b"Password: ", PASSWORD.encode()),
                (b"Once more: ", PASSWORD.encode()),
            ],
        )
        result = await register.finished
        self.assertEqual((result.code, register.unasked), (0, []), result.out)
        self.assertIn(b"signed in to", result.out)
        self.assertNotIn(PASSWORD.encode(), result.out)
        fingerprint = re.search(rb"SHA256:[A-Za-z0-9+/]{43}", result.out)
        assert fingerprint is not None
        known = (self.home.data / "dwcloud" / "known_clouds.json").read_text()
        self.assertIn(fingerprint[0].decode(), known)

    async def test_mistyped_password(self) -> None:
        """At a terminal it may be typed again."""
        await self.home.register("anna")
        login = self.home.talk(
            "account",
            "login",
            "anna",
            answers=[(b"Password: ", b"wrong"), (b"Password: ", PASSWORD.encode())],
        )
        result = await login.finished
        self.assertEqual((result.code, login.unasked), (0, []), result.out)

    async def test_expected_key(self) -> None:
        """A fingerprint that is not the cloud's sends nothing."""
        words = ("account", "register", "anna", "--password-file", "-")
        told = await self.home.refused(
            *words, "--fingerprint", f"SHA256:{'A' * 43}", data=SECRET
        )
        self.assertIn("not the expected", told)
        await self.home.ok(*words, data=SECRET)

    async def test_no_accounts(self) -> None:
        """A mediator without accounts is told from one that refuses."""
        plain = Machine(self, "plain", self.start_mediator())
        words = ("account", "register", "anna", "--password-file", "-")
        told = await plain.refused(*words, data=SECRET)
        self.assertIn("twistd mediator --accounts DIR", told)


class SystemTests(AccountsTestCase):
    """Systems and those who may use them."""

    async def test_life(self) -> None:
        """Create, share, rename, use, unshare, unbind; with two people."""
        mediator = self.start_accounts_cloud()
        anna, bert = (Machine(self, name, mediator) for name in ("anna", "bert"))
        await anna.register("anna")
        await bert.register("bert")

        made = await anna.ok("system", "create", "Garage")
        self.assertEqual((made["cloud"], made["name"]), (mediator, "garage"))
        (system,) = (await anna.ok("system", "list"))["systems"]
        self.assertEqual(
            (system["id"], system["name"], system["role"], system["state"]),
            (made["system"], "garage", "owner", "offline"),
        )
        again = await anna.ok("system", "bind", "other")
        self.assertEqual(again["system"]["name"], "garage")

        self.assertIn(
            "you have no system", await bert.refused("system", "use", "garage")
        )
        await anna.ok("system", "share", "garage")
        (open_,) = (await anna.ok("system", "invitation", "list", "garage"))[
            "invitations"
        ]
        self.assertEqual((open_["role"], open_["inviter"]), ("viewer", "anna"))
        withdrawal = ("system", "invitation", "withdraw", "garage", open_["id"][:8])
        await anna.ok(*withdrawal)
        self.assertIn("no open invitation", await anna.refused(*withdrawal))
        invited = await anna.ok("system", "share", "garage")
        accepted = await bert.ok("system", "accept", invited["code"])
        self.assertEqual(accepted["system"]["role"], "viewer")
        await bert.refused("system", "accept", invited["code"])
        await anna.ok("system", "share", "garage", "bert", "--role", "administrator")
        members = (await bert.ok("system", "members", "anna/garage"))["members"]
        self.assertEqual(
            {each["account"]: each["role"] for each in members},
            {"anna": "owner", "bert": "administrator"},
        )
        await bert.ok("system", "rename", "garage", "cellar")
        await bert.ok("system", "use", "cellar")
        listed = await bert.run("system", "list")
        row = next(
            line for line in listed.out.decode().splitlines() if "cellar" in line
        )
        self.assertEqual(
            row.split(), ["*", "cellar", "anna", "administrator", "offline", "0/0"]
        )
        # What 'serve' prints is right again where the name is changed at the server.
        await anna.ok("system", "rename", "cellar", "vault")
        self.assertEqual((await anna.ok("system", "show"))["name"], "vault")
        await anna.ok("system", "rename", "vault", "cellar")
        public = await anna.ok("system", "share", "cellar", "--public")
        self.assertTrue(public["system"]["public"])
        closed = await anna.ok("system", "unshare", "cellar", "--public")
        self.assertFalse(closed["system"]["public"])

        await anna.ok("system", "unshare", "cellar", "bert")
        self.assertEqual((await bert.ok("system", "list"))["systems"], [])
        self.assertIn("--yes", await anna.refused("system", "unbind", "cellar"))
        gone = await anna.ok("system", "unbind", "cellar", "--yes")
        self.assertTrue(gone["forgotten_here"])
        shown = await anna.ok("system", "show")
        self.assertIsNone(shown["cloud"])
        self.assertEqual((await anna.ok("system", "list"))["systems"], [])

    async def test_of_somebody_else(self) -> None:
        """A system that is bound cannot be bound to another account."""
        mediator = self.start_accounts_cloud()
        anna, bert = (Machine(self, name, mediator) for name in ("anna", "bert"))
        await anna.register("anna")
        await bert.register("bert")
        await anna.ok("system", "create", "garage")
        identity = str(anna.data / "dwcloud" / "identity")
        told = await bert.refused("system", "bind", "mine", "--identity", identity)
        self.assertIn("binding system", told)

    async def test_further_server(self) -> None:
        """A server that is added belongs to the cloud of its system."""
        mediator = self.start_accounts_cloud()
        anna = Machine(self, "anna", mediator)
        await anna.register("anna")
        await anna.ok("system", "create", "garage")
        second = self.directory / "second"
        made = await anna.ok("system", "add-server", str(second))
        self.assertEqual((made["cloud"], made["name"]), (mediator, "garage"))
        self.assertEqual(
            json.loads((second / "cloud.json").read_text())["mediator"], mediator
        )


class ConnectingTests(AccountsTestCase):
    """Names in place of GUIDs."""

    async def test_paths(self) -> None:
        """Who has a role connects by every path, with the name alone."""
        mediator = self.start_accounts_cloud()
        anna, bert = (Machine(self, name, mediator) for name in ("anna", "bert"))
        await anna.register("anna")
        await anna.serve("garage")
        await bert.register("bert")
        self.assertIn("you have no system", await bert.refused("connect", "garage"))
        await anna.ok("system", "share", "garage", "bert")
        await bert.ok("system", "use", "garage")
        for path, words in (
            ("udp", ("connect", "garage")),
            ("tcp", ("connect", "anna/garage", "echo")),
            ("relay", ("connect", ".", "echo")),
            ("lan", ("connect",)),
        ):
            result = await bert.run(
                *words,
                *("--path", path, "--interface", LOOPBACK, "--json"),
                data=b"hello",
            )
            self.assertEqual((result.code, result.out), (0, b"hello"), result.err)
            self.assertEqual(result.events[0]["path"], path)

        # The server, which was bound a moment ago, looks by itself: on the LAN nobody
        # else does.
        guid = (await anna.ok("system", "show"))["system"]
        lan = ("--path", "lan", "--interface", LOOPBACK)
        stranger = Machine(self, "stranger", mediator)
        told = await stranger.refused("connect", guid, *lan)
        self.assertIn("this server admits only who has access", told)

        await anna.ok("system", "unshare", "garage", "bert")
        told = await bert.refused("connect", ".", "echo", *lan)
        self.assertIn("the access was taken away", told)
        for path in ("udp", "tcp", "relay"):
            told = await bert.refused("connect", ".", "echo", "--path", path)
            self.assertIn("asking the mediator failed", told)

    async def test_other_commands(self) -> None:
        """Ports, examinations and endpoint strings know names and grants, too."""
        mediator = self.start_accounts_cloud()
        anna = Machine(self, "anna", mediator)
        await anna.register("anna")
        await anna.serve("garage")
        # Signed in, nobody has to name the mediator.
        anna.mediator = ""
        status = await anna.ok("status", "garage", "--no-lan")
        self.assertTrue(status["peer"]["online"], status)
        self.assertEqual(status["account"]["account"], "anna")
        self.assertEqual(status["identity"]["name"], "garage")
        check = await anna.ok("check", "anna/garage", "--interface", LOOPBACK)
        self.assertEqual(check["peer"]["state"], "connected")

        anna.use()
        forward = anna.start(
            "forward", "garage", "0:echo", "--interface", LOOPBACK, "--json"
        )
        line = await forward.wait_for(r'^\{"event": "listening".*', READY_TIMEOUT)
        port = int(json.loads(line[0])["address"].rpartition(":")[2])
        self.assertEqual(await self.echo(anna, f"tcp:{LOOPBACK}:{port}"), b"hello")
        options = f"interface={LOOPBACK}:lan=no"
        by_name = f"dwcloud:garage:{options}"
        self.assertEqual(await self.echo(anna, by_name), b"hello")
        guid = (await anna.ok("system", "show"))["system"]
        colon = mediator.replace(":", "\\:")
        by_guid = f"dwcloud:{guid}:mediator={colon}:{options}"
        self.assertEqual(await self.echo(anna, by_guid), b"hello")

        stranger = Machine(self, "stranger", mediator)
        stranger.use()
        told = await stranger.refused("connect", guid, "--no-lan")
        self.assertIn("asking the mediator failed", told)

    async def echo(self, machine: Machine, endpoint: str) -> bytes:
        """What a service sends back to a program that knows endpoint strings."""
        machine.use()
        program = [sys.executable, "-c", ASK, endpoint]
        result = await self.start_program(program).finished
        self.assertEqual(result.code, 0, result.err)
        return result.out

    async def test_unbound(self) -> None:
        """A system that nobody owns is told what mends that."""
        machine = Machine(self, "anna", self.start_accounts_cloud())
        child = machine.start("serve", f"echo={LOOPBACK}:9", "--interface", LOOPBACK)
        await child.wait_for(r".*dwcloud system bind.*", READY_TIMEOUT)


class Greeter(Protocol):
    """Speaks first."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"good day from garage\n")


class QuickStartTests(AccountsTestCase):
    """From nothing to a service that is reached, by three commands."""

    async def test_three_commands(self) -> None:
        """One on each machine, as the README has them but for the ports."""
        port, relay = free_ports(2)
        service = self.listen(Factory.forProtocol(Greeter))
        mediator = f"{LOOPBACK}:{port}"
        twistd = shlex.join([sys.executable, "-c", TWISTD])
        cloud = (
            f"{twistd} --pidfile=mediator.pid --logfile=mediator.log mediator "
            f"--accounts cloud --listen tcp:{port}:interface={LOOPBACK} "
            f"--udp {port}:interface={LOOPBACK} --relay http://{LOOPBACK}:{relay} && "
            f"{twistd} --pidfile=relay.pid --logfile=relay.log relay "
            f"--cloud-key cloud/cloud.pub --listen tcp:{relay}:interface={LOOPBACK}"
        )
        started = await self.start_program(["/bin/sh", "-c", cloud]).finished
        self.addCleanup(self.stop_services)
        self.assertEqual(started.code, 0, started.err)

        serve = Machine(self, "b").talk(
            *("serve", f"hello={LOOPBACK}:{service}", "--mediator", mediator),
            *("--name", "garage", "--interface", LOOPBACK),
            answers=[
                (b"Is that the right one? [yes/no] ", b"yes"),
                (b"Do you have an account there? [yes/no] ", b"no"),
                (b"Name of the new account: ", b"anna"),
                (b"Password: ", PASSWORD.encode()),
                (b"Once more: ", PASSWORD.encode()),
            ],
        )
        await serve.out_has(b"dwcloud forward garage")
        self.assertEqual(serve.unasked, [])
        # Who offers no online event at a terminal says so in words.
        await serve.out_has(b"online")

        connect = Machine(self, "c").talk(
            *("connect", "garage", "--mediator", mediator, "--interface", LOOPBACK),
            answers=[
                (b"Is that the right one? [yes/no] ", b"yes"),
                (b"Do you have an account there? [yes/no] ", b"yes"),
                (b"Account: ", b"anna"),
                (b"Password: ", PASSWORD.encode()),
            ],
        )
        # The service speaks first; what is typed might be seen without having gone.
        await connect.out_has(b"good day from garage")
        self.assertEqual(connect.unasked, [])

    def stop_services(self) -> None:
        """End both."""
        for name in ("mediator", "relay"):
            file = self.directory / f"{name}.pid"
            if file.exists():
                os.kill(int(file.read_text()), signal.SIGTERM)
