"""Errors of the API, as Problem Details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

import http
import json
import logging
import math
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger(__name__)


class ProblemDetails(BaseModel):
    """An error: what was expected, what came, and what to do."""

    type: str = Field("about:blank", description="Always about:blank, because the status says the kind")
    title: str = Field(description="The status in words")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="One sentence about this request")


class Problem(Exception):
    """An error that the client gets as an answer."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def overloaded(retry_after_s: float) -> Problem:
    """429: the queue is full. retry_after_s: when to try again."""
    seconds = max(1, math.ceil(retry_after_s))
    detail = f"expected a free place in the queue, it is full; try again in {seconds} s"
    return Problem(429, detail, {"Retry-After": str(seconds)})


def body_of(status: int, detail: str) -> bytes:
    """The problem as JSON."""
    title = http.HTTPStatus(status).phrase
    details = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return json.dumps(details, ensure_ascii=False).encode("utf-8", "replace")


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for a problem."""
    return Response(body_of(status, detail), status, headers, MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Turn every error of a handler into a problem. An unexpected one is logged, and the client gets no details."""

    async def told(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error.status, error.detail, error.headers)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(error.status_code, str(error.detail), error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        return problem_response(422, "; ".join(faults[:5]))

    async def gone(request: Request, error: Exception) -> Response:
        return problem_response(400, "the client disconnected before its whole body had arrived")  # nobody reads it

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem_response(500, "the server failed on this request; its log has the details")

    app.add_exception_handler(Problem, told)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, unexpected)
