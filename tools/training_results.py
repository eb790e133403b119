"""Run the trainings that docs/training-results.md reports, and write the page.

python -m tools.training_results        # resumes what was stopped, and keeps what is done
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from agentserve_gym.files import write_file
from agentserve_gym.report.markdown import code, plain_table
from agentserve_gym.report.page import current_commit, joined, opening

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "documents"
PAGE = ROOT / "docs" / "training-results.md"

MAIN = "--env AgentServe-v0 --scenario default --algorithm maskable-ppo --steps 200000 --seed 0"
_SHORT = (
    "--imitate least_loaded+dram --steps 40960 --set imitation.episodes=24 "
    "--set checkpoint_every=20480 --eval-seeds 20 --policy affinity+lru"
)
VARIANTS = {
    "defaults": "",
    "smaller discount": "--set ppo.gamma=0.999",
}

_DIFFERENCE = ("difference, s", "relative", "seeds won")

_VARIANTS = """## Settings

One run each, 40,960 decisions from imitation of `least_loaded+dram`, on 20 held-out seeds. Each is
one training seed, so believe an order only where intervals are far apart. `ppo.gamma` is 1 by
default: the return is the objective, and a decision counts the same whatever simulated time passes
before the next. The commands are `agentserve train` with

"""


def main() -> None:
    """Train what is not there yet, and write the page."""
    for name, arguments in {"main": MAIN, **{n: _variant(n) for n in VARIANTS}}.items():
        _train(_folder(name), arguments)
    results = {name: _read(name, "results.json") for name in ("main", *VARIANTS)}
    commits = {str(result["commit"]) for result in results.values()}
    commit = commits.pop() if len(commits) == 1 else current_commit()
    if commits:
        sys.exit("the runs are of several commits; remove runs/documents to train them anew")
    write_file(PAGE, page(results, _read("main", "imitation.json"), commit))
    print(f"wrote {PAGE.relative_to(ROOT)}")


def page(results: dict[str, Any], imitation: dict[str, Any], commit: str | None) -> str:
    """The page, from ``results.json`` of every run and ``imitation.json`` of the main one."""
    return joined(
        [
            opening("Training: results", "make training-results", commit),
            _main_run(results["main"]),
            _teachers(imitation),
            _VARIANTS + "".join(f"- {name}: `{_variant(name)}`\n" for name in VARIANTS),
            _variants({name: results[name] for name in VARIANTS}),
        ]
    )


def _variant(name: str) -> str:
    return f"{_SHORT} {VARIANTS[name]}".strip()


def _folder(name: str) -> Path:
    return RUNS / name.replace(" ", "-")


def _train(folder: Path, arguments: str) -> None:
    if (folder / "results.json").is_file():
        return
    begun = (folder / "settings.json").is_file()
    words = ["--resume", str(folder)] if begun else [*shlex.split(arguments), "--out", str(folder)]
    command = [sys.executable, "-c", "from agentserve_gym.cli import app; app()", "train", *words]
    subprocess.run(command, cwd=ROOT, check=True)


def _read(name: str, file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_folder(name) / file).read_text(encoding="utf-8"))
    return content


def _main_run(result: dict[str, Any]) -> str:
    history, best = result["selection"]["history"], result["selection"]["best_step"]
    means = {entry["step"]: entry["mean"] for entry in history}
    learned, *others = result["evaluation"]["policies"]
    rows = [
        (
            code(row["policy"]) + (" (teacher)" if row["policy"] == result["teacher"] else ""),
            f"{row['mean_jct']:.1f}",
            *_difference(row["difference"]),
        )
        for row in others
    ]
    table = plain_table(("against", "mean JCT, s", *_DIFFERENCE), rows)
    return f"""## 200,000 decisions on the default preset

`agentserve train {MAIN}`

Teacher: `{result["teacher"]}`. Selection mean JCT before learning {means[0]:.1f} s, at the kept
checkpoint ({best:,} decisions) {means[best]:.1f} s, at the end {history[-1]["mean"]:.1f} s.
{len(result["evaluation"]["seeds"])} held-out seeds, mean JCT of the learned policy
{learned["mean_jct"]:.1f} s. Differences are learned minus the row's, paired by seed,
with 95 % intervals of a bootstrap over seeds; negative is better.

{table}"""


def _difference(row: dict[str, Any]) -> tuple[str, ...]:
    low, high = row["bootstrap"]["low"], row["bootstrap"]["high"]
    return (
        f"{row['mean']:+.1f} [{low:+.1f}, {high:+.1f}]",
        f"{row['relative']:+.1%}",
        f"{row['wins']} of {row['pairs']}",
    )


def _teachers(imitation: dict[str, Any]) -> str:
    best = max(imitation["measured"].values())
    rows = [
        (code(name), f"{value:.3f}", f"{value / best - 1:+.1%}")
        for name, value in sorted(imitation["measured"].items(), key=lambda item: -item[1])
    ]
    table = plain_table(("candidate", "return", "cost against the best"), rows)
    return f"""## Teachers

Mean return of each candidate on the same training workloads, through the environment's actions; the
network then agrees with {imitation["agreement"]:.1%} of the teacher's decisions that it has not
seen.

{table}"""


def _variants(results: dict[str, Any]) -> str:
    rows = []
    for name, result in results.items():
        learned, other = result["evaluation"]["policies"][:2]
        history, best = result["selection"]["history"], result["selection"]["best_step"]
        kept = next(entry["mean"] for entry in history if entry["step"] == best)
        means_s = (history[0]["mean"], kept, learned["mean_jct"])
        figures = [f"{value:.1f}" for value in means_s]
        rows.append((name, *figures, *_difference(other["difference"])))
    heading = ("settings", "before, s", "kept, s", "held-out, s", *_DIFFERENCE)
    return (
        "*Before* and *kept* are selection means; differences are to `affinity+lru`.\n\n"
        + plain_table(heading, rows)
    )


if __name__ == "__main__":
    main()
