"""What deploy/ says is there: flags, routes, metrics; its commands run in a clean environment."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import yaml

from experiments.deploy import cold_start
from segjax.commands import cli
from tests import program

DEPLOY = program.ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.suffix in (".yaml", ".yml"))
DOCKERFILES = [DEPLOY / "Dockerfile", DEPLOY / "serverless.Dockerfile"]
OWN = {"InferenceService", "ServiceMonitor"}
"""Kinds that come with other programs, whose schemas Kubernetes has not."""
RULES = (
    "{extends: default, rules: {line-length: {max: 120}, document-start: disable, "
    "comments: {min-spaces-from-content: 1}}}"
)


def documents(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def tool(name):
    """Return a program that lints, or skip the test."""
    found = shutil.which(name) or shutil.which(str(pathlib.Path(sys.executable).parent / name))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def instructions(path):
    """Return the instructions of a Dockerfile by stage, each as (name, rest)."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    stages = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, rest = line.split(maxsplit=1)
        if name == "FROM":
            stage = stages.setdefault(rest.rpartition(" AS ")[2], [])
        elif stages:
            stage.append((name, rest))
    return stages


def commands_of(path):
    """Return what the last stages of a Dockerfile start, and the commands of compose and pods."""
    found = []
    for stage in instructions(path).values():
        entry = [json.loads(rest) for name, rest in stage if name == "ENTRYPOINT"]
        given = [json.loads(rest) for name, rest in stage if name == "CMD"]
        if entry and given:
            words = [*entry[-1], *given[-1]]
            found.append(shlex.split(words[-1])[1:] if words[0] == "/bin/sh" else words)
    return found


def test_flags_are_those_of_the_mode():
    """Of the images, of compose and of Kubernetes; and every one starts `segjax`."""
    compose = documents(DEPLOY / "compose.yaml")[0]["services"]["segjax"]["command"]
    pod = documents(DEPLOY / "kubernetes/server.yaml")[0]["spec"]["template"]["spec"]
    server = [each for path in DOCKERFILES for each in commands_of(path)]
    assert len(server) == 3 and all(words[0] == "segjax" for words in server)
    entry = server[0][:-2]
    for words in (*server, [*entry, *compose], [*entry, *pod["containers"][0]["args"]]):
        given = [re.sub(r"\$\{PORT:-(\d+)\}", r"\1", word) for word in words[1:]]
        assert cli.mode_of(given) == "serve"
        values = cli.parse([*words[:1], *given], "serve")
        assert values.workdir or values.model


def test_probes_ask_for_routes_that_there_are():
    source = (program.ROOT / "segjax/serve/app.py").read_text()
    routes = set(re.findall(r'router\.get\("([^"]+)"', source))
    container = documents(DEPLOY / "kubernetes/server.yaml")[0]["spec"]["template"]["spec"]
    probes = [
        each["httpGet"]["path"]
        for name, each in container["containers"][0].items()
        if name.endswith("Probe")
    ]
    assert sorted(probes) == ["/healthz", "/readyz", "/readyz"] and set(probes) <= routes
    texts = "".join(path.read_text() for path in DOCKERFILES)
    assert {"/healthz", "/readyz"} == {x for x in routes if x in texts}


def test_metrics_are_those_that_a_server_has():
    """In alerts, the dashboard, the autoscaler and its adapter."""
    from segjax.serve.measures import Measures

    shown = Measures().text().decode()
    there = set(re.findall(r"^# TYPE (\w+)", shown, re.M))
    there |= {f"{name}_{tail}" for name in there for tail in ("bucket", "sum", "count")}
    watch = (program.ROOT / "segjax/watch/monitor.py").read_text()
    there |= {f"segjax_{name}" for name in re.findall(r'"(watch_\w+)"', watch)}
    paths = [path for path in DEPLOY.rglob("*") if path.suffix in (".yml", ".yaml", ".json")]
    asked = {
        name for path in paths for name in re.findall(r"\bsegjax_[a-z_]+[a-z]\b", path.read_text())
    }
    assert len(asked) >= 8 and "watch_psi_{" in watch
    assert asked - {"segjax_watch_psi"} <= there
    scaled = documents(DEPLOY / "kubernetes/autoscaler.yaml")[0]["spec"]["metrics"][0]["pods"]
    assert scaled["metric"]["name"] in asked


