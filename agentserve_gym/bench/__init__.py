"""The benchmark: scenarios x policies x seeds, statistics that pair seeds, and a report.

A suite (``suites/*.toml``) names cells (scenarios of ``scenarios/*.toml``)
and policies (``policies.toml``). ``run_jobs`` measures one outcome per cell, policy and seed into
an append-only CSV file; ``Study`` turns that file into rankings; ``write_report`` into pages.
"""

from agentserve_gym.bench.measure import Outcome, measure
from agentserve_gym.bench.report import write_report
from agentserve_gym.bench.results import ResultsFile
from agentserve_gym.bench.runner import Job, plan_jobs, run_jobs
from agentserve_gym.bench.study import Study
from agentserve_gym.bench.suite import Cell, Entry, Suite, load_suite, suite_names

__all__ = [
    "Cell",
    "Entry",
    "Job",
    "Outcome",
    "ResultsFile",
    "Study",
    "Suite",
    "load_suite",
    "measure",
    "plan_jobs",
    "run_jobs",
    "suite_names",
    "write_report",
]
