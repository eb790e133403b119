"""A published sweep of InferenceX's benchmark as tables of measured runs."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentserve_gym.cli import app
from agentserve_gym.validation.inferencex import convert_sweep

CLIENT = (
    "start_time_ms,relative_time_sec,ttft_ms,tpot_ms,latency_ms,input_num_turns,input_num_tokens,"
    "output_num_tokens,output_num_chunks,output_num_first_chunk_tokens,approx_cached_percent,"
    "conversation_id,client_id,interactivity_tok_per_sec"
)
SERVER = (
    "timestamp_sec,relative_time_sec,kv_cache_usage_pct,cpu_kv_cache_usage_pct,"
    "num_requests_running,num_requests_waiting,prefix_cache_hits,prefix_cache_queries,"
    "cpu_prefix_cache_hits,cpu_prefix_cache_queries,prompt_tokens_total,generation_tokens_total,"
    "num_preemptions_total,request_success_total,interval_cache_hit_rate_pct,"
    "interval_throughput_tok_per_sec"
)
TRANSFER = (
    "timestamp_sec,relative_time_sec,gpu_id,tx_pci_mb_per_sec,rx_pci_mb_per_sec,"
    "cumulative_tx_gb,cumulative_rx_gb"
)


def request(
    start_ms: float, conversation: str, turn: int, prompt: int, output: int = 20
) -> tuple[object, ...]:
    return (
        *(start_ms, 0.0, 150.708, 17.2814, 2449.099, 2 * turn + 1, prompt, output, 19, 1, 0.0),
        *(conversation, 3, 57.87),
    )


def write_cell(folder: Path, *requests: tuple[object, ...]) -> Path:
    folder.mkdir(parents=True)
    tables = {
        "client_metrics": (CLIENT, requests),
        "server_metrics": (
            SERVER,
            [(9.5, "1.010", "1.07", "0.50", 15, 2, 6, 8, 0, 8, 8385, 482, 1, 7, 6.7, 477.3)],
        ),
        "gpu_transfer": (TRANSFER, [(9.4, "1.033", 0, "14.00", "28.00", "0.01", "0.02")]),
    }
    for name, (header, rows) in tables.items():
        with (folder / f"metrics_{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([header.split(","), *rows])
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    write_cell(
        folder / "tp1_bs16_offloadoff",
        request(1000.5, "later", 0, 70),
        request(1000.0, "first", 0, 50),
        request(3000.3, "first", 1, 140),
    )
    write_cell(
        folder / "tp1_bs128_offloadon",
        request(500.0, "new", 0, 9),
        request(501.0, "later", 0, 71),
    )
    write_cell(folder / "tp2_bs8_offloadoff", request(0.0, "elsewhere", 0, 5))
    (folder / "experiment_summary.csv").write_text("not a cell")
    return folder


def lines(content: bytes) -> list[str]:
    return gzip.decompress(content).decode().splitlines()


def test_cells_become_tables(sweep: Path) -> None:
    files = convert_sweep(sweep)
    cells = ("clients-16_host-off", "clients-128_host-on")
    kinds = ("requests", "engine", "pcie")
    tables = {f"{cell}.{kind}.csv.gz" for cell in cells for kind in kinds}
    assert set(files) == {*tables, "conversations.csv.gz"}
    assert lines(files["clients-16_host-off.requests.csv.gz"]) == [
        "start_s,conversation,turn,prompt_tokens,output_tokens,ttft_ms,tpot_ms,e2e_ms",
        "0.0000,0,0,50,20,150.71,17.281,2449.10",
        "0.0005,1,0,70,20,150.71,17.281,2449.10",
        "2.0003,0,1,140,20,150.71,17.281,2449.10",
    ]
    assert lines(files["clients-128_host-on.engine.csv.gz"]) == [
        "t_s,kv_usage_pct,host_kv_usage_pct,running,waiting,prompt_tokens,generated_tokens,"
        "preemptions,finished",
        "1.010,1.07,0.50,15,2,8385,482,1,7",
    ]
    assert lines(files["clients-128_host-on.pcie.csv.gz"]) == [
        "t_s,gpu,to_host_mb_per_s,from_host_mb_per_s",
        "1.033,0,14.00,28.00",
    ]


def test_conversations_have_one_number_in_all_cells(sweep: Path) -> None:
    files = convert_sweep(sweep)
    rows = lines(files["clients-128_host-on.requests.csv.gz"])[1:]
    assert [row.split(",")[1] for row in rows] == ["2", "1"]
    assert lines(files["conversations.csv.gz"]) == [
        "conversation,turn,prompt_tokens,output_tokens",
        "0,0,50,20",
        "0,1,140,20",
        "1,0,71,20",  # as in bs128, the first cell by name
        "2,0,9,20",
    ]


def test_the_same_bytes_every_time(sweep: Path) -> None:
    assert convert_sweep(sweep) == convert_sweep(sweep)


def test_cells_of_one_tensor_parallelism_are_taken(sweep: Path) -> None:
    assert "clients-8_host-off.pcie.csv.gz" in convert_sweep(sweep, 2)
    with pytest.raises(ValueError, match=r"no cells tp4_bs.*; tp 1, 2 there"):
        convert_sweep(sweep, 4)


def test_bad_sweeps_are_refused(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        convert_sweep(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="none at all"):
        convert_sweep(tmp_path)
    path = sweep / "tp1_bs16_offloadoff" / "metrics_client_metrics.csv"
    text = path.read_text()
    for content, message in (
        (text.replace("50,20", "many,20"), r"line 3: input_num_tokens = 'many' is not a number"),
        (text.replace("ttft_ms", "ttft"), r"lacks the columns \['ttft_ms'\]"),
        (text.splitlines()[0], r"metrics_client_metrics\.csv has no rows"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            convert_sweep(sweep)
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot read .*metrics_client_metrics\.csv"):
        convert_sweep(sweep)


def test_convert_writes_into_an_empty_folder_only(sweep: Path, tmp_path: Path) -> None:
    to = tmp_path / "runs" / "llama"
    arguments = ["convert", str(sweep), "--to", str(to)]
    outcome = CliRunner().invoke(app, arguments)
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert "wrote 7 tables" in outcome.stderr
    assert {path.name: path.read_bytes() for path in to.iterdir()} == convert_sweep(sweep)
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "exists and is not an empty folder" in again.stderr
