"""Pages need nothing but themselves, and show names of files as they are."""

import base64
import io
import re

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from segjax.errors import DataError
from segjax.views import figures
from segjax.views.page import pages, plots

TEMPLATE = """{% extends "base.html" %}{% import "pieces.html" as pieces %}
{% block title %}{{ name }}{% endblock %}
{% block body %}{{ pieces.table(["class", "IoU"], rows) }}
{{ pieces.pictures(shown, name) }}{% endblock %}
"""
NAME = "a<b>\"'&\udc80"
PALETTE = [(0, 0, 0), (200, 30, 30), (0, 0, 1)]


def decoded(data):
    return Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))


def test_a_page_escapes_what_it_shows(tmp_path):
    (tmp_path / "own.html").write_text(TEMPLATE)
    values = {"rows": [[NAME, 0.25], ["b", None]], "shown": [(NAME, "data:,")]}
    size = pages.write(tmp_path / "page.html", tmp_path / "own.html", name=NAME, **values)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert size == len(text.encode())
    assert "<b>" not in text and text.count("a&lt;b&gt;&#34;&#39;&amp;\\udc80") >= 4
    assert '<td data-value="0.25">0.250</td>' in text and '<td class="none"' in text
    assert "default-src 'none'" in text and "http://" not in text and "https://" not in text
    with pytest.raises(UndefinedError):
        pages.render(tmp_path / "own.html", name=NAME)


def test_a_label_map_has_the_colours_of_its_classes():
    label = np.random.default_rng(0).integers(0, 3, (30, 40)).astype(np.uint8)
    label[0] = 255
    shown = np.asarray(
        decoded(pages.label_map(label, PALETTE, side=40, void=(9, 9, 9))).convert("RGB")
    )
    table = np.array([*PALETTE, (9, 9, 9)])
    assert np.array_equal(shown, table[np.where(label == 255, 3, label)])
    small = decoded(pages.label_map(label, PALETTE, side=20)).convert("RGB")
    assert small.size == (20, 15)
    assert {colour for _, colour in small.getcolors()} <= {*PALETTE, (115, 115, 115)}
    with pytest.raises(DataError, match="got class 3"):
        pages.label_map(np.full((2, 2), 3), PALETTE, side=4)


def test_a_picture_is_no_larger_than_asked():
    picture = decoded(pages.picture(np.zeros((300, 200, 3), np.uint8), side=100))
    assert picture.size == (67, 100) and picture.format == "WEBP"


def test_plots_have_the_pages_colours_and_their_own_names():
    def draw(figure):
        ax = figure.subplots()
        ax.plot([0, 1], color=figures.BLUE, marker="o", label="<b> $x$ #2f6db5")
        ax.legend()

    one, other = (plots.svg(draw, title=title) for title in ("one", "other"))
    assert one.startswith("<svg") and "<metadata" not in one and "var(--accent)" in one
    assert "&lt;b&gt; $x$ #2f6db5" in one
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in (one, other)]
    assert ids[0] and not ids[0] & ids[1]
    assert plots.svg(draw, title="one") == one
