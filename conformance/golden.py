"""vLLM's steps of some small cases, kept as numbers, so that tests need no vLLM.

Most turns of a step go on decoding, so a step is written as what differs from that: who does
something else than compute one more token, and who does not go on.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conformance.cases import Case, drawn, special
from conformance.host_tier import HostCase, Reply, Stored
from conformance.trace import Share, Step

FOLDER = Path(__file__).parents[1] / "tests" / "conformance" / "traces"
_RANDOM = 8
_TELLING = ("random 338", "random 388", "random 482")
"""Random cases that show in which order turns that end in one step free their blocks."""

Decoding = dict[tuple[int, int], Share]


def golden_cases() -> list[Case]:
    """Those whose steps are kept: every special one, and random ones, half of them with contexts
    that shrink, and those in which the order of freeing shows."""
    random = drawn()
    telling = [case for case in random if case.name.split(",")[0] in _TELLING]
    shrinking = [case for case in random if case.resets]
    lasting = [case for case in random if not case.resets]
    return [*special(), *lasting[:_RANDOM], *shrinking[:_RANDOM], *telling]


def path_of(case: Case, folder: Path = FOLDER) -> Path:
    """Where a case's steps are kept."""
    return kept_path(case.name, folder)


def write(case: Case, steps: list[Step], version: str, folder: Path = FOLDER) -> None:
    """Keep the steps that this version of vLLM took."""
    rows = []
    expected: Decoding = {}
    for step in steps:
        others = [share for share in step.shares if expected.get(share[:2]) != share]
        present = {share[:2] for share in step.shares}
        gone = [turn for turn in expected if turn not in present]
        rows.append([step.free_blocks, step.preemptions, others, gone])
        expected = _following(step)
    content = {"vllm": version, "case": fingerprint(case), "steps": rows}
    text = json.dumps(content, separators=(",", ":"))
    folder.mkdir(parents=True, exist_ok=True)
    path_of(case, folder).write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(case: Case, folder: Path = FOLDER) -> list[Step]:
    """The steps that vLLM took.

    Raises:
        ValueError: they were taken with another case of that name.
        OSError: none are kept.
    """
    path = path_of(case, folder)
    content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    if content["case"] != fingerprint(case):
        raise ValueError(f"{path.name} is of another case; make it anew with: make conformance")
    steps: list[Step] = []
    expected: Decoding = {}
    for free_blocks, preemptions, others, gone in content["steps"]:
        for turn in gone:
            del expected[tuple(turn)]
        for program, turn, computed, tokens in others:
            expected[program, turn] = (program, turn, computed, tokens)
        step = Step(tuple(sorted(expected.values())), free_blocks, preemptions)
        steps.append(step)
        expected = _following(step)
    return steps


def answers_path(case: HostCase, folder: Path = FOLDER) -> Path:
    """Where the answers to a case of the host tier are kept."""
    return kept_path(f"host {case.case.name}", folder)


def write_answers(
    case: HostCase, answers: Sequence[Reply], version: str, folder: Path = FOLDER
) -> None:
    """Keep what this version of vLLM's CPU manager answered."""
    content = {"vllm": version, "case": fingerprint(case), "answers": answers}
    text = json.dumps(content, separators=(",", ":"))
    answers_path(case, folder).write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read_answers(case: HostCase, folder: Path = FOLDER) -> list[Reply]:
    """What vLLM's CPU manager answered.

    Raises:
        ValueError: it was asked another case of that name.
        OSError: nothing is kept.
    """
    path = answers_path(case, folder)
    content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    if content["case"] != fingerprint(case):
        raise ValueError(f"{path.name} is of another case; make it anew with: make conformance")
    return [Stored(*each) if isinstance(each, list) else each for each in content["answers"]]


def kept_path(name: str, folder: Path = FOLDER) -> Path:
    """Where what is kept of the case of that name lies."""
    return folder / f"{name.replace(',', '').replace(' ', '-')}.json.gz"


def keep(name: str, case: object, found: Sequence[Any], folder: Path = FOLDER) -> None:
    """Keep what the other side chose or answered in a case, and the states in which it did where it
    says them."""
    text = json.dumps({"case": _digest(case), "choices": found}, separators=(",", ":"))
    kept_path(name, folder).write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def kept(name: str, case: object, folder: Path = FOLDER) -> list[Any]:
    """What the other side chose or answered.

    Raises:
        ValueError: it was asked another case of that name.
        OSError: nothing is kept.
    """
    path = kept_path(name, folder)
    content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    if content["case"] != _digest(case):
        raise ValueError(f"{path.name} is of another case; make it anew with: make conformance")
    found: list[Any] = content["choices"]
    return found


def fingerprint(case: Case | HostCase) -> str:
    """Differs where anything of two cases does."""
    return _digest(asdict(case))


def _digest(case: object) -> str:
    return hashlib.sha256(json.dumps(case, sort_keys=True).encode()).hexdigest()[:16]


def _following(step: Step) -> Decoding:
    """The next step if all who computed in this one go on to decode."""
    return {
        (program, turn): (program, turn, computed + tokens, 1)
        for program, turn, computed, tokens in step.shares
    }
