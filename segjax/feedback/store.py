"""Keep images that people corrected or flagged, durably: a folder set with an index in SQLite.

    <root>/images/<id><suffix>   as they were sent
    <root>/labels/<id>.png       class ids; 255: not judged
    <root>/predictions/<id>.png  what was predicted of those that came with it
    <root>/feedback.sqlite       a row for each accepted image

The folder source reads it as `{"type": "folder", "root": …, "images": "images", "labels": "labels",
"split_file": "*", "ignore_index": 255, "class_names": […]}`. A file without a row was never
accepted.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import io
import pathlib
import secrets
import sqlite3
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from jaxtyping import Integer
from PIL import Image

from segjax.data import decode
from segjax.errors import DataError, UserError
from segjax.runtime import files, reading
from segjax.structs import IGNORE_LABEL

INDEX = "feedback.sqlite"
FOLDERS = ("images", "labels", "predictions")
WAIT_S = 60.0
"""How long a writer waits for others."""
_TABLE = """
CREATE TABLE IF NOT EXISTS feedback (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    suffix TEXT NOT NULL,
    time TEXT NOT NULL,
    labelled INTEGER NOT NULL,
    flagged INTEGER NOT NULL,
    note TEXT NOT NULL,
    request TEXT NOT NULL,
    model TEXT NOT NULL,
    image_sha256 TEXT NOT NULL,
    label_sha256 TEXT NOT NULL,
    judged INTEGER NOT NULL,
    agreed INTEGER NOT NULL
)
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One accepted image.

    Attributes:
        number: Its place in the order of arrival, from 1; the store's `version` once it was added.
        id: The name of its files.
        suffix: The ending of its image, such as '.jpg'.
        time: When it came, UTC, as ISO 8601.
        labelled: Whether a person gave a mask; without one its label file is void everywhere.
        flagged: Whether a person asked for a look at it.
        note: What the person wrote.
        request: The id of the request that it came with.
        model: Which model had predicted it.
        image_sha256: Of the encoded image.
        label_sha256: Of the class ids; empty: it has no mask.
        judged: Pixels that the mask judges and that came with a prediction.
        agreed: Those of them where the prediction was right.
    """

    number: int
    id: str
    suffix: str
    time: str
    labelled: bool
    flagged: bool
    note: str
    request: str
    model: str
    image_sha256: str
    label_sha256: str
    judged: int
    agreed: int


_COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


@dataclasses.dataclass(frozen=True)
class Store:
    """A folder of feedback, which several threads and processes may add to.

    Attributes:
        root: The folder, on a local disk: SQLite's log of writes does not work over a network.
    """

    root: pathlib.Path

    @classmethod
    def open(cls, root: str | pathlib.Path, *, create: bool = True) -> Self:
        """Open the store in a folder.

        Args:
            root: The folder.
            create: Make what is missing; else its absence is an error.

        Raises:
            UserError: It cannot be written, or holds no store; or its index is broken.
        """
        store = cls(files.expanded(root))
        if not create and not reading.is_file(store.root / INDEX):
            raise UserError(f"{store.root}: no {INDEX} there. Expected a folder of feedback.")
        if create:
            with files.explain_os_errors(store.root):
                for name in FOLDERS:
                    files.make_folder(store.root / name)
                    files.remove_leftovers_in(store.root / name)
        with store._connected() as connection:
            connection.execute(_TABLE)
        return store

    def add(
        self,
        image: bytes,
        *,
        suffix: str,
        label: Integer[np.ndarray, "h w"] | None,
        prediction: Integer[np.ndarray, "h w"] | None,
        model: str,
        flagged: bool,
        note: str,
        request: str,
    ) -> str:
        """Accept an image and return its id; when this returns it outlasts a power failure.

        The same once more, by the hashes of image and mask and all that is said of them, is not
        added again, so that a client may repeat what it got no answer to.

        Args:
            image: The encoded picture.
            suffix: Its ending, one of `decode.IMAGE_ENDINGS`.
            label: The corrected class ids at the picture's size as it is shown; 255: not judged.
            prediction: What the model had said, of the same size.
            model: Which model that was.
            flagged: Whether someone is to look at it.
            note: In the person's words.
            request: The id of the request that it came with.

        Raises:
            DataError: No picture, another size, or values outside of 0..255; nothing was written.
            UserError: The disk is full or cannot be written.
        """
        suffix = suffix.lower()
        size = _size_of(image, suffix)
        maps = {"label": label, "prediction": prediction}
        for what, array in maps.items():
            _check_map(array, size, what=what)
        judged, agreed = _agreement(label, prediction)
        values: dict[str, Any] = {
            "suffix": suffix, "labelled": label is not None, "flagged": bool(flagged),
            "note": note, "request": request, "model": model,
            "image_sha256": hashlib.sha256(image).hexdigest(),
            "label_sha256": "" if label is None else _hash_of(label),
            "judged": judged, "agreed": agreed,
        }  # fmt: skip
        if known := self._find(values):
            return known
        moment = datetime.datetime.now(datetime.UTC)
        name = f"{moment:%Y%m%dT%H%M%S}{moment.microsecond:06d}-{secrets.token_hex(4)}"
        void = np.full(size, IGNORE_LABEL, np.uint8)
        # The image last: a folder set whose images all have masks can be read at any moment.
        files.write_durably(self.label_of(name), _png(void if label is None else label))
        if prediction is not None:
            files.write_durably(self.prediction_of(name), _png(prediction))
        files.write_durably(self.image_of(name, suffix), image)
        values |= {"id": name, "time": moment.isoformat(timespec="milliseconds")}
        with self._connected() as connection:
            marks = ", ".join("?" * len(values))
            connection.execute(
                f"INSERT INTO feedback ({', '.join(values)}) VALUES ({marks})",  # noqa: S608
                tuple(values.values()),
            )
        return name

    def rows(self, *, until: int = 0) -> list[Row]:
        """Return what was accepted, in the order of arrival.

        `until`: as it was at that version; 0: all.
        """
        chosen = f"SELECT {', '.join(_COLUMNS)} FROM feedback"  # noqa: S608
        with self._connected() as connection:
            found = connection.execute(
                f"{chosen} WHERE ? = 0 OR number <= ? ORDER BY number", (until, until)
            ).fetchall()
        rows: list[dict[str, Any]] = [dict(zip(_COLUMNS, each, strict=True)) for each in found]
        for row in rows:
            row.update({name: bool(row[name]) for name in ("labelled", "flagged")})
        return [Row(**row) for row in rows]

    def version(self) -> int:
        """Return a number that grows with every image that is added; 0: there is none."""
        with self._connected() as connection:
            return connection.execute("SELECT MAX(number) FROM feedback").fetchone()[0] or 0

    def image_of(self, name: str, suffix: str) -> pathlib.Path:
        """Return the file of an image."""
        return self.root / "images" / f"{name}{suffix}"

    def label_of(self, name: str) -> pathlib.Path:
        """Return the file of a mask."""
        return self.root / "labels" / f"{name}.png"

    def prediction_of(self, name: str) -> pathlib.Path:
        """Return the file of what was predicted; it may not be there."""
        return self.root / "predictions" / f"{name}.png"

    def _find(self, values: dict[str, Any]) -> str:
        """Return the id of the row that says all this; empty: there is none."""
        where = " AND ".join(f"{name} = ?" for name in values)
        with self._connected() as connection:
            found = connection.execute(
                f"SELECT id FROM feedback WHERE {where}",  # noqa: S608
                tuple(values.values()),
            ).fetchone()
        return found[0] if found else ""

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection of its own, whose changes are on disk when the block has ended."""
        path = self.root / INDEX
        reading.check_file(path)
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=WAIT_S)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                with connection:
                    yield connection
        except sqlite3.OperationalError as error:
            raise UserError(
                f"{path}: {error}. Check that the folder is on a local disk with room on it, and "
                "may be written."
            ) from None
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{path}: {error}. Expected the index of a folder of feedback. Restore it from a "
                "copy, or move it away: images and labels stay."
            ) from None


