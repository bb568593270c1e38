"""What a video is to a predictor: frames with times, from a file or a folder of pictures."""

import pathlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Shaped

from segjax.config import rules
from segjax.data import opening
from segjax.data.decode import Reading
from segjax.errors import ConfigError, DataError
from segjax.inference.preview import LARGE

MOST_RATE = 1000


class Frame(NamedTuple):
    """One picture of a video.

    Attributes:
        image: [h w c] as the run's data set would read it.
        time: When it is shown, in units of the video's `time_base`, from its begin on.
        duration: For how long, likewise; 0: until the next.
    """

    image: Shaped[np.ndarray, "h w c"]
    time: int
    duration: int


class About(NamedTuple):
    """What is known of a video before its frames are read.

    Attributes:
        file: The file or folder.
        size: Height and width of its frames, upright.
        rate: Frames a second, on average.
        time_base: Seconds of one unit of time.
        expected: How many frames it says that it has; 0: it does not say.
        pixel_ratio: Width of a pixel over its height.
        audio: Whether it has sound that can be copied to another video of the same times.
        notes: What is done to its frames or left out of it, in words.
    """

    file: pathlib.Path
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    expected: int
    pixel_ratio: Fraction = Fraction(1)
    audio: bool = False
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return its size, rate and length in words."""
        height, width = self.size
        length = f"{self.expected} frames" if self.expected else "of a length that it does not say"
        return f"{width}x{height} pixels, {float(self.rate):.5g} fps, {length}"


class Video(Protocol):
    """An open video.

    Attributes:
        about: What is known of it.
        problems: What of it could not be read, in words; complete at the end of `frames`.
    """

    about: About
    problems: list[str]

    def frames(self) -> Iterator[Frame]:
        """Yield all frames once, in the order in which they are shown; times grow strictly.

        Raises:
            DataError: A frame is none that a run can see.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Pictures:
    """Pictures as the frames of a video.

    Args:
        folder: What they are called by.
        files: They, in order.
        reading: How the run's data set reads images.
        rate: Frames a second.

    Raises:
        DataError: The first cannot be read.
    """

    def __init__(
        self, folder: pathlib.Path, files: Sequence[pathlib.Path], reading: Reading, rate: Fraction
    ) -> None:
        self.files, self.reading = files, reading
        whole, _ = opening.header_to_predict(files[0], reading)
        check_size(whole, name=str(files[0]))
        size = (whole[0], whole[1])
        self.about = About(folder, size, rate, 1 / rate, len(files))
        self.problems: list[str] = []

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures in order.

        Raises:
            DataError: One cannot be read, or has another size than the first.
        """
        for number, file in enumerate(self.files):
            image = np.asarray(opening.open_to_predict(file, self.reading).array)
            if image.shape[:2] != self.about.size:
                raise DataError(
                    f"{file}: is {_shown(image.shape)}, the frames before it are "
                    f"{_shown(self.about.size)} (height x width). Frames of a video have one "
                    "size; without --fps each is a picture of its own."
                )
            yield Frame(image, number, 1)

    def close(self) -> None:
        """Do nothing: each file is closed when it is read."""


def check_size(whole: Sequence[int], *, name: str) -> None:
    """Raise `DataError` for frames that are too large to be held."""
    if whole[0] * whole[1] > LARGE:
        raise DataError(
            f"{name}: frames of {_shown(whole)} (height x width), at most {LARGE:,} pixels are "
            "predicted. Save it smaller."
        )


def _shown(whole: Sequence[int]) -> str:
    return f"{whole[0]}x{whole[1]}"


def rate_of(text: str) -> Fraction | None:
    """Return `--fps` as a number; None: it was not given.

    Raises:
        ConfigError: It is none from 1/1000 to 1000.
    """
    if not text:
        return None
    try:
        found = Fraction(text)
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if not Fraction(1, MOST_RATE) <= found <= MOST_RATE:
        raise ConfigError(
            f"--fps={rules.cut(text)}: expected frames a second, a number from 0.001 to "
            f"{MOST_RATE} such as 25, 23.976 or 30000/1001. Change it."
        )
    return found.limit_denominator(100_000)
