"""The monitor, the reference's file, the stream of a folder, alerts."""

import http.server
import json
import re
import threading

import numpy as np
import pytest
import yaml
from PIL import Image

from segjax.data import decode
from segjax.errors import ConfigError, DataError
from segjax.inference.predictor import FunctionPredictor, Prediction
from segjax.watch import alerts, drift, page, stream
from segjax.watch import reference as reference_lib
from segjax.watch.monitor import EVERY, Monitor, open_monitor
from segjax.watch.reference import Reference

CLASSES = ("dark", "light & <bright>")
PREDICTOR = FunctionPredictor(lambda image: image[..., 0] > 100, num_classes=2)


def picture(rng: np.random.Generator, *, mean: float = 100.0) -> np.ndarray:
    return np.clip(rng.normal(mean + rng.normal(0, 5), 30, (24, 32, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    rows = [reference_lib.describe(PREDICTOR, picture(rng), CLASSES)[1] for _ in range(200)]
    groups = drift.tell_apart(["a"] * 200)
    limits = drift.learn(reference_lib.table(rows), groups, window=50)
    return Reference(limits, CLASSES, 50, {"run": "a run"})


def observe(monitor: Monitor, count: int, *, mean: float = 100.0) -> None:
    rng = np.random.default_rng(1)
    for _ in range(count):
        image = picture(rng, mean=mean)
        monitor.observe(image, PREDICTOR(image), 0.1, 3)


def test_gauges_say_what_happened(reference):
    now = [0.0]
    monitor = Monitor(reference, clock=lambda: now[0])
    observe(monitor, 60)
    monitor.failed()
    found = monitor.gauges()
    assert (found["watch_images"], found["watch_errors"], found["watch_queue"]) == (60, 1, 3)
    assert found["watch_latency_p95_seconds"] == pytest.approx(0.1)
    assert found["watch_images_per_second"] == 1
    assert found["watch_input_brightness"] == pytest.approx(100, abs=5)
    assert found["watch_drift_alerts"] == 0 and not monitor.alerts()
    assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in found)
    now[0] = 61.0
    assert monitor.gauges()["watch_images_per_second"] == 0


def test_a_change_is_an_alert_after_a_window(reference):
    monitor = Monitor(reference)
    observe(monitor, 49, mean=200)
    assert not monitor.alerts(), "there is no window yet"
    observe(monitor, 1, mean=200)
    assert "drift:input/brightness" in {alert.name for alert in monitor.alerts()}
    observe(monitor, 50 + EVERY)
    assert not monitor.alerts(), "it is over"


def test_threads_share_one(reference):
    monitor = Monitor(reference)
    threads = [threading.Thread(target=observe, args=(monitor, 40)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        monitor.gauges()
    for thread in threads:
        thread.join()
    assert monitor.gauges()["watch_images"] == 160


def test_without_a_reference_there_are_gauges_alone(tmp_path):
    monitor = open_monitor(tmp_path)
    observe(monitor, 120)
    monitor.observe(np.zeros((8, 8, 1), np.uint8), None, 0.2, 0)
    assert not monitor.alerts() and monitor.gauges()["watch_output_area_1"] > 0


def test_probabilities_are_not_asked_for(reference):
    def never() -> np.ndarray:
        raise AssertionError("the network would run again")

    image = picture(np.random.default_rng(0))
    Monitor(reference).observe(image, Prediction(np.zeros((24, 32), np.uint8), never), 0.1, 0)


def test_a_reference_is_its_file(reference, tmp_path):
    reference.save(tmp_path / "watch.json")
    again = Reference.load(tmp_path / "watch.json")
    assert again.class_names == CLASSES and again.window == 50
    assert open_monitor(tmp_path).reference == again
    window = {name: np.array(limits.sample) for name, limits in reference.limits.items()}
    assert drift.compare(window, again.limits) == drift.compare(window, reference.limits)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("window"),
        lambda found: found.update(window=-1),
        lambda found: found["statistics"]["input/noise"].update(psi="large"),
        lambda found: found["statistics"]["input/noise"].update(edges=[2, 1]),
        lambda found: found["statistics"]["input/noise"].update(sample=[]),
        lambda found: found["statistics"]["input/noise"].update(shares=[0, 0]),
        lambda found: found["statistics"].update(x=3),
    ],
)
def test_another_file_is_refused(reference, tmp_path, change):
    reference.save(tmp_path / "watch.json")
    found = json.loads((tmp_path / "watch.json").read_text())
    change(found)
    (tmp_path / "watch.json").write_text(json.dumps(found))
    with pytest.raises(DataError, match="is not what --mode=watch --reference writes"):
        Reference.load(tmp_path / "watch.json")


def test_no_reference_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="--mode=watch --workdir=<run> --reference"):
        Reference.load(tmp_path / "watch.json")


class Whole:
    """A layout that scales nothing."""

    def scale(self, *_args, **_named) -> float:
        return 1.0


def watch(folder, reference, tell=lambda line: None) -> stream.Watched:
    return stream.watch(
        sorted(folder.glob("*.png")), reference=reference, predictor=PREDICTOR, layout=Whole(),
        reading=decode.Reading(), tell=tell, done=lambda done: None,
    )  # fmt: skip


def test_a_folder_is_watched_as_a_stream(reference, tmp_path):
    rng, told = np.random.default_rng(5), []
    for number in range(130):
        image = picture(rng, mean=100 if number < 60 else 190)
        Image.fromarray(image).save(tmp_path / f"{number:03d}.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG no")
    watched = watch(tmp_path, reference, told.append)
    first = {alert.name: alert.image for alert in watched.alerts}
    assert 60 < first["drift:input/brightness"] <= 125
    assert "131 images found, 130 watched, 1 skipped; 4 windows of 50" in watched.describe()
    assert sum("torn.png" in line for line in told) == 1
    assert len([line for line in told if "input/brightness" in line]) == 1, "each alert once"
    watched.write(tmp_path)
    numbers = json.loads((tmp_path / "drift.json").read_text())
    assert numbers["alerts"][0]["image"] > 60
    assert len((tmp_path / "statistics.csv").read_text().splitlines()) == 131
    page.write(tmp_path / "drift.html", watched)
    text = (tmp_path / "drift.html").read_text()
    assert "light &amp; &lt;bright&gt;" in text and "<bright>" not in text
    assert text.count("<svg") == len(reference.limits)


def test_of_few_images_only_what_is_beyond_all_known_is_told(reference, tmp_path):
    rng, told = np.random.default_rng(0), []
    for name, mean in (("usual", 100), ("new", 240)):
        (tmp_path / name).mkdir()
        for number in range(stream.FEWEST):
            Image.fromarray(picture(rng, mean=mean)).save(tmp_path / name / f"{number}.png")
    usual, new = (watch(tmp_path / name, reference, told.append) for name in ("usual", "new"))
    assert not usual.alerts and "window (50): looked only for what is beyond" in usual.describe()
    assert "drift:input/brightness" in [alert.name for alert in new.alerts]
    assert any("beyond all that is known: input/brightness" in line for line in told)
    page.write(tmp_path / "drift.html", new)


def test_rules_and_dashboard_name_gauges_that_there_are(reference, tmp_path):
    monitor = Monitor(reference)
    observe(monitor, 60)
    gauges = {f"segjax_{name}" for name in monitor.gauges()}
    gauges |= {f"segjax_watch_{word}" for word in ("output_confidence", "output_entropy")}
    gauges |= {f"segjax_watch_{kind}_output_{word}" for kind in ("psi", "ks")
               for word in ("confidence", "entropy")}  # fmt: skip
    rules, dashboard = alerts.write(tmp_path, reference)
    expressions = [
        rule["expr"] for rule in yaml.safe_load(rules.read_text())["groups"][0]["rules"]
    ]  # fmt: skip
    panels = json.loads(dashboard.read_text())["panels"]
    expressions += [target["expr"] for panel in panels for target in panel["targets"]]
    assert len({panel["id"] for panel in panels}) == len(panels)
    used = {name for text in expressions for name in re.findall(r"segjax_\w+", text)}
    assert used <= gauges and len(used) > 20


def test_a_webhook_is_posted_to_and_may_fail(reference):
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802  # the library's name
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    monitor = Monitor(reference)
    observe(monitor, 50, mean=200)
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        assert alerts.post(url, monitor.alerts(), run="runs/x") == ""
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert got[0]["run"] == "runs/x" and "input/brightness" in got[0]["text"]
    assert alerts.post(url, monitor.alerts(), run="runs/x").startswith("--webhook: ")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "hooks.slack.com/x", "ftp://x/y", "http://"])
def test_only_http_is_a_webhook(url):
    with pytest.raises(ConfigError, match="expected http"):
        alerts.check_webhook(url)
