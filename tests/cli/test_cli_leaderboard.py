"""``submit`` and ``verify`` on an edition of two short programs: what is made, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentserve_gym.bench.results import ResultsFile
from agentserve_gym.cli.submit import policy_text
from agentserve_gym.leaderboard import runs
from agentserve_gym.leaderboard.edition import Edition, PrivateSeeds, load_edition
from agentserve_gym.leaderboard.runs import record
from agentserve_gym.leaderboard.submission import (
    Submission,
    read_submission,
    totals_of,
    write_submission,
)

PRIVATE = PrivateSeeds(edition="toys", nonce="n", seeds=[2**40, 2**41])
TOML = f"""
name = "toys"
description = "for tests"
minimum_version = "0.1.0"
reference = "affinity"
metrics = ["jct_mean_s", "jct_p99_s", "slowdown"]
public_seeds = [700000, 700001]
private_seeds_sha256 = "{PRIVATE.sha256}"

[decision_time]
median_ms = 1000.0
p99_ms = 1000.0

[[cells]]
scenario = "toy"
load = "light"
covers = "nothing"
"""
USER = """
from agentserve_gym.sim import KEEP, Route, RouteDecision

class Mine:
    def decide(self, decision):
        return Route(0) if isinstance(decision, RouteDecision) else KEEP

class Broken(Mine):
    def decide(self, decision):
        raise RuntimeError("no idea")

class Cheat(Mine):
    def bind(self, simulation):
        self.simulation = simulation
"""
TOLD = ("--author", "me", "--description", "the first", "--training-cost", "none")


@pytest.fixture
def toys(tmp_path, monkeypatch) -> Path:
    """The file of an edition in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "toys.toml"
    path.write_text(TOML, encoding="utf-8")
    edition = load_edition(str(path))
    reference = {
        part: [
            record(edition.cell_names[0], "affinity", seed, place)
            for place, seed in enumerate(seeds, start=1)
        ]
        for part, seeds in (("public", edition.public_seeds), ("private", PRIVATE.seeds))
    }
    path.with_suffix(".json").write_text(json.dumps({"reference": reference}), encoding="utf-8")
    (tmp_path / "seeds.json").write_text(PRIVATE.model_dump_json(), encoding="utf-8")
    return path


@pytest.fixture
def submitted(toys, agentserve) -> Path:
    """A submission of ``lru``."""
    outcome = agentserve("submit", "lru", "--edition", toys, "--out", "lru.json", "--jobs", 1)
    assert outcome.code == 0, outcome.stderr
    return toys.with_name("lru.json")


def edited(path: Path, **changes: Any) -> Path:
    """The file with other content, whose checksum was made anew."""
    submission = load(path)
    write_submission(path, submission.model_copy(update=changes))
    return path


def load(path: Path) -> Submission:
    return read_submission(path, toy_edition(path))


def toy_edition(path: Path) -> Edition:
    return load_edition(str(path.with_name("toys.toml")))


def test_a_submission_is_made_and_verified(toys, submitted, agentserve) -> None:
    submission = load(submitted)
    assert submission.card.author == "agentserve-gym"
    assert "session affinity" in submission.card.description
    assert submission.totals.decisions == sum(row.decisions for row in submission.rows) > 0
    assert submission.totals.in_time
    assert sorted(path.name for path in toys.parent.iterdir()) == [
        "lru.json", "seeds.json", "toys.json", "toys.toml",
    ]  # fmt: skip
    outcome = agentserve("verify", submitted, "--edition", toys, "--all", "--jobs", 1)
    assert outcome.code == 0, outcome.stderr
    assert "2 rows of 2 run again hold" in outcome.stdout


def test_the_rows_that_run_again_are_drawn_by_a_seed(toys, submitted, agentserve) -> None:
    call = ("verify", submitted, "--edition", toys, "--rows", 1, "--jobs", 1)
    assert "1 row of 2 run again (drawn with --seed 7)" in agentserve(*call, "--seed", 7).stdout


def test_a_file_is_not_replaced(toys, submitted, refused) -> None:
    message = refused("submit", "lru", "--edition", toys, "--out", submitted)
    assert "lru.json exists" in message


def test_a_changed_card_is_refused(toys, submitted, refused) -> None:
    text = submitted.read_text(encoding="utf-8")
    submitted.write_text(text.replace('"agentserve-gym"', '"somebody"'), encoding="utf-8")
    assert "checksum" in refused("verify", submitted, "--edition", toys)


