"""The direction of dependency between the packages, read from the source text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from twisted.trial.unittest import SynchronousTestCase

from tests.packaging.source_tree import Import, Module, modules

IMPURE = frozenset(
    {
        "asyncio",
        "concurrent",
        "ctypes",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "queue",
        "random",
        "sched",
        "secrets",
        "select",
        "selectors",
        "signal",
        "socket",
        "socketserver",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
    }
)
"""Standard modules that know a clock, a source of randomness, or the outside world."""

PURE_LIBRARIES = frozenset(["attr", "attrs", "automat", "h11", "wsproto"])

SHARED = ("dwcloud.errors", "dwcloud.interfaces", "dwcloud.metrics")
"""Modules at the top of the package that everything above the core may use."""

ALLOWED = {
    "dwcloud.protocol": ["dwcloud.protocol"],
    "dwcloud.net": ["dwcloud.net", "dwcloud.protocol", *SHARED],
    "dwcloud.accounts": [
        "dwcloud.accounts",
        "dwcloud.net",
        "dwcloud.protocol",
        *SHARED,
    ],
    "dwcloud.peer": ["dwcloud.peer", "dwcloud.net", "dwcloud.protocol", *SHARED],
    "dwcloud.mediator": [
        "dwcloud.mediator",
        "dwcloud.accounts",
        "dwcloud.net",
        "dwcloud.protocol",
        *SHARED,
    ],
    "dwcloud.relay": [
        "dwcloud.relay",
        "dwcloud.accounts",
        "dwcloud.net",
        "dwcloud.protocol",
        *SHARED,
    ],
    "dwcloud.testing": ["dwcloud.testing", "dwcloud.protocol", *SHARED],
    "dwcloud.errors": ["dwcloud.protocol", *SHARED],
    "dwcloud.interfaces": ["dwcloud.protocol", *SHARED],
    "dwcloud.metrics": [*SHARED],
}
"""Package to what of dwcloud it may import; what people touch may import anything."""

SIBLINGS = {
    "stun": ["mediation", "udt", "tunnelling", "relaying", "punching"],
    "udt": ["tunnelling", "relaying"],
    "tunnelling": ["udt", "relaying"],
    "relaying": ["udt", "tunnelling"],
    "punching": ["mediation", "udt", "tunnelling", "relaying"],
}
"""Part of the core to those parts that it must not know."""


def _offences(
    candidates: Iterable[Module], is_offence: Callable[[Import], bool]
) -> list[str]:
    return [
        f"{module.path}:{item.line}: imports {item.name}"
        for module in candidates
        for item in module.imports()
        if is_offence(item)
    ]


def _in(package: str) -> list[Module]:
    return [module for module in modules("dwcloud") if module.is_in(package)]


class LayeringTests(SynchronousTestCase):
    """Nothing imports upwards or sideways."""

    def test_core_is_pure(self) -> None:
        """The core imports pure standard modules and pure libraries, nothing else."""

        def is_offence(item: Import) -> bool:
            root = item.name.split(".")[0]
            if root in PURE_LIBRARIES or root == "dwcloud":
                return False
            return root in IMPURE or root not in sys.stdlib_module_names

        self.assertEqual(_offences(_in("dwcloud.protocol"), is_offence), [])

    def test_packages_import_downwards(self) -> None:
        """Each package imports only those of its own level's list of allowed ones."""
        for package, allowed in ALLOWED.items():

            def is_offence(item: Import, allowed: list[str] = allowed) -> bool:
                return item.is_of("dwcloud") and not any(
                    item.is_of(name) for name in allowed
                )

            self.assertEqual(_offences(_in(package), is_offence), [], package)

    def test_core_siblings(self) -> None:
        """STUN is below mediation; UDT, tunnelling and relaying are strangers."""
        for part, strangers in SIBLINGS.items():

            def is_offence(item: Import, strangers: list[str] = strangers) -> bool:
                return any(
                    item.is_of(f"dwcloud.protocol.{stranger}") for stranger in strangers
                )

            found = _offences(_in(f"dwcloud.protocol.{part}"), is_offence)
            self.assertEqual(found, [], part)

    def test_product_does_without_simulation(self) -> None:
        """Only tests import the simulated world."""
        product = [m for m in modules("dwcloud") if not m.is_in("dwcloud.testing")]
        offences = _offences(product, lambda item: item.is_of("dwcloud.testing"))
        self.assertEqual(offences, [])

    def test_reactor_is_chosen_late(self) -> None:
        """No module imports the reactor when it is loaded: that would install one."""
        offences = _offences(
            modules("dwcloud", "twisted", "tests"),
            lambda item: (
                item.at_module_level and item.is_of("twisted.internet.reactor")
            ),
        )
        self.assertEqual(offences, [])

    def test_unit_tests_have_no_real_world(self) -> None:
        """Unit tests use neither the reactor, nor mocks, nor a real clock."""
        banned = ("twisted.internet.reactor", "unittest.mock", "time.sleep")
        offences = _offences(
            modules("tests/unit"), lambda item: any(item.is_of(n) for n in banned)
        )
        self.assertEqual(offences, [])


class ImportTests(SynchronousTestCase):
    """The tests above see what there is to see."""

    def test_imports_are_found(self) -> None:
        """Imports of all kinds are found with absolute names and their level."""
        module = next(m for m in modules("tests/unit") if m.name == __name__)
        found = {item.name: item.at_module_level for item in module.imports()}
        self.assertTrue(found["sys"])
        self.assertTrue(found["tests.packaging.source_tree.Import"])

    def test_inner_imports(self) -> None:
        """An import in a function is found, and known not to happen on loading."""
        items = [
            item
            for module in modules("dwcloud", "tests")
            for item in module.imports()
            if not item.at_module_level
        ]
        self.assertTrue(all(item.name for item in items))
