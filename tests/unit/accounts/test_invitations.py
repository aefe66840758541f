"""Invitations in the store."""

from __future__ import annotations

from dwcloud.accounts.audit import Actor, read_system_log
from dwcloud.accounts.members import (
    accept_invitation,
    invite,
    list_invitations,
    withdraw_invitation,
)
from dwcloud.accounts.roles import Role
from tests.unit.accounts import test_systems
from tests.unit.accounts.test_systems import ADMINISTRATOR, OWNER, VIEWER


class StoreCase(test_systems.StoreCase):
    """As for systems."""


class InvitationTests(StoreCase):
    """Roles by code."""

    def invite(self, role: Role = VIEWER, by: Actor | None = None) -> str:
        code, _ = self.run_(invite, by or self.ann, self.system.id, role)
        return code

    def test_accepted(self) -> None:
        """A code gives its role to one who has it, once."""
        code = self.invite()
        found = self.run_(accept_invitation, self.bob, code.upper())
        self.assertEqual((found.id, found.role), (self.system.id, VIEWER))
        self.refused("no_such_invitation", accept_invitation, self.cat, code)

    def test_more_stays(self) -> None:
        """It takes nothing from who has more."""
        found = self.run_(accept_invitation, self.ann, self.invite())
        self.assertIs(found.role, OWNER)

    def test_limits(self) -> None:
        """Administrators invite viewers; nobody invites an owner."""
        self.share(self.bob, ADMINISTRATOR)
        self.share(self.cat, VIEWER)
        self.invite(VIEWER, self.bob)
        system = self.system.id
        self.refused("forbidden", invite, self.bob, system, ADMINISTRATOR)
        self.refused("forbidden", invite, self.cat, system, VIEWER)
        self.refused("owner_must_transfer", invite, self.ann, system, OWNER)

    def test_withdrawn(self) -> None:
        """It counts while the one who made it might make it, for a week."""
        self.share(self.bob, ADMINISTRATOR)
        code = self.invite(VIEWER, self.bob)
        self.share(self.bob, VIEWER)
        self.refused("no_such_invitation", accept_invitation, self.cat, code)
        code = self.invite()
        self.world.advance(7 * 24 * 3600)
        self.refused("no_such_invitation", accept_invitation, self.cat, code)

    def test_listed(self) -> None:
        """Administrators see what is open, by whom and until when, but no code."""
        self.share(self.bob, ADMINISTRATOR)
        first = self.invite(VIEWER, self.bob)
        self.world.advance(10)
        self.invite(ADMINISTRATOR)
        found = self.run_(list_invitations, self.bob, self.system.id)
        self.assertEqual(
            [(each.role, each.inviter) for each in found],
            [(VIEWER, "bob"), (ADMINISTRATOR, "ann")],
        )
        self.assertEqual(found[1].expires - found[0].expires, 10_000)
        self.assertNotIn(first, [each.id for each in found])
        self.run_(accept_invitation, self.cat, first)
        found = self.run_(list_invitations, self.bob, self.system.id)
        self.assertEqual([each.inviter for each in found], ["ann"])
        self.refused("forbidden", list_invitations, self.cat, self.system.id)
        self.world.advance(7 * 24 * 3600)
        self.assertEqual(self.run_(list_invitations, self.bob, self.system.id), [])

    def test_withdrawn_by_hand(self) -> None:
        """Who could give its role ends an invitation; the log tells."""
        self.share(self.bob, ADMINISTRATOR)
        system = self.system.id
        code = self.invite(ADMINISTRATOR)
        [open_] = self.run_(list_invitations, self.ann, system)
        self.refused("forbidden", withdraw_invitation, self.bob, system, open_.id)
        self.run_(withdraw_invitation, self.ann, system, open_.id)
        self.refused("no_such_invitation", accept_invitation, self.cat, code)
        self.refused(
            "no_such_invitation", withdraw_invitation, self.ann, system, open_.id
        )
        self.assertEqual(self.run_(list_invitations, self.ann, system), [])
        [entry] = self.run_(read_system_log, system, None, 1)
        self.assertEqual(
            (entry.action, entry.detail),
            ("invitation.withdrawn", {"role": "administrator"}),
        )
        kept = self.invite()
        [open_] = self.run_(list_invitations, self.ann, system)
        self.run_(withdraw_invitation, self.bob, system, open_.id)
        self.refused("no_such_invitation", accept_invitation, self.cat, kept)

    def test_withdrawn_elsewhere(self) -> None:
        """An invitation to another system is none to this one."""
        other = self.world.system(self.ann, "other")
        code = self.invite()
        [open_] = self.run_(list_invitations, self.ann, self.system.id)
        self.refused(
            "no_such_invitation", withdraw_invitation, self.ann, other.id, open_.id
        )
        self.run_(accept_invitation, self.cat, code)

    def test_number(self) -> None:
        """A system has a hundred open invitations at most."""
        for _ in range(100):
            self.invite()
        self.refused("too_many", invite, self.ann, self.system.id, VIEWER)
