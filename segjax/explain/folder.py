"""Explain the images of a folder: a PNG and a NumPy file of each map, all numbers, and a page."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as PillowImage

from segjax.baselines import base as baselines
from segjax.config import lookup
from segjax.data import core
from segjax.errors import ConfigError, DataError, UserError
from segjax.explain import draw, methods, network, page, uncertainty
from segjax.explain.methods import ATTRIBUTIONS, UNCERTAINTIES, Asked, Map, Options
from segjax.explain.network import Net
from segjax.explain.seen import Seen, target_of
from segjax.inference import folder as predicting
from segjax.inference import paths, scaling
from segjax.inference.outputs.maps import save_array
from segjax.inference.predictor import Image, Predictor
from segjax.runs import as_trained
from segjax.runs.run import Run
from segjax.runtime import files, reading
from segjax.tasks.base import DenseTask, GroupingTask
from segjax.views import colour
from segjax.views.progress import Progress

RECORD, PAGE = "explain.json", "index.html"
RECORD_BYTES = 1 << 28


class Counts(NamedTuple):
    """What became of the files.

    Attributes:
        explained: Images.
        skipped: Those that could not be.
        written: Files.
    """

    explained: int
    skipped: int
    written: int


def check_methods(names: Sequence[str]) -> list[str]:
    """Return the methods of `--method`, each once.

    Raises:
        ConfigError: One that there is not, or none.
    """
    known = [*ATTRIBUTIONS, *UNCERTAINTIES]
    chosen = list(dict.fromkeys(names))
    for name in chosen or [""]:
        lookup.choose(name, known, what="--method")
    return chosen


def check_run(run: Run, names: Sequence[str]) -> None:
    """Refuse a run that these methods cannot look into.

    Raises:
        ConfigError: It finds objects, or is a classical method; it is an ensemble where one network
            is looked into, or none where members are compared.
    """
    task = run.parts.task
    if not {*names} <= {"tta"}:
        baselines.check_network(run.parts.model)
    if not isinstance(task, DenseTask) or isinstance(task, GroupingTask):
        raise ConfigError(
            f"--mode=explain: explains classes of pixels, and config.task.type="
            f"{run.config['task']['type']!r} finds objects. Use a run of task 'semantic'."
        )
    single = [name for name in names if name != "ensemble"]
    if run.others and single:
        raise ConfigError(
            f"--method={single[0]}: is of one network, and this is an ensemble of "
            f"{1 + len(run.others)}. Name one --workdir, or use --method=ensemble alone."
        )
    if "ensemble" in names and not run.others:
        raise ConfigError(
            "--method=ensemble: compares several networks, and this is one. Name several: "
            "--workdir=runs/a,runs/b."
        )


def explain(
    run: Run,
    inputs: paths.Inputs,
    output: pathlib.Path,
    *,
    chosen: Sequence[str],
    target: str = "",
    options: Options,
) -> Counts:
    """Explain each image by each method, and write maps, numbers and page; nothing of others.

    Args:
        run: Opened.
        inputs: See `paths.list_inputs`.
        output: The folder, made if it is not there.
        chosen: See `check_methods`.
        target: See `seen.target_of`.
        options: Of the methods.

    Raises:
        UserError: As `check_run`; a target, module or output that cannot be.
    """
    check_run(run, chosen)
    names = paths.output_names(inputs.files)
    explainer = Explainer(run, chosen, target, options)
    check_free(output, [file for name in names.values() for file in explainer.files(name)])
    cards: list[page.Card] = []
    skipped = 0
    with Progress(len(names), unit="images", title="explain") as bar:
        bar.message(inputs.describe())
        for number, (file, name) in enumerate(names.items(), start=1):
            try:
                card = explainer.explain(file, output, name)
            except DataError as error:
                bar.message(f"skipped: {error}")
                skipped += 1
            else:
                cards.append(card)
                for line in card.lines():
                    bar.message(line)
            bar.update(number)
        written = [file for card in cards for file in explainer.files(card.name)]
        about = {"run": str(run.path.resolve()), "step": run.step, "methods": list(chosen)}
        images = {card.name: card.facts for card in cards}
        if cards:
            record = {**about, "images": images, "files": [*written, RECORD, PAGE]}
            files.write_json(output / RECORD, record)
            page.write(output / PAGE, cards, about=about)
            written += [RECORD, PAGE]
        found = Counts(len(cards), skipped, len(written))
        bar.message(
            f"{found.explained} of {len(names)} images explained, {found.skipped} skipped; "
            f"{found.written} files written to {output}"
        )
    return found


class Explainer:
    """What explains one image of a run after the other.

    Args:
        run: Opened.
        chosen: Methods.
        target: What is asked of each image.
        options: Of the methods.
    """

    def __init__(self, run: Run, chosen: Sequence[str], target: str, options: Options):
        self.run, self.chosen, self.target, self.options = run, chosen, target, options
        self.reading, _ = as_trained.reading_of(run)
        self.classes = run.parts.classes

    @functools.cached_property
    def net(self) -> Net:
        """The run's network."""
        parts: Any = self.run.parts
        return network.make(parts.model, parts.task, jax.device_get(self.run.variables))

    @functools.cached_property
    def predictor(self) -> Predictor:
        """What predicts the class maps that are explained."""
        return self.run.predictor()

    def files(self, name: str) -> list[str]:
        """Return the names of the files of an image."""
        ends = []
        for method in self.chosen:
            both = ("_entropy", "_mutual_information")
            ends += [method + end for end in (both if method in UNCERTAINTIES else ("", "_random"))]
        return [f"{name}_{end}{kind}" for end in ends for kind in (".png", ".npy")]

    def explain(self, file: pathlib.Path, output: pathlib.Path, name: str) -> page.Card:
        """Explain an image, and write its maps.

        Raises:
            DataError: It cannot be read or seen, or holds nothing of the target.
            UserError: The target or module cannot be, or the disk is full.
        """
        parts: Any = self.run.parts
        own = dataclasses.replace(self.reading, dims=len(parts.layout.canvas.size))
        image, _, _ = predicting.open_scaled(file, parts.layout, own, ())
        pred = self.predictor(image).classes
        inside = [method for method in self.chosen if method in ATTRIBUTIONS]
        target, found = "", {}
        if inside:
            asked = self._asked(image, pred, str(file))
            target = asked.target.text
            for method in inside:
                found |= methods.maps(self.net, asked, method)
        for method in self.chosen:
            if method in UNCERTAINTIES:
                found |= uncertain(method, self._members(method, image))
        pictures = {"prediction": self._prediction(image, pred)}
        paths.make_folder(output)
        for end, one in found.items():
            shown = draw.picture(one.values, np.asarray(image), kind=one.kind)
            colour.save_png(output / f"{name}_{end}.png", PillowImage.fromarray(shown))
            save_array(output / f"{name}_{end}.npy", one.values)
            pictures[end] = shown
        facts: dict[str, Any] = {"file": str(file), "size": list(image.shape[:-1])}
        facts |= {"target": target} if target else {}
        facts["maps"] = {end: dict(one.facts) for end, one in found.items()}
        return page.Card(name, facts, pictures)

    def _asked(self, image: Image, pred: np.ndarray, name: str) -> Asked:
        parts: Any = self.run.parts
        target = target_of(self.target, self.classes.class_names, pred, multilabel=parts.multilabel)
        seen = Seen(scaling.scaled(image, parts.intensity), parts.layout, parts.schema, name=name)
        x, black = (
            parts.normalize(jnp.asarray(each)[None])
            for each in (seen.image, np.zeros_like(seen.image))
        )
        return Asked(seen, x, black, target, seen.on_window(target.region), self.options)

    def _members(self, method: str, image: Image) -> Iterator[np.ndarray]:
        """Yield what each member predicts."""
        if method == "ensemble":
            for one in (dataclasses.replace(self.run, others=()), *self.run.others):
                yield one.predictor()(image).probabilities()
        elif method == "tta":
            for member in uncertainty.flips(self.predictor, image.ndim - 1):
                yield member(image)
        else:
            yield from self._dropping(image)

    def _dropping(self, image: Image) -> Iterator[np.ndarray]:
        found: list[np.ndarray] = []
        for key in uncertainty.keys(self.options.members):
            probabilities = self._dropper({**self.run.variables, "dropout": key})(image)
            found.append(probabilities.probabilities())
            if len(found) == 2:
                uncertainty.check_drops(found)
            yield found[-1]

    @functools.cached_property
    def _dropper(self) -> Callable[[Mapping[str, Any]], Any]:
        """Return what predicts with some variables and a key of what is dropped."""
        parts = self.run.parts
        model = uncertainty.Dropping(parts.model)
        dropping = dataclasses.replace(parts, model=model)
        return lambda variables: dropping.finished(dropping.bare(variables))

    def _prediction(self, image: Image, pred: np.ndarray) -> np.ndarray:
        """Return the image in the colours of its classes."""
        seen, palette = np.asarray(image), self.classes.palette
        busy = (pred.max(axis=-1) if pred.ndim == seen.ndim else pred) > 0
        if pred.ndim == seen.ndim:
            return draw.plain(seen, busy)
        shown = colour.displayable(seen, axes=seen.ndim - 1).astype(np.float64)
        mixed = 0.5 * shown + 0.5 * colour.colourise(pred, palette)
        return draw.flat(np.rint(mixed).astype(np.uint8), busy)


