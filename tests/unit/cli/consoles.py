"""A console that prints nothing."""

from __future__ import annotations

from dwcloud.cli.console import Console

__all__ = ["KeepingConsole"]


class KeepingConsole(Console):
    """Keeps what is printed.

    :param interactive: whether to pretend to be a terminal.
    :ivar lines: of the result.
    :ivar messages: about it.
    :ivar drawn: pieces drawn as they are.
    """

    def __init__(self, interactive: bool = False) -> None:
        super().__init__()
        self._interactive = interactive
        self.lines: list[str] = []
        self.messages: list[str] = []
        self.drawn: list[str] = []

    @property
    def interactive(self) -> bool:
        """As told."""
        return self._interactive

    def line(self, text: str = "") -> None:
        """Keep."""
        self.lines.append(text)

    def message(self, text: str) -> None:
        """Keep."""
        self.messages.append(text)

    def draw(self, text: str) -> None:
        """Keep."""
        self.drawn.append(text)
