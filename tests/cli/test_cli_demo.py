"""``agentserve demo``: what it replays, what it says, what it draws."""

from __future__ import annotations

import json
from importlib import import_module

import pytest

from agentserve_gym.cli.demo import POLICIES, RECORDED, demo_scenario
from agentserve_gym.cli.driving import Run
from agentserve_gym.cli.explain import explain
from agentserve_gym.plots import RunRecord
from agentserve_gym.sim import Simulation
from agentserve_gym.workloads import GeneratedWorkload, Program, Turn, write_programs
from tests.data_sets import needed_data_set


@pytest.fixture
def trace(tmp_path):
    """Four programs that fill more HBM than there is, so that the two policies differ."""

    def program(number: int, labels: tuple[str, ...]) -> Program:
        turns: list[Turn] = []
        chain = 0
        for index in range(6):
            last = index == 5
            prompt = chain + 20_000 - 100 * number
            turns.append(
                Turn(
                    prompt,
                    prompt - chain,
                    50,
                    chain,
                    0.0 if last else 30.0,
                    "end" if last else "tool",
                )
            )
            chain = prompt + 50
        return Program(f"p{number}", "chat", tuple(turns), labels=labels)

    path = tmp_path / "programs.jsonl"
    write_programs([program(n, ("fresh_start",) if n else ()) for n in range(4)], path)
    return path


def test_demo_replays_a_trace_and_draws(agentserve, trace, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "new" / "comparison.png"
    outcome = agentserve("demo", "--trace", trace, "--picture", picture)
    assert outcome.code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"picture: {picture}" in outcome.stdout
    assert "recorded in programs.jsonl" in outcome.stderr
    for policy in POLICIES:
        assert policy in outcome.stdout


def test_demo_json(agentserve, trace, tmp_path):
    pytest.importorskip("matplotlib")
    outcome = agentserve("demo", "--trace", trace, "--picture", tmp_path / "p.png", "--json")
    document = json.loads(outcome.stdout)
    assert [entry["policy"] for entry in document["runs"]] == list(POLICIES)
    assert document["programs_from"] == str(trace)
    # The program that does not start fresh is left out.
    assert document["runs"][0]["programs"] == 3


def test_without_a_trace_the_generator_steps_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenario = demo_scenario(None)
    assert isinstance(scenario.workload, GeneratedWorkload)
    assert scenario.workload.programs >= 200
    cluster = Simulation(scenario).cluster
    assert all(cluster.reaches(instance, "cxl") for instance in range(4))


def test_without_the_data_set_the_demo_says_generated(agentserve, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("AGENTSERVE_DATA", str(tmp_path / "empty"))
    few = demo_scenario(None)
    few = few.model_copy(update={"workload": few.workload.model_copy(update={"programs": 3})})
    monkeypatch.setattr(import_module("agentserve_gym.cli.demo"), "demo_scenario", lambda _: few)
    outcome = agentserve("demo", "--picture", tmp_path / "p.png", "--json")
    assert "the data set coding-sessions is not in" in outcome.stderr
    assert "Replaying generated programs" in outcome.stderr
    assert json.loads(outcome.stdout)["programs_from"] == "generator"


def test_recorded_programs_are_a_few_hundred_whole_ones():
    workload = Simulation(demo_scenario(needed_data_set(RECORDED))).workload
    programs = [workload.program(index) for index in range(len(workload))]
    assert len(programs) >= 200
    assert all("fresh_start" in program.labels for program in programs)


def fake_run(policy: str, queue_s: float, prefill_s: float, recomputed: int, dram: float) -> Run:
    jct_s = queue_s + prefill_s + 100.0
    report = {
        "programs": 10,
        "jct_s": {"mean": jct_s},
        "mean_jct_s": {"all": jct_s},
        "phase_s": {
            "queue": 10 * queue_s,
            "load": 0.0,
            "prefill": 10 * prefill_s,
            "decode": 1000.0,
            "gap": 0.0,
        },
        "recomputed_tokens": recomputed,
        "hit_rate": {"hbm": 0.5, "dram": dram, "cxl": 0.0},
    }
    return Run(RunRecord(policy, report, ()), {}, 1.0, answers=1, first_invalid=None)


def test_explanation_names_the_faster_policy_and_the_phases_that_differ():
    slow, fast = (
        fake_run("lru", 80.0, 20.0, 7_000_000, 0.0),
        fake_run("dram", 0.0, 20.0, 0, 0.4),
    )
    for runs in ([slow, fast], [fast, slow]):
        headline, where, cause = explain(runs)
        assert headline == "dram: mean JCT 2 min, 40% less than lru (3.33 min)."
        assert where == "Against lru a program on average has 80 s less waiting for an instance."
        assert cause.startswith("lru computed 7.0 million prompt tokens a second time")
        assert "50% in HBM, 40% in DRAM" in cause


def test_the_fastest_is_compared_with_all_others():
    queues_s = {"a": 80.0, "b": 0.0, "c": 30.0}
    runs = [fake_run(name, queue_s, 20.0, 0, 0.0) for name, queue_s in queues_s.items()]
    headline, where, cause = explain(runs)
    others = "20% less than c (2.5 min) and 40% less than a (3.33 min)"
    assert headline == f"b: mean JCT 2 min, {others}."
    assert where.startswith("Against a ")
    assert cause.startswith("a computed")
