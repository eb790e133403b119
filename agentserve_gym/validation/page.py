"""The validation report: one Markdown page and its pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from agentserve_gym.files import require_replaceable
from agentserve_gym.report.markdown import plain_table
from agentserve_gym.report.page import current_commit, joined, made_by, write_page
from agentserve_gym.validation.compare import CaseErrors
from agentserve_gym.validation.conversation_page import (
    HEADING,
    WITHHELD_HEADING,
    conversation_section,
    draw_cell,
    is_drawn,
    picture_name,
)
from agentserve_gym.validation.findings import Findings
from agentserve_gym.validation.pictures import draw_case
from agentserve_gym.validation.router_page import (
    ROUTER_HEADING,
    ROUTER_PICTURE,
    draw_routers,
    router_section,
)
from agentserve_gym.validation.steps import ForwardPasses
from agentserve_gym.validation.study import CaseResult, UnmeasuredResult

PAGE = "validation.md"
PICTURES = "validation"

_OPENING = """# Validation

What this simulator gets right, by how much it is off, and what nobody has checked. Every number on
this page is computed by the command below; run it to get your own. Errors are simulated / measured
- 1.
"""

_MEASURED = """## Real engine runs

vLLM 0.19, 300 ShareGPT requests at 10 per second, prefix caching and asynchronous scheduling on
(published with LLMServingSim 2.0). Nothing is fitted to these runs: `profile` interpolates tables
of single layers measured on the same GPU, `compact` is a closed form fitted to those tables (what
the default scenarios use), `roofline` knows data-sheet numbers and efficiencies fitted to
tables. "Per request" is the mean absolute error over requests. Targets: RTX PRO 6000 Llama-8B TTFT
4 %, TPOT 1.5 %, E2E 2 %, per-request E2E 2.5 %; Qwen3-30B-A3B 10, 2, 2 and 3 %; the roofline has
none. For comparison, the best public simulator, tuned by its authors, is at TTFT -4.3 / -15.7 %,
TPOT -1.0 / -1.7 % and E2E -1.9 / -2.2 % on the two runs, and takes minutes.
"""

_UNMEASURED = """## Published runs whose measurements were withheld

Replayed here without their measurements, for others to compare.
"""

_ABLATIONS = """## What each mechanism is worth

The same runs with one mechanism left out, under profile timing.
"""

_POOLS = """A KV pool that is 31 % too large, as memory arithmetic gives it that forgets what the
engine keeps for itself, changes these simulated means (LLMServingSim's published ablation of the
saturated run: TTFT -20.7 %, E2E -12.5 %):
"""

_STEPS = """## The compact form against its tables

Whole steps at 400 random places per case, decodes of unequal contexts, none of them a grid point by
design. (Each coefficient file in the catalogue also states the held-out error of its own fit.)
"""

_REUSE = """## True reuse

A trace of coding sessions with the id of every block: the share of input tokens, after each
session's first prompt, that an engine with room for everything finds in its cache, against the
share that the ids say. (Ids cover prompts only, so the previous answer counts as new.)
"""

_PASSES = """## Single prefills on real GPUs

vLLM 0.19, one prompt, one output token, host overhead included, median of ten. `auto` is what
scenarios use: for the B200 that is the sum of measured kernels without host overhead, which is why
short prompts of the small model come out far too fast. With `engine.software = "vllm-0.19"` the
linear layers take at least what launching their kernels takes (0.3 ms a layer, from the two
shortest prompts of the small model; nothing else is fitted to these rows). Believe differences
between policies there, not absolute times below some 20 ms.
"""

_CALIBRATED = """With one overhead and one scale per engine, fitted to every other prompt length,
the lengths in between come out so (the catalogue does not use this; four points a row are few):
"""

_TRENDS = """## Published trends

Statements of papers about agent serving, and of real runs whose figures alone are known (R), each
measured on a small setup. These are reported, not
enforced: a miss is information. (The hard ones, on locality, retention, thrashing, tiers and
accounting, are tests under `tests/sim` and `tests/validation`, each naming its source.)
"""

_NOT_VALIDATED = """## What is not validated

- **Tool gaps.** The conversations above have none: a client answers within milliseconds. Programs
  with gaps, retention and offloading by policy rest on the engine semantics that the runs confirm
  and on published trends, not on a measurement of the same thing.
- **Host memory under pressure.** What engines write to it was measured as far as NVML's samples go;
  no run above loads from it. DRAM, CXL, PCIe and NVLink transfers use published bandwidths and
  latencies, and fragmentation of KV blocks enters only through those. What offloading costs the
  engine itself, about 1 % of the requests per second above, is not modelled.
- **Data-centre GPUs.** A100, H100, H200, B200, GB200 and L40S are priced by summed kernels
  (aiconfigurator-core). One model on a B200 and one on H100s were compared end to end, and single
  prefills on a B200. Host time is known for two configurations of vLLM, and added only where a
  scenario or its coefficients name one of them.
