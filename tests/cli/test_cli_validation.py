"""``agentserve replay``, ``validate`` and ``calibrate``."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from agentserve_gym.hardware import read_compact_file
from agentserve_gym.validation import ReplaySettings, replay
from tests.hardware.hardware_helpers import write_profile

FIGURES = {"mean", "p50", "p90", "p99"}


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    rows = [
        {"arrival_s": 0.2 * n, "input_tokens": 200 + 10 * n, "output_tokens": 20} for n in range(8)
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def replay_small(workload):
    """Arguments that replay the workload on an RTX 4090."""
    return ("replay", workload, "--accelerator", "rtx-4090", "--model", "llama-3.1-8b")


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one measured run, made from a replay; the data folder is empty."""
    monkeypatch.setenv("AGENTSERVE_DATA", str(tmp_path / "empty"))
    rows = [{"arrival_s": 0.1 * n, "input_tokens": 100 + n, "output_tokens": 9} for n in range(12)]
    runs = tmp_path / "runs"
    folder = runs / "rtx-4090_small"
    folder.mkdir(parents=True)
    source = runs / "workload.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    turns = replay(ReplaySettings(source, "rtx-4090", "llama-3.1-8b", kv_blocks=2588)).turns
    requests = [
        {
            "input_toks": turn.prompt_tokens,
            "output_toks": turn.output_tokens,
            "arrival_time": turn.ready_s,
            "queued_ts": turn.ready_s,
            "first_token_ts": turn.first_token_s,
            "last_token_ts": turn.end_s,
        }
        for turn in turns
    ]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    (folder / "requests.jsonl").write_text(lines, encoding="utf-8")
    engine = {"model": "meta-llama/Llama-3.1-8B", "max_num_seqs": 128}
    (folder / "meta.json").write_text(json.dumps({"engine_kwargs": engine}), encoding="utf-8")
    return runs


# --- replay --------------------------------------------------------------------------------------


def test_replay_prints_the_documented_json(agentserve, replay_small):
    document = json.loads(agentserve(*replay_small, "--json").stdout)
    assert {"ttft_ms", "tpot_ms", "e2e_s", "makespan_s", "output_tokens_per_s"} < set(document)
    assert {"preemptions", "prefix_hit_tokens"} < set(document)
    for name in ("ttft_ms", "tpot_ms", "e2e_s"):
        assert set(document[name]) == FIGURES
        assert 0 < document[name]["mean"] <= document[name]["p99"] * 1.001
    assert document["output_tokens_per_s"] == pytest.approx(160 / document["makespan_s"])
    assert document["preemptions"] == 0


def test_replay_prints_a_table_for_people(agentserve, replay_small):
    outcome = agentserve(*replay_small, "--kv-blocks", 2588)
    assert "8 requests" in outcome.stdout
    for label in ("TTFT, ms", "TPOT, ms", "E2E, s", "makespan", "preemptions"):
        assert label in outcome.stdout


def test_replay_limits_matter(agentserve, replay_small):
    """One sequence at a time: requests wait for each other."""
    free = json.loads(agentserve(*replay_small, "--json").stdout)
    limited = json.loads(agentserve(*replay_small, "--max-num-seqs", 1, "--json").stdout)
    assert limited["ttft_ms"]["mean"] > 2 * free["ttft_ms"]["mean"]


def test_replay_takes_every_named_timing(agentserve, replay_small):
    means = [
        json.loads(agentserve(*replay_small, "--timing", timing, "--json").stdout)["tpot_ms"][
            "mean"
        ]
        for timing in ("auto", "compact", "roofline")
    ]
    assert means[0] == means[1] != means[2]


def test_replay_keeps_kv_in_the_given_precision(agentserve, refused, replay_small):
    own, fp8 = (
        json.loads(agentserve(*replay_small, "--timing", "roofline", *more, "--json").stdout)
        for more in ((), ("--kv-dtype", "fp8"))
    )
    assert fp8["tpot_ms"]["mean"] < own["tpot_ms"]["mean"]
    said = refused(*replay_small, "--kv-dtype", "int8")
    assert "cluster.kv_dtype is 'int8': Input should be 'bf16' or 'fp8'" in said


def test_replay_refuses_bad_input(refused, replay_small):
    assert "no profile folder" in refused(*replay_small, "--timing", "profile")
    assert "unknown timing source 'fast'" in refused(*replay_small, "--timing", "fast")
    assert "tokens of KV" in refused(*replay_small, "--kv-blocks", 3)
    assert "expert_parallel is 3" in refused(*replay_small, "--ep", 3)


@pytest.fixture
def replay_routers(agentserve):
    """Run a small load behind a router on H100s."""
    engine = ("--accelerator", "h100-sxm", "--model", "llama-3.1-8b", "--kv-blocks", 2500)
    load = ("--instances", 2, "--groups", 6, "--prompts-per-group", 2, "--prefix-tokens", 2000)
    tokens = ("--question-tokens", 100, "--output-tokens", 20, "--warm-up-s", 3)

    def run(*more):
        return ("replay", *engine, *load, *tokens, *more)

    return run


