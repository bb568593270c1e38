"""Videos predicted and written: as many frames as there were, at their times, whatever they are."""

import csv
import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from segjax.data.decode import Reading
from segjax.errors import ConfigError, UserError
from segjax.inference import paths
from segjax.inference.predictor import FunctionPredictor, Prediction
from segjax.inference.video import frames, kinds, plan, predict
from segjax.structs import Classes
from tests import clips

CLASSES = Classes(("ground", "square"), ((0, 0, 0), (255, 0, 0)), 3)
ODD = (25, 33)


def decide(image):
    return (image[..., 0] > 100).astype(np.uint8)


def work(**changes):
    given = {
        "predictor": lambda: FunctionPredictor(decide, num_classes=2), "classes": CLASSES,
        "reading": Reading(3), "step": 3, "foreground": [1],
    }  # fmt: skip
    return predict.Work(**given | changes)


def run(tmp_path, source, **changes):
    output = tmp_path / "out"
    inputs = paths.list_inputs(str(source), output=output, as_frames=bool(changes.get("rate")))
    return predict.predict(inputs, output, work(**changes))


def labels(folder):
    return np.array([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])


ALL = ("label", "overlay", "alpha", "alpha:mov", "alpha:png", "label:video", "areas:csv",
       "confidence", "contours:geojson")  # fmt: skip


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Return a folder with a video of odd sides, uneven times and sound, and all of its outputs."""
    tmp_path = tmp_path_factory.mktemp("video")
    scene, times = clips.scene(9, ODD), [0, 40, 80, 200, 240, 280, 290, 320, 360]
    clips.write(tmp_path / "a.mov", scene, times=times, base=Fraction(1, 1000), sound="aac")
    counts = run(tmp_path, tmp_path / "a.mov", outputs=ALL)
    assert counts == (1, 1, 0, 0, 9)
    return tmp_path, scene, [Fraction(time, 1000) for time in times]


def test_a_mask_is_written_of_every_frame(everything):
    tmp_path, scene, _ = everything
    found = labels(tmp_path / "out/a_label")
    np.testing.assert_array_equal(found, [decide(image) for image in scene])
    names = sorted(file.name for file in (tmp_path / "out/a_label").iterdir())
    assert names == [f"{number:06d}.png" for number in range(9)]
    stored, _ = clips.read(tmp_path / "out/a_label.mkv")
    np.testing.assert_array_equal(stored, found)


def test_every_video_has_the_frames_and_times_of_the_first(everything):
    tmp_path, _, times = everything
    for name in ("a_overlay.mp4", "a_alpha.webm", "a_alpha.mov", "a_label.mkv"):
        assert clips.times(tmp_path / "out" / name) == times, name


def test_sides_that_must_be_even_have_the_last_pixels_twice(everything):
    tmp_path, scene, _ = everything
    with av.open(str(tmp_path / "out/a_overlay.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.height, frame.width) == (26, 34) and frame.format.name == "yuv420p"
        shown = frame.to_ndarray(format="rgb24").astype(int)
    bright = np.array([int(value) // 2 for value in (220, 200, 180)]) + [127, 0, 0]
    np.testing.assert_allclose(shown[9:12, 5:8], np.broadcast_to(bright, (3, 3, 3)), atol=25)
    np.testing.assert_allclose(shown[25], shown[24], atol=6)


def test_sound_is_copied_as_it_is_stored_or_named(everything, tmp_path, capsys):
    folder, scene, _ = everything
    assert clips.sounds(folder / "out/a_overlay.mp4") == clips.sounds(folder / "a.mov")
    clips.write(tmp_path / "a.mov", scene, sound="aac")
    run(tmp_path, tmp_path / "a.mov", outputs=["alpha"])
    assert "no sound of the kind aac: webm cannot hold it" in capsys.readouterr().err
    run(tmp_path, tmp_path / "a.mov", outputs=["overlay"], rate=Fraction(5))
    assert "sound, which is left out: --fps changes its times" in capsys.readouterr().err
    with av.open(str(tmp_path / "out/a_overlay.mp4")) as container:
        assert not container.streams.audio


@pytest.mark.parametrize(("output", "decoder"), [("alpha", "libvpx-vp9"), ("alpha:mov", "prores")])
def test_the_foreground_is_cut_out(tmp_path, output, decoder):
    """Decoded by name: FFmpeg's own decoder of VP9 leaves opacity out."""
    scene = clips.scene(5).repeat(6, axis=1).repeat(6, axis=2)
    clips.write(tmp_path / "a.mov", scene)
    run(tmp_path, tmp_path / "a.mov", outputs=[output])
    with av.open(str(tmp_path / "out" / ("a" + kinds.TAILS[output]))) as container:
        context = av.CodecContext.create(decoder, "r")
        context.extradata = container.streams.video[0].codec_context.extradata
        found = [
            frame.to_ndarray(format="rgba")
            for packet in container.demux(video=0)
            for frame in context.decode(packet if packet.size else None)
        ]
    assert len(found) == 5
    for image, shown in zip(scene, found, strict=True):
        inside = decide(image) > 0
        opacity = shown[..., 3].astype(int)
        assert (np.abs(opacity - 255 * inside) > 60).mean() < 0.01  # it is compressed
        assert np.abs(shown[inside][:, :3].astype(int) - image[inside]).mean() < 20


