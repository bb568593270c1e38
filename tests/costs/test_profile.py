"""What a trace says of each operation: its time, and the module it comes from."""

import json
from types import SimpleNamespace

import jax
import pytest

from segjax.costs import profile
from segjax.errors import ConfigError
from segjax.runs import train

HLO = """\
HloModule jit_train_step, is_scheduled=true

%body_of_fusion (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %exp.1 = f32[8]{0} exponential(%p), metadata={op_name="jit(s)/jvp(Net)/down0/exp" stack_frame_id=1}
  ROOT %pad.1 = f32[9]{0} pad(%exp.1, %p), padding=0_1
}

ENTRY %main (mu: f32[3]) -> f32[] {
  %mu = f32[3]{0} parameter(0), metadata={op_name="state.opt_state[1].mu[\\'up0\\'][\\'conv\\'][\\'kernel\\']"}
  %conv.1 = f32[8]{0} convolution(%x, %w), metadata={op_name="jit(s)/jvp(Net)/down0/conv/conv_general_dilated"}
  %loss = (f32[8]{0}, /*index=1*/s32[]) fusion(%conv.1), kind=kLoop, calls=%body_of_fusion, metadata={op_name="jit(s)/transpose(jvp())/add_any"}
  %pad_fusion = f32[9]{0:T(8,128)} fusion(%conv.1), kind=kLoop, calls=%body_of_fusion
  %conv.2 = f32[3]{0} convolution(%x, %loss), window={size=3}
  %copy.1 = f32[3]{0} copy(%conv.1)
  %while.1 = (f32[8]) while(%copy.9), condition=%c, body=%b
  ROOT %adam = f32[3]{0} fusion(%mu, %conv.2), kind=kLoop, calls=%other, metadata={op_name="jit(s)/add"}
}
"""  # noqa: E501


@pytest.mark.parametrize("text", ["9:3", "x", "5:20", "0:2", "3", "1:2:3", "-1:2"])
def test_other_steps_are_one_line_that_says_which_there_are(text):
    with pytest.raises(ConfigError, match=r"first:last, both included.*<= 12"):
        profile.parse(text, total_steps=12)


def test_steps_include_both_ends(tmp_path):
    assert list(profile.parse("3:5", total_steps=5)) == [3, 4, 5]
    tracer = profile.Tracer(tmp_path, "3:5", 12)
    tracer.check(2)
    with pytest.raises(ConfigError, match="goes on after step 3"):
        tracer.check(3)


@pytest.mark.parametrize(
    ("op_name", "where"),
    [
        ("jit(step)/jvp(Net)/down0/conv1/conv/conv", ("down0/conv1/conv", "forward")),
        ("jit(step)/transpose(jvp(Net))/down0/norm/mul", ("down0/norm", "backward")),
        ("jit(step)/while/body/closed_call/jvp(Net)/up0/jit(relu)/max", ("up0", "forward")),
        (
            "jit(s)/transpose(jvp(Net))/jvp(Net)/checkpoint/rematted_computation/up0/conv/conv",
            ("up0/conv", "recomputed"),
        ),
        ("jit(step)/vmap(jvp(Net))/up0/norm/cond/branch_0_fun/dot", ("up0/norm", "forward")),
        ("jit(step)/jvp(Net)/head/bhwc,ck->bhwk/dot_general", ("head", "forward")),
        ("jit(step)/jvp(Net)/Net.decode/up0/up0.mix/conv/dot", ("up0/conv", "forward")),
        ("jit(step)/transpose(jvp(Net))/add_any", ("Net", "backward")),
        ("jit(step)/jvp(jit(_where))/select_n", (profile.OUTSIDE, "forward")),
        ("jit(step)/vmap(jit(_uniform))/vmap()/xor", (profile.OUTSIDE, "")),
    ],
)
def test_where_a_name_stack_points(op_name, where):
    assert profile.place(op_name) == where


