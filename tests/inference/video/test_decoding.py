"""Files of any kind become upright frames of 8 bits at their own times, or one clear line."""

import os
import resource
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from segjax.data.decode import Reading
from segjax.errors import ConfigError, DataError
from segjax.inference.video import decoding
from tests import clips

X264 = {"codec": "libx264", "pixels": "yuv420p", "options": {"crf": "1"}}


def decoded(path, reading=None, rate=None):
    """Return the frames, what is known of the video, and its problems."""
    video = decoding.File(path, reading or Reading(), rate)
    frames = list(video.frames())
    video.close()
    return frames, video.about, video.problems


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_frames_are_upright(tmp_path, turned, mirrored):
    """As the file's display matrix has it: counterclockwise, then from left to right."""
    scene = clips.scene(3)
    clips.write(tmp_path / "a.mov", scene, turned=turned, mirrored=mirrored, ratio=Fraction(4, 3))
    frames, about, problems = decoded(tmp_path / "a.mov")
    expected = [np.rot90(image, turned // 90) for image in scene]
    expected = [image[:, ::-1] if mirrored else image for image in expected]
    np.testing.assert_array_equal([frame.image for frame in frames], expected)
    assert about.size == expected[0].shape[:2] and about.expected == 3 and not problems
    assert about.pixel_ratio == (Fraction(3, 4) if turned % 180 else Fraction(4, 3))


def test_times_of_any_rhythm_are_kept(tmp_path):
    times, base = [0, 3003, 6006, 20000, 50001, 50002], Fraction(1, 90000)
    clips.write(tmp_path / "a.mov", clips.scene(6), times=times, base=base)
    frames, about, _ = decoded(tmp_path / "a.mov")
    assert [frame.time * about.time_base for frame in frames] == [time * base for time in times]
    frames, about, _ = decoded(tmp_path / "a.mov", rate=Fraction(30000, 1001))
    seconds = [frame.time * about.time_base for frame in frames]
    assert seconds == [number * Fraction(1001, 30000) for number in range(6)]


def test_a_file_that_begins_late_begins_at_0(tmp_path):
    times = [90000 + 3600 * number for number in range(4)]
    clips.write(tmp_path / "a.ts", clips.scene(4, (48, 64)), times=times,
                base=Fraction(1, 90000), **X264)  # fmt: skip
    frames, about, _ = decoded(tmp_path / "a.ts")
    assert [frame.time * about.time_base for frame in frames] == [Fraction(n, 25) for n in range(4)]


@pytest.mark.parametrize(
    ("how", "within"),
    [
        ({"matrix_of_colours": 1}, 4), ({"matrix_of_colours": 5}, 4), ({}, 4),
        ({"pixels": "yuv420p10le"}, 4), ({"pixels": "yuv444p"}, 4),
    ],
)  # fmt: skip
def test_colours_are_those_that_were_written(tmp_path, how, within):
    scene = np.full((2, 48, 64, 3), (200, 60, 30), np.uint8)
    scene[:, :, 32:] = (20, 180, 220)
    clips.write(tmp_path / "a.mp4", scene, **X264 | how)
    frames, about, _ = decoded(tmp_path / "a.mp4")
    inner = np.r_[0:28, 36:64]
    error = np.abs(frames[0].image[:, inner].astype(int) - scene[0][:, inner])
    assert error.max() <= within
    assert any("10 bits" in note for note in about.notes) == (
        "pixels" in how and "10" in how["pixels"]
    )


def test_hd_without_a_matrix_has_that_of_hd(tmp_path):
    """Players take BT.709; FFmpeg itself would take that of old television."""
    scene = np.full((1, 720, 1280, 3), (200, 60, 30), np.uint8)
    clips.write(tmp_path / "a.mp4", scene, **X264 | {"matrix_of_colours": 1})
    said = decoded(tmp_path / "a.mp4")[0][0].image
    raw = (tmp_path / "a.y4m").open("wb")  # Y4M says no matrix
    with raw, decoding.opened(tmp_path / "a.mp4") as container:
        frame = next(container.decode(video=0))
        raw.write(b"YUV4MPEG2 W1280 H720 F25:1 C420mpeg2\nFRAME\n")
        for plane in frame.planes:
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            raw.write(rows[:, : plane.width].tobytes())
    np.testing.assert_array_equal(decoded(tmp_path / "a.y4m")[0][0].image, said)


def test_interlaced_frames_become_whole_ones(tmp_path):
    """As many as there were; without the teeth that two fields of a moving thing have."""
    fields = clips.scene(24, (48, 64)).repeat(2, 0)[: 2 * 12]
    fields = np.stack([np.roll(fields[0], 3 * number, axis=1) for number in range(24)])
    combed = fields[::2].copy()
    combed[:, 1::2] = fields[1::2, 1::2]
    options = {"crf": "1", "x264-params": "tff=1"}
    clips.write(tmp_path / "a.mp4", combed, **X264 | {"options": options})
    frames, about, _ = decoded(tmp_path / "a.mp4")
    assert len(frames) == 12 and any("interlaced" in note for note in about.notes)
    seconds = [frame.time * about.time_base for frame in frames]
    assert seconds == [Fraction(number, 25) for number in range(12)]

    def teeth(images):
        values = np.asarray(images)[2:-2, 8:12, :, 0].astype(int)
        return np.abs(values[:, 1:] - values[:, :-1]).mean()

    assert teeth([frame.image for frame in frames]) < teeth(combed) / 3


@pytest.mark.parametrize(
    ("reading", "shape", "dtype"),
    [(Reading(1), (24, 32, 1), np.uint8), (Reading(3, dtype="float32"), (24, 32, 3), np.float32)],
)
def test_frames_are_read_as_pictures_are(tmp_path, reading, shape, dtype):
    from segjax.data import decode

    scene = clips.scene(2)
    clips.write(tmp_path / "a.mov", scene)
    Image.fromarray(scene[1]).save(tmp_path / "a.png")
    frame = decoded(tmp_path / "a.mov", reading)[0][1].image
    assert frame.shape == shape and frame.dtype == dtype
    expected = decode.read_image(tmp_path / "a.png", name="a", **reading.of_pictures)
    np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize(
    ("reading", "words"),
    [(Reading(3, dtype="uint16"), "8 bits"), (Reading(5), "other channels"),
     (Reading(1, dims=3), "3 axes")],
)  # fmt: skip
def test_a_run_that_sees_no_pictures_of_8_bits_sees_no_video(tmp_path, reading, words):
    clips.write(tmp_path / "a.mov", clips.scene(1))
    with pytest.raises(DataError, match=words):
        decoding.File(tmp_path / "a.mov", reading)


def test_a_gif_moves_at_its_own_times(tmp_path):
    scene = clips.scene(4)
    pictures = [Image.fromarray(image) for image in scene]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:],
                     duration=[100, 300, 50, 100])  # fmt: skip
    frames, about, _ = decoded(tmp_path / "a.gif")
    seconds = [float(frame.time * about.time_base) for frame in frames]
    assert seconds == pytest.approx([0, 0.1, 0.4, 0.45])
    np.testing.assert_array_equal([frame.image for frame in frames], scene)


