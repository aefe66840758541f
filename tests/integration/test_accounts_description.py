"""The API against its own description, with whatever Schemathesis makes up."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dwcloud.accounts import service
from dwcloud.accounts.api.services import Limits
from dwcloud.accounts.lock_out import LockOut
from dwcloud.accounts.passwords import Passwords
from dwcloud.accounts.rate_limits import Allowance
from dwcloud.net.identity import SystemIdentity
from tests.integration.accounts_cloud import AccountsCloud, Person
from tests.requirements import require
from tests.unit.accounts.store_world import CHEAP

try:
    import requests
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        allow_header_conformance,
        content_type_conformance,
        ignored_auth,
        negative_data_rejection,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
        unsupported_method,
    )
except ImportError:
    CHECKS: list[Any] = []
else:
    CHECKS = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        negative_data_rejection,
        allow_header_conformance,
        ignored_auth,
        unsupported_method,
    ]

EXAMPLES = 6
STREAMS = ("/api/v1/events",)
"""Paths whose answers have no end."""
PLENTY = Allowance(1_000_000, 1_000_000)


class DescriptionTests(TestCase):
    """What is answered is what the description promises."""

    timeout = 900

    def setUp(self) -> None:
        require(CHECKS, "schemathesis is not installed")
        from twisted.internet import reactor

        limits = Limits(
            requests=PLENTY,
            sign_ins=PLENTY,
            registrations=PLENTY,
            lock_out=LockOut(tries=1_000_000),
        )
        # Some hundred connections and passwords: what makes each of them dear in
        # earnest is not what is tried here.
        self.patch(ssl.SSLContext, "load_default_certs", lambda context: None)
        self.patch(service, "Passwords", partial(Passwords, parameters=CHEAP))
        self.cloud = AccountsCloud(reactor, Path(self.mktemp()), limits=limits)
        self.addCleanup(self.cloud.stop)

    @inlineCallbacks
    def test_conformance(self) -> Generator[Any, Any, None]:
        """Good and bad requests to all paths get answers of the promised form."""
        description = yield self.cloud.request("GET", "/openapi.json")
        schema = schemathesis.openapi.from_dict(description.body)
        tried = 0
        for number, result in enumerate(schema.get_all_operations()):
            operation = result.ok()
            if operation.path in STREAMS:
                continue
            # A person for each: some of what is tried signs out or changes passwords.
            ann = yield self.cloud.person(f"person{number}")
            bound = yield ann.bind(SystemIdentity.generate())
            system = bound["system"]["id"]
            modes = [GenerationMode.POSITIVE]
            described = description["paths"][operation.path][operation.method]
            if described["parameters"] or "requestBody" in described:
                modes.append(GenerationMode.NEGATIVE)
            for mode in modes:
                yield deferToThread(self._try, operation, mode, ann, system)
            tried += 1
        self.assertGreater(tried, 25)

    def _try(self, operation: Any, mode: Any, person: Person, system: str) -> None:
        named: dict[str, Any] = {}
        if mode is GenerationMode.POSITIVE and "/systems/{id}" in operation.path:
            values = {"id": system, "name": person.account["name"]}
            named["path_parameters"] = {
                name: value
                for name, value in values.items()
                if f"{{{name}}}" in operation.path
            }
        strategy = operation.as_strategy(generation_mode=mode, **named)
        base = f"https://127.0.0.1:{self.cloud.port}"
        headers = {"Authorization": f"Bearer {person.token}"}

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def run(case: Any) -> None:
            response = case.call(
                base_url=base, session=session, headers=headers, verify=False
            )
            case.validate_response(
                response, checks=CHECKS, transport_kwargs={"verify": False}
            )

        with warnings.catch_warnings(), requests.Session() as session:
            warnings.simplefilter("ignore")
            run()
