"""Look for what is wrong with the data of --config; audit.json and audit.html go to --output.

All splits that the config trains on and scores: duplicates, also across splits, masks that are
shifted, empty, hold unknown values or do not fit their image, images that stand out. With a run,
--workdir, masks are ranked by how sure the run is that they are otherwise. With --annotator, how
far other people's masks of the same images agree. On the page a person accepts and rejects; what it
saves is config.input.source.review.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from segjax.commands import options
from segjax.errors import ConfigError, DataError, printable
from segjax.runtime import xla

if TYPE_CHECKING:
    from segjax.audit.examples import Seen
    from segjax.audit.findings import Finding
    from segjax.data.core import Source
    from segjax.runs.run import Run

NEEDS = options.CONFIG | {"output": "--output=audit"}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    text = "A run: masks that it disagrees with are ranked."
    flags.DEFINE_string("workdir", "", text, flag_values=values)
    text = "Of the run: 'best', 'latest' or a step. Default: the best if it keeps one."
    flags.DEFINE_string("checkpoint", "", text, flag_values=values)
    text = (
        "Another person's masks: what is otherwise in config.input.source, such as "
        "labels={split}/second or reader=2; may be given several times."
    )
    flags.DEFINE_multi_string("annotator", [], text, flag_values=values)
    flags.DEFINE_string("output", "", "The folder to write to.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Audit all splits, and say what was found, used and written."""
    config = options.read_config(values)
    xla.prepare()
    from segjax.assemble import parts
    from segjax.audit import examples, findings, report
    from segjax.config import schema
    from segjax.inference import paths
    from segjax.runtime import files
    from segjax.views.progress import Progress, stage

    config = schema.fill(config)
    schema.check(config)
    inputs, output = config["input"], options.path(values.output)
    opened = open_judge(values)
    named = [inputs["split"], *(each["split"] for each in config["evals"].values())]
    sources = {split: parts.make_source(config, split) for split in dict.fromkeys(named)}
    others = open_others(config, values.annotator, list(sources))
    paths.make_folder(output)
    seen: list[examples.Seen] = []
    for split, source in sources.items():
        with Progress(len(source), unit="examples", title=split, leave=False) as bar:
            every = examples.see_all(source, split, threads=inputs["threads"])
            for number, each in enumerate(every, start=1):
                seen.append(each)
                bar.update(number)
    class_names = list(sources[inputs["split"]].class_names)
    with stage(f"comparing {len(seen):,} examples"):
        found = findings.collect(seen, class_names)
    shares: dict[str, float] = {}
    more: list[findings.Finding] = []
    if opened is not None:
        shares, more = disagreeing(opened, sources, seen, class_names)
    ranked = report.rank(shares, found)
    found = findings.sort([*found, *more])
    audit: dict[str, Any] = report.summarize(seen, found, class_names=class_names)
    audit["disagreement"] = ranked
    audit["fingerprint"] = fingerprint_of(sources[inputs["split"]], seen, inputs["split"])
    audit["agreement"] = agreeing(sources, others, seen) if others else {}
    files.write_json(output / "audit.json", audit)
    left_out = draw(output / "audit.html", audit, found, seen, sources, title=str(values.config))
    unusable = sum(bool(each.error) for each in seen)
    kinds = ", ".join(f"{count} {kind}" for kind, count in audit["counts"].items() if count)
    agreed = audit["agreement"]
    for line in (
        *(
            f"{agreed['images']} images compared of {len(others) + 1} annotators, "
            f"{agreed['images_of_one']} that fewer than two have"
            for _ in others[:1]
        ),
        f"{len(seen)} examples found, {len(seen) - unusable} used, {unusable} unusable; "
        f"{len(found)} findings{': ' * bool(kinds)}{kinds}",
        f"audit.json and audit.html written to {output}"
        + f"; the page shows all but the last {left_out} findings" * bool(left_out),
    ):
        print(printable(line))
    return 0


def open_judge(values: flags.FlagValues) -> "Run | None":
    """Return the run of `--workdir`; None without one.

    Raises:
        ConfigError: It finds objects: masks are judged pixel by pixel.
    """
    if not values.workdir:
        return None
    from segjax.runs import run as run_lib
    from segjax.tasks.base import DenseTask

    opened = run_lib.open_run(
        options.path(values.workdir), checkpoint=values.checkpoint, trust_code=values.trust_code
    )
    if not isinstance(opened.parts.task, DenseTask) or opened.parts.multilabel:
        raise ConfigError(
            f"--workdir={values.workdir}: masks are judged pixel by pixel, expected a run of a "
            "task that gives each pixel one class. Leave it out."
        )
    return opened


