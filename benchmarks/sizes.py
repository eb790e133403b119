"""How much is measured: the page's sizes, and sizes of a moment for tests and a first look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of all rows.

    Attributes:
        repetitions: of each short measurement, warm-up aside.
        control_events: events of a control loop.
        programs: of the peer workload.
        seeds: workloads of the default scenario in one repetition.
        steps: environment steps in one repetition.
        vector_widths: environments side by side.
        training_steps: decisions to learn from.
        decode_turns, decode_tokens: of decode-heavy runs: turns, and mean tokens per output; the
            third length is held against the target.
        turns: lengths of runs in turns; the last is run in a process of its own.
        instances, live_programs: sizes of clusters and of populations.
        window_turns: turns measured at each of them.
        samples: of the sampling profiler, per run.
    """

    repetitions: int = 7
    control_events: int = 20_000
    programs: int = 200
    seeds: int = 3
    steps: int = 4_000
    vector_widths: tuple[int, ...] = (1, 8, 32)
    training_steps: int = 8_192
    decode_turns: int = 100
    decode_tokens: tuple[int, ...] = (500, 2_000, 8_000, 32_000)
    turns: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    instances: tuple[int, ...] = (1, 4, 16, 64)
    live_programs: tuple[int, ...] = (10, 100, 1_000, 10_000)
    window_turns: int = 6_000
    samples: int = 2_000


FULL = Sizes()
QUICK = Sizes(
    repetitions=2,
    control_events=2_000,
    programs=12,
    seeds=1,
    steps=150,
    vector_widths=(1, 4),
    training_steps=1_024,
    decode_turns=4,
    decode_tokens=(50, 100, 300),
    turns=(200, 1_000),
    instances=(1, 4),
    live_programs=(10, 40),
    window_turns=200,
    samples=40,
)
