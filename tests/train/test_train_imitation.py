"""Imitation learns its teacher, and the best candidate becomes the teacher."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Simulation, load_scenario
from agentserve_gym.train.imitation import choose_teacher, demonstrate, imitate
from agentserve_gym.train.learners import component_sizes, make_learner
from agentserve_gym.train.runs import silent
from agentserve_gym.train.sb3_policies import actor_critic_of, scorer_of
from agentserve_gym.train.settings import ImitationSettings
from agentserve_gym.train.workers import make_env, make_workers

WORKLOADS = range(2**20, 2**20 + 40)


def learn_from(teacher, settings):
    env = make_env(settings)
    shown = demonstrate(env, teacher, WORKLOADS, 1.0, silent)
    learner = make_learner(settings, make_workers(settings))
    imitation = ImitationSettings(epochs=15, batch_size=64, learning_rate=3e-3)
    return imitate(
        scorer_of(learner.policy), actor_critic_of(learner.policy), shown, imitation,
        component_sizes(env.action_space), 0, silent,
    )  # fmt: skip


@pytest.mark.training
def test_affinity_and_offload_are_learned_on_decisions_kept_out(small_run):
    agreement, explained = learn_from("affinity+dram", small_run(width=32))
    assert agreement > 0.9
    assert explained > 0.1


@pytest.mark.training
def test_one_decision_environments_imitate_their_half(small_run):
    agreement, _ = learn_from("affinity+dram", small_run(env="AgentServeOffload-v0"))
    assert agreement > 0.98


def test_demonstrations_are_what_the_teacher_does(small_run):
    settings = small_run()
    shown = demonstrate(make_env(settings), "affinity+dram", WORKLOADS[:2], 1.0, silent)
    rows = np.arange(len(shown.actions))
    # Whatever the teacher chose was possible, component by component.
    assert shown.masks[rows, shown.actions[:, 0]].all()
    assert shown.masks[rows, 13 + shown.actions[:, 1]].all()
    # The first return of an episode is the whole episode's: minus its mean JCT.
    scenario = load_scenario(settings.scenario)
    report = run_policy(Simulation(scenario, WORKLOADS[0]), parse_policy("affinity+dram"))
    expected = -report["jct_s"]["mean"] / scenario.objective.jct_unit_s
    assert shown.returns[0] == pytest.approx(expected, rel=1e-5)
    assert shown.episode_returns[0] == pytest.approx(expected, rel=1e-9)


def test_discounted_returns():
    from agentserve_gym.train.imitation import _discounted

    assert _discounted([1.0, 2.0, 4.0], 0.5).tolist() == [3.0, 4.0, 4.0]


def test_the_best_candidate_becomes_the_teacher(small_run):
    settings = small_run()
    env = make_env(settings)
    candidates = ImitationSettings(
        candidates=["round_robin+evict", "affinity+dram"], measured_episodes=3
    )
    teacher, measured = choose_teacher(env, candidates, 0, silent)
    assert teacher == "affinity+dram"
    assert measured["round_robin+evict"] < measured["affinity+dram"] < 0
