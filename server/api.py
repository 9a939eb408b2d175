"""The HTTP API and the page, as one ASGI application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, Path, Query, Request, params
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..errors import ModelError, UsageError
from ..runtime.contract.gate import DEFAULT_ERROR, SMALLEST_ERROR, open_gate
from ..runtime.contract.spec import ModelSpec
from ..runtime.info import ModelInfo
from ..runtime.live.results import FrameResult
from . import cameras
from .bodies import Bodies
from .guard import COOKIE, Guard, cookie_of, same_token
from .live import Live, LiveSource, Watch, first_of
from .metrics import Metrics
from .options import ServeOptions
from .pictures import Sent
from .problems import MEDIA_TYPE, Problem, ProblemDetails, add_handlers, overloaded, problem_response
from .reader import Reader
from .scheduler import Overloaded, Scheduler, ShutDown
from .schemas import (
    Base64Pictures,
    GateResult,
    Health,
    Login,
    ModelOut,
    ModelsAnswer,
    PictureParts,
    Shapes,
    SourceDetails,
    SourcesAnswer,
)

STUCK_S = 60.0  # a call of the model that takes longer counts as hung
BOUNDARY = "frame"
OFFER_BYTES = 32 << 10  # largest SDP offer
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
DESCRIPTION = (
    "Ages read off pictures, live sources and browsers' cameras. Every error is a Problem Details object (RFC 9457). "
    "The server keeps no picture and fetches no address."
)

if TYPE_CHECKING:
    from .webrtc import WebRtc

# Signs the gate's answer: it takes the answer without `signed`, and returns the text for `signed`.
Sign = Callable[[Mapping[str, object]], str]


class Service:
    """The parts of a running server."""

    def __init__(self, options: ServeOptions, page: Mapping[str, bytes], sign: Sign | None = None) -> None:
        """Opens the model and the sources. Raises ModelError, DetectorError, DeviceError, SourceError, UsageError."""
        self.options, self.page, self.sign = options, page, sign
        self.reader = Reader(options)
        self.live = Live(options, self.reader)
        workers = options.workers or _cores()
        self.scheduler = Scheduler(workers, options.queue, options.batch, options.batch_window_ms / 1000)
        self.metrics = Metrics()
        self.metrics.watch(self.scheduler, self.live)
        self.webrtc: WebRtc | None = None
        if options.webrtc is not None:
            from .webrtc import WebRtc

            self.webrtc = WebRtc(options.webrtc, options, self.live, self.reader, self.scheduler)
        self.closing = False
        self.app: ASGIApp = create_app(self)

    def fault(self) -> str | None:
        """Why this process must be restarted; None if it works."""
        if self.scheduler.stuck(STUCK_S) or self.live.stuck(STUCK_S):
            return f"a call of the model has run for more than {STUCK_S:g} s, or a reader thread has ended; restart the server"
        if self.live.broken:
            return "an error has ended the reading of the sources; see the server's log and restart it"
        return None

    async def read(self, request: Request, pictures: list[Sent]) -> list[FrameResult]:
        """Read the pictures. When the client disconnects, they leave the queue. Raises Problem."""
        client = request.client.host if request.client else "unknown"
        gone = asyncio.ensure_future(_gone(request))
        futures: list[asyncio.Future[object]] = []
        try:
            for picture in pictures:
                futures.append(asyncio.wrap_future(self.scheduler.submit(picture, client, self.reader.read_many)))
            done = asyncio.gather(*futures, return_exceptions=True)
            await asyncio.wait([done, gone], timeout=self.options.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                done.cancel()
                too_late = f"expected an answer within {self.options.timeout_s:g} s; try again"
                raise Problem(503, too_late, {"Retry-After": "1"})
            results: list[FrameResult] = []
            for number, answer in enumerate(done.result()):
                if isinstance(answer, Problem) and len(pictures) > 1:
                    raise Problem(answer.status, f"pictures.{number}: {answer.detail}", answer.headers)
                if isinstance(answer, BaseException):
                    raise answer
                assert isinstance(answer, FrameResult)
                results.append(answer)
        except Overloaded as error:
            raise overloaded(error.retry_after_s) from None
        except ShutDown:
            raise Problem(
                503, "the server is shutting down; try again", {"Retry-After": "1", "Connection": "close"}
            ) from None
        finally:
            gone.cancel()
            for future in futures:
                future.cancel()
        self.metrics.read(len(results), sum(len(self.reader.largest(result).faces) for result in results))
        return results


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _problems(*statuses: int) -> dict[int | str, dict[str, object]]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    titles = {
        401: "The token is missing or wrong",
        403: "The page belongs to another site, or the camera to another browser",
        404: "There is no such source or session",
        408: "The body came too slowly",
        413: "The body has too many bytes, or a picture too many pixels",
        415: "The body is not of a type that is read here",
        421: "The request names another host",
        422: "The request or a picture is not well formed",
        429: "The queue is full, or too many cameras are connected. Retry-After says when to try again",
        500: "The server failed",
        503: "The server is not ready, or the answer took too long",
    }
    return {status: {"description": titles[status], "content": content} for status in (*statuses, 403, 421, 500)}


def _json_body(shape: type[BaseModel]) -> dict[str, object]:
    content = {"application/json": {"schema": shape.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


PICTURES_BODY = {
    "requestBody": {
        "required": True,
        "description": "One picture as the body, or several as a form or as base64",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {"schema": PictureParts.model_json_schema()},
            "application/json": {"schema": Base64Pictures.model_json_schema()},
        },
    }
}
READ_PROBLEMS = _problems(401, 408, 413, 415, 422, 429, 503)
SessionName = Annotated[str, Path(description="The last part of Location", max_length=64)]
SourceId = Annotated[str, Path(description="An id that GET /v1/sources lists", max_length=64, examples=["0"])]


def create_app(service: Service) -> ASGIApp:
    """The application behind its guard."""
    options, reader, live = service.options, service.reader, service.live
    app = FastAPI(
        title="numclip", version="1", description=DESCRIPTION, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json", responses={500: {"model": ProblemDetails, "description": "The server failed"}},
    )  # fmt: skip
    add_handlers(app)
    if options.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.cors),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Location"],
        )
    shapes, bodies = Shapes(reader.model.spec.task), Bodies(options)
    bearer = HTTPBearer(auto_error=False, description="The server's token, if it has one")
    needs_token = [Depends(bearer)] if options.token is not None else []
    spec = reader.model.spec

    @app.post(
        "/v1/read", response_model=shapes.read, responses=READ_PROBLEMS, openapi_extra=PICTURES_BODY,
        dependencies=needs_token, operation_id="read", tags=["pictures"],
    )  # fmt: skip
    async def read(
        request: Request,
        level: Annotated[
            float | None, Query(gt=0, lt=1, description="Level of low and high (default: the server's own)")
        ] = None,
    ) -> Response:
        """Read the faces in one or more pictures."""
        shown = reader.level if level is None or reader.level is None else level
        try:
            if shown is not None and spec.calibration is not None:
                spec.calibration.table.check_level(shown)
        except UsageError as fault:
            raise Problem(422, str(fault)) from None
        async with bodies.pictures(request) as pictures:
            results = [reader.largest(result) for result in await service.read(request, pictures)]
        told = [result.to_dict(shown) for result in results]
        return JSONResponse({"model": spec.name, "results": told})

    @app.post(
        "/v1/gate", response_model=GateResult, responses=READ_PROBLEMS, openapi_extra=PICTURES_BODY,
        dependencies=needs_token, operation_id="gate", tags=["pictures"],
    )  # fmt: skip
    async def gate(
        request: Request,
        threshold: Annotated[float, Query(description="The age asked about, in the task's unit")],
        error: Annotated[
            float,
            Query(ge=SMALLEST_ERROR, lt=1, description="Share of people near the threshold who may get a wrong answer"),
        ] = DEFAULT_ERROR,
        challenge: Annotated[float | None, Query(description="Answer yes from this read age on")] = None,
        cost: Annotated[
            float | None, Query(gt=0, le=1e6, description="One wrong yes is as bad as asking this many people")
        ] = None,
        nonce: Annotated[str | None, Query(max_length=256, description="The answer repeats it")] = None,
    ) -> Response:
        """Answer whether the one person in the picture is at least this old: yes, no, or ask for a document."""
        try:
            opened = open_gate(spec, threshold, error, challenge=challenge, cost=cost)
        except (UsageError, ModelError) as fault:
            raise Problem(422, str(fault).replace("--gate-error", "error").replace("--gate", "threshold")) from None
        async with bodies.pictures(request) as pictures:
            if len(pictures) != 1:
                raise Problem(422, f"expected one picture, got {len(pictures)}")
            (result,) = await service.read(request, pictures)
        answer: dict[str, object] = {
            **reader.gate_answer(opened, result),
            "threshold": threshold,
            "error": opened.error,
            "challenge": challenge,
            "cost": cost,
            "nonce": nonce,
            "model": spec.name,
            "graph_sha256": reader.infos[0].graph_sha256,
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        }
        signed = None if service.sign is None else await run_in_threadpool(service.sign, answer)
        return JSONResponse({**answer, "signed": signed})

    @app.get(
        "/v1/models", response_model=ModelsAnswer, responses=_problems(401), dependencies=needs_token,
        operation_id="models", tags=["server"],
    )  # fmt: skip
    async def models() -> ModelsAnswer:
        """List the model and the face finder with their metadata."""
        return ModelsAnswer(models=[_model_out(info) for info in reader.infos])

    @app.get(
        "/v1/sources", response_model=SourcesAnswer, responses=_problems(401), dependencies=needs_token,
        operation_id="sources", tags=["sources"],
    )  # fmt: skip
    async def sources() -> Response:
        """List the live sources and the browsers' cameras."""
        listed = [source.summary() for source in live]
        return JSONResponse({"sources": listed, "webrtc": service.webrtc is not None})

    def source_of(id: str, seen: bool = False) -> LiveSource:
        source = live.get(id)
        if source is None:
            raise Problem(404, f"expected a source that GET /v1/sources lists, got {id[:64]!r}")
        if seen and source.private:
            raise Problem(
                403, "expected a source of the server; a camera's pictures and results go to its own browser alone"
            )
        return source

    @app.get(
        "/v1/sources/{id}", response_model=SourceDetails, responses=_problems(401, 404, 422), dependencies=needs_token,
        operation_id="source", tags=["sources"],
    )  # fmt: skip
    async def source(id: SourceId) -> Response:
        """Describe one source, with its events and the number of people in the last hour."""
        return JSONResponse(source_of(id).details())

    @app.get(
        "/v1/sources/{id}/results", operation_id="results", tags=["sources"], dependencies=needs_token,
        responses={
            200: {
                "description": "One JSON line per result and event, the same as `numclip run --jsonl` writes",
                "content": {
                    "text/event-stream": {"schema": {"type": "string"}},
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            },
            **_problems(401, 404, 422),
        },
        response_class=StreamingResponse,
    )  # fmt: skip
    async def results(
        request: Request,
        id: SourceId,
        limit: Annotated[int | None, Query(ge=1, description="End after so many")] = None,
    ) -> Response:
        """Send results as they come: as server-sent events if the client accepts them, else as JSON lines. A slow reader loses some."""
        found = source_of(id, seen=True)
        events = "text/event-stream" in request.headers.get("accept", "")
        kind = "text/event-stream" if events else "application/x-ndjson"
        return StreamingResponse(_lines(found, limit, b"data: %s\n" if events else b"%s"), media_type=kind)

    @app.get(
        "/v1/sources/{id}/frame.jpg", operation_id="frame", tags=["sources"], dependencies=needs_token,
        responses={
            200: {"description": "The newest picture with its boxes", "content": {"image/jpeg": {}}},
            **_problems(401, 404, 422, 503),
        },
        response_class=Response,
    )  # fmt: skip
    async def frame(id: SourceId) -> Response:
        """Send the newest picture with its boxes. With --blur, faces are unrecognisable."""
        found = source_of(id, seen=True)
        newest = found.newest
        if newest is None:
            raise Problem(503, "no picture has come yet; try again", {"Retry-After": "1"})
        return Response(await found.jpeg(newest, options.blur), media_type="image/jpeg")

    @app.get(
        "/v1/sources/{id}/preview", operation_id="preview", tags=["sources"], dependencies=needs_token,
        responses={
            200: {"description": "One JPEG after another", "content": {"multipart/x-mixed-replace": {}}},
            **_problems(401, 404, 422),
        },
        response_class=StreamingResponse,
    )  # fmt: skip
    async def preview(
        id: SourceId, limit: Annotated[int | None, Query(ge=1, description="End after so many")] = None
    ) -> Response:
        """Send pictures with their boxes as they come, as Motion JPEG. A slow reader loses some."""
        found = source_of(id, seen=True)
        parts = _parts(found, limit, options.blur)
        return StreamingResponse(parts, media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")

    @app.websocket("/v1/sources/{id}/results")
    async def results_socket(socket: WebSocket, id: str) -> None:
        found = live.get(id)
        if found is None or found.private:
            await socket.send_denial_response(problem_response(404, "expected a source that GET /v1/sources lists"))
            return
        await socket.accept()
        await _send_lines(socket, found)

    def check_places() -> None:
        """Check that one more camera may connect. Raises Problem 429, 503."""
        if service.closing:
            raise Problem(503, "the server is shutting down; try again", {"Retry-After": "1"})
        if live.cameras >= options.max_cameras:
            told = f"expected at most {options.max_cameras} cameras at a time, got one more; try again"
            raise Problem(429, told, {"Retry-After": "5"})

    @app.websocket("/v1/camera")
    async def camera(socket: WebSocket) -> None:
        try:
            check_places()
        except Problem as problem:
            await socket.send_denial_response(problem_response(problem.status, problem.detail, problem.headers))
            return
        await cameras.follow(socket, live.add_camera(), live, reader, service.scheduler, options)

    if service.webrtc is not None:
        _add_webrtc(app, service.webrtc, bodies, needs_token, check_places)

    @app.get("/healthz", response_model=Health, responses=_problems(503), operation_id="healthz", tags=["server"])
    async def healthz() -> Response:
        """Tell whether the process works."""
        fault = service.fault()
        if fault is not None:
            raise Problem(503, fault)
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=Health, responses=_problems(503), operation_id="readyz", tags=["server"])
    async def readyz() -> Response:
        """Tell whether the server takes requests: it is not shutting down, and its queue is not full."""
        if service.closing:
            raise Problem(503, "the server is shutting down")
        if service.scheduler.waiting >= options.queue:
            raise Problem(503, "the queue is full", {"Retry-After": "1"})
        return JSONResponse({"status": "ok"})

    @app.get(
        "/metrics", responses={200: {"description": "Metrics in Prometheus's text format", "content": {"text/plain": {}}}, **_problems(401)},
        dependencies=needs_token, operation_id="metrics", tags=["server"], response_class=Response,
    )  # fmt: skip
    async def metrics() -> Response:
        """Send counts and times to Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.post(
        "/v1/login", status_code=204, responses=_problems(401, 408, 413, 422), operation_id="login", tags=["server"],
        response_class=Response, openapi_extra=_json_body(Login),
    )  # fmt: skip
    async def login(request: Request) -> Response:
        """Exchange the token for the page's cookie. Browsers send no Authorization header with images and WebSockets."""
        try:
            given = Login.model_validate_json(await bodies.short(request))
        except ValidationError:
            raise Problem(422, 'expected {"token": "this server\'s token"}') from None
        answer = Response(status_code=204)
        if options.token is not None:
            if not same_token(given.token, options.token):
                raise Problem(401, "expected this server's token", {"WWW-Authenticate": "Bearer"})
            secure = request.url.scheme == "https"
            answer.set_cookie(COOKIE, cookie_of(options.token), httponly=True, samesite="strict", secure=secure)
        return answer

    for path in service.page:
        app.add_api_route(path, _file(service.page[path], path), methods=["GET"], include_in_schema=False)
    document = app.openapi()
    gates = {} if spec.calibration is None else spec.calibration.gates
    for parameter in document["paths"]["/v1/gate"]["post"]["parameters"]:
        if parameter["name"] == "threshold" and gates:
            parameter["schema"]["enum"] = [float(at) for at in gates]
    document["components"]["schemas"].setdefault("ProblemDetails", ProblemDetails.model_json_schema())
    return Guard(app, options, service.page, service.metrics)


def _file(data: bytes, path: str) -> Callable[[], Response]:
    kind = TYPES.get("html" if path == "/" else path.rpartition(".")[2], "application/octet-stream")

    def file() -> Response:
        return Response(data, media_type=kind, headers={"Cache-Control": "no-cache"})

    return file


def _model_out(info: ModelInfo) -> ModelOut:
    spec = info.spec
    if isinstance(spec, ModelSpec):
        task, calibration = spec.task, spec.calibration
        gates = {} if calibration is None else {at: table.lowest_error for at, table in calibration.gates.items()}
        words, unit, edges = list(task.words), task.unit, [task.low, task.high]
        kind, precision, side = task.name, spec.graph.precision, spec.crop.side
    else:
        gates, words, unit, edges = {}, [], None, []
        calibration, kind, precision, side = None, "faces", spec.precision, None
    return ModelOut(
        name=spec.name,
        kind=kind,
        precision=precision,
        graph_sha256=info.graph_sha256,
        file_bytes=info.file_bytes,
        unit=unit,
        words=words,
        range=edges,
        crop_px=side,
        calibrated=calibration is not None,
        gates=gates,
        commercial_use=info.commercial_use.allowed,
    )


def _add_webrtc(
    app: FastAPI, webrtc: WebRtc, bodies: Bodies, needs_token: list[params.Depends], check_places: Callable[[], None]
) -> None:
    """Add the paths of a camera over WebRTC: those of WHIP (RFC 9725), and the stream of its results."""
    sdp = {"application/sdp": {"schema": {"type": "string"}}}
    at = "/v1/camera/{session}"

    @app.post(
        "/v1/camera", status_code=201, operation_id="open_camera", tags=["cameras"], dependencies=needs_token,
        responses={
            201: {
                "description": "The SDP answer",
                "content": sdp,
                "headers": {"Location": {"description": "The session", "schema": {"type": "string"}}},
            },
            **_problems(401, 408, 413, 415, 422, 429, 503),
        },
        response_class=Response, openapi_extra={"requestBody": {"required": True, "content": sdp}},
    )  # fmt: skip
    async def open_camera(request: Request) -> Response:
        """Begin to send a camera's video over WebRTC. The offer has one VP8 video. Location is the session's address."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/sdp":
            raise Problem(415, f"expected application/sdp, got {kind or 'no type'}")
        check_places()
        offer = (await bodies.short(request, OFFER_BYTES)).decode("utf-8", "replace")
        check_places()
        client = request.client.host if request.client else "unknown"
        session, answer = await webrtc.open(offer, client)
        return Response(answer, 201, {"Location": f"camera/{session}"}, "application/sdp")

    @app.delete(
        at, status_code=204, operation_id="close_camera", tags=["cameras"], dependencies=needs_token,
        responses=_problems(401, 404, 422), response_class=Response,
    )  # fmt: skip
    async def close_camera(session: SessionName) -> Response:
        """End the camera's session."""
        await webrtc.end(session)
        return Response(status_code=204)

    @app.get(
        f"{at}/results", operation_id="camera_results", tags=["cameras"], dependencies=needs_token,
        responses={
            200: {
                "description": "A server-sent event per result, with the width and height of its frame in px",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **_problems(401, 404, 422),
        },
        response_class=StreamingResponse,
    )  # fmt: skip
    async def camera_results(session: SessionName) -> Response:
        """Send the camera's results as they come. A slow reader loses some."""
        return StreamingResponse(_lines(webrtc.get(session), None, b"data: %s\n"), media_type="text/event-stream")


async def _lines(source: LiveSource, limit: int | None, form: bytes) -> AsyncIterator[bytes]:
    watch, many = source.watch(), 0
    try:
        while (limit is None or many < limit) and (seen := await watch.take()) is not None:
            yield form % seen.line
            many += 1
    finally:
        source.leave(watch)


async def _parts(source: LiveSource, limit: int | None, blur: bool) -> AsyncIterator[bytes]:
    watch, many = source.watch(1, pixels=True), 0
    try:
        while (limit is None or many < limit) and (seen := await watch.take()) is not None:
            if seen.result is not None:
                jpeg = await source.jpeg(seen.result, blur)
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
                many += 1
    finally:
        source.leave(watch)


async def _send_lines(socket: WebSocket, source: LiveSource) -> None:
    """Send lines until the source ends or the reader goes."""
    watch = source.watch()
    try:
        await first_of(_closed(socket), _send(socket, watch))
    finally:
        source.leave(watch)
        with suppress(RuntimeError):  # it has gone
            await socket.close(1001)


async def _send(socket: WebSocket, watch: Watch) -> None:
    while (seen := await watch.take()) is not None:
        await socket.send_text(seen.line.decode())


async def _closed(socket: WebSocket) -> None:
    try:
        while True:
            await socket.receive_text()
    except (WebSocketDisconnect, KeyError):
        return
