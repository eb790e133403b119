"""Models from outside: any Stable-Baselines3 algorithm, its statistics, and plain functions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("torch")
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from train_helpers import small_scenario
from typer.testing import CliRunner

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.cli import app
from agentserve_gym.leaderboard.policies import make_card
from agentserve_gym.sim import Simulation, load_scenario
from agentserve_gym.train import load_function, load_sb3
from agentserve_gym.train.foreign import ALGORITHMS

JOINT, ROUTING = "AgentServe-v0", "AgentServeRouting-v0"
SCENARIO = load_scenario(small_scenario())
DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"

# Small enough for a test; the first two learn from discrete actions only.
SETTINGS = {
    "dqn": {"learning_starts": 8, "buffer_size": 64},
    "qrdqn": {"learning_starts": 8, "buffer_size": 64},
    "ars": {"n_delta": 1},
    **{name: {"n_steps": 32, "batch_size": 32}
       for name in ("ppo", "maskable-ppo", "recurrent-ppo", "trpo")},
}  # fmt: skip


def make(env: str, **options: object) -> gym.Env:
    return gym.make(f"agentserve_gym:{env}", scenario=SCENARIO, **options)


def save_model(algorithm: str, env: str, folder: Path) -> Path:
    network = "MlpLstmPolicy" if algorithm == "recurrent-ppo" else "MlpPolicy"
    model = ALGORITHMS[algorithm](
        network, make(env), seed=0, device="cpu", **SETTINGS.get(algorithm, {})
    )
    model.learn(32)
    model.save(folder / "model.zip")
    return folder / "model.zip"


def played(env: gym.Env, act, workload: int) -> dict:
    """The last step's information of an episode in the environment itself."""
    observation, info = env.reset(options={"workload_seed": workload})
    over = False
    while not over:
        observation, _, terminated, truncated, info = env.step(
            act(observation, info["action_mask"])
        )
        over = terminated or truncated
    return info


def same(report: dict, info: dict) -> bool:
    metrics = info["metrics"]
    return (
        report["jct_s"]["mean"] == metrics["jct_s/mean"]
        and report["invalid_answers"] == info["invalid_actions"]
    )


@pytest.mark.training
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_decides_as_it_does_in_the_environment(algorithm, tmp_path):
    env = ROUTING if algorithm in ("dqn", "qrdqn", "ars") else JOINT
    file = save_model(algorithm, env, tmp_path)
    model, memory = ALGORITHMS[algorithm].load(file), [None]

    def act(observation, mask):
        masks = {"action_masks": mask.astype(bool)} if algorithm == "maskable-ppo" else {}
        begins = np.array([memory[0] is None])
        action, memory[0] = model.predict(
            observation, memory[0], begins, deterministic=True, **masks
        )
        return action

    report = run_policy(Simulation(SCENARIO, 3), load_sb3(file, algorithm, env))
    assert same(report, played(make(env), act, 3))
    if algorithm == "maskable-ppo":
        assert report["invalid_answers"] == 0


@pytest.mark.training
def test_statistics_and_padding_of_training_are_used(tmp_path):
    workers = VecNormalize(DummyVecEnv([lambda: make(JOINT, max_instances=6)]))
    model = PPO("MlpPolicy", workers, n_steps=32, batch_size=32, device="cpu", seed=0)
    model.learn(32)
    model.save(tmp_path / "model.zip")
    workers.save(str(tmp_path / "statistics.pkl"))

    def act(observation, _):
        return model.predict(workers.normalize_obs(observation), deterministic=True)[0]

    policy = load_sb3(tmp_path / "model.zip", "ppo", vecnormalize=tmp_path / "statistics.pkl")
    report = run_policy(Simulation(SCENARIO, 3), policy)
    assert same(report, played(make(JOINT, max_instances=6), act, 3))


def test_a_function_answers_as_it_would_in_the_environment(functions):
    report = run_policy(Simulation(SCENARIO, 3), load_function("outside:first", ROUTING))
    assert same(report, played(make(ROUTING), lambda _, mask: int(mask.argmax()), 3))
    assert report["counters"]["actor.delegated"] > 0, "placements are the baseline's"


