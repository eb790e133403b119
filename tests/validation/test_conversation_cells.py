"""Measured closed-loop cells: reading them, comparing them, and the targets on the real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentserve_gym.validation.conversation_cells import cell_settings, find_cells, read_cell
from agentserve_gym.validation.conversation_page import (
    cell_rows,
    conversation_section,
    draw_cell,
    withheld_rows,
)
from agentserve_gym.validation.conversation_study import run_cells, run_withheld
from agentserve_gym.validation.host_time import measure_host_time
from tests.data_sets import needed_data_set

FOLDER = "llama-3.3-70b-nvfp4_b200_vllm-0.15"
REQUESTS = "start_s,conversation,turn,prompt_tokens,output_tokens,ttft_ms,tpot_ms,e2e_ms"
ENGINE = "t_s,kv_usage_pct,running,waiting,preemptions"
PCIE = "t_s,gpu,to_host_mb_per_s,from_host_mb_per_s"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three cells of two clients' six requests, with plain figures."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    rows = [f"{n},{t},{100 + 150 * t},50" for n in range(2) for t in range(3)]
    (folder / "conversations.csv").write_text(
        "\n".join(["conversation,turn,prompt_tokens,output_tokens", *rows])
    )
    requests = [
        f"{2.0 * t},{n},{t},{100 + 150 * t},50,100,20,1500" for t in range(3) for n in range(2)
    ]
    for stem in ("clients-2_host-off", "clients-16_host-off", "clients-2_host-on"):
        (folder / f"{stem}.requests.csv").write_text("\n".join([REQUESTS, *requests]))
        (folder / f"{stem}.engine.csv").write_text(f"{ENGINE}\n0,1,2,0,0\n1,2,2,0,0\n")
        (folder / f"{stem}.pcie.csv").write_text(f"{PCIE}\n0,0,0,5\n1,0,100,5\n2,0,0,5\n")
    return tmp_path


def test_cells_are_found_and_read(runs: Path) -> None:
    paths = find_cells(runs)
    assert [path.name.split(".")[0] for path in paths] == [
        "clients-2_host-off", "clients-16_host-off", "clients-2_host-on",
    ]  # fmt: skip
    cell = read_cell(paths[2])
    assert cell.name == "2 clients, with host memory"
    assert cell.requests_per_s == pytest.approx(6 / 5.5)
    assert cell.ttft_s.tolist() == [0.1] * 6
    assert cell.moved_gb("to_host_mb_per_s")[0] == pytest.approx(0.1)
    assert cell.settings.host_gib == 300.0
    assert cell.settings.requests == 5001
    assert cell.settings.engine.max_num_seqs == 2
    assert cell.settings.engine.kv_blocks is None


def test_pools_are_those_that_the_engine_reported(runs: Path) -> None:
    settings = cell_settings(runs / FOLDER, 256, host=False)
    assert settings.engine.kv_blocks == 780_992 // 16
    with pytest.raises(ValueError, match="is not named <model>_<accelerator>_<serving software>"):
        cell_settings(runs, 256, host=False)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("engine", "t_s,running\n0,1\n", "column 'kv_usage_pct' is missing"),
        ("engine", f"{ENGINE}\n0,1,many,0,0\n", "line 2: .* must be numbers"),
        ("requests", f"{REQUESTS}\n1,2,3\n", "line 2: 3 cells; the header has 8 columns"),
    ],
)
def test_bad_files_are_refused(runs: Path, name: str, text: str, message: str) -> None:
    (runs / FOLDER / f"clients-2_host-off.{name}.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_cell(find_cells(runs)[0])


def test_a_folder_without_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no clients-N_host-on or -off"):
        find_cells(tmp_path)


def test_errors_and_targets(runs: Path) -> None:
    small, calibrated, hosted = run_cells(runs)
    assert calibrated.calibrated_on
    assert not hosted.calibrated_on
    assert hosted.idle_gb == small.cell.moved_gb("to_host_mb_per_s")[0]
    for name, (true, simulated) in small.means().items():
        assert small.errors()[name] == pytest.approx(simulated / true - 1)
    assert "TPOT" in small.missed
    exact = replace(small.cell, requests={**small.cell.requests})
    exact.requests["tpot_ms"][:] = small.run.replay.tpot_s().mean() * 1e3
    assert "TPOT" not in replace(small, cell=exact).missed
    assert draw_cell(hosted).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def results():
    return run_cells(needed_data_set("agentic-runs"))


def test_every_measured_cell_meets_its_targets(results) -> None:
    """Of conversations on a B200; the two cells that were used for calibration are close, too."""
    assert len(results) == 7
    for result in results:
        assert not result.missed, (result.cell.name, result.missed)


def test_the_shape_of_a_run_is_the_measured_one(results) -> None:
    """KV use over time and the spread of the time per token, as long contexts come and go."""
    result = next(each for each in results if each.cell.settings.clients == 64)
    engine, states = result.cell.engine, result.run.states
    times_s = np.arange(30.0, 1800.0, 10.0)
    measured = np.interp(times_s, engine["t_s"], engine["kv_usage_pct"])
    simulated = np.interp(times_s, states.time_s, states.kv_usage_pct)
    assert np.corrcoef(measured, simulated)[0, 1] > 0.85
    assert abs(simulated.mean() / measured.mean() - 1) < 0.02
    for percent in (10, 50, 90):
        true = np.percentile(result.cell.tpot_s, percent)
        assert np.percentile(result.run.replay.tpot_s(), percent) == pytest.approx(true, rel=0.08)


def test_withheld_cells_say_what_host_memory_brings() -> None:
    withheld = run_withheld(needed_data_set("agentic-runs"))
    rate = {(each.clients, each.host): each.run.as_dict()["requests_per_s"] for each in withheld}
    assert rate[256, True] > 1.1 * rate[256, False]
    assert rate[512, True] > 1.1 * rate[512, False]
    assert len(withheld_rows(withheld)) == 5


def test_the_page_has_every_cell(results) -> None:
    text = "\n".join(conversation_section(results, [], "pictures"))
    rows = cell_rows(results)
    assert [row[0] for row in rows[1:4]] == ["16", "32", "64"]
    assert text.count("used for calibration") == 2
    assert "pictures/conversations-64.png" in text


def test_host_time_is_what_the_catalogue_says(results) -> None:
    """And the cells that were not used say the same, within a third."""
    pytest.importorskip("aiconfigurator_core")
    cells = [r.cell for r in results if r.cell.settings.host_gib is None]
    found = measure_host_time(cells, lambda *_: None)
    used, checked = found[:2], found[2:]
    assert f"{np.mean([each.step_s for each in used]):.2g}" == "0.0013"
    assert f"{np.mean([each.layer_launch_s for each in used]):.2g}" == "0.00052"
    for each in checked:
        assert each.layer_launch_s == pytest.approx(0.00052, rel=0.33)
