"""Where figures come from that the page's own run did not make: tuning, a search, headroom."""

from __future__ import annotations

from collections.abc import Sequence

from agentserve_gym.bench.study import Study
from agentserve_gym.report.markdown import code


def origin(version: str, codes: Sequence[str], study: Study) -> str:
    """Which version of the package and of the simulation made a record, in words.

    Args:
        codes: as ``Outcome.code``; empty for records that do not say.
        study: the page's, whose outcomes may come from another version.
    """
    text = f"agentserve-gym {version}"
    if not codes:
        return text
    text += f", simulation {', '.join(map(code, codes))}"
    same = set(codes) == set(study.codes)
    return text if same else f"{text}, another version than that of this page's outcomes"


def seeds_apart(seeds: Sequence[int], study: Study) -> str:
    """Seeds of a record, and whether this run measures policies on them, too."""
    first, last = seeds[0], seeds[-1]
    if len(seeds) == 1:
        text = f"seed {first}"
    elif list(seeds) == list(range(first, last + 1)):
        text = f"seeds {first} to {last}"
    else:
        text = f"seeds {', '.join(map(str, seeds))}"
    shared = sorted(set(seeds) & set(study.suite.seed_numbers()))
    if not shared:
        return f"{text}, which this run does not use"
    return f"{text} (this run uses {', '.join(map(str, shared))}, too, which flatters the choice)"