def test_the_source_of_operations():
    program = profile.Program(HLO)
    assert program.module == "jit_train_step"
    assert program.instructions["loss"].opcode == "fusion"
    sources = {name: program.source(name)[:2] for name in program.instructions}
    assert sources["conv.1"] == ("down0/conv", "forward")
    assert sources["loss"] == (profile.OUTSIDE, "backward")  # its own name, not its body's
    assert sources["pad_fusion"] == ("down0", "forward")  # it has none: what it computes
    assert sources["conv.2"] == ("up0/conv", "backward")  # the gradient of that weight
    assert sources["copy.1"] == ("near down0/conv", "forward")
    assert program.source("unheard_of") == ("", "", "")


def test_overlapping_operations_share_the_time():
    program = profile.Program(HLO)
    runs = [("while.1", 0, 100), ("conv.1", 10, 50), ("conv.2", 30, 70), ("conv.1", 80, 90)]
    spent = profile.shared_time([profile.Event("cpu", *run) for run in runs], program)
    assert spent == {"conv.1": 20 + 10 + 10, "conv.2": 10 + 20, "while.1": 10 + 10 + 10}
    assert sum(spent.values()) == 100


def test_an_operation_ends_where_its_end_is_said():
    """On the CPU a launch is short and the work goes on; other programs are not ours."""

    def event(name, start, end, **stats):
        return SimpleNamespace(name=name, start_ns=start, end_ns=end, stats=stats.items())

    ours = dict(hlo_module="jit_train_step")
    events = [
        event("conv.1", 0, 5, hlo_op="conv.1", _p=7, **ours),
        event("end: conv.1", 60, 61, _c=7),
        event("conv.2", 5, 20, hlo_op="conv.2", _p=8, **ours),
        event("conv.2", 20, 30, hlo_op="conv.2", hlo_module="jit_eval_step"),
        event("ThunkExecutor::Execute", 0, 100),
    ]
    kernels = [
        event("cudnn::kernel", 0, 9, hlo_op="conv.1", **ours),
        event("mystery", 9, 12),
        event("MemcpyH2D", 0, 12),
    ]
    planes = [
        SimpleNamespace(name="/host:CPU", lines=[SimpleNamespace(name="pool", events=events)]),
        SimpleNamespace(
            name="/device:GPU:0", lines=[SimpleNamespace(name="Stream #7", events=kernels)]
        ),
    ]
    data = SimpleNamespace(planes=planes)
    found = [event[1:] for event in profile.events_of(data, profile.Program(HLO))]
    on_cpu, on_gpu = [("conv.1", 0, 60), ("conv.2", 5, 20)], [("conv.1", 0, 9), ("mystery", 9, 12)]
    assert found == on_cpu + on_gpu


@pytest.mark.slow
def test_a_traced_run(tmp_path, tiny_config, capfd):
    config = tiny_config(total_steps=4, evals__val__every_percent=50)  # evaluates between the two
    assert train.run(tmp_path, config, profile_steps="2:3") == train.DONE
    said = capfd.readouterr().err
    assert "steps 2 to 3:" in said and "ms a step" in said and "for XProf and Perfetto:" in said
    record = json.loads((tmp_path / "profile" / "ops.json").read_text())
    assert record["steps"] == [2, 3]
    ops = record["ops"]
    assert [op["ms"] for op in ops] == sorted((op["ms"] for op in ops), reverse=True)
    assert 0.05 < sum(op["share"] for op in ops) <= 1
    assert sum(op["ms"] for op in ops) <= record["step_ms"]
    where = {(op["module"], op["direction"]) for op in ops}
    assert {("down0/conv1/conv", "forward"), ("down0/conv1/conv", "backward")} <= where
    (trace,) = (tmp_path / "profile" / "plugins" / "profile").iterdir()
    assert (trace / "perfetto_trace.json.gz").stat().st_size > 1000
    assert list(trace.glob("*.xplane.pb"))
    with pytest.raises(RuntimeError):
        jax.profiler.stop_trace()  # none is left running
