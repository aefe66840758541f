"""Systems, roles and invitations in the store."""

from __future__ import annotations

import uuid
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.audit import Actor, read_system_log
from dwcloud.accounts.changes import (
    AccessSnapshot,
    RoleGranted,
    RoleRevoked,
    SystemState,
    SystemUnbound,
)
from dwcloud.accounts.members import (
    accept_invitation,
    invite,
    list_invitations,
    list_members,
    remove_member,
    role_of,
    set_member,
    withdraw_invitation,
)
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.roles import ROLES, Role
from dwcloud.accounts.systems import (
    bind_system,
    change_system,
    get_system,
    known_servers,
    list_systems,
    load_access,
    new_challenge,
    note_server,
    unbind_system,
)
from dwcloud.protocol.grants.access import NOBODY
from tests.unit.accounts.store_world import StoreWorld

VIEWER, ADMINISTRATOR, OWNER = Role.VIEWER, Role.ADMINISTRATOR, Role.OWNER


class StoreCase(SynchronousTestCase):
    """Ann owns a system; Bob and Cat have nothing yet."""

    def make_world(self) -> StoreWorld:
        """Make the store."""
        return StoreWorld()

    def setUp(self) -> None:
        self.world = self.make_world()
        self.run_ = self.world.run
        self.ann, self.bob, self.cat = map(self.world.actor, ("ann", "bob", "cat"))
        self.system = self.world.system(self.ann)

    def refused(self, code: str, function: object, *args: object, **kw: object) -> None:
        """Check that something is refused, with this code."""
        error = self.assertRaises(Refused, self.run_, function, *args, **kw)
        self.assertEqual(error.code, code)

    def share(self, actor: Actor, role: Role, by: Actor | None = None) -> None:
        """Give somebody a role."""
        self.run_(set_member, by or self.ann, self.system.id, actor.name, role)

    def change(self, actor: Actor, **changes: Any) -> Any:
        """Change the system's settings."""
        named = {"name": None, "public": None, "web": None, **changes}
        return self.run_(change_system, actor, self.system.id, **named)


