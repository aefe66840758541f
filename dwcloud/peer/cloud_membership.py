"""To which cloud a server's system is bound: the file ``cloud.json`` of its identity.

Its key is pinned there when the system is bound. From then on the server admits only
whom grants under that key let in, whatever a mediator says (docs/protocol/grants).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from dwcloud.errors import ConfigurationError
from dwcloud.net.private_files import replace_file
from dwcloud.net.signing import parse_public_key, public_key_text

__all__ = ["FILE_NAME", "CloudMembership"]

FILE_NAME = "cloud.json"


@attrs.frozen
class CloudMembership:
    """A cloud that a system is bound to.

    :ivar mediator: where it is, as people write it: ``cloud.example.org:3345``.
    :ivar cloud_key: its public key, 32 bytes.
    :ivar name: what the owner calls the system.
    """

    mediator: str
    cloud_key: bytes
    name: str

    @classmethod
    def load(cls, directory: Path) -> CloudMembership | None:
        """Read the file of an identity; None if the system is not bound.

        :raises ConfigurationError: if the file cannot be read or is damaged: a server
            must not take that for leave to admit everybody.
        """
        path = directory / FILE_NAME
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise ConfigurationError(f"cannot read {path}: {e.strerror}") from e
        try:
            values = json.loads(data)
            return cls(
                _text(values, "mediator"),
                parse_public_key(_text(values, "cloud_key")),
                _text(values, "name"),
            )
        except (ValueError, TypeError, KeyError, RecursionError) as e:
            raise ConfigurationError(
                f"{path} is damaged ({e}); `dwcloud system bind` writes a new one"
            ) from e

    def save(self, directory: Path) -> None:
        """Write the file.

        :raises ConfigurationError: if it cannot be written.
        """
        values = {
            "mediator": self.mediator,
            "cloud_key": public_key_text(self.cloud_key),
            "name": self.name,
        }
        data = json.dumps(values, indent=2).encode("ascii") + b"\n"
        replace_file(directory / FILE_NAME, data, 0o644)

    @staticmethod
    def remove(directory: Path) -> None:
        """Forget the cloud: the server admits again whoever is introduced to it.

        :raises ConfigurationError: if the file cannot be removed.
        """
        path = directory / FILE_NAME
        try:
            path.unlink(missing_ok=True)
        except OSError as e:
            raise ConfigurationError(f"cannot remove {path}: {e.strerror}") from e


def _text(values: Any, name: str) -> str:
    text = values[name]
    if not isinstance(text, str):
        raise TypeError(f"{name!r} is not a text")
    return text
