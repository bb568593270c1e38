"""The launch files parse, and start run.py with flags that it has."""

import pathlib
import re
import shutil
import subprocess

import pytest

from tests import program

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse(script):
    assert script.stat().st_mode & 0o111, "can be run"
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_flag_they_give_exists():
    code, text = program.run("--helpfull")
    known = set(re.findall(r"--(?:\[no\])?(\w+)", text))
    assert {"workdir", "coordinator"} <= known, text
    used = set()
    for file in LAUNCH.iterdir():
        text = re.sub(r"\\\n", " ", file.read_text())  # one line for each command
        text = re.sub(r"\n +- (?=--|run\.py)", " ", text)  # also of the container
        for call in re.findall(r"run\.py (.*)|ARGUMENTS=\S*:-(.*)", text):
            used |= set(re.findall(r"(?:^|[ \"-])--(\w+)=", " ".join(call)))
    job = {"config", "workdir", "coordinator", "num_processes", "process_id"}
    assert used == job | {"mode", "study", "output"}
    code, text = program.run("--mode=study", "--help")
    assert used <= known | set(re.findall(r"--(?:\[no\])?(\w+)", text))


def test_the_jobset_is_what_run_py_expects_to_find():
    yaml = pytest.importorskip("yaml", reason="pyyaml comes with orbax, not by our own wish")
    (jobset,) = yaml.safe_load_all((LAUNCH / "gke_jobset.yaml").read_text())
    job = jobset["spec"]["replicatedJobs"][0]
    pod = job["template"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    env = {item["name"]: item["value"] for item in container["env"]}
    name = f"{jobset['metadata']['name']}-{job['name']}-0-0.{jobset['metadata']['name']}"
    assert env["JAX_COORDINATOR_ADDRESS"].partition(":")[0] == name
    assert int(env["JAX_NUM_PROCESSES"]) == job["template"]["spec"]["parallelism"]
    assert job["template"]["spec"]["completionMode"] == "Indexed"
    assert pod["restartPolicy"] == "Never"
    actions = {
        code: rule["action"]
        for rule in job["template"]["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
        for code in rule["onExitCodes"]["values"]
    }
    assert actions == {2: "FailJob", 75: "Ignore"}


def test_the_indexed_job_has_workers_that_go_on_after_75_and_not_after_2():
    yaml = pytest.importorskip("yaml", reason="pyyaml comes with orbax, not by our own wish")
    job = yaml.safe_load((LAUNCH / "kubernetes_study.yaml").read_text())["spec"]
    assert job["completionMode"] == "Indexed" and job["completions"] == job["parallelism"]
    actions = {
        code: rule["action"]
        for rule in job["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
        for code in rule["onExitCodes"]["values"]
    }
    assert actions == {2: "FailIndex", 75: "Ignore"}


@pytest.mark.parametrize("script", ["slurm.sh", "slurm_study.sh"])
def test_slurm_starts_again_after_75_and_never_after_2(tmp_path, script):
    """With stand-ins for srun, python and scontrol; failed runs of a study are not tried again."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    for code, again in ((0, False), (75, True), (2, False), (1, script == "slurm.sh")):
        log = tmp_path / f"{code}"
        for name in ("srun", "python"):
            (tmp_path / name).write_text(f"#!/bin/bash\nsleep 0.1\nexit {code}\n")
        (tmp_path / "scontrol").write_text(f'#!/bin/bash\necho "$@" > {log}\n')
        for name in ("srun", "python", "scontrol"):
            (tmp_path / name).chmod(0o755)
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
        env |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
        done = subprocess.run(["bash", LAUNCH / script], env=env, timeout=20)
        assert done.returncode == code
        assert log.exists() == again, code
    env["SLURM_RESTART_COUNT"] = "50"
    log.unlink(missing_ok=True)
    subprocess.run(["bash", LAUNCH / script], env=env, timeout=20)
    assert not log.exists(), "failures are not tried again for ever"
