"""What an operator asks a running process: is it alive, is it ready, how does it do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from litestar import HttpMethod, MediaType, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler, route
from litestar.types import ExceptionHandlersMap
from prometheus_client import CONTENT_TYPE_LATEST

from service.ingress import openapi, problems

_log = structlog.get_logger(__name__)

Readiness = Callable[[], Awaitable[Sequence[str]]]
"""Why this process cannot do its roles' work now, a sentence each; empty when it can."""

Page = Callable[[], Awaitable[bytes]]
"""The metrics, as Prometheus reads them."""

Liveness = Callable[[], Awaitable[None]]
"""Returns if all the process's parts go on; else it may take for ever."""

_READINESS_S = 5.0
"""A store that has not answered within this is not ready; probes rarely wait longer."""

# OPTIONS is named to be refused: left out, Litestar would answer it, and offer it in every 405.
_METHODS = [HttpMethod.GET, HttpMethod.HEAD, HttpMethod.OPTIONS]
_PROMETHEUS = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")
"""Litestar names the charset of every text itself."""

_UNCACHED = {"cache-control": "no-store"}


async def alive() -> None:
    """Of a process that would not come to ask itself otherwise."""


def routes(page: Page, readiness: Readiness, liveness: Liveness = alive) -> list[HTTPRouteHandler]:
    """The handlers of every operations path, for GET and HEAD."""

    @route(
        "/healthz", http_method=_METHODS, before_request=_refuse_options, media_type=MediaType.TEXT
    )
    async def healthz() -> Response[str]:
        try:
            async with asyncio.timeout(_READINESS_S):
                await liveness()
        except TimeoutError:
            return Response("stuck\n", status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        return Response("alive\n", headers=_UNCACHED)

    @route("/readyz", http_method=_METHODS, before_request=_refuse_options)
    async def readyz() -> Response[dict[str, Any]]:
        reasons = await _reasons(readiness)
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        content = {"ready": not reasons, "reasons": reasons}
        return Response(content, status_code=status, headers=_UNCACHED)

    @route("/metrics", http_method=_METHODS, before_request=_refuse_options)
    async def prometheus() -> Response[bytes]:
        return Response(await page(), media_type=_PROMETHEUS, headers=_UNCACHED)

    @route("/openapi.json", http_method=_METHODS, before_request=_refuse_options)
    async def openapi_document() -> Response[bytes]:
        return Response(openapi.document(), media_type="application/vnd.oai.openapi+json")

    return [healthz, readyz, prometheus, openapi_document]


def _refuse_options(request: Request[Any, Any, Any]) -> None:
    if request.method == HttpMethod.OPTIONS:
        raise MethodNotAllowedException


def exception_handlers() -> ExceptionHandlersMap:
    """Litestar's own errors, and everything unforeseen, as problems."""
    return {Exception: _problem_response}


async def _reasons(readiness: Readiness) -> list[str]:
    try:
        async with asyncio.timeout(_READINESS_S):
            return list(await readiness())
    except TimeoutError:
        return [f"not known within {_READINESS_S:g} s"]
    except Exception:  # noqa: BLE001
        # A probe that fails says "not ready"; its text might show more than an address may.
        _log.exception("readiness check failed")
        return ["the check itself failed; it was logged"]


def _problem_response(_: Request[Any, Any, Any], exception: Exception) -> Response[bytes]:
    status = exception.status_code if isinstance(exception, HTTPException) else 500
    if status == HTTPStatus.NOT_FOUND:
        problem = problems.NOT_FOUND
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        problem = problems.ONLY_GET
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
        problem = problems.BAD_REQUEST
    else:
        _log.error("request failed", exc_info=exception)
        problem = problems.INTERNAL
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(
        problem.body,
        status_code=problem.status,
        media_type=headers.pop("content-type"),
        headers=headers,
    )
