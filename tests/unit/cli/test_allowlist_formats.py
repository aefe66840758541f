"""Allow lists in each format."""

from __future__ import annotations

import csv
import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.allowlist import AllowlistCommand
from dwcloud.cli.allowlist_formats import as_csv, as_dicts, as_nft, as_text
from dwcloud.cli.failures import CommandFailed
from dwcloud.peer.allowlist import Admission, Direction, Need, admissions
from dwcloud.peer.allowlist_examination import Verdict
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.tunnelling.urls import ServiceURL

LINES = admissions(
    MediatorAddress("cloud.example.org"),
    [ServiceURL("http", "192.0.2.9", 3349)],
    addresses={"cloud.example.org": ("192.0.2.1", "2001:db8::1")},
    tcp_port=7000,
)
VERDICTS = [
    Verdict(reachable, "a reason, or\nanother")
    for reachable, _ in zip([True, False, None] * 9, LINES, strict=False)
]
RULE = re.compile(
    r"        (?:ip6? [sd]addr (?:[0-9a-f:./]+|\{ [0-9a-f:./, ]+ \}) )?"
    r"(?:tcp|udp)(?: sport \d+ (?:tcp|udp))? dport \d+(?:-\d+)? accept "
    r'comment "[A-Za-z0-9 .,:;()/_-]{1,120}"'
)


class FormatTests(SynchronousTestCase):
    """The same lines, for people and programs."""

    def test_text(self) -> None:
        """A table; private networks are not written out."""
        text = "\n".join(as_text(LINES, None))
        row = r"required +out +tcp +cloud\.example\.org +192\.0\.2\.1 "
        self.assertRegex(text, row)
        self.assertNotIn("10.0.0.0/8", text)
        self.assertIn("1024-65535 (from 1900)", text)
        self.assertIn("reachable", as_text(LINES, VERDICTS)[0])

    def test_csv(self) -> None:
        """Each line has all columns, whatever is in them."""
        rows = list(csv.DictReader([f"{line}\n" for line in as_csv(LINES, VERDICTS)]))
        self.assertEqual(rows[0]["host"], "cloud.example.org")
        self.assertEqual(rows[0]["addresses"], "192.0.2.1 2001:db8::1")
        self.assertEqual({row["reachable"] for row in rows}, {"yes", "no", "unknown"})

    def test_json(self) -> None:
        """Ports are numbers, what is not known is null."""
        found = as_dicts(LINES, VERDICTS)
        self.assertEqual(len(found), len(LINES))
        self.assertEqual(found[0]["first_port"], 3345)
        self.assertEqual([line["reachable"] for line in found[:3]], [True, False, None])
        self.assertNotIn("reachable", as_dicts(LINES, None)[0])

    def test_nft(self) -> None:
        """Each admission is a rule in the chain of its direction."""
        lines = as_nft(LINES, VERDICTS, "filter")
        text = "\n".join(lines)
        self.assertIn("ip daddr 192.0.2.1 tcp dport 3345 accept", text)
        self.assertIn("ip6 daddr 2001:db8::1 tcp dport 3345 accept", text)
        outward, inward = text.split("chain dwcloud_in {\n")
        self.assertIn("tcp dport 7000 accept", inward)
        self.assertNotIn("dport 7000", outward)

    def test_nft_without_address(self) -> None:
        """A rule without the address of its host would be none."""
        lines = admissions(MediatorAddress("cloud.example.org"), [])
        error = self.assertRaises(CommandFailed, as_nft, lines, None, "filter")
        self.assertIn("cloud.example.org has no address", str(error))

    @given(st.text(), st.text(), st.text())
    def test_nft_and_any_words(self, host: str, purpose: str, reason: str) -> None:
        """Nothing that a mediator or a network says becomes a rule."""
        line = Admission(
            need=Need.REQUIRED,
            direction=Direction.OUT,
            protocol="tcp",
            host=f"x{host}",
            addresses=("192.0.2.1",),
            ports="80",
            purpose=purpose,
        )
        lines = as_nft([line], [Verdict(None, reason)], "filter")
        begin = lines.index("    chain dwcloud_out {", 6)
        rules = lines[begin + 1 : lines.index("    }", begin)]
        self.assertEqual(len(rules), 2)
        self.assertTrue(rules[0].startswith("        # reachable: unknown, "))
        self.assertEqual(len(rules[0].splitlines()), 1)
        self.assertIsNotNone(RULE.fullmatch(rules[1]), rules[1])

    def test_rules_look_so(self) -> None:
        """All rules of the example are of the form that the test above expects."""
        rules = [line for line in as_nft(LINES, None, "t") if "accept" in line][1:]
        self.assertGreater(len(rules), 10)
        for rule in rules:
            self.assertIsNotNone(RULE.fullmatch(rule), rule)


class CommandLineTests(SynchronousTestCase):
    """``dwcloud allowlist`` and its words."""

    def test_words(self) -> None:
        """Options are read."""
        options = AllowlistCommand()
        options.parseOptions(
            ["--mediator", "m", "--only", "required,lan", "--relay", "http://r:1"]
        )
        self.assertEqual(options["only"], (Need.REQUIRED, Need.LAN))
        self.assertEqual(options["format"], "text")

    def test_mistakes(self) -> None:
        """What makes no sense is refused, with what would."""
        for words, expected in (
            ([], "name the mediator"),
            (["-m", "m", "--only", "most"], "required, direct, alternative"),
            (["-m", "m", "--format", "xml"], "text, csv, nft, json"),
            (["-m", "m", "--table", "a b"], "such as filter"),
            (["-m", "m", "--relay", "r"], "expected an http or https URL"),
        ):
            error = self.assertRaises(
                UsageError, AllowlistCommand().parseOptions, words
            )
            self.assertIn(expected, str(error))
