"""The page that a training writes at its end."""

from segjax.errors import UserError
from segjax.runs import workdir
from segjax.runs.ending import Ended
from segjax.runtime import distributed
from segjax.views.progress import Progress


def write(ended: Ended) -> list[str]:
    """Write the page of a run whose training is over, and return what to say of it.

    `config.report` says whether, and of how many examples. A page that cannot be written, on a full
    disk, does not end a run that is complete: the line says so. All processes must call it.
    """
    run, section = ended.run, ended.run.config["report"]
    if not section["page"]:
        return []
    from segjax.report import page  # with all that a page may show: not for a run without one
    from segjax.report.record import Subject

    subject = Subject(
        run.path, run.path.name, run.config, ended.step, ended.evaluators, ended.predictor()
    )
    path, first = run.path / workdir.REPORT, distributed.is_first()
    total = page.count(subject, section["examples"])
    shown = Progress(
        total, unit="images", title="report", leave=False, enabled=first and total > 0,
        heartbeat=ended.heartbeat,
    )  # fmt: skip
    try:
        with shown as bar:
            found = page.write(
                path,
                subject,
                examples=section["examples"],
                pictures=section["examples"],
                tell=bar.update,
                first=first,
            )
    except UserError as error:
        return [f"no report: {error}"]
    return found.lines(path)
