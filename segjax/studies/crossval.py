"""Cross-validation: a run for each fold, its scores, and those of all predictions joined."""

import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from segjax.assemble import setup as setup_lib
from segjax.config import schema, searches, trials
from segjax.config.searches import Search
from segjax.data import dealing, folds, hashes
from segjax.data.folds import HELD, TRAIN
from segjax.errors import ConfigError, DataError, UserError
from segjax.runs import checks, train, workdir
from segjax.runs import run as run_lib
from segjax.runtime import files, reading
from segjax.studies import folds_found, nested, out_of_fold, work
from segjax.studies.folds_found import DONE, RESULT
from segjax.views.progress import Progress

Config = dict[str, Any]


class Wishes(NamedTuple):
    """What is asked for.

    Attributes:
        folds: How many there are.
        splits: That are dealt; empty: the one that is trained on, and `val` where it is scored.
        kind: See `dealing.deal`.
        groups: See `folds.Source`.
        seed: Decides what is shuffled.
        keep_best: Let folds keep their best checkpoint by the part that they hold out.
        only: The folds that this process may do; empty: all.
        keep_predictions: Write what is predicted of each example by the fold that held it out.
        search: Finds values for the config inside each fold, on its training part alone.
    """

    folds: int
    splits: tuple[str, ...] = ()
    kind: str = "plain"
    groups: str = ""
    seed: int = 0
    keep_best: bool = False
    only: tuple[int, ...] = ()
    keep_predictions: bool = False
    search: Search | None = None


class Plan(NamedTuple):
    """A checked cross-validation, of which nothing is written yet.

    Attributes:
        root: Its folder.
        config: What each fold trains, but for its data.
        wishes: With the splits that are dealt.
        joined: The examples.
        data: Which they are, see `hashes.of_source`.
        notes: What is to be said.
        shown: The names of the scores that are shown.
    """

    root: pathlib.Path
    config: Config
    wishes: Wishes
    joined: folds.Joined
    data: dict[str, Any]
    notes: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return what decides which example is in which fold."""
        names = ("folds", "splits", "kind", "groups", "seed")
        found = {name: getattr(self.wishes, name) for name in names}
        return found | {"splits": [*self.wishes.splits]}

    def fold_config(self, fold: int, dealt: Sequence[int]) -> Config:
        """Return the config of a fold's run, which needs nothing but itself."""
        source = {"type": "folds", "source": self.config["input"]["source"], "fold": fold}
        source |= self.settings()
        if self.wishes.kind.startswith("stratified"):  # else labels would be read each time
            source["assignment"] = dealing.written(dealt)
        config = self.config | {"input": {**self.config["input"], "source": source}}
        if root := config["checkpoint"]["root"]:
            section = {**config["checkpoint"], "root": f"{root.rstrip('/')}/fold{fold}"}
            config["checkpoint"] = section
        return config

    def inner_config(self, fold: int, dealt: Sequence[int], pixels: Any = None) -> Config:
        """Return the config of a search's trials inside a fold: its training part, dealt again.

        Args:
            fold: Its number.
            dealt: The fold of each example.
            pixels: Of each class in each example, where folds are stratified; None: the inner ones
                are not, as it is for a look at the config.
        """
        outer, number = self.fold_config(fold, dealt), max(2, self.wishes.folds - 1)
        source = {"type": "folds", "source": outer["input"]["source"], "fold": 0}
        source |= self.settings() | {"folds": number, "splits": [TRAIN]}
        if self.wishes.kind.startswith("stratified"):
            own = [place for place, other in enumerate(dealt) if other != fold]
            inner = [place % number for place in range(len(own))]
            if pixels is not None:
                inner = self.deal(number, own, np.array(pixels, np.int64))
            source["assignment"] = dealing.written(inner)
        return outer | {"input": {**outer["input"], "source": source}}

    def deal(self, number: int, places: Sequence[int], pixels: np.ndarray | None) -> list[int]:
        """Return the fold of some of the examples, of so many folds."""
        joined, wishes = self.joined, self.wishes
        groups = folds.groups_of(joined, kind=wishes.kind, pattern=wishes.groups)
        names, order = joined.example_names(), joined.order()
        return dealing.deal(
            [names[i] for i in places], number, kind=wishes.kind, seed=wishes.seed,
            order=[order[i] for i in places],
            groups=None if groups is None else [groups[i] for i in places],
            pixels=None if pixels is None else pixels[[*places]],
        )  # fmt: skip

    def folder(self, fold: int) -> pathlib.Path:
        """Return the folder of a fold's run."""
        return workdir.fold_folder(self.root, fold)


