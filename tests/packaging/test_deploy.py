"""What is in ``deploy/``: for Prometheus, Grafana, systemd and containers."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.service import MediatorService
from dwcloud.mediator.tap import Options as MediatorOptions
from dwcloud.metrics import Family
from dwcloud.protocol.gateway.hosts import WebDomain
from dwcloud.relay.gateway.options import GatewaySettings
from dwcloud.relay.metrics import families as relay_families
from dwcloud.relay.service import RelayService
from dwcloud.relay.tap import Options as RelayOptions
from tests.packaging.environments import SHIPPED
from tests.packaging.source_tree import ROOT

DEPLOY = ROOT / "deploy"
UNITS = ("dwcloud-mediator", "dwcloud-relay", "dwcloud-serve")
PROGRAMS = Path(sys.executable).parent

_METRIC = re.compile(r"\bdwcloud_[a-z_]+\b")
_LABEL = re.compile(r"\b(?:by|without) \(([a-z_, ]+)\)|[{,]\s*([a-z_]+)\s*(?:=~|!=|=)")
_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
_OF_PROMETHEUS = {"instance", "job", "le"}


def described() -> list[Family]:
    """All metrics of both services."""
    clock: Any = Clock()
    mediator = MediatorService(clock, MediatorConfiguration(), [], []).mediator
    browsers = GatewaySettings(
        WebDomain("relay.example.org"), (), "https://mediator.example.org", bytes(32)
    )
    relay = RelayService(clock, [], gateway=browsers)
    return mediator.families() + relay_families([relay.figures()])


def samples() -> dict[str, set[str]]:
    """The names that samples have, with their labels."""
    return {
        family.name + suffix: {*family.labels}
        for family in described()
        for suffix in _SUFFIXES[family.kind]
    }


def promtool(*words: str, text: str = "") -> None:
    """Let Prometheus's own tool look at something, where it is installed."""
    tool = shutil.which("promtool")
    if tool is None:
        return
    done = subprocess.run(
        [tool, *words], input=text, capture_output=True, text=True, cwd=DEPLOY
    )
    if done.returncode:
        raise AssertionError(f"promtool {words}: {done.stdout}{done.stderr}")


