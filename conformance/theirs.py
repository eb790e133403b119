"""vLLM's side: a process of its own, and what it wrote down."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from conformance.cases import Case
from conformance.ours import Times
from conformance.trace import Step, Trace

SCRIPT = Path(__file__).parent / "run_vllm.py"


def play(python: Path, cases: Sequence[tuple[Case, Times]]) -> Iterator[Trace]:
    """Run cases, each on the clock that is given with it.

    Raises:
        ValueError: vLLM failed, with the last line it said.
    """
    for found in ask(python, SCRIPT, [asdict(case) | {"times": times} for case, times in cases]):
        yield _trace(found)


def ask(python: Path, script: Path, given: Sequence[Any]) -> Iterator[Any]:
    """What a script, run by another Python, makes of each of some values.

    Raises:
        ValueError: it failed, with the last line it said.
    """
    with TemporaryDirectory() as folder:
        asked, answers = Path(folder, "asked.jsonl"), Path(folder, "answers.jsonl")
        with asked.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(value) + "\n" for value in given)
        command = [str(python), "-P", str(script), str(asked), str(answers)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise ValueError(f"{script.name} failed: {finished.stderr.strip()[-2000:]}")
        with answers.open(encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)


def _trace(found: dict[str, Any]) -> Trace:
    steps = [
        Step(tuple((p, t, had, tokens) for p, t, had, tokens in shares), free, preemptions)
        for shares, free, preemptions in found["steps"]
    ]
    turns = {}
    for name, (first_token_s, end_s) in found["turns"].items():
        program, _, turn = name.partition("/")
        turns[int(program), int(turn)] = (first_token_s, end_s)
    return Trace(steps, turns)
