"""The validation page's part on measured routers: its text, its table and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from agentserve_gym.plots import style
from agentserve_gym.report import palette
from agentserve_gym.report.markdown import plain_table
from agentserve_gym.validation.router_runs import (
    ALIKE,
    BREAKS_S,
    ROUTERS,
    RouterStage,
    breaking_rates,
    by_ttft,
)

ROUTER_HEADING = "## Four routers on 16 H100, by rate"
ROUTER_PICTURE = "routers.png"

_COLOURS = {
    "precise": palette.TEAL,
    "default": palette.YELLOW,
    "random": palette.PURPLE,
    "load": palette.RED,
}

_OPENING = f"""{ROUTER_HEADING}

llm-d's runs, one each: four vLLM pods serve Llama-3.1-70B, four H100 a pod, 461,376 KV tokens each.
83 groups of 3 prompts share 8,000 tokens by group and have 1,000 of their own; answers have 1,000.
The prompts come in one shuffled order, again and again. *load* scores queue and KV use, *default*
also what the router itself sent where, *precise* what KV events say, *random* nothing. Output
tokens per second are over the time to the last token. Nothing is fitted to these runs; engines are
priced by summed kernels and the catalogue's host time of vLLM 0.19 (theirs is not stated), and
simulated figures are means of three seeds. In the order, = joins means within {ALIKE:.0%}.
"""

_REMARKS = """What decides:

- **Room.** The prefixes of all groups take 664,000 tokens. A pod cannot hold them, four together
  can, so a router that keeps groups apart finds nearly every prompt in HBM. *load* and *random*
  send every group everywhere; as the order is cyclic, most prefixes are evicted before they are
  wanted again, prefill takes the time that decoding needs, running turns fill the pool, and turns
  queue.
- **What the router sees of load.** vLLM's metrics change when a step ends. While a pod prefills a
  long prompt, they hide what it has admitted, and *load* sends the next turns to the same pod: that
  is why it is slower than *random* at the lowest rate, and a router that saw loads as they are at
  each moment would not be (a test shows both).
- **The time per token** compares with twice the measured inter-token latency: the load generator
  counts two events for each token. (The runs say so themselves: at 12 requests per second *precise*
  needs 42 s for 1,000 tokens after the last arrival, at 21 ms a token by its own count.)
- **What is missing.** The time to first token lacks most of what lies outside the engine (gateway,
  tokenizing of 9,000 tokens, HTTP): about 0.1 s throughout. In the measured runs *default* takes
  longer than *precise*, to the first token and for each token, as if part of the prompts were
  computed again. Here the two tie: 83 groups fit, and neither rule gives a group away once it has
  placed it. What the measured index lost is not known.
"""


def router_section(stages: Sequence[RouterStage], pictures: str) -> list[str]:
    """The part as pieces of Markdown.

    Args:
        stages: by rate. ``pictures``: folder of the page's pictures, relative to it.
    """
    return [
        _OPENING,
        plain_table(*_split(router_rows(stages))),
        plain_table(*_split(order_rows(stages))),
        f"![Four routers: measured and simulated]({pictures}/{ROUTER_PICTURE})\n",
        _REMARKS,
    ]


def router_rows(stages: Sequence[RouterStage]) -> list[tuple[str, ...]]:
    """Measured and simulated figures: a heading, then one row per rate and router."""
    rows: list[tuple[str, ...]] = [
        (
            "requests/s, router", "output tokens/s", "simulated", "TTFT mean, s", "simulated",
            "TTFT p90, s", "simulated", "2 x ITL, ms", "TPOT simulated", "hit rate simulated",
        )
    ]  # fmt: skip
    for stage in stages:
        run = stage.measured
        error = stage.output_tokens_per_s / run.output_tokens_per_s - 1.0
        rows.append(
            (
                f"{run.rate_per_s:g}, {run.router}",
                f"{run.output_tokens_per_s:,.0f}",
                f"{stage.output_tokens_per_s:,.0f} ({error:+.0%})",
                f"{run.ttft_mean_s:.3f}",
                f"{stage.ttft_mean_s:.3f}",
                f"{run.ttft_p90_s:.3f}",
                f"{stage.ttft_p90_s:.3f}",
                f"{run.tpot_s * 1e3:.0f}",
                f"{stage.tpot_s * 1e3:.1f}",
                f"{stage.hit_rate:.1%}",
            )
        )
    return rows


def order_rows(stages: Sequence[RouterStage]) -> list[tuple[str, ...]]:
    """The order of the routers at each rate, and where each breaks."""
    rows: list[tuple[str, ...]] = [("", "measured", "simulated")]
    for rate, group in groupby(stages, key=lambda stage: stage.measured.rate_per_s):
        orders = (" < ".join(map(" = ".join, order)) for order in by_ttft(list(group)))
        rows.append((f"TTFT mean at {rate:g} requests/s", *orders))
    for router in ROUTERS:
        own = [stage for stage in stages if stage.measured.router == router]
        rates = ("none" if rate is None else f"{rate:g}" for rate in breaking_rates(own))
        rows.append((f"first rate with a mean TTFT above {BREAKS_S:g} s, {router}", *rates))
    return rows


def draw_routers(stages: Sequence[RouterStage]) -> bytes:
    """Mean TTFT and output tokens per second by rate: measured in full lines, simulated dashed.

    Returns:
        A PNG file's bytes, the same for the same results.

    Raises:
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
    """
    figure = style.new_figure(11.0, 4.6)
    grid = figure.add_gridspec(1, 2, left=0.06, right=0.98, top=0.9, bottom=0.12, wspace=0.16)
    ttft, tokens = (figure.add_subplot(grid[0, column]) for column in (0, 1))
    style.tidy(ttft, "Mean time to first token, s")
    style.tidy(tokens, "Output tokens per second")
    for router in ROUTERS:
        own = [stage for stage in stages if stage.measured.router == router]
        measured = [stage.measured for stage in own]
        rates = [run.rate_per_s for run in measured]
        _pair(
            ttft, router, rates, [run.ttft_mean_s for run in measured], [s.ttft_mean_s for s in own]
        )
        _pair(
            tokens,
            router,
            rates,
            [run.output_tokens_per_s for run in measured],
            [stage.output_tokens_per_s for stage in own],
        )
    ttft.set_yscale("log")
    ttft.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    tokens.set_ylim(bottom=0.0)
    for axes in (ttft, tokens):
        axes.set_xlabel("requests per second", fontsize=9, color=palette.INK)
    style.legend(tokens, loc="lower right", ncols=2)
    return style.png(figure, dpi=105)


def _pair(
    axes: Any, router: str, rates: list[float], measured: list[float], simulated: list[float]
) -> None:
    colour = _COLOURS[router]
    axes.plot(rates, measured, color=colour, linewidth=2.4, marker="o", markersize=4, label=router)
    axes.plot(
        rates, simulated, color=colour, linewidth=1.5, linestyle=(0, (3, 2)),
        label=f"{router}, simulated",
    )  # fmt: skip


def _split(rows: list[tuple[str, ...]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    return rows[0], rows[1:]
