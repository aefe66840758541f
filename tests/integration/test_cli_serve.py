"""``dwcloud serve``, ``system`` and ``status`` as real programs."""

from __future__ import annotations

import json
import uuid

from dwcloud.cli.demo_cloud import LOOPBACK, free_port
from dwcloud.net.identity import ServerIdentity
from tests.integration.cloud import DWCLOUD, READY_TIMEOUT, CloudTestCase


class ServeTests(CloudTestCase):
    """A server that a person or a program watches."""

    async def test_for_a_person(self) -> None:
        """The peer name and the command for the other machine are printed."""
        mediator = self.start_mediator()
        child = self.start_dwcloud("serve", "web=127.0.0.1:80", "--mediator", mediator)
        line = await child.wait_for(r"^peer name: (\S+)$", READY_TIMEOUT)
        default = self.directory / "data" / "dwcloud" / "identity"
        self.assertEqual(line[1], str(ServerIdentity.load(default).name))
        await child.wait_for(
            rf"^  dwcloud forward {line[1]} 8080:web --mediator {mediator}$",
            READY_TIMEOUT,
        )
        await child.wait_for("^dwcloud serve: online; relays: none", READY_TIMEOUT)

    async def test_same_name_again(self) -> None:
        """The identity of the first start is used by the second."""
        mediator = self.start_mediator()
        first, child = await self.serve(mediator, "web=127.0.0.1:80")
        await child.stop()
        self.assertEqual(child.exit_code, 0)
        second, _ = await self.serve(mediator, "web=127.0.0.1:80")
        self.assertEqual(first, second)

    async def test_online_event(self) -> None:
        """The event has the names and the relays."""
        mediator = self.start_cloud()
        peer, child = await self.serve(mediator, "web=127.0.0.1:80")
        line = await child.wait_for(r'^\{"event": "online".*', READY_TIMEOUT)
        event = json.loads(line[0])
        self.assertEqual(f"{event['server']}.{event['system']}", peer)
        self.assertEqual(event["peer"], peer)
        (relay,) = event["relays"]
        self.assertTrue(relay.startswith(f"http://{LOOPBACK}:"))

    async def test_no_mediator_there(self) -> None:
        """It tells what is wrong, and keeps trying."""
        child = self.start_dwcloud(
            "serve", "web=127.0.0.1:80", "--mediator", f"{LOOPBACK}:{free_port()}"
        )
        await child.wait_for(
            "^dwcloud serve: offline: registering at the mediator failed: .*; trying",
            READY_TIMEOUT,
        )
        child.check()


class SystemTests(CloudTestCase):
    """Identities made and shown."""

    async def test_create_and_show(self) -> None:
        """What was made is shown."""
        made = await self.run_dwcloud("system", "create", "--json")
        self.assertEqual((made.code, made.err), (0, ""))
        shown = await self.run_dwcloud("system", "show", "--json")
        self.assertEqual(shown.out, made.out)
        identity = json.loads(made.out)
        self.assertEqual(identity["peer"], f"{identity['server']}.{identity['system']}")
        self.assertTrue(identity["system_key"])

    async def test_create_twice(self) -> None:
        """An identity is not overwritten."""
        await self.run_dwcloud("system", "create")
        again = await self.run_dwcloud("system", "create")
        self.assertEqual(again.code, 1)
        self.assertIn("holds an identity already", again.err)

    async def test_add_server(self) -> None:
        """A further server is of the same system and cannot add others."""
        first = json.loads((await self.run_dwcloud("system", "create", "--json")).out)
        result = await self.run_dwcloud("system", "add-server", "second", "--json")
        self.assertEqual((result.code, result.err), (0, ""))
        second = json.loads(result.out)
        self.assertEqual(second["system"], first["system"])
        self.assertNotEqual(second["server"], first["server"])
        self.assertFalse(second["system_key"])

    async def test_second_server(self) -> None:
        """Both servers of a system work under their own names."""
        await self.run_dwcloud("system", "create", "--identity", "identity")
        await self.run_dwcloud("system", "add-server", "second", "-i", "identity")
        mediator = self.start_mediator()
        echo = f"echo={LOOPBACK}:{self.start_echo()}"
        for identity in ("identity", "second"):
            peer, _ = await self.serve(mediator, echo, identity=identity)
            result = await self.run_dwcloud(
                "connect", peer, "--mediator", mediator, "--path", "tcp", data=b"hello"
            )
            self.assertEqual((result.code, result.out), (0, b"hello"), result.err)


class StatusTests(CloudTestCase):
    """What can be reached."""

    async def test_everything(self) -> None:
        """Mediator, identity and the LAN are as they are."""
        mediator = self.start_mediator()
        peer, _ = await self.serve(mediator, "web=127.0.0.1:80")
        result = await self.run_dwcloud(
            "status",
            "--mediator",
            mediator,
            "--identity",
            "identity",
            "--interface",
            LOOPBACK,
            "--json",
        )
        self.assertEqual((result.code, result.err), (0, ""))
        status = json.loads(result.out)
        self.assertEqual(status["mediator"], mediator)
        for transport in ("udp", "tcp"):
            self.assertTrue(status[transport]["reachable"])
            self.assertTrue(
                status[transport]["reflexive_address"].startswith(f"{LOOPBACK}:")
            )
            self.assertGreater(status[transport]["round_trip_ms"], 0)
        self.assertEqual(status["identity"]["peer"], peer)
        self.assertIn(peer, [each["peer"] for each in status["lan"]["servers"]])

    async def test_peer(self) -> None:
        """A server is online until it stops."""
        mediator = self.start_mediator()
        peer, child = await self.serve(mediator, "web=127.0.0.1:80")
        words = ["status", peer, "--mediator", mediator, "--interface", LOOPBACK]
        result = await self.run_dwcloud(*words, "--json")
        self.assertEqual((result.code, result.err), (0, ""))
        status = json.loads(result.out)["peer"]
        self.assertTrue(status["online"])
        self.assertEqual(status["server"], peer)
        for transport in ("tcp_endpoints", "udp_endpoints"):
            self.assertTrue(status[transport][0].startswith(f"{LOOPBACK}:"))
        await child.stop()
        result = await self.run_dwcloud(*words)
        self.assertEqual(result.code, 1)
        self.assertIn("start 'dwcloud serve' on the server", result.out.decode())

    async def test_results_as_they_come(self) -> None:
        """Each part is seen at once, each failure one time and with what to do."""
        peer = f"{uuid.uuid4()}.{uuid.uuid4()}"
        mediator = f"{LOOPBACK}:{free_port()}"
        words = ["status", peer, "--mediator", mediator, "--interface", LOOPBACK]
        program = self.start_program([*DWCLOUD, *words])
        await program.out_has(b"identity  ")
        await program.out_has(b"lan       ")
        # UDP is waited for.
        self.assertFalse(program.finished.called)
        result = await program.finished
        self.assertEqual((result.code, result.err), (1, ""))
        text = result.out.decode()
        for expected in ("udp       no answer: ", "tcp       no answer: "):
            self.assertIn(expected, text)
        self.assertIn("check --mediator", text)
        self.assertIn("'dwcloud serve' makes one on first use", text)
        lines = text.splitlines()
        names = [line.split()[0] for line in lines]
        self.assertEqual(len(names), len(set(names)), lines)
        self.assertLessEqual({"mediator", "identity", "udp", "tcp"}, {*names})
        self.assertEqual(
            lines[-1], "peer      not asked for, as the mediator does not answer"
        )
