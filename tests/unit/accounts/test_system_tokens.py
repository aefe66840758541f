"""Tokens for one system, in the store."""

from __future__ import annotations

import uuid

from dwcloud.accounts.audit import Actor, read_account_log, read_system_log
from dwcloud.accounts.changes import RoleRevoked
from dwcloud.accounts.members import list_members, remove_member
from dwcloud.accounts.operator import set_disabled
from dwcloud.accounts.people import change_password, find_credentials
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.roles import Role
from dwcloud.accounts.sessions import (
    BEARER,
    COOKIE,
    OpenedSession,
    close_session,
    list_sessions,
    refresh_session,
    session_of,
    sign_in,
)
from dwcloud.accounts.system_tokens import (
    LONGEST,
    SystemToken,
    list_tokens,
    make_token,
    revoke_token,
)
from dwcloud.accounts.systems import (
    forget_old_secrets,
    get_system,
    list_systems,
    unbind_system,
)
from tests.unit.accounts import test_systems

VIEWER, ADMINISTRATOR, OWNER = Role.VIEWER, Role.ADMINISTRATOR, Role.OWNER
ADDRESS = "192.0.2.7"


class StoreCase(test_systems.StoreCase):
    """Ann owns a garage and a shed; Bob may see the garage."""

    def setUp(self) -> None:
        super().setUp()
        self.shed = self.world.system(self.ann, "shed")
        self.share(self.bob, VIEWER)
        self.world.changes.clear()

    def make(
        self,
        actor: Actor | None = None,
        role: Role = VIEWER,
        lifetime: int = 3600,
        system: uuid.UUID | None = None,
    ) -> tuple[SystemToken, str]:
        """Make a token for the garage."""
        return self.run_(
            make_token,
            actor or self.ann,
            system or self.system.id,
            role,
            "ci",
            lifetime,
        )

    def actor_of(self, token: str, kind: str = BEARER) -> Actor | None:
        """Who comes with a token."""
        return self.run_(session_of, token, kind, ADDRESS)

    def come(self, token: str) -> Actor:
        """Who comes with a token that counts."""
        actor = self.actor_of(token)
        assert actor is not None
        return actor

    def opened(self) -> OpenedSession:
        """Sign Ann in."""
        credentials = self.run_(find_credentials, "ann")
        session = self.run_(
            sign_in,
            credentials,
            seal=self.world.seal,
            totp=None,
            kind=BEARER,
            address=ADDRESS,
            agent="",
        )
        assert isinstance(session, OpenedSession)
        return session

    def revoked(self) -> list[tuple[uuid.UUID, uuid.UUID]]:
        """Of which systems and accounts grants count no more."""
        return [
            (change.system, change.account)
            for change in self.world.changes
            if isinstance(change, RoleRevoked)
        ]


class ScopeTests(StoreCase):
    """What a token opens."""

    def test_one_system(self) -> None:
        """It shows its system in its role; all others are not there for it."""
        _, token = self.make(role=VIEWER)
        actor = self.come(token)
        self.assertEqual((actor.account, actor.address), (self.ann.account, ADDRESS))
        [seen] = self.run_(list_systems, actor)
        self.assertEqual((seen.id, seen.role), (self.system.id, VIEWER))
        self.assertEqual(self.run_(get_system, actor, self.system.id), seen)
        for other in (self.shed.id, uuid.uuid4()):
            self.refused("no_such_system", get_system, actor, other)
        self.assertRaises(Refused, self.change, actor, name="barn")

    def test_role(self) -> None:
        """It may do what its role may, and what its account may at that moment."""
        _, token = self.make(role=ADMINISTRATOR)
        self.assertEqual(self.change(self.come(token), name="barn").name, "barn")
        self.refused("forbidden", unbind_system, self.come(token), self.system.id)
        self.share(self.cat, ADMINISTRATOR)
        _, token = self.make(self.cat, ADMINISTRATOR)
        self.assertEqual(
            len(self.run_(list_members, self.come(token), self.system.id)), 3
        )
        self.share(self.cat, VIEWER)
        seen = self.run_(get_system, self.come(token), self.system.id)
        self.assertEqual(seen.role, VIEWER)

    def test_no_more_than_oneself(self) -> None:
        """Nobody makes one that may do more than he, or for a system of others."""
        self.refused(
            "forbidden", make_token, self.bob, self.system.id, ADMINISTRATOR, "x", 60
        )
        for system in (self.shed.id, uuid.uuid4()):
            self.refused(
                "no_such_system", make_token, self.bob, system, VIEWER, "x", 60
            )

    def test_kinds(self) -> None:
        """It is none for a cookie, and no refresh token."""
        _, token = self.make()
        self.assertIsNone(self.actor_of(token, COOKIE))
        self.assertIsNone(self.run_(refresh_session, token, ADDRESS))
        self.assertIsNotNone(self.actor_of(token))

    def test_log(self) -> None:
        """The log tells that it was made, and what was done with it."""
        _, token = self.make(role=ADMINISTRATOR)
        self.change(self.come(token), name="barn")
        done, made = self.run_(read_system_log, self.system.id, None, 2)
        self.assertEqual((made.action, made.who), ("token.made", "ann"))
        self.assertEqual(
            made.detail, {"label": "ci", "role": "administrator", "lifetime": 3600}
        )
        self.assertEqual(done.detail, {"name": "barn", "token": "ci"})
        own = self.run_(read_account_log, self.ann.account, None, 1)
        self.assertEqual(own, [done])


