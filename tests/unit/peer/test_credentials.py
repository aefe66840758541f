"""Sessions that are kept between commands."""

from __future__ import annotations

import json
import stat
import uuid
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError
from dwcloud.net.cloud_trust import WEB
from dwcloud.peer.credentials import Credentials, CredentialStore, platform_keyring
from dwcloud.peer.known_clouds import KnownCloud, KnownClouds, cloud_name, decode_key
from dwcloud.peer.mediator_address import MediatorAddress

CREDENTIALS = Credentials(
    "anna", uuid.UUID(int=5), "access-secret", 1000.0, "refresh-secret", b"k" * 32
)
SYSTEM = uuid.UUID("0190163d-8694-8c3e-9a00-7ab7d7b42e1d")


class MemoryKeyring:
    """A keyring that forgets with the test.

    :ivar locked: whether it takes nothing.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.locked = False

    def get(self, cloud: str) -> str | None:
        if self.locked:
            raise ConfigurationError("the keyring cannot be read: locked")
        return self.texts.get(cloud)

    def set(self, cloud: str, text: str) -> bool:
        if not self.locked:
            self.texts[cloud] = text
        return not self.locked

    def delete(self, cloud: str) -> None:
        self.texts.pop(cloud, None)


class CredentialTests(SynchronousTestCase):
    """The store, with and without a keyring."""

    def setUp(self) -> None:
        """Have a file."""
        self.file = Path(self.mktemp()) / "credentials.json"
        self.keyring = MemoryKeyring()

    def store(self, keyring: Any = None) -> CredentialStore:
        """One that a new process opens."""
        return CredentialStore(self.file, keyring)

    def test_kept(self) -> None:
        """What was saved is loaded, from a file that is for its owner alone."""
        self.store().save("a:1", CREDENTIALS)
        self.assertEqual(self.store().load("a:1"), CREDENTIALS)
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)

    def test_nothing_secret_is_printed(self) -> None:
        """Neither a log nor a traceback shows what must not be known."""
        text = repr(CREDENTIALS)
        for secret in ("access-secret", "refresh-secret", "kkkk"):
            self.assertNotIn(secret, text)

    def test_keyring(self) -> None:
        """With a keyring no secret is in the file."""
        who = self.store(self.keyring).save("a:1", CREDENTIALS)
        self.assertEqual(who.place, "keyring")
        self.assertEqual(self.store(self.keyring).load("a:1"), CREDENTIALS)
        text = self.file.read_text()
        for secret in ("access-secret", "refresh-secret", "client_key"):
            self.assertNotIn(secret, text)
        self.assertEqual(self.store(self.keyring).clouds()["a:1"].account, "anna")

    def test_locked_keyring_is_done_without(self) -> None:
        """A keyring that takes nothing is replaced by the file."""
        self.keyring.locked = True
        who = self.store(self.keyring).save("a:1", CREDENTIALS)
        self.assertEqual(who.place, "file")
        self.assertEqual(self.store(self.keyring).load("a:1"), CREDENTIALS)

    def test_keyring_that_gives_nothing(self) -> None:
        """What went into a keyring needs it again; the error says what to do."""
        self.store(self.keyring).save("a:1", CREDENTIALS)
        error = self.assertRaises(ConfigurationError, self.store().load, "a:1")
        self.assertIn("dwcloud account login --mediator a:1", str(error))
        self.keyring.locked = True
        self.assertRaises(ConfigurationError, self.store(self.keyring).load, "a:1")
        self.keyring.locked = False
        self.keyring.texts["a:1"] = "{"
        self.assertRaises(ConfigurationError, self.store(self.keyring).load, "a:1")
        self.keyring.texts["a:1"] = "{}"
        self.assertRaises(ConfigurationError, self.store(self.keyring).load, "a:1")
        del self.keyring.texts["a:1"]
        self.assertIsNone(self.store(self.keyring).load("a:1"))

    def test_removed(self) -> None:
        """Nothing stays behind, in the file or the keyring."""
        self.store(self.keyring).save("a:1", CREDENTIALS)
        self.store(self.keyring).remove("a:1")
        self.assertEqual(self.keyring.texts, {})
        self.assertIsNone(self.store(self.keyring).load("a:1"))
        self.assertNotIn("anna", self.file.read_text())
        self.store().remove("a:1")

    def test_several_clouds(self) -> None:
        """The first is meant until another is chosen, or it is gone."""
        store = self.store()
        self.assertIsNone(store.current)
        store.save("a:1", CREDENTIALS)
        store.save("b:1", attrs.evolve(CREDENTIALS, account="bert"))
        self.assertEqual(store.current, "a:1")
        store.use("b:1")
        self.assertEqual(self.store().current, "b:1")
        store.remove("b:1")
        self.assertEqual(store.current, "a:1")
        store.remove("a:1")
        self.assertIsNone(store.current)

    def test_use_what_is_not_there(self) -> None:
        """The error names what could be meant."""
        self.store().save("a:1", CREDENTIALS)
        error = self.assertRaises(ConfigurationError, self.store().use, "b:1")
        self.assertIn("signed in to: a:1", str(error))

    def test_system_in_use(self) -> None:
        """It is kept as long as the account is the same."""
        store = self.store()
        store.save("a:1", CREDENTIALS)
        store.use_system("a:1", SYSTEM)
        store.save("a:1", attrs.evolve(CREDENTIALS, access_token="new"))
        self.assertEqual(self.store().clouds()["a:1"].system, SYSTEM)
        store.save("a:1", attrs.evolve(CREDENTIALS, account_id=uuid.UUID(int=6)))
        self.assertIsNone(self.store().clouds()["a:1"].system)

    def test_damaged(self) -> None:
        """Whatever is wrong with the file, the error names it and what to do."""
        self.store().save("a:1", CREDENTIALS)
        good = json.loads(self.file.read_text())
        for change in (
            {"clouds": []},
            {"clouds": {"a:1": {}}},
            {"clouds": {"a:1": None}},
            {"clouds": {"a:1": {**good["clouds"]["a:1"], "secret": {}}}},
            {"clouds": {"a:1": {**good["clouds"]["a:1"], "account_id": "x"}}},
        ):
            self.file.write_text(json.dumps({**good, **change}))
            error = self.assertRaises(ConfigurationError, self.store().load, "a:1")
            self.assertIn(f"{self.file} is damaged", str(error))

    def test_other_version(self) -> None:
        """A file of a later version is left alone."""
        self.store().save("a:1", CREDENTIALS)
        text = self.file.read_text().replace('"version": 1', '"version": 2')
        self.file.write_text(text)
        save = self.store().save
        error = self.assertRaises(ConfigurationError, save, "a:1", CREDENTIALS)
        self.assertIn("another version", str(error))
        self.assertEqual(self.file.read_text(), text)


class PlatformKeyringTests(SynchronousTestCase):
    """The package keyring, by a backend of its own interface."""

    def test_backend(self) -> None:
        """Secrets go in, come out and are deleted; failures are told as ours."""
        try:
            import keyring
            from keyring.backend import KeyringBackend
            from keyring.errors import KeyringLocked, PasswordDeleteError
        except ImportError:
            self.skipTest("the package keyring is not installed")

        class Backend(KeyringBackend):
            priority = 5  # type: ignore[assignment]
            locked = False
            kept: dict[tuple[str, str], str] = {}

            def get_password(self, service: str, username: str) -> str | None:
                if self.locked:
                    raise KeyringLocked("locked")
                return self.kept.get((service, username))

            def set_password(self, service: str, username: str, password: str) -> None:
                if self.locked:
                    raise KeyringLocked("locked")
                self.kept[service, username] = password

            def delete_password(self, service: str, username: str) -> None:
                if (service, username) not in self.kept:
                    raise PasswordDeleteError("none")
                del self.kept[service, username]

        before = keyring.get_keyring()
        self.addCleanup(keyring.set_keyring, before)
        backend = Backend()
        keyring.set_keyring(backend)
        place = platform_keyring()
        assert place is not None
        self.assertTrue(place.set("a:1", "text"))
        self.assertEqual(backend.kept, {("dwcloud", "a:1"): "text"})
        self.assertEqual(place.get("a:1"), "text")
        place.delete("a:1")
        place.delete("a:1")
        self.assertIsNone(place.get("a:1"))
        backend.locked = True
        self.assertFalse(place.set("a:1", "text"))
        self.assertRaises(ConfigurationError, place.get, "a:1")

    def test_backend_that_keeps_nothing(self) -> None:
        """One that keyring itself does not recommend is none."""
        try:
            import keyring
            from keyring.backends.fail import Keyring
        except ImportError:
            self.skipTest("the package keyring is not installed")
        self.addCleanup(keyring.set_keyring, keyring.get_keyring())
        keyring.set_keyring(Keyring())
        self.assertIsNone(platform_keyring())


class KnownCloudTests(SynchronousTestCase):
    """The file of keys of clouds."""

    def setUp(self) -> None:
        """Have a file."""
        self.file = Path(self.mktemp()) / "known.json"
        self.known = KnownCloud("SHA256:abc", bytes(range(32)))

    def test_kept(self) -> None:
        """What was set is there for the next process."""
        KnownClouds(self.file).set("a:1", self.known)
        KnownClouds(self.file).set("b:1", KnownCloud(WEB))
        self.assertEqual(KnownClouds(self.file).get("a:1"), self.known)
        self.assertEqual(KnownClouds(self.file).get("b:1"), KnownCloud(WEB))
        KnownClouds(self.file).forget("a:1")
        self.assertIsNone(KnownClouds(self.file).get("a:1"))

    def test_damaged(self) -> None:
        """A damaged file is not taken for an empty one: that would trust anybody."""
        self.file.parent.mkdir()
        for value in (
            {},
            {"version": 1},
            {"version": 2, "clouds": {}},
            {"version": 1, "clouds": []},
            {"version": 1, "clouds": {"a:1": {"trust": "x", "cloud_key": None}}},
            {"version": 1, "clouds": {"a:1": {"trust": WEB, "cloud_key": "AA"}}},
            {"version": 1, "clouds": {"a:1": {"trust": WEB}}},
        ):
            self.file.write_text(json.dumps(value))
            clouds = KnownClouds(self.file)
            error = self.assertRaises(ConfigurationError, clouds.get, "a:1")
            self.assertIn(str(self.file), str(error))

    def test_one_name(self) -> None:
        """However a mediator is written, it is one cloud."""
        names = {
            cloud_name(MediatorAddress.parse(text))
            for text in ("Cloud.example.org", "cloud.example.org:3345")
        }
        self.assertEqual(names, {"cloud.example.org:3345"})

    @given(st.text())
    def test_any_key(self, text: str) -> None:
        """Only 32 octets are a key."""
        key = decode_key(text)
        self.assertTrue(key is None or len(key) == 32)
