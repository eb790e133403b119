"""What every latency model must satisfy, whatever its source."""

from __future__ import annotations

import copy
import pickle
import time

import pytest
from hardware_helpers import assert_rising, decode, every_source, later, prefill, replaced
from hypothesis import given
from hypothesis import strategies as st

from agentserve_gym.hardware import UNBOUNDED_STEPS, BatchStep, DecodeRun, latency_model

ROOFLINES = ["roofline", "roofline experts", "roofline latent", "roofline states"]
KINDS = [
    "compact",
    "compact experts",
    "kernels",
    "profile",
    "roofline windows",
    *ROOFLINES,
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return every_source(tmp_path_factory.mktemp("sources"))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_decode_run_is_what_stepping_gives(models, kind, data):
    model = models[kind]
    count = data.draw(st.integers(1, 700), label="count")
    contexts = data.draw(st.integers(count, count * 40_000), label="context sum")
    mean = -(-contexts // count)
    longest = data.draw(st.integers(mean, max(mean, min(contexts, mean * 8))), label="longest")
    step = decode(count, contexts, longest)
    run = model.decode_run(step)
    assert run.steps >= 1
    assert run.growth_s >= 0
    last = min(run.steps, 3000) - 1
    for ahead in {0, 1, last // 3, last // 2, last}:
        if ahead < run.steps:
            expected = model.step_s(later(step, ahead))
            assert run.first_step_s + ahead * run.growth_s == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_consecutive_runs_cover_a_long_decode(models, kind):
    """2,000 steps from a short context, run by run, against one by one."""
    model, step, ahead = models[kind], decode(5, 5 * 20, 60), 0
    while ahead < 2000:
        run = model.decode_run(later(step, ahead))
        for index in range(min(run.steps, 2000 - ahead)):
            exact = model.step_s(later(step, ahead + index))
            assert run.first_step_s + index * run.growth_s == pytest.approx(exact, rel=1e-12)
        ahead += min(run.steps, 2000)


@pytest.mark.parametrize("kind", KINDS)
def test_more_work_takes_longer(models, kind):
    model = models[kind]
    assert_rising([model.step_s(decode(8, 8 * context)) for context in (64, 256, 900, 5000)])
    assert_rising([model.step_s(decode(n, n * 500)) for n in (1, 8, 16, 64, 200)])
    assert_rising([model.step_s(prefill(chunk)) for chunk in (64, 250, 2048, 8192)])
    assert_rising([model.step_s(prefill(256, history)) for history in (0, 3000, 9000, 60_000)])
    assert_rising([model.step_s(prefill(256, 0, n, 800)) for n in (0, 4, 16, 100)])
    assert_rising([model.step_s(prefill(256, 0, 16, context)) for context in (200, 900, 7000)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_that_does_not_end_its_prompt_samples_nothing(models, kind):
    whole = prefill(256)
    assert models[kind].step_s(replaced(whole, sampled_count=0)) < models[kind].step_s(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_two_prompts_cost_more_than_one_and_less_than_double(models, kind):
    model, one = models[kind], prefill(128)
    two = BatchStep(0, 0, 0, 2, 256, 0, 2 * one.prefill_area, 2)
    assert model.step_s(one) < model.step_s(two) < 2 * model.step_s(one)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_step_takes_no_time(models, kind):
    assert models[kind].step_s(BatchStep()) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_shared_by_copies_and_survive_pickling(models, kind):
    model = models[kind]
    assert copy.deepcopy({"model": model})["model"] is model
    assert copy.copy(model) is model
    again = pickle.loads(pickle.dumps(model))
    for step in (decode(7, 4000, 900), prefill(300, 100, 7, 600)):
        assert again.step_s(step) == model.step_s(step)
    assert again.decode_run(decode(7, 4000)) == model.decode_run(decode(7, 4000))


@pytest.mark.parametrize("value", [prefill(300, 100, 7, 600), DecodeRun(0.5, 0.25, 9)])
def test_shapes_and_runs_are_values(value):
    for again in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert again == value
        assert hash(again) == hash(value)
        assert repr(again) == repr(value)
    assert prefill(300, 100, 7, 600) != prefill(300, 100, 7, 601)
    assert DecodeRun(0.5, 0.25, 9) != DecodeRun(0.5, 0.25, 8)


@pytest.mark.parametrize("kind", ROOFLINES)
def test_the_roofline_is_linear_without_end(models, kind):
    assert models[kind].decode_run(decode(4, 400)).steps == UNBOUNDED_STEPS


@pytest.mark.parametrize("kind", ["compact", "kernels", "profile"])
def test_unequal_contexts_cost_more_than_equal_ones(models, kind):
    model = models[kind]
    assert model.step_s(decode(8, 8000, 4000)) > model.step_s(decode(8, 8000, 1000))
    equal, unequal = prefill(128, 0, 8, 1000), prefill(128, 0, 8, 1000)
    unequal = replaced(unequal, decode_max_context_tokens=4000)
    assert model.step_s(unequal) > model.step_s(equal)


def test_unequal_contexts_cost_what_equal_ones_do_where_skew_was_not_measured():
    """The RTX 4090's profile says so."""
    model = latency_model("rtx-4090", "llama-3.1-8b", source="compact")
    assert model.step_s(decode(8, 8000, 4000)) == model.step_s(decode(8, 8000, 1000))
    equal, unequal = prefill(128, 0, 8, 1000), prefill(128, 0, 8, 1000)
    unequal = replaced(unequal, decode_max_context_tokens=4000)
    assert model.step_s(unequal) == model.step_s(equal)


@pytest.mark.parametrize("kind", KINDS)
def test_pricing_is_fast_enough_for_a_replay(models, kind):
    """A replay of 300 requests prices a few thousand runs; the limit is generous."""
    model, step = models[kind], decode(100, 90_000, 3000)
    start = time.perf_counter()
    for _ in range(5000):
        model.decode_run(step)
        model.step_s(step)
    assert time.perf_counter() - start < 1.0
