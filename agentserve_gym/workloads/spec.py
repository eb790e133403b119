"""What a scenario says about its workload: pydantic models, validated before anything runs.

A workload is two choices: *which programs* (`WorkloadSpec`: generated, a trace file, or written out
in the scenario) and *when they arrive* (`ArrivalSpec`). Both are discriminated unions on ``kind``.
Unknown keys, NaN, infinite and negative numbers are refused with the field named.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from agentserve_gym.workloads.generators.catalogue import AGENT_CLASSES
from agentserve_gym.workloads.validation import MOST_FAILURES

PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]
NonNegativeFloat = Annotated[FiniteFloat, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
GapScale = Annotated[FiniteFloat, Field(ge=0, le=1e6)]
Variation = Annotated[FiniteFloat, Field(ge=1e-3, le=1e3)]
Programs = Annotated[int, Field(ge=1, le=10**9)]
ModelName = Annotated[str, Field(min_length=1)]
Concurrency = Annotated[int, Field(ge=1, le=10**6)]
"""Programs are drawn as they arrive; live ones take some 6 KiB each."""

TraceFormat = Literal[
    "auto",
    "agentserve",
    "agentprog",
    "sessions",
    "mooncake",
    "azure",
    "block_requests",
    "block_runs",
    "conversations",
    "tau2",
]


class SpecModel(BaseModel):
    """Base of every specification: immutable, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# ---------------------------------------------------------------------------------------- arrivals


class PoissonArrivals(SpecModel):
    """Open loop, exponential inter-arrival times."""

    kind: Literal["poisson"] = "poisson"
    rate_per_s: PositiveFloat


class GammaArrivals(SpecModel):
    """Open loop, Gamma renewal process with coefficient of variation ``cv`` (1 is Poisson).

    Gamma fits 76 % of ServeGen's client windows best; their median CV is 1.0 to 1.3, the 90th
    percentile 4 to 5.5, and Azure's code trace reaches 13.
    """

    kind: Literal["gamma"] = "gamma"
    rate_per_s: PositiveFloat
    cv: Variation = 1.0


class TraceArrivals(SpecModel):
    """Open loop, the programs' own ``arrival_s`` divided by ``speedup``."""

    kind: Literal["trace"] = "trace"
    speedup: PositiveFloat = 1.0


class ClosedLoopArrivals(SpecModel):
    """A fixed number of programs at once: a new one starts ``pause_s`` after one finishes, and
    ``pause_token_s`` later for each token of its first prompt."""

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: Concurrency
    pause_s: NonNegativeFloat = 0.0
    pause_token_s: NonNegativeFloat = 0.0


class DiurnalArrivals(SpecModel):
    """A Gamma renewal process whose rate follows the day; ``rate_per_s`` is the mean rate.

    The rate is proportional to ``exp(k cos(phase))``, with k such that its peak is
    ``peak_to_mean`` times its mean; it starts in the trough.
    """

    kind: Literal["diurnal"] = "diurnal"
    rate_per_s: PositiveFloat
    cv: Variation = 1.0
    peak_to_mean: Annotated[FiniteFloat, Field(ge=1, le=10)] = 2.5
    period_s: PositiveFloat = 86_400.0


class Stage(SpecModel):
    """A time in which programs arrive at one rate; 0 for a pause."""

    duration_s: PositiveFloat
    rate_per_s: NonNegativeFloat


class StagedArrivals(SpecModel):
    """A Gamma renewal process whose rate changes in steps: a ramp, a burst, a quiet hour. After the
    last of the ``stages`` the first begins again."""

    kind: Literal["staged"] = "staged"
    stages: tuple[Stage, ...] = Field(min_length=1)
    cv: Variation = 1.0

    @model_validator(mode="after")
    def _programs_arrive(self) -> StagedArrivals:
        if not any(stage.rate_per_s for stage in self.stages):
            raise ValueError("stages: rate_per_s is 0 in all; allowed: more in one at least")
        return self


ArrivalSpec = Annotated[
    PoissonArrivals
    | GammaArrivals
    | TraceArrivals
    | ClosedLoopArrivals
    | DiurnalArrivals
    | StagedArrivals,
    Field(discriminator="kind"),
]

# --------------------------------------------------------------------------------------- workloads


