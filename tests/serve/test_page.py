"""The page in a real browser: drop an image, paint, send, and find it in the set."""

import time

import numpy as np
import pytest

from segjax.feedback.store import Store
from tests import program
from tests.serve.served import picture, pixels_of, process

pytestmark = pytest.mark.slow

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const files = new DataTransfer();
files.items.add(new File([bytes], arguments[1], {type: "image/png"}));
document.getElementById("drop").dispatchEvent(
  new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    run = root / "run"
    code, text = program.run("--config=configs/quickstart.py:debug", f"--workdir={run}")
    assert code == 0, text
    flags = (f"--workdir={run}", f"--feedback={root / 'feedback'}")
    with process(*flags, SEGJAX_API_KEY="sesame") as (_, url, _):
        yield url, root / "feedback"


def until(condition, *, what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(what)


def by(browser, name):
    return browser.find_element("id", name)


def status(browser):
    return by(browser, "status").text


def select(browser, name, value):
    browser.find_element("css selector", f"[name={name}][value='{value}']").click()


def drag(browser, kind, start, end):
    """Draw a line on the picture with a pen, a finger or a mouse, in pixels of the image."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    stage = by(browser, "stage")
    box, width, height = stage.rect, 50, 40

    def at(point):
        shape = (("width", width, point[0]), ("height", height, point[1]))
        return [round(box[side] / n * (p + 0.5) - box[side] / 2) for side, n, p in shape]

    chain = ActionChains(browser, devices=[PointerInput(kind, f"a {kind}")])
    pointer = chain.w3c_actions.pointer_action
    pointer.move_to(stage, *at(start))
    pointer.pointer_down()
    pointer.move_to(stage, *at(end))
    pointer.pointer_up()
    chain.perform()


def label(browser):
    found = browser.execute_script("return Array.from(now.label)")
    return np.array(found, np.uint8).reshape(40, 50)


def test_an_image_is_dropped_painted_and_sent(browser, served):
    import base64

    url, folder = served
    content = picture(40, 50)
    browser.get(url)
    until(lambda: "API key" in status(browser), what="the key is asked for")
    by(browser, "key").send_keys("sesame")
    by(browser, "login").submit()
    until(lambda: status(browser) == "Ready.", what="the key is taken")
    browser.execute_script(DROP, base64.b64encode(content).decode(), "a.png")
    until(lambda: "50 × 40" in status(browser), what=status(browser))
    before = label(browser)
    store = Store.open(folder)

    rows = browser.find_elements("css selector", "#classes li")
    assert len(rows) == 9 and "background" in rows[0].text and "not judged" in rows[-1].text
    for number, row in enumerate(rows[:-1]):
        assert f"{100 * (before == number).mean():.1f} %" in row.text
    assert 0 < float(by(browser, "mean").text) <= 1
    assert not by(browser, "unsure").is_displayed()
    by(browser, "uncertainty").click()
    assert by(browser, "unsure").is_displayed()
    browser.execute_script("opacity.value = 20; opacity.dispatchEvent(new Event('input'))")
    assert by(browser, "mask").value_of_css_property("opacity") == "0.2"

    by(browser, "send").click()
    until(lambda: "Nothing to send" in status(browser), what="nothing was changed")
    browser.execute_script("size.value = 6")
    select(browser, "class", 3)
    select(browser, "tool", "brush")
    drag(browser, "pen", (10, 10), (30, 10))
    painted = label(browser)
    assert (painted[9:12, 10:30] == 3).all() and (painted[20:] == before[20:]).all()
    changed = painted != before
    assert changed[:, :5].sum() == 0 and painted.shape == before.shape

    select(browser, "tool", "eraser")
    drag(browser, "touch", (30, 10), (31, 10))
    erased = label(browser)
    gone = (painted == 3) & (erased != 3)
    assert gone[10, 29] and (erased[gone & (before != 3)] == before[gone & (before != 3)]).all()
    assert (erased[gone & (before == 3)] == 255).all()
    by(browser, "undo").click()
    np.testing.assert_array_equal(label(browser), painted)
    select(browser, "class", 255)
    select(browser, "tool", "brush")
    drag(browser, "mouse", (25, 30), (25, 30))
    sent = label(browser)
    assert sent[30, 25] == 255

    by(browser, "flagged").click()
    by(browser, "note").send_keys("a wire, ünter <b>")
    by(browser, "send").click()
    until(lambda: "Kept as" in by(browser, "sent").text, what=status(browser))
    (row,) = store.rows()
    assert row.id in by(browser, "sent").text and row.flagged and row.note == "a wire, ünter <b>"
    assert store.image_of(row.id, row.suffix).read_bytes() == content
    np.testing.assert_array_equal(pixels_of(store.label_of(row.id).read_bytes()), sent)
    np.testing.assert_array_equal(pixels_of(store.prediction_of(row.id).read_bytes()), before)

    by(browser, "another").click()
    assert by(browser, "drop").is_displayed()
    browser.execute_script(DROP, base64.b64encode(b"no image").decode(), "b.png")
    until(lambda: "no format" in status(browser), what=status(browser))
    severe = [x["message"] for x in browser.get_log("browser") if x["level"] == "SEVERE"]
    assert all("status of 4" in each for each in severe), severe  # those that were asked for
