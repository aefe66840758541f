"""Options of commands that connect by a token for one system."""

from __future__ import annotations

from dwcloud.cli.command import CommandOptions, require
from dwcloud.peer.system_token import (
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
    read_token_file,
    token_of_environment,
)

__all__ = ["FingerprintOptions", "TokenOptions"]


class FingerprintOptions(CommandOptions):
    """The option of a command that may be the first to meet a cloud."""

    optParameters = [
        [
            "fingerprint",
            None,
            None,
            "The key that the cloud must show, as SHA256:..., told by who runs it.",
        ],
    ]

    def postOptions(self) -> None:
        """Refuse what cannot be a fingerprint."""
        super().postOptions()  # type: ignore[no-untyped-call]
        expected = self["fingerprint"]
        require(
            expected is None or expected.startswith("SHA256:"),
            f"--fingerprint: {expected!r} is none: expected SHA256: and 43 characters, "
            "as the mediator's log tells at its start",
        )


class TokenOptions(FingerprintOptions):
    """Options of a command that a program may call for which nobody signs in."""

    optParameters = [
        [
            "token-file",
            None,
            None,
            "Connect by the token for one system in this file, which 'dwcloud system "
            "token create' has made, and not by the account that is signed in here. "
            f"The environment may name the file as {TOKEN_FILE_VARIABLE}, or hold the "
            f"token itself as {TOKEN_VARIABLE}.",
        ],
    ]

    @property
    def token(self) -> str | None:
        """The token, None without one.

        :raises ConfigurationError: if it cannot be read.
        """
        if self["token-file"] is not None:
            return read_token_file(self["token-file"])
        return token_of_environment()

    def postOptions(self) -> None:
        """Refuse an empty name."""
        super().postOptions()
        require(self["token-file"] != "", "--token-file: name a file")
