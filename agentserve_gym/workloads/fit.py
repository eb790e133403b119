"""Write the generators' parameter files: ``python -m agentserve_gym.workloads.fit --traces DIR``.

``DIR`` holds the public traces as ``agentprog/1`` files and ``generator_params.json`` (published
fits; the AgentCgroup traces themselves are not redistributed). Only rows with ``split: train`` are
read. What a fit replaces, and why, is said in the functions of `agentserve_gym.workloads.fitting`.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from agentserve_gym.files import write_file
from agentserve_gym.tables import to_toml
from agentserve_gym.workloads.fitting.calling import function_calling_class, web_research_class
from agentserve_gym.workloads.fitting.coding import (
    coding_auto_class,
    coding_interactive_class,
    swe_bench_class,
)
from agentserve_gym.workloads.fitting.common import Table


def _read_train(path: Path) -> list[Table]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["split"] == "train"]


def fit_all(traces: Path) -> dict[str, Table]:
    """Parameters of every class, from the traces' train rows and the published fits."""
    published = json.loads((traces / "generator_params.json").read_text(encoding="utf-8"))
    weka = _read_train(traces / "programs_coding_interactive_weka.jsonl.gz")
    tau2 = _read_train(traces / "programs_function_calling_tau2.jsonl.gz")
    bfcl = _read_train(traces / "programs_function_calling_bfcl_v4_multiturn.jsonl.gz")
    web = _read_train(traces / "programs_web_research_deerflow.jsonl.gz")
    shop = [row for row in tau2 if row["domain"] in ("retail", "airline")]
    telecom = [row for row in tau2 if row["domain"] == "telecom"]
    multi = [row for row in bfcl if row["variant"] in ("base", "long_context")]
    claude = {
        "weights": [42, 42, 16],
        "tools_tokens": [14_500, 19_000, 20_800],
        "system_tokens": [0, 0, 0],
    }
    glm = {"weights": [1], "tools_tokens": [13_200], "system_tokens": [0]}
    return {
        "coding_interactive": coding_interactive_class(
            published, [row for row in weka if row["fresh_start"]]
        ),
        # The context of the Claude runs grows by 1,037 a turn; counted output and results make 867.
        "coding_auto": coding_auto_class(
            published, "coding_auto(cpu-host, Claude haiku)", "claude", claude, 170
        ),
        "coding_auto_gpu_host": coding_auto_class(
            published, "coding_auto(GPU-host contended, GLM-4.7-flash)", "glm", glm, 0
        ),
        "swe_bench": swe_bench_class(published),
        "function_calling": function_calling_class(
            published, "function_calling(tau2 retail+airline)", shop, 2, {"output_program": 0.1}
        ),
        "function_calling_telecom": function_calling_class(
            published, "function_calling(tau2 telecom)", telecom, 2, {}
        ),
        "function_calling_bfcl": function_calling_class(
            published, "function_calling(bfcl multi-turn)", multi, 2, {}
        ),
        "web_research": web_research_class(published, web),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Fit the workload generators' parameters.")
    parser.add_argument("--traces", type=Path, required=True, help="folder of the public traces")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "generators" / "parameters",
        help="folder for the parameter files",
    )
    options = parser.parse_args(arguments)
    for name, table in fit_all(options.traces).items():
        path = options.out / f"{name}.toml"
        header = f"# {name}: written by python -m agentserve_gym.workloads.fit (numbers only)\n"
        write_file(path, header + to_toml(table))


if __name__ == "__main__":
    main()