def disagreeing(
    opened: "Run", sources: Mapping[str, "Source"], seen: Sequence["Seen"], class_names: list[str]
) -> tuple[dict[str, float], list["Finding"]]:
    """Return of each id the share of pixels that a run disagrees with, and masks that stand out.

    Raises:
        ConfigError: The run knows other classes.
    """
    from segjax.audit import disagreement, findings
    from segjax.views.progress import Progress

    known = list(opened.config["resolved"]["class_names"])
    if known != class_names:
        raise ConfigError(
            f"--workdir={opened.path}: a run of the classes {', '.join(known[:8])}; the data has "
            f"{', '.join(class_names[:8])}. Use a run of the same classes."
        )
    predict, places = opened.predictor(), place_of(sources)

    def read(number: int) -> tuple[Any, Any]:
        split, index = places[seen[number].id]
        if seen[number].labels is None:
            raise DataError(seen[number].error)
        example: Any = sources[split][index]
        return predict(np.asarray(example["image"])).probabilities(), np.asarray(example["label"])

    with Progress(len(seen), unit="masks", title="disagreement", leave=False) as bar:
        shares = disagreement.rank(len(seen), read, tell=bar.update)
    more = [
        findings.make(
            "suspect_mask", [seen[number].id], 100 * (shares[number] or 0),
            f"the run is sure that {shares[number]:.1%} of the pixels are otherwise",
        )
        for number in disagreement.standing_out(shares).tolist()
    ]  # fmt: skip
    named = zip(seen, shares, strict=True)
    return {each.id: share for each, share in named if share is not None}, more


def open_others(
    config: Mapping[str, Any], changes: Sequence[str], splits: Sequence[str]
) -> list[tuple[str, dict[str, "Source"]]]:
    """Return the splits as each other person labelled them, with what that person is called.

    Raises:
        UserError: A change that the data set does not take, or no such masks.
    """
    from segjax.assemble import parts
    from segjax.config import sections

    found = []
    for change in changes:
        other = sections.override(dict(config), [f"input.source.{change}"])
        found.append((change, {split: parts.make_source(other, split) for split in splits}))
    return found


def agreeing(
    sources: Mapping[str, "Source"],
    others: Sequence[tuple[str, Mapping[str, "Source"]]],
    seen: Sequence["Seen"],
) -> dict[str, Any]:
    """Return how far annotators agree, see `agreement.summarize`.

    Raises:
        DataError: They have other classes, or masks of other sizes.
    """
    from segjax.audit import agreement
    from segjax.views.progress import Progress

    first = next(iter(sources.values()))
    for change, own in others:
        names = next(iter(own.values())).class_names
        if names != first.class_names:
            raise DataError(
                f"--annotator={change}: has the classes {', '.join(names[:8])}, the config "
                f"{', '.join(first.class_names[:8])}. Compare masks of the same classes."
            )

    def reader(opened: Mapping[str, "Source"]) -> Any:
        places = place_of(opened)

        def read(own: str) -> np.ndarray:
            if own not in places:
                raise DataError(f"{own}: has no mask of this annotator.")
            split, number = places[own]
            example: Any = opened[split][number]
            return np.asarray(example["label"])

        return read

    people = {"config": reader(sources)} | {change: reader(own) for change, own in others}
    multilabel = first.schema["label"].kind == "labels"
    with Progress(len(seen), unit="images", title="agreement", leave=False) as bar:
        return agreement.summarize(
            people, [each.id for each in seen], first.class_names, multilabel=multilabel,
            tell=bar.update,
        )  # fmt: skip


def fingerprint_of(source: "Source", seen: Sequence["Seen"], split: str) -> dict[str, Any]:
    """Return the fingerprint of what can be used of a split as plain data; empty: nothing can."""
    from segjax.audit import fingerprint
    from segjax.data import core
    from segjax.views.progress import Progress

    errors = [each.error for each in seen if each.split == split]
    usable = [number for number, error in enumerate(errors) if not error]
    if not usable:
        return {}
    total = min(len(usable), fingerprint.EXAMPLES)
    with Progress(total, unit="examples", title="fingerprint", leave=False) as bar:
        found = fingerprint.take(core.Subset(source, usable), tell=bar.update)
    return dataclasses.asdict(found)


def place_of(sources: Mapping[str, "Source"]) -> dict[str, tuple[str, int]]:
    """Return of each id its split and its number there."""
    from segjax.data import reviewed

    return {
        own: (split, number)
        for split, source in sources.items()
        for number, own in enumerate(reviewed.ids_of(source, split))
    }


def draw(
    path: pathlib.Path,
    audit: dict[str, Any],
    found: Sequence["Finding"],
    seen: Sequence["Seen"],
    sources: Mapping[str, "Source"],
    *,
    title: str,
) -> int:
    """Write the page, and return how many findings it does not show."""
    from segjax.audit import examples, page
    from segjax.views.progress import Progress

    source = next(iter(sources.values()))
    chance, places = random.Random(0), place_of(sources)
    samples = {}
    for k, name in enumerate(source.class_names):
        there = [each.id for each in seen if each.labels and each.labels.pixels[k]]
        samples[name] = chance.sample(there, min(page.SAMPLES, len(there)))

    def read(own: str) -> tuple[Any, Any]:
        split, number = places[own]
        return examples.opened(sources[split], number)[:2]

    total = min(len(found), page.MOST) + len(samples)
    with Progress(total, unit="parts", title="page", leave=False) as bar:
        return page.write(
            path, audit, found, samples, read, title=title, palette=source.palette, tell=bar.update
        )