def test_replay_behind_a_router_gives_every_rate_its_figures(agentserve, replay_routers):
    arguments = replay_routers("--router", "precise", "--rates", "2,4", "--stage-s", "10,5")
    document = json.loads(agentserve(*arguments, "--json").stdout)
    assert document["router"].startswith("llmd_precise")
    assert [stage["rate_per_s"] for stage in document["stages"]] == [2.0, 4.0]
    for stage in document["stages"]:
        assert stage["turns"] == 20
        assert set(stage["ttft_ms"]) == set(stage["tpot_ms"]) == set(stage["e2e_s"]) == FIGURES
        assert stage["output_tokens_per_s"] > 0
    table = agentserve(*arguments).stdout
    assert "before 2 engines" in table
    assert "TTFT, s" in table


def test_replay_behind_a_router_refuses_bad_input(refused, replay_routers, replay_small):
    assert "--router needs --rates" in refused(*replay_routers("--router", "load"))
    routed = ("--router", "load", "--rates")
    assert "--rates is 'x'; allowed: numbers" in refused(*replay_routers(*routed, "x"))
    assert "--stage-s has 2 numbers and --rates 3" in refused(
        *replay_routers(*routed, "1,2,3", "--stage-s", "5,6")
    )
    assert "rate_per_s is -1.0" in refused(*replay_routers(*routed, "-1"))
    assert "groups is 0" in refused(*replay_routers(*routed, "1", "--groups", 0))
    assert "unknown policy part" in refused(*replay_routers("--router", "near", "--rates", 1))
    assert "a workload file or --router" in refused(*replay_small, *routed, "1")
    assert "a workload file or --router" in refused(
        "replay", "--accelerator", "h100-sxm", "--model", "llama-3.1-8b"
    )


# --- validate ------------------------------------------------------------------------------------


def test_validate_compares_every_timing(agentserve, measured):
    document = json.loads(agentserve("validate", measured, "--json").stdout)
    compact, roofline = document["cases"]
    assert (compact["timing"], roofline["timing"]) == ("compact", "roofline")
    assert compact["mean"]["e2e"] == pytest.approx(0.0, abs=1e-6)
    assert abs(roofline["mean"]["e2e"]) > 1e-3
    assert document["trends"] == document["ablations"] == []


def test_validate_prints_the_error_table(agentserve, measured):
    outcome = agentserve("validate", measured, "--timing", "compact")
    for label in ("rtx-4090_small", "TTFT mean", "E2E per request", "makespan", "targets"):
        assert label in outcome.stdout


