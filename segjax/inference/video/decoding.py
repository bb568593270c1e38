"""Decode a video file frame by frame (PyAV), in memory that does not grow with the video.

A file is opened here and never by its name in FFmpeg, and only formats that hold their own frames
are taken: a playlist would have FFmpeg open whatever it names.
"""

import contextlib
import itertools
import math
import pathlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from segjax.data import decode, raster, values
from segjax.data.decode import Reading
from segjax.errors import DataError, extra
from segjax.inference.preview import LARGE
from segjax.inference.video.frames import MOST_RATE, About, Frame, check_size
from segjax.runtime import reading as reading_lib

with extra("video", what="a video"):
    import av
    import av.error
    import av.filter
    from av.stream import Disposition
    from av.video.frame import VideoFrame
    from av.video.reformatter import Colorspace

METADATA: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""What keeps a title that is no UTF-8 from being an error; from PyAV 19 on it is none."""
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "mpegvideo", "asf", "flv",
    "live_flv", "ogg", "mxf", "yuv4mpegpipe", "gif", "ivf", "h264", "hevc", "av1", "obu", "wtv",
    "dv", "nut", "gxf", "m4v", "vc1", "rm", "apng",
)  # fmt: skip
"""FFmpeg's names of what is taken."""
MOST_FAILURES = 100
"""Packets in a row that cannot be read, after which the rest is given up."""
LATE = Fraction(1)
"""Seconds by which the frames may end before the file says that they do."""
HD = 1280, 576
"""A video that says no colour matrix has that of HD from this width or height on, as players do."""
TURNS = {
    (1, 0, 0, 1): 1, (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5, (0, 1, -1, 0): 6, (0, -1, -1, 0): 7, (0, -1, 1, 0): 8,
}  # fmt: skip
"""From the signs of a display matrix to EXIF's orientation."""
COVER = Disposition.attached_pic
"""What the picture on a song's cover is."""
UNSPECIFIED = 2
HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions (ITU-T H.273) of which a picture of 8 bits looks pale."""


class File:
    """A video file.

    Args:
        file: The file.
        reading: How the run's data set reads images.
        rate: Frames a second, in place of the file's own times; None: its own.

    Raises:
        DataError: It is no video, or none that the run can see.
    """

    def __init__(self, file: pathlib.Path, reading: Reading, rate: Fraction | None = None) -> None:
        check_reading(reading, name=str(file))
        self.reading, self.rate, self.problems = reading, rate, []
        self._broken = 0
        self._graph: Any = None
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self._container = stack.enter_context(opened(file))
            self._stream = _stream(self._container, name=str(file))
            self._decoded = self._decode()
            try:
                first = next(self._decoded, None)
            except av.error.FFmpegError as error:
                raise _broken(file, error) from None
            if first is None:
                raise DataError(f"{file}: no frame of it can be decoded. Replace or remove it.")
            self._first: list[VideoFrame] = [first]
            self.about = self._about(file, first)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Let go of the file."""
        self._decoded.close()
        self._stack.close()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames, upright, in 8 bits, interlaced ones as whole ones.

        A packet that cannot be decoded is left out and counted in `problems`.
        """
        sizes, count, last, end = {}, 0, -1, Fraction(0)
        first, self._first = self._first, []
        with decode.explained(str(self.about.file)):
            for number, frame in enumerate(itertools.chain(first, self._decoded)):
                sizes[frame.width, frame.height] = None
                count = number + 1
                time, duration = self._when(frame, number, last)
                last, end = time, (time + duration) * self.about.time_base
                yield Frame(decode.turn(self._pixels(frame), self._orientation), time, duration)
        self._find_problems(count, end, list(sizes)[1:])

    def _about(self, file: pathlib.Path, first: VideoFrame) -> About:
        stream, container = self._stream, self._container
        sides = (first.height, first.width)
        check_size(sides, name=str(file))
        self._matrix = first.colorspace
        if self._matrix == UNSPECIFIED and (sides[1] >= HD[0] or sides[0] > HD[1]):
            self._matrix = Colorspace.ITU709
        self._sides = sides
        notes = []
        self._orientation = orientation_of(first)
        if not self._orientation:
            self._orientation = 1
            notes.append("is turned by an odd angle, which is not followed")
        turned = self._orientation >= 5
        ratio = stream.sample_aspect_ratio or Fraction(1)
        rate = self.rate or stream.average_rate or stream.guessed_rate or Fraction(25)
        rate = rate if 1 / MOST_RATE <= rate <= MOST_RATE else Fraction(25)  # of times that lie
        base = 1 / rate if self.rate else stream.time_base
        self._offset = _offset(container, base)
        if self._graph is not None:
            notes.append("is interlaced: two fields make one whole frame (bwdif)")
        deep = max(part.bits for part in first.format.components)
        if deep > 8:
            notes.append(f"has {deep} bits, of which the run sees 8")
        if first.color_trc in HDR:
            notes.append(f"is HDR ({HDR[first.color_trc]}), and looks pale to the run")
        if self.rate and container.streams.audio:
            notes.append("has sound, which is left out: --fps changes its times")
        expected = stream.frames
        if not expected and (seconds := _seconds(stream, container)):
            expected = round(seconds * rate)
        return About(
            file, (sides[1], sides[0]) if turned else sides, Fraction(rate), Fraction(base),
            expected, 1 / ratio if turned else ratio,
            bool(container.streams.audio) and not self.rate, tuple(notes),
        )  # fmt: skip

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the stream; those that cannot be read are counted."""
        failures = 0
        while failures < MOST_FAILURES:
            try:
                for packet in self._container.demux(self._stream):
                    failures = 0
                    if packet.size:
                        yield packet
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                failures += 1
                self._broken += 1

    def _decode(self) -> Any:
        """Yield decoded frames, interlaced ones made whole."""
        for packet in self._packets():
            try:
                found = packet.decode()
            except av.error.FFmpegError:
                self._broken += 1
                continue
            for frame in found:
                yield from self._whole(frame)
        with contextlib.suppress(av.error.FFmpegError):
            for frame in self._stream.decode(None):
                yield from self._whole(frame)
        yield from self._whole(None)

    def _whole(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Yield what the filter of interlaced frames gives back; None: the end."""
        if self._graph is None:
            if frame is None:
                return
            if not frame.interlaced_frame:
                yield frame
                return
            self._graph = av.filter.Graph()
            self._graph.link_nodes(
                self._graph.add_buffer(template=self._stream),
                self._graph.add("bwdif", "mode=send_frame:deint=interlaced"),
                self._graph.add("buffersink"),
            ).configure()
        self._graph.vpush(frame)
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                yield self._graph.vpull()

    def _when(self, frame: VideoFrame, number: int, last: int) -> tuple[int, int]:
        """Return when a frame is shown and for how long; it is shown later than the last."""
        if self.rate is not None:
            return number, 1
        base = self.about.time_base
        usual = max(1, round(1 / (self.about.rate * base)))
        if frame.pts is None:
            return last + usual, usual
        # That of bwdif is another than the file's; the last frames are given without one.
        unit = (frame.time_base or self._stream.time_base) / base
        time = math.floor(frame.pts * unit) - self._offset
        return max(time, last + 1), max(0, math.floor((frame.duration or 0) * unit))

    def _pixels(self, frame: VideoFrame) -> np.ndarray:
        """Return a frame as stored, [h w c] in the type of the run."""
        height, width = self._sides
        matrix = frame.colorspace
        found = frame.reformat(
            width=width, height=height, format="rgb24",
            src_colorspace=self._matrix if matrix == UNSPECIFIED else matrix,
        ).to_ndarray()  # fmt: skip
        reading = self.reading
        header = raster.Header(height, width, 3, 8, "uint8", "rgb")
        name = str(self.about.file)
        found, bits = values.bring_to_channels(header, found, reading.channels, name=name)
        if not reading.dtype:
            return found
        return values.bring_to_dtype(header, found, bits, reading.dtype, name=name)

    def _find_problems(self, count: int, end: Fraction, other_sizes: list[tuple[int, int]]) -> None:
        if self._broken:
            self.problems.append(f"{self._broken} packets could not be decoded")
        if other_sizes:
            shown = ", ".join(f"{height}x{width}" for width, height in other_sizes[:3])
            self.problems.append(f"some frames are {shown}, which were scaled to the first's size")
        said = _seconds(self._stream, self._container, only_stream=True)
        short = self.rate is None and said and end + max(LATE, said / 50) < said
        frames = self._stream.frames  # those of a MOV may be hidden by its list of edits
        if short:
            self.problems.append(
                f"its frames end at {float(end):.1f} s of {float(said):.1f} s: it is cut off"
            )
        elif "mov" not in self._container.format.name and count < 0.98 * frames - 1:
            self.problems.append(f"{count} of {frames} frames are there: it is cut off")


def check_reading(reading: Reading, *, name: str) -> None:
    """Raise `DataError` for a run that does not see what videos have."""
    if reading.dims != 2 or reading.channels not in (1, 3) or reading.bands:
        seen = "other channels" if reading.dims == 2 else f"images of {reading.dims} axes"
        raise DataError(f"{name}: is a video, and the run sees {seen}. Predict it with another.")
    if reading.dtype in ("uint16", "int16"):
        raise DataError(
            f"{name}: is a video, of 8 bits, and the run's images are {reading.dtype}, beside "
            "whose values it would be nearly black. Save its frames as pictures of that type."
        )


@contextlib.contextmanager
def opened(file: pathlib.Path) -> Iterator[Any]:
    """Yield a file as PyAV opens it, whatever its name says.

    Raises:
        DataError: It is no video of `FORMATS`, or no file.
    """
    options = {
        "format_whitelist": ",".join(FORMATS), "protocol_whitelist": "none",
        "max_pixels": str(LARGE),
    }  # fmt: skip
    try:
        source = reading_lib.open_file(file)
    except FileNotFoundError:
        raise DataError(f"{file}: is not there. Put the file there.") from None
    with source:
        try:
            container = av.open(source, options=options, **METADATA)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise _broken(file, error) from None
        with container:
            yield container


def _stream(container: Any, *, name: str) -> Any:
    """Return the stream of pictures that is to be decoded, its size bounded."""
    videos = [each for each in container.streams.video if COVER not in each.disposition]
    if not videos:
        raise DataError(f"{name}: holds no stream of pictures. Name a video.")
    stream = videos[0]
    context = stream.codec_context
    if context is None:
        raise DataError(f"{name}: its pictures are of a kind that FFmpeg here cannot decode.")
    if context.width and context.height:
        check_size((context.height, context.width), name=name)
    context.options = {"max_pixels": str(LARGE)}
    context.thread_type, context.thread_count = "AUTO", 2
    return stream


def orientation_of(frame: VideoFrame) -> int:
    """Return EXIF's orientation of a frame, by its display matrix; 0: it has none of EXIF's."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1
    found = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2] / 65536
    if np.abs(found - np.rint(found)).max() > 0.01:
        return 0
    a, b, c, d = np.rint(found).astype(int).ravel().tolist()
    return TURNS.get((a, b, c, d), 0)


def _seconds(stream: Any, container: Any, *, only_stream: bool = False) -> Fraction:
    """Return how long a video says that it is; 0: it does not."""
    if stream.duration:
        return Fraction(stream.duration) * stream.time_base
    if container.duration and not (only_stream and len(container.streams) > 1):
        return Fraction(container.duration, av.time_base)
    return Fraction(0)


def _offset(container: Any, base: Fraction) -> int:
    """Return what is subtracted from times, so that a file's begin is 0."""
    return math.floor(start_of(container) / base)


def start_of(container: Any) -> Fraction:
    """Return the time at which a file begins, in seconds."""
    return Fraction(container.start_time or 0, av.time_base)


def _broken(file: pathlib.Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return DataError(
        f"{file}: no video that can be read: {reason.rstrip('.')}. Replace or remove the file."
    )
