"""What learned policies are judged on: suites, with the seeds that nothing was chosen by."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentserve_gym.baselines import ComposedPolicy, parse_policy
from agentserve_gym.bench.headroom import headroom_suite
from agentserve_gym.bench.suite import LuckPlan, Suite, found_labels, load_suite

GENERAL = "learned(weights=general)"
"""One set of weights for every cluster."""
SPECIALIST = "learned"
"""Weights for the preset `default`."""

SPECIALIST_SEEDS = 30
ELSEWHERE_SEEDS = 20
ELSEWHERE_FIRST_SEED = 3000
"""The standard suite's own seeds chose the policies that it is compared with."""

TRAINING_SEEDS = (1, 2, 3, 4)
"""Of trainings by the recipe `general`, beside 0, the package's."""
RETRAINED_ON_SEEDS = 20

SEARCHED = ("lmetric+write_through+shortest_prefill",)
"""What `agentserve bench --search --scenario default` found, of 300 on seeds of its own."""

AHEAD_OF = "lmetric+thunderagent+kvbm+shortest_prefill"
"""What the look-ahead improves: the best single policy of the standard suite."""
AHEAD_SEEDS = 4
AHEAD_PROGRAMS_SHARE = 0.2
LEFT_SEEDS = 8
LEFT_PROGRAMS_SHARE = 0.5
TRIED_SHARE = 0.05
"""Of the decisions, at which alternatives are tried."""

UNTRAINED = "learned(weights=heuristic)"
"""The rules that recipes start from, before what their ``[begin]`` changes."""
FAMILIES = ("routing", "residency", "admission", "scheduling")


def specialist_suite() -> Suite:
    """The preset `default` under every curated policy and the learned ones, on evaluation seeds."""
    standard = load_suite("standard")
    deployable = [
        entry.label for entry in standard.policies if entry.lever not in ("oracle", "learned")
    ]
    labels = dict.fromkeys([*deployable, *SEARCHED, UNTRAINED, GENERAL, SPECIALIST])
    part = standard.only(["default"], list(labels), SPECIALIST_SEEDS)
    return _without_luck(part, "specialist for default", first_seed=0)


def unseen_suite() -> Suite:
    """Cells that nothing was trained or tuned on."""
    suite = load_suite("unseen")
    labels = [entry.label for entry in suite.policies]
    part = suite.only([], [*labels, UNTRAINED, GENERAL], ELSEWHERE_SEEDS)
    return _without_luck(part, "unseen cells", suite.first_seed)


def elsewhere_suite() -> Suite:
    """Every cell of the standard suite, under the policies that are strong somewhere in it and
    those that a search found for one of its cells."""
    strong = [entry.label for entry in load_suite("unseen").policies]
    labels = dict.fromkeys([*strong, *found_labels().values(), UNTRAINED, GENERAL])
    part = load_suite("standard").only([], list(labels), ELSEWHERE_SEEDS)
    return _without_luck(part, "standard cells", ELSEWHERE_FIRST_SEED)


def parts_suite() -> Suite:
    """The preset `default`, with some parts replaced by the rules that recipes start from."""
    labels = [*part_policies(SPECIALIST), SPECIALIST]
    part = load_suite("standard").only(["default"], labels, SPECIALIST_SEEDS)
    return _without_luck(part, "learned parts", first_seed=0)


def general_parts_suite() -> Suite:
    """Every cell of the standard suite that is not light, in the same way."""
    suite = load_suite("standard")
    cells = [cell.scenario for cell in suite.cells if cell.load != "light"]
    part = suite.only(cells, [*part_policies(GENERAL), GENERAL], ELSEWHERE_SEEDS)
    return _without_luck(part, "general learned parts", ELSEWHERE_FIRST_SEED)


def ahead_suite() -> Suite:
    """The standard suite, shortened, under the look-ahead that a live system could run."""
    part = load_suite("standard").only([], [GENERAL], AHEAD_SEEDS)
    ahead = headroom_suite(part, AHEAD_OF, TRIED_SHARE, [], AHEAD_PROGRAMS_SHARE)
    return ahead.model_copy(update={"policies": [*ahead.policies, part.entry(GENERAL)]})


def left_suite() -> Suite:
    """The preset `default`, shortened, under the specialist and everything that looks ahead from
    it."""
    part = load_suite("standard").only(["default"], [SPECIALIST], LEFT_SEEDS)
    return headroom_suite(part, SPECIALIST, TRIED_SHARE, ["all"], LEFT_PROGRAMS_SHARE)


def swapped_suite(suite: Suite, cell: str, label: str, other: str) -> Suite:
    """A cell of a suite under one policy with parts of another."""
    labels = [*swapped(label, suite.entry(other).policy).values(), label, other]
    part = suite.only([cell], labels, ELSEWHERE_SEEDS)
    return part.model_copy(update={"name": f"{cell}, parts swapped"})


def swapped(label: str, other: str) -> dict[str, str]:
    """Family -> the first policy with the other's part of that family, where theirs differ."""
    own, others = parts_of(label), parts_of(other)
    return {
        family: "+".join({**own, family: part}.values())
        for family, part in others.items()
        if part != own[family]
    }


def parts_of(label: str) -> dict[str, str]:
    """Family -> part of a policy."""
    policy = parse_policy(label)
    assert isinstance(policy, ComposedPolicy)
    return {part.family: str(part) for part in policy.parts}


def retrained_suite(suite: Suite) -> Suite:
    """The same cells, policies and first seed, under weights of other trainings too.

    Raises:
        ValueError: these trainings have not run.
    """
    labels = [entry.label for entry in suite.policies]
    other = [retrained(seed) for seed in TRAINING_SEEDS]
    part = suite.only([], [*labels, *other], RETRAINED_ON_SEEDS)
    return part.model_copy(update={"name": f"{suite.name}, retrained"})


def retrained(seed: int) -> str:
    """Weights of the recipe `general` with another seed, as a policy; below the repository."""
    return f"learned(weights={retrained_folder(seed)}/weights.json)"


def retrained_folder(seed: int) -> str:
    """Where such a training runs."""
    return f"runs/learning/general-{seed}"


def part_policies(label: str) -> dict[str, str]:
    """Policy -> what is learned in it: nothing, one part, or all but one."""
    policies = {UNTRAINED: "nothing"}
    for family in FAMILIES:
        policies[_mixed(label, [family])] = f"{family} alone"
    for family in FAMILIES:
        others = [other for other in FAMILIES if other != family]
        policies[_mixed(label, others)] = f"all but {family}"
    return policies


def _mixed(label: str, learned: Sequence[str]) -> str:
    """Some families by the weights of ``label``, the rest by the rules that recipes start from."""
    rest = [family for family in FAMILIES if family not in learned]
    weights = "".join(re.findall(r"weights=\w+", label))
    trained = f"learned({','.join(filter(None, (*learned, weights)))})"
    return f"{trained}+learned({','.join(rest)},weights=heuristic)"


def _without_luck(part: Suite, name: str, first_seed: int) -> Suite:
    return part.model_copy(update={"name": name, "first_seed": first_seed, "luck": LuckPlan()})