def run(
    root: pathlib.Path,
    config: Mapping[str, Any],
    wishes: Wishes,
    *,
    say: Callable[[str], None] = print,
) -> int:
    """Train and score all folds that nobody has done, and all together once all are there.

    Args:
        root: The folder of the cross-validation; several processes may work in it.
        config: The config of a run, whose data is dealt.
        wishes: How.
        say: Takes a line for whoever watches.

    Returns:
        The exit code: 0, or that of a fold which a signal ended.

    Raises:
        UserError: Bad config or data, or a folder of something else, and nothing was written; or
            some folds failed, and the same command tries them again.
    """
    plan = prepare(root, config, wishes)
    for note in plan.notes:
        say(note)
    dealt = assign(plan, say)
    chosen = plan.wishes.only or range(plan.wishes.folds)
    items = [_item(plan, fold, dealt, say) for fold in chosen]
    if code := _share("folds", items, say):
        return code
    left = [i for i in range(plan.wishes.folds) if not (plan.folder(i) / DONE).exists()]
    if left:
        say(f"folds {', '.join(map(str, left))} are left; with the last {RESULT} is written")
        return 0
    if code := _share("out of fold", _last_items(plan, dealt), say):
        return code
    for line in folds_found.describe(reading.read_json(root / RESULT), plan.shown):
        say(line)
    say(f"written to {root / RESULT}")
    return 0


def _share(what: str, items: Sequence[work.Item], say: Callable[[str], None]) -> int:
    """Do items beside others, say what became of them, and return the exit code.

    Raises:
        UserError: One failed.
    """
    tally = work.share(items, say=say)
    say(f"{what}: {tally.line()}")
    if tally.failed and not tally.code:
        name, reason = next(iter(tally.failed.items()))
        raise UserError(f"{name}: {reason} The same command tries it again.")
    return tally.code


def prepare(root: pathlib.Path, config: Mapping[str, Any], wishes: Wishes) -> Plan:
    """Find everything that can be wrong before anything is written.

    Raises:
        UserError: Bad config or data, or a folder of something else.
    """
    config = schema.fill(config)
    schema.check(config)
    if trials.count(config):
        raise ConfigError(
            "config.trials: each fold would be several runs, expected none. Set it to its default."
        )
    if (root / "config.json").exists():
        raise ConfigError(
            f"--workdir={root}: holds a run, expected a new folder or that of a cross-validation. "
            "Use another one."
        )
    scored = {section["split"] for section in config["evals"].values()}
    usual = (config["input"]["split"], *([HELD] if HELD in scored else []))
    wishes = wishes._replace(splits=wishes.splits or tuple(dict.fromkeys(usual)))
    outside = [fold for fold in wishes.only if not 0 <= fold < wishes.folds]
    if outside:
        raise ConfigError(
            f"--folds_only={outside[0]}: there are the folds 0 to {wishes.folds - 1}. Change it."
        )
    if wishes.kind.startswith("stratified") and wishes.folds > len(dealing.DIGITS):
        raise ConfigError(
            f"--folds={wishes.folds}: folds of kind={wishes.kind!r} are at most "
            f"{len(dealing.DIGITS)}. Use fewer, or another kind."
        )
    joined = folds.join(config["input"]["source"], wishes.splits)
    groups = folds.groups_of(joined, kind=wishes.kind, pattern=wishes.groups)
    dealing.deal(  # as many folds can be made
        joined.example_names(), wishes.folds, seed=0, groups=groups,
        kind=wishes.kind.replace("stratified_grouped", "grouped").replace("stratified", "plain"),
    )  # fmt: skip
    evals, notes = _evals(config, wishes, joined)
    left_out = config["evals"].keys() - evals.keys()
    config |= {"evals": evals, "input": {**config["input"], "split": TRAIN}}
    best, more = _keep_best(config, wishes, left_out)
    config["checkpoint"] = {**config["checkpoint"], "keep_best": best}
    notes += [*more, *_groups_note(joined, wishes)]
    plan = Plan(root, config, wishes, joined, hashes.of_source(joined))
    notes += _check_same(plan)
    return plan._replace(notes=tuple(notes), shown=tuple(_check_fold(plan)))


