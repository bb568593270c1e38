"""The routes of the server, and what all of them have: keys, names, one form of errors."""

import asyncio
import contextlib
import pathlib
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import segjax
from segjax.errors import UserError, printable
from segjax.runtime import reading
from segjax.serve import answers, limits, model, uploads
from segjax.serve.limits import Refused
from segjax.serve.service import Service

PAGE = {"": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
"""The files of the page by their paths, and their types."""
POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
PREDICT, FEEDBACK = "/v1/predict", "/v1/feedback"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a client may call its request."""
DRAIN = 0.05
"""Seconds for which a request that is refused unread is read on, so that its client sees why."""
Format = Literal["json", "npy", "png", "overlay", "probabilities", "confidence", "entropy",
                 "geojson", "instances", "segments"]  # fmt: skip
FILE = {"type": "string", "format": "binary"}


def _body(**fields: Any) -> dict[str, Any]:
    """Return what the OpenAPI page says of a request's body."""
    form = {"type": "object", "required": ["image"], "properties": {"image": FILE, **fields}}
    texts = {name: {"type": "string"} if kind == FILE else kind for name, kind in fields.items()}
    plain = {**form, "properties": {"image": {"type": "string", "format": "byte"}, **texts}}
    content = {uploads.FORM: {"schema": form}, uploads.JSON: {"schema": plain}}
    return {"requestBody": {"required": True, "content": content}}


def make_app(service: Service) -> FastAPI:
    """Return the application that serves a model."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="segjax", version=segjax.__version__, lifespan=lifespan, redoc_url=None,
        summary=f"Segments images with {service.served.name}.",
    )  # fmt: skip
    app.include_router(_open_routes(service))
    app.include_router(_routes(service))
    app.add_middleware(Named, service=service)  # pyright: ignore[reportArgumentType]
    for kind, answer in ERRORS.items():
        app.add_exception_handler(kind, answer)
    return app


def _open_routes(service: Service) -> APIRouter:
    """Return the routes that need no key: is it alive, is it ready, the page."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, bool]:
        """Say that the process is alive."""
        return {"alive": True}

    @router.get("/readyz")
    async def readyz() -> dict[str, bool]:
        """Say whether requests are taken: 503 while shapes are compiled, and at the end."""
        service.check_ready()
        return {"ready": True}

    for path, kind in PAGE.items():
        router.add_api_route(f"/{path}", _page(path or "index.html", kind), include_in_schema=False)
    return router


def _page(name: str, kind: str) -> Any:
    """Return what answers with a file of the page."""
    text = reading.text(pathlib.Path(__file__).parent / "page" / name)
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}

    async def get() -> Response:
        return Response(text, media_type=kind, headers=headers)

    return get


