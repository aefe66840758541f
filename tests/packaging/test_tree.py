"""Rules of the source tree that no tool of its own checks."""

from __future__ import annotations

import ast
import os
import re
import stat
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.packaging.source_tree import ROOT, modules

MAXIMUM_LINES = 600
MAXIMUM_FUNCTION_LINES = 70

EMPTY_NAMES = frozenset(
    {
        "common",
        "engine",
        "handler",
        "handlers",
        "helper",
        "helpers",
        "manager",
        "misc",
        "util",
        "utils",
    }
)
"""Names that say only that there is code inside."""

RARELY_USED = frozenset(
    {
        "argon2",
        "keyring",
        "msgspec",
        "prometheus_client",
        "psycopg",
        "pyotp",
        "segno",
        "spnego",
        "sqlite3",
        "twisted.web",
        "wsproto",
        "xml",
        "zxcvbn",
    }
)
"""What a start does without: each of them is for a part that few use, or use late."""


class SourceTests(SynchronousTestCase):
    """Modules stay small, and their names say what is in them."""

    def test_module_sizes(self) -> None:
        """No module is longer than 600 lines."""
        sizes = {
            str(module.path): module.source.count("\n") + 1
            for module in modules("dwcloud", "twisted", "tests", "docs")
        }
        long = {path: size for path, size in sizes.items() if size > MAXIMUM_LINES}
        self.assertEqual(long, {})

    def test_function_sizes(self) -> None:
        """No function is much longer than a screen."""
        long = [
            f"{module.path}:{node.lineno}: {node.name}"
            for module in modules("dwcloud", "twisted", "tests", "docs")
            for node in ast.walk(module.tree())
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (node.end_lineno or 0) - node.lineno > MAXIMUM_FUNCTION_LINES
        ]
        self.assertEqual(long, [])

    def test_module_names(self) -> None:
        """No module or package has a name that fits anything."""
        found = [
            str(module.path)
            for module in modules("dwcloud", "tests")
            if EMPTY_NAMES & set(module.name.split("."))
        ]
        self.assertEqual(found, [])

    def test_nothing_unfinished(self) -> None:
        """Nothing in the product is marked as still to be written."""
        marks = re.compile(r"\b(TODO|FIXME|XXX)\b|NotImplementedError")
        found = [
            f"{module.path}:{number}: {line.strip()}"
            for module in modules("dwcloud", "twisted")
            for number, line in enumerate(module.source.splitlines(), 1)
            if marks.search(line)
        ]
        self.assertEqual(found, [])

    def test_no_exception_is_swallowed(self) -> None:
        """No handler catches everything and does nothing."""
        found = [
            f"{module.path}:{node.lineno}"
            for module in modules("dwcloud", "twisted", "tests")
            for node in ast.walk(module.tree())
            if isinstance(node, ast.ExceptHandler)
            and (
                node.type is None
                or getattr(node.type, "id", "") in {"Exception", "BaseException"}
            )
            and all(isinstance(statement, ast.Pass) for statement in node.body)
        ]
        self.assertEqual(found, [])

    def test_every_directory_is_a_package(self) -> None:
        """Every directory of ours has an ``__init__``, or trial would not find it."""
        directories = {m.path.parent for m in modules("dwcloud", "tests")}
        found = [
            str(directory)
            for directory in sorted(directories)
            if not (ROOT / directory / "__init__.py").exists()
        ]
        self.assertEqual(found, [])

    def test_plugins_are_no_package(self) -> None:
        """Below ``twisted/`` there is our plugin file and never an ``__init__``.

        It would overwrite that of Twisted on installation, and uninstalling would
        remove it.
        """
        found = [str(module.path) for module in modules("twisted")]
        self.assertEqual(
            found, [os.path.join("twisted", "plugins", "dwcloud_plugins.py")]
        )


class ImportCostTests(SynchronousTestCase):
    """Loading a part of dwcloud does not load what it must do without."""

    def _loaded_by(self, *names: str) -> set[str]:
        """Return all modules in a new process that imports those named."""
        script = f"import {', '.join(names)}, sys; print(*sys.modules)"
        output = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return set(output.split())

    def test_core_needs_no_twisted(self) -> None:
        """The core works in a process that has no Twisted."""
        names = [m.name for m in modules("dwcloud/protocol")]
        loaded = self._loaded_by(*names)
        self.assertEqual(loaded & {"twisted", "OpenSSL", "dwcloud.net"}, set())

    def test_help_loads_no_command(self) -> None:
        """The list of commands is there without any of them and the network."""
        loaded = self._loaded_by("dwcloud.cli.commands")
        self.assertEqual(
            {name.removeprefix("dwcloud.") for name in loaded if "dwcloud." in name},
            {"cli", "cli.command", "cli.commands", "cli.console", "loading"},
        )
        self.assertEqual(loaded & {"attr", "cryptography", "twisted.internet"}, set())

    def test_commands_load_what_they_need(self) -> None:
        """A command loads neither others nor what is for few of its users."""
        unwanted = {"dwcloud.accounts", "dwcloud.mediator", "dwcloud.relay"}
        unwanted |= {"dwcloud.web", "dwcloud.peer.port_mapping", *RARELY_USED}
        loaded = self._loaded_by("dwcloud.cli.serve")
        unwanted_here = unwanted | {"dwcloud.cli.cloud_access", "dwcloud.peer.client"}
        self.assertEqual(loaded & unwanted_here, set())
        loaded = self._loaded_by("dwcloud.cli.connect", "dwcloud.cli.forward")
        unwanted_here = unwanted | {"dwcloud.cli.serve", "dwcloud.peer.server"}
        self.assertEqual(loaded & unwanted_here, set())

    def test_services_load_what_they_need(self) -> None:
        """Mediator and relay load neither each other nor what is for few of them."""
        unwanted = {"dwcloud.accounts", "dwcloud.cli", "dwcloud.peer", *RARELY_USED}
        loaded = self._loaded_by("dwcloud.web.tap")
        self.assertEqual(loaded & (unwanted | {"dwcloud.relay"}), set())
        loaded = self._loaded_by("dwcloud.relay.tap")
        self.assertEqual(loaded & (unwanted | {"dwcloud.mediator"}), set())

    def test_plugins_are_light(self) -> None:
        """The plugin file, loaded by every program with plugins, loads none of ours."""
        loaded = self._loaded_by("twisted.plugins.dwcloud_plugins")
        self.assertEqual({n for n in loaded if n.split(".")[0] == "dwcloud"}, set())
        self.assertNotIn("OpenSSL", loaded)
        self.assertNotIn("twisted.internet.reactor", loaded)


class AutomationTests(SynchronousTestCase):
    """What runs unattended runs what people run."""

    def test_ci_runs_the_test_command(self) -> None:
        """The script of continuous integration takes its command from the README."""
        script = ROOT / ".ci" / "run"
        self.assertTrue(script.stat().st_mode & stat.S_IXUSR)
        text = script.read_text()
        self.assertIn("set -euo pipefail", text)
        self.assertIn("tests/packaging/readme.py tests", text)
        subprocess.run(["bash", "-n", str(script)], check=True)
