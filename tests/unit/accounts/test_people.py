"""Accounts and sessions in the store."""

from __future__ import annotations

import uuid

import pyotp
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.audit import forget_old_entries, read_account_log
from dwcloud.accounts.changes import RoleRevoked
from dwcloud.accounts.members import invite, invite_to_register
from dwcloud.accounts.operator import set_disabled
from dwcloud.accounts.people import (
    CLOSED,
    INVITED,
    Account,
    begin_totp,
    change_password,
    close_account,
    confirm_totp,
    find_account,
    find_credentials,
    remove_totp,
    renew_hash,
)
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.roles import Role
from dwcloud.accounts.sessions import (
    ACCESS_LIFETIME,
    BEARER,
    COOKIE,
    COOKIE_IDLE,
    SESSION_LIFETIME,
    OpenedSession,
    close_session,
    list_sessions,
    refresh_session,
    session_of,
    sign_in,
)
from dwcloud.accounts.systems import forget_old_secrets
from tests.unit.accounts.store_world import StoreWorld

ADDRESS = "192.0.2.1"


class StoreCase(SynchronousTestCase):
    """A store on a simulated clock."""

    def make_world(self) -> StoreWorld:
        """Make the store."""
        return StoreWorld()

    def setUp(self) -> None:
        self.world = self.make_world()
        self.run_ = self.world.run

    def refused(self, code: str, function: object, *args: object, **kw: object) -> None:
        """Check that something is refused, with this code."""
        error = self.assertRaises(Refused, self.run_, function, *args, **kw)
        self.assertEqual(error.code, code)

    def sign_in(
        self, account: Account, totp: str | None = None, kind: str = BEARER
    ) -> OpenedSession | str:
        """Sign in by the right password."""
        return self.run_(
            sign_in,
            self.world.credentials(account),
            seal=self.world.seal,
            totp=totp,
            kind=kind,
            address=ADDRESS,
            agent="test",
        )

    def opened(self, account: Account, kind: str = BEARER) -> OpenedSession:
        """Sign in, which succeeds."""
        session = self.sign_in(account, kind=kind)
        assert isinstance(session, OpenedSession), session
        return session

    def signed_in(self, token: str, kind: str = BEARER) -> bool:
        """Tell whether an access token counts."""
        return self.run_(session_of, token, kind, ADDRESS) is not None


class RegistrationTests(StoreCase):
    """Who gets an account."""

    def test_taken(self) -> None:
        """A name is had once."""
        self.world.account("ann")
        error = self.assertRaises(Refused, self.world.account, "ann")
        self.assertEqual((error.status, error.code), (409, "name_taken"))

    def test_closed(self) -> None:
        """A closed cloud takes nobody."""
        error = self.assertRaises(Refused, self.world.account, "ann", CLOSED)
        self.assertEqual(error.code, "registration_closed")

    def test_invited(self) -> None:
        """An invitation to register is good once, one to a system stays to be taken."""
        error = self.assertRaises(Refused, self.world.account, "ann", INVITED)
        self.assertEqual(error.code, "invitation_needed")
        code = self.run_(invite_to_register)
        self.world.account("ann", INVITED, invitation=code.upper().replace("-", " "))
        self.assertRaises(Refused, self.world.account, "bob", INVITED, invitation=code)
        owner = self.world.actor("owner")
        system = self.world.system(owner)
        shared, _ = self.run_(invite, owner, system.id, Role.VIEWER)
        self.world.account("bob", INVITED, invitation=shared)
        self.world.account("cat", INVITED, invitation=shared)

    def test_expired_invitation(self) -> None:
        """An invitation is good for a week."""
        code = self.run_(invite_to_register)
        self.world.advance(7 * 24 * 3600)
        self.assertRaises(Refused, self.world.account, "ann", INVITED, invitation=code)


