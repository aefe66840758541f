"""The relay's paths."""

import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import (
    STATISTICS_PATH,
    ClientSessionsResource,
    ClientTunnelResource,
    NewTunnelResource,
    ServerTunnelResource,
    StatisticsResource,
    client_sessions_path,
    client_tunnel_path,
    new_tunnel_path,
    parse_path,
    server_tunnel_path,
)

NAME = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
SESSION = "0123456789abcdef" * 2


class PathTests(SynchronousTestCase):
    def test_written_paths_are_read(self) -> None:
        """Each path that one side makes is the resource that the other finds."""
        system = PeerName(NAME.system)
        for path, resource in [
            (
                f"{server_tunnel_path(NAME)}/upgrade",
                ServerTunnelResource(NAME, "upgrade"),
            ),
            (client_sessions_path(NAME), ClientSessionsResource(NAME)),
            (client_sessions_path(system), ClientSessionsResource(system)),
            (client_sessions_path(system)[:-1], ClientSessionsResource(system)),
            (
                f"{client_tunnel_path(SESSION)}/get_post",
                ClientTunnelResource(SESSION, "get_post"),
            ),
            (f"{new_tunnel_path(NAME)}/upgrade", NewTunnelResource(NAME, "upgrade")),
            (f"{new_tunnel_path(system)}/post", NewTunnelResource(system, "post")),
            (STATISTICS_PATH, StatisticsResource()),
        ]:
            self.assertEqual(parse_path(path), resource)

    def test_names_in_either_case(self) -> None:
        """A GUID may be written in capitals."""
        path = client_sessions_path(NAME).replace(str(NAME), str(NAME).upper())
        self.assertEqual(parse_path(path), ClientSessionsResource(NAME))

    def test_nothing_there(self) -> None:
        """Whatever names nothing is a 404 with words."""
        for path in [
            "",
            "/relay",
            "/relay/server/x/client_sessions/",
            f"/relay/server/{NAME.system}/tunnel/upgrade",
            f"/relay/server/{NAME}/tunnel/",
            f"/relay/server/{NAME}/tunnel/UP",
            f"/relay/server/{NAME}/client_tunnel/",
            "/relay/server/x/client_tunnel/upgrade",
            f"/relay/client_session/{SESSION[1:]}/tunnel/upgrade",
            f"{client_sessions_path(NAME)}/x",
        ]:
            error = self.assertRaises(RemoteProtocolError, parse_path, path)
            self.assertEqual(error.code, 404, path)
            self.assertTrue(str(error))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """No path at all brings the parser down."""
        for path in (text, f"/relay/server/{text}", f"/relay/{text}/tunnel/upgrade"):
            try:
                parse_path(path)
            except RemoteProtocolError as error:
                self.assertEqual(error.code, 404)
