"""What commands write over and what they leave alone; workloads from pipes."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agentserve_gym.workloads import Program, Turn, read_programs, write_programs

PROGRAMS = [Program("p", "chat", (Turn(100, 100, 10, 0),), arrival_s=0.0)]
FULL = Path("/dev/full")
CALL = [sys.executable, "-c", "from agentserve_gym.cli import app; app()"]


@pytest.fixture
def trace(tmp_path):
    """One program in a file."""
    path = tmp_path / "in.jsonl"
    write_programs(PROGRAMS, path)
    return path


def piped(content, *arguments):
    """Call ``agentserve`` in a process of its own with a pipe as standard input."""
    return subprocess.run([*CALL, *arguments], input=content, capture_output=True, check=False)


# --- trace --to -----------------------------------------------------------------------------------


def test_an_existing_file_needs_force(agentserve, refused, trace, tmp_path):
    target = tmp_path / "out.jsonl"
    target.write_text("mine")
    assert "exists; replace it with --force" in refused("trace", trace, "--to", target)
    assert target.read_text() == "mine"
    assert agentserve("trace", trace, "--to", target, "--force").code == 0
    assert read_programs(target) == PROGRAMS


@pytest.mark.parametrize("way", ["itself", "link", "hard link", "by a link"])
def test_the_input_is_never_written_over(refused, trace, tmp_path, way):
    before = trace.read_bytes()
    file, to = trace, tmp_path / "other"
    if way == "itself":
        to = trace
    elif way == "hard link":
        to.hardlink_to(trace)
    else:
        to.symlink_to(trace)
        if way == "by a link":
            file, to = to, file
    assert "the input itself" in refused("trace", file, "--to", to, "--force")
    assert trace.read_bytes() == before


def test_the_input_is_found_behind_standard_input_too(trace):
    with trace.open("rb") as file:
        finished = subprocess.run(
            [*CALL, "trace", "-", "--to", trace, "--force"],
            stdin=file, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert finished.returncode == 2
    assert "the input itself" in finished.stderr
    assert read_programs(trace) == PROGRAMS


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_device_is_one_line_and_stays_a_device(refused, trace):
    assert refused("trace", trace, "--to", FULL) == "/dev/full: No space left on device"
    assert stat.S_ISCHR(FULL.stat().st_mode)


def test_programs_to_standard_output_come_alone(trace):
    for name in ("-", "/dev/stdout"):
        finished = piped(trace.read_bytes(), "trace", "-", "--to", name)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout == trace.read_bytes()


# --- pipes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pipe_is_read(trace, tmp_path, name, pack):
    target = tmp_path / "out.jsonl"
    content = pack(trace.read_bytes())
    finished = piped(content, "trace", name, "--to", target, "--json")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert (document["file"], document["format"], document["turns"]) == (name, "agentserve", 1)
    assert target.read_bytes() == trace.read_bytes()


def test_errors_in_a_pipe_name_it():
    finished = piped(b'{"a": 1}\n', "trace", "-")
    assert finished.returncode == 2
    assert finished.stderr.startswith(b"agentserve: -, line 1: unknown format (keys here: a)")
    assert b"the file is empty" in piped(b"", "trace", "-").stderr


def test_replay_reads_a_pipe(trace):
    options = ("--accelerator", "rtx-4090", "--model", "llama-3.1-8b", "--json")
    finished = piped(trace.read_bytes(), "replay", "-", *options)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["turns"] == 1


def test_the_demonstration_reads_files_alone(refused):
    assert "read once a policy" in refused("demo", "--trace", "-")


# --- what is not ours -----------------------------------------------------------------------------


def test_a_picture_replaces_pictures_alone(agentserve, refused, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "runs.png"
    for _ in range(2):
        assert agentserve("run", "--scenario", "toy", "--picture", picture).code == 0
    picture.write_text("notes")
    assert "is not a PNG picture" in refused("run", "--scenario", "toy", "--picture", picture)
    assert picture.read_text() == "notes"


@pytest.mark.parametrize("name", ["run.pftrace", "run.json"])
def test_a_trace_replaces_traces_alone(refused, tmp_path, name):
    if name.endswith(".pftrace"):
        pytest.importorskip("perfetto")
    trace = tmp_path / name
    trace.write_text('{"traceEvents": []}')
    message = refused("run", "--scenario", "toy", "--trace", trace)
    assert "is not a trace of a run; it is left alone" in message
    assert trace.read_text() == '{"traceEvents": []}'


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("validation.md", ["validate", "--report"]),
        ("benchmark.md", ["bench", "--suite", "quick", "--out"]),
        ("benchmark/cells.md", ["bench", "--suite", "quick", "--out", "{}/new", "--docs"]),
        ("benchmark/headroom.md", ["bench", "--headroom", "--suite", "quick", "--out"]),
        ("benchmark/headroom.json", ["bench", "--headroom", "--suite", "quick", "--out"]),
        ("tuned.toml", ["bench", "--tune", "--out"]),
        ("found.toml", ["bench", "--search", "--out"]),
    ],
)
def test_a_page_of_somebody_else_is_left_alone(refused, tmp_path, name, command):
    pytest.importorskip("matplotlib")
    page = tmp_path / name
    page.parent.mkdir(exist_ok=True)
    page.write_text("# Mine\n")
    command = [part.format(tmp_path) for part in command]
    assert "it is left alone" in refused(*command, tmp_path)
    assert page.read_text() == "# Mine\n"
    assert not (tmp_path / "results.csv").exists()


def test_calibrate_leaves_other_files_alone(refused, tmp_path):
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('name = "mine"\n')
    message = refused("calibrate", "fit", tmp_path, "-o", scenario)
    assert "is not a coefficient file" in message
    assert scenario.read_text() == 'name = "mine"\n'


@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
def test_a_pipe_in_the_way_of_a_picture_is_written_through(agentserve, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "runs.png"
    os.mkfifo(picture)
    with subprocess.Popen(["cat", picture], stdout=subprocess.PIPE) as reader:
        assert agentserve("run", "--scenario", "toy", "--picture", picture).code == 0
        content = reader.communicate(timeout=20)[0]
    assert content.startswith(b"\x89PNG")
    assert stat.S_ISFIFO(picture.stat().st_mode)


def test_replay_reads_conversations_from_a_pipe():
    options = ("--accelerator", "rtx-4090", "--model", "llama-3.1-8b", "--clients", "1", "--json")
    content = b"conversation,turn,prompt_tokens,output_tokens\n1,0,100,5\n1,1,200,5\n"
    finished = piped(content, "replay", "-", *options)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["turns"] == 2
    finished = piped(content, "replay", "-", *options, "--host-gb", "0")
    assert finished.stderr == b"agentserve: --host-gb is 0.0; allowed: more than 0\n"
    assert b"agentserve replay: --clients" in piped(content, "replay", "-", *options[:4]).stderr
