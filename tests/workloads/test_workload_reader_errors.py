"""Files that cannot be read: the message names the file, the line and what is wrong."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentserve_gym.workloads import TraceError, TraceWorkload, build_workload, read_programs
from agentserve_gym.workloads.spec import PoissonArrivals

MOONCAKE = {"timestamp": 0, "input_length": 10, "output_length": 5, "hash_ids": [0]}
OWN = {
    "schema": "agentserve/1",
    "program_id": "p",
    "agent_class": "toy",
    "turns": [
        {"input_tokens": 3, "new_input_tokens": 3, "output_tokens": 1, "reuse_tokens": 0},
    ],
}
TURN = OWN["turns"][0]
WEKA = {"id": "c", "block_size": 64, "requests": [{"in": 1, "out": 1, "hash_ids": "x"}]}
USER = {"role": "user", "timestamp": "noon"}
CALL = {
    "role": "assistant",
    "timestamp": "2025-10-31T07:35:13",
    "usage": {"prompt_tokens": 5, "completion_tokens": 1},
}
TAU2 = {
    "info": {"environment_info": {"domain_name": "airline"}},
    "simulations": [{"id": "s", "messages": [USER, {"role": "assistant", "usage": None}]}],
}


def dump(*rows: Any) -> bytes:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "empty.jsonl: the file is empty"),
        ("blank.jsonl", b"\n\n", "blank.jsonl: the file holds no records"),
        ("none.jsonl.gz", gzip.compress(b"", mtime=0), "holds no records"),
        ("fake.jsonl.gz", dump(MOONCAKE), "not a gzip file although its name ends in .gz"),
        ("cut.jsonl.gz", gzip.compress(dump(*[MOONCAKE] * 99))[:-20], "truncated gzip after line"),
        ("cut.jsonl", dump(MOONCAKE) + b'{"timestamp": 1', "line 2: not valid JSON"),
        ("bad.jsonl", dump(MOONCAKE, "{oops}"), "bad.jsonl, line 2: not valid JSON"),
        ("list.jsonl", dump(MOONCAKE, "[1]"), "line 2: a JSON object is needed, not list"),
        ("latin.jsonl", b'{"timestamp": 0, "input_length": "\xe9"}\n', "line 1: not UTF-8"),
        ("what.jsonl", dump({"a": 1, "b": 2}), r"unknown format \(keys here: a, b\)"),
        ("words.txt", b"hello\n", "words.txt, line 1: not valid JSON"),
        (
            "cut.json",
            b'{\n"a": 1,\n\n"b": [\n',
            r"cut.json, line 4: not valid JSON: Expecting value",
        ),
        ("two.json", b'{\n"a": 1\n}\n{\n}\n', "two.json, line 4: not valid JSON: Extra data"),
        (
            "ids.json",
            dump(WEKA),
            "line 1, requests\\[0\\]: hash_ids is 'x'; allowed: a list of int",
        ),
        (
            "noids.json",
            dump(WEKA | {"requests": [{"in": 1, "out": 1}]}),
            "key 'hash_ids' is missing",
        ),
        ("info.json", dump(TAU2 | {"info": None}), "line 1: info is None; allowed: an object"),
        (
            "usage.json",
            json.dumps(TAU2, indent=1).encode(),
            r"usage.json, simulations\[0\], messages\[1\]: usage is None; allowed: an object",
        ),
        (
            "time.json",
            dump(TAU2 | {"simulations": [{"id": "s", "messages": [CALL, USER, CALL]}]}),
            r"messages\[1\]: timestamp is 'noon'; allowed: a time like",
        ),
        ("schema.jsonl", dump({"schema": "agentprog/2"}), "did you mean 'agentprog/1'"),
        ("key.jsonl", dump(MOONCAKE, {"timestamp": 1}), "line 2: key 'input_length' is missing"),
        ("neg.jsonl", dump(MOONCAKE | {"input_length": -4}), "input_length is -4; allowed"),
        ("nan.jsonl", b'{"timestamp": NaN, "input_length": 1}', "timestamp is nan; allowed"),
        ("hash.jsonl", dump(MOONCAKE | {"hash_ids": "x"}), "hash_ids is 'x'; allowed: a list"),
        (
            "delay.jsonl",
            dump(MOONCAKE | {"session_id": 1}, {"session_id": 1, "input_length": 1}),
            "line 2: key 'delay' is missing",
        ),
        ("turns.jsonl", dump(OWN | {"turns": []}), r"turns is \[\]; allowed: at least 1"),
        ("prefix.jsonl", dump(OWN | {"prefix": [["k"]]}), "prefix is .* pairs"),
        ("labels.jsonl", dump(OWN | {"labels": "x"}), "labels is 'x'; allowed: a list of strings"),
        (
            "own.jsonl",
            dump(OWN, OWN | {"turns": [TURN | {"reuse_tokens": 3}]}),
            r"line 2: program 'p', turn 0: reuse_tokens is 3",
        ),
        (
            "gap.jsonl",
            dump(OWN | {"turns": [TURN | {"gap_kind": "nap"}]}),
            r"line 1, turns\[0\]: gap_kind is 'nap'; allowed: tool, user, end",
        ),
        (
            "agentprog.jsonl",
            dump({"schema": "agentprog/1", "program_id": "a", "turns": [{"input_tokens": 1}]}),
            r"turns\[0\]: key 'output_tokens' is missing",
        ),
        (
            "sessions.jsonl",
            dump({"sub_requests": [{"input_toks": 2}], "arrival_time_ns": 0}),
            r"sub_requests\[0\]: key 'output_toks' is missing",
        ),
        (
            "ids.jsonl",
            dump({"input_toks": 2, "output_toks": 1, "arrival_time_ns": 0, "input_tok_ids": [1]}),
            r"input_tok_ids is \[1\]; allowed: as many ids as tokens \(2, not 1\)",
        ),
        ("arrival.jsonl", dump({"input_toks": 2, "output_toks": 1}), "'arrival_time_ns' is miss"),
        (
            "runs.jsonl",
            dump({"id": "c", "block_size": 64, "requests": [{"in": 1, "hash_runs": [[1]]}]}),
            "hash_runs is .*first id, how many",
        ),
        (
            "agents.jsonl",
            dump({"id": "c", "block_size": 64, "requests": [{"type": "subagent"}]}),
            "at least one request that is not a subagent",
        ),
        ("azure.csv", b"TIMESTAMP,ContextTokens\n", "column 'GeneratedTokens' is missing"),
        (
            "cells.csv",
            b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1\n",
            "cells.csv, line 2: 2 cells; the header has 3",
        ),
        (
            "time.csv",
            b"TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,2\n",
            "line 2: TIMESTAMP is 'noon'; allowed: a time like",
        ),
        (
            "tokens.csv",
            b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,x\n",
            "line 2: GeneratedTokens is 'x'; allowed: an integer",
        ),
    ],
)
def test_messages(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TraceError, match=message) as caught:
        read_programs(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nowhere.jsonl: cannot be opened: No such file"):
        read_programs(tmp_path / "nowhere.jsonl")


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"'moncake'; did you mean 'mooncake'\? allowed: auto"):
        read_programs(tmp_path / "x", "moncake")


def test_a_format_that_is_not_the_files(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(dump(MOONCAKE))
    with pytest.raises(TraceError, match="line 1: key 'schema' is missing"):
        read_programs(path, "agentserve")


def test_the_compression_is_told_from_the_content(tmp_path: Path) -> None:
    path = tmp_path / "packed.jsonl"
    path.write_bytes(gzip.compress(dump(MOONCAKE)))
    assert len(read_programs(path)) == 1


def test_errors_reach_the_workload(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(dump(MOONCAKE, "nonsense"))
    with pytest.raises(ValueError, match=r"bad.jsonl, line 2"):
        build_workload(TraceWorkload(path=str(path)), PoissonArrivals(rate_per_s=1), 0)


def test_a_folder_without_traces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(TraceError, match=r"the folder has no \.json or \.jsonl files"):
        read_programs(tmp_path)


# --- pipes ----------------------------------------------------------------------------------------


def _through(pipe: Path, content: bytes) -> threading.Thread:
    """Write to a pipe in the background."""
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    return writer


@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pipe_is_read_once(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    writer = _through(tmp_path / "pipe", pack(dump(MOONCAKE)))
    assert len(read_programs(tmp_path / "pipe")) == 1
    writer.join(10)


@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
def test_errors_in_a_pipe_name_the_pipe(tmp_path: Path) -> None:
    writer = _through(tmp_path / "pipe", dump(MOONCAKE, "nonsense"))
    with pytest.raises(TraceError, match=r"not valid JSON") as caught:
        read_programs(tmp_path / "pipe")
    assert str(caught.value).startswith(f"{tmp_path / 'pipe'}, line 2: ")
    writer.join(10)
