"""Small videos of known pixels and times, made with PyAV."""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

LOSSLESS = "png"
"""A codec that keeps RGB bit for bit, in a .mov or .mkv."""


def scene(count: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """Return frames [n h w 3] of a bright square that moves over a dark ground."""
    frames = np.full((count, *size, 3), (30, 60, 20), np.uint8)
    for number in range(count):
        left = 2 + number % (size[1] - 10)
        frames[number, 6:14, left : left + 8] = (220, 200, 180)
    return frames


def write(
    path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = LOSSLESS,
    pixels: str = "rgb24",
    rate: Fraction | int = 25,
    times: Sequence[int] | None = None,
    base: Fraction | None = None,
    options: dict[str, str] | None = None,
    turned: int = 0,
    mirrored: bool = False,
    ratio: Fraction | None = None,
    sound: str = "",
    matrix_of_colours: int | None = None,
    container_options: dict[str, str] | None = None,
) -> None:
    """Write frames [h w 3].

    `times` are in units of `base`, by default every frame is one. Players turn it by `turned`
    degrees, counterclockwise, and then mirror it from left to right.
    """
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = pixels, options or {}
        if base is not None:
            stream.time_base = stream.codec_context.time_base = base
        if ratio is not None:
            stream.sample_aspect_ratio = ratio
        if turned or mirrored:
            stream.set_display_rotation(turned, hflip=mirrored)
        if matrix_of_colours is not None:
            stream.codec_context.colorspace = matrix_of_colours
        heard = container.add_stream(sound, rate=48000) if sound else None
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if pixels != "rgb24":
                frame = frame.reformat(format=pixels, dst_colorspace=matrix_of_colours)
            frame.pts = number if times is None else times[number]
            frame.time_base = base or 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if heard is not None:
            _sing(container, heard, seconds=len(frames) / rate)


def _sing(container, stream, seconds: float) -> None:
    time = np.arange(round(float(seconds) * 48000), dtype=np.float32) / 48000
    wave = (0.5 * np.sin(2 * np.pi * 440 * time)).repeat(2)[None]
    frame = av.AudioFrame.from_ndarray(wave, format="flt", layout="stereo")
    frame.sample_rate = 48000
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def read(path) -> tuple[list[np.ndarray], list[Fraction]]:
    """Return the frames of a video as stored, and their times in seconds."""
    with av.open(str(path)) as container:
        found = list(container.decode(video=0))
        return [frame.to_ndarray() for frame in found], [f.pts * f.time_base for f in found]


def times(path) -> list[Fraction]:
    """Return the times of a video's frames, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sounds(path) -> list[bytes]:
    """Return the packets of a video's sound."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]