def test_compose_mounts_files_that_there_are_and_prometheus_asks_the_service():
    compose = documents(DEPLOY / "compose.yaml")[0]
    for service in compose["services"].values():
        for mount in service["volumes"]:
            source = re.sub(r"\$\{[^}]*\}", "", mount).split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).is_dir(), mount
            assert source.startswith(".") or not source or source in compose["volumes"]
    (job,) = documents(DEPLOY / "prometheus/prometheus.yml")[0]["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["segjax:8000"]
    assert (
        job["authorization"]["credentials_file"] == f"/run/secrets/{next(iter(compose['secrets']))}"
    )
    board = json.loads((DEPLOY / "grafana/dashboards/segjax.json").read_text())
    source = documents(DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")[0]
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {
        source["datasources"][0]["uid"]
    }


def test_images_run_as_nobody_in_particular():
    for path in DOCKERFILES[:1]:
        stage = instructions(path)["server"]
        names = [name for name, _ in stage]
        assert dict(stage)["USER"] == "10001" and names.index("USER") < names.index("ENTRYPOINT")
        kept = {name for name, _ in stage}
        assert "RUN" in kept and not any("pip" in rest for name, rest in stage if name == "RUN")


def test_the_readme_of_cold_starts_is_drawn_from_the_records():
    text = cold_start.README.read_text()
    assert {record["form"] for record in cold_start.latest()} >= {"run", "stablehlo"}
    assert cold_start.redraw(text, cold_start.latest()) == text


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_dockerfiles_pass_hadolint(path, tmp_path):
    hadolint = tool("hadolint")
    done = subprocess.run([hadolint, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /x && pip install y\n")
    bad = subprocess.run([hadolint, str(tmp_path / "Dockerfile")], capture_output=True, text=True)
    assert bad.returncode == 1 and "DL3006" in bad.stdout, "it does look"


@pytest.mark.slow
def test_yaml_passes_yamllint():
    done = subprocess.run(
        [tool("yamllint"), "--strict", "-d", RULES, str(DEPLOY)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_kubernetes_knows_every_field():
    validate = pytest.importorskip("kubernetes_validate")
    seen = set()
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for each in documents(path):
            kind = each.get("kind")
            if kind in (None, "Kustomization", *OWN):  # None: values of a chart
                continue
            validate.validate(each, "1.33", strict=True)
            seen.add(kind)
            with pytest.raises(validate.ValidationError):
                validate.validate(each | {"sepc": {}}, "1.33", strict=True)
    assert seen == {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    listed = documents(DEPLOY / "kubernetes/kustomization.yaml")[0]["resources"]
    assert all((DEPLOY / "kubernetes" / name).is_file() for name in listed)


@pytest.mark.slow
def test_compose_knows_every_field():
    schema = pytest.importorskip("compose_spec")
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / "compose.yaml").read_text())
    text = re.sub(r"\$\{\w+:\?[^}]*\}", "given", text)
    schema.PyCompose.from_yaml(text).validate_volumes()
    for right, wrong in (("    ports:", "    prots:"), ("unless-stopped", "sometimes")):
        with pytest.raises(ValueError):
            schema.PyCompose.from_yaml(text.replace(right, wrong, 1))


@pytest.mark.slow
def test_prometheus_knows_every_rule():
    promtool = tool("promtool")
    for arguments in (["config", "--syntax-only", "prometheus.yml"], ["rules", "alerts.yml"]):
        *flags, name = arguments
        done = subprocess.run(
            [promtool, "check", *flags, str(DEPLOY / "prometheus" / name)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except OSError as error:
        return getattr(error, "code", 0)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a folder in which the RUN lines of the image's first two stages have run."""
    root = tmp_path_factory.mktemp("image")
    stages = instructions(DEPLOY / "Dockerfile")
    defaults = dict(rest.split("=", 1) for name, rest in stages["install"] if name == "ARG")
    copied = [rest.split() for name, rest in stages["wheel"] if name == "COPY"]
    source = root / "src"  # nothing but what the image copies: the wheel must build from that
    source.mkdir()
    for *names, _ in copied:
        for name in names:
            own = program.ROOT / name
            copy = shutil.copytree if own.is_dir() else shutil.copy
            copy(own, source / name)
    for stage in ("wheel", "install"):
        for name, rest in stages[stage]:
            if name != "RUN":
                continue
            line = rest.replace("/opt/segjax", f"{root}/opt").replace("/wheels", f"{root}/wheels")
            line = line.replace("/constraints.txt", f"{program.ROOT}/requirements.txt")
            line = re.sub(r"^(pip|python) ", rf"{sys.executable} -m \1 ", line)
            line = line.replace(" -m python -m ", " -m ")
            done = subprocess.run(
                ["/bin/sh", "-c", line], cwd=source, capture_output=True, text=True,
                env={**os.environ, **defaults},
            )  # fmt: skip
            assert done.returncode == 0, (line, done.stderr[-2000:])
    return root


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_the_image_runs_serves(installed, tmp_path):
    """In a clean virtual environment: the wheel and its extras alone, no file of the repository."""
    code, text = program.run("--config=configs/quickstart.py:debug", f"--workdir={tmp_path}/run")
    assert code == 0, text
    port = free_port()
    (command,) = commands_of(DEPLOY / "Dockerfile")
    command = [
        word.replace("/model", f"{tmp_path}/run").replace("8000", str(port)) for word in command
    ]
    process = subprocess.Popen(
        [str(installed / "opt/bin" / command[0]), *command[1:]], cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path),
            "SEGJAX_CACHE": str(tmp_path / "cache"),
        },
    )  # fmt: skip
    try:
        end = time.monotonic() + 240
        while status(f"http://127.0.0.1:{port}/readyz") != 200:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.5)
        assert status(f"http://127.0.0.1:{port}/healthz") == 200
        check = re.findall(
            r"CMD (\[.*\])$", dict(instructions(DEPLOY / "Dockerfile")["server"])["HEALTHCHECK"]
        )
        words = [word.replace("8000", str(port)) for word in json.loads(check[0])]
        assert subprocess.run([sys.executable, *words[1:]]).returncode == 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
