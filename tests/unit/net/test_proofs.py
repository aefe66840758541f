"""What certificates and a signature prove."""

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.proofs import verify_proof
from dwcloud.protocol.errors import RemoteProtocolError
from tests.unit.net.stream_world import test_identity


class ProofTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.identity = test_identity()
        self.signature = self.identity.sign(b"text")

    def test_proven(self) -> None:
        """The holder of the key is who the certificates name."""
        name = verify_proof(self.identity.certificates, self.signature, b"text")
        self.assertEqual(name, self.identity.name)

    def test_not_proven(self) -> None:
        """Wrong text, key, system or nonsense prove nothing, which is a 401."""
        server, system = self.identity.certificates
        other = test_identity(1)
        for certificates, signature, text in [
            ((server, system), self.signature, b"other"),
            ((server, system), other.sign(b"text"), b"text"),
            ((server, system), b"", b"text"),
            ((server, other.certificates[1]), self.signature, b"text"),
            ((b"", b""), self.signature, b"text"),
        ]:
            error = self.assertRaises(
                RemoteProtocolError, verify_proof, certificates, signature, text
            )
            self.assertEqual(error.code, 401)
