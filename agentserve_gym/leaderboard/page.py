"""The leaderboard's page, from the files of all submissions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentserve_gym.leaderboard.edition import Edition, metric_values
from agentserve_gym.leaderboard.submission import Submission, read_submission, too_slow
from agentserve_gym.report.markdown import change, code, interval, table, text_table
from agentserve_gym.report.page import joined, opening
from agentserve_gym.report.statistics import Array, pooled_ratio

_WHAT = """\
Edition {edition}: {description} Every policy meets the same programs. A score is the ratio of
mean JCT to {reference}'s, geometric mean over {cells} cells and {seeds} paired seeds, with a 95 %
interval that resamples seeds within each cell; smaller is better, {reference} has 1. p99 JCT and
slowdown are such ratios, too. *Against the first*: change of mean JCT, **bold** where the
interval excludes none. *Decision*: wall time at the 99th percentile of the slowest cell, of the
Python code, on the machine that ran it; at most {p99:g} ms, and {median:g} ms at the median, are
ranked. *Private seeds*: the score on seeds that only the organisers have, where they have run it.
"""

_HOW = """\
## How to submit

```
agentserve submit POLICY --author "You" --description "Its rule in a line" --training-cost none
agentserve verify {edition}-POLICY.json
```

`POLICY` is what `agentserve run --policy` reads ([policies.md](policies.md)): parts, or a class
of your own as `package.module:ClassName`; or the folder or `model.zip` of a training; or, as of
`agentserve evaluate`, another Stable-Baselines3 model with `--algorithm`, or `module:function`
with `--env`. It must take clusters of one to four instances with no, one or two tiers below HBM.
This is about half a minute on two cores for a policy that decides in microseconds, with the
compiled kernel, and goes on where it was stopped. Open a pull request that adds the file to
`leaderboard/` and the page of `make leaderboard-page`, and say where the code and the weights are.

The file has a card (author, rule, SHA-256 of code and weights, what it observes, what training
cost), a row for every run, versions, totals, and a checksum over all of it. `agentserve verify`
computes the totals from the rows, compares the policy's code and weights, and runs some rows
again (`--all` for all); it names what differs. A checksum shows damage and not who wrote a file:
rows that repeat are the proof. Of the code from outside, the fingerprint covers the modules that
define the policy and the files that its parameters name. Where two options are all but equal, a
network may answer otherwise on another processor: rows of trained networks can differ from
machine to machine.

Only policies that decide by what a live router sees are allowed: no oracle, and no code of your
own that asks for the simulation (`bind`). What the code looks at besides, people read.

## What is frozen

