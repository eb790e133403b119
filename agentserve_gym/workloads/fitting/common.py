"""What the fits share: mixtures, published tables, waits of people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = dict[str, Any]
FloatArray = NDArray[np.float64]


def fit_lognormal_mixture(values: Iterable[float], components: int, steps: int = 400) -> Table:
    """Maximum-likelihood mixture of log-normals by expectation-maximisation.

    Starts from equal slices of the sorted sample, so the result depends on the data only.
    """
    x = np.log(np.sort(np.asarray(list(values), dtype=float)))
    slices = np.array_split(x, components)
    w = np.full(components, 1.0 / components)
    mu = np.array([part.mean() for part in slices])
    sigma = np.array([max(0.1, part.std()) for part in slices])
    for _ in range(steps):
        log_density = -0.5 * ((x[:, None] - mu) / sigma) ** 2 - np.log(sigma) + np.log(w)
        peak = log_density.max(axis=1, keepdims=True)
        weight = np.exp(log_density - peak)
        weight /= weight.sum(axis=1, keepdims=True)
        total = weight.sum(axis=0)
        w = total / len(x)
        mu = (weight * x[:, None]).sum(axis=0) / total
        variance = (weight * (x[:, None] - mu) ** 2).sum(axis=0) / total
        sigma = np.maximum(0.05, np.sqrt(variance))
    return {
        "family": "lognormal_mixture",
        "w": rounded(w),
        "mu": rounded(mu),
        "sigma": rounded(sigma),
        "cap": round(float(np.exp(x[-1])), 3),
    }


def rounded(values: FloatArray) -> list[float]:
    return [round(float(value), 3) for value in values]


def published_mixture(parameters: Mapping[str, Any]) -> Table:
    """A published mixture, without the columns that only describe it."""
    table = {"family": "lognormal_mixture"} | {k: parameters[k] for k in ("w", "mu", "sigma")}
    return table | ({"cap": parameters["cap"]} if "cap" in parameters else {})


def published_duration(parameters: Mapping[str, Any]) -> Table:
    """A duration; where the longest seen is the tools' timeout, the tail goes on beyond it.

    Those draws are then cut by the scenario's timeout, and as many hit it as in the data (of test
    runs about one in a hundred).
    """
    table = published_mixture(parameters)
    if table["cap"] >= TOOL_TIMEOUT_S:
        table["cap"] = FINAL_CAP_S
    return table


def published_turns(parameters: Mapping[str, Any]) -> Table:
    return {"family": "gamma", "shape": parameters["k"], "scale": parameters["theta"]}


TOOL_TIMEOUT_S = 120.0  # of the agents that were traced
FINAL_CAP_S = 600.0


def people(published: Mapping[str, Any]) -> Table:
    """Waits of people (interactive coding, measured) and of an LLM that plays the user (tau2)."""
    human = published_mixture(published["coding_interactive"]["gap_user_s"])
    simulated = published_mixture(
        published["function_calling(tau2 retail+airline)"]["gap_user_sim_s"]
    )
    return {"human": human, "simulated": simulated}


def tracelab_duration(fit: Mapping[str, Any]) -> Table:
    """A log-normal where it is good enough (shell, web), else the two-component mixture."""
    lognormal = fit["lognormal"]
    if lognormal["max_abs_log_err"] < 0.2:
        return {"family": "lognormal_mixture", "w": [1.0]} | {
            name: [lognormal[name]] for name in ("mu", "sigma")
        }
    return {"family": "lognormal_mixture"} | {n: fit["mixture2"][n] for n in ("w", "mu", "sigma")}