def _size_of(image: bytes, suffix: str) -> tuple[int, int]:
    """Return height and width of a picture as it is shown, once all of it was decoded.

    Raises:
        DataError: It is none, or not one that training can read.
    """
    if suffix not in decode.IMAGE_ENDINGS:
        raise DataError(
            f"feedback: an image that ends in {suffix!r:.40}. Expected one of "
            f"{', '.join(decode.IMAGE_ENDINGS)}."
        )
    name = f"feedback{suffix}"
    header = decode.read_header(image, name=name)
    channels = decode.channels_of(header)
    pixels = decode.read_image(image, name=name, channels=channels, dtype="float32")
    return pixels.shape[0], pixels.shape[1]


def _check_map(array: np.ndarray | None, size: tuple[int, int], *, what: str) -> None:
    """Raise `DataError` for a map of classes that is none of an image of this size."""
    if array is None:
        return
    if array.shape != size or array.dtype.kind not in "iu":
        raise DataError(
            f"feedback: the {what} has shape {array.shape}, {array.dtype}. Expected whole numbers "
            f"of the image's {size[0]}x{size[1]} pixels (height x width)."
        )
    if array.min() < 0 or array.max() > IGNORE_LABEL:
        raise DataError(
            f"feedback: the {what} holds {array.min()} to {array.max()}. Expected class ids from "
            f"0, and {IGNORE_LABEL} where a pixel is not judged."
        )


def _agreement(label: np.ndarray | None, prediction: np.ndarray | None) -> tuple[int, int]:
    """Return how many pixels were judged that were predicted, and how many of them rightly."""
    if label is None or prediction is None:
        return 0, 0
    judged = (label != IGNORE_LABEL) & (prediction != IGNORE_LABEL)
    return int(judged.sum()), int((judged & (label == prediction)).sum())


def _hash_of(label: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(label, np.uint8).tobytes()).hexdigest()


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
