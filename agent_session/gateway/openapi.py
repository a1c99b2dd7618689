"""The API's own description, OpenAPI 3.1, made from the table that makes the server."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

import agent_session
from agent_session.gateway.route import ANY, JSON, OPEN, Answer, Call, Route, Tolerant
from agent_session.gateway.state import Gateway

REF = "#/components/schemas/{model}"
EVERY_ROUTE = (400, 403, 421, 500)  #: a header that cannot be read, a foreign page, a foreign name, a fault of ours
WITH_TOKEN, WITH_BODY = (401, 429, 503), (408, 413)
PATH_PARTS = {
    "key": "A session's key, percent-encoded: a slash is %2F.",
    "call": "A tool call's id.",
}
Schemas = dict[tuple[type[BaseModel], str], dict[str, Any]]


class ProblemError(Tolerant):
    message: str = Field(description="What was wrong, and what to do.")
    type: str
    code: str = Field(description="A stable word for programs.")
    param: str | None = Field(description="The field, parameter or header that was wrong.")
    request_id: str = Field(description="As X-Request-ID; the log has the details under it.")


class ProblemBody(Tolerant):
    """What every request that fails is answered with."""

    error: ProblemError


def description(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document. Routes of pages and files of the page are left out."""
    shown = [route for route in routes if route.answers]
    schemas, definitions = _schemas(shown)
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "agent-session",
            "version": agent_session.__version__,
            "summary": "Sessions of a durable agent",
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(routes: Iterable[Route]) -> tuple[Schemas, dict[str, Any]]:
    """Of every model: a reference to it; and what they refer to."""
    wanted: list[tuple[type[BaseModel], Any]] = [(ProblemBody, "serialization")]
    for route in routes:
        wanted += [(route.body, "validation")] if route.body else []
        wanted += [(one.body, "serialization") for one in route.answers.values() if one.body]
    found, whole = models_json_schema(list(dict.fromkeys(wanted)), ref_template=REF)
    schemas: Schemas = {(model, mode): dict(schema) for (model, mode), schema in found.items()}  # pyright: ignore
    return schemas, whole.get("$defs", {})


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    words = re.sub(r"[^a-z0-9]+", "_", f"{route.method} {route.path}".lower()).strip("_")
    made: dict[str, Any] = {"operationId": words, "summary": route.summary, "tags": [route.tag]}
    if parameters := [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)]:
        made["parameters"] = parameters
    if route.body:
        content = {JSON: {"schema": schemas[route.body, "validation"]}}
        made["requestBody"] = {"required": True, "content": content}
    elif route.body_content:
        made["requestBody"] = {"required": True, "content": {route.body_content: {}}}
    made["responses"] = _responses(route, schemas)
    if route.scope == OPEN:
        made["security"] = []
    else:
        made["security"] = [{"bearer": [] if route.scope == ANY else [route.scope]}]
    return made


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", route.path)
    schema = {"type": "string", "minLength": 1}
    return [
        {"name": name, "in": "path", "required": True, "description": PATH_PARTS.get(name, ""), "schema": schema}
        for name in names
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema()
    required: list[str] = schema.get("required", [])
    made: list[dict[str, Any]] = []
    for name, given in schema.get("properties", {}).items():
        own = {word: value for word, value in given.items() if word not in ("title", "description")}
        about = given.get("description", "")
        one = {"name": name, "in": "query", "required": name in required, "description": about}
        made.append({**one, "schema": _without_null(own)})
    return made


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter that may be missing is not one that may be null."""
    arms: list[dict[str, Any]] = [arm for arm in schema.get("anyOf", []) if arm.get("type") != "null"]
    rest = {word: value for word, value in schema.items() if word != "anyOf" and value is not None}
    return {**arms[0], **rest} if len(arms) == 1 else dict(schema)


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": about, "schema": {"type": "string"}}
        for name, about in route.headers.items()
    ]


def _responses(route: Route, schemas: Schemas) -> dict[str, Any]:
    made = {str(status): _response(answer, schemas) for status, answer in route.answers.items()}
    problem = {"content": {JSON: {"schema": schemas[ProblemBody, "serialization"]}}}
    for status in sorted(_problems(route)):
        made.setdefault(str(status), {"description": HTTPStatus(status).phrase, **problem})
    return made


def _response(answer: Answer, schemas: Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.about}
    if answer.body is not None:
        made["content"] = {answer.content: {"schema": schemas[answer.body, "serialization"]}}
    else:
        made["content"] = {answer.content: {}}
    if answer.headers:
        made["headers"] = {
            name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()
        }
    return made


def _problems(route: Route) -> set[int]:
    found = {*EVERY_ROUTE, *route.problems}
    found |= set(WITH_TOKEN) if route.scope != OPEN else set()
    found |= set(WITH_BODY) if route.body or route.body_content else set()
    return found


async def openapi(gateway: Gateway, call: Call) -> web.StreamResponse:
    from agent_session.gateway.app import ROUTES as TABLE  # which this route is part of

    return web.json_response(description(TABLE))


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/openapi.json",
        handler=openapi,
        summary="This description",
        tag="health",
        answers={200: Answer(about="OpenAPI 3.1")},
    ),
)