class BindingTests(StoreCase):
    """How systems come to accounts, and leave them."""

    def bind(self, actor: Actor, nonce: bytes, **changes: Any) -> Any:
        named: dict[str, Any] = {"system": uuid.uuid4(), "public_key": b"", **changes}
        name = named.pop("name", "other")
        return self.run_(bind_system, actor, name, nonce=nonce, **named)

    def test_bound(self) -> None:
        """Whoever binds a system owns it, and it is open to nobody else."""
        [found] = self.run_(list_systems, self.ann)
        self.assertEqual(found, self.system)
        self.assertEqual((found.role, found.owner), (OWNER, "ann"))
        self.assertFalse(found.public or found.web)
        self.assertEqual(self.run_(list_systems, self.bob), [])
        now = int(self.world.database.now * 1000)
        self.assertEqual(
            self.world.changes,
            [
                SystemState(self.system.id, False, False),
                RoleGranted(self.system.id, self.ann.account, OWNER, now),
            ],
        )

    def test_nonce(self) -> None:
        """A nonce is good once, for a minute, for the account that asked for it."""
        nonce = self.run_(new_challenge, self.ann)
        error = self.assertRaises(Refused, self.bind, self.bob, nonce)
        self.assertEqual(error.code, "bad_nonce")
        self.bind(self.ann, nonce)
        self.assertRaises(Refused, self.bind, self.ann, nonce, name="third")
        nonce = self.run_(new_challenge, self.ann)
        self.world.advance(60)
        self.assertRaises(Refused, self.bind, self.ann, nonce, name="third")

    def test_many_nonces(self) -> None:
        """Of an account's nonces the last 20 are good."""
        nonces = []
        for _ in range(21):
            nonces.append(self.run_(new_challenge, self.ann))
            self.world.advance(0.01)
        self.assertRaises(Refused, self.bind, self.ann, nonces[0])
        self.bind(self.ann, nonces[1])

    def test_bound_elsewhere(self) -> None:
        """A system belongs to one account until it is unbound."""
        nonce = self.run_(new_challenge, self.bob)
        error = self.assertRaises(
            Refused, self.bind, self.bob, nonce, system=self.system.id
        )
        self.assertEqual((error.status, error.code), (409, "bound"))
        self.run_(unbind_system, self.ann, self.system.id)
        self.assertEqual(self.bind(self.bob, nonce, system=self.system.id).owner, "bob")

    def test_names(self) -> None:
        """A name is used once by each owner."""
        nonce = self.run_(new_challenge, self.ann)
        error = self.assertRaises(Refused, self.bind, self.ann, nonce, name="garage")
        self.assertEqual(error.code, "name_taken")
        nonce = self.run_(new_challenge, self.bob)
        self.bind(self.bob, nonce, name="garage")

    def test_unbound(self) -> None:
        """Unbinding removes everybody, and those who come later see no old log."""
        self.share(self.bob, ADMINISTRATOR)
        self.refused("forbidden", unbind_system, self.bob, self.system.id)
        self.world.changes.clear()
        self.run_(unbind_system, self.ann, self.system.id)
        self.assertEqual(self.world.changes, [SystemUnbound(self.system.id)])
        for actor in (self.ann, self.bob):
            self.assertEqual(self.run_(list_systems, actor), [])
        self.world.advance(1)
        nonce = self.run_(new_challenge, self.cat)
        self.bind(self.cat, nonce, system=self.system.id, name="mine")
        entries = self.run_(read_system_log, self.system.id, None, 100)
        self.assertEqual([e.action for e in entries], ["system.bound"])
        self.assertIsNone(self.run_(role_of, self.bob.account, self.system.id))

    def test_servers(self) -> None:
        """Servers are remembered with the system they belong to, while it is bound."""
        servers = [uuid.uuid4(), uuid.uuid4()]
        self.run_(note_server, self.system.id, servers[0])
        self.world.advance(5)
        for server in servers:
            self.run_(note_server, self.system.id, server)
        self.run_(note_server, uuid.uuid4(), servers[0])
        now = int(self.world.database.now * 1000)
        other = self.world.system(self.ann, "cellar").id
        self.run_(note_server, other, servers[0])
        both = [self.system.id, other]
        found = self.run_(known_servers, self.ann, both[:1])
        self.assertEqual(found, {self.system.id: dict.fromkeys(servers, now)})
        found = self.run_(known_servers, self.ann, both)
        self.assertEqual(found[other], {servers[0]: now})
        self.assertEqual(
            self.run_(known_servers, self.bob, both), {system: {} for system in both}
        )
        self.run_(unbind_system, self.ann, self.system.id)
        found = self.run_(known_servers, self.ann, both[:1])
        self.assertEqual(found, {self.system.id: {}})


