"""What is done to predictions: against brute force, and scored as it is written."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from segjax.assemble import setup as setup_lib
from segjax.data import core
from segjax.errors import ConfigError
from segjax.evaluators import report
from segjax.inference import crf, postprocess
from segjax.inference.postprocess import State
from segjax.inference.predictor import Measured, Prediction
from segjax.metrics import confusion

NAMES = ("ground", "cell", "dust")
SPACES = ((29,), (12, 17), (5, 8, 7))


def state(space, number=0, *, void=0.0, blur=1.0):
    """Return a random state of three classes, whose classes are the most probable ones."""
    key = np.random.default_rng(number)
    rough = ndimage.gaussian_filter(key.normal(size=(*space, 3)), (blur,) * len(space) + (0,))
    shares = np.exp(4 * rough) / np.exp(4 * rough).sum(-1, keepdims=True)
    decided = shares.argmax(-1).astype(np.uint8)
    decided[key.random(space) < void] = 255
    image = key.integers(0, 255, (*space, 2)).astype(np.uint8)
    return State(image, decided, shares.astype(np.float32))


def steps(*made):
    return postprocess.make_steps(made, NAMES)


def after(before, *made):
    return postprocess.apply(steps(*made), before)


def flood(mask, connectivity):
    """Return the components of a mask as sets of places, by a search from each place."""
    left, found = set(zip(*np.nonzero(mask), strict=True)), []
    around = [
        offset for offset in itertools.product((-1, 0, 1), repeat=mask.ndim)
        if 0 < sum(map(abs, offset)) <= connectivity
    ]  # fmt: skip
    while left:
        part = {min(left)}
        waiting = list(part)
        while waiting:
            here = waiting.pop()
            for offset in around:
                there = tuple(a + b for a, b in zip(here, offset, strict=True))
                if there in left and there not in part:
                    part.add(there)
                    waiting.append(there)
        left -= part
        found.append(part)
    return found


def expected(before, removed):
    """Return the classes where some places have the most probable other class."""
    decided = before.classes.copy()
    for place in removed:
        shares = before.probabilities[place].copy()
        shares[decided[place]] = -1
        decided[place] = shares.argmax()
    return decided


CASES = [
    (space, connectivity, classes)
    for space in SPACES
    for connectivity in (1, 2, 3)
    for classes in ([], ["cell"], ["dust", "ground"])
]


@pytest.mark.parametrize(("space", "connectivity", "classes"), CASES)
def test_small_components_and_all_but_the_largest_take_the_next_class(space, connectivity, classes):
    """In one, two and three dimensions, for some classes or all, with any neighbours."""
    for number, void in ((0, 0), (1, 0.1)):
        before = state(space, number, void=void, blur=0.4 if len(space) < 3 else 0.1)
        small, others = set(), set()
        for name in classes or NAMES:
            parts = flood(before.classes == NAMES.index(name), connectivity)
            small |= {place for part in parts if len(part) < 3 for place in part}
            largest = max(parts, key=len, default=set())
            others |= {place for part in parts if part is not largest for place in part}
        assert (small and others) or (len(space) == 3 and connectivity > 1)  # nearly all touch
        options = {"classes": classes, "connectivity": connectivity}
        found = after(before, {"type": "minimum_area", "pixels": 3, **options})
        np.testing.assert_array_equal(found.classes, expected(before, small))
        found = after(before, {"type": "largest_component", **options})
        np.testing.assert_array_equal(found.classes, expected(before, others))
        assert found.classes.dtype == np.uint8


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("pixels", [0, 3])
def test_holes_are_filled_in_the_order_of_the_classes(space, pixels):
    filled = 0
    for number in range(6):
        before = state(space, number, void=0.05)
        decided = before.classes.copy()
        for name in ("dust", "cell"):
            for part in flood(decided != NAMES.index(name), 1):
                inner = all(0 < x < side - 1 for place in part for x, side in zip(place, space,
                            strict=True))  # fmt: skip
                if inner and (not pixels or len(part) <= pixels):
                    decided[tuple(np.array(list(part)).T)] = NAMES.index(name)
                    filled += len(part)
        decided[before.classes == 255] = 255
        section = {"type": "fill_holes", "classes": ["dust", "cell"], "pixels": pixels}
        np.testing.assert_array_equal(after(before, section).classes, decided)
    assert filled


def test_a_threshold_of_two_classes_is_where_p_lies_above_it():
    before = state((40, 50))
    shares = before.probabilities[..., :2] / before.probabilities[..., :2].sum(-1, keepdims=True)
    before = State(before.image, shares.argmax(-1).astype(np.uint8), shares)
    for value in (0.1, 0.3, 0.5, 0.8):
        (step,) = postprocess.make_steps(
            [{"type": "thresholds", "values": [["cell", value]]}], NAMES[:2]
        )
        np.testing.assert_array_equal(step(before).classes, shares[..., 1] > value)


def test_thresholds_of_several_classes_weigh_the_odds():
    before = state((30, 30))
    found = after(before, {"type": "thresholds", "values": [["cell", 0.2], ["dust", 0.9]]})
    odds = before.probabilities.astype(np.float64) * (1, 4, 1 / 9)
    np.testing.assert_array_equal(found.classes, odds.argmax(-1))
    assert (found.classes == 1).sum() > (before.classes == 1).sum()


def dense(probabilities, image, valid, field, rounds):
    """Return mean field of the fully connected model, every pair of pixels one by one (2011)."""
    places = np.stack(np.indices(valid.shape), -1).reshape(valid.size, -1).astype(float)
    colours = image.reshape(valid.size, -1).astype(float)
    colours /= image.astype(float).std()

    def squared(x):
        return np.square(x[:, None] - x[None]).sum(-1)

    pair = valid.ravel()[:, None] & valid.ravel()[None] & ~np.eye(valid.size, dtype=bool)
    far, unlike, pull = squared(places), squared(colours), 0.0
    for weight, kernel in (
        (field.smooth_weight, np.exp(-far / 2 / field.smooth_std**2)),
        (field.colour_weight,
         np.exp(-far / 2 / field.position_std**2 - unlike / 2 / field.colour_std**2)),
    ):  # fmt: skip
        kernel = np.where(pair, kernel, 0)
        norm = np.where(pair.any(1), 1 / np.sqrt(np.maximum(kernel.sum(1), 1e-300)), 0)
        pull = pull + weight * kernel * norm[:, None] * norm[None]
    start = probabilities.reshape(valid.size, -1).astype(float)
    found = start.copy()
    for _ in range(rounds):
        energy = np.log(start) + pull @ found
        found = np.exp(energy - energy.max(1, keepdims=True))
        found /= found.sum(1, keepdims=True)
    found[~valid.ravel()] = start[~valid.ravel()]
    return found.reshape(probabilities.shape)


@pytest.mark.parametrize("space", [(13,), (7, 9), (3, 5, 4)])
def test_a_field_whose_window_covers_the_image_is_the_dense_one(space):
    before = state(space)
    valid = np.random.default_rng(3).random(space) > 0.15
    field = crf.Field(1.5, 2.0, 4.0, 5.0, 0.7)
    found = crf.mean_field(before.probabilities, before.image, valid, field=field,
                           radius=max(space), dilation=1, iterations=4)  # fmt: skip
    wanted = dense(before.probabilities, before.image, valid, field, 4)
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    assert np.abs(found - before.probabilities).max() > 0.05
    np.testing.assert_array_equal(found[~valid], before.probabilities[~valid])


def test_a_field_draws_edges_where_colours_change():
    """A blurred edge moves to where the picture has it; with no pull nothing changes."""
    image = np.zeros((24, 30, 1), np.uint8)
    image[:, 15:] = 200
    shares = np.clip(np.linspace(-0.1, 0.9, 30), 0.02, 0.98)  # says 0.5 at column 17
    shares = np.broadcast_to(np.stack([1 - shares, shares, shares * 0], -1), (24, 30, 3))
    before = State(image, shares.argmax(-1).astype(np.uint8), shares.astype(np.float32))
    assert (before.classes == (image[..., 0] > 100)).mean() < 0.95
    found = after(before, {"type": "crf"})
    assert (found.classes == (image[..., 0] > 100)).mean() > 0.99
    np.testing.assert_allclose(found.probabilities.sum(-1), 1, atol=1e-5)
    found = after(before, {"type": "crf", "colour_weight": 0, "smooth_weight": 0})
    np.testing.assert_array_equal(found.classes, before.classes)


EVERY = [
    {"type": "crf", "radius": 2}, {"type": "thresholds", "values": [["cell", 0.2]]},
    {"type": "minimum_area", "pixels": 9}, {"type": "largest_component"}, {"type": "fill_holes"},
]  # fmt: skip


@pytest.mark.parametrize("section", EVERY, ids=lambda section: section["type"])
@pytest.mark.parametrize("space", SPACES)
def test_void_stays_void_and_nothing_becomes_void(space, section):
    before = state(space, void=0.3)
    found = after(before, section)
    np.testing.assert_array_equal(found.classes == 255, before.classes == 255)
    assert found.classes.max(where=found.classes < 255, initial=0) < 3
    alone = State(
        before.image[..., :1], np.zeros(space, np.uint8), np.ones((*space, 1), np.float32)
    )
    section = {key: value for key, value in section.items() if key != "values"}
    values = {"values": [["only", 0.3]]} if section["type"] == "thresholds" else {}
    (step,) = postprocess.make_steps([section | values], ["only"])
    np.testing.assert_array_equal(step(alone).classes, 0)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([{"type": "largest_component", "classes": ["cel"]}], "no class 'cel'. Did you"),
        ([{"type": "thresholds", "values": [["dirt", 0.3]]}], r"\[0\]: no class 'dirt'"),
        ([{"type": "thresholds", "values": [["cell", 1.5]]}], r"values\[0\]\[1\]=1.5: expected"),
        ([{"type": "minimum_area"}], "needs pixels"),
        ([{"type": "fill_holes", "conectivity": 2}], "Did you mean 'connectivity'"),
        ([{"type": "fill_holes", "connectivity": 4}], "connectivity=4"),
        ([{"type": "largest"}], "no 'largest'. Did you mean 'largest_component'"),
        ([{"type": "wrap"}], "of another kind"), ([{"type": "apply"}], "of another kind"),
        ([{"type": "fill_holes"}, {"type": "crf"}], r"\[1\].type='crf': .* undo 'fill_holes"),
        ([{"type": "thresholds", "values": []}, {"type": "crf"}], "undo 'thresholds'"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_step_is_refused_in_one_line(made, said):
    with pytest.raises(ConfigError, match=said) as error:
        steps(*made)
    assert "\n" not in str(error.value)
    assert "config.inference.postprocess[" in str(error.value)


def only(state, *, class_names, name):
    """Return a state of one class: a step from outside."""
    return state._replace(classes=np.full_like(state.classes, class_names.index(name)))


def test_a_step_from_outside_is_one_like_the_others():
    before = state((9, 9), void=0.2)
    found = after(before, {"type": "tests.inference.test_postprocess:only", "name": "dust"})
    np.testing.assert_array_equal(found.classes, np.where(before.classes == 255, 255, 2))
    with pytest.raises(ConfigError, match="needs name"):
        steps({"type": "tests.inference.test_postprocess:only"})


class Noisy:
    """Predicts what `state` makes of an image's first pixel, and measures it with a loss."""

    def __call__(self, image, /):
        found = state(image.shape[:-1], int(image.flat[0]))
        return Prediction(found.classes, lambda: found.probabilities)

    def measure(self, source, /, *, batch_size, threads):
        for start in range(0, len(source), batch_size):
            numbers = range(start, min(start + batch_size, len(source)))
            yield Measured({n: counts(self, source[n]) for n in numbers}, {"loss": float(start)})


