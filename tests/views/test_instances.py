"""Objects in pictures: outlined, numbered, beside the truth; segments; bars and curves."""

import numpy as np
import pytest
from PIL import Image

from segjax.views import colour, figures, instances, object_figures, outlines, segments
from tests.metrics import object_scenes
from tests.views.png import near, read_png


def scene(size, count=4, seed=0):
    random = np.random.default_rng(seed)
    masks = [
        object_scenes.disk(size, random.uniform(0, size), [max(3, s / 5) for s in size])
        for _ in range(count)
    ]
    regions = [tuple(mask) for mask in object_scenes.objects_of(masks, [0] * count).masks]
    image = random.integers(0, 120, (*size, 3)).astype(np.uint8)
    return image, regions


def row(size, **given):
    image, regions = scene(size)
    made = instances.Row("best", "f" * 40, image, regions, [False] * 3 + [True], regions[1:3],
                         [(1, 0)], [], "AP 0.50")  # fmt: skip
    return made._replace(**given)


@pytest.mark.parametrize("size", [(300, 90), (12, 30, 40), (200,)], ids=str)
def test_examples_of_any_dimension_show_what_is_right_wrong_and_missed(tmp_path, size):
    instances.draw(tmp_path / "a.png", [row(size)])
    pixels = read_png(tmp_path / "a.png")
    assert 1600 <= pixels.shape[1] <= 2400
    for shade in (colour.WRONG, instances.MISSED, instances.CROWD):
        assert near(pixels, [c / 255 for c in shade]) > 100, shade


@pytest.mark.parametrize("found", [[], None], ids=["nothing found", "no example"])
def test_examples_of_nothing(tmp_path, found):
    rows = [] if found is None else [row((40, 50), truth=[], crowd=[], found=found, pairs=[])]
    instances.draw(tmp_path / "a.png", rows)
    read_png(tmp_path / "a.png")


def test_neighbours_have_different_colours():
    """Seven squares around one: while there are colours left, no two that touch share one."""
    grid = [((4 * y, 4 * x), np.ones((4, 4), bool)) for y in range(12) for x in range(12)]
    shades = np.array(outlines.shades(grid)).reshape(12, 12, 3)
    assert (shades[1:] != shades[:-1]).any(axis=-1).all()
    assert (shades[:, 1:] != shades[:, :-1]).any(axis=-1).all()
    assert outlines.shades([]) == []


def test_the_first_object_is_on_top_and_lines_lie_inside():
    first, second = (((0, 0), np.ones((6, 6), bool)), ((3, 3), np.ones((6, 6), bool)))
    picture = np.zeros((9, 9, 3), np.uint8)
    painted = outlines.paint(picture, [first, second], [(200, 0, 0), (0, 0, 200)], alpha=0.5)
    assert not picture.any()
    assert painted[0, 0].tolist() == painted[5, 5].tolist() == [200, 0, 0]
    assert painted[1, 1].tolist() == [100, 0, 0] and painted[8, 8].tolist() == [0, 0, 200]
    assert not painted[:2, 7].any()
    numbers = outlines.numbers([first, second], (9, 9))
    assert numbers[4, 4] == 1 and numbers[6, 6] == 2 and numbers[0, 8] == 0
    found = dict(outlines.regions(numbers))
    assert found[1][0] == (3, 3) and not found[1][1][0, 0]


@pytest.mark.parametrize("factors", [(1, 1), (0.3, 0.5), (3, 2.5)])
def test_a_scaled_region_lies_where_it_lay(factors):
    """Its first pixel to half a one, its area to its outline; none vanishes."""
    for centre in ((20, 30), (0, 0), (59, 79)):
        mask = object_scenes.disk((60, 80), centre, (14, 9))
        (region,) = [tuple(m) for m in object_scenes.objects_of([mask], [0]).masks]
        corner, inside = outlines.scaled(region, factors)
        np.testing.assert_allclose(corner, np.multiply(region[0], factors), atol=0.51)
        pixels = np.prod(factors) * region[1].sum()
        assert inside.sum() == pytest.approx(pixels, abs=sum(inside.shape))
    tiny = outlines.scaled(((50, 70), np.ones((1, 1), bool)), (0.1, 0.1))
    assert tiny[1].all() and tiny[1].shape == (1, 1)


@pytest.mark.parametrize("size", [(60, 80), (12, 30, 40)], ids=str)
def test_an_overlay_keeps_a_pictures_size_and_says_the_numbers(tmp_path, size):
    image, regions = scene(size)
    for texts in (["", "", "", ""], ["1", "2", "3", "4 cells"]):
        instances.overlay(tmp_path / f"{texts[0]}.png", image, regions, texts)
    plain, written = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("", "1"))
    assert plain.shape == written.shape and (plain != written).any()
    assert plain.shape[:2] == size if len(size) == 2 else min(plain.shape[:2]) >= 512
    assert (plain == np.array(outlines.SHADES[0])).all(axis=-1).any()


@pytest.mark.parametrize("size", [(60, 80), (12, 30, 40), (200,)], ids=str)
def test_segments_have_the_colours_of_their_classes_and_edges(tmp_path, size):
    image, regions = scene(size)
    numbers = outlines.numbers(regions, size)
    classes = np.array([255, 1, 1, 2, 2])[numbers]
    palette = [(0, 0, 0), (20, 120, 200), (200, 120, 20)]
    one = segments.Map(numbers, classes)
    other = segments.Map(np.where(numbers == 4, 0, numbers), np.where(numbers == 4, 255, classes))
    rows = [segments.Row("worst", "a", image, one, other, "PQ 0.75")]
    segments.draw(tmp_path / "a.png", rows, palette=palette, class_names=("a", "b", "c"))
    pixels = read_png(tmp_path / "a.png")
    for shade in (palette[1], palette[2], colour.WRONG):
        assert near(pixels, [c / 255 for c in shade]) > 100, shade
    colours = segments.colourise(one, palette)
    assert len({tuple(c) for c in colours[classes == 1]}) == 2  # two objects of one class
    segments.draw(tmp_path / "b.png", [], palette=palette, class_names=("a", "b", "c"))


def test_edges_lie_between_segments_and_nowhere_else():
    numbers = np.array([[1, 1, 2], [1, 0, 2], [3, 3, 3]])
    assert segments.edges(numbers).tolist() == [
        [False, False, True], [False, False, False], [True, False, True],
    ]  # fmt: skip


@pytest.mark.parametrize("classes", [0, 7, 30])
def test_curves_and_bars_of_any_number_of_classes(tmp_path, classes):
    recalls, ious = np.linspace(0, 1, 101), np.linspace(0.5, 0.95, 10)
    curves = {
        f"a rather long class name {k}": np.outer(np.linspace(1, 0, 10), 1 - recalls ** (k + 1))
        for k in range(classes)
    }
    own = {name: {"AP": each.mean(), "PQ": None} for name, each in curves.items()}
    result = {"num_examples": 5, "step": 100, "AP": 0.4, "PQ": None, "per_class": own}
    object_figures.precision_recall(
        tmp_path / "a.png", curves, recalls=recalls, ious=ious, result=result
    )
    read_png(tmp_path / "a.png")
    if classes:
        for name in ("ap", "pq"):
            (tmp_path / name).mkdir()
            getattr(object_figures, f"class_{name}")(tmp_path / name / "a.png", result)
            pixels = read_png(tmp_path / name / "a.png")
            assert (near(pixels, figures.BLUE) > 0) == (name == "ap")  # no class has a PQ