def test_a_changed_card_is_refused_even_with_its_checksum(toys, submitted, refused) -> None:
    card = load(submitted).card.model_copy(update={"sha256": "0" * 64})
    message = refused("verify", edited(submitted, card=card), "--edition", toys)
    assert "card.sha256 is 0000" in message


def test_a_changed_total_is_refused_by_name(toys, submitted, refused) -> None:
    totals = load(submitted).totals
    cells = {"toy": totals.cells["toy"].model_copy(update={"value": 0.5})}
    changed = totals.model_copy(update={"cells": cells})
    message = refused("verify", edited(submitted, totals=changed), "--edition", toys)
    assert "totals.cells.toy.value is 0.5, but the rows give 1" in message
    assert "checksum" not in message


def test_a_changed_row_is_refused_by_name(toys, submitted, refused) -> None:
    """Also one whose totals and checksum fit: it is run again."""
    edition = toy_edition(submitted)
    first, second = load(submitted).rows
    rows = [first, second._replace(jct_mean_s=second.jct_mean_s / 2)]
    edited(submitted, rows=rows)
    assert "the rows give" in refused("verify", submitted, "--edition", toys)
    write_submission(
        submitted,
        Submission.model_validate(
            {
                **json_of(submitted),
                "rows": rows,
                "totals": totals_of(rows, edition, "public").model_dump(),
            }
        ),
    )
    message = refused("verify", submitted, "--edition", toys, "--all", "--jobs", 1)
    assert "row toy, seed 2: jct_mean_s is" in message
    assert "here" in message


