"""Write a video frame by frame (PyAV), with the times of another and a copy of its sound."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from segjax.errors import DataError, UserError, extra
from segjax.inference.video import decoding
from segjax.inference.video.frames import About, Frame
from segjax.runtime import files

with extra("video", what="a video"):
    import av
    import av.codec
    import av.error
    from av.video.frame import VideoFrame
    from av.video.reformatter import ColorRange, Colorspace


class Form(NamedTuple):
    """How a video is encoded.

    Attributes:
        container: FFmpeg's name of the file's format.
        codec: Of the encoder.
        stored: Of the pixels in the file.
        given: Of the pixels that are given: 'rgb24', 'rgba' or 'gray'.
        options: Of the encoder.
        sound: Whether it has the sound of the video that it is made of.
    """

    container: str
    codec: str
    stored: str
    given: str
    options: dict[str, str]
    sound: bool = True

    @property
    def even(self) -> bool:
        """Whether its sides must be even: colours are stored for two by two pixels."""
        return "420" in self.stored


MP4 = Form("mp4", "libx264", "yuv420p", "rgb24", {"crf": "20", "preset": "veryfast"})
"""What every player and browser shows."""
LOSSLESS = Form("matroska", "ffv1", "gray", "gray", {}, sound=False)
"""Numbers of 0..255, each as it was."""
WEBM = Form(
    "webm", "libvpx-vp9", "yuva420p", "rgba",
    {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"},
)  # fmt: skip
"""Opacity for browsers."""
PRORES = Form("mov", "prores_ks", "yuva444p10le", "rgba", {"profile": "4444"})
"""Opacity for editors."""


@contextlib.contextmanager
def encoding(
    path: pathlib.Path, form: Form, about: About, *, tell: Callable[[str], None]
) -> Iterator[Callable[[Frame, UInt8[np.ndarray, "h w ..."]], None]]:
    """Yield what takes one frame after the other with its picture, for a file that is then whole.

    Args:
        path: The file.
        form: How it is encoded.
        about: The video that it is made of.
        tell: Takes what is left out of it or added to it, in words.

    Raises:
        UserError: The disk is full or cannot be written, or FFmpeg here has no such encoder.
        DataError: The encoder does not take such a size, rate or times.
    """
    with (
        contextlib.ExitStack() as stack,
        files.replacing(path) as temporary,
        _explained(path),
        av.open(str(temporary.absolute()), "w", format=form.container) as output,
    ):
        stream = _stream(output, form, about, path)
        sound = None
        if form.sound and about.audio:
            source = stack.enter_context(decoding.opened(about.file))
            sound = Sound(source, output, tell=lambda text: tell(f"{path.name} {text}"))
        height, width = about.size
        grown = (height % 2, width % 2) if form.even else (0, 0)
        if any(grown):
            tell(
                f"{path.name} is {height + grown[0]}x{width + grown[1]}: its sides must be even, "
                "and the last row or column is there twice"
            )

        def add(frame: Frame, picture: np.ndarray) -> None:
            if any(grown):
                sides = [(0, grown[0]), (0, grown[1]), (0, 0)][: picture.ndim]
                picture = np.pad(picture, sides, mode="edge")
            with _explained(path):
                output.mux(stream.encode(_encoded(frame, picture, form, about)))
                if sound is not None:
                    sound.copy(until=frame.time * about.time_base)

        yield add
        output.mux(stream.encode(None))
        if sound is not None:
            sound.copy(until=None)


def _stream(output: Any, form: Form, about: About, path: pathlib.Path) -> Any:
    if form.codec not in av.codec.codecs_available:
        raise UserError(
            f"Cannot write {path}: FFmpeg here has no encoder {form.codec}. Install PyAV from PyPI "
            "(pip install av), whose FFmpeg has it, or ask for another output."
        )
    stream = output.add_stream(form.codec, rate=about.rate)
    height, width = about.size
    even = 2 if form.even else 1
    stream.width, stream.height = (-(-side // even) * even for side in (width, height))
    stream.pix_fmt, stream.options = form.stored, form.options
    stream.time_base = stream.codec_context.time_base = about.time_base
    stream.sample_aspect_ratio = about.pixel_ratio
    if form.given != "gray":  # the colours of HD, and said so: players assume this or that
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
    return stream


def _encoded(frame: Frame, picture: np.ndarray, form: Form, about: About) -> VideoFrame:
    found = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=form.given)
    if form.given != "gray":
        found = found.reformat(
            format=form.stored, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
    found.pts, found.time_base = frame.time, about.time_base
    if frame.duration:
        found.duration = frame.duration
    return found


class Sound:
    """Copies the sound of one file into another as it is stored.

    Args:
        source: The file, opened for this.
        output: The other one.
        tell: Takes what is left out, in words.
    """

    def __init__(self, source: Any, output: Any, *, tell: Callable[[str], None]) -> None:
        self.start, self.output, self.tell = decoding.start_of(source), output, tell
        self.streams = {}
        for stream in source.streams.audio:
            name = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
            if name in output.supported_codecs:
                self.streams[stream.index] = output.add_stream_from_template(stream)
            else:
                tell(f"has no sound of the kind {name}: {output.format.name} cannot hold it")
        chosen = [each for each in source.streams.audio if each.index in self.streams]
        self.packets = source.demux(chosen) if chosen else iter(())
        self.next: Any = None

    def copy(self, *, until: Fraction | None) -> None:
        """Copy what is heard until a time in seconds; None: all that is left.

        What cannot be read is left out, and so is all that follows it.
        """
        try:
            while (packet := self.next or next(self.packets, None)) is not None:
                self.next = packet
                if packet.dts is None or packet.pts is None:  # the end of a stream
                    self.next = None
                    continue
                begin = packet.pts * packet.time_base - self.start
                if until is not None and begin > until:
                    return
                shift = round(self.start / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self.streams[packet.stream.index]
                self.next = None
                self.output.mux(packet)
        except av.error.InvalidDataError:
            self.next, self.packets = None, iter(())
            self.tell("has the sound up to where it could not be read")


@contextlib.contextmanager
def _explained(path: pathlib.Path) -> Iterator[None]:
    """Turn what an encoder refuses into one line; the system's errors are `files.replacing`'s."""
    try:
        yield
    except OSError:
        raise
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"Cannot write {path}: {reason}. Ask for another output.") from None
