"""The API's own description: every route, every status, and a service that keeps to it."""

import asyncio
import re
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from agent_session.gateway.app import ROUTES
from agent_session.gateway.openapi import description
from agent_session.gateway.route import OPEN
from tests.gateway.support import Door
from tests.support import fresh_key

OURS = re.compile(r"/v1/sessions.*|/healthz|/readyz|/metrics|/openapi.json")
STREAMS = ("/v1/sessions/{key}/events",)  #: they never end
TRIED = [route for route in ROUTES if OURS.fullmatch(route.path) and route.path not in STREAMS]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


async def test_it_is_served_without_a_token_and_describes_every_route(gateway: Door) -> None:
    served = (await gateway.get("/openapi.json", token="")).json
    described = {(path, method.upper()) for path, found in served["paths"].items() for method in found}
    assert described == {(route.path, route.method) for route in ROUTES}
    assert served["openapi"] == "3.1.0"


def test_every_route_says_who_may_use_it_and_how_it_fails() -> None:
    document = description(ROUTES)
    for route in ROUTES:
        found = document["paths"][route.path][route.method.lower()]
        scopes = [scope for one in found["security"] for scope in one["bearer"]]
        assert bool(found["security"]) == (route.scope != OPEN)
        assert set(scopes) <= {"read", "send", "approve", "node", "admin"}
        assert {str(status) for status in (*route.answers, *route.problems)} <= set(found["responses"])
        assert ("401" in found["responses"]) == (route.scope != OPEN) or route.tag not in ("sessions", "files")


def test_its_schemas_are_schemas_and_every_reference_leads_to_one() -> None:
    document = description(ROUTES)
    named = document["components"]["schemas"]
    for schema in named.values():
        assert jsonschema_rs.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set[str]()
            return own.union(*(references(one) for one in value.values()))
        return set[str]().union(*(references(one) for one in value)) if isinstance(value, list) else set()

    assert references(document) <= {f"#/components/schemas/{name}" for name in named}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("route", TRIED, ids=lambda route: f"{route.method} {route.path}")
async def test_whatever_is_sent_the_answer_is_as_described(gateway: Door, route: Any) -> None:
    """No 5xx, no status, type or body that the description does not know."""
    async with asyncio.timeout(60):  # a worker that has just started is not known to poll yet
        while (await gateway.get("/readyz")).status != 200:
            await asyncio.sleep(0.1)
    loaded, mine = schemathesis.openapi.from_dict(description(ROUTES)), fresh_key()
    operation = loaded[route.path][route.method]

    @given(case=operation.as_strategy())
    @settings(
        max_examples=60, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    def conforms(case: Any) -> None:
        if "key" in case.path_parameters:  # sessions of other tests have no worker any more
            case.path_parameters["key"] = f"{mine}{case.path_parameters['key']}"
        headers = {"Authorization": f"Bearer {gateway.token}"}
        response = case.call(base_url=gateway.url, headers=headers, timeout=60)
        case.validate_response(response, checks=CHECKS, headers=headers)

    await asyncio.to_thread(conforms)


async def test_answers_to_a_real_session_are_as_described(gateway: Door) -> None:
    key = fresh_key()
    await gateway.say(key, "run seq 1 20000")
    loaded = schemathesis.openapi.from_dict(description(ROUTES))
    call = next(line["call"] for line in gateway.service.lines(key) if line["role"] == "tool")
    tried = [
        ("POST", "/v1/sessions/{key}/messages", {"query": {"wait": 30}, "body": {"text": "hello"}}, 200),
        ("GET", "/v1/sessions", {}, 200),
        ("GET", "/v1/sessions/{key}", {}, 200),
        ("GET", "/v1/sessions/{key}/messages", {"query": {"after": 1}}, 200),
        ("GET", "/v1/sessions/{key}/approvals", {}, 200),
        ("GET", "/v1/sessions/{key}/artifacts/{call}", {}, 200),
        ("POST", "/v1/sessions/{key}/attachments", {"query": {"name": "a.txt"}, "body": b"x"}, 200),
        ("POST", "/v1/sessions/{key}/cancel", {"body": {}}, 200),
        ("POST", "/v1/sessions/{key}/close", {}, 202),
    ]

    def call_all() -> list[tuple[str, int]]:
        found = list[tuple[str, int]]()
        headers = {"Authorization": f"Bearer {gateway.token}"}
        for method, path, sent, _ in tried:
            parts = {"key": key, "call": call} if "{call}" in path else {"key": key} if "{key}" in path else {}
            media = "application/octet-stream" if "attachments" in path else "application/json"
            body = {"media_type": media} if "body" in sent else {}
            case = loaded[path][method].Case(path_parameters=parts, **sent, **body)
            response = case.call(base_url=gateway.url, headers=headers, timeout=60)
            case.validate_response(response, checks=CHECKS, headers=headers)
            found.append((path, response.status_code))
        return found

    assert await asyncio.to_thread(call_all) == [(path, status) for _, path, _, status in tried]
