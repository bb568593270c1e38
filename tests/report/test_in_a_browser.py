"""The report in a real browser, from a file: sort a table, enlarge a picture, choose a class."""

import numpy as np
import pytest

from segjax.report import beside, page
from tests.report import subjects

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a page of class maps, and the run it is of."""
    folder = tmp_path_factory.mktemp("browser")
    subject = subjects.subject("classes", folder / "run", wrong=0.1)
    page.write(folder / "page.html", subject, examples=None, pictures=4, tell=lambda done: None)
    return folder / "page.html", subject


def column(browser, number):
    rows = browser.find_elements("css selector", "section.split table.sortable")[0]
    return [
        row.find_elements("css selector", "th,td")[number].get_attribute("data-value")
        for row in rows.find_elements("css selector", "tbody tr")
    ]


def test_sort_enlarge_and_choose(browser, place):
    path, subject = place
    browser.get(path.as_uri())
    script = browser.execute_script
    assert script("return [...document.images].filter(x => !x.src || !x.naturalWidth).length") == 1
    assert script("return document.querySelector('dialog img').src") == ""  # the one without

    ious = [each["iou"] for each in subject.result("val")["per_class"].values()]
    heads = browser.find_elements("css selector", "section.split table.sortable thead button")
    for wanted in (sorted(ious, reverse=True), sorted(ious)):
        heads[1].click()
        assert [float(value) for value in column(browser, 1)] == pytest.approx(wanted)

    picture = browser.find_elements("css selector", ".card button.zoom")[1]
    picture.click()
    viewer = browser.find_element("css selector", "dialog.viewer")
    shown = viewer.find_element("css selector", "img")
    assert viewer.is_displayed()
    assert shown.get_attribute("src") == picture.find_element("css selector", "img").get_attribute(
        "src"
    )
    script("return document.querySelector('dialog img').decode()")
    before = shown.size["width"]
    viewer.find_element("css selector", "[data-by='2']").click()
    assert shown.size["width"] == pytest.approx(2 * before, abs=1)
    browser.switch_to.active_element.send_keys("\ue014")  # the right arrow: the prediction
    assert "prediction" in shown.get_attribute("alt")
    viewer.find_element("css selector", "[data-close]").click()
    assert not viewer.is_displayed()

    choice = browser.find_element("css selector", "select.switch")
    choice.find_elements("css selector", "option")[3].click()  # 'rare'
    texts = [each.text for each in browser.find_elements("css selector", ".card .score")]
    scores = [float(text.rpartition(" ")[2]) for text in texts]
    assert len(scores) == 4 and scores == sorted(scores) and scores[0] < scores[-1]
    assert browser.find_element("css selector", ".key").is_displayed()
    counts = script(COUNTS)
    every = []
    for number in range(4):
        example = subject.evaluators[0].source[number]
        pred = subject.predictor(example["image"]).classes
        there, said = example["label"] == 2, (pred == 2) & (example["label"] != 255)
        parts = there & said, there & ~said, ~there & said
        every.append([16 * int(np.sum(part)) for part in parts])  # enlarged fourfold
    assert counts in every
    choice.find_elements("css selector", "option")[0].click()
    assert not browser.find_element("css selector", ".key").is_displayed()
    assert not [each for each in browser.get_log("browser") if each["level"] == "SEVERE"]
    browser.set_window_size(390, 800)
    assert script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_runs_beside_each_other_have_no_fault(browser, tmp_path):
    runs = [
        subjects.subject("classes", tmp_path / name, wrong=wrong, name=name)
        for name, wrong in (("one", 0.02), ("two", 0.1))
    ]
    found = tmp_path / "page.html"
    beside.write(found, runs, examples=2, pictures=2, tell=lambda done: None)
    browser.get(found.as_uri())
    browser.find_elements("css selector", "table.sortable thead button")[1].click()
    browser.find_elements("css selector", "button.zoom")[2].click()
    assert browser.find_element("css selector", "dialog.viewer").is_displayed()
    assert not [each for each in browser.get_log("browser") if each["level"] == "SEVERE"]


COUNTS = """
const image = document.querySelector(".card figure[data-what=error] img");
return image.decode().then(() => {
  const [, , found] = pixels(image), counts = [0, 0, 0];
  const shades = [SHADES.found, SHADES.missed, SHADES.wrong];
  for (let at = 0; at < found.data.length; at += 4) {
    const is = shade => shade.every((value, channel) => found.data[at + channel] === value);
    const place = shades.findIndex(is);
    if (place >= 0) counts[place] += 1;
  }
  return counts;
});
"""
