"""Whole runs: folder, resume, determinism, algorithms, and the learned policy as a policy."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from gymnasium.spaces import Box, MultiDiscrete
from sb3_contrib import MaskablePPO
from train_helpers import small_scenario

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Simulation, load_scenario
from agentserve_gym.train import load_policy, make_settings, resume, runs, train
from agentserve_gym.train.checkpoints import list_checkpoints, save_checkpoint
from agentserve_gym.train.learned import find_model
from agentserve_gym.train.runs import silent
from agentserve_gym.train.workers import make_env

pytestmark = [pytest.mark.training, pytest.mark.no_cover]


class Killed(Exception):
    pass


def kill_at(decisions):
    """A report that ends the process's work in the middle of learning."""

    def report(what, done, total):
        if what.startswith("learning") and done >= decisions:
            raise Killed

    return report


def weights(run):
    policy = load_policy(run)
    return {name: value.clone() for name, value in policy.scorer.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def without_wall_time(results):
    return {key: value for key, value in results.items() if key not in ("wall_s", "evaluation")}


@pytest.fixture(scope="module")
def trained(small_run, tmp_path_factory):
    """One small run: its folder, evaluation and results."""
    run = tmp_path_factory.mktemp("runs") / "first"
    evaluation, results = train(small_run(), run, silent)
    return run, evaluation, results


@pytest.fixture(scope="module")
def stopped_once(small_run, tmp_path_factory):
    """The same run, stopped after its second checkpoint."""
    run = tmp_path_factory.mktemp("stopped") / "first"
    with pytest.raises(Killed):
        train(small_run(), run, kill_at(130))
    assert [path.name for path in list_checkpoints(run)] == ["step_000000064", "step_000000128"]
    return run


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A copy of the stopped run, to go on with or to damage."""
    return shutil.copytree(stopped_once, tmp_path / "first")


def test_a_run_leaves_what_it_promises(trained):
    run, evaluation, results = trained
    names = {entry.name for entry in run.iterdir()}
    files = {"settings.json", "imitation.json", "selection.json", "model.zip", "results.json"}
    assert names == files | {"checkpoints", "tensorboard"}
    assert json.loads((run / "results.json").read_text()) == results
    curve = json.loads((run / "selection.json").read_text())
    assert curve == {"metric": "s of mean JCT", **results["selection"]}
    assert [path.name for path in list_checkpoints(run)] == ["step_000000192", "step_000000256"]
    assert [entry["step"] for entry in results["selection"]["history"]] == [0, 64, 128, 192, 256]
    means = {entry["step"]: entry["mean"] for entry in results["selection"]["history"]}
    assert means[results["selection"]["best_step"]] == min(means.values())
    assert evaluation.seeds == [0, 1, 2]
    policies = [row["policy"] for row in results["evaluation"]["policies"]]
    assert policies == list(dict.fromkeys(["learned(first)", "affinity+lru", results["teacher"]]))
    assert any(file.name.startswith("events") for file in (run / "tensorboard").iterdir())


def test_differences_are_paired_by_seed(trained):
    _, evaluation, _ = trained
    learned, other = (s.figures["jct"] for s in (evaluation.policy, evaluation.others[0]))
    assert evaluation.differences[0].mean == pytest.approx(np.subtract(learned, other).mean())


def test_no_invalid_answers(trained):
    assert trained[1].policy.invalid_answers == 0


def test_resume_equals_an_uninterrupted_run(trained, stopped):
    whole, _, results = trained
    assert not (stopped / "results.json").exists()
    _, resumed = resume(stopped, silent)
    assert without_wall_time(resumed) == without_wall_time(results)
    figures = [r["evaluation"]["policies"][0]["by_seed"] for r in (resumed, results)]
    assert figures[0] == figures[1]
    final = [list_checkpoints(folder)[-1] / "model.zip" for folder in (stopped, whole)]
    last = [MaskablePPO.load(file, device="cpu").policy.state_dict() for file in final]
    assert equal(*last)


def test_a_run_killed_before_its_first_checkpoint_starts_anew(small_run, tmp_path):
    def report(what, done, total):
        raise Killed

    run = tmp_path / "early"
    with pytest.raises(Killed):
        train(small_run(steps=64), run, report)
    _, results = resume(run, silent)
    assert results["selection"]["history"][-1]["step"] == 64


def test_a_seed_determines_a_run(small_run, tmp_path):
    settings = small_run(steps=64)
    results = [train(settings, tmp_path / name, silent)[1] for name in ("one", "two")]
    assert without_wall_time(results[0]) == without_wall_time(results[1])
    assert equal(weights(tmp_path / "one"), weights(tmp_path / "two"))
    train(settings.model_copy(update={"seed": 1}), tmp_path / "three", silent)
    assert not equal(weights(tmp_path / "one"), weights(tmp_path / "three"))


@pytest.mark.parametrize(
    ("algorithm", "env"),
    [
        ("ppo", "AgentServe-v0"),
        ("ppo", "AgentServeRouting-v0"),
        ("maskable-ppo", "AgentServeOffload-v0"),
        ("dqn", "AgentServeRouting-v0"),
        ("dqn", "AgentServeOffload-v0"),
    ],
)
def test_algorithms_and_environments(algorithm, env, small_run, tmp_path):
    settings = small_run(algorithm=algorithm, env=env, steps=128, imitate="none")
    evaluation, results = train(settings, tmp_path / "run", silent)
    assert evaluation.policy.unfinished_programs == 0
    assert evaluation.policy.invalid_answers == 0
    assert results["teacher"] is None
    assert not (tmp_path / "run" / "imitation.json").exists()


def test_dqn_resumes_with_its_replay_buffer(small_run, tmp_path):
    settings = small_run(algorithm="dqn", env="AgentServeRouting-v0", imitate="none")
    _, whole = train(settings, tmp_path / "whole", silent)
    with pytest.raises(Killed):
        train(settings, tmp_path / "killed", kill_at(150))
    _, resumed = resume(tmp_path / "killed", silent)
    assert without_wall_time(resumed) == without_wall_time(whole)


# --- the learned policy as a policy --------------------------------------------------------------


def test_it_decides_as_the_model_does_in_the_environment(trained):
    run, _, _ = trained
    settings = make_settings(runs.read_table(run / "settings.json"))
    env = make_env(settings)
    model = MaskablePPO.load(find_model(run), device="cpu")
    observation, _ = env.reset(options={"workload_seed": 7})
    over = False
    while not over:
        masks = env.action_masks()
        action, _ = model.predict(observation, action_masks=masks, deterministic=True)
        assert masks[action[0]]
        assert masks[env.routes.size + action[1]]
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    report = run_policy(Simulation(load_scenario(settings.scenario), 7), load_policy(run))
    assert report["jct_s"]["mean"] == pytest.approx(info["metrics"]["jct_s/mean"], rel=1e-12)
    assert info["invalid_actions"] == 0


def test_trained_on_4_it_runs_on_8_instances(trained):
    policy = load_policy(trained[0])
    scenario = load_scenario(small_scenario(instances=8, programs=16))
    report = run_policy(Simulation(scenario, 0), policy)
    assert report["programs"] == 16
    assert report["invalid_answers"] == 0
    assert sum(busy > 0 for busy in report["busy_s"]) > 4
    counters = report["counters"]
    assert counters["learned.routes"] >= report["turns"]
    assert counters["learned.delegated"] == 0


def test_trained_with_dram_it_runs_on_other_tiers(trained):
    """It does not use the tier that it does not know, and never asks for one that is not there."""
    nvme = {"name": "nvme", "capacity_gib": 64.0, "read_gbps": 20.0, "write_gbps": 10.0}
    for dram in (True, False):
        content = small_scenario()
        content["cluster"]["tiers"] = [nvme]
        if not dram:
            del content["cluster"]["nodes"][0]["dram"]
        report = run_policy(Simulation(load_scenario(content), 0), load_policy(trained[0]))
        assert report["invalid_answers"] == 0
        assert report["residency"]["offloads"]["nvme"] == 0
        assert report["counters"]["learned.placements"] > 0


def test_it_is_named_like_any_policy(trained):
    named = parse_policy(f"agentserve_gym.train:load_policy(path={trained[0]})")
    scenario = load_scenario(small_scenario())
    direct = run_policy(Simulation(scenario, 1), load_policy(trained[0]))
    assert run_policy(Simulation(scenario, 1), named)["jct_s"] == direct["jct_s"]


def test_one_policy_object_serves_one_simulation_after_another(trained):
    policy = load_policy(trained[0])
    scenario = load_scenario(small_scenario())
    first = [run_policy(Simulation(scenario, seed), policy)["jct_s"] for seed in (1, 2)]
    again = run_policy(Simulation(scenario, 1), policy)["jct_s"]
    assert first[0] == again
    assert first[0] != first[1]


# --- what is refused -----------------------------------------------------------------------------


def test_bad_folders_and_files_are_refused(trained, small_run, tmp_path):
    run = trained[0]
    with pytest.raises(ValueError, match="holds a run already"):
        train(small_run(), run, silent)
    with pytest.raises(ValueError, match="is finished"):
        resume(run, silent)
    with pytest.raises(ValueError, match=r"holds no run \(settings.json is missing\)"):
        resume(tmp_path, silent)
    with pytest.raises(ValueError, match=r"holds no model.zip"):
        load_policy(tmp_path)
    with pytest.raises(ValueError, match="no run folder or model file"):
        load_policy(tmp_path / "nothing")
    text = tmp_path / "text.zip"
    text.write_text("not a zip")
    with pytest.raises(ValueError, match="is not a model file"):
        load_policy(text)


def test_a_model_of_another_program_is_refused(tmp_path):
    file = tmp_path / "other.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data", "{}")
    with pytest.raises(ValueError, match=r"holds no agentserve.json"):
        load_policy(file)


def with_other_card(run: Path, file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write a run's model to ``file`` with a changed card."""
    with zipfile.ZipFile(run / "model.zip") as model, zipfile.ZipFile(file, "w") as other:
        for name in model.namelist():
            content = model.read(name)
            if name == "agentserve.json":
                card = json.loads(content)
                change(card)
                content = json.dumps(card).encode()
            other.writestr(name, content)


def test_a_model_file_chooses_no_code_that_runs(trained, tmp_path):
    file, made = tmp_path / "foreign.zip", tmp_path / "made"
    code = f"os:mkdir(path={made})"
    with_other_card(trained[0], file, lambda card: card.update(baseline=code))
    with pytest.raises(ValueError, match="code that is not of this package"):
        load_policy(file)
    assert not made.exists()
    assert load_policy(file, baseline="lmetric+dram").card.baseline == "lmetric+dram"


def test_a_model_with_the_actions_of_an_earlier_version_is_refused(trained, tmp_path):
    file = tmp_path / "old.zip"
    with_other_card(trained[0], file, lambda card: card.pop("pin_until_return_s"))
    with pytest.raises(ValueError, match=r"the actions of an earlier version, .*; train it anew"):
        load_policy(file)


@pytest.mark.parametrize(
    ("spaces", "words"),
    [
        (None, "observations and actions of an earlier version"),
        (
            (Box(0, 1, (7,)), MultiDiscrete([5, 5])),
            r"7 features and actions MultiDiscrete\(\[5 5\]",
        ),
    ],
)
def test_a_checkpoint_of_other_spaces_is_refused(stopped, spaces, words):
    for checkpoint in list_checkpoints(stopped):
        progress = pickle.loads((checkpoint / "progress.pickle").read_bytes())
        progress["spaces"] = spaces
        (checkpoint / "progress.pickle").write_bytes(pickle.dumps(progress))
    with pytest.raises(ValueError, match=rf"128 was made with {words}.* now; train it anew"):
        resume(stopped, silent)
    assert len(list_checkpoints(stopped)) == 2


def test_a_device_that_is_not_there_is_refused(small_run, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(ValueError, match="device 'cuda' cannot be used"):
        train(small_run(device="cuda"), tmp_path / "run", silent)
    assert not (tmp_path / "run").exists()


def damage(file, how):
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:100] if how == "cut off" else b"garbage")


