"""Which policies may be scored, and what makes them the same."""

from __future__ import annotations

import pytest

from agentserve_gym.baselines import parse_policy
from agentserve_gym.baselines.learned.weights import heuristic_weights, load_weights, save_weights
from agentserve_gym.leaderboard.policies import fingerprint, make_card, require_live_view
from agentserve_gym.leaderboard.timed import timed

USER = """
from agentserve_gym.baselines import ComposedPolicy, Routing, Choice, parse_policy

class First(Routing):
    name = "first"
    events = ("first",)
    def choose(self, decision):
        return Choice(decision.instances[0].index, "first")

class Looking(First):
    name = "looking"
    def bind(self, simulation):
        self.simulation = simulation

class Mine:
    def __init__(self, weights="none"):
        self.weights = weights
    def decide(self, decision):
        return None


def oracle():
    return parse_policy("belady")

def stock():
    return parse_policy("lru")
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    (tmp_path / "scored.py").write_text(USER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "scored", raising=False)
    return "scored"


@pytest.mark.parametrize("policy", ["lmetric", "lookahead(base=lru)", "learned", "thunderagent"])
def test_what_sees_the_live_view_is_allowed(policy: str) -> None:
    require_live_view(parse_policy(policy))


@pytest.mark.parametrize("policy", ["scored:First", "scored:Mine", "scored:stock"])
def test_code_from_outside_that_asks_for_nothing_is_allowed(module: str, policy: str) -> None:
    require_live_view(parse_policy(policy))


@pytest.mark.parametrize(
    "policy",
    [
        "scored:Looking",
        "scored:Looking+continuum",
        "lookahead(base=scored:Looking)",
        timed("scored:Looking"),
    ],
)
def test_code_from_outside_must_not_ask_for_the_simulation(module: str, policy: str) -> None:
    with pytest.raises(ValueError, match=r"Looking has a method bind\(simulation\)"):
        require_live_view(parse_policy(policy))


@pytest.mark.parametrize("policy", ["true_gap", "clairvoyant", "scored:oracle", timed("belady")])
def test_oracles_are_not_allowed(module: str, policy: str) -> None:
    with pytest.raises(ValueError, match="is an oracle"):
        require_live_view(parse_policy(policy))


def test_a_policy_of_parts_is_its_names_and_parameters() -> None:
    assert fingerprint(parse_policy("lru+lmetric")) == fingerprint(parse_policy("lmetric"))
    others = ["lmetric+gate", "ttl(seconds=3.0)", "ttl(seconds=4.0)", "lookahead(base=lmetric)"]
    marks = {fingerprint(parse_policy(name)) for name in ["lmetric", *others]}
    assert len(marks) == 5


def test_a_learned_policy_is_its_weights(tmp_path) -> None:
    copy, other = tmp_path / "copy.json", tmp_path / "other.json"
    save_weights(copy, load_weights("default"), {})
    save_weights(other, heuristic_weights(), {})
    mark = fingerprint(parse_policy("learned"))
    assert fingerprint(parse_policy(f"learned(weights={copy})")) == mark
    assert fingerprint(parse_policy(f"learned(weights={other})")) != mark


def test_code_from_outside_is_its_file(module: str, tmp_path) -> None:
    before = fingerprint(parse_policy("scored:Mine"))
    assert fingerprint(parse_policy("scored:stock")) != before
    with (tmp_path / "scored.py").open("a", encoding="utf-8") as file:
        file.write("# another\n")
    assert fingerprint(parse_policy("scored:Mine")) != before


def test_files_that_parameters_name_are_part_of_a_policy(module: str, tmp_path) -> None:
    """By content, wherever they lie."""
    first, moved = tmp_path / "first.bin", tmp_path / "moved.bin"
    first.write_bytes(b"1")
    moved.write_bytes(b"1")
    mark = fingerprint(parse_policy(f"scored:Mine(weights={first})"))
    assert fingerprint(parse_policy(f"scored:Mine(weights={moved})")) == mark
    moved.write_bytes(b"2")
    assert fingerprint(parse_policy(f"scored:Mine(weights={moved})")) != mark


def test_a_card_of_code_from_outside_says_whose_it_is(module: str) -> None:
    with pytest.raises(ValueError, match="--author is missing"):
        make_card("scored:Mine")
    card = make_card("scored:Mine", author="a", description="b", training_cost="c")
    assert (card.name, card.author, card.training_cost) == ("scored:Mine", "a", "c")


def test_cards_of_the_packages_policies_are_filled_in() -> None:
    card = make_card("lmetric+write_through")
    assert card.author == "agentserve-gym"
    assert "LMetric" in card.description
    assert card.training_cost == "none"
    assert make_card("learned").training_cost == "agentserve train --recipe default"
