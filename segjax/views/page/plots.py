"""Draw plots into pages as vectors, in the colours of the page, light or dark."""

import hashlib
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from segjax.views import figures

VARIABLES = {
    figures.INK: "var(--ink)",
    figures.GREY: "var(--grey)",
    figures.FAINT: "var(--line)",
    figures.BLUE: "var(--accent)",
    figures.ORANGE: "var(--warm)",
}
"""Colours of the figures that are the page's own, by what they are called there."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searched, in the page's font
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}


def svg(
    draw: Callable[[Figure], None], *, title: str, width: float = 5.6, height: float = 3.6
) -> Markup:
    """Return what `draw` draws into an empty figure as an `svg` element.

    Args:
        draw: Draws; colours of `VARIABLES` follow the page.
        title: What a screen reader says of it; no two plots of a page have the same.
        width: In inches, of 96 pixels.
        height: In inches.
    """
    salt = hashlib.sha256(title.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    style: dict[Any, Any] = figures.STYLE | STYLE | {"svg.hashsalt": salt}
    with mpl.rc_context(style):
        figure = Figure((width, height), dpi=72)
        figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
        draw(figure)
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'style="[^"]*"', _of_page, text)
    text = re.sub(r' id="[\w.]+_\d+"', "", text)  # groups, which other plots name alike
    label = Markup(' role="img" aria-label="{}" ').format(title)
    return Markup(text.replace("<svg ", f"<svg{label}", 1))


def _of_page(style: re.Match[str]) -> str:
    """Return a style with the page's colours and fonts."""
    shades = re.sub(r"#[0-9a-f]{6}\b", lambda found: VARIABLES.get(found[0], found[0]), style[0])
    return shades.replace("'DejaVu Sans'", "'DejaVu Sans', system-ui, sans-serif")