@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts", "avi"])
def test_a_file_that_is_cut_off_gives_what_is_there_and_says_so(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    random = np.random.default_rng(0).integers(0, 255, (100, 48, 64, 3), np.uint8)
    front = {"movflags": "faststart"} if ending == "mp4" else {}
    clips.write(path, random, container_options=front, **X264)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    frames, _, problems = decoded(path)
    assert 20 < len(frames) < 80
    if ending != "ts":  # it says nowhere how long it is
        assert problems and all("\n" not in problem for problem in problems)


def test_what_is_broken_in_the_middle_is_left_out_and_said(tmp_path):
    random = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3), np.uint8)
    clips.write(tmp_path / "a.mov", random)
    content = bytearray((tmp_path / "a.mov").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 30000] = bytes(30000)
    (tmp_path / "a.mov").write_bytes(content)
    frames, _, problems = decoded(tmp_path / "a.mov")
    assert 50 <= len(frames) < 60 and "could not be decoded" in problems[0]
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi", "gif", "mov"])
def test_whatever_is_broken_gives_frames_or_one_line(tmp_path, ending):
    """The rule, for bytes that are changed, missing or overwritten anywhere."""
    path, random = tmp_path / f"a.{ending}", np.random.default_rng(len(ending))
    if ending == "gif":
        pictures = [Image.fromarray(image) for image in clips.scene(4)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:])
    else:
        clips.write(path, clips.scene(6, (32, 48)), **{} if ending == "mov" else X264)
    whole = path.read_bytes()
    for number in range(20):
        content = bytearray(whole[: random.integers(1, len(whole))] if number % 3 == 0 else whole)
        head = len(content) if number % 2 else min(len(content), 600)
        for at in random.integers(0, head, 8):
            content[at] = random.integers(256)
        path.write_bytes(content)
        try:
            frames, about, _ = decoded(path)
        except DataError as error:
            assert "\n" not in str(error)
            continue
        assert {frame.image.shape[:2] for frame in frames} == {about.size}
        times = [frame.time for frame in frames]
        assert times == sorted(set(times))


