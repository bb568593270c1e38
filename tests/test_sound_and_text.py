"""Sound and text go through the program as pictures do: trained, scored, predicted, read again."""

import json

import numpy as np
import pytest
from scipy.io import wavfile

from segjax.data import spans, synthetic
from segjax.data.readers import text
from tests import program


def write(root, scene: str) -> None:
    """Write a few procedural examples as WAV or text files, with spans in seconds or characters."""
    for split in ("train", "val"):
        source = synthetic.Source(split=split, dims=1, scene=scene, size=(1500,), num_examples=4)
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for number in range(4):
            example = source[number]
            label = np.where(example["label"] == 255, 0, example["label"])
            step = 1.0
            if scene == "sounds":
                step = 1 / 8000
                wavfile.write(root / f"{split}/images/{number}.wav", 8000, example["image"])
            else:
                content = text.decode(example["image"])
                (root / f"{split}/images/{number}.txt").write_text(content)
            found = spans.find(label, source.class_names, step=step)
            spans.write(root / f"{split}/labels/{number}.csv", found)
    meta = {"class_names": list(source.class_names)}
    (root / "meta.json").write_text(json.dumps(meta))


@pytest.mark.slow
@pytest.mark.parametrize(("scene", "ending"), [("sounds", "wav"), ("texts", "txt")])
def test_a_folder_of_them_is_trained_on_and_predicted(scene, ending, tmp_path):
    write(tmp_path / "data", scene)
    config = f"--config=configs/signal.py:scene={scene},root={tmp_path / 'data'},debug"
    code, said = program.run(config, f"--workdir={tmp_path / 'run'}")
    assert code == 0, said
    scores = json.loads((tmp_path / "run/eval/val.json").read_text())
    assert scores["num_examples"] == 4
    code, said = program.run(
        "--mode=predict", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}",
        f"--input={tmp_path / 'data/val/images'}",
    )  # fmt: skip
    assert code == 0 and "4 of 4 images predicted" in said, said
    names = json.loads((tmp_path / "data/meta.json").read_text())["class_names"]
    step = 1 / 8000 if scene == "sounds" else 1.0
    hits = 0
    for number in range(4):
        pair = [
            spans.draw(spans.read(file), 1500, names, step=step, name="x")
            for file in (
                tmp_path / f"out/{number}_label.csv", tmp_path / f"data/val/labels/{number}.csv"
            )
        ]  # fmt: skip
        hits += int((pair[0] == pair[1]).sum())
    assert hits / 6000 == scores["pixel_accuracy"], "what is predicted is what was scored"