def counts(predictor, example):
    classes = predictor(example["image"]).classes
    return confusion.counts_of(classes, example["label"], num_classes=3)


class Images:
    class_names, palette = NAMES, ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    schema = core.semantic_schema(1)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        image = np.full((11 + index, 14, 1), index, np.uint8)
        label = np.roll(state(image.shape[:2], index).classes, 1, 0)
        label[0, :3] = 255
        return {"image": image, "label": label, "name": str(index)}


def test_what_is_scored_is_what_is_predicted():
    """The rule: counts are those of the class maps after all steps; the loss is the network's."""
    plain, made = Noisy(), steps(*EVERY[2:])
    predictor = postprocess.wrap(plain, made)
    measured = list(predictor.measure(Images(), batch_size=2, threads=1))
    assert [found.loss for found in measured] == [{"loss": 0.0}, {"loss": 2.0}, {"loss": 4.0}]
    total = functools.reduce(dict.__or__, (found.counts for found in measured))
    changed = 0
    for number in range(5):
        example = Images()[number]
        np.testing.assert_array_equal(total[number], counts(predictor, example))
        changed += (counts(plain, example) != total[number]).any()
    assert changed == 5
    image = Images()[3]["image"]
    for shares in (False, True):
        ((region, tile),) = predictor.tiles(image, probabilities=shares)
        found = predictor(image)
        expected = found.probabilities() if shares else found.classes
        np.testing.assert_array_equal(tile, expected[region])
        assert tile.shape == expected.shape
    assert postprocess.wrap(plain, ()) is plain


