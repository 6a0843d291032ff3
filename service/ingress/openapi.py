"""The OpenAPI document, written by hand: the hot route is a plain ASGI application, which
Litestar's generator does not see. A test holds it against the routes."""

from typing import Any

import msgspec

import service

_OUTCOMES = {
    "recorded": "The event is on disk; `cursor` names the end of this callback.",
    "ignored": "A type that is not kept.",
}


def document() -> bytes:
    """OpenAPI 3.1, as JSON."""
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "plugstatus",
                "version": service.__version__,
                "description": "Receives PlugChat's callbacks. Statuses are read over gRPC.",
            },
            "paths": {
                "/instancia/{instance}/status": {"post": _callback()},
                "/healthz": _reads("Is the process alive?", {"200": _text("Alive.")}),
                "/readyz": _reads(
                    "Can the process do its roles' work?",
                    {"200": _ready("It can."), "503": _ready("It cannot; `reasons` say why.")},
                ),
                "/metrics": _reads("Metrics.", {"200": _text("Prometheus text.")}),
                "/openapi.json": _reads("This document.", {"200": {"description": "OpenAPI 3.1."}}),
            },
            "components": {"schemas": {"Problem": _PROBLEM, "Outcome": _OUTCOME}},
        }
    )


_PROBLEM: dict[str, Any] = {
    "description": "A problem document (RFC 9457).",
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["title", "status", "detail"],
}

_OUTCOME: dict[str, Any] = {
    "type": "object",
    "properties": {
        "outcome": {
            "type": "string",
            "enum": list(_OUTCOMES),
            "description": " ".join(f"{name}: {text}" for name, text in _OUTCOMES.items()),
        },
        "cursor": {"type": "string", "maxLength": 512},
    },
    "required": ["outcome"],
}

_CALLBACK_PROBLEMS = {
    "400": "Not a JSON object (RFC 8259) in UTF-8 without BOM, nested too deep, or bad gzip.",
    "401": "The token is wrong, missing, or given twice.",
    "404": "Not an instance, or not one that is served.",
    "405": "Not POST.",
    "408": "The request did not arrive in time.",
    "413": "The body is too large, before or after decompression.",
    "415": "Content-Type or Content-Encoding is not offered.",
    "431": "The request line and headers are too large.",
    "503": "Not known to be recorded: post it again, which does no harm.",
}


def _callback() -> dict[str, Any]:
    return {
        "operationId": "postCallback",
        "summary": "A callback of PlugChat.",
        "parameters": [
            {
                "name": "instance",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
            },
            {
                "name": "token",
                "in": "query",
                "description": "Exactly once, when the server is set to ask for one.",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~-]+$"},
            },
            {
                "name": "Content-Encoding",
                "in": "header",
                "schema": {"type": "string", "enum": ["gzip", "identity"]},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        "responses": {
            "200": {"description": "Taken.", "content": _json("Outcome")},
            **{
                status: {"description": text, "content": _json("Problem", "problem+json")}
                for status, text in _CALLBACK_PROBLEMS.items()
            },
        },
    }


def _reads(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    operation = {"summary": summary, "responses": responses}
    return {"get": operation, "head": operation}


def _text(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _ready(description: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "ready": {"type": "boolean"},
            "reasons": {"type": "array", "items": {"type": "string"}},
        },
    }
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _json(schema: str, subtype: str = "json") -> dict[str, Any]:
    return {f"application/{subtype}": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
