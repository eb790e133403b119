"""The section on tuned parameters: which were chosen, and where that comes from."""

from __future__ import annotations

from agentserve_gym.bench.origin import origin, seeds_apart
from agentserve_gym.bench.study import Study
from agentserve_gym.bench.suite import tuning_record
from agentserve_gym.report.markdown import code, table

_PUBLISHED_OPTIMA = {
    "ttl": "Published (C13): the best constant TTL is about the cost of reloading (70B: 1 to 2 s)",
    "sticky-saturated": "Published (C3): the best backlog at which to leave home is 1 to 30 s of "
    "prefill (llm-d: 286,720 tokens)",
}


def tuning_section(study: Study) -> str:
    """Of the policies that were run and have tuned parts."""
    record = tuning_record()
    parts = {part for entry in study.suite.policies for part in entry.policy.split("+")}
    tuned = {
        label: entry
        for label, entry in record.get("tuned", {}).items()
        if parts.issuperset(entry["policy"].split("+"))
    }
    if not tuned:
        return ""
    rows = [
        (code(label), code(entry["policy"]), str(entry["tried"]), f"{entry['change']:+.1%}")
        for label, entry in tuned.items()
    ]
    cells = ", ".join(code(name) for name in record["cells"])
    return (
        "## Tuning\n\n`agentserve bench --tune` "
        f"({origin(record['version'], record.get('code', ()), study)}) tried these grids in "
        f"{cells} on {seeds_apart(record['seeds'], study)}, and kept the smallest geometric mean "
        "of JCT over them. One setting serves all cells; composed policies and those that a search "
        "combines use the tuned parts.\n\n"
        + table(("policy", "chosen", "tried", "JCT against the published default"), rows)
        + "\nFew seeds and coarse grids: a choice at the edge of its grid may have room beyond, "
        "and a change of a few percent may be luck.\n"
        + "".join(
            f"\n{claim}: the search chose {code(tuned[label]['policy'])}.\n"
            for label, claim in _PUBLISHED_OPTIMA.items()
            if label in tuned
        )
    )
