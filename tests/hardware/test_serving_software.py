"""What the host adds to steps: constants of serving software, on top of coefficient files."""

from __future__ import annotations

import pytest
from hardware_helpers import decode, prefill

from agentserve_gym.hardware import (
    latency_model,
    latency_software,
    list_serving_software,
    model,
    serving_software,
)
from agentserve_gym.hardware.forward_passes import forward_pass_errors

NVFP4, DECODE_GRAPHS = "llama-3.3-70b-nvfp4", "vllm-0.15-decode-graphs"


def test_every_entry_loads_and_names_its_sources():
    for name in list_serving_software():
        software = serving_software(name)
        assert software.name == name
        assert set(software.sources) == {"step_s", "layer_launch_s", "request_s", "token_s"}


def test_decode_steps_pay_the_host_and_no_launches():
    kernels = latency_model("b200", NVFP4, software="none")
    served = latency_model("b200", NVFP4, software=DECODE_GRAPHS)
    step = decode(16, 16 * 3000)
    host = serving_software(DECODE_GRAPHS)
    assert served.step_s(step) - kernels.step_s(step) == pytest.approx(host.step_s)
    run, plain = served.decode_run(step), kernels.decode_run(step)
    assert (run.growth_s, run.steps) == (plain.growth_s, plain.steps)


def test_linear_layers_of_a_prefill_take_at_least_their_launches():
    kernels = latency_model("b200", NVFP4, software="none")
    served = latency_model("b200", NVFP4, software=DECODE_GRAPHS)
    host = serving_software(DECODE_GRAPHS)
    launches_s = model(NVFP4).layers * host.layer_launch_s
    short, long = prefill(64), prefill(8192)
    assert served.step_s(long) - kernels.step_s(long) == pytest.approx(host.step_s)
    assert launches_s < served.step_s(short) < launches_s + 0.005
    assert served.step_s(short) > 2 * kernels.step_s(short)


def test_coefficients_may_name_their_software():
    auto = latency_model("b200", NVFP4)
    named = latency_model("b200", NVFP4, software=DECODE_GRAPHS)
    assert auto.step_s(decode(8, 8000)) == named.step_s(decode(8, 8000))
    arguments = {"kv_dtype": None, "source": "auto"}
    software = latency_software("b200", NVFP4, 1, software="auto", **arguments)
    assert software == serving_software(DECODE_GRAPHS)
    assert latency_software("b200", "llama-3.1-70b", 1, software="auto", **arguments) is None
    named = latency_software("b200", "llama-3.1-70b", 1, software="vllm-0.19", **arguments)
    assert named == serving_software("vllm-0.19")


def test_other_timings_take_no_host_time():
    with pytest.raises(ValueError, match=r"'vllm-0\.19', but b200/phi-3\.5-moe/tp1 is priced by"):
        latency_model("b200", "phi-3.5-moe", software="vllm-0.19")
    with pytest.raises(ValueError, match="serving software"):
        latency_model("b200", NVFP4, software="vllm-0.20")


def test_launches_explain_short_prefills_of_a_small_model():
    def worst(software: str) -> float:
        rows = forward_pass_errors("auto", software)
        small = [r for r in rows if r.model == "llama-3.1-8b" and r.tokens <= 512]
        return max(abs(row.error_percent) for row in small)

    assert worst("none") > 50
    assert worst("vllm-0.19") < 10
