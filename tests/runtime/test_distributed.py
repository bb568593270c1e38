import pytest

from segjax.errors import ConfigError
from segjax.runtime import distributed, quirks

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "4"}
STEP = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
RANK = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}


def place(environment=None, coordinator="", process_id=None, num_processes=None):
    return distributed.find_place(
        coordinator, process_id, num_processes, environment=environment or {}
    )


def test_alone_there_is_nothing_to_wait_for():
    assert place() is None
    assert place({**SLURM, **STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None
    assert place({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}) is None
    assert place(coordinator="a:1", process_id=0, num_processes=1) is None


def test_jax_finds_its_way_under_slurm_and_open_mpi_4():
    assert place({**SLURM, **STEP}) == {}
    assert place({**RANK, "OMPI_MCA_orte_hnp_uri": "4096.0;tcp://10.0.0.1:99"}) == {}


def test_open_mpi_5_needs_the_coordinator_and_no_more():
    with pytest.raises(ConfigError, match="--coordinator"):
        place(RANK)
    found = place(RANK, coordinator="n1:1234")
    assert found["process_id"] == 2 and found["num_processes"] == 4
    assert found["local_device_ids"] == [0]


def test_a_jobset_of_kubernetes_by_its_environment():
    found = place({**KUBERNETES, "JAX_COORDINATOR_ADDRESS": "a-0:1", "JAX_NUM_PROCESSES": "2"})
    assert (found["coordinator_address"], found["process_id"], found["num_processes"]) == (
        "a-0:1", 1, 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (dict(coordinator="a:1"), "--process_id and --num_processes missing"),
        (dict(process_id=1), "--coordinator and --num_processes missing"),
        (dict(coordinator="a:1", num_processes=2), "--process_id missing"),
        (dict(process_id=0, num_processes=2), "--coordinator missing"),
        (dict(coordinator="a:1", process_id=2, num_processes=2), "0 <= process_id"),
        (dict(coordinator="a", process_id=0, num_processes=2), "host:port"),
    ],
)
def test_half_a_job_says_what_is_missing(given, missing):
    with pytest.raises(ConfigError, match=missing):
        place(**given)


def test_prediction_in_several_processes_is_refused_before_any_waiting():
    with pytest.raises(ConfigError, match="--mode=predict runs in one process"):
        with distributed.job("127.0.0.1:1", 0, 2, shared=False, what="predict"):
            raise AssertionError


def test_a_process_alone_says_nothing_of_itself():
    assert distributed.name() == ""
    assert distributed.from_first(5) == 5


def test_the_last_words_of_the_first_cause_are_the_ones_to_hear(monkeypatch):
    words = {
        0: "error: process 2 ended: disk full",
        2: "error: disk full",
        3: "error: process 0 ended: process 2 ended: disk full",
    }
    monkeypatch.setattr(distributed, "_last_words", lambda: words)
    monkeypatch.setattr(quirks, "job_client", lambda: (None, 1, 4))
    assert distributed._who_ended() == "error: process 2 ended: disk full"
    del words[2]
    assert distributed._who_ended() == "error: process 2 ended: disk full"


@pytest.mark.parametrize("word", ["x", "-1", "1.5", "²", "1e9", "9" * 5000])
@pytest.mark.parametrize(
    ("name", "around"),
    [
        ("SLURM_STEP_NUM_TASKS", SLURM),
        ("OMPI_COMM_WORLD_SIZE", {}),
        ("OMPI_COMM_WORLD_RANK", RANK),
        ("OMPI_COMM_WORLD_LOCAL_RANK", RANK),
        ("JAX_PROCESS_ID", {"JAX_NUM_PROCESSES": "2"}),
        ("JAX_NUM_PROCESSES", {"JAX_PROCESS_ID": "0"}),
        ("JOB_COMPLETION_INDEX", {"JAX_NUM_PROCESSES": "2"}),
    ],
)
def test_a_word_where_a_launcher_sets_a_number_is_named(name, around, word):
    """Whatever variable is read as a number: the message is one line, with its name and value."""
    coordinator = "" if around in ({}, SLURM) else "a:1"
    with pytest.raises(ConfigError, match=f"^{name}='.*expected a whole number") as error:
        place({**around, name: word}, coordinator=coordinator)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