def _evals(
    config: Config, wishes: Wishes, joined: folds.Joined
) -> tuple[dict[str, Any], list[str]]:
    """Return the evaluations of a fold, and what is to be said of them.

    Raises:
        ConfigError: None is of what folds hold out.
    """
    found, notes = {}, []
    for name, section in config["evals"].items():
        split = section["split"]
        if split == HELD or (split in wishes.splits and split != config["input"]["split"]):
            found[name] = {**section, "split": HELD}
        elif split in wishes.splits:
            found[name] = {**section, "split": TRAIN}
        else:
            own = folds.open_split(config["input"]["source"], split)
            try:
                folds.check_apart(own, split, joined)
            except DataError:
                notes.append(
                    f"evals.{name} is left out: examples of its split {split!r} are dealt to folds"
                )
            else:
                found[name] = section
    if not any(section["split"] == HELD for section in found.values()):
        raise ConfigError(
            f"config.evals: scores no {HELD!r}, which is what a fold holds out, and no other split "
            f"that is dealt ({', '.join(wishes.splits)}). Set the split of one: "
            f"--config.evals.<name>.split={HELD}."
        )
    return found, notes


def _keep_best(config: Config, wishes: Wishes, left_out: Collection[str]) -> tuple[str, list[str]]:
    """Return `checkpoint.keep_best` of a fold, and what is to be said of it."""
    best = config["checkpoint"]["keep_best"]
    name = best.partition("/")[0]
    held = name in config["evals"] and config["evals"][name]["split"] == HELD
    if name not in left_out and (not held or wishes.keep_best):
        return best, []
    return "", [
        "folds keep their last checkpoint: the best by what a fold holds out would flatter its "
        "score (--keep_best keeps it)"
    ]


def _groups_note(joined: folds.Joined, wishes: Wishes) -> list[str]:
    """Return what is to be said of groups that folds tear apart; a line or none."""
    known = None if wishes.kind.endswith("grouped") else joined.example_groups()
    if known is None or len({*known}) == len(known):
        return []
    return [
        f"warning: {len(known)} examples are of {len({*known})} groups, which kind="
        f"{wishes.kind!r} tears apart; --kind=grouped keeps each in one fold"
    ]


def _check_same(plan: Plan) -> list[str]:
    """Refuse a folder whose cross-validation is another one; return what is to be said of its data.

    Raises:
        UserError: What is different.
    """
    there = workdir.load_folds(plan.root)
    if there is None:
        return []
    if there["data"].get("hash") != plan.data["hash"] or there["names"] != _names(plan):
        raise DataError(
            f"{plan.root / workdir.FOLDS}: was dealt of other data: {len(there['names'])} examples "
            f"then, {len(plan.joined)} now, or files of other sizes. Put it back, or use another "
            "--workdir."
        )
    now = plan.settings() | {"fingerprint": schema.fingerprint(plan.config)}
    now["search"] = nested.fingerprint(plan.wishes.search)
    before = there["settings"] | {key: there.get(key) for key in ("fingerprint", "search")}
    for key, value in now.items():
        if before.get(key) != value:
            raise ConfigError(
                f"--workdir={plan.root}: holds a cross-validation with {key}={before.get(key)!r}, "
                f"got {value!r}. Use another --workdir, or the same command."
            )
    return hashes.compare(there["data"], plan.data, split=" and ".join(plan.wishes.splits))


def _check_fold(plan: Plan) -> list[str]:
    """Check the config of a fold, and return the names of the scores that are shown.

    Raises:
        UserError: Bad config or data.
    """
    # Which fold an example is in does not matter here, and labels are not read for it.
    dealt = [i % plan.wishes.folds for i in range(len(plan.joined))]
    config = plan.fold_config(0, dealt)
    setup, _ = setup_lib.make_setup(config)
    evaluators = setup_lib.make_evaluators(setup.config, setup.parts, setup.clock)
    checks.check_saving(setup, evaluators)
    if plan.wishes.search:
        nested.check(plan.wishes.search, plan.inner_config(0, dealt))
    return [f"{each.name}/{each.headline[0]}" for each in evaluators if each.split != TRAIN]


