"""Draw the drift of a stream as one HTML page that needs nothing else."""

import html
import pathlib
from collections.abc import Sequence

import numpy as np

from segjax.runtime import files
from segjax.watch.drift import Limits
from segjax.watch.reference import Reference
from segjax.watch.stream import Watched

WIDTH, HEIGHT = 620, 90
STYLE = """body{font:15px system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right}
td:first-child,th:first-child{text-align:left}.bad{color:#d62728;font-weight:bold}
svg{background:#fafafa;display:block}h3{margin-bottom:.2em}"""


def write(path: pathlib.Path, watched: Watched, reference: Reference) -> None:
    """Write the page of a stream.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    worst = watched.worst()
    alerts = watched.alerts
    lines = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Drift</title>",
        f"<style>{STYLE}</style><h1>Drift</h1><p>{html.escape(watched.describe())}</p>",
        f"<p class='bad'>{len(alerts)} alerts</p>" if alerts else "<p>No alert.</p>",
        "<ul>" + "".join(f"<li>{html.escape(alert.message)}" for alert in alerts) + "</ul>",
        "<h2>The farthest window of each statistic</h2>",
        "<table><tr><th>statistic<th>PSI<th>limit<th>KS<th>limit<th>median<th>in training",
    ]
    for shift in worst:
        bad = " class='bad'" if shift.passes else ""
        numbers = (
            shift.psi, shift.limits.psi, shift.ks, shift.limits.ks, shift.median, shift.known,
        )  # fmt: skip
        cells = "".join(f"<td>{number:.4g}" for number in numbers)
        lines.append(f"<tr{bad}><td>{html.escape(shift.statistic)}{cells}")
    lines.append(
        "</table><h2>Image by image</h2><p>Blue: the stream. Grey: the range of the training; the "
        "line is its median.</p>"
    )
    for shift in worst:
        values = [row.get(shift.statistic, np.nan) for row in watched.rows]
        lines += [f"<h3>{html.escape(shift.statistic)}</h3>", _curve(values, shift.limits)]
    with files.replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _curve(values: Sequence[float], limits: Limits) -> str:
    """Return values as SVG, on the range of the reference."""
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    low = min(limits.sample[0], *finite) if len(finite) else limits.sample[0]
    high = max(limits.sample[-1], *finite) if len(finite) else limits.sample[-1]
    scale = (HEIGHT - 10) / max(high - low, 1e-12)

    def height(value: float) -> float:
        return round(HEIGHT - 5 - (value - low) * scale, 1)

    step = WIDTH / max(1, len(array) - 1)
    points = " ".join(
        f"{round(place * step, 1)},{height(value)}"
        for place, value in enumerate(array)
        if np.isfinite(value)
    )
    top, bottom = height(limits.sample[-1]), height(limits.sample[0])
    middle = height(float(np.median(limits.sample)))
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img'>"
        f"<rect width='{WIDTH}' y='{top}' height='{max(1, bottom - top):.1f}' fill='#ddd'/>"
        f"<line x2='{WIDTH}' y1='{middle}' y2='{middle}' stroke='#999'/>"
        f"<polyline points='{points}' fill='none' stroke='#1f77b4'/></svg>"
    )
