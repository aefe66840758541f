"""Fresh virtual environments, and copies of the project to install in them."""

from __future__ import annotations

import atexit
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

import attrs

from tests.packaging.source_tree import ROOT

SHIPPED = ("README.rst", "LICENSE", "setup.cfg", "pyproject.toml", "dwcloud", "twisted")
"""What a build reads of the project."""


class CommandFailed(AssertionError):
    """A command of an environment ended with another status than 0."""


def run(command: list[str], directory: pathlib.Path) -> str:
    """Run a command away from the project; return what it printed.

    :raises CommandFailed: with the output, if its exit status is not 0.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "COVERAGE", "PIP_"))
    }
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=900,
    )
    if done.returncode:
        raise CommandFailed(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


@functools.cache
def _scratch() -> pathlib.Path:
    """Return a directory that is removed when the process ends."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="dwcloud-packaging-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def new_directory(name: str) -> pathlib.Path:
    """Return a new empty directory outside the project."""
    return pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_scratch()))


def copy_of_project() -> pathlib.Path:
    """Return a copy of what is shipped, so that builds leave the project alone."""
    copy = new_directory("project")
    ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    return copy


@functools.cache
def built_wheel() -> pathlib.Path:
    """Build the wheel, once in a process."""
    copy = copy_of_project()
    run([sys.executable, "-m", "build", "--wheel", str(copy)], copy)
    (wheel,) = (copy / "dist").glob("*.whl")
    return wheel


@attrs.frozen
class Environment:
    """A virtual environment of its own.

    :ivar path: its directory.
    :ivar directory: where its commands are run: an empty one, outside the project.
    """

    path: pathlib.Path
    directory: pathlib.Path

    @classmethod
    def create(cls) -> Environment:
        """Make a new one, with nothing in it but pip."""
        path = new_directory("environment")
        venv.create(path, with_pip=True, symlinks=True)
        return cls(path, new_directory("elsewhere"))

    def run(self, program: str, *arguments: str) -> str:
        """Run one of its programs; return what it printed."""
        return run([str(self.path / "bin" / program), *arguments], self.directory)

    def pip(self, *arguments: str) -> str:
        """Run its pip."""
        return self.run(
            "python", "-m", "pip", "--disable-pip-version-check", *arguments
        )
