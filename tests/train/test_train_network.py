"""The network: every instance is scored alike, however many there are."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
import torch

from agentserve_gym.envs import AgentServeEnv, ObservationLayout
from agentserve_gym.train.network import ActorCritic, NetworkShape, Scorer

TTLS_S = (2.0, 20.0)
PLACEMENTS = 6


def shape_of(routes=True, placements=PLACEMENTS):
    layout = ObservationLayout(1, TTLS_S, ("dram",))
    return NetworkShape.of(layout, routes=routes, placements=placements, width=16)


def observations(number, instances, absent=0, kind="route", seed=0):
    """Random observations with one home, and ``absent`` rows of padding at the end."""
    generator = torch.Generator().manual_seed(seed)
    shape = shape_of()
    context = torch.rand(number, shape.context, generator=generator)
    context[:, shape.route_flag] = kind == "route"
    context[:, shape.placement_flag] = kind == "placement"
    rows = torch.rand(number, instances, shape.row, generator=generator)
    rows[:, :, shape.home] = 0.0
    rows[:, 1, shape.home] = 1.0
    rows[:, :, shape.present] = 1.0
    if absent:
        rows[:, instances - absent :] = 0.0
    return context, rows


def flat(context, rows):
    return torch.cat((context, rows.flatten(1)), 1)


@pytest.fixture
def scorer():
    torch.manual_seed(0)
    return Scorer(shape_of()).double()


def test_permuting_instances_permutes_route_logits_and_nothing_else(scorer):
    context, rows = (part.double() for part in observations(5, 6))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    straight = scorer.logits(flat(context, rows))
    permuted = scorer.logits(flat(context, rows[:, order]))
    by_instance = straight[:, :18].reshape(-1, 6, 3)
    assert torch.allclose(permuted[:, :18].reshape(-1, 6, 3), by_instance[:, order], atol=1e-12)
    assert torch.allclose(permuted[:, 18:], straight[:, 18:], atol=1e-12)
    assert by_instance.std(1).min() > 0
    assert by_instance.std(2).min() > 0


@pytest.mark.parametrize("kind", ["route", "placement"])
def test_padding_changes_nothing(scorer, kind):
    context, rows = (part.double() for part in observations(5, 8, absent=3, kind=kind))
    padded = scorer.logits(flat(context, rows))
    bare = scorer.logits(flat(context, rows[:, :5]))
    assert torch.allclose(padded[:, :15], bare[:, :15], atol=1e-12)
    assert (padded[:, 15:24] < -1e7).all()
    assert torch.allclose(padded[:, 24:], bare[:, 15:], atol=1e-12)


def test_values_do_not_depend_on_the_order_of_instances_or_on_padding():
    torch.manual_seed(0)
    critic = ActorCritic(shape_of()).double()
    context, rows = (part.double() for part in observations(5, 8, absent=2))
    straight = critic.forward_critic(flat(context, rows))
    order = torch.tensor([4, 2, 0, 1, 3, 5])
    assert straight.shape == (5, 1)
    assert torch.allclose(straight, critic.forward_critic(flat(context, rows[:, order])))


def test_one_set_of_weights_takes_4_and_16_instances(scorer):
    for instances in (4, 16):
        context, rows = (part.double() for part in observations(2, instances))
        assert scorer.logits(flat(context, rows)).shape == (2, 3 * instances + 1 + PLACEMENTS)


def test_the_part_that_is_not_asked_is_uniform_and_gets_no_gradient(scorer):
    context, rows = (part.double() for part in observations(3, 4, kind="placement"))
    scores = scorer(flat(context, rows))
    assert (scores[:, :13] == 0).all()
    assert (scores[:, 13:] != 0).all()
    scores[:, :13].sum().backward()
    assert all(not p.grad.any() for p in scorer.parameters() if p.grad is not None)


def test_placements_read_the_home_row(scorer):
    context, rows = (part.double() for part in observations(1, 4, kind="placement"))
    moved = rows.clone()
    shape = scorer.shape
    moved[:, :, shape.home] = 0.0
    moved[:, 3, shape.home] = 1.0
    before, after = (scorer.logits(flat(context, r))[:, 13:] for r in (rows, moved))
    assert not torch.allclose(before, after)


@pytest.mark.parametrize(("routes", "placements"), [(True, 0), (False, PLACEMENTS)])
def test_single_decision_shapes(routes, placements):
    scorer = Scorer(shape_of(routes, placements))
    context, rows = observations(3, 4, kind="route" if routes else "placement")
    assert scorer.logits(flat(context, rows)).shape == (3, 13 * routes + placements)


def test_the_shape_fits_the_environments_layout():
    env = AgentServeEnv("default", max_instances=7)
    observation, _ = env.reset(seed=2**20)
    shape = shape_of()
    assert len(observation) == shape.context + 7 * shape.row
    rows = observation[shape.context :].reshape(7, shape.row)
    assert rows[:, shape.present].tolist() == [1.0] * 4 + [0.0] * 3
    assert observation[shape.route_flag] == 1.0
    assert Scorer(shape).logits(torch.from_numpy(observation)[None]).isfinite().all()
