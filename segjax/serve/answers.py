"""What is answered: a prediction as a picture, an array, or JSON."""

import base64
import pathlib
from collections.abc import Collection
from typing import Any

import numpy as np

from segjax.data.formats import rle
from segjax.inference.outputs import kinds, maps, objects, polygons
from segjax.inference.outputs.found import Found
from segjax.runtime import reading
from segjax.serve.limits import Refused
from segjax.serve.model import Served
from segjax.structs import IGNORE_LABEL
from segjax.views import colour

PNG, NPY = "image/png", "application/octet-stream"
FILES = {
    "png": "label",
    "overlay": "overlay",
    "probabilities": "probabilities:npy",
    "confidence": "confidence",
    "entropy": "entropy",
    "geojson": "contours:geojson",
    "instances": "instances",
    "segments": "segments",
}
"""Formats of an answer, and which output of `--mode=predict` each is."""
FORMATS = ("json", "npy", *FILES)
INCLUDES = ("rle", "polygons", "label", "probabilities", "uncertainty")
"""What JSON can hold beside sizes, classes and objects."""
UNSURE = ("probabilities", "confidence", "entropy", "uncertainty")
"""What is made of probabilities."""


def formats_of(served: Served) -> list[str]:
    """Return in which formats a model can answer."""
    possible = set(kinds.possible(multilabel=served.multilabel, finds=served.finds))
    dims, found = served.reading.dims, ["json", "npy"]
    for name, kind in FILES.items():
        picture = name in ("png", "instances", "segments", "geojson")
        if kind in possible and not (
            picture and (dims != 2 or (name == "png" and served.multilabel))
        ):
            found.append(name)
    return found


def includes_of(served: Served) -> list[str]:
    """Return what a model's JSON can hold."""
    flat, sure = served.reading.dims == 2, bool(served.finds)
    left_out = {"probabilities": sure, "uncertainty": sure or served.multilabel}
    left_out |= {"rle": not flat, "polygons": not flat}
    return [name for name in INCLUDES if not left_out.get(name)]


def check(served: Served, form: str, include: Collection[str]) -> None:
    """Refuse what a model cannot answer.

    Raises:
        Refused: 422; the message says what it can.
    """
    for what, given, known in (
        ("format", [form], formats_of(served)),
        ("include", include, includes_of(served)),
    ):
        for each in given:
            if each not in known:
                raise Refused(
                    422, f"{what}={each[:40]}: this model has {', '.join(known)}. Take one."
                )


def needs_probabilities(form: str, include: Collection[str]) -> bool:
    """Say whether an answer is made of probabilities."""
    return form in UNSURE or any(each in UNSURE for each in include)


def media_type(form: str, found: Found) -> str:
    """Return the type of an answer that is a file."""
    if form == "geojson":
        return "application/geo+json"
    array = form in ("npy", "probabilities") or (len(found.whole) != 2 and form != "overlay")
    return NPY if array else PNG


def file_of(form: str, found: Found, path: pathlib.Path) -> bytes:
    """Return an answer that is a file, as `--mode=predict` writes it.

    Args:
        form: Of `FORMATS`, not 'json'.
        found: What was predicted.
        path: Of a file that nobody keeps.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    if form == "npy":
        write, ending = (lambda path, found: maps.save_array(path, found.label)), ".npy"
    else:
        own = kinds.OBJECTS if found.objects is not None else {}
        kind = own.get(FILES[form], kinds.EACH[FILES[form]])
        write, ending = kind.write, kind.ending(found.whole)
    file = path.with_name(path.name + ending)
    try:
        write(file, found)
        with reading.open_file(file) as stream:
            return stream.read()
    finally:
        file.unlink(missing_ok=True)


def json_of(found: Found, include: Collection[str], path: pathlib.Path) -> dict[str, Any]:
    """Return a prediction as JSON.

    Args:
        found: What was predicted.
        include: Of `INCLUDES`.
        path: As `file_of` takes it.
    """
    label, flat = found.label, found.label.ndim == len(found.whole)
    masks = [
        label == k if flat else label[..., k] > 0 for k in range(len(found.classes.class_names))
    ] if "rle" in include else []  # fmt: skip
    about: dict[str, Any] = {"size": list(found.whole), "classes": []}
    for k, (name, area) in enumerate(found.areas.items()):
        one = {"number": k, "name": name, "colour": list(found.classes.palette[k]), **area}
        about["classes"].append(one | ({"rle": _rle(masks[k])} if masks else {}))
    if flat:
        about["void"] = int(np.count_nonzero(label == IGNORE_LABEL))
    if found.objects is not None:
        about["objects"] = _objects(found, "rle" in include)
    if "polygons" in include:
        about["polygons"] = polygons.collection(found)
    if "label" in include:
        form = "png" if flat and len(found.whole) == 2 else "npy"
        about["label"] = {"format": form, "base64": _base64(file_of(form, found, path))}
    if "probabilities" in include:
        content = file_of("probabilities", found, path)
        about["probabilities"] = {"format": "npy", "base64": _base64(content)}
    if "uncertainty" in include:
        unsure = maps.by_rows(found.probabilities, maps.entropy)
        content = file_of("entropy", found, path)
        form = "png" if len(found.whole) == 2 else "npy"
        about["uncertainty"] = {
            "mean": float(unsure.mean(dtype=np.float64)),
            "format": form,
            "base64": _base64(content),
        }
    return about


def _objects(found: Found, with_rle: bool) -> list[dict[str, Any]]:
    """Return the objects that are sure enough, the highest score first."""
    kept, listed = objects.sure(objects.objects_of(found), found.least_score), []
    for k, score, box, mask in zip(
        kept.classes.tolist(), kept.scores.tolist(), kept.boxes.tolist(), kept.masks, strict=True
    ):
        one = {"class": k, "score": score, "box": box, "pixels": int(mask.inside.sum())}
        if with_rle:
            whole = np.zeros(found.whole, bool)
            at = zip(mask.corner, mask.inside.shape, strict=True)
            whole[tuple(slice(corner, corner + side) for corner, side in at)] = mask.inside
            one["rle"] = _rle(whole)
        listed.append(one)
    return listed


def _rle(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask as COCO has it."""
    return {"size": list(mask.shape), "counts": rle.compress(rle.coco_runs(mask))}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def colours_of(served: Served) -> list[str]:
    """Return the colour of each class as a page has it, `#rrggbb`."""
    return [colour.code(each) for each in served.classes.palette]