class MetricNameTests(SynchronousTestCase):
    """Whatever is asked of Prometheus is there."""

    def check(self, expression: str) -> None:
        """Check the names of metrics and labels in an expression."""
        known = samples()
        names = _METRIC.findall(expression)
        for name in names:
            self.assertIn(name, known, expression)
        labels = set().union(*(known[name] for name in names)) | _OF_PROMETHEUS
        for grouped, matched in _LABEL.findall(expression):
            for label in (grouped or matched).replace(" ", "").split(","):
                self.assertIn(label, labels, expression)

    def expressions(self) -> Iterator[str]:
        """All expressions of the board."""
        board = json.loads((DEPLOY / "grafana.json").read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield target["expr"]
        for annotation in board["annotations"]["list"]:
            yield annotation["expr"]
        for variable in board["templating"]["list"]:
            query = variable["query"]
            if isinstance(query, dict):
                found = re.fullmatch(r"label_values\((\w+), \w+\)", query["query"])
                assert found is not None
                yield found[1]

    def test_board(self) -> None:
        """Each metric and each label that the board asks for exists."""
        expressions = list(self.expressions())
        self.assertGreater(len(expressions), 30)
        for expression in expressions:
            self.check(expression)

    def test_board_is_grammatical(self) -> None:
        """promtool can read each expression, where it is installed."""
        rules = [
            {"record": f"board:{number}", "expr": expression.replace("$instance", ".*")}
            for number, expression in enumerate(self.expressions())
        ]
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as stream:
            # JSON is YAML.
            json.dump({"groups": [{"name": "board", "rules": rules}]}, stream)
            stream.flush()
            promtool("check", "rules", stream.name)

    def test_board_is_complete(self) -> None:
        """Panels have numbers of their own, and cover each other nowhere."""
        board = json.loads((DEPLOY / "grafana.json").read_text())
        numbers = [panel["id"] for panel in board["panels"]]
        self.assertEqual(len(numbers), len(set(numbers)))
        covered: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            cells = {
                (place["x"] + x, place["y"] + y)
                for x in range(place["w"])
                for y in range(place["h"])
            }
            self.assertEqual(covered & cells, set(), panel["title"])
            covered |= cells

    def test_alerts(self) -> None:
        """Each metric and each label that an alert looks at exists."""
        text = (DEPLOY / "alerts.yml").read_text()
        blocks = re.findall(r"expr: (?:\|\n)?(.*?)\n +(?:for|labels):", text, re.DOTALL)
        self.assertEqual(len(blocks), text.count("- alert:"))
        for block in blocks:
            self.check(block)
        promtool("check", "rules", "alerts.yml")

    def test_alerts_fire(self) -> None:
        """Alerts fire when they should and not before, where promtool is installed."""
        cases = ROOT / "tests" / "packaging" / "alerts_test.yml"
        promtool("test", "rules", str(cases))

    def test_scrape_example(self) -> None:
        """The example collects from the ports at which the services listen."""
        text = (DEPLOY / "prometheus.yml").read_text()
        self.assertEqual(
            re.findall(r'targets: \["127\.0\.0\.1:(\d+)"\]', text), ["3345", "3349"]
        )
        promtool("check", "config", "prometheus.yml")

    def test_documented_metrics(self) -> None:
        """Each metric that the page for operators lists exists."""
        page = (ROOT / "docs" / "howto" / "operate.rst").read_text()
        known = samples()
        for service in ("mediator", "relay", "relay_web"):
            start = page.index(f"``dwcloud_{service}_``")
            table = page[start : page.index("\n\n\n", start)].split("\n\n")[1]
            named = re.findall(r"^``.*", table, re.MULTILINE)
            self.assertGreater(len(named), 6)
            for line in named:
                for name in re.findall(r"``([a-z_]+)", line.split("  ")[0]):
                    found = f"dwcloud_{service}_{name}"
                    self.assertTrue(
                        any(each.startswith(found) for each in known), found
                    )


class UnitTests(SynchronousTestCase):
    """Units of systemd."""

    def read(self, name: str) -> dict[str, list[str]]:
        """All settings of a unit."""
        found: dict[str, list[str]] = {}
        for line in (DEPLOY / f"{name}.service").read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                found.setdefault(key, []).append(value)
        return found

    def test_hardened(self) -> None:
        """No unit has a privilege that it does not need."""
        for name in UNITS:
            unit = self.read(name)
            for setting, value in (
                ("DynamicUser", "yes"),
                ("NoNewPrivileges", "yes"),
                ("ProtectSystem", "strict"),
                ("ProtectHome", "yes"),
                ("PrivateDevices", "yes"),
                ("UMask", "0077"),
            ):
                self.assertEqual(unit[setting], [value], name)
            self.assertIn(
                unit["CapabilityBoundingSet"], ([""], ["CAP_NET_BIND_SERVICE"])
            )

    def test_commands(self) -> None:
        """The programs are those that an installation has, and know the options."""
        for name, options in (
            ("dwcloud-mediator", MediatorOptions),
            ("dwcloud-relay", RelayOptions),
        ):
            [command] = self.read(name)["ExecStart"]
            program, *words = command.split()
            self.assertTrue((PROGRAMS / Path(program).name).exists(), program)
            self.assertEqual(words[-2], name.removeprefix("dwcloud-"))
            text = (DEPLOY / f"{name}.service").read_text()
            example = re.search(r"#   [A-Z]+_OPTIONS=(.*)", text)
            assert example is not None
            directory = self.mktemp()
            given = example[1].replace("/var/lib/dwcloud-mediator", directory)
            options().parseOptions(shlex.split(given))  # type: ignore[no-untyped-call]

    def test_verified_by_systemd(self) -> None:
        """systemd finds nothing wrong, where it is installed."""
        tool = shutil.which("systemd-analyze")
        if tool is None:
            return
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        for name in UNITS:
            text = (DEPLOY / f"{name}.service").read_text()
            unit = directory / f"{name}.service"
            unit.write_text(text.replace("/opt/dwcloud/bin", str(PROGRAMS)))
            done = subprocess.run(
                [tool, "verify", str(unit)], capture_output=True, text=True
            )
            said = [line for line in done.stderr.splitlines() if name in line]
            self.assertEqual((done.returncode, said), (0, []), done.stderr)


class ContainerTests(SynchronousTestCase):
    """The file by which a container is built; nothing here can build one."""

    def instructions(self) -> list[tuple[str, str]]:
        """Instructions with their words, continued lines joined."""
        text = (DEPLOY / "Containerfile").read_text()
        lines = re.sub(r"\\\n", " ", text).splitlines()
        found = [line.split(maxsplit=1) for line in lines if line.strip()]
        return [(words[0], words[1]) for words in found if words[0] != "#"]

    def test_grammar(self) -> None:
        """Each line is an instruction, and it begins with a base."""
        names = [name for name, _ in self.instructions()]
        self.assertEqual(names[0], "FROM")
        known = {"FROM", "WORKDIR", "COPY", "RUN", "VOLUME", "USER", "EXPOSE"}
        known |= {"STOPSIGNAL", "ENTRYPOINT", "CMD"}
        self.assertLessEqual({*names}, known)

    def test_copies_what_a_build_reads(self) -> None:
        """All that the wheel is built from is copied, and it exists."""
        copied: set[str] = set()
        for name, rest in self.instructions():
            if name == "COPY" and not rest.startswith("--from"):
                *sources, _ = rest.split()
                copied |= {*sources}
        self.assertEqual(copied, {*SHIPPED})
        for source in copied:
            self.assertTrue((ROOT / source).exists(), source)

    def test_extras_exist(self) -> None:
        """The extras that are installed are those of setup.cfg."""
        setup = configparser.ConfigParser(interpolation=None)
        setup.read(ROOT / "setup.cfg")
        text = " ".join(rest for name, rest in self.instructions() if name == "RUN")
        found = re.search(r"/src\[([a-z,-]+)\]", text)
        assert found is not None
        for extra in found[1].split(","):
            self.assertIn(extra, setup["options.extras_require"])

    def test_command_runs(self) -> None:
        """What the container starts is there and understands what it is told."""
        settings = dict(self.instructions())
        program, *words = json.loads(settings["ENTRYPOINT"])
        twistd = PROGRAMS / Path(program).name
        for service in (json.loads(settings["CMD"])[0], "relay"):
            done = subprocess.run(
                [sys.executable, str(twistd), *words, service, "--version"],
                capture_output=True,
                text=True,
                cwd=ROOT,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(done.stdout.startswith("dwcloud "), done.stdout)
        self.assertNotIn(settings["USER"].split(":")[0], ("0", "root"))