def test_a_cut_out_picture_holds_nothing_of_the_rest(everything):
    tmp_path, scene, _ = everything
    for image, file in zip(scene, sorted((tmp_path / "out/a_alpha").iterdir()), strict=True):
        shown, inside = np.asarray(Image.open(file)), decide(image)[..., None]
        np.testing.assert_array_equal(shown, np.concatenate([image * inside, inside * 255], -1))


def test_numbers_are_of_all_frames(everything):
    tmp_path, scene, times = everything
    facts = json.loads((tmp_path / "out/a.json").read_text())
    area = sum(int(decide(image).sum()) for image in scene)
    assert facts["classes"]["square"]["pixels"] == area and facts["frames"] == 9
    assert sum(each["share"] for each in facts["classes"].values()) == pytest.approx(1)
    assert facts["size"] == [*ODD] and facts["step"] == 3
    listed = {name.rstrip("/") for name in facts["outputs"]} | {"a.json"}
    assert listed == {path.name for path in (tmp_path / "out").iterdir()}
    lines = list(csv.DictReader((tmp_path / "out/a_areas.csv").open(newline="")))
    assert sum(int(line["pixels"]) for line in lines if line["class"] == "square") == area
    assert [float(line["seconds"]) for line in lines[::2]] == pytest.approx([*map(float, times)])


@pytest.mark.parametrize("batch", [1, 4, 20])
def test_masks_do_not_depend_on_the_batch(tmp_path, batch):
    scene = clips.scene(7)
    clips.write(tmp_path / "a.mov", scene)
    run(tmp_path, tmp_path / "a.mov", outputs=["label"], batch=batch)
    np.testing.assert_array_equal(labels(tmp_path / "out/a_label"), [decide(i) for i in scene])


def test_a_vote_smooths_what_is_written(tmp_path):
    class Nervous:
        """Wrong in a corner of every fourth frame."""

        def __init__(self):
            self.count = 0

        def __call__(self, image, /):
            found, self.count = decide(image), self.count + 1
            found[20:, :4] = self.count % 4 == 0
            return Prediction(found, lambda: np.eye(2, dtype=np.float32)[found])

    scene = clips.scene(9)
    clips.write(tmp_path / "a.mov", scene)
    for smooth, expected in ((1, 2), (3, 0)):
        run(tmp_path, tmp_path / "a.mov", outputs=["label"], smooth=smooth, predictor=Nervous)
        corners = labels(tmp_path / "out/a_label")[:, 20:, :4]
        assert np.count_nonzero(corners.any((1, 2))) == expected


