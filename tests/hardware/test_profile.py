"""Profile tables: reading them, refusing bad ones, and pricing steps from them."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hardware_helpers import (
    MOE,
    decode,
    decode_us,
    mixed_us,
    prefill,
    profile_folder,
    synthetic_profile,
    write_csv,
    write_profile,
)

from agentserve_gym.hardware import (
    BatchStep,
    find_profile,
    latency_model,
    load_profile,
)
from agentserve_gym.hardware.pricing.profile import AttentionGrid
from agentserve_gym.hardware.profile import attention_table
from agentserve_gym.hardware.profile_tables import ATTENTION_COLUMNS, DEFAULT_SKEW

LAYERS = 32


def fixed_us(tokens: int, sequences: int) -> float:
    """Linear layers and head of the synthetic tables: qkv, two norms, embedding."""
    return LAYERS * 3 * (100 + 2 * tokens) + 10 + tokens + 300 + 4 * sequences


def test_a_decode_step_is_the_sum_of_its_layers(tmp_path):
    latency = synthetic_profile(tmp_path)
    expected = fixed_us(6, 6) + LAYERS * decode_us(6, 300)
    assert latency.step_s(decode(6, 6 * 300)) == pytest.approx(expected * 1e-6, rel=1e-9)


def test_a_mixed_step_is_the_sum_of_its_layers(tmp_path):
    latency = synthetic_profile(tmp_path)
    expected = fixed_us(103, 4) + LAYERS * mixed_us(100, 700, 3, 200)
    assert latency.step_s(prefill(100, 700, 3, 200)) == pytest.approx(expected * 1e-6, rel=1e-9)


def test_unequal_contexts_cost_a_share_of_the_step_to_the_longest(tmp_path):
    latency = synthetic_profile(tmp_path)
    step = decode(4, 400, 250)
    attention = decode_us(4, 100) + DEFAULT_SKEW * (decode_us(4, 250) - decode_us(4, 100))
    expected = fixed_us(4, 4) + LAYERS * attention
    assert latency.step_s(step) == pytest.approx(expected * 1e-6, rel=1e-9)


def test_a_second_chunk_costs_what_it_costs_alone_less_the_launch(tmp_path):
    latency = synthetic_profile(tmp_path)
    two = BatchStep(0, 0, 0, 2, 128, 0, 2 * 64 * 65 / 2, 2)
    launch = mixed_us(16, 0, 0, 0)
    expected = fixed_us(128, 2) + LAYERS * (2 * mixed_us(64, 0, 0, 0) - launch)
    assert latency.step_s(two) == pytest.approx(expected * 1e-6, rel=1e-9)


def test_steps_outside_the_grid_are_counted_and_contexts_go_on(tmp_path):
    latency = synthetic_profile(tmp_path)
    latency.step_s(decode(4, 4 * 900))
    assert latency.outside_grid == 0
    beyond = latency.step_s(decode(4, 4 * 5000))
    assert latency.outside_grid == 1
    expected = fixed_us(4, 4) + LAYERS * decode_us(4, 5000)
    assert beyond == pytest.approx(expected * 1e-6, rel=1e-9)
    latency.step_s(prefill(300))
    latency.decode_run(decode(30, 3000))
    assert latency.outside_grid == 3


def test_a_grid_inside_another_is_filled_from_it(tmp_path):
    """Chunks that were measured with long contexts only take short ones from their neighbours."""
    folder = write_profile(tmp_path / "profile")
    full = load_profile(folder).attention
    path = folder / "attention.csv"
    kept = [row for row in full.tolist() if row[0] != 64 or row[2] == 0 or row[3] >= 512]
    write_csv(path, list(ATTENTION_COLUMNS), [tuple(row) for row in kept])
    grid = AttentionGrid(attention_table(load_profile(folder), 1))
    assert grid.one_chunk(64, 64, 4, 32) == pytest.approx(mixed_us(64, 64, 4, 32) * 1e-6, rel=1e-9)
    assert grid.one_chunk(64, 64, 30, 600) == pytest.approx(  # decodes beyond the grid go on
        mixed_us(64, 64, 30, 600) * 1e-6, rel=1e-9
    )


def test_gzipped_files_read_the_same(tmp_path):
    plain = load_profile(write_profile(tmp_path / "plain"))
    packed = write_profile(tmp_path / "packed")
    for path in list(packed.glob("*.csv")):
        with gzip.open(f"{path}.gz", "wb") as stream:
            stream.write(path.read_bytes())
        path.unlink()
    again = load_profile(packed)
    assert np.array_equal(again.attention, plain.attention)
    assert again.dense.keys() == plain.dense.keys()


def test_profiles_are_found_in_either_layout(tmp_path):
    own = write_profile(tmp_path / "own" / "rtx-4090" / "qwen3-32b" / "tp2")
    published = write_profile(
        tmp_path / "perf" / "RTXPRO6000" / "Qwen" / "Qwen3-32B" / "bf16" / "tp2"
    )
    write_profile(tmp_path / "perf" / "RTXPRO6000" / "Qwen" / "Qwen3-32B" / "fp8" / "tp1")
    assert find_profile(tmp_path / "own", "rtx-4090", "qwen3-32b", 2) == own
    assert find_profile(tmp_path / "perf", "rtx-pro-6000", "qwen3-32b", 2) == published
    for absent in (("rtx-4090", "qwen3-32b", 2), ("rtx-pro-6000", "qwen3-32b", 1)):
        assert find_profile(tmp_path / "perf", *absent) is None


def test_of_expert_tables_the_whole_ones_are_read(tmp_path):
    folder = write_profile(tmp_path / "tp1")
    columns = ["ep", "tokens", "activated_experts", "time_us"]
    rows = [(1, 1, 8, 48.0), (1, 2, 8, 56.0), (2, 1, 4, 35.0), (2, 2, 8, 49.0)]
    write_csv(folder / "moe.csv", columns, rows)
    assert load_profile(folder).experts.tolist() == [[1, 8, 48.0], [2, 8, 56.0]]
    write_csv(folder / "moe.csv", columns, rows[2:])
    with pytest.raises(ValueError, match=r"moe\.csv has no rows with ep 1"):
        load_profile(folder)


def test_skew_buckets_are_averaged_by_batch_size_and_by_rate(tmp_path):
    folder = write_profile(tmp_path / "profile")
    header = ["pc", "n_label", "skew_rate_label", "kv_big_label", "kp_label", "alpha", "n_samples"]
    rows = [
        (0, "n<=8", "sr<=15%", "kvB<=1k", "kp=0", 0.1, 3),
        (0, "n<=8", "sr<=40%", "kvB<=1k", "kp=0", 0.3, 1),
        (0, "n<=8", "sr>70%", "kvB<=1k", "kp=0", 0.9, 9),
        (64, "n<=8", "sr<=40%", "kvB<=1k", "kp=0", 0.2, 1),
        (128, "n<=8", "sr<=40%", "kvB<=1k", "kp<=2k", 0.4, 3),
        (64, "n<=8", "sr>70%", "kvB<=1k", "kp=0", -9.0, 1),  # noise: bounded at -1
        (64, "n<=8", "sr>70%", "kvB<=4k", "kp=0", 0.8, 9),
        (64, "n<=32", "sr<=15%", "kvB<=1k", "kp=0", 0.3, 0),  # no samples
        (64, "n>256", "sr<=40%", "kvB<=1k", "kp=0", 0.8, 1),
    ]
    write_csv(folder / "skew_fit.csv", header, rows)
    tables = load_profile(folder)
    assert tables.skew_by_decodes([8, 16]) == pytest.approx([0.15, DEFAULT_SKEW])
    few, many = tables.skew_by_rate([5, 16])
    # Below the rates that were measured the nearest, between them linear.
    assert few == pytest.approx([0.35, 0.35, 0.35, 0.35 + 0.27 * 25 / 60, 0.62])
    assert many == [DEFAULT_SKEW] * 5


def _drop_file(folder):
    (folder / "attention.csv").unlink()


def _append(name, line):
    def change(folder):
        with (folder / name).open("a") as stream:
            stream.write(line + "\n")

    return change


def _replace(name, text):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_file, r"has no attention\.csv"),
        (_append("dense.csv", "qkv_proj,8,abc"), r"dense\.csv line 29: time_us = 'abc'"),
        (_append("attention.csv", "0,0,1,16,nan"), r"attention\.csv line \d+: time_us = 'nan'"),
        (_append("dense.csv", "qkv_proj,-8,3"), "tokens = '-8' is not a number >= 0"),
        (_append("per_sequence.csv", "lm_head,8"), "time_us = None is not a number"),
        (_replace("dense.csv", "layer,tokens\nx,1\n"), "lacks the columns .*time_us"),
        (_replace("dense.csv", "layer,tokens,time_us\n"), "has no rows"),
        (_replace("moe.csv", "tokens,time_us\n1,2\n"), "lacks the columns .*activated_experts"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path, change, message):
    folder = write_profile(tmp_path / "profile")
    change(folder)
    with pytest.raises(ValueError, match=message):
        load_profile(folder)


def test_wrong_gzip_and_missing_folder_are_refused(tmp_path):
    folder = write_profile(tmp_path / "profile")
    (folder / "dense.csv").rename(folder / "dense.csv.gz")
    with pytest.raises(ValueError, match=r"cannot read .*dense\.csv\.gz"):
        load_profile(folder)
    with pytest.raises(ValueError, match="no profile folder"):
        load_profile(tmp_path / "none")


@pytest.mark.parametrize(
    ("keep", "message"),
    [("0,0,", "no rows with a prefill chunk"), ("16,0,", "no rows with decodes alone")],
)
def test_an_attention_table_without_a_kind_of_step_is_refused(tmp_path, keep, message):
    folder = write_profile(tmp_path / "profile")
    path = folder / "attention.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(row for row in rows if row.startswith(keep))]))
    with pytest.raises(ValueError, match=message):
        latency_model("rtx-4090", "llama-3.1-8b", source=str(folder))


def test_a_model_with_experts_needs_their_table(tmp_path):
    folder = write_profile(tmp_path / "profile")
    with pytest.raises(ValueError, match=r"has experts, but the profile has no moe\.csv"):
        latency_model("rtx-pro-6000", MOE, source=str(folder))


# The published compact coefficients of four cases, seconds: d, h, a and z of the linear form
# max(d0 + d1*T, d2 + d3*T) + h0 + h1*S + a0 + a1*n + a2*ctx | z0 .. z5.
PUBLISHED = {
    "rtx-4090/llama-3.1-8b/tp1": (
        (1.558e-2, 2.95e-5, 4.69e-3, 8.85e-5),
        (1.12e-3, 2.78e-6),
        (6.06e-4, 3.18e-6, 1.407e-7),
    ),
    "rtx-pro-6000/llama-3.1-8b/tp1": (
        (9.995e-3, 1.60e-5, 5.36e-3, 3.50e-5),
        (7.29e-4, 5.4e-7),
        (3.92e-4, 5.20e-6, 9.41e-8),
    ),
    "rtx-pro-6000/qwen3-32b/tp2": (
        (2.828e-2, 1.13e-4, 1.81e-2, 1.55e-4),
        (5.45e-4, 1.16e-6),
        (7.28e-4, 6.63e-6, 9.93e-8),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_measured_tables_reproduce_the_published_linear_form(name):
    """A straight line through the tables finds the published slope; whole steps agree to 5 %."""
    on, of, ranks = name.split("/")
    folder = profile_folder(name)
    latency = latency_model(on, of, int(ranks[2:]), source=str(folder))
    (d0, d1, d2, d3), (h0, h1), (a0, a1, a2) = PUBLISHED[name]
    errors = []
    for count in (1, 4, 16, 32, 64, 128):
        for context in (256, 512, 1024, 2048, 4096):
            linear = max(d0 + d1 * count, d2 + d3 * count) + h0 + h1 * count
            published = linear + a0 + a1 * count + a2 * count * context
            errors.append(published / latency.step_s(decode(count, count * context)) - 1)
    assert np.abs(errors).mean() < 0.03
    assert abs(np.mean(errors)) < 0.02
    steep = latency.step_s(decode(64, 64 * 4096)) - latency.step_s(decode(64, 64 * 1024))
    assert steep / (64 * 3072) == pytest.approx(a2, rel=0.1)


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        ("rtx-4090/llama-3.1-8b", (1, 1, 1)),
        ("rtx-pro-6000/llama-3.1-8b", (1, 1, 1)),
        ("rtx-pro-6000/qwen3-32b", (2, 1, 1)),
        (f"rtx-pro-6000/{MOE}", (1, 2, 2)),
    ],
)
def test_shipped_coefficients_follow_the_tables(name, ranks):
    """Decode within 2 % and mixed steps within 5 % of the tables on typical batches."""
    on, of = name.split("/")
    tensor, expert, data = ranks
    folder = profile_folder(f"{name}/tp{tensor}")
    spread = {"expert_parallel": expert, "data_parallel": data}
    tables = latency_model(on, of, tensor, source=str(folder), **spread)
    compact = latency_model(on, of, tensor, source="compact", **spread)
    for step in (decode(32, 32_000), decode(100, 90_000, 3000), decode(7, 9000, 4000)):
        assert compact.step_s(step) == pytest.approx(tables.step_s(step), rel=0.02)
    for step in (prefill(2048), prefill(1900, 0, 100, 900), prefill(500, 1548, 60, 700)):
        assert compact.step_s(step) == pytest.approx(tables.step_s(step), rel=0.05)


def test_published_tables_fill_into_one_grid():
    """Both of the grids that a folder holds are met exactly at their points."""
    tables = load_profile(profile_folder("rtx-pro-6000/llama-3.1-8b/tp1"))
    grid = AttentionGrid(attention_table(tables, LAYERS))
    mixed = tables.attention[(tables.attention[:, 0] > 0) & (tables.attention[:, 2] > 0)]
    for chunk, history, count, context, micros in mixed[::97]:
        seconds = grid.seconds(1, chunk, history, int(count), context, context)
        assert seconds == pytest.approx(micros * LAYERS * 1e-6, rel=1e-9)
