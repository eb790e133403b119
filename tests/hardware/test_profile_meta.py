"""meta.yaml: what a profile says of its tables is heeded, or refused where they would mislead."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hardware_helpers import profile_folder, write_csv, write_profile

from agentserve_gym.hardware import load_profile, read_compact_file
from agentserve_gym.hardware.catalogue import DATA
from agentserve_gym.hardware.profile_meta import DEFAULT_SKEW, ProfileMeta, read_profile_meta
from agentserve_gym.hardware.profile_tables import SKEW_RATES

SAID = """\
profiler_version: 1.0.0
architecture: llama
variant: bf16
tp_degrees: [1]
engine_effective:
  enforce_eager: true
  enable_prefix_caching: false
  tensor_parallel_size: 1
  block_size: 16
  hf_overrides:
    num_hidden_layers: 1
    intermediate_size: 7168
skew_profile:
  enabled: true
skew_fit:
  enabled: true
  bucket_axes:
    skew_rate_labels: [sr<=5%, sr<=15%, sr<=40%, sr<=70%, sr>70%]
  per_tp:
    2:
      method: per_bucket_wls_5axis
      alpha_default: 0.04
      bucket_table: tp2/skew_fit.csv
"""


@pytest.fixture
def folder(tmp_path):
    """A profile whose skew is 0.3 in batches of up to 8, and not measured in larger ones."""
    folder = write_profile(tmp_path / "tp2")
    header = ["pc", "n_label", "skew_rate_label", "alpha", "n_samples"]
    rows = [(chunk, "n<=8", "sr<=40%", 0.3, 1) for chunk in (0, 64)]
    write_csv(folder / "skew_fit.csv", header, rows)
    return folder


def write_meta(folder, text):
    (folder.parent / "meta.yaml").write_text(text, encoding="utf-8")


def skew(folder):
    """Alpha of 8 and of 16 decodes: alone, and beside a prefill at one skew rate."""
    tables = load_profile(folder)
    mixed = tables.skew_by_rate([8, 16])
    assert all(row == [row[0]] * len(SKEW_RATES) for row in mixed)
    return [*tables.skew_by_decodes([8, 16]), *(row[0] for row in mixed)]


def test_skew_is_priced_as_measured_and_empty_buckets_as_the_profile_says(folder):
    assert skew(folder) == [0.3, DEFAULT_SKEW, 0.3, DEFAULT_SKEW]
    write_meta(folder, SAID)
    assert skew(folder) == [0.3, 0.04, 0.3, 0.04]


@pytest.mark.parametrize("part", ["skew_profile", "skew_fit"])
@pytest.mark.parametrize("with_table", [True, False])
def test_unmeasured_skew_costs_nothing_whatever_the_folder_holds(folder, part, with_table):
    write_meta(folder, SAID.replace(f"{part}:\n  enabled: true", f"{part}:\n  enabled: false"))
    if not with_table:
        (folder / "skew_fit.csv").unlink()
    assert skew(folder) == [0.0] * 4


@pytest.mark.parametrize("text", ["{}", "gpu: some\n", "skew_fit: {per_tp: {1: {}}}"])
def test_what_is_not_said_is_as_without_a_file(folder, text):
    write_meta(folder, text)
    assert skew(folder) == [0.3, DEFAULT_SKEW, 0.3, DEFAULT_SKEW]


@pytest.mark.parametrize(
    ("said", "instead", "message"),
    [
        ("profiler_version: 1.0.0", "profiler_version: 2.0.0", r"profiler_version is '2\.0\.0'"),
        ("architecture: llama", "architecture: deepseek_v32", "'deepseek_v32': .*'qwen3_moe'"),
        ("variant: bf16", "variant: fp8", "variant is 'fp8': Input should be 'bf16'"),
        ("enforce_eager: true", "enforce_eager: false", "enforce_eager is False: .* True"),
        ("caching: false", "caching: true", "enable_prefix_caching is True: .* False"),
        ("parallel_size: 1", "parallel_size: 2", "tensor_parallel_size is 2: .* be 1"),
        ("hidden_layers: 1", "hidden_layers: 4", r"hf_overrides\.num_hidden_layers is 4: .* be 1"),
        ("sr<=40%", "sr<=50%", r"skew_rate_labels\.2 is 'sr<=50%': .* 'sr<=40%'"),
        ("wls_5axis", "other", r"skew_fit\.per_tp\.2\.method is 'per_bucket_other'"),
        ("alpha_default: 0.04", "alpha_default: 4", r"alpha_default is 4: .* equal to 1"),
        ("tp2/skew_fit.csv", "old/skew_fit.csv", "'old/skew_fit.csv'; allowed: tp2/skew_fit.csv"),
        ("skew_fit:\n  enabled: true", "skew_fit:\n  enabled: some", "skew_fit.enabled is 'some'"),
    ],
)  # fmt: skip
def test_tables_that_mean_something_else_are_refused(folder, said, instead, message):
    assert said in SAID
    write_meta(folder, SAID.replace(said, instead))
    with pytest.raises(ValueError, match=message) as refusal:
        load_profile(folder)
    assert "meta.yaml" in str(refusal.value)


def test_a_skew_table_that_is_named_must_be_there(folder):
    write_meta(folder, SAID)
    (folder / "skew_fit.csv").unlink()
    with pytest.raises(ValueError, match=r"bucket_table 'tp2/skew_fit\.csv'.* that it is there"):
        load_profile(folder)
    with gzip.open(folder / "skew_fit.csv.gz", "wt", encoding="utf-8") as stream:
        stream.write("pc,n_label,skew_rate_label,alpha,n_samples\n0,n<=8,sr<=5%,0.3,1\n")
    assert load_profile(folder).skew_by_decodes([8]) == [0.3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "cannot read .*meta.yaml: while parsing a flow sequence"),
        ("profiled_at: 2026-99-99", "cannot read .*meta.yaml: month must be"),
        ("\x00", "cannot read .*meta.yaml"),
        ("", "the content is None; allowed: a table of keys"),
        ("- a\n", r"the content is \['a'\]; allowed: a table of keys"),
        ("skew_fit: false", "skew_fit is False; allowed: a table of keys"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_one_line(folder, text, message):
    write_meta(folder, text)
    with pytest.raises(ValueError, match=message) as refusal:
        load_profile(folder)
    assert "\n" not in str(refusal.value)


def test_a_folder_named_by_where_one_stands_finds_its_file(folder, monkeypatch):
    write_meta(folder, SAID)
    monkeypatch.chdir(folder)
    assert skew(Path()) == [0.3, 0.04, 0.3, 0.04]


@pytest.mark.parametrize(
    ("name", "is_measured"),
    [
        ("rtx-4090/llama-3.1-8b/tp1", False),
        ("rtx-pro-6000/llama-3.1-8b/tp2", True),
        ("rtx-pro-6000/qwen3-30b-a3b-instruct-2507/tp1", True),
        ("rtx-pro-6000/qwen3-32b/tp2", True),
    ],
)
def test_shipped_coefficients_price_skew_where_it_was_measured(name, is_measured):
    """The published folder of the RTX 4090 has a skew_fit.csv that its meta.yaml disowns."""
    folder = profile_folder(name)
    assert read_profile_meta(folder) != ProfileMeta()
    assert bool(load_profile(folder).skew) is is_measured
    shipped = read_compact_file(DATA / "timing" / f"{name}.toml")
    assert any(shipped.decode_attention.skew) is is_measured
    assert any(map(any, shipped.mixed_attention.skew.share)) is is_measured