def _routes(service: Service) -> APIRouter:
    """Return the routes that need a key where there is one."""

    async def allowed(request: Request) -> None:
        limits.check_origin(request.headers)
        limits.check_key(request.headers, service.keys)

    router = APIRouter(dependencies=[Depends(allowed)])

    @router.get("/metrics")
    async def metrics() -> Response:
        """Return what is counted, for Prometheus."""
        return Response(service.measures.text(), media_type="text/plain; version=0.0.4")

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Return what is served, what it takes and in which forms it answers."""
        served, most = service.served, service.limits
        about = served.describe() | {
            "formats": answers.formats_of(served),
            "include": answers.includes_of(served),
            "feedback": service.store is not None,
        }
        taken = {"bytes": most.bytes, "pixels": most.pixels, "seconds": most.seconds}
        return {"models": [about | {"limits": taken}]}

    router.post(PREDICT, openapi_extra=_body())(_predict(service))
    router.post(
        FEEDBACK,
        status_code=201,
        openapi_extra=_body(
            label=FILE, flagged={"type": "boolean"}, note={"type": "string"},
            request={"type": "string"},
        ),
    )(_feedback(service))  # fmt: skip

    @router.get(FEEDBACK)
    async def feedback() -> dict[str, Any]:
        """Return how much feedback there is: a number that grows with every example."""
        return {"version": await service.in_thread(_store(service).version)}

    return router


def _predict(service: Service) -> Any:
    """Return what answers `POST /v1/predict`."""

    async def predict(
        request: Request,
        format: Format = "json",
        include: Annotated[str, Query(max_length=200)] = "",
        model: Annotated[str, Query(max_length=200)] = "",
        spacing: Annotated[str, Query(max_length=200)] = "",
        least_score: Annotated[float, Query(ge=0, le=1)] = 0.5,
    ) -> Response:
        """Segment an image.

        The body is a form with the file `image`, or a JSON object with `image` in base64. `include`
        lists with commas what JSON holds beside sizes and classes: rle, polygons, label,
        probabilities, uncertainty.
        """
        begin = time.monotonic()
        service.check_ready()
        service.check_model(model)
        wanted = tuple(word.strip() for word in include.split(",") if word.strip())
        answers.check(service.served, format, wanted)
        steps = _spacing(service, spacing)
        with service.admission.request(uploads.length_of(request, service.limits)):
            fields = await _fields(request, service)
            upload = _image(fields, service)
            async with service.found(
                request, upload, begin=begin, spacing=steps, least_score=least_score,
                probabilities=answers.needs_probabilities(format, wanted),
            ) as found:  # fmt: skip
                path = service.folder / f"{request.state.unique}-answer"
                if format != "json":
                    content = await service.in_thread(answers.file_of, format, found, path)
                    kind = answers.media_type(format, found)
                    return Response(content, media_type=kind)
                about = await service.in_thread(answers.json_of, found, wanted, path)
        who = {"model": service.served.name, "step": service.served.step}
        took = {"seconds": time.monotonic() - begin}
        return JSONResponse({"request": request.state.name, **who, **took, **about})

    return predict


def _feedback(service: Service) -> Any:
    """Return what answers `POST /v1/feedback`."""

    async def feedback(request: Request) -> dict[str, Any]:
        """Keep an image with its corrected class map, for later training.

        The body is a form with the file `image`, and at least one of: the file `label`, class
        numbers of the image's size (PNG or NPY, 255: not judged); `flagged`, something is wrong;
        `note`, what. `request` names the prediction that it is about. Once it is answered with 201
        it is on the disk.
        """
        begin, store = time.monotonic(), _store(service)
        service.check_ready()
        with service.admission.request(uploads.length_of(request, service.limits)):
            fields = await _fields(request, service)
            upload = _image(fields, service)
            note, flagged = uploads.text_of(fields, "note"), uploads.flag_of(fields, "flagged")
            about = uploads.text_of(fields, "request")
            if about and not NAME.fullmatch(about):
                raise Refused(422, "request: expected the X-Request-Id of an answer.")
            mask = uploads.file_of(
                fields, "label", dims=service.served.reading.dims, limits=service.limits
            )
            if mask is None and not flagged and not note:
                raise Refused(422, "nothing is said of the image. Send label, flagged or note.")
            if mask is not None and service.served.multilabel:
                raise Refused(
                    422, "label: the classes of this model overlap, and a class map has one in "
                    "each pixel. Send flagged and note alone.",
                )  # fmt: skip
            async with service.found(request, upload, begin=begin) as found:
                label = mask and await service.label_of(mask, request.state.unique, found)
                own = None if service.served.multilabel else found.label
                with service.named(store.root, "the set of feedback"):
                    name = await service.in_thread(
                        store.add, upload.content, suffix=upload.suffix, label=label,
                        prediction=own, model=f"{service.served.name} step {service.served.step}",
                        flagged=flagged, note=note, request=about or request.state.name,
                    )  # fmt: skip
        service.measures.feedback.inc()
        return {"id": name, "request": request.state.name}

    return feedback


def _store(service: Service) -> Any:
    if service.store is None:
        raise Refused(404, "feedback is not taken: the server was started without --feedback.")
    return service.store


async def _fields(request: Request, service: Service) -> dict[str, Any]:
    found = await uploads.fields_of(request, service.limits)
    request.state.read = True
    return found


def _image(fields: dict[str, Any], service: Service) -> uploads.Upload:
    found = uploads.file_of(
        fields, "image", dims=service.served.reading.dims, limits=service.limits
    )
    if found is None:
        raise Refused(422, "image: is missing. Send a form with a file 'image', or it in base64.")
    return found


def _spacing(service: Service, text: str) -> tuple[float, ...]:
    try:
        return model.check_spacing(text, service.served.layout)
    except ValueError as error:
        raise Refused(422, f"{error}.") from None


def refused_early(service: Service) -> Callable[[bytes], tuple[bytes, int] | None]:
    """Return what refuses a request that would be one too many by its head alone.

    Parsing a request, finding its route and writing an answer take half a millisecond; a full
    server has many to refuse, and they wait for each other.

    Returns:
        What takes a head without its last empty line, and gives the answer and the length of the
        body; None: the server's usual way is to be taken.
    """
    path = "|".join(map(re.escape, (PREDICT, FEEDBACK)))
    start = re.compile(rf"POST ({path})(?:\?\S*)? HTTP/1\.1\r\n".encode())
    length = re.compile(rb"\r\ncontent-length: *(\d{1,15})(?=\r|$)")
    given = re.compile(rb"\r\nx-request-id: *([a-z0-9_-]{1,64})(?=\r|$)", re.IGNORECASE)
    unusual = re.compile(rb"\r\n(transfer-encoding|expect|upgrade|connection:(?! *keep-alive))")

    def early(head: bytes) -> tuple[bytes, int] | None:
        if not service.admission.is_full or not (found := start.match(head)):
            return None
        low = head.lower()
        body = length.findall(low)
        if len(body) != 1 or unusual.search(low) or int(body[0]) > service.limits.body:
            return None
        named = given.search(head)
        name = named[1].decode() if named else uuid.uuid4().hex
        answer = _refusal(_too_many(service), name)
        headers = [*answer.raw_headers, *_headers(name)]
        lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        begin = b"HTTP/1.1 %d Too Many Requests\r\n" % answer.status_code
        service.count(found[1].decode(), answer.status_code, 0.0)
        return begin + lines + b"\r\n" + bytes(answer.body), int(body[0])

    return early


def _too_many(service: Service) -> Refused:
    return limits.busy(f"{service.limits.queue} requests wait or are predicted")


def _headers(name: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that every answer has."""
    return [
        (b"x-request-id", name.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    ]


class Named:
    """Give every request a name and its answer headers, and count it (ASGI)."""

    def __init__(self, app: Any, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        name = given if NAME.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {}).update(name=name, unique=uuid.uuid4().hex, read=False)
        measures, begin, status = self.service.measures, time.monotonic(), 500

        async def named(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_headers(name)]
            await send(message)

        measures.active.inc()
        try:
            if self.service.admission.is_full and _is_work(scope):
                # Before anything is looked up or read: refusing must cost next to nothing.
                await _read_on(receive)
                await _refusal(_too_many(self.service), name)(scope, receive, named)
            else:
                await self.app(scope, receive, named)
        finally:
            measures.active.dec()
            known = scope["path"] if _is_work(scope) else "other"
            route = getattr(scope.get("route"), "path", known)
            if status >= 500 and self.service.monitor is not None and route == PREDICT:
                self.service.monitor.failed()
            self.service.count(route, status, time.monotonic() - begin)


def _is_work(scope: Any) -> bool:
    return scope["method"] == "POST" and scope["path"] in (PREDICT, FEEDBACK)


async def _read_on(receive: Any) -> None:
    """Read on what a client is still sending, for a moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN):
            while (await receive()).get("more_body"):
                pass


def _answer(name: str, status: int, message: str, **headers: str) -> JSONResponse:
    """Return an error; it says nothing of this machine."""
    error = {"status": status, "message": printable(message), "request": name}
    return JSONResponse({"error": error}, status, headers)


def _refusal(error: Refused, name: str) -> JSONResponse:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(name, error.status, error.message, **headers)


def _name_of(request: Request) -> str:
    return getattr(request.state, "name", "")


async def _refused(request: Request, error: Any) -> Response:
    if not request.state.read:
        await _read_on(request.receive)
    return _refusal(error, _name_of(request))


async def _http(request: Request, error: Any) -> Response:
    return _answer(_name_of(request), error.status_code, str(error.detail), **(error.headers or {}))


async def _invalid(request: Request, error: Any) -> Response:
    if not request.state.read:
        await _read_on(request.receive)
    texts = [f"{each['loc'][-1]}: {each['msg']}" for each in error.errors()]
    return _answer(_name_of(request), 422, "; ".join(texts)[:1000])


async def _user(request: Request, error: Any) -> Response:
    print(printable(f"error: {request.state.name}: {error}"), flush=True)
    return _answer(_name_of(request), 500, "the server cannot do that now; its log says why.")


async def _internal(request: Request, error: Any) -> Response:
    return _answer(
        _name_of(request), 500, f"an error of the server's own ({type(error).__name__})."
    )


ERRORS: dict[Any, Any] = {
    Refused: _refused,
    HTTPException: _http,
    RequestValidationError: _invalid,
    UserError: _user,
    Exception: _internal,
}