class EndTests(StoreCase):
    """How a token ends."""

    def test_expired(self) -> None:
        """After its time it is worth nothing, and is not listed any more."""
        self.make(lifetime=LONGEST)
        _, token = self.make(lifetime=60)
        self.world.advance(59)
        self.assertIsNotNone(self.actor_of(token))
        self.world.advance(1)
        self.assertIsNone(self.actor_of(token))
        self.assertEqual(len(self.run_(list_tokens, self.ann, self.system.id)), 1)
        self.run_(forget_old_secrets)
        self.assertEqual(len(self.run_(list_sessions, self.ann)), 1)

    def test_used(self) -> None:
        """Using it does not prolong it."""
        _, token = self.make(lifetime=600)
        for _ in range(5):
            self.world.advance(119)
            self.assertIsNotNone(self.actor_of(token))
        self.world.advance(5)
        self.assertIsNone(self.actor_of(token))

    def test_revoked(self) -> None:
        """Its owner ends it; what it may have been granted counts no more."""
        made, token = self.make()
        self.come(token)
        [listed] = self.run_(list_tokens, self.ann, self.system.id)
        self.assertEqual(
            (listed.id, listed.label, listed.role), (made.id, "ci", VIEWER)
        )
        self.assertIsNotNone(listed.used)
        self.run_(revoke_token, self.ann, self.system.id, made.id)
        self.assertIsNone(self.actor_of(token))
        self.assertEqual(self.revoked(), [(self.system.id, self.ann.account)])
        self.refused("no_such_token", revoke_token, self.ann, self.system.id, made.id)

    def test_never_used(self) -> None:
        """One that nobody has used ends without any harm to connections."""
        made, token = self.make()
        self.assertIsNone(self.run_(list_tokens, self.ann, self.system.id)[0].used)
        self.run_(close_session, self.ann, made.id)
        self.assertIsNone(self.actor_of(token))
        self.assertEqual(self.revoked(), [])

    def test_others(self) -> None:
        """Nobody sees or ends the token of another account, or of another system."""
        made, token = self.make()
        self.assertEqual(self.run_(list_tokens, self.bob, self.system.id), [])
        self.refused("no_such_token", revoke_token, self.bob, self.system.id, made.id)
        self.refused("no_such_token", revoke_token, self.ann, self.shed.id, made.id)
        self.refused("no_such_system", list_tokens, self.bob, self.shed.id)
        self.refused("no_such_session", close_session, self.bob, made.id)
        self.assertIsNotNone(self.actor_of(token))

    def test_role_removed(self) -> None:
        """It ends with the role, and another role later does not revive it."""
        _, token = self.make(self.bob)
        self.run_(remove_member, self.ann, self.system.id, "bob")
        self.assertIsNone(self.actor_of(token))
        self.share(self.bob, VIEWER)
        self.assertIsNone(self.actor_of(token))

    def test_unbound(self) -> None:
        """It ends with the binding of its system."""
        _, token = self.make(self.bob)
        self.run_(unbind_system, self.ann, self.system.id)
        self.assertIsNone(self.actor_of(token))

    def test_password(self) -> None:
        """It ends with the password of its account, or when that is locked."""
        _, token = self.make()
        session = self.opened()
        checked = self.run_(find_credentials, "ann")
        self.run_(change_password, self.come(session.access_token), checked, "other")
        self.assertIsNone(self.actor_of(token))
        _, token = self.make(self.bob)
        self.run_(set_disabled, "bob", True)
        self.assertIsNone(self.actor_of(token))

    def test_number(self) -> None:
        """An account has 50; neither they nor sessions push each other out."""
        tokens = [self.make()[1] for _ in range(50)]
        self.refused("too_many", make_token, self.ann, self.shed.id, VIEWER, "x", 60)
        sessions = [self.opened() for _ in range(51)]
        self.assertTrue(all(self.actor_of(token) for token in tokens))
        self.assertIsNotNone(self.actor_of(sessions[-1].access_token))
        self.world.advance(3600)
        self.make()


class OtherSessionTests(StoreCase):
    """Ending a session elsewhere, such as that of a stolen machine."""

    def test_grants_end(self) -> None:
        """What the account was granted counts no more, on any system."""
        lost, here = self.opened(), self.opened()
        self.come(lost.access_token)
        self.run_(close_session, self.come(here.access_token), lost.id)
        of = {(self.system.id, self.ann.account), (self.shed.id, self.ann.account)}
        self.assertEqual(set(self.revoked()), of)

    def test_own(self) -> None:
        """Signing out here cuts nothing elsewhere."""
        here = self.opened()
        self.run_(close_session, self.come(here.access_token), here.id)
        self.assertEqual(self.revoked(), [])