class SignInTests(StoreCase):
    """Sessions, from the right password to their end."""

    def test_bearer(self) -> None:
        """An access token counts for 15 minutes, and tells who comes."""
        account = self.world.account("ann")
        session = self.opened(account)
        actor = self.run_(session_of, session.access_token, BEARER, "198.51.100.1")
        assert actor is not None
        self.assertEqual((actor.account, actor.name), (account.id, "ann"))
        self.assertEqual(actor.address, "198.51.100.1")
        self.world.advance(ACCESS_LIFETIME - 1)
        self.assertTrue(self.signed_in(session.access_token))
        self.world.advance(1)
        self.assertFalse(self.signed_in(session.access_token))

    def test_kinds(self) -> None:
        """A token counts only the way it was given out for; guesses do not count."""
        account = self.world.account("ann")
        bearer, cookie = self.opened(account), self.opened(account, COOKIE)
        self.assertFalse(self.signed_in(bearer.access_token, COOKIE))
        self.assertFalse(self.signed_in(cookie.access_token, BEARER))
        self.assertFalse(self.signed_in(bearer.refresh_token))
        self.assertFalse(self.signed_in(""))
        self.assertEqual(cookie.refresh_token, "")

    def test_cookie(self) -> None:
        """A browser's session lasts while it is used, for 30 days at most."""
        session = self.opened(self.world.account("ann"), COOKIE)
        for _ in range(0, SESSION_LIFETIME - COOKIE_IDLE, COOKIE_IDLE // 2):
            self.world.advance(COOKIE_IDLE // 2)
            self.assertTrue(self.signed_in(session.access_token, COOKIE))
        self.world.advance(COOKIE_IDLE)
        self.assertFalse(self.signed_in(session.access_token, COOKIE))
        self.run_(forget_old_secrets)

    def test_changed_meanwhile(self) -> None:
        """A password that was right for a hash of yesterday opens nothing."""
        account = self.world.account("ann")
        checked = self.world.credentials(account)
        self.run_(renew_hash, checked, "hash with more work")
        outcome = self.run_(
            sign_in,
            checked,
            seal=self.world.seal,
            totp=None,
            kind=BEARER,
            address=ADDRESS,
            agent="",
        )
        self.assertEqual(outcome, "bad_credentials")
        found = self.run_(find_credentials, "ann")
        assert found is not None
        self.assertEqual(found.password_hash, "hash with more work")

    def test_list_and_close(self) -> None:
        """One sees one's sessions and ends any of them, and nobody else's."""
        account = self.world.account("ann")
        first, second = self.opened(account), self.opened(account)
        other = self.opened(self.world.account("bob"))
        actor = self.run_(session_of, first.access_token, BEARER, ADDRESS)
        assert actor is not None
        found = {record.id for record in self.run_(list_sessions, actor)}
        self.assertEqual(found, {first.id, second.id})
        self.run_(close_session, actor, second.id)
        self.assertFalse(self.signed_in(second.access_token))
        self.refused("no_such_session", close_session, actor, other.id)
        self.assertTrue(self.signed_in(other.access_token))

    def test_number(self) -> None:
        """An account has 50 sessions; one more ends the one not used for longest."""
        account = self.world.account("ann")
        sessions = []
        for _ in range(51):
            sessions.append(self.opened(account))
            self.world.advance(1)
        self.assertFalse(self.signed_in(sessions[0].access_token))
        self.assertTrue(all(self.signed_in(s.access_token) for s in sessions[1:]))

    def test_disabled(self) -> None:
        """A disabled account has no sessions and gets none, until it is enabled."""
        actor = self.world.actor("ann")
        system = self.world.system(actor)
        account = Account(actor.account, "ann")
        session = self.opened(account)
        self.run_(set_disabled, "ann", True)
        self.assertFalse(self.signed_in(session.access_token))
        self.assertEqual(self.sign_in(account), "bad_credentials")
        self.assertEqual(
            self.world.changes[-1],
            RoleRevoked(system.id, account.id, int(self.world.database.now * 1000)),
        )
        self.run_(set_disabled, "ann", False)
        self.opened(account)
        self.refused("no_such_account", set_disabled, "bob", True)


class RefreshTests(StoreCase):
    """How a program stays signed in."""

    def setUp(self) -> None:
        super().setUp()
        self.session = self.opened(self.world.account("ann"))

    def refresh(self, token: str) -> OpenedSession | None:
        return self.run_(refresh_session, token, ADDRESS)

    def test_rotation(self) -> None:
        """Each refresh gives new tokens, and the old access token counts no more."""
        for _ in range(3):
            self.world.advance(ACCESS_LIFETIME)
            new = self.refresh(self.session.refresh_token)
            assert new is not None
            self.assertFalse(self.signed_in(self.session.access_token))
            self.assertTrue(self.signed_in(new.access_token))
            self.session = new

    def test_reuse(self) -> None:
        """A refresh token that comes again ends the session: somebody stole it."""
        new = self.refresh(self.session.refresh_token)
        assert new is not None
        self.assertTrue(self.signed_in(new.access_token))
        self.assertIsNone(self.refresh(self.session.refresh_token))
        self.assertFalse(self.signed_in(new.access_token))
        self.assertIsNone(self.refresh(new.refresh_token))

    def test_late_reuse(self) -> None:
        """It is too late for a lost answer after a minute."""
        new = self.refresh(self.session.refresh_token)
        assert new is not None
        self.world.advance(61)
        self.assertIsNone(self.refresh(self.session.refresh_token))
        self.assertIsNone(self.refresh(new.refresh_token))

    def test_lost_answer(self) -> None:
        """Whoever did not get the answer asks again; what was lost is spent then."""
        lost = self.refresh(self.session.refresh_token)
        again = self.refresh(self.session.refresh_token)
        assert lost is not None and again is not None
        self.assertFalse(self.signed_in(lost.access_token))
        self.assertTrue(self.signed_in(again.access_token))
        # Who has it after all is not who asked again.
        self.assertIsNone(self.refresh(lost.refresh_token))
        self.assertFalse(self.signed_in(again.access_token))

    def test_end(self) -> None:
        """After 30 days one signs in again."""
        self.world.advance(SESSION_LIFETIME)
        self.assertIsNone(self.refresh(self.session.refresh_token))
        self.assertIsNone(self.refresh("nonsense"))


class PasswordTests(StoreCase):
    """Changing a password and closing an account."""

    def test_change(self) -> None:
        """Other sessions and all grants end with the old password."""
        actor = self.world.actor("ann")
        system = self.world.system(actor)
        account = Account(actor.account, "ann")
        mine, other = self.opened(account), self.opened(account)
        who = self.run_(session_of, mine.access_token, BEARER, ADDRESS)
        assert who is not None
        checked = self.world.credentials(account)
        self.world.changes.clear()
        self.run_(change_password, who, checked, "new hash")
        self.assertTrue(self.signed_in(mine.access_token))
        self.assertFalse(self.signed_in(other.access_token))
        now = int(self.world.database.now * 1000)
        self.assertEqual(
            self.world.changes, [RoleRevoked(system.id, actor.account, now)]
        )
        self.refused("changed_meanwhile", change_password, who, checked, "newer hash")

    def test_close(self) -> None:
        """An account that owns systems stays; another goes with all it had."""
        actor = self.world.actor("ann")
        self.world.system(actor)
        self.refused("owns_systems", close_account, actor)
        bob = self.world.actor("bob")
        session = self.opened(Account(bob.account, "bob"))
        self.run_(close_account, bob)
        self.assertFalse(self.signed_in(session.access_token))
        self.assertIsNone(self.run_(find_credentials, "bob"))
        self.refused("signed_out", find_account, bob.account)


class SecondFactorTests(StoreCase):
    """Codes of a device, and codes for its loss."""

    def setUp(self) -> None:
        super().setUp()
        self.actor = self.world.actor("ann")
        self.account = Account(self.actor.account, "ann")
        self.secret = self.run_(begin_totp, self.actor, self.world.seal)

    def code(self, offset: int = 0) -> str:
        """The device's code, ``offset`` intervals from now."""
        now = int(self.world.database.now)
        return pyotp.TOTP(self.secret).at(for_time=now, counter_offset=offset)

    def confirm(self) -> list[str]:
        return self.run_(confirm_totp, self.actor, self.world.seal, self.code())

    def test_confirmed(self) -> None:
        """It is asked for once a code has shown that the device has the secret."""
        self.assertIsInstance(self.sign_in(self.account), OpenedSession)
        self.refused("bad_code", confirm_totp, self.actor, self.world.seal, "000000")
        self.assertEqual(len(set(self.confirm())), 10)
        self.assertEqual(self.sign_in(self.account), "totp_required")
        self.assertEqual(self.sign_in(self.account, "000000"), "bad_credentials")
        self.assertEqual(self.sign_in(self.account, "nonsense"), "bad_credentials")
        self.world.advance(30)
        session = self.sign_in(self.account, self.code())
        assert isinstance(session, OpenedSession)
        self.assertTrue(session.account.totp)
        self.refused("totp_enabled", begin_totp, self.actor, self.world.seal)

    def test_replay(self) -> None:
        """A code is good once, and older ones are not good after it."""
        self.confirm()
        self.assertEqual(self.sign_in(self.account, self.code()), "bad_credentials")
        self.world.advance(60)
        self.assertIsInstance(self.sign_in(self.account, self.code()), OpenedSession)
        for offset in (-1, 0):
            self.assertEqual(
                self.sign_in(self.account, self.code(offset)), "bad_credentials"
            )
        self.assertIsInstance(self.sign_in(self.account, self.code(1)), OpenedSession)

    def test_clock(self) -> None:
        """The device's clock may be 30 seconds wrong, not more."""
        self.confirm()
        self.world.advance(300)
        for offset in (-2, 2):
            self.assertEqual(
                self.sign_in(self.account, self.code(offset)), "bad_credentials"
            )

    def test_recovery(self) -> None:
        """A recovery code is good once, however it is typed."""
        codes = self.confirm()
        typed = codes[3].upper().replace("-", " ")
        self.assertIsInstance(self.sign_in(self.account, typed), OpenedSession)
        self.assertEqual(self.sign_in(self.account, typed), "bad_credentials")
        self.assertIsInstance(self.sign_in(self.account, codes[4]), OpenedSession)

    def test_removal(self) -> None:
        """It is removed by a code; a new one has another secret."""
        seal = self.world.seal
        codes = self.confirm()
        self.assertFalse(self.run_(remove_totp, self.actor, seal, "000000"))
        self.assertTrue(self.run_(remove_totp, self.actor, seal, codes[0]))
        self.refused("totp_not_enabled", remove_totp, self.actor, seal, codes[1])
        self.assertIsInstance(self.sign_in(self.account), OpenedSession)
        self.refused("totp_not_begun", confirm_totp, self.actor, seal, self.code())
        self.assertNotEqual(self.run_(begin_totp, self.actor, seal), self.secret)

    def test_recovery_codes_of_others(self) -> None:
        """One account's recovery code is nothing for another."""
        codes = self.confirm()
        bob = self.world.actor("bob")
        self.secret = self.run_(begin_totp, bob, self.world.seal)
        self.run_(confirm_totp, bob, self.world.seal, self.code())
        outcome = self.sign_in(Account(bob.account, "bob"), codes[0])
        self.assertEqual(outcome, "bad_credentials")


class LogTests(StoreCase):
    """What is written down."""

    def test_sign_ins(self) -> None:
        """Each sign-in is, with its address, whether it succeeded or not."""
        account = self.world.account("ann")
        self.opened(account)
        self.run_(set_disabled, "ann", True)
        self.sign_in(account)
        entries = self.run_(read_account_log, account.id, None, 10)
        self.assertEqual(
            [(e.action, e.outcome, e.address) for e in entries],
            [
                ("session.refused", "refused", ADDRESS),
                ("account.disabled", "ok", ""),
                ("session.opened", "ok", ADDRESS),
                ("account.registered", "ok", ADDRESS),
            ],
        )
        page = self.run_(read_account_log, account.id, entries[1].id, 1)
        self.assertEqual(page, [entries[2]])
        self.assertEqual(self.run_(read_account_log, uuid.uuid4(), None, 10), [])

    def test_age(self) -> None:
        """Entries are kept for 90 days."""
        account = self.world.account("ann")
        self.world.advance(90 * 24 * 3600)
        self.assertEqual(self.run_(forget_old_entries), 0)
        self.world.advance(1)
        self.assertEqual(self.run_(forget_old_entries), 1)
        self.assertEqual(self.run_(read_account_log, account.id, None, 10), [])