def test_frames_of_another_size_are_scaled_and_said(tmp_path):
    clips.write(tmp_path / "a.ts", clips.scene(3, (48, 64)), **X264)
    clips.write(tmp_path / "b.ts", clips.scene(3, (96, 128)), **X264)
    both = (tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(both)
    frames, _, problems = decoded(tmp_path / "a.ts")
    assert len(frames) == 6 and {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert any("96x128" in problem for problem in problems)
    assert [frame.time for frame in frames] == sorted({frame.time for frame in frames})


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("ending", ["mp4", "m3u8", "mkv"])
@pytest.mark.parametrize(
    "content",
    [b"", b"no video at all", b"\0" * 5000, b"ffconcat version 1.0\nfile other.mov\n", b"HLS",
     b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n"],
)  # fmt: skip
def test_what_is_no_video_is_one_line_and_opens_no_other_file(tmp_path, content, ending):
    clips.write(tmp_path / "other.mov", clips.scene(2))
    path = tmp_path / f"a.{ending}"
    path.write_bytes(HLS.format(tmp_path / "other.mov").encode() if content == b"HLS" else content)
    with pytest.raises(DataError, match=r"a\.\w+: no video that can be read") as error:
        decoding.File(path, Reading())
    assert "\n" not in str(error.value)


def test_a_title_may_be_of_any_bytes(tmp_path):
    clips.write(tmp_path / "a.mov", clips.scene(2))
    content = (tmp_path / "a.mov").read_bytes()
    assert content.count(b"Lavf") == 1
    (tmp_path / "a.mov").write_bytes(content.replace(b"Lavf", b"\xe9\xe8\xff\xfe"))
    assert len(decoded(tmp_path / "a.mov")[0]) == 2


def test_what_is_no_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(DataError, match="is a pipe"):
        decoding.File(tmp_path / "pipe.mp4", Reading())
    with pytest.raises(DataError, match="is not there"):
        decoding.File(tmp_path / "none.mp4", Reading())


@pytest.mark.parametrize("name", ["a.gif", "a.y4m"])
def test_a_file_may_not_claim_any_size(tmp_path, name):
    """60000 x 60000 pixels in a few hundred bytes: none of it is allocated."""
    pictures = [Image.fromarray(image) for image in clips.scene(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    content = bytearray((tmp_path / "a.gif").read_bytes())
    content[6:10] = (60000).to_bytes(2, "little") * 2
    (tmp_path / "a.gif").write_bytes(content)
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W60000 H60000 F25:1 C420mpeg2\nFRAME\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=name):
        decoding.File(tmp_path / name, Reading())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_sound_alone_is_no_video(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        clips._sing(container, container.add_stream("aac", rate=48000), 1)
    with pytest.raises(DataError, match="no stream of pictures"):
        decoding.File(tmp_path / "a.mp4", Reading())


def test_without_pyav_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "segjax.inference.video.decoding")
    with pytest.raises(ConfigError, match=r"a video needs .*segjax\[video\]"):
        __import__("segjax.inference.video.decoding")
