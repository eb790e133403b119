"""The peer trace, our side of the comparison, and peers that are absent or fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentserve_gym.workloads import detect_format, read_programs
from benchmarks.machine import kernels
from benchmarks.peers import compare as comparing
from benchmarks.peers import venv
from benchmarks.peers.base import Peer, Setting, last_line, run_script
from benchmarks.peers.compare import OUR_POLICIES, compare, write_trace
from benchmarks.peers.ours import replay
from benchmarks.peers.registry import PEERS
from benchmarks.workloads import peer_programs

FIGURES = {"wall_s": 0.5, "turns": 20, "ttft_ms": 1.0, "tpot_ms": 2.0, "cached_share": 0.5}


@dataclass(frozen=True)
class Fake:
    script: Path
    name: str = "fake"
    requirement: str = "fake==1.0"
    what: str = "nothing"
    environment: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return write_trace(tmp_path / "trace.jsonl", 4)


def ignore(what: str, done: int, total: int) -> None:
    assert 0 <= done <= total


def fake(tmp_path: Path, code: str) -> Fake:
    script = tmp_path / "fake_script.py"
    script.write_text(code, encoding="utf-8")
    return Fake(script)


def test_the_trace_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    write_trace(path, 200)
    assert detect_format(path) == "mooncake"
    found = read_programs(path)
    written = peer_programs(200)
    assert len(found) == len(written)
    for ours, theirs in zip(written, found, strict=True):
        assert theirs.program_id == f"session-{ours.program_id}"
        assert theirs.arrival_s == pytest.approx(ours.arrival_s, abs=1e-9)
        assert [
            (turn.input_tokens, turn.output_tokens, turn.gap_s, turn.gap_kind)
            for turn in theirs.turns
        ] == [
            (turn.input_tokens, turn.output_tokens, turn.gap_s, turn.gap_kind)
            for turn in ours.turns
        ]
        # The form holds reuse in whole blocks of the previous prompt.
        for before, turn in zip(theirs.turns, theirs.turns[1:], strict=False):
            assert turn.reuse_tokens == before.input_tokens // 512 * 512


def test_rows_are_those_that_peers_read(setting: Setting) -> None:
    rows = [json.loads(line) for line in setting.trace.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 20
    for number, row in enumerate(rows):
        when = "delay" if number % 5 else "timestamp"
        assert row.keys() == {"session_id", when, "input_length", "output_length", "hash_ids"}
        assert len(row["hash_ids"]) == -(-row["input_length"] // 512)


def test_the_setting_tells_what_we_simulate(setting: Setting) -> None:
    told = setting.as_dict()
    assert told["trace"] == str(setting.trace)
    assert (told["instances"], told["block_tokens"]) == (4, 16)
    # An H100 holds Llama-3.1-8B and some hundred thousand tokens of its KV.
    assert 300_000 < told["kv_blocks"] * 16 < 600_000
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize("policy", OUR_POLICIES)
def test_our_script_gives_the_fields_of_a_peer(setting: Setting, policy: str) -> None:
    script = ["-m", "benchmarks.peers.ours", policy]
    found = run_script(Path(sys.executable), script, setting, {})
    again = replay(policy, str(setting.trace))
    assert found.turns == again["turns"] == 20
    assert (found.ttft_ms, found.tpot_ms) == (again["ttft_ms"], again["tpot_ms"])
    assert 0 < found.cached_share < 1


def test_peers_are_compared(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "python_of", lambda peer, install: Path(sys.executable))
    peer: Peer = fake(tmp_path, f"print('noise')\nprint({json.dumps(FIGURES)!r})")
    found = compare(setting, 2, install=False, report=ignore, peers=(peer,))
    (run,) = found.peers
    assert run.rate is not None
    assert (run.name, run.version, run.rate.median) == ("fake", "1.0", 40.0)
    assert found.ratios.keys() == {
        f"agentserve-gym, {name}, {kernel} / fake" for name in OUR_POLICIES for kernel in kernels()
    }
    for mine in found.ours:
        assert mine.rate is not None
        ratio = found.ratios[f"{mine.name} / fake"]
        assert ratio.median == pytest.approx(mine.rate.median / 40)
    assert found.turns == 20


def test_a_peer_that_fails_is_named(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "python_of", lambda peer, install: Path(sys.executable))
    found = compare(
        setting, 1, install=False, report=ignore, peers=(fake(tmp_path, "import nosuchthing"),)
    )
    assert "nosuchthing" in found.peers[0].missing
    assert found.peers[0].rate is None
    assert found.ratios == {}


def test_an_absent_peer_is_named(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venv, "FOLDER", tmp_path / "venvs")
    found = compare(setting, 1, install=False, report=ignore, peers=(fake(tmp_path, ""),))
    assert found.peers[0].missing == "fake==1.0 is not installed here"
    assert len(found.ours) == len(OUR_POLICIES) * len(kernels())


def test_every_peer_is_complete() -> None:
    for peer in PEERS:
        assert peer.script.is_file()
        assert "==" in peer.requirement
        assert peer.what


def test_the_last_line_counts() -> None:
    assert last_line("a\n b \n\n") == "b"
    assert last_line("") == ""
