"""Editions are frozen: what this version simulates is what was recorded with them."""

from __future__ import annotations

import pytest

from agentserve_gym.leaderboard.edition import edition_names, load_edition
from agentserve_gym.leaderboard.runs import record

RECORDED = [
    (edition, policy)
    for edition in map(load_edition, edition_names())
    for policy in (edition.reference, *edition.records.golden)
]


@pytest.mark.whole_cluster
@pytest.mark.parametrize(
    ("edition", "policy"), RECORDED, ids=[f"{each.name} {policy}" for each, policy in RECORDED]
)
def test_recorded_rows_are_what_this_version_simulates(edition, policy: str) -> None:
    rows = edition.records.golden.get(policy) or edition.records.reference["public"]
    first = [row for row in rows if row.seed == 1]
    assert [row.cell for row in first] == edition.cell_names
    for cell, row in zip(edition.cell_names, first, strict=True):
        found = record(cell, policy, edition.public_seeds[0], 1)
        assert found[2:] == pytest.approx(row[2:], rel=1e-9), (
            f"edition {edition.name} is frozen, and {policy} in {row.cell} is no longer what was "
            "recorded with it: a change of the simulator, a policy, a scenario or a catalogue that "
            "moves results needs a new edition (tools/leaderboard_edition.py), and this one goes"
        )
