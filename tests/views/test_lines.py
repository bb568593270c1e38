"""Signals as lines over the colours of their classes."""

import numpy as np
from matplotlib.figure import Figure

from segjax.views import colour, lines

PALETTE = [(200, 200, 200), (255, 0, 0), (0, 0, 255)]


def test_runs_cover_the_signal_in_order():
    label = np.array([0, 0, 2, 2, 2, 255, 1, 1])
    assert lines.runs(label) == [(0, 2), (2, 5), (5, 6), (6, 8)]
    assert lines.runs(np.zeros(3)) == [(0, 3)]


def test_every_span_has_its_colour_void_is_hatched_and_every_channel_is_a_line():
    label = np.array([0, 0, 2, 2, 2, 255, 1, 1])
    signal = np.random.default_rng(0).normal(size=(8, 3))
    ax = Figure().subplots()
    lines.draw_signal(ax, signal, label, PALETTE, ink="black")
    shades = [tuple(round(255 * c) for c in span.get_facecolor()[:3]) for span in ax.patches]
    assert shades == [PALETTE[0], PALETTE[2], colour.VOID_LIGHT, PALETTE[1]]
    assert [bool(span.get_hatch()) for span in ax.patches] == [False, False, True, False]
    spans = [(span.get_x(), span.get_width()) for span in ax.patches]
    assert spans == [(-0.5, 2), (1.5, 3), (4.5, 1), (5.5, 2)]
    drawn = [line.get_ydata() for line in ax.lines]
    np.testing.assert_array_equal(drawn[::-1], signal.T)


def test_strips_stand_below_each_other_with_their_names():
    ax = Figure().subplots()
    picture = np.repeat(np.arange(2, dtype=np.uint8), 20 * 3).reshape(2, 20, 3)
    lines.draw_strips(ax, ["truth", "error"], picture, samples=5)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["truth", "error"]
    np.testing.assert_array_equal(ax.images[0].get_array()[:, 0, 0], [0, 1])
    assert ax.images[0].get_extent() == [-0.5, 4.5, 1.5, -0.5]