def test_a_class_remembers_one_simulation_only(functions):
    policy = load_function("outside:Rotating", ROUTING)
    reports = [run_policy(Simulation(SCENARIO, 3), policy)["jct_s"] for _ in range(2)]
    assert reports[0] == reports[1]


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A module of functions in the working directory."""
    (tmp_path / "outside.py").write_text(
        "def first(observation, action_mask):\n"
        "    return int(action_mask.argmax())\n"
        "def pair(observation, action_mask):\n"
        "    return [0, 0]\n"
        "class Rotating:\n"
        "    turns = 0\n"
        "    def __call__(self, observation, action_mask):\n"
        "        self.turns += 1\n"
        "        return self.turns % 4\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def evaluate(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.mark.training
def test_the_command_judges_models_and_functions(functions, scenario_file, tmp_path):
    file = save_model("ppo", JOINT, tmp_path)
    where = ("--scenario", scenario_file, "--seeds", 2, "--policy", "lru", "--json")
    for model in (("--model", file, "--algorithm", "ppo"), ("--model", "outside:pair")):
        outcome = evaluate(*model, *where)
        assert outcome.exit_code == 0, outcome.stderr
        document = json.loads(outcome.stdout)
        assert document["seeds"] == [0, 1]
        judged, other = document["policies"]
        assert other["policy"] == "affinity+lru"
        assert judged["by_seed"]["jct"] != other["by_seed"]["jct"]
        assert (judged["invalid_answers"] > 0) == ("answers were invalid" in outcome.stderr)


@pytest.mark.training
def test_unfinished_programs_are_told_of_and_marked(functions, tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    content = {**small_scenario(), "horizon_s": 20.0}
    (tmp_path / "cut.json").write_text(json.dumps(content), encoding="utf-8")
    outcome = evaluate("--model", "outside:pair", "--scenario", "cut.json", "--seeds", 2,
                       "--policy", "lru")  # fmt: skip
    assert "mean JCT, s*" in outcome.stdout
    assert "unfinished" in outcome.stdout
    warnings = [line for line in outcome.stderr.splitlines() if "the horizon ended runs" in line]
    assert [line.partition(":")[0] for line in warnings] == ["outside", "affinity+lru"]


@pytest.mark.training
def test_what_does_not_fit_is_refused(functions, tmp_path):
    file = save_model("ppo", JOINT, tmp_path)
    (tmp_path / "no.pkl").write_bytes(b"no pickle")
    model = ("--model", file, "--algorithm")
    for arguments, message in [
        (("--model", file), "name the algorithm"),
        ((*model, "sac"), "algorithm is 'sac'; allowed: a2c"),
        ((*model, "dqn"), "cannot be loaded as a model of dqn"),
        ((*model, "ppo", "--env", ROUTING), "was trained with"),
        ((*model, "ppo", "--env", "Pong-v0"), "env is 'Pong-v0'"),
        ((*model, "ppo", "--baseline", "lur"), "did you mean"),
        ((*model, "ppo", "--vecnormalize", "no.pkl"), "cannot be loaded as VecNormalize"),
        ((*model, "ppo", "--vecnormalize", "none.pkl"), "No such file"),
        (("--model", "outside:none"), "has no function 'none'"),
        (("--model", "nowhere:pair"), "cannot import 'nowhere'"),
        (("--model", "outside:first"), "allowed: two integers (route, placement)"),
        (("--model", "outside:pair", "--vecnormalize", "no.pkl"), "--algorithm"),
    ]:
        outcome = evaluate(*arguments, "--seeds", 2)
        assert outcome.exit_code == 2, arguments
        assert message in outcome.stderr.splitlines()[-1], arguments


def test_the_documented_function_runs(tmp_path, monkeypatch):
    """The function of docs/training.md under the name that its command gives."""
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (source,) = [block for block in blocks if "def least_loaded" in block]
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    assert "--model mine:least_loaded" in text
    monkeypatch.syspath_prepend(str(tmp_path))
    report = run_policy(
        Simulation(load_scenario("default"), 0), load_function("mine:least_loaded", ROUTING)
    )
    assert report["invalid_answers"] == 0
    named = run_policy(Simulation(load_scenario("default"), 0), parse_policy("least_loaded"))
    assert report["jct_s"]["mean"] == pytest.approx(named["jct_s"]["mean"], rel=0.2)


# --- on the leaderboard --------------------------------------------------------------------------


def scored(**options: str):
    """The card of a function."""
    given = ",".join(f"{name}={value}" for name, value in options.items())
    text = f"agentserve_gym.train:load_function(text=numpy:argmax,env={ROUTING},{given})"
    return make_card(text, author="a", description="b", training_cost="none")


def test_a_function_is_scored_under_its_own_name():
    card = scored(baseline="lru")
    assert card.name == "numpy:argmax"
    assert card.observes == f"observations of {ROUTING}"
    assert scored(baseline="ttl").sha256 != card.sha256


def test_a_function_with_an_oracle_for_a_baseline_is_one():
    assert load_function("numpy:argmax", ROUTING, "belady").is_oracle
    assert not load_function("numpy:argmax", ROUTING, "lru").is_oracle
    with pytest.raises(ValueError, match="is an oracle"):
        scored(baseline="belady")
