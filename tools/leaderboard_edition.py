"""Freeze an edition of the leaderboard: draw its private seeds, and record its reference.

python -m tools.leaderboard_edition v1 PRIVATE.json    # or a .toml file in the place of v1
    # 1. draws the list into the file, outside of the repository, and prints its SHA-256,
    #    which goes into v1.toml; 2. called again, writes v1.json beside it
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from pathlib import Path

from agentserve_gym.files import write_file
from agentserve_gym.leaderboard.edition import (
    Edition,
    PrivateSeeds,
    Recorded,
    edition_file,
    load_edition,
    load_private_seeds,
)
from agentserve_gym.leaderboard.runs import record

GOLDEN = ("lmetric+write_through", "thunderagent")
_FIRST_SEED, _LAST_SEED = 2**31, 2**53
"""Above every seed of training; below what JSON's readers keep exactly."""


def main() -> None:
    """Draw, or record."""
    parser = argparse.ArgumentParser(prog="python -m tools.leaderboard_edition")
    parser.add_argument("edition", help="its name, or a .toml file")
    parser.add_argument("private", type=Path, help="the file of its private seeds")
    arguments = parser.parse_args()
    name, place = arguments.edition, arguments.private
    edition = load_edition(name)
    if not place.exists():
        drawn = draw(edition.name, len(edition.public_seeds))
        write_file(place, json.dumps(drawn.model_dump(), indent=1) + "\n")
        print(f'private_seeds_sha256 = "{drawn.sha256}"')
        return
    target = edition_file(name).with_suffix(".json")
    if target.exists():
        sys.exit(f"{target} exists: an edition is frozen once")
    private = edition.seeds(load_private_seeds(place))
    reference = {
        "public": record_all(edition, edition.reference, edition.public_seeds),
        "private": record_all(edition, edition.reference, private),
    }
    golden = {policy: record_all(edition, policy, edition.public_seeds[:1]) for policy in GOLDEN}
    write_file(target, text({"reference": reference, "golden": golden}))


def draw(name: str, count: int) -> PrivateSeeds:
    """Seeds that nobody can guess."""
    span = _LAST_SEED - _FIRST_SEED
    seeds = [_FIRST_SEED + secrets.randbelow(span) for _ in range(count)]
    return PrivateSeeds(edition=name, nonce=secrets.token_hex(32), seeds=seeds)


def record_all(edition: Edition, policy: str, seeds: list[int]) -> list[Recorded]:
    """What a policy achieves in every cell."""
    rows = []
    for cell in edition.cell_names:
        for place, seed in enumerate(seeds, start=1):
            rows.append(record(cell, policy, seed, place))
            print(f"{policy}: {cell}, seed {place}", file=sys.stderr)
    return rows


def text(records: dict[str, dict[str, list[Recorded]]]) -> str:
    """JSON with a row a line."""
    tables = []
    for kind, by_name in records.items():
        lists = []
        for name, rows in by_name.items():
            lines = ",\n".join(f"   {json.dumps(row)}" for row in rows)
            lists.append(f"  {json.dumps(name)}: [\n{lines}\n  ]")
        inside = ",\n".join(lists)
        tables.append(f' "{kind}": {{\n{inside}\n }}')
    return "{\n" + ",\n".join(tables) + "\n}\n"


if __name__ == "__main__":
    main()
