"""A cluster and a trace of your own.

Writes a small workload file in the package's format (one program per line), describes a cluster
that serves it, and compares two policies.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Scenario, Simulation, load_scenario
from agentserve_gym.workloads import PrefixSegment, Program, ToolCall, Turn, write_programs

SYSTEM_PROMPT = PrefixSegment("system prompt", 2_000)


def make_program(number: int) -> Program:
    """Ten turns: a question, then a test run of 3 to 5 s after each answer."""
    turns: list[Turn] = []
    chain_tokens = 0
    for index in range(10):
        new_tokens = 6_000 if index == 0 else 800
        last = index == 9
        test_run = ToolCall("shell_tests", duration_s=3.0 + number % 3, result_tokens=800)
        turns.append(
            Turn(
                input_tokens=chain_tokens + new_tokens,
                new_input_tokens=new_tokens,
                output_tokens=150,
                reuse_tokens=chain_tokens,
                gap_s=0.0 if last else test_run.duration_s,
                gap_kind="end" if last else "tool",
                tools=() if last else (test_run,),
            )
        )
        chain_tokens += new_tokens + 150
    return Program(
        f"job-{number}", "nightly_tests", tuple(turns), (SYSTEM_PROMPT,), arrival_s=0.5 * number
    )


def make_scenario(trace: Path) -> Scenario:
    """Two H100 with HBM for about eight of these programs, and 32 GiB of DRAM."""
    return load_scenario(
        {
            "name": "nightly",
            "cluster": {
                "model": "llama-3.1-8b",
                "nodes": [
                    {
                        "name": "node0",
                        "instances": [{"accelerator": "h100-sxm", "count": 2, "kv_blocks": 4_000}],
                        "dram": {"capacity_gib": 32.0},
                    }
                ],
            },
            "workload": {"kind": "trace", "path": str(trace)},
            "arrivals": {"kind": "trace"},
        }
    )


def main() -> None:
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "nightly.jsonl.gz"
        write_programs((make_program(number) for number in range(60)), trace)
        scenario = make_scenario(trace)
        for name in ("lru", "dram"):
            report = run_policy(Simulation(scenario, seed=0), parse_policy(name))
            print(
                f"{name}: mean JCT {report['jct_s']['mean']:.1f} s, "
                f"{report['recomputed_tokens']:,} tokens computed again"
            )


if __name__ == "__main__":
    main()