def json_of(path: Path) -> dict[str, Any]:
    """A file's content but for its checksum and columns."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: content[name] for name in Submission.model_fields}


def test_a_row_that_is_missing_is_named(toys, submitted, refused) -> None:
    edited(submitted, rows=load(submitted).rows[:1])
    message = refused("verify", submitted, "--edition", toys)
    assert "row toy, seed 2 is there 0 times, not 1" in message


@pytest.mark.parametrize("version", ["0.0.9", "99.0.0"])
def test_another_version_is_refused(toys, submitted, refused, version: str) -> None:
    made_by = load(submitted).made_by.model_copy(update={"agentserve_gym": version})
    message = refused("verify", edited(submitted, made_by=made_by), "--edition", toys)
    assert f"made_by.agentserve_gym is '{version}'; allowed: 0.1.0" in message


def test_another_edition_is_refused(toys, submitted, refused) -> None:
    assert "unknown edition 'toys'" in refused("verify", submitted)
    edited(submitted, edition="v1")
    assert "edition is 'v1'; allowed: toys" in refused("verify", submitted, "--edition", toys)


def test_another_kind_of_file_is_refused(toys, refused) -> None:
    toys.with_name("other.json").write_text("{}", encoding="utf-8")
    assert "other.json: edition is missing" in refused("verify", "other.json")
    toys.with_name("other.json").write_text('{"edition": "v1"}', encoding="utf-8")
    assert "edition_sha256 is missing" in refused("verify", "other.json")


def test_an_edition_that_was_changed_is_refused(toys, submitted, refused) -> None:
    text = toys.read_text(encoding="utf-8").replace("700000", "700002")
    toys.write_text(text, encoding="utf-8")
    assert "not as it was frozen" in refused("verify", submitted, "--edition", toys)


@pytest.mark.parametrize("policy", ["belady", "clairvoyant(base=lru)", "lmetric+srpt"])
def test_oracles_are_refused(toys, refused, policy: str) -> None:
    assert "is an oracle" in refused("submit", policy, "--edition", toys)


def test_a_slow_policy_is_said_to_be(toys, agentserve) -> None:
    text = toys.read_text(encoding="utf-8").replace("p99_ms = 1000.0", "p99_ms = 0.00001")
    toys.write_text(text, encoding="utf-8")
    outcome = agentserve("submit", "lru", "--edition", toys, "--out", "slow.json", "--jobs", 1)
    assert outcome.code == 0
    assert "too slow to be ranked: a decision takes" in outcome.stderr
    assert not load(toys.with_name("slow.json")).totals.in_time
    outcome = agentserve("verify", "slow.json", "--edition", toys, "--rows", 1, "--jobs", 1)
    assert "ms here at the 99th percentile" in outcome.stderr
    assert "not ranked: a decision takes" in outcome.stderr


def test_a_stopped_submission_goes_on(toys, agentserve, monkeypatch) -> None:
    kept: list[str] = []

    class Stopping(ResultsFile):
        def append(self, outcome: Any) -> None:
            if kept:
                raise KeyboardInterrupt
            kept.append(outcome.scenario)
            super().append(outcome)

    call = ("submit", "lru", "--edition", toys, "--out", "lru.json", "--jobs", 1)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "ResultsFile", Stopping)
        outcome = agentserve(*call)
    assert outcome.code == 130
    assert "to go on: agentserve" in outcome.stderr
    assert not toys.with_name("lru.json").exists()
    planned = counted_jobs(monkeypatch)
    assert agentserve(*call).code == 0
    assert planned == [1]
    assert not toys.with_name("lru.rows.csv").exists()


def counted_jobs(monkeypatch) -> list[int]:
    """How many runs each call of the runner is given."""
    counts: list[int] = []
    original = runs.run_jobs

    def counting(jobs: list[Any], *others: Any) -> None:
        counts.append(len(jobs))
        original(jobs, *others)

    monkeypatch.setattr(runs, "run_jobs", counting)
    return counts


def test_private_seeds_are_those_of_the_edition(toys, agentserve, refused) -> None:
    call = ("--edition", toys, "--seeds", "seeds.json", "--jobs", 1)
    assert agentserve("submit", "lru", *call).code == 0
    file = toys.with_name("toys-affinity-lru-private.json")
    assert str(2**40) not in file.read_text(encoding="utf-8")
    assert agentserve("verify", file, *call, "--all").code == 0
    assert "needs its list of seeds" in refused("verify", file, "--edition", toys)
    other = PRIVATE.model_copy(update={"seeds": [1, 2]})
    toys.with_name("seeds.json").write_text(other.model_dump_json(), encoding="utf-8")
    assert "SHA-256" in refused("submit", "lru", *call, "--out", "other.json")


def test_code_from_outside_is_named_by_who_runs_it(
    toys, agentserve: Callable[..., Any], refused
) -> None:
    toys.with_name("board_policies.py").write_text(USER, encoding="utf-8")
    call = ("--edition", toys, "--jobs", 1)
    mine = ("board_policies:Mine", *call, "--out", "mine.json")
    assert "--author is missing" in refused("submit", *mine)
    assert agentserve("submit", *mine, *TOLD).code == 0
    assert "name it yourself with --policy" in refused("verify", "mine.json", *call)
    known = agentserve("verify", "mine.json", *call, "--policy", "board_policies:Mine")
    assert known.code == 0
    message = refused("verify", "mine.json", *call, "--policy", "lru")
    assert "other code, weights or parameters" in message
    assert "bind(simulation)" in refused("submit", "board_policies:Cheat", *call, *TOLD)
    message = refused("submit", "board_policies:Broken", *call, *TOLD)
    assert "2 of 2 runs failed; the first: toy: no idea" in message


def test_models_and_functions_are_policies_by_name(tmp_path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "model.zip").touch()
    loaded = f"agentserve_gym.train:load_policy(path={tmp_path}/first/model.zip)"
    assert policy_text(f"{tmp_path}/first") == loaded
    assert policy_text(f"{tmp_path}/first/model.zip", baseline="lru") == (
        f"{loaded.removesuffix(')')},baseline=lru)"
    )
    assert policy_text("m.zip", "ppo", Path("v.pkl"), "AgentServe-v0") == (
        "agentserve_gym.train:load_sb3(path=m.zip,algorithm=ppo,env=AgentServe-v0,vecnormalize=v.pkl)"
    )
    assert policy_text("a:b", env="AgentServeRouting-v0", baseline="lru") == (
        "agentserve_gym.train:load_function(text=a:b,env=AgentServeRouting-v0,baseline=lru)"
    )
    assert policy_text("lmetric+ttl") == "lmetric+ttl"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lru", "--vecnormalize", "v.pkl"), "--vecnormalize goes with --algorithm"),
        (("m.zip", "--env", "AgentServe-v0"), "--env goes with"),
        (("lru", "--baseline", "lru"), "--baseline goes with"),
    ],
)
def test_options_that_say_nothing_of_a_policy_are_refused(refused, arguments, message) -> None:
    assert message in refused("submit", *arguments)
