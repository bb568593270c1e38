"""The audit's page in a real browser: reject, note, save, and train without what was rejected."""

import json

import numpy as np
import pytest
from PIL import Image

from segjax.data import synthetic
from tests import program

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Scenes of which two are the same, one with a hostile name, and one has a wrong value."""
    root = tmp_path_factory.mktemp("reviewed")
    names = {"train": ["a", "b", "twin", "c'<img src=x>", "wrong"], "val": ["d", "e"]}
    for split, stems in names.items():
        source = synthetic.Source(split=split, num_examples=8, size=(64, 96))
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for number, stem in enumerate(stems):
            example = source[0 if stem == "twin" else number]
            label = example["label"].copy()
            label[:4, :4] = 77 if stem == "wrong" else label[:4, :4]
            Image.fromarray(example["image"]).save(root / split / "images" / f"{stem}.png")
            Image.fromarray(label.astype(np.uint8)).save(root / split / "labels" / f"{stem}.png")
    meta = {"class_names": list(source.class_names), "ignore_index": 255}
    (root / "meta.json").write_text(json.dumps(meta))
    return root


def test_reject_save_and_train_without_it(browser, root, tmp_path):
    config = ["--config=tests/folder_config.py", f"--config.input.source.root={root}"]
    out = tmp_path / "audit"
    code, text = program.run("--mode=audit", *config, f"--output={out}")
    assert code == 0, text
    browser.get((out / "audit.html").as_uri())
    findings = browser.find_elements("css selector", ".card[data-id]:not([data-id=''])")
    kinds = [card.find_element("css selector", "strong").text for card in findings]
    assert kinds[:2] == ["illegal_value", "exact_duplicate"]
    broken = "return [...document.images].filter(x => x.src && !x.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    findings[0].find_element("css selector", "[data-do=reject]").click()
    browser.execute_script("arguments[0].focus()", findings[1])
    browser.switch_to.active_element.send_keys("r")
    findings[1].find_element("css selector", "input.note").send_keys("the same scene")
    assert browser.find_element("id", "state").text.startswith("0 accepted, 2 rejected")
    review = browser.execute_script("return review()")
    assert [name.rsplit("/", 1)[1] for name in review["rejected"]] == ["twin.png", "wrong.png"]
    assert review["notes"][0]["note"] == "the same scene"
    assert not [each for each in browser.get_log("browser") if each["level"] == "SEVERE"]
    browser.set_window_size(390, 800)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= browser.execute_script("return window.innerWidth")

    path = tmp_path / "review.json"
    path.write_text(json.dumps(review))
    changes = [
        "input.size=(64, 96)",
        "input.batch_size=2",
        "evals.val.batch_size=2",
        "total_steps=2",
    ]
    code, text = program.run(
        *config, f"--workdir={tmp_path / 'run'}", f"--config.input.source.review={path}",
        *(f"--config.{change}" for change in changes),
    )  # fmt: skip
    assert code == 0, text
    assert "train: 2 of 5 examples left out, rejected in" in text
