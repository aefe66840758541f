"""``dwcloud trace`` with the logs of four real programs."""

from __future__ import annotations

import json
import re
import shlex
import uuid
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from dwcloud.cli.demo_cloud import LOOPBACK, free_ports
from tests.integration.cloud import DWCLOUD, READY_TIMEOUT, CloudTestCase

TWISTD = [DWCLOUD[0], "-c", "from twisted.scripts.twistd import run; run()"]
NAMES = ("client", "server", "mediator", "relay")


class TraceTests(CloudTestCase):
    """Programs log into files; what they say of one connection is put together."""

    def log(self, name: str) -> Path:
        """The log of a program."""
        return self.directory / f"{name}.log"

    async def log_has(self, name: str, pattern: str) -> re.Match[str]:
        """Wait until something is in a log."""
        for _ in range(int(READY_TIMEOUT / 0.1)):
            path = self.log(name)
            text = path.read_text() if path.exists() else ""
            if found := re.search(pattern, text):
                return found
            await deferLater(self.reactor, 0.1)
        raise AssertionError(f"no {pattern!r} in the log of {name}")

    async def start_service_process(self, name: str, *words: str) -> None:
        """Start a service of twistd that logs into a file."""
        command = [*TWISTD, "--nodaemon", "--pidfile=", f"--logfile={self.log(name)}"]
        self.start_child([*command, name, *words], name)
        await self.log_has(name, r"listen(s|ing) on|worker 1 is process")

    async def start_four(self, log_format: str | None = None, *relay: str) -> list[str]:
        """Start mediator, relay and server; return the words for a client."""
        form = [] if log_format is None else ["--log-format", log_format]
        ours = ["--verbose", "--log-format", log_format or "text"]
        port, relay_port = free_ports(2)
        await self.start_service_process(
            "relay", "--listen", f"tcp:{relay_port}:interface={LOOPBACK}", *relay, *form
        )
        await self.start_service_process(
            "mediator",
            *("--listen", f"tcp:{port}:interface={LOOPBACK}"),
            *("--udp", f"{port}:interface={LOOPBACK}"),
            *("--relay", f"http://{LOOPBACK}:{relay_port}", *form),
        )
        mediator = f"{LOOPBACK}:{port}"
        echo = f"echo={LOOPBACK}:{self.start_echo()}"
        identity = str(self.directory / "identity")
        command = [*DWCLOUD, "serve", echo, "--mediator", mediator, *ours]
        command += ["--identity", identity, "--interface", LOOPBACK, "--json"]
        log = shlex.quote(str(self.log("server")))
        server = self.start_child(
            ["/bin/sh", "-c", f"exec {shlex.join(command)} 2> {log}"], "server"
        )
        line = await server.wait_for(r'^\{"event": "online".*', READY_TIMEOUT)
        await server.wait_for(r'"state": "listening"', READY_TIMEOUT)
        peer = json.loads(line[0])["peer"]
        return [peer, "--mediator", mediator, "--interface", LOOPBACK, *ours]

    async def connect(self, *words: str) -> tuple[int | None, str]:
        """Connect with the log in a file; return the exit code and what was logged."""
        result = await self.run_dwcloud("connect", *words, data=b"hello")
        self.log("client").write_text(result.err)
        return result.code, result.err

    def session(self) -> str:
        """The id of the connection, as the client's log has it."""
        found = re.search(r"session ([0-9a-f-]{36}): ", self.log("client").read_text())
        assert found is not None
        return found[1]

    async def trace(self, session: str, code: int) -> dict[str, Any]:
        """Put the logs together."""
        files = [str(self.log(name)) for name in NAMES]
        result = await self.run_dwcloud("trace", session, *files, "--json")
        self.assertEqual((result.code, result.err), (code, ""))
        story: dict[str, Any] = json.loads(result.out)
        return story

    def check_order(self, story: dict[str, Any], *steps: str) -> None:
        """Check that these steps were taken in this order, and all lines known."""
        found = [line["step"] for line in story["lines"]]
        self.assertNotIn(None, found, story["lines"])
        places = [found.index(step) for step in steps]
        self.assertEqual(places, sorted(places), found)

    def check_fields(self, session: str, *names: str) -> None:
        """Check that lines of JSON about a session have its id as a field."""
        for name in names:
            lines = self.log(name).read_text().splitlines()
            events = [json.loads(line) for line in lines]
            about = [event for event in events if session in event["message"]]
            self.assertGreater(len(about), 1, name)
            for event in about:
                self.assertEqual(event["connect_session_id"], session)

    async def test_relay_and_plain_logs(self) -> None:
        """What ``twistd`` writes by default does, also for a relay of two processes."""
        words = await self.start_four(None, "--workers", "2")
        code, _ = await self.connect(*words, "--path", "relay")
        self.assertEqual(code, 0)
        await self.log_has("relay", "tunnel ended after")
        await self.log_has("server", "stream closed")
        await self.log_has("mediator", "the client tells: relay")
        story = await self.trace(self.session(), 0)
        self.assertEqual(story["silent"], [])
        self.assertIn("connected by relay after", story["conclusion"])
        [path] = story["paths"]
        self.assertTrue(path["attempt"].startswith("relay http://"), path)
        self.assertEqual(path["outcome"], "selected")
        self.assertGreater(path["seconds"], 0.0)
        self.check_order(
            story,
            *("asked", "heard", "announced", "introduced", "trying"),
            *("relay asked", "joined", "admitted", "selected", "connected", "closed"),
        )
        # Who does not punch is introduced while the server is being told.
        self.check_order(story, "announced", "told", "admitted")
        self.assertEqual(story["clock_shifts"], {})

    async def test_direct_and_json(self) -> None:
        """The same in JSON, for a hole; a person gets a page."""
        words = await self.start_four("json", "--workers", "2")
        code, _ = await self.connect(*words, "--path", "relay")
        self.assertEqual(code, 0)
        await self.log_has("relay", "tunnel ended after")
        self.check_fields(self.session(), "server", "mediator", "relay")
        code, _ = await self.connect(*words, "--path", "udp")
        self.assertEqual(code, 0)
        await self.log_has("mediator", "the client tells: udp")
        await self.log_has("server", "stream closed")
        session = self.session()
        story = await self.trace(session, 0)
        self.assertEqual(story["silent"], ["relay"])
        self.check_order(
            story, "asked", "heard", "told", "answered", "trying", "admitted", "opened"
        )
        self.check_fields(session, "server", "mediator")
        files = [str(self.log(name)) for name in NAMES]
        page = (await self.run_dwcloud("trace", session[:8], *files)).out.decode()
        self.assertIn("result: connected by udp after", page)
        self.assertIn("no line of: relay", page)
        self.assertRegex(page, r"udp 127\.0\.0\.1:\d+ .* selected")

    async def test_failure(self) -> None:
        """A failure is told with its id; the logs say at which step it happened."""
        words = await self.start_four()
        stranger = f"{uuid.uuid4()}.{uuid.uuid4()}"
        result = await self.run_dwcloud("connect", stranger, *words[1:5])
        self.assertEqual(result.code, 1)
        hint = r"connect session ([0-9a-f-]{36}): 'dwcloud trace'"
        found = re.search(hint, result.err)
        assert found is not None, result.err
        self.log("client").write_text(result.err)
        story = await self.trace(found[1], 1)
        self.assertEqual(story["succeeded"], False)
        self.assertEqual(
            story["conclusion"], "failed asking the mediator: peer unknown"
        )