@pytest.mark.parametrize(
    ("name", "how"),
    [("progress.pickle", "cut off"), ("model.zip", "garbage"), ("model.zip", "gone")],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(trained, stopped, name, how):
    damage(list_checkpoints(stopped)[-1] / name, how)
    with pytest.warns(UserWarning, match=r"cannot read .*128 \(.*; going on from .*064"):
        _, resumed = resume(stopped, silent)
    assert without_wall_time(resumed) == without_wall_time(trained[2])
    assert equal(weights(stopped), weights(trained[0]))


def test_damaged_checkpoints_are_named_where_none_is_left(stopped):
    for checkpoint in list_checkpoints(stopped):
        damage(checkpoint / "progress.pickle", "cut off")
    with pytest.raises(ValueError, match=r"no checkpoint can be read: .*128 \(.*064 \("):
        resume(stopped, silent)
    assert len(list_checkpoints(stopped)) == 2


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(stopped, small_run, monkeypatch):
    learner = runs.make_learner(small_run(), runs.make_workers(small_run()))
    before = sorted((stopped / "checkpoints").iterdir())
    monkeypatch.setattr(learner, "save", lambda file: 1 / 0)
    (stopped / "checkpoints" / f".step_000000000.{os.getpid()}.part").mkdir()  # of a killed process
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(stopped, learner, {})
    assert sorted((stopped / "checkpoints").iterdir()) == before


def test_half_written_checkpoints_are_not_seen(trained, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(trained[0], run)
    whole = list_checkpoints(run)
    (run / "checkpoints" / ".step_000000999.1.part").mkdir()
    assert list_checkpoints(run) == whole
