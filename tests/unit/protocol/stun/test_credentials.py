"""Keys, names and nonces."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.stun.attributes import PasswordAlgorithm
from dwcloud.protocol.stun.credentials import (
    NonceSource,
    SecurityFeature,
    long_term_key,
    make_nonce,
    nonce_features,
    opaque_string,
    short_term_key,
    user_hash,
)

BOTH = SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY


class KeyTests(SynchronousTestCase):
    """Keys and hashes; the vectors of RFC 5769 and RFC 8489 are in test_message."""

    def test_forms(self) -> None:
        """RFC 8489, 9.2.2, 14.4 and 9.1.1 to the letter."""
        text = b"user:realm:pass"
        self.assertEqual(
            long_term_key("user", "realm", "pass", PasswordAlgorithm.MD5),
            hashlib.md5(text).digest(),
        )
        self.assertEqual(
            long_term_key("user", "realm", "pass"), hashlib.sha256(text).digest()
        )
        self.assertEqual(
            user_hash("user", "realm"), hashlib.sha256(b"user:realm").digest()
        )
        self.assertEqual(short_term_key("pass"), b"pass")

    def test_opaque_string(self) -> None:
        """Composed forms and plain spaces, so that equal looks are equal keys."""
        self.assertEqual(opaque_string("e\u0301"), "\u00e9")
        self.assertEqual(opaque_string("a\u3000b"), "a b")
        self.assertEqual(opaque_string("\u30de\u30c8"), "\u30de\u30c8")
        for refused in ("", "a\nb", "a\u00adb", "\ue000", "\U000e0001", "\ud800"):
            self.assertRaises(LocalProtocolError, opaque_string, refused)

    @given(st.text())
    def test_opaque_string_is_stable(self, text: str) -> None:
        """Preparing twice changes nothing."""
        try:
            prepared = opaque_string(text)
        except LocalProtocolError:
            return
        self.assertEqual(opaque_string(prepared), prepared)


class NonceTests(SynchronousTestCase):
    """Nonces and what they tell."""

    def test_features(self) -> None:
        """The sample of RFC 8489, B.1 tells username anonymity, in bit 1."""
        sample = b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"
        self.assertEqual(nonce_features(sample), SecurityFeature.USERNAME_ANONYMITY)
        self.assertEqual(make_nonce(BOTH, b"x"), b"obMatJos2AAADx")
        self.assertEqual(nonce_features(make_nonce(BOTH, b"x")), BOTH)

    @given(st.binary(max_size=40))
    def test_any_bytes(self, nonce: bytes) -> None:
        """Any bytes have features, mostly none, and are no nonce of ours."""
        self.assertEqual(nonce_features(nonce), 0)
        nonce_features(b"obMatJos2" + nonce)
        source = NonceSource(bytes(16), BOTH)
        self.assertFalse(source.is_valid(nonce, b"", now=0.0))
        prefixed = b"obMatJos2AAAD" + nonce
        self.assertFalse(source.is_valid(prefixed, b"", now=0.0))

    def test_validity(self) -> None:
        """A nonce is good for its client, its server and its time."""
        source = NonceSource(bytes(16), BOTH, lifetime=60.0)
        nonce = source.issue(b"client", now=1000.0)
        self.assertTrue(source.is_valid(nonce, b"client", now=1000.0))
        self.assertTrue(source.is_valid(nonce, b"client", now=1060.0))
        self.assertFalse(source.is_valid(nonce, b"client", now=1060.1))
        self.assertFalse(source.is_valid(nonce, b"other", now=1000.0))
        weaker = make_nonce(SecurityFeature(0), nonce[13:])
        self.assertFalse(source.is_valid(weaker, b"client", now=1000.0))
        other = NonceSource(bytes(15) + b"1", BOTH)
        self.assertFalse(other.is_valid(nonce, b"client", now=1000.0))
        self.assertRaises(LocalProtocolError, NonceSource, bytes(15), BOTH)
