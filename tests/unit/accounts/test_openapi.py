"""The description of the API."""

from __future__ import annotations

import json
import re
from typing import Any

from dwcloud.accounts.api.endpoints import BASE
from tests.unit.accounts.api_world import APICase


class DescriptionTests(APICase):
    """What programs read of the API."""

    def setUp(self) -> None:
        super().setUp()
        answer = self.ask("GET", "/openapi.json")
        self.assertEqual(answer.status, 200)
        self.described: dict[str, Any] = json.loads(answer.response.body)

    def test_all_endpoints(self) -> None:
        """Each endpoint is in it, with a sentence and its statuses."""
        known = self.world.api.endpoints
        for endpoint in known:
            if endpoint.path == "/openapi.json":
                continue
            operation = self.described["paths"][BASE + endpoint.path][
                endpoint.method.lower()
            ]
            self.assertTrue(operation["summary"].endswith("."), operation)
            self.assertIn(str(endpoint.status), operation["responses"])
            self.assertIn("429", operation["responses"])
            variables = re.findall(r"{(\w+)}", endpoint.path)
            found = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
            self.assertEqual(found, variables)
        count = sum(len(operations) for operations in self.described["paths"].values())
        self.assertEqual(count, len(known) - 1)

    def test_references(self) -> None:
        """Each type that is named is described, and each that is described is named."""
        named = set(
            re.findall(r"#/components/schemas/(\w+)", json.dumps(self.described))
        )
        self.assertEqual(named, set(self.described["components"]["schemas"]))

    def test_operations(self) -> None:
        """Each operation has a name of its own."""
        names = [
            operation["operationId"]
            for operations in self.described["paths"].values()
            for operation in operations.values()
        ]
        self.assertEqual(len(set(names)), len(names))