def test_classes_that_overlap_have_a_folder_of_masks_for_each_frame(tmp_path):
    scene = clips.scene(3)
    clips.write(tmp_path / "a.mov", scene)

    def both(image):
        return np.stack([decide(image), decide(image) * 0 + 1], axis=-1)

    run(tmp_path, tmp_path / "a.mov", outputs=["label", "overlay", "alpha:png"], multilabel=True,
        smooth=3, predictor=lambda: FunctionPredictor(both, num_classes=2))  # fmt: skip
    masks = sorted((tmp_path / "out/a_label/000001").iterdir())
    assert [mask.name for mask in masks] == ["000_ground.png", "001_square.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(masks[0])), decide(scene[1]))
    assert len(clips.read(tmp_path / "out/a_overlay.mp4")[0]) == 3
    inputs = paths.list_inputs(str(tmp_path), output=tmp_path / "else")
    assert inputs.files == (tmp_path / "a.mov",), "outputs are no inputs"


def test_pictures_of_a_folder_are_frames_in_natural_order(tmp_path):
    scene = clips.scene(12)
    (tmp_path / "in/walk").mkdir(parents=True)
    for number, image in enumerate(scene):
        Image.fromarray(image).save(tmp_path / f"in/walk/frame{number}.png")
    counts = run(tmp_path, tmp_path / "in", rate=Fraction(30000, 1001))
    assert counts.frames == 12
    np.testing.assert_array_equal(
        labels(tmp_path / "out/walk_label"), [decide(image) for image in scene]
    )
    assert clips.times(tmp_path / "out/walk_overlay.mp4") == [
        number * Fraction(1001, 30000) for number in range(12)
    ]
    Image.fromarray(scene[0][:10]).save(tmp_path / "in/walk/frame5.png")
    before = (tmp_path / "out/walk_overlay.mp4").read_bytes()
    counts = run(tmp_path, tmp_path / "in", rate=Fraction(25))
    assert counts.skipped == 1 and (tmp_path / "out/walk_overlay.mp4").read_bytes() == before


def test_of_images_and_videos_the_images_are_predicted_and_it_is_said(tmp_path):
    clips.write(tmp_path / "a.mov", clips.scene(2))
    Image.fromarray(clips.scene(1)[0]).save(tmp_path / "a.png")
    both = paths.list_inputs(str(tmp_path))
    assert both.unit == "images" and both.files == (tmp_path / "a.png",)
    assert "1 left out (videos: name them alone, as --input='folder/*.mp4' does)" in both.describe()
    alone = paths.list_inputs(str(tmp_path / "*.mov"))
    assert alone.describe() == "1 videos found, 1 to predict"


def test_a_gif_that_moves_is_a_video_and_one_that_does_not_a_picture(tmp_path):
    pictures = [Image.fromarray(image) for image in clips.scene(3)]
    pictures[0].save(tmp_path / "moves.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "still.gif")
    assert paths.list_inputs(str(tmp_path / "moves.gif")).unit == "videos"
    assert paths.list_inputs(str(tmp_path / "still.gif")).unit == "images"


def test_a_broken_video_is_skipped_and_the_others_are_not(tmp_path, capsys):
    for name in ("a.mov", "c.mov"):
        clips.write(tmp_path / name, clips.scene(3))
    (tmp_path / "b.mp4").write_bytes(b"no video")
    counts = run(tmp_path, tmp_path, outputs=["label"])
    said = capsys.readouterr().err
    assert counts == (3, 2, 0, 1, 6)
    assert "3 videos found, 3 to predict" in said and said.count("skipped: ") == 1
    assert "2 of 3 videos predicted, 0 in part, 1 skipped; 6 frames to" in said
    assert "3 frames in, 3 out" in said and "fps" in said
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_only_an_earlier_prediction_of_the_same_video_is_replaced(tmp_path):
    clips.write(tmp_path / "a.mov", clips.scene(3))
    for _ in range(2):
        run(tmp_path, tmp_path / "a.mov", outputs=["label", "overlay"])
    (tmp_path / "out/a_label/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="would be overwritten: .*a_label"):
        run(tmp_path, tmp_path / "a.mov", outputs=["label"])
    (tmp_path / "out/a_label/mine.txt").unlink()
    (tmp_path / "other").mkdir()
    clips.write(tmp_path / "other/a.mov", clips.scene(3))
    with pytest.raises(UserError, match="would be overwritten: .*a.json"):
        run(tmp_path, tmp_path / "other/a.mov", outputs=["label"])


def test_what_cannot_be_written_ends_it_and_leaves_nothing(tmp_path, monkeypatch):
    clips.write(tmp_path / "a.mov", clips.scene(20))
    count = 0

    def draw(found):
        nonlocal count
        count += 1
        if count == 5:
            raise UserError("the disk is full")
        return found.image

    monkeypatch.setattr(kinds, "picture", draw)
    with pytest.raises(UserError, match="the disk is full"):
        run(tmp_path, tmp_path / "a.mov", outputs=["label", "overlay"])
    assert list((tmp_path / "out").iterdir()) == []


def test_a_dry_run_lists_what_is_then_written_and_writes_nothing(tmp_path):
    clips.write(tmp_path / "a.mov", clips.scene(3))
    (tmp_path / "b.mp4").write_bytes(b"no video")
    outputs = ["label", "overlay", "areas:csv", "label:video"]
    inputs = paths.list_inputs(str(tmp_path), output=tmp_path / "out")
    said = list(plan.lines(inputs, tmp_path / "out", work(outputs=outputs)))
    assert not (tmp_path / "out").exists()
    assert any("32x24 pixels, 25 fps, 3 frames" in line for line in said)
    assert sum(line.startswith("would be skipped: ") for line in said) == 1
    assert said[-1].startswith("1 of 2 videos would be predicted, 1 skipped; 5 files and folders")
    run(tmp_path, tmp_path, outputs=outputs)
    listed = {line.rstrip("/") for line in said if line.startswith(f"{tmp_path}/out/")}
    assert listed == {str(path) for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("names", "about", "words"),
    [
        (["labl"], {}, "no such output. Did you mean"),
        (["objects:csv"], {}, "no such output of videos"),
        (["label:video"], {"multilabel": True}, "one class for every pixel"),
        (["instances"], {}, "the run finds none"),
        (["confidence"], {"finds": "instance"}, "the run finds"),
    ],
)
def test_outputs_that_there_are_not_are_named(names, about, words):
    with pytest.raises(ConfigError, match=words):
        kinds.choose(names, **{"multilabel": False, "finds": ""} | about)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1/0", "inf", "nan", "10001", "1e99999"])
def test_frames_a_second_are_a_number(text):
    with pytest.raises(ConfigError, match="--fps="):
        frames.rate_of(text)


def test_frames_a_second_may_be_a_fraction():
    assert frames.rate_of("30000/1001") == Fraction(30000, 1001)
    assert frames.rate_of("23.976") == Fraction(2997, 125) and frames.rate_of("") is None


def test_videos_of_one_name_have_outputs_of_their_own(tmp_path):
    for name in ("x/a.mov", "y/a.mov", "y/A.MOV"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        clips.write(tmp_path / name, clips.scene(2))
    run(tmp_path, tmp_path, outputs=["label"])
    facts = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert len({each["file"] for each in facts}) == 3
