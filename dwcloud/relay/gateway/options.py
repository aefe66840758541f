"""The options of ``twistd relay`` that let browsers in."""

from __future__ import annotations

import ipaddress

import attrs
from twisted.python import usage

from dwcloud.errors import ConfigurationError
from dwcloud.net.listening import parse_endpoint
from dwcloud.protocol.gateway.hosts import WebDomain
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["GatewayOptions", "GatewaySettings"]

_ENDPOINT = "--web-endpoint ssl:443:privateKey=key.pem:certKey=chain.pem"
_PORTAL = "--portal https://mediator.example.org:3345"


@attrs.frozen
class GatewaySettings:
    """What the relay has to know to let browsers in.

    :ivar domain: below which they find systems.
    :ivar endpoints: endpoint strings of the listening sockets.
    :ivar portal: URL of the mediator's portal, where people sign in.
    :ivar cloud_key: the public key that grants are signed with.
    """

    domain: WebDomain
    endpoints: tuple[str, ...]
    portal: str
    cloud_key: bytes


class GatewayOptions(usage.Options):
    """Read together, since none is of use alone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["web-domain"] = None
        self["web-endpoint"] = []
        self["portal"] = None

    def opt_web_domain(self, text: str) -> None:
        """Let browsers in at https://SYSTEM.DOMAIN/ for systems whose owners allow it;
        *.DOMAIN has to lead here. Needs --web-endpoint, --portal and --cloud-key."""
        try:
            self["web-domain"] = WebDomain.parse(text)
        except ValueError as e:
            raise usage.UsageError(f"--web-domain: {e}") from e

    def opt_web_endpoint(self, description: str) -> None:
        """Listen for browsers on an endpoint such as
        ssl:443:privateKey=key.pem:certKey=chain.pem, with a certificate for
        *.DOMAIN. Requests for DOMAIN itself get the relay, as at --listen.
        Repeatable."""
        try:
            parse_endpoint(None, description)
        except ConfigurationError as e:
            raise usage.UsageError(f"--web-endpoint: {e}") from e
        if description.startswith("tcp:") and not _is_on_loopback(description):
            raise usage.UsageError(
                f"--web-endpoint: {description} would show cookies to everybody on the "
                f"way: expected TLS, as {_ENDPOINT}; a server in front that does TLS "
                "may come to tcp:PORT:interface=127.0.0.1"
            )
        self["web-endpoint"].append(description)

    def opt_portal(self, text: str) -> None:
        """Where browsers sign in: the mediator, such as
        https://mediator.example.org:3345; it has to be told of this relay by
        --web-gateway DOMAIN."""
        try:
            portal = ServiceURL.parse(text)
        except ValueError as e:
            raise usage.UsageError(f"--portal: {e}") from e
        if not portal.secure:
            raise usage.UsageError(
                f"--portal: {text!r}: nobody signs in without TLS: expected https, as "
                f"{_PORTAL}"
            )
        self["portal"] = str(portal)

    def gateway_settings(self) -> GatewaySettings | None:
        """Return what was said; None if browsers are not let in.

        :raises usage.UsageError: if something is missing.
        """
        if self["web-domain"] is None:
            for option in ("web-endpoint", "portal"):
                if self[option]:
                    raise usage.UsageError(
                        f"--{option} is for browsers: say below which domain, as "
                        "--web-domain relay.example.org"
                    )
            return None
        for option, example in (
            ("web-endpoint", _ENDPOINT),
            ("portal", _PORTAL),
            ("cloud-key", "--cloud-key cloud.pub"),
        ):
            if not self[option]:
                raise usage.UsageError(f"--web-domain needs {example}")
        if self["workers"] > 1:
            raise usage.UsageError(
                "--web-domain works in one process only: leave --workers out, or start "
                "a second relay for browsers"
            )
        return GatewaySettings(
            self["web-domain"],
            tuple(self["web-endpoint"]),
            self["portal"],
            self["cloud-key"],
        )


def _is_on_loopback(description: str) -> bool:
    for part in description.replace("\\:", "\0").split(":"):
        key, _, value = part.partition("=")
        if key == "interface":
            try:
                return ipaddress.ip_address(value.replace("\0", ":")).is_loopback
            except ValueError:
                return False
    return False
