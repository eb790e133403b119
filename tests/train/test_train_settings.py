"""Settings and seeds: what is refused, and that nothing is judged on what it was trained on."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
from agentserve_gym.baselines import parse_policy
from agentserve_gym.sim import load_scenario
from agentserve_gym.tables import read_table, set_key
from agentserve_gym.train import EVALUATION_SEEDS, SELECTION_SEEDS, evaluate, evaluation_seeds
from agentserve_gym.train.imitation import TEACHER_WORKER
from agentserve_gym.train.runs import silent
from agentserve_gym.train.seeds import FIRST_TRAINING_SEED, training_seed
from agentserve_gym.train.settings import make_settings
from agentserve_gym.train.workers import make_workers


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepps": 1}, r"unknown key 'stepps'; did you mean 'steps'\?"),
        ({"ppo": {"gama": 1}}, r"unknown key 'ppo.gama'; did you mean 'gamma'\?"),
        ({"algorithm": "sac"}, "algorithm is 'sac'.*maskable-ppo"),
        ({"algorithm": "dqn"}, "discrete actions.*MultiDiscrete.*AgentServeRouting-v0"),
        ({"env": "AgentServe-v9"}, "env is 'AgentServe-v9'.*AgentServe-v0"),
        ({"scenario": "defualt"}, "did you mean 'default'"),
        ({"imitate": "afinity"}, "unknown policy part 'afinity'"),
        ({"baseline": "no-such"}, "unknown policy part 'no-such'"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"ppo": {"learning_rate": float("nan")}}, "learning_rate is nan"),
        ({"ppo": {"batch_size": 10_000}}, "ppo.batch_size is 10000.*at most"),
        ({"evaluation": {"seeds": 101}}, "evaluation.seeds is 101"),
        ({"evaluation": {"policies": []}}, "evaluation.policies"),
        (
            {"algorithm": "dqn", "env": "AgentServeRouting-v0", "imitate": "affinity+lru"},
            "dqn learns action values",
        ),
    ],
)
def test_bad_settings_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        make_settings(values)


def test_settings_survive_their_file(tmp_path, small_run):
    settings = small_run(seed=3)
    file = tmp_path / "settings.json"
    file.write_text(settings.model_dump_json())
    assert make_settings(read_table(file)) == settings


def test_nested_keys_are_set_and_groups_are_not_overwritten():
    values = {}
    set_key(values, "ppo.gamma", 0.9)
    set_key(values, "steps", 5)
    assert values == {"ppo": {"gamma": 0.9}, "steps": 5}
    with pytest.raises(ValueError, match="'steps' is not a group"):
        set_key(values, "steps.more", 1)


def test_ranges_of_seeds_are_disjoint():
    assert not set(EVALUATION_SEEDS) & set(SELECTION_SEEDS)
    assert max(*EVALUATION_SEEDS, *SELECTION_SEEDS) < FIRST_TRAINING_SEED
    drawn = [
        training_seed(seed, worker, episode)
        for seed in range(4)
        for worker in (0, 1, 7, TEACHER_WORKER)
        for episode in range(50)
    ]
    assert min(drawn) >= FIRST_TRAINING_SEED
    assert len(set(drawn)) == len(drawn)


def test_workers_run_training_workloads_only(small_run):
    workers = make_workers(small_run())
    workers.seed(5)  # what SB3 does; must not become a workload seed
    seen = []
    for _ in range(3):
        workers.reset()
        seen += [env.unwrapped.simulation.seed for env in workers.envs]
    assert min(seen) >= FIRST_TRAINING_SEED
    assert len(set(seen)) == 6


def test_evaluation_refuses_seeds_that_training_may_use():
    policy = parse_policy("lru")
    scenario = load_scenario("toy")
    for seed in (SELECTION_SEEDS[0], FIRST_TRAINING_SEED, 100):
        with pytest.raises(ValueError, match=f"evaluation seed {seed} is outside 0 to 99"):
            evaluate(policy, [], scenario, [0, seed], "jct", silent)
    for count in (1, 101):
        with pytest.raises(ValueError, match=f"seeds is {count}"):
            evaluation_seeds(count)
