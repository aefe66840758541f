"""The wheel, and the project installed from it and in place."""

from __future__ import annotations

import functools
import zipfile

from twisted.trial.unittest import SynchronousTestCase

from tests.packaging.environments import (
    CommandFailed,
    Environment,
    built_wheel,
    copy_of_project,
)


@functools.cache
def _environment_of_wheel() -> Environment:
    environment = Environment.create()
    environment.pip("install", "--quiet", str(built_wheel()))
    return environment


@functools.cache
def _environment_in_place() -> Environment:
    environment = Environment.create()
    environment.pip("install", "--quiet", "--editable", str(copy_of_project()))
    return environment


class WheelTests(SynchronousTestCase):
    """What is in the wheel."""

    def setUp(self) -> None:
        with zipfile.ZipFile(built_wheel()) as archive:
            self.names = archive.namelist()

    def test_one_file_below_twisted(self) -> None:
        """The plugin file is all that goes into Twisted's directory."""
        found = [name for name in self.names if name.startswith("twisted/")]
        self.assertEqual(found, ["twisted/plugins/dwcloud_plugins.py"])

    def test_package(self) -> None:
        """The package is there with its marker for type checkers, tests are not."""
        self.assertIn("dwcloud/py.typed", self.names)
        self.assertIn("dwcloud/protocol/names.py", self.names)
        tops = {name.split("/")[0] for name in self.names}
        packages = {name for name in tops if not name.endswith(".dist-info")}
        self.assertEqual(packages, {"dwcloud", "twisted"})

    def test_portal(self) -> None:
        """The files of the portal are in it, which no import would miss."""
        for name in ("index.html", "portal.css", "app.js", "icon.svg"):
            self.assertIn(f"dwcloud/web/static/{name}", self.names)

    def test_licence(self) -> None:
        """The licence travels with the software."""
        self.assertTrue(any(name.endswith("LICENSE") for name in self.names))


class _InstalledTestsMixin:
    """What works after an installation of any kind, in ``self.environment()``."""

    def test_services(self) -> None:
        """Twisted's command knows both services and their options."""
        for service in ("mediator", "relay"):
            output = self.environment().run("twistd", service, "--help")
            self.assertIn("--listen", output)

    def test_service_versions(self) -> None:
        """A service tells its own version, not that of Twisted."""
        for service in ("mediator", "relay"):
            output = self.environment().run("twistd", service, "--version")
            self.assertIn("dwcloud", output)

    def test_command(self) -> None:
        """The command is there with all that the README uses of it."""
        output = self.environment().run("dwcloud", "--help")
        for name in ("demo", "serve", "forward", "connect", "system", "status"):
            self.assertIn(name, output)
        self.assertIn("0.1.0", self.environment().run("dwcloud", "--version"))

    def test_endpoint_strings(self) -> None:
        """Twisted finds the endpoint strings."""
        script = (
            "from twisted.plugin import getPlugins\n"
            "from twisted.internet import interfaces as i\n"
            "print(*sorted(p.prefix for kind in (\n"
            "    i.IStreamServerEndpointStringParser,\n"
            "    i.IStreamClientEndpointStringParserWithReactor,\n"
            ") for p in getPlugins(kind)))\n"
        )
        prefixes = self.environment().run("python", "-c", script).split()
        self.assertEqual(prefixes.count("udt"), 2)
        self.assertEqual(prefixes.count("dwcloud"), 2)

    def test_twisted_is_intact(self) -> None:
        """Twisted's own plugins are still found."""
        self.assertIn("--listen", self.environment().run("twistd", "web", "--help"))


class WheelInstallationTests(_InstalledTestsMixin, SynchronousTestCase):
    """The wheel, in a fresh environment with the dependencies it declares."""

    def environment(self) -> Environment:
        return _environment_of_wheel()

    def test_dependencies(self) -> None:
        """Nothing is missing that the wheel says it needs, or needs without saying."""
        self.environment().pip("check")


class EditableInstallationTests(_InstalledTestsMixin, SynchronousTestCase):
    """The project installed in place, for those who work on it."""

    def environment(self) -> Environment:
        return _environment_in_place()


class RemovalTests(SynchronousTestCase):
    """Taking dwcloud away."""

    def test_twisted_survives(self) -> None:
        """Uninstalling leaves a Twisted that works and no trace of our services."""
        environment = Environment.create()
        environment.pip("install", "--quiet", str(built_wheel()))
        environment.pip("uninstall", "--quiet", "--yes", "dwcloud")
        self.assertIn("--listen", environment.run("twistd", "web", "--help"))
        self.assertRaises(
            CommandFailed, environment.run, "twistd", "mediator", "--help"
        )
