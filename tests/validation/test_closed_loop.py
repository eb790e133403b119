"""Closed-loop replay of conversations: who starts when, what is reported, and host memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agentserve_gym.validation.closed_loop import ClosedLoop, ClosedLoopRun, replay_closed_loop
from agentserve_gym.validation.replay import ReplaySettings

CLIENTS, CONVERSATIONS, TURNS = 4, 10, 5
NVFP4 = "llama-3.3-70b-nvfp4"


def write_conversations(path: Path, new_tokens: int, output_tokens: int) -> Path:
    """Ten conversations of five turns, each with so many new prompt and answer tokens."""
    step = new_tokens + output_tokens
    rows = [
        f"{number},{turn},{new_tokens + step * turn},{output_tokens}"
        for number in range(CONVERSATIONS)
        for turn in range(TURNS)
    ]
    path.write_text("\n".join(["conversation,turn,prompt_tokens,output_tokens", *rows]))
    return path


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("closed_loop")
    return write_conversations(folder / "conversations.csv", 200, 40)


@pytest.fixture(scope="module")
def settings(conversations: Path) -> ClosedLoop:
    engine = ReplaySettings(
        conversations, "b200", NVFP4, max_num_batched_tokens=8192, kv_blocks=2000
    )
    return ClosedLoop(engine, CLIENTS)


@pytest.fixture(scope="module")
def run(settings: ClosedLoop) -> ClosedLoopRun:
    return replay_closed_loop(settings)


def test_each_client_runs_one_conversation_at_a_time(run: ClosedLoopRun) -> None:
    turns = run.replay.turns
    assert len(turns) == CONVERSATIONS * TURNS
    assert Counter(turn.program_id for turn in turns).most_common(1)[0][1] == TURNS
    for start_s in [turn.ready_s for turn in turns]:
        at_once = sum(turn.ready_s <= start_s < turn.end_s for turn in turns)
        assert at_once <= CLIENTS
    firsts = [turn for turn in turns if turn.turn == 0]
    assert [turn.program_id for turn in firsts] == [f"conversation-{n}" for n in range(10)]
    assert [turn.ready_s for turn in firsts[:CLIENTS]] == [firsts[0].ready_s] * CLIENTS


def test_prompts_carry_the_chat_template_and_answers_are_hit(run: ClosedLoopRun) -> None:
    turns = [turn for turn in run.replay.turns if turn.program_id == "conversation-0"]
    assert [turn.prompt_tokens for turn in turns] == [
        200 + 240 * number + 35 + 9 * number for number in range(TURNS)
    ]
    hit = sum((turn.prompt_tokens + turn.output_tokens - 1) // 16 * 16 for turn in turns[:-1])
    assert run.replay.report["hit_tokens"]["hbm"] == CONVERSATIONS * hit


def test_a_clients_clock_starts_when_it_sends(settings: ClosedLoop, run: ClosedLoopRun) -> None:
    """The way to the engine is part of the time to first token; the next request follows at once,
    or after the pause."""
    assert settings.engine.request_s(1000) == pytest.approx(0.007)

    def pauses_s(of: ClosedLoopRun) -> np.ndarray:
        turns = [turn for turn in of.replay.turns if turn.program_id == "conversation-0"]
        return np.array([b.ready_s - a.end_s for a, b in pairwise(turns)])

    assert pauses_s(run) == pytest.approx(0.0, abs=1e-9)
    thinking = replay_closed_loop(replace(settings, think_s=0.5))
    assert pauses_s(thinking) == pytest.approx(0.5)
    plain = replace(settings, engine=replace(settings.engine, software="none"))
    assert plain.engine.request_s(1000) == 0.0


@pytest.mark.parametrize("requests", [1, 7, 49])
def test_no_turn_starts_after_the_last_request(settings: ClosedLoop, requests: int) -> None:
    run = replay_closed_loop(replace(settings, requests=requests))
    whole = replay_closed_loop(settings)
    assert len(run.replay.turns) == requests
    firsts = [turn.ready_s for turn in whole.replay.turns[:requests]]
    assert [turn.ready_s for turn in run.replay.turns] == firsts


def test_figures_and_states_agree(run: ClosedLoopRun) -> None:
    figures = run.as_dict()
    states = figures["states"]
    assert figures["requests_per_s"] == pytest.approx(50 / figures["makespan_s"])
    assert len({len(series) for series in states.values()}) == 1
    assert max(states["running"]) == CLIENTS
    assert states["time_s"][:3] == [0.0, 1.0, 2.0]
    assert states["running"][-1] == states["waiting"][-1] == 0
    assert states["kv_usage_pct"][-1] == 0.0
    assert 0 < figures["kv_usage_pct"]["mean"] < figures["kv_usage_pct"]["max"] < 100


def test_host_memory_takes_every_full_block_once(settings: ClosedLoop, run: ClosedLoopRun) -> None:
    hosted = replay_closed_loop(replace(settings, host_gib=100.0))
    last = [turn for turn in hosted.replay.turns if turn.turn == TURNS - 1]
    blocks = sum((turn.prompt_tokens + turn.output_tokens - 1) // 16 for turn in last)
    assert hosted.host_gb_out == pytest.approx(blocks * 16 * 163_840 / 1e9)
    assert hosted.host_gb_in == 0.0
    assert hosted.states.host_kv_usage_pct[-1] > 0.0
    assert (run.host_gb_out, run.host_gb_in) == (0.0, 0.0)
    assert [turn.end_s for turn in hosted.replay.turns] == [t.end_s for t in run.replay.turns]


def test_host_memory_pays_where_the_pool_is_too_small(settings: ClosedLoop, tmp_path: Path) -> None:
    """Eight conversations of up to 15,000 tokens on a pool of 32,000."""
    workload = write_conversations(tmp_path / "long.csv", 3000, 40)
    engine = replace(settings.engine, workload=workload)
    without = replay_closed_loop(replace(settings, engine=engine, clients=8))
    hosted = replay_closed_loop(replace(settings, engine=engine, clients=8, host_gib=100.0))
    prompts = sum(turn.prompt_tokens for turn in without.replay.turns)
    assert without.replay.report["hit_tokens"]["hbm"] < 0.5 * prompts
    hits = hosted.replay.report["hit_tokens"]
    assert hits["dram"] > 0
    assert sum(hits.values()) > 0.6 * prompts
    assert hosted.host_gb_in > 0.0
    assert hosted.replay.makespan_s() < 0.8 * without.replay.makespan_s()


def test_the_same_run_twice_and_stepwise(settings: ClosedLoop, run: ClosedLoopRun) -> None:
    assert replay_closed_loop(settings).as_dict() == run.as_dict()
