"""Tell people and programs of alerts: a webhook, rules for Prometheus, a dashboard for Grafana."""

import json
import pathlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

import yaml

from segjax.errors import ConfigError
from segjax.runtime import files
from segjax.watch.monitor import Alert, metric
from segjax.watch.reference import Reference

TIMEOUT_S = 10.0
RULES, DASHBOARD = "prometheus_rules.yml", "grafana.json"


def check_webhook(url: str) -> None:
    """Raise `ConfigError` unless a URL is one of HTTP; empty: there is none."""
    parts = urllib.parse.urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise ConfigError(f"--webhook={url!r:.200}: expected http://… or https://…. Change it.")


def post(url: str, alerts: Sequence[Alert], *, run: str) -> str:
    """Post alerts as JSON `{"text", "run", "alerts"}`; return what went wrong, empty: nothing.

    `text` is what Slack, Mattermost and Teams show. An alert that cannot be told must not end what
    it is about, so nothing is raised.
    """
    lines = [alert.message for alert in alerts]
    text = f"segjax: {len(alerts)} alerts of {run}\n" + "\n".join(lines)
    body = {"text": text, "run": run, "alerts": [alert._asdict() for alert in alerts]}
    request = urllib.request.Request(  # noqa: S310  # `check_webhook` knows the scheme
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"--webhook: {reason}. The alerts above were not told there"


def rules(reference: Reference) -> dict[str, Any]:
    """Return rules for Prometheus on the gauges of `Monitor`, one for each statistic."""
    found = [
        _rule(
            f"segjax_watch_psi_{metric(name)} > {limits.psi:.4g} and "
            f"segjax_watch_ks_{metric(name)} > {limits.ks:.4g}",
            "SegjaxDrift", "1m", f"{name} is unlike the training's", statistic=name,
        )
        for name, limits in reference.limits.items()
    ]  # fmt: skip
    found += [
        _rule(
            "increase(segjax_watch_errors[5m]) > 0.05 * increase(segjax_watch_images[5m])",
            "SegjaxErrors", "5m", "more than 5 % of requests get no answer",
        ),
        _rule(
            "segjax_watch_latency_p95_seconds > 1", "SegjaxSlow", "5m",
            "one in twenty answers takes more than a second",
        ),
    ]  # fmt: skip
    return {"groups": [{"name": "segjax", "rules": found}]}


def _rule(expression: str, name: str, during: str, summary: str, **labels: str) -> dict[str, Any]:
    return {
        "alert": name, "expr": expression, "for": during,
        "labels": {"severity": "warning", **labels}, "annotations": {"summary": summary},
    }  # fmt: skip


def dashboard(reference: Reference) -> dict[str, Any]:
    """Return a dashboard for Grafana of the same gauges."""
    drawn = [("Drift alerts", ["segjax_watch_drift_alerts"], "short")]
    drawn += [
        ("Latency", [f"segjax_watch_latency_p{p}_seconds" for p in (50, 95, 99)], "s"),
        ("Images per second", ["segjax_watch_images_per_second"], "short"),
        ("Queue", ["segjax_watch_queue"], "short"),
        ("Errors", ["rate(segjax_watch_errors[5m])"], "short"),
    ]
    names = [metric(name) for name in reference.limits]
    for kind in ("psi", "ks"):
        drawn.append((kind.upper(), [f"segjax_watch_{kind}_{name}" for name in names], "short"))
    drawn += [(name, [f"segjax_watch_{metric(name)}"], "short") for name in reference.limits]
    panels = [
        {
            "id": number, "type": "timeseries", "title": title,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
            "gridPos": {"h": 7, "w": 8, "x": number % 3 * 8, "y": number // 3 * 7},
            "targets": [{"expr": expr, "refId": f"Q{i}"} for i, expr in enumerate(expressions)],
        }
        for number, (title, expressions, unit) in enumerate(drawn)
    ]  # fmt: skip
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    return {
        "title": "segjax", "uid": "segjax-watch", "schemaVersion": 39, "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"}, "templating": {"list": [source]},
        "panels": panels,
    }  # fmt: skip


def write(folder: pathlib.Path, reference: Reference) -> list[pathlib.Path]:
    """Write rules and dashboard into a folder, and return their files.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    with files.replacing(folder / RULES) as temporary:
        temporary.write_text(yaml.safe_dump(rules(reference), sort_keys=False, allow_unicode=True))
    files.write_json(folder / DASHBOARD, dashboard(reference))
    return [folder / RULES, folder / DASHBOARD]
