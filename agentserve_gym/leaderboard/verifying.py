"""Whether a submission is what it says: its file, its policy, and runs of it made again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench.runner import code_fingerprint
from agentserve_gym.leaderboard.edition import Edition, PrivateSeeds
from agentserve_gym.leaderboard.policies import fingerprint, require_live_view
from agentserve_gym.leaderboard.runs import Report, Run, again
from agentserve_gym.leaderboard.submission import REPEATABLE, Row, Submission, same

_MOST_SAID = 5


def drawn_rows(submission: Submission, count: int | None, seed: int) -> list[Run]:
    """Which rows are run again: ``count`` of them, drawn by ``seed``; ``None`` for all."""
    runs = [(row.cell, row.seed) for row in submission.rows]
    return runs if count is None else Random(seed).sample(runs, min(count, len(runs)))


def verify(
    path: Path,
    submission: Submission,
    edition: Edition,
    *,
    policy: str | None,
    private: PrivateSeeds | None,
    chosen: list[Run],
    workers: int,
    report: Report,
) -> list[str]:
    """Check the policy of a file that was read, and run some of its rows again.

    Args:
        path: of the file, for messages.
        policy: the submitted policy here, where the file's own text will not do: code from outside,
            or weights in another place; ``None`` for what the file says.
        private: seeds of a private part.
        chosen: rows to run again.

    Returns:
        Which of these rows take longer to decide here than the edition allows, in words: time is
        the machine's, so that is no proof.

    Raises:
        ValueError: naming the file and what is not as it says.
    """
    text = policy or submission.card.policy
    if policy is None and ":" in text:
        raise ValueError(
            f"{path} names the policy {text!r}, code that is not of this package or files of "
            "another machine; if you trust it, name it yourself with --policy"
        )
    parsed = parse_policy(text)
    require_live_view(parsed)
    mark = fingerprint(parsed)
    if mark != submission.card.sha256:
        raise ValueError(
            f"{path}: card.sha256 is {submission.card.sha256}, but that of {text!r} here is "
            f"{mark}: other code, weights or parameters"
        )
    if chosen and (private is None) != (submission.part == "public"):
        needed = "needs its list of seeds: --seeds FILE, or --rows 0 to check the file alone"
        wrong = needed if private is None else "takes no --seeds"
        raise ValueError(f"{path} is of the {submission.part} part, which {wrong}")
    here = submission.model_copy(
        update={"card": submission.card.model_copy(update={"policy": text})}
    )
    pairs = again(here, edition, private, chosen, workers, report)
    said = [text for told, found in pairs for text in _differences(told, found)]
    if said:
        more = f"; and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
        other = code_fingerprint() != submission.made_by.code
        why = f" (made by other code, {submission.made_by.code})" if other else ""
        raise ValueError(f"{path}: {'; '.join(said[:_MOST_SAID])}{more}{why}")
    return [text for _, found in pairs for text in _slow(found, edition)]


def _differences(told: Row, here: Row) -> Iterator[str]:
    for column in REPEATABLE:
        value, found = getattr(told, column), getattr(here, column)
        if not same(value, found):
            yield f"row {told.name}: {column} is {value}, but {found} here"


def _slow(here: Row, edition: Edition) -> Iterator[str]:
    found_ms = here.decision_p99_us / 1e3
    if found_ms > edition.decision_time.p99_ms:
        yield (
            f"row {here.name}: a decision takes {found_ms:.2f} ms here at the 99th percentile; "
            f"edition {edition.name} allows {edition.decision_time.p99_ms:g} ms"
        )