class SettingTests(StoreCase):
    """Who changes what about a system."""

    def test_rename(self) -> None:
        """Administrators rename."""
        self.share(self.bob, ADMINISTRATOR)
        self.share(self.cat, VIEWER)
        self.assertEqual(self.change(self.bob, name="shed").name, "shed")
        self.refused("forbidden", self.renamed, self.cat)
        other = self.world.system(self.ann, "cellar")
        error = self.assertRaises(Refused, self.change, self.bob, name=other.name)
        self.assertEqual(error.code, "name_taken")

    def renamed(self, transaction: Any, actor: Actor) -> None:
        change_system(
            transaction, actor, self.system.id, name="x", public=None, web=None
        )

    def test_open(self) -> None:
        """Owners alone open a system to everybody."""
        self.share(self.bob, ADMINISTRATOR)
        for setting in ("public", "web"):
            error = self.assertRaises(Refused, self.change, self.bob, **{setting: True})
            self.assertEqual(error.code, "forbidden")
            self.change(self.bob, **{setting: False})
        self.world.changes.clear()
        self.assertTrue(self.change(self.ann, public=True).public)
        self.change(self.ann, public=True)
        self.change(self.ann, web=True, name="shed")
        self.assertEqual(
            self.world.changes,
            [
                SystemState(self.system.id, True, False),
                SystemState(self.system.id, True, True),
            ],
        )
        log = self.run_(read_system_log, self.system.id, None, 2)
        self.assertEqual(
            [e.detail for e in log], [{"name": "shed", "web": True}, {"public": True}]
        )

    def test_strangers(self) -> None:
        """For who has no role, a system is like one that does not exist."""
        for system in (self.system.id, uuid.uuid4()):
            for function, *args in (
                (get_system,),
                (unbind_system,),
                (list_members,),
                (set_member, "cat", VIEWER),
                (set_member, "nobody", VIEWER),
                (remove_member, "ann"),
                (invite, VIEWER),
                (list_invitations,),
                (withdraw_invitation, "0" * 16),
                (self.renamed_id,),
            ):
                error = self.assertRaises(
                    Refused, self.run_, function, self.bob, system, *args
                )
                self.assertEqual(
                    (error.status, error.code, error.detail),
                    (
                        404,
                        "no_such_system",
                        "There is no such system on which you have a role.",
                    ),
                )

    def renamed_id(self, transaction: Any, actor: Actor, system: uuid.UUID) -> None:
        change_system(transaction, actor, system, name="x", public=True, web=True)


