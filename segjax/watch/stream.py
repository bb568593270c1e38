"""Watch a folder of images as a stream, from its first image to its last."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segjax.data.decode import Reading
from segjax.errors import DataError
from segjax.evaluators.report import Scored
from segjax.feedback.store import Store
from segjax.inference import folder
from segjax.inference.layout import Layout
from segjax.runtime import files
from segjax.watch import drift
from segjax.watch import reference as reference_lib
from segjax.watch.monitor import EVERY, Alert, Monitor
from segjax.watch.reference import AGREEMENT, Reference

FEWEST = 25
"""Images from which on something is said of fewer than a window."""


@dataclasses.dataclass(frozen=True)
class Watched:
    """What became of a stream.

    Attributes:
        found: Images that there were.
        names: Of those that could be read.
        rows: What describes each of them.
        alerts: Each when it was first raised.
        windows: The shifts of each window.
        window: Images of one.
    """

    found: int
    names: list[str]
    rows: list[dict[str, float]]
    alerts: list[Alert]
    windows: list[list[drift.Shift]]
    window: int

    def worst(self) -> list[drift.Shift]:
        """Return the farthest window of each statistic, the farthest first."""
        farthest: dict[str, drift.Shift] = {}
        for shift in (each for window in self.windows for each in window):
            known = farthest.get(shift.statistic)
            if known is None or _share(shift) > _share(known):
                farthest[shift.statistic] = shift
        return sorted(farthest.values(), key=_share, reverse=True)

    def describe(self) -> str:
        """Return in one line how much there was of what."""
        skipped = self.found - len(self.rows)
        few = (
            f"fewer images than a window ({self.window}): looked only for what is beyond all known"
        )
        few = "" if self.windows else f"; {few}"
        return (
            f"{self.found} images found, {len(self.rows)} watched, {skipped} skipped; "
            f"{len(self.windows)} windows of {self.window}, {len(self.alerts)} alerts{few}"
        )

    def write(self, output: pathlib.Path) -> None:
        """Write `statistics.csv`, a row an image, and `drift.json`.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        columns = list(reference_lib.table(self.rows))
        lines = [["image", *columns]]
        for name, row in zip(self.names, self.rows, strict=True):
            lines.append([name, *(str(row.get(column, "")) for column in columns)])
        files.write_csv(output / "statistics.csv", lines)
        worst = [
            {
                "statistic": shift.statistic, "psi": shift.psi, "psi_limit": shift.limits.psi,
                "ks": shift.ks, "ks_limit": shift.limits.ks, "alert": shift.passes,
                "median": shift.median, "in_training": shift.known,
            }
            for shift in self.worst()
        ]  # fmt: skip
        about = {"found": self.found, "watched": len(self.rows), "window": self.window}
        alerts = [alert._asdict() for alert in self.alerts]
        files.write_json(output / "drift.json", about | {"alerts": alerts, "statistics": worst})


def _share(shift: drift.Shift) -> float:
    """Return how near a shift is to an alert; above 1 it is one."""
    return min(shift.psi / shift.limits.psi, shift.ks / shift.limits.ks)


def watch(
    files: Sequence[pathlib.Path],
    *,
    reference: Reference,
    predictor: Scored,
    layout: Layout,
    reading: Reading,
    tell: Callable[[str], None],
    done: Callable[[int], None],
) -> Watched:
    """Predict one image after the other, and compare each window of them with the reference.

    Args:
        files: The images.
        reference: Of the run.
        predictor: Of the run.
        layout: How an image becomes what the network sees.
        reading: How the data set of its training reads images.
        tell: Told each alert when it is first raised, and each image that is skipped.
        done: Told how many images are done.
    """
    names, rows, alerts, windows = [], [], [], []
    monitor = Monitor(reference)
    for number, file in enumerate(files, start=1):
        begun = time.monotonic()
        try:
            image, _, _ = folder.open_scaled(file, layout, reading, ())
            row = reference_lib.describe(predictor, image, reference.class_names)[1]
        except DataError as error:
            tell(f"skipped: {error}")
            monitor.failed()
            continue
        rows.append(row)
        names.append(str(file))
        monitor.add(row, seconds=time.monotonic() - begun, queue=0)
        past = len(rows) - reference.window
        if past >= 0 and past % min(EVERY, reference.window) == 0:
            windows.append(monitor.shifts())
            for alert in monitor.alerts():
                if alert.name not in {known.name for known in alerts}:
                    alerts.append(alert)
                    tell(f"alert after {alert.image} images: {alert.message}")
        done(number)
    if not windows and len(rows) >= FEWEST:
        for shift in drift.unseen(reference_lib.table(rows), reference.limits):
            message = f"beyond all that is known: {shift.describe()}"
            alerts.append(
                Alert(f"drift:{shift.statistic}", message, shift.psi, shift.limits.psi, len(rows))
            )
            tell(f"alert after {len(rows)} images: {message}")
    return Watched(len(files), names, rows, alerts, windows, reference.window)


def quality(store: Store, reference: Reference) -> tuple[str, list[Alert]]:
    """Compare the latest corrections with what the model reached on its reference.

    People correct what is wrong rather than what is right, so agreement is lower there than in use;
    only a window that is worse than any group of the reference is an alert.
    """
    rows = [row for row in store.rows() if row.judged]
    shares = [{AGREEMENT: row.agreed / row.judged} for row in rows[-reference.window :]]
    limits: Mapping[str, Any] = {
        name: each for name, each in reference.limits.items() if name == AGREEMENT
    }
    found = drift.compare(reference_lib.table(shares), limits) if shares else []
    line = f"feedback: {len(store.rows())} images found, {len(rows)} corrected predictions used"
    if not found:
        return f"{line}; nothing to compare", []
    (shift,) = found
    line += f"; {shift.describe()}"
    alarmed = shift.passes and shift.median < shift.known and len(shares) >= reference.window // 2
    alert = Alert(AGREEMENT, shift.describe(), shift.psi, shift.limits.psi, len(rows))
    return line, [alert] if alarmed else []