def assign(plan: Plan, say: Callable[[str], None]) -> list[int]:
    """Return the fold of each example, dealt by the first process.

    It is kept in `<root>/folds.json`, with the pixels of each class where they were counted.

    Raises:
        UserError: They cannot be dealt: a label cannot be read.
    """
    path = plan.root / workdir.FOLDS

    def do() -> int:
        pixels, wishes = None, plan.wishes
        if wishes.kind.startswith("stratified"):
            threads = plan.config["input"]["threads"]
            with Progress(len(plan.joined), unit="labels", title="folds", leave=False) as bar:
                pixels = folds.count_pixels(plan.joined, threads=threads, tell=bar.update)
        groups = folds.groups_of(plan.joined, kind=wishes.kind, pattern=wishes.groups)
        dealt = plan.deal(wishes.folds, range(len(plan.joined)), pixels)
        content: dict[str, Any] = {
            "settings": plan.settings(),
            "fingerprint": schema.fingerprint(plan.config),
            "search": nested.fingerprint(wishes.search),
            "data": plan.data,
            "class_names": [*plan.joined.class_names],
            "names": _names(plan),
            "fold": dealt,
        }
        content |= {"groups": groups} if groups else {}
        content |= {"pixels": pixels.tolist()} if pixels is not None else {}
        files.write_json(path, content)
        say(_sizes(dealt, plan.wishes.folds))
        return 0

    item = work.Item("folds", plan.root, path.exists, do)
    if failed := work.share([item], say=lambda line: None).failed:
        raise UserError(f"{plan.root}: {failed['folds']}")
    _check_same(plan)
    return folds_found.read(plan.root)["fold"]


def _sizes(dealt: Sequence[int], number: int) -> str:
    counts = ", ".join(str(dealt.count(fold)) for fold in range(number))
    return f"{len(dealt)} examples dealt to {number} folds: {counts}"


def _names(plan: Plan) -> list[str]:
    return plan.joined.example_names()


def _item(plan: Plan, fold: int, dealt: Sequence[int], say: Callable[[str], None]) -> work.Item:
    """Return what trains a fold."""
    folder = plan.folder(fold)

    def do() -> int:
        config = plan.fold_config(fold, dealt)
        if search := plan.wishes.search:
            inner = plan.inner_config(fold, dealt, folds_found.read(plan.root).get("pixels"))
            code, found = nested.best(folder / nested.FOLDER, search, inner, say=say)
            if code:
                return code
            config = searches.assign(config, found)
        code = train.run(folder, config)
        jax.clear_caches()
        if code:
            return code
        opened = run_lib.open_run(folder, trust_code=True)
        content = {
            "fold": fold,
            "examples": list(dealt).count(fold),
            "checkpoint": opened.find(),
            "fingerprint": schema.fingerprint(config),
        }
        for stale in (plan.root / RESULT, _record(plan.root)):  # of the fold before it was new
            stale.unlink(missing_ok=True)
        files.write_json(folder / DONE, content)
        return 0

    return work.Item(folder.name, folder, (folder / DONE).exists, do)


def _last_items(plan: Plan, dealt: Sequence[int]) -> list[work.Item]:
    """Return what is done of all folds together."""
    root = plan.root

    def members() -> list[run_lib.Run]:
        numbers = range(plan.wishes.folds)
        return [run_lib.open_run(plan.folder(fold), trust_code=True) for fold in numbers]

    def score() -> int:
        for found in out_of_fold.score(plan.joined, dealt, members()):
            found.write(root)
        jax.clear_caches()
        files.write_json(root / RESULT, folds_found.collect(root))
        return 0

    def predict() -> int:
        out_of_fold.write_predictions(root, plan.joined, dealt, members())
        jax.clear_caches()
        return 0

    found = [work.Item("scores", root, (root / RESULT).exists, score)]
    if plan.wishes.keep_predictions:
        found.append(work.Item("predictions", root, _record(root).exists, predict))
    return found


def _record(root: pathlib.Path) -> pathlib.Path:
    return root / out_of_fold.PREDICTIONS / out_of_fold.RECORD