- **The roofline** is for comparison of hardware that does not exist yet, not for absolute times.
- **Quantized weights and KV, latent and windowed attention** are priced by summed kernels and a
  roofline. One NVFP4 model with fp8 KV was compared end to end; [hardware.md](hardware.md) says
  what of the others is not modelled.
- **Three versions of one engine** (vLLM 0.15, 0.19 and llm-d's, block size 16). Other engines,
  speculative decoding, LoRA, multimodal inputs and disaggregated prefill are not modelled.
- **Data parallelism** was checked on one run with two engines. Larger groups, pipeline parallelism
  and expert load imbalance were not; experts are assumed to be hit uniformly at random.
- **The router's own time** and the network between router and engines are not modelled; signals
  may lag by a set delay.
- **Tools** replay recorded or fitted durations; contention on tool hosts is a model without data.
- **Learned policies** have not been deployed on a real cluster.
"""


_SECTIONS = {
    "cells": HEADING,
    "withheld": WITHHELD_HEADING,
    "cases": _MEASURED,
    "unmeasured": _UNMEASURED,
    "routers": ROUTER_HEADING,
    "ablations": _ABLATIONS,
    "reuse": _REUSE,
    "steps": _STEPS,
    "passes": _PASSES,
    "trends": _TRENDS,
}

Rows = list[tuple[str, ...]]


def require_report(folder: Path) -> None:
    """Find out before a long run whether its report would replace something else.

    Raises:
        ValueError: if the folder holds a ``validation.md`` that is not such a page.
    """
    require_replaceable(folder / PAGE, _OPENING.partition("\n")[0], "a page of validate")


def lost_sections(folder: Path, parts: Collection[str], cases: Collection[str]) -> list[str]:
    """Sections of the folder's page that a new one would not have.

    Args:
        folder: of the page, which need not be there.
        parts: attributes of ``Findings`` that the new page's are computed from.
        cases: names of its measured cases.
    """
    if not (folder / PAGE).is_file():
        return []
    headings = {text.partition("\n")[0] for text in (_OPENING, _NOT_VALIDATED)}
    headings |= {_SECTIONS[part].partition("\n")[0] for part in parts if part in _SECTIONS}
    headings |= {f"### {name}" for name in cases}
    lines = (folder / PAGE).read_text(encoding="utf-8").splitlines()
    return [line.lstrip("# ") for line in lines if line.startswith("#") and line not in headings]


def write_report(findings: Findings, folder: Path, command: str) -> Path:
    """Write ``validation.md``, and a picture per measured case, to a folder.

    Args:
        findings: what the page is made of.
        folder: made if it is not there.
        command: that computed them.

    Returns:
        The page's path.

    Raises:
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
        OSError: the folder cannot be written.
    """
    beside = {
        f"{PICTURES}/{name}.png": draw_case(results) for name, results in findings.by_case().items()
    }
    beside |= {
        f"{PICTURES}/{picture_name(result)}": draw_cell(result)
        for result in findings.cells
        if is_drawn(result)
    }
    if findings.routers:
        beside[f"{PICTURES}/{ROUTER_PICTURE}"] = draw_routers(findings.routers)
    write_page(folder / PAGE, page(findings, command), beside)
    return folder / PAGE


def page(findings: Findings, command: str) -> str:
    """The page as Markdown; a part that was not run is left out."""
    parts = [_OPENING, made_by(command, current_commit())]
    if findings.cells:
        parts += conversation_section(findings.cells, findings.withheld, PICTURES)
    if findings.cases:
        parts.append(_MEASURED)
    for name, results in findings.by_case().items():
        parts += [f"### {name}\n", _markdown(case_rows(results))]
        parts.append(f"![{name}: measured and simulated]({PICTURES}/{name}.png)\n")
    if findings.unmeasured:
        parts += [_UNMEASURED, _markdown(_unmeasured_rows(findings.unmeasured))]
    if findings.routers:
        parts += router_section(findings.routers, PICTURES)
    if findings.ablations:
        parts += [_ABLATIONS, _markdown(_ablation_rows(findings))]
    if findings.pools:
        parts += [_POOLS, _markdown(_pool_rows(findings))]
    if findings.reuse:
        parts += [_REUSE, _markdown(_reuse_rows(findings))]
    if findings.steps:
        parts += [_STEPS, _markdown(_step_rows(findings))]
    if findings.passes:
        parts += [_PASSES, _markdown(pass_rows(findings.passes))]
    if findings.calibrated:
        parts += [_CALIBRATED, _markdown(pass_rows(findings.calibrated))]
    if findings.trends:
        parts += [_TRENDS, _markdown(_trend_rows(findings))]
    return joined([*parts, _NOT_VALIDATED])


def case_rows(results: Sequence[CaseResult]) -> Rows:
    """The error table of one case: a heading, then one row per figure, one column per timing."""
    run = results[0].published
    errors = [result.errors for result in results]
    rows: Rows = [("", *(one.timing for one in errors), "allowed")]
    for name, label in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E")):
        allowed = f"{getattr(run, name):.1%}" if run is not None else ""
        rows.append((f"{label} mean", *(f"{one.mean[name]:+.2%}" for one in errors), allowed))
        rows.append((f"{label} p50", *(f"{one.p50[name]:+.2%}" for one in errors), ""))
        rows.append((f"{label} p99", *(f"{one.p99[name]:+.2%}" for one in errors), ""))
    for name, label in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E")):
        allowed = f"{run.per_request_e2e:.1%}" if run is not None and name == "e2e" else ""
        own = (f"{one.per_request[name]:.2%}" for one in errors)
        rows.append((f"{label} per request", *own, allowed))
    rows.append(("makespan", *(f"{one.makespan:+.2%}" for one in errors), ""))
    reference = str(run.preemptions) if run is not None and run.preemptions is not None else ""
    rows.append(("preemptions", *(str(one.preemptions) for one in errors), reference))
    rows.append(("targets", *(_verdict(result.missed) for result in results), ""))
    return rows


def _verdict(missed: list[str] | None) -> str:
    if missed is None:
        return "none set"
    return "met" if not missed else "missed: " + ", ".join(missed)


def _unmeasured_rows(results: Sequence[UnmeasuredResult]) -> Rows:
    rows: Rows = [("run, timing", "TTFT, s", "TPOT, ms", "E2E, s", "makespan, s", "preemptions")]
    for result in results:
        run, figures = result.run, result.replayed.as_dict()
        preemptions = str(figures["preemptions"])
        if run.preemptions is not None:
            preemptions += f" (measured about {run.preemptions})"
        rows.append(
            (
                f"{run.accelerator}, {run.model}, tp{run.tensor_parallel}, {result.timing}",
                f"{figures['ttft_ms']['mean'] / 1e3:.2f}",
                f"{figures['tpot_ms']['mean']:.2f}",
                f"{figures['e2e_s']['mean']:.2f}",
                f"{figures['makespan_s']:.1f}",
                preemptions,
            )
        )
    return rows


def _ablation_rows(findings: Findings) -> Rows:
    rows: Rows = [("case", "without", "TTFT", "TPOT", "E2E", "per request TTFT", "per request E2E")]
    seen: set[str] = set()
    for result in findings.ablations:
        if result.whole.case not in seen:
            seen.add(result.whole.case)
            rows.append(_ablation_row("nothing: the whole model", result.whole))
        rows.append(_ablation_row(result.name, result.without))
    return rows


def _ablation_row(name: str, errors: CaseErrors) -> tuple[str, ...]:
    means = [f"{errors.mean[figure]:+.2%}" for figure in ("ttft", "tpot", "e2e")]
    own = [f"{errors.per_request[figure]:.2%}" for figure in ("ttft", "e2e")]
    return (errors.case, name, *means, *own)


def _pool_rows(findings: Findings) -> Rows:
    rows: Rows = [("run", "blocks", "with", "TTFT", "E2E", "preemptions")]
    rows += [
        (
            pool.run,
            f"{pool.blocks:,}",
            f"{pool.wrong_blocks:,}",
            f"{pool.ttft:+.1%}",
            f"{pool.e2e:+.1%}",
            f"{pool.preemptions} to {pool.wrong_preemptions}",
        )
        for pool in findings.pools
    ]
    return rows


def _step_rows(findings: Findings) -> Rows:
    rows: Rows = [("case", "steps", "mean error", "p90", "bias")]
    rows += [
        (e.case, e.kind, f"{e.mean:.2%}", f"{e.p90:.2%}", f"{e.bias:+.2%}") for e in findings.steps
    ]
    return rows


def _reuse_rows(findings: Findings) -> Rows:
    rows: Rows = [("programs", "tokens after first prompts", "true", "simulated", "of all tokens")]
    rows += [
        (
            str(result.programs),
            f"{result.follow_up_tokens:,}",
            f"{result.true:.2%}",
            f"{result.simulated:.2%}",
            f"{result.simulated_of_all:.2%}",
        )
        for result in findings.reuse
    ]
    return rows


def pass_rows(passes: Sequence[ForwardPasses]) -> Rows:
    """Errors against real prefills: a heading and one row per engine and timing source."""
    rows: Rows = [("engine, timing", *(f"{count:,}" for count in passes[0].tokens))]
    rows += [
        (
            f"{p.case}, {p.kind}{'' if p.source == p.kind else f' ({p.source})'}",
            *(f"{error:+.0%}" for error in p.errors),
        )
        for p in passes
    ]
    return rows


def _trend_rows(findings: Findings) -> Rows:
    rows: Rows = [("", "published", "setup", "band", "here", "within")]
    rows += [
        (
            t.number,
            f"{t.statement} ({t.source})",
            t.setup,
            t.band,
            t.measured,
            "yes" if t.within else "**no**",
        )
        for t in findings.trends
    ]
    return rows


def _markdown(rows: Rows) -> str:
    return plain_table(rows[0], rows[1:])