An edition is {file}: cells, seeds, metrics, the time to decide in. What {reference} achieved is
recorded beside it. The SHA-256 of the private list of seeds, `{private}`, is published there;
`agentserve submit --seeds FILE` takes that list alone, and rows name seeds by their place. Public
seeds are of no suite, tuning, search or training. A test computes some recorded rows anew: a
change of the simulator that moves them needs a new edition.
"""


def read_all(folder: Path, edition: Edition) -> list[Submission]:
    """Every submission of an edition in a folder, by name of file.

    Raises:
        ValueError: naming the file of which something does not hold, or two of the same policy.
    """
    paths = sorted(folder.glob(f"{edition.name}-*.json"))
    found = [read_submission(path, edition) for path in paths]
    seen: dict[tuple[str, str], Path] = {}
    for path, one in zip(paths, found, strict=True):
        other = seen.setdefault((one.card.name, one.part), path)
        if other != path:
            raise ValueError(f"{path}: card.name is {one.card.name!r}, as in {other}")
    return found


def page(
    submissions: Sequence[Submission], edition: Edition, command: str, commit: str | None
) -> str:
    """The page.

    Args:
        submissions: at least one of the public part.
        command: that makes the page. ``commit``: of the code that makes it.
    """
    private = {one.card.name: one for one in submissions if one.part == "private"}
    metric = edition.metrics[0]
    public = sorted(
        (one for one in submissions if one.part == "public"),
        key=lambda one: one.totals.ratios[metric].value,
    )
    ranked = [one for one in public if one.totals.in_time]
    return joined(
        [
            opening("Leaderboard", command, commit),
            _what(edition),
            _ranking(ranked, edition, private),
            _slow([one for one in public if not one.totals.in_time], edition),
            _cells(ranked, edition),
            _cards(public),
            _how(edition),
        ]
    )


def _what(edition: Edition) -> str:
    return _WHAT.format(
        edition=code(edition.name),
        description=edition.description,
        reference=code(edition.reference),
        cells=len(edition.cells),
        seeds=len(edition.public_seeds),
        p99=edition.decision_time.p99_ms,
        median=edition.decision_time.median_ms,
    )


def _how(edition: Edition) -> str:
    return _HOW.format(
        edition=edition.name,
        file=code(f"agentserve_gym/leaderboard/editions/{edition.name}.toml"),
        reference=code(edition.reference),
        private=edition.private_seeds_sha256,
    )


def _ranking(ranked: Sequence[Submission], edition: Edition, private: dict[str, Submission]) -> str:
    metric, *others = edition.metrics
    rows = []
    for place, one in enumerate(ranked, start=1):
        ratios = one.totals.ratios
        against = change(pooled_ratio(_jct_s(one, edition), _jct_s(ranked[0], edition)))
        hidden = private.get(one.card.name)
        same = hidden is not None and hidden.card.sha256 == one.card.sha256
        rows.append(
            (
                code(one.card.name),
                str(place),
                interval(ratios[metric].estimate),
                against if place > 1 else "",
                *(interval(ratios[other].estimate) for other in others),
                f"{one.totals.decision_p99_us / 1e3:.2f} ms",
                interval(hidden.totals.ratios[metric].estimate) if hidden and same else "",
            )
        )
    names = {"jct_mean_s": "mean JCT", "jct_p99_s": "p99 JCT", "slowdown": "slowdown"}
    heading = (
        "policy", "place", "score", "against the first", *(names[other] for other in others),
        "decision", "private seeds",
    )  # fmt: skip
    return f"## Ranking\n\n{table(heading, rows)}"


def _slow(slow: Sequence[Submission], edition: Edition) -> str:
    if not slow:
        return ""
    lines = (f"- {code(one.card.name)}: {too_slow(one.totals, edition)}.\n" for one in slow)
    return f"## Too slow to be ranked\n\n{''.join(lines)}"


def _cells(ranked: Sequence[Submission], edition: Edition) -> str:
    covers = "".join(f"- {code(cell.scenario)}: {cell.covers}\n" for cell in edition.cells)
    rows = [
        (code(one.card.name), *(interval(one.totals.cells[n].estimate) for n in edition.cell_names))
        for one in ranked
    ]
    heading = ("policy", *map(code, edition.cell_names))
    return (
        f"## Cell by cell\n\nScores by cell, over paired seeds.\n\n{covers}\n{table(heading, rows)}"
    )


def _cards(submissions: Sequence[Submission]) -> str:
    rows = []
    for one in submissions:
        card, by = one.card, one.made_by
        invalid = one.totals.invalid_answers
        rows.append(
            (
                code(card.name),
                card.author,
                card.description,
                card.observes,
                card.training_cost,
                f"{invalid:,} of {one.totals.decisions:,}",
                code(card.sha256[:10]),
                f"{by.agentserve_gym}, {code(by.code)}",
            )
        )
    heading = (
        "policy", "author", "rule", "observes", "training", "invalid answers", "code and weights",
        "run by",
    )  # fmt: skip
    return f"## Cards\n\n{text_table(heading, rows)}"


def _jct_s(one: Submission, edition: Edition) -> list[Array]:
    return [metric_values(one.rows, cell, edition.metrics[0]) for cell in edition.cell_names]
