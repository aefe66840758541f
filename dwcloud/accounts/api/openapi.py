"""The description of the API (OpenAPI 3.1), made from what answers it."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from dwcloud.accounts.api.authentication import COOKIE_NAME
from dwcloud.accounts.api.endpoints import BASE, Access, Call, Endpoint, Outcome
from dwcloud.accounts.api.messages import Problem
from dwcloud.net.http_messages import Response

__all__ = ["describe", "description_endpoint"]

_PATH = "/openapi.json"
_REFERENCE = "#/components/schemas/{name}"
_ALWAYS = (400, 403, 429)
_VARIABLES = {
    "id": {"type": "string", "format": "uuid"},
    "invitation": {"type": "string", "minLength": 1},
    "name": {"type": "string", "minLength": 1},
    "token": {"type": "string", "format": "uuid"},
}


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the description of endpoints."""
    types = {Problem, *(e.body for e in endpoints), *(e.answer for e in endpoints)}
    kinds = sorted((t for t in types if t is not None), key=lambda t: t.__name__)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(BASE + endpoint.path, {})
        operations[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dwcloud accounts",
            "version": version("dwcloud"),
            "description": "Accounts, systems, roles, sessions and grants of a cloud.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "operator": {"type": "http", "scheme": "bearer"},
                "systemToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "for one system: POST /systems/{id}/tokens",
                },
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE_NAME},
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    summary = " ".join((endpoint.run.__doc__ or "").split())
    described: dict[str, Any] = {
        "operationId": f"{endpoint.method.lower()}_{_identifier(endpoint.path)}",
        "summary": summary,
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.access is Access.SIGNED_IN:
        described["security"] = [{"bearer": []}, {"cookie": []}]
        if endpoint.tokens:
            described["security"].append({"systemToken": []})
    elif endpoint.access is Access.OPERATOR:
        described["security"] = [{"operator": []}]
    if endpoint.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(endpoint.body)}},
        }
    return described


def _identifier(path: str) -> str:
    return re.sub(r"\W+", "_", path).strip("_")


def _schema(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _VARIABLES[name]}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    return variables + [
        {
            "name": parameter.name,
            "in": "query",
            "description": parameter.description,
            "schema": {
                "type": "integer",
                "minimum": parameter.least,
                "maximum": parameter.most,
            },
        }
        for parameter in endpoint.query
    ]


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.answer is not None:
        good["content"] = {"application/json": {"schema": _schema(endpoint.answer)}}
    elif endpoint.media_type:
        good["content"] = {endpoint.media_type: {"schema": {}}}
    statuses = {*_ALWAYS, *endpoint.refusals}
    if endpoint.access is not Access.ANYBODY:
        statuses.add(401)
    if endpoint.body is not None:
        statuses |= {413, 415}
    refusal = {"application/problem+json": {"schema": _schema(Problem)}}
    return {
        str(endpoint.status): good,
        **{
            str(status): {
                "description": HTTPStatus(status).phrase,
                "content": {"text/plain": {}} if status == 413 else refusal,
            }
            for status in sorted(statuses)
        },
    }


def description_endpoint(endpoints: Sequence[Endpoint]) -> Endpoint:
    """Return the endpoint that shows the description of others."""

    @functools.cache
    def encoded() -> bytes:
        return msgspec.json.encode(describe(endpoints))

    async def show(call: Call) -> Outcome:
        """This description."""
        return Response(200, encoded(), "application/json")

    return Endpoint(method="GET", path=_PATH, run=show, access=Access.ANYBODY)
