"""Requests to images: forms and JSON, within limits, whatever a client sends."""

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from segjax.data import decode, png, raster, tiff, webp
from segjax.runtime import reading
from segjax.serve import model
from segjax.serve.limits import Limits, Refused, too_long

TEXT = 4096
"""Bytes of a field that is no file."""
MAGIC = {
    png.SIGNATURE: ".png", b"\xff\xd8\xff": ".jpg", raster.GIF: ".gif", b"BM": ".bmp",
    webp.MAGIC: ".webp", **dict.fromkeys(tiff.MAGIC, ".tif"),
}  # fmt: skip
"""How pictures begin, and how the names of their files end."""
FORM, JSON = "multipart/form-data", "application/json"


@dataclasses.dataclass(frozen=True)
class Upload:
    """A file that was sent.

    Attributes:
        content: Its bytes.
        suffix: How the names of files of its format end.
    """

    content: bytes
    suffix: str


def length_of(request: Request, limits: Limits) -> int:
    """Return how long a request's body is, at most where it does not say.

    Raises:
        Refused: 400: it says something that is no number.
    """
    text = request.headers.get("content-length", "")
    if not text:
        return limits.body
    if not text.isascii() or not text.isdecimal():
        raise Refused(400, "Content-Length: expected a number of bytes.")
    return int(text[:15])


async def fields_of(request: Request, limits: Limits) -> dict[str, Any]:
    """Return the fields of a form, or of a JSON object; files as bytes with their names.

    Raises:
        Refused: 413: too long; 408: it does not come in time; 415: another type; 400, 422: what is
            there is none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (FORM, JSON):
        raise Refused(
            415,
            f"Content-Type: expected {FORM} with a field 'image', or {JSON} with 'image' in "
            "base64.",
        )
    bounded = Request(request.scope, _counted(request, limits))
    try:
        async with asyncio.timeout(limits.seconds):
            return await (_form(bounded) if kind == FORM else _json(bounded))
    except TimeoutError:
        raise Refused(
            408, f"the request did not come within {limits.seconds:g} seconds. Send it faster."
        ) from None


def _counted(request: Request, limits: Limits) -> Any:
    """Return what receives a request's body as far as it is not too long."""
    length = 0

    async def receive() -> Any:
        nonlocal length
        message = await request.receive()
        length += len(message.get("body", b""))
        if length > limits.body:
            raise too_long(limits)
        return message

    return receive


async def _form(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with request.form(max_files=2, max_fields=8, max_part_size=TEXT) as form:
        for name, value in form.multi_items():
            if name in found:
                raise Refused(422, f"the field {name[:80]!r} stands twice. Send it once.")
            found[name] = value
            if isinstance(value, UploadFile):
                found[name] = (await value.read(), value.filename or "")
    return found


async def _json(request: Request) -> dict[str, Any]:
    text = await request.body()
    try:
        found = await asyncio.to_thread(reading.parse_json, text)
    except ValueError as error:
        raise Refused(422, f"no JSON: {str(error)[:200]}.") from None
    if not isinstance(found, dict):
        raise Refused(422, "expected a JSON object such as {'image': '<base64>'}.")
    for name in ("image", "label"):
        if name in found:
            found[name] = (_decoded(found[name], name), _text(found, "name", ""))
    return found


def _decoded(value: Any, name: str) -> bytes:
    if not isinstance(value, str):
        raise Refused(422, f"{name}: expected a text, the bytes of a file in base64.")
    if value.startswith("data:"):
        value = value.partition(",")[2]
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(422, f"{name}: is no base64. Encode the bytes of the file.") from None


def _text(fields: Mapping[str, Any], name: str, default: str) -> str:
    """Return a field that is a text.

    Raises:
        Refused: 422: it is something else, or longer than `TEXT` bytes.
    """
    value = fields.get(name, default)
    if not isinstance(value, str) or len(value.encode(errors="replace")) > TEXT:
        raise Refused(422, f"{name}: expected a text of at most {TEXT} bytes.")
    return value


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that is a text; empty: it is not there. Errors see `_text`."""
    return _text(fields, name, "")


def flag_of(fields: Mapping[str, Any], name: str) -> bool:
    """Return a field that is true or false; false: it is not there.

    Raises:
        Refused: 422: it is something else.
    """
    known = {"": False, "0": False, "false": False, "1": True, "true": True, "on": True}
    value = fields.get(name, "")
    found = known.get(str(value).lower()) if isinstance(value, str | bool | int) else None
    if found is None:
        raise Refused(422, f"{name}: expected true or false.")
    return found


def file_of(fields: Mapping[str, Any], name: str, *, dims: int, limits: Limits) -> Upload | None:
    """Return a field that is a file; None: it is not there.

    Of its name only the ending counts. A picture is told by how it begins.

    Raises:
        Refused: 422: no file; 413: too long; 415: of a format that is not known.
    """
    if name not in fields:
        return None
    value = fields[name]
    if not isinstance(value, tuple) or not value[0]:
        raise Refused(422, f"{name}: expected a file, got {'an empty one' if value else 'none'}.")
    content, filename = value
    if len(content) > limits.bytes:
        raise too_long(limits)
    suffix = suffix_of(content, filename, dims=dims)
    if suffix is None:
        known = ", ".join(model.endings(dims))
        raise Refused(415, f"{name}: a file of no format that is known. Send one of {known}.")
    return Upload(content, suffix)


def suffix_of(content: bytes, filename: str, *, dims: int) -> str | None:
    """Return how the name of a file ends by its name and its first bytes; None: not known.

    Args:
        content: Of the file.
        filename: By which it was sent.
        dims: Axes in space of the model's images.
    """
    picture = next((end for magic, end in MAGIC.items() if content.startswith(magic)), None)
    known = sorted(model.endings(dims), key=len, reverse=True)
    named = next((ending for ending in known if filename.lower().endswith(ending)), None)
    if named in decode.IMAGE_ENDINGS or (named is None and picture):
        # What is named a TIFF may be a stack of pages, and where a picture lies only it says.
        return named if picture == ".tif" and named in (".tif", ".tiff") else picture
    return named


@contextlib.asynccontextmanager
async def on_disk(upload: Upload, folder: pathlib.Path, name: str) -> AsyncIterator[pathlib.Path]:
    """Yield a file with what was sent, which is gone afterwards.

    Args:
        upload: What was sent.
        folder: Of files that nobody keeps.
        name: Of the file, without ending.
    """
    file = folder / (name + upload.suffix)
    try:
        await asyncio.to_thread(file.write_bytes, upload.content)
        yield file
    finally:
        file.unlink(missing_ok=True)