def test_the_steps_of_a_config_reach_scores_and_predictions(tiny_config):
    """The rule: the matrix of an evaluation is that of the label maps that prediction writes."""
    section = {"type": "minimum_area", "pixels": 30}
    matrices = []
    for made in ([section], []):
        config = tiny_config(inference__postprocess=made)
        setup, _ = setup_lib.make_setup(config)
        (evaluator,) = setup_lib.make_evaluators(setup.config, setup.parts, setup.clock)
        init = jax.jit(functools.partial(setup.parts.model.init, train=False))
        image = jnp.zeros((1, *setup.parts.canvas.size, 3), jnp.float32)
        variables = init(jax.random.key(0), image)
        predictor, about = setup.parts.predictor(variables), setup.parts.about_scores(0)
        found = report.run(evaluator, predictor, step=0, shown=False, draw=False, about=about)
        assert found.result["inference"]["postprocess"] == made
        assert found.result["loss"] > 0
        source, k = evaluator.source, len(evaluator.source.class_names)
        total = sum(
            confusion.counts_of(predictor(source[i]["image"]).classes, source[i]["label"],
                                num_classes=k)
            for i in range(len(source))
        )  # fmt: skip
        matrices.append(found.result["confusion_matrix"])
        np.testing.assert_array_equal(matrices[-1], total)
    assert matrices[0] != matrices[1]
    with pytest.raises(ConfigError, match=r"config.inference.postprocess\[0\].*no 'fly'"):
        setup_lib.make_setup(tiny_config(inference__postprocess=[{"type": "fly"}]))
