"""The arguments of endpoint strings, checked with messages that name the form."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.abstract import isIPAddress, isIPv6Address

from dwcloud.errors import ConfigurationError

__all__ = ["EndpointArguments"]

_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class EndpointArguments:
    """The arguments of an endpoint string, taken one by one and checked.

    :param form: how such a string looks, for the messages.
    :param positional: the names of the positional arguments, all required; they may
        also be given by name, as with Twisted's own endpoints.
    """

    def __init__(
        self,
        form: str,
        positional: Sequence[str],
        args: Sequence[str],
        kwargs: dict[str, str],
    ) -> None:
        self._form = form
        self._left = dict(kwargs)
        if len(args) > len(positional):
            raise self.error(f"{args[len(positional)]!r} is too many")
        for name, value in zip(positional, args, strict=False):
            if name in self._left:
                raise self.error(f"{name} is given twice")
            self._left[name] = value
        for name in positional:
            if not self._left.get(name):
                raise self.error(f"{name.upper()} is missing")

    def error(self, what: str) -> ConfigurationError:
        """Return the exception for a wrong argument."""
        return ConfigurationError(
            f"not such an endpoint: {what}; the form is {self._form}"
        )

    def text(self, name: str, default: str = "") -> str:
        """Take an argument as it is."""
        return self._left.pop(name, default)

    def number(self, name: str, default: int, lowest: int, highest: int) -> int:
        """Take a decimal number within limits."""
        text = self._left.pop(name, None)
        if text is None:
            return default
        # The length first: int() of thousands of digits raises an error of its own.
        if len(text) <= 9 and text.isascii() and text.isdigit():
            value = int(text)
            if lowest <= value <= highest:
                return value
        raise self.error(f"{name}={text} is not a number from {lowest} to {highest}")

    def address(self, name: str) -> str:
        """Take a local IP address, or nothing."""
        text = self._left.pop(name, "")
        if text and not (isIPAddress(text) or isIPv6Address(text)):
            raise self.error(f"{name}={text} is not an IP address")
        return text

    def yes(self, name: str, default: str = "no") -> bool:
        """Take a yes or no."""
        text = self._left.pop(name, default)
        if text.lower() not in _YES:
            raise self.error(f"{name}={text} is neither yes nor no")
        return _YES[text.lower()]

    def finish(self) -> None:
        """Refuse what nobody took."""
        for name in self._left:
            raise self.error(f"{name} is not known")