class GeneratedWorkload(SpecModel):
    """Programs drawn from the fitted generators.

    Attributes:
        mix: agent class -> weight (need not sum to 1); the classes are `AGENT_CLASSES`.
        programs: how many programs.
        max_context_tokens: the window. Classes that compact do so below .8 of it; a program that
            would still exceed it ends before the turn that would.
        max_turns: longest program, in turns.
        tool_timeout_s: tools are stopped here (120 s is a usual default, 600 s a usual maximum).
        host_factor: multiplies tool durations before the timeout (a slow or contended host).
        gap_scale: multiplies every gap afterwards, tools and people alike.
        token_scale: multiplies every token count (tokenizers differ by 1.2 to 1.6).
        user_gaps: ``human`` draws people's waits from measured interactive sessions; ``simulated``
            from an LLM that played the user (about a second).
        max_user_gap_s: cap on a person's wait.
        sub_agents: whether turns may start sub-agents (children).
        models: agent class -> the model that its programs name; default: the cluster's.
        sub_agent_models: agent class -> the model of its sub-agents; default: their parent's.
    """

    kind: Literal["generated"] = "generated"
    mix: dict[str, PositiveFloat] = Field(min_length=1)
    programs: Programs
    max_context_tokens: Annotated[int, Field(ge=256)] | None = None
    max_turns: PositiveInt | None = None
    tool_timeout_s: PositiveFloat = 120.0
    host_factor: PositiveFloat = 1.0
    gap_scale: GapScale = 1.0
    token_scale: Annotated[FiniteFloat, Field(gt=0, le=1000)] = 1.0
    user_gaps: Literal["human", "simulated"] = "human"
    max_user_gap_s: PositiveFloat = 43_200.0
    sub_agents: bool = True
    models: dict[str, ModelName] = {}
    sub_agent_models: dict[str, ModelName] = {}

    @model_validator(mode="after")
    def _known_classes(self) -> GeneratedWorkload:
        for name in self.mix:
            if name not in AGENT_CLASSES:
                raise ValueError(
                    f"mix: unknown agent class {name!r}; allowed: {', '.join(AGENT_CLASSES)}"
                )
        for field in ("models", "sub_agent_models"):
            for name in getattr(self, field):
                if name not in self.mix:
                    raise ValueError(
                        f"{field}: {name!r} is not in the mix; allowed: {', '.join(self.mix)}"
                    )
        return self


class TraceWorkload(SpecModel):
    """Programs read from a file; see `agentserve_gym.workloads.readers` for the formats.

    Attributes:
        path: the file, plain or gzip, or a folder of JSON files.
        format: ``auto`` looks at the first record.
        split: keep programs of this split only (``train``, ``test``); for files that have splits.
        fresh_start_only: drop programs that begin in the middle of a conversation.
        programs: keep at most this many; where it exceeds the file, all are used once.
        max_turns, max_context_tokens: programs are cut before the first turn beyond either;
            a program whose first turn is beyond is dropped.
        gap_scale: multiplies every gap.
        further_gap_s: added to every gap, after scaling, and ``further_gap_token_s`` for each token
            of the prompt that comes after it.
        max_gap_s: cap on a person's wait (``gap_kind`` user), before scaling.
        tool_timeout_s: cap on tool durations and tool gaps, before scaling. Observed tool gaps may
            hide approvals by people (up to hours in the coding traces).
        shuffle: order by the workload seed instead of the file's.
        sub_agents: whether children are kept.
        models: agent class -> model, for programs whose records name none; default: the cluster's.
        template_start_tokens, template_turn_tokens: of a chat template that the file's prompts
            leave out: before the first message, and around the messages of each further turn.
    """

    kind: Literal["trace"] = "trace"
    path: str = Field(min_length=1)
    format: TraceFormat = "auto"
    split: str | None = None
    fresh_start_only: bool = False
    programs: PositiveInt | None = None
    max_turns: PositiveInt | None = None
    max_context_tokens: PositiveInt | None = None
    gap_scale: GapScale = 1.0
    further_gap_s: NonNegativeFloat = 0.0
    further_gap_token_s: NonNegativeFloat = 0.0
    max_gap_s: NonNegativeFloat | None = None
    tool_timeout_s: PositiveFloat | None = None
    shuffle: bool = False
    sub_agents: bool = True
    models: dict[str, ModelName] = {}
    template_start_tokens: NonNegativeInt = 0
    template_turn_tokens: NonNegativeInt = 0


class InlinePrefix(SpecModel):
    """One level of a shared prefix; programs with equal keys share these tokens."""

    key: str = Field(min_length=1)
    tokens: PositiveInt


class InlineTool(SpecModel):
    kind: str = Field(default="tool", min_length=1)
    duration_s: NonNegativeFloat
    result_tokens: NonNegativeInt = 0
    failures: Annotated[int, Field(ge=0, le=MOST_FAILURES)] = 0


class InlineTurn(SpecModel):
    """A turn written out. The context is the sum so far, so only what is new is given.

    Attributes:
        new_input_tokens: prompt tokens beyond the chain so far (for the first turn: beyond the
            shared prefix).
        gap_s: the wait after the turn; left out, it is the longest of ``tools``.
        reset_to_tokens: a compaction: before this turn the chain shrinks to its first
            ``reset_to_tokens`` tokens.
    """

    new_input_tokens: NonNegativeInt
    output_tokens: PositiveInt
    gap_s: Annotated[FiniteFloat, Field(ge=0, le=1e9)] | None = None
    gap_kind: Literal["tool", "user"] = "tool"
    tools: tuple[InlineTool, ...] = ()
    children: tuple[InlineProgram, ...] = ()
    reset_to_tokens: NonNegativeInt | None = None


class InlineProgram(SpecModel):
    """A program written out; ``arrival_s`` is the offset in the gap for a child. ``model``: what
    serves it; default: its parent's, the cluster's of a root program."""

    program_id: str | None = None
    agent_class: str = "inline"
    model: ModelName | None = None
    arrival_s: NonNegativeFloat | None = None
    prefix: tuple[InlinePrefix, ...] = ()
    turns: tuple[InlineTurn, ...] = Field(min_length=1)


class InlineWorkload(SpecModel):
    """A few programs written out in the scenario, for toys with a hand-checked answer."""

    kind: Literal["inline"] = "inline"
    programs: tuple[InlineProgram, ...] = Field(min_length=1)


InlineTurn.model_rebuild()

WorkloadSpec = Annotated[
    GeneratedWorkload | TraceWorkload | InlineWorkload, Field(discriminator="kind")
]