class SharingTests(StoreCase):
    """Who gives what to whom."""

    def test_matrix(self) -> None:
        """All roles that act, all changes: allowed is what the roles promise."""
        for acting in ROLES:
            for before in (None, VIEWER, ADMINISTRATOR):
                for after in (None, VIEWER, ADMINISTRATOR, OWNER):
                    with self.subTest(acting=acting, before=before, after=after):
                        self.setUp()
                        self._check(acting, before, after)

    def _check(self, acting: Role, before: Role | None, after: Role | None) -> None:
        actor = self.ann
        if acting is not OWNER:
            actor = self.cat
            self.share(actor, acting)
        if before is not None:
            self.share(self.bob, before)
        allowed = acting is OWNER or (
            acting is ADMINISTRATOR
            and before is not ADMINISTRATOR
            and after in (None, VIEWER)
        )
        if before is None and after is None:
            allowed = False  # There is nothing to take away.
        try:
            if after is None:
                self.run_(remove_member, actor, self.system.id, "bob")
            else:
                self.run_(set_member, actor, self.system.id, "bob", after)
        except Refused:
            self.assertFalse(allowed)
            after = before
        else:
            self.assertTrue(allowed)
        found = self.run_(role_of, self.bob.account, self.system.id)
        self.assertIs(found, after)

    def test_transfer(self) -> None:
        """The new owner has it all, the old one is an administrator."""
        self.share(self.bob, VIEWER)
        self.world.changes.clear()
        self.share(self.bob, OWNER)
        self.assertIs(
            self.run_(role_of, self.ann.account, self.system.id), ADMINISTRATOR
        )
        found = self.run_(get_system, self.ann, self.system.id)
        self.assertEqual((found.owner, found.role), ("bob", ADMINISTRATOR))
        now = int(self.world.database.now * 1000)
        system = self.system.id
        self.assertEqual(
            self.world.changes,
            [
                RoleRevoked(system, self.ann.account, now),
                RoleGranted(system, self.ann.account, ADMINISTRATOR, now),
                RoleGranted(system, self.bob.account, OWNER, now),
            ],
        )
        self.refused("forbidden", set_member, self.ann, system, "bob", VIEWER)

    def test_transfer_name(self) -> None:
        """A system does not go to somebody who has one of that name."""
        self.world.system(self.bob)
        self.refused("name_taken", set_member, self.ann, self.system.id, "bob", OWNER)

    def test_leaving(self) -> None:
        """Everybody may leave or have less, but the owner."""
        self.share(self.bob, ADMINISTRATOR)
        self.share(self.cat, VIEWER)
        system = self.system.id
        self.run_(remove_member, self.cat, system, "cat")
        self.run_(set_member, self.bob, system, "bob", VIEWER)
        self.run_(remove_member, self.bob, system, "bob")
        for role in (VIEWER, ADMINISTRATOR):
            self.refused(
                "owner_must_transfer", set_member, self.ann, system, "ann", role
            )
        self.refused("owner_must_transfer", remove_member, self.ann, system, "ann")
        self.run_(set_member, self.ann, system, "ann", OWNER)

    def test_unknown(self) -> None:
        """Only who may share learns that there is no such account."""
        self.refused(
            "no_such_account", set_member, self.ann, self.system.id, "dan", VIEWER
        )
        self.share(self.bob, VIEWER)
        for name in ("dan", "cat"):
            self.refused(
                "forbidden", set_member, self.bob, self.system.id, name, VIEWER
            )

    def test_revoked(self) -> None:
        """Less is told as a revocation, which is kept for a day; more is not."""
        self.share(self.bob, VIEWER)
        self.share(self.bob, ADMINISTRATOR)
        snapshot = self.run_(load_access)
        bound = int(self.world.database.now * 1000)
        self.assertEqual(
            snapshot.revocations, (RoleRevoked(self.system.id, NOBODY, bound - 1),)
        )
        self.share(self.bob, VIEWER)
        self.world.advance(60)
        self.run_(remove_member, self.ann, self.system.id, "bob")
        now = int(self.world.database.now * 1000)
        self.assertEqual(
            self.run_(load_access),
            AccessSnapshot(
                (SystemState(self.system.id, False, False),),
                (
                    RoleRevoked(self.system.id, self.bob.account, now),
                    RoleRevoked(self.system.id, NOBODY, now - 60_001),
                ),
            ),
        )
        self.world.advance(24 * 3600)
        self.assertEqual(self.run_(load_access).revocations, ())

    def test_members(self) -> None:
        """Administrators see all members, a viewer the owner and itself."""
        self.share(self.bob, ADMINISTRATOR)
        self.share(self.cat, VIEWER)
        for actor, names in (
            (self.ann, ["ann", "bob", "cat"]),
            (self.bob, ["ann", "bob", "cat"]),
            (self.cat, ["ann", "cat"]),
        ):
            members = self.run_(list_members, actor, self.system.id)
            self.assertEqual([m.name for m in members], names)

    def test_not_a_member(self) -> None:
        """A role that is not there cannot be taken away."""
        self.refused("no_such_account", remove_member, self.ann, self.system.id, "bob")

    def test_deaf_follower(self) -> None:
        """One who does not take a change in is told of in the log; others hear it."""

        def deaf(change: object) -> None:
            raise ZeroDivisionError

        self.world.store.on_change.insert(0, deaf)
        self.world.changes.clear()
        self.share(self.bob, VIEWER)
        self.assertEqual(len(self.world.changes), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


PEOPLE = ("ann", "bob", "cat", "dan")
people = st.sampled_from(PEOPLE)


class RoleMachine(RuleBasedStateMachine):
    """Everything that people may try with one system, in any order."""

    def make_world(self) -> StoreWorld:
        """Make the store."""
        return StoreWorld()

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.actors = {name: self.world.actor(name) for name in PEOPLE}
        self.expected: dict[str, Role] = {}
        self.codes: list[tuple[str, Role, str]] = []

    @initialize()
    def bound(self) -> None:
        self.system = self.world.system(self.actors["ann"]).id
        self.expected = {"ann": OWNER}

    def attempt(self, function: Any, *args: Any) -> bool:
        try:
            self.world.run(function, *args)
        except Refused:
            return False
        return True

    @rule(by=people, to=people, role=st.sampled_from(ROLES))
    def set_role(self, by: str, to: str, role: Role) -> None:
        acting, before = self.expected.get(by), self.expected.get(to)
        if self.attempt(set_member, self.actors[by], self.system, to, role):
            assert acting is not None
            assert acting is OWNER or before is not OWNER or role is OWNER
            assert role is not OWNER or OWNER in (acting, before)
            assert by == to or acting >= ADMINISTRATOR or before is OWNER
            if role is OWNER and before is not OWNER:
                self.expected[by] = ADMINISTRATOR
            self.expected[to] = role

    @rule(by=people, to=people)
    def remove(self, by: str, to: str) -> None:
        acting = self.expected.get(by)
        if self.attempt(remove_member, self.actors[by], self.system, to):
            assert acting is not None and self.expected[to] is not OWNER
            assert by == to or acting > self.expected[to]
            del self.expected[to]

    @rule(by=people, role=st.sampled_from(ROLES))
    def make_invitation(self, by: str, role: Role) -> None:
        try:
            code, _ = self.world.run(invite, self.actors[by], self.system, role)
        except Refused:
            return
        assert self.expected[by] > role
        self.codes.append((code, role, by))

    @precondition(lambda self: self.codes)
    @rule(data=st.data(), by=people)
    def accept(self, data: Any, by: str) -> None:
        code, role, inviter = data.draw(st.sampled_from(self.codes))
        if self.attempt(accept_invitation, self.actors[by], code):
            assert self.expected.get(inviter, 0) > role
            self.expected[by] = max(role, self.expected.get(by, role))
            self.codes = [known for known in self.codes if known[0] != code]

    @precondition(lambda self: self.expected)
    @rule(by=people)
    def unbind(self, by: str) -> None:
        if self.attempt(unbind_system, self.actors[by], self.system):
            assert self.expected[by] is OWNER
            self.expected = {}

    @precondition(lambda self: not self.expected)
    @rule(by=people)
    def bind_again(self, by: str) -> None:
        actor = self.actors[by]
        nonce = self.world.run(new_challenge, actor)
        assert self.attempt(self._bind, actor, nonce)
        self.expected = {by: OWNER}

    def _bind(self, transaction: Any, actor: Actor, nonce: bytes) -> None:
        bind_system(
            transaction, actor, "g", system=self.system, public_key=b"", nonce=nonce
        )

    @invariant()
    def roles_are_as_expected(self) -> None:
        """Everybody gets in exactly by the role that was given, and one owns."""
        for name, actor in self.actors.items():
            role = self.world.run(role_of, actor.account, self.system)
            assert role is self.expected.get(name), (name, role, self.expected)
            systems = self.world.run(list_systems, actor)
            assert [s.role for s in systems] == [role] * (role is not None)
        owners = [n for n, role in self.expected.items() if role is OWNER]
        assert len(owners) == (1 if self.expected else 0)

    @invariant()
    def what_was_told_is_what_is(self) -> None:
        """Who follows the changes knows who has which role."""
        known: dict[uuid.UUID, Role | None] = {}
        for change in self.world.changes:
            match change:
                case RoleGranted(account=account, role=role):
                    known[account] = role
                case RoleRevoked(account=account):
                    known[account] = None
                case SystemUnbound():
                    known.clear()
        told = {account: role for account, role in known.items() if role is not None}
        assert told == {
            self.actors[name].account: role for name, role in self.expected.items()
        }

    def teardown(self) -> None:
        self.world.database.close()


class RoleMachineTests(SynchronousTestCase):
    """Roles under all histories."""

    def test_histories(self) -> None:
        """Nobody without a role ever gets in, and a system has exactly one owner."""
        run_state_machine_as_test(
            RoleMachine,
            settings=settings(max_examples=60, stateful_step_count=30, deadline=None),
        )