def uncertain(method: str, members: Iterator[np.ndarray]) -> dict[str, Map]:
    """Return the maps of how sure some members are, by the ends of their files' names."""
    found = uncertainty.of_members(members)
    maps: dict[str, tuple[np.ndarray, draw.Kind]] = {
        "entropy": (found.entropy, "share"),
        "mutual_information": (found.mutual, "above"),
    }
    return {
        f"{method}_{name}": Map(values, kind, {"mean": float(values.mean())})
        for name, (values, kind) in maps.items()
    }


def check_free(output: pathlib.Path, names: Sequence[str]) -> None:
    """Refuse to overwrite what no earlier explanation wrote.

    Raises:
        UserError: Such a file is there, or the folder is a file.
    """
    paths.check_folder(output)
    before: Any = {}
    try:
        before = reading.read_json(output / RECORD, limit=RECORD_BYTES)
    except (OSError, DataError):
        pass
    own = set(before.get("files", [])) if isinstance(before, dict) else set()
    foreign = [name for name in (*names, RECORD, PAGE) if (output / name).exists()]
    foreign = [name for name in foreign if name not in own]
    if foreign:
        raise UserError(
            f"--output={output}: {len(foreign)} files there are of no earlier --mode=explain, and "
            f"would be overwritten: {core.some(foreign)}. Name another folder, or move them away."
        )