def test_validate_writes_a_report(agentserve, measured, tmp_path):
    pytest.importorskip("matplotlib")
    place = tmp_path / "report"
    agentserve("validate", measured, "--timing", "compact", "--report", place)
    page = (place / "validation.md").read_text(encoding="utf-8")
    assert "### rtx-4090_small" in page
    assert "## What is not validated" in page
    assert str(tmp_path) not in page
    picture = (place / "validation" / "rtx-4090_small.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000


def test_validate_refuses_bad_input(refused, measured, tmp_path, monkeypatch):
    assert "is not a folder of measured runs" in refused("validate", tmp_path / "nowhere")
    missing = refused("validate", measured, "--timing", "profile")
    assert "no profile tables for rtx-4090/llama-3.1-8b/tp1" in missing
    monkeypatch.setenv("AGENTSERVE_DATA", str(tmp_path / "empty"))
    assert "the data set vllm-runs is not in" in refused("validate")


def test_validate_does_not_replace_a_page_by_a_poorer_one(agentserve, refused, measured, tmp_path):
    """What cannot be computed again would be lost."""
    pytest.importorskip("matplotlib")
    place = tmp_path / "report"
    page = place / "validation.md"
    agentserve("validate", measured, "--timing", "compact", "--report", place)
    before = page.read_text(encoding="utf-8")
    agentserve("validate", measured, "--timing", "compact", "--report", place)
    assert page.read_text(encoding="utf-8") == before
    page.write_text(before + "\n## Published trends\n\n## True reuse\n", encoding="utf-8")
    message = refused("validate", measured, "--timing", "compact", "--report", place)
    assert "would lose Published trends, True reuse" in message
    assert page.read_text(encoding="utf-8").endswith("## True reuse\n")


def test_validate_without_data_keeps_the_page(agentserve, refused, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTSERVE_DATA", str(tmp_path / "empty"))
    (tmp_path / "validation.md").write_text("# Validation\n", encoding="utf-8")
    message = refused("validate", "--trends", "--report", tmp_path)
    assert "would lose what needs gpu-profiles, what needs vllm-runs" in message
    assert (tmp_path / "validation.md").read_text(encoding="utf-8") == "# Validation\n"


# --- calibrate -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def profile(tmp_path_factory) -> Path:
    """A profile measured on the CPU with a tiny grid."""
    pytest.importorskip("torch")
    from agentserve_gym.calibration.measure import MeasureGrid, measure_profile
    from agentserve_gym.hardware import model

    folder = tmp_path_factory.mktemp("profiles") / "rtx-4090" / "llama-3.1-8b" / "tp1"
    tiny = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16}
    small = model("llama-3.1-8b").model_copy(update={**tiny, "intermediate": 128, "vocab": 256})
    grid = MeasureGrid(
        tokens=(1, 4, 16, 64),
        sequences=(1, 4, 8),
        chunks=(16, 64),
        histories=(0, 32),
        counts=(1, 2, 4),
        contexts=(16, 32, 64),
        copy_mib=(1,),
        steps=(),
        repeats=1,
    )
    return measure_profile("cpu", folder, grid, small)


def test_calibrate_fit_writes_a_coefficient_file(agentserve, tmp_path, workload):
    # Made-up tables: a fit to what this machine measures while tests run may price nothing well.
    profile = write_profile(tmp_path / "rtx-4090" / "llama-3.1-8b" / "tp1")
    file = tmp_path / "own.toml"
    outcome = agentserve("calibrate", "fit", profile, "-o", file)
    assert "held-out table error" in outcome.stdout
    fitted = read_compact_file(file)
    assert (fitted.accelerator, fitted.model, fitted.tensor_parallel) == (
        "rtx-4090",
        "llama-3.1-8b",
        1,
    )
    named = ("--accelerator", "rtx-4090", "--model", "llama-3.1-8b")
    replayed = agentserve("replay", workload, *named, "--timing", file, "--json")
    assert json.loads(replayed.stdout)["e2e_s"]["mean"] > 0


def test_calibrate_fit_prints_json(agentserve, profile, tmp_path):
    outcome = agentserve("calibrate", "fit", profile, "-o", tmp_path / "own.toml", "--json")
    document = json.loads(outcome.stdout)
    assert document["provenance"] == "fitted to measured tables"
    assert "held-out" in document["error"]


def test_calibrate_refuses_bad_input(refused, profile, tmp_path):
    assert "ends in .toml" in refused("calibrate", "fit", profile, "-o", tmp_path / "own.txt")
    assert "no folder" in refused("calibrate", "fit", profile, "-o", tmp_path / "no" / "x.toml")
    partly = refused("calibrate", "fit", profile, "-o", tmp_path / "x.toml", "--tp", 1)
    assert "give all of --accelerator, --model and --tp" in partly
    unnamed = refused("calibrate", "fit", tmp_path, "-o", tmp_path / "x.toml")
    assert "is not named <accelerator>/<model>/tp<k>" in unnamed
    arguments = ("--accelerator", "rtx-4090", "--model", "llama-3.1-8b", "-o", tmp_path / "x.toml")
    assert "no kernel tables for accelerator" in refused("calibrate", "import", *arguments)


def test_calibrate_measure_without_a_gpu_says_so(refused, tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert "needs a GPU with CUDA" in refused("calibrate", "measure", "-o", tmp_path / "tp1")


def test_calibrate_measure_refuses_an_unknown_device(refused, tmp_path):
    pytest.importorskip("torch")
    message = refused("calibrate", "measure", "-o", tmp_path / "tp1", "--device", "abacus")
    assert "unknown device 'abacus'" in message


def test_validate_reports_trends_without_measured_runs(agentserve, monkeypatch, tmp_path):
    from agentserve_gym.validation.trends import SOFT_TRENDS

    monkeypatch.setenv("AGENTSERVE_DATA", str(tmp_path / "empty"))
    one = {"C26": SOFT_TRENDS["C26"]}
    # By module: the package's attribute of that name is the command.
    monkeypatch.setattr(import_module("agentserve_gym.cli.validate"), "SOFT_TRENDS", one)
    document = json.loads(agentserve("validate", "--trends", "--json").stdout)
    assert [trend["number"] for trend in document["trends"]] == ["C26"]
    assert document["trends"][0]["within"] is True
    assert document["cases"] == []
    table = agentserve("validate", "--trends").stdout
    assert "Published trends" in table


def test_commands_and_groups_are_listed_by_name(agentserve):
    listed = agentserve("--help").stdout
    names = ("calibrate", "demo", "replay", "run", "validate")
    places = [listed.index(f"│ {name} ") for name in names]
    assert places == sorted(places)


def test_calibrate_check_holds_measured_steps_against_what_prices_them(agentserve, refused):
    table = agentserve("calibrate", "check", "h100-sxm/llama-3.1-8b/tp1").stdout
    assert "8 x 8192" in table
    assert "pcie-gen5-x16" in table
    means = agentserve("calibrate", "check").stdout
    assert "h200/llama-3.1-8b/tp1" in means
    (steps,) = json.loads(
        agentserve("calibrate", "check", "h200/llama-3.1-8b/tp1", "--json").stdout
    )["profiles"].values()
    assert {tuple(step["priced_s"]) for step in steps} == {("tables", "compact", "roofline")}
    message = refused("calibrate", "check", "h200/llama-3.1-8b/tp8")
    assert "did you mean 'h200/llama-3.1-8b/tp1'" in message
