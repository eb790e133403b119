"""Steps with prefill: overlap of chunk and decodes, several chunks, unequal decodes."""

from __future__ import annotations

import numpy as np
import pytest
from hardware_helpers import MOE, profile_folder

from agentserve_gym.calibration.fit import profile_case
from agentserve_gym.calibration.skewed_steps import skewed_steps
from agentserve_gym.hardware import BatchStep, kv_pool_blocks, latency_model
from agentserve_gym.hardware.catalogue import accelerator, model
from agentserve_gym.hardware.coefficients import OverlapAttention
from agentserve_gym.hardware.pricing.overlap import OverlapPricer
from agentserve_gym.hardware.pricing.timing import prefill_area

PROFILED = [
    "rtx-4090/llama-3.1-8b/tp1",
    "rtx-pro-6000/llama-3.1-8b/tp1",
    "rtx-pro-6000/llama-3.1-8b/tp2",
    f"rtx-pro-6000/{MOE}/tp1",
    f"rtx-pro-6000/{MOE}/tp2",
    "rtx-pro-6000/qwen3-32b/tp1",
    "rtx-pro-6000/qwen3-32b/tp2",
]


def overlap(**changes):
    """Alone: chunk + history; beside: count * context / 100; half of the shorter counts."""
    prefill = {"chunks": [100, 200], "histories": [0, 100, 300]}
    prefill["seconds"] = [[100.0, 200.0, 400.0], [200.0, 300.0, 500.0]]
    beside = {"counts": [1, 10], "contexts": [100, 200, 1000]}
    beside["seconds"] = [[1.0, 2.0, 10.0], [10.0, 20.0, 100.0]]
    beside["serial"] = [[0.5, 0.5], [0.5, 1.0]]
    beside["extra"] = [[0.0, 0.0], [0.0, 3.0]]
    skew = {"counts": [1, 10], "rates": [0.2, 0.8], "share": [[0.4, 0.2], [0.4, 0.2]]}
    whole = {"prefill": prefill, "beside": beside, "skew": skew}
    for name, value in changes.items():
        group, field = name.split("__")
        whole[group][field] = value
    return OverlapAttention.model_validate(whole)


def priced(count, context, chunks, longest=None, histories=None):
    """Attention of chunks and of decodes with the given sum of contexts."""
    histories = histories or [0] * len(chunks)
    area = sum(map(prefill_area, chunks, histories))
    longest = -(-context // count) if longest is None and count else longest or 0
    shape = (count, context, longest, len(chunks), sum(chunks), area)
    return OverlapPricer(overlap().plain()).run(0.0, *shape, steps=1)[0]


def test_a_chunk_alone_is_read_from_its_table():
    assert priced(0, 0, [150]) == pytest.approx(150)
    assert priced(0, 0, [150], histories=[250]) == pytest.approx(400)
    assert priced(0, 0, [150], histories=[1000]) == pytest.approx(1150)  # goes on
    assert priced(0, 0, [50]) == pytest.approx(100)  # no less than the smallest


def test_the_shorter_of_chunk_and_decodes_is_partly_hidden():
    assert priced(10, 10 * 400, [100]) == pytest.approx(100 + 0.5 * 40)
    assert priced(10, 10 * 1500, [100]) == pytest.approx(150 + 0.5 * 100)
    assert priced(10, 10 * 400, [200]) == pytest.approx(200 + 1.0 * 40 + 3)
    assert priced(10, 10 * 400, [150]) == pytest.approx(150 + 0.75 * 40 + 1.5)


def test_a_batch_beyond_the_grid_goes_on():
    assert priced(20, 20 * 1000, [200]) == pytest.approx(200 + 200 + 3 * (1 + 10 / 9))


def test_further_chunks_cost_what_they_cost_alone_but_the_launch():
    assert priced(0, 0, [150, 150]) == pytest.approx(150 + 50)
    assert priced(10, 4000, [150, 150, 150]) == pytest.approx(150 + 0.75 * 40 + 1.5 + 2 * 50)


def test_a_chunk_beyond_the_grid_is_as_many_of_the_largest():
    """400 tokens are two chunks of 200, of which the second has the first as its history."""
    assert priced(0, 0, [400]) == pytest.approx(200 + 400)
    assert priced(0, 0, [400], histories=[100]) == pytest.approx(300 + 500)


def test_unequal_decodes_cost_a_share_of_the_way_to_the_longest():
    """Mean 400 of at most 800: rate 0.5, share 0.3."""
    assert priced(10, 4000, [100], longest=800) == pytest.approx(100 + 0.5 * (40 + 0.3 * 40))
    # The share falls as the mean comes near the longest.
    assert priced(10, 4000, [100], longest=500) == pytest.approx(100 + 0.5 * (40 + 0.2 * 10))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("prefill__chunks", [200, 100], "chunks must increase"),
        ("prefill__seconds", [[1.0, 2.0, 3.0]], "seconds must have 2 rows of 3 values"),
        ("beside__serial", [[0.5], [0.5]], "beside.serial must have 2 rows of 2 values"),
        ("skew__share", [[0.5, 0.5]], "share must have 2 rows of 2 values"),
        ("skew__rates", [0.5, 0.5], "rates must increase"),
    ],
)
def test_tables_of_the_wrong_shape_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        overlap(**{name: value})


def test_skewed_steps_fit_their_pool_and_are_reproducible():
    steps = skewed_steps(300, 20_000, seed=3)
    assert steps == skewed_steps(300, 20_000, seed=3) != skewed_steps(300, 20_000, seed=4)
    assert len({step.prefill_count for step in steps}) == 4
    for step in steps:
        used = step.decode_context_tokens + step.prefill_tokens + step.prefill_history_tokens
        assert used <= 20_000
        assert step.decode_context_tokens <= step.decode_count * step.decode_max_context_tokens
        assert step.prefill_tokens >= step.prefill_count


@pytest.mark.parametrize("name", PROFILED)
def test_compact_follows_its_tables_in_crowded_and_skewed_steps(name):
    """Weighted by time within 1.2 %, without bias; no step of 400 more than 12 % off."""
    folder = profile_folder(name)
    what = profile_case(folder)
    on, of, tensor_parallel = what.accelerator, what.model, what.tensor_parallel
    pool = 16 * kv_pool_blocks(accelerator(on), model(of), tensor_parallel)
    steps: list[BatchStep] = skewed_steps(400, pool, seed=7)
    compact = latency_model(on, of, tensor_parallel, source="compact")
    tables = latency_model(on, of, tensor_parallel, source=str(folder))
    priced_s = np.array([compact.step_s(step) for step in steps])
    true_s = np.array([tables.step_s(step) for step in steps])
    misses = priced_s - true_s
    assert np.abs(misses).sum() < 0.012 * true_s.sum()
    assert abs(misses.sum()) < 0.01 * true_s.sum()
    assert np.abs(misses / true_s).max() < 0.12
