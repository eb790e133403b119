"""A turn at an engine: what the engine has to do for it, and how far it is."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.answers import Restore
from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.programs import TurnState

QueueKey = tuple[int, float, int]
"""Place in an engine's queue, lowest first: who was there before, priority, order of arrival."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Request(Copyable):
    """One turn that was sent to an engine. The engine makes it, and only its parts change it.

    Attributes:
        turn, program: what is known of it. ``output_tokens``: when it ends.
        instance: the engine's. ``priority``, ``restore``: the policy's answer.
        sequence: order of arrival at the engine. ``queue_key``: place in its queue.
        admission: order of its last entry to the batch, which is the order in which turns that end
            in one step free their blocks.
        visible_after_s: an engine with async scheduling sees it from the first step on that is
            planned after this time.
        target_tokens: tokens to prefill: the prompt, or prompt + generated after a preemption.
        match_limit_blocks: leading blocks of them that may be taken from caches.
        computed_tokens: how many of them have their KV in this instance's HBM.
        uncached_tokens: how many of them count as queued, as estimated when it was queued.
        reserved: whether it has its blocks and waits for nothing else.
        awaits_load: whether KV that it needs is on its way to its blocks.
        hit_blocks: leading blocks that belong to cached entries; ``private_blocks``: blocks that
            only this turn owns, not counting those that decoding added since it joined the batch.
        chunk_tokens: what it prefills in a step that runs now.
        decode_start, finish_step: steps of the batch at which it joined and will end.
        generated: tokens emitted so far. ``first_token_s``: when the first was.
        preemptions: how often it lost its place in the batch.
    """

    __slots__ = (
        "admission",
        "awaits_load",
        "chunk_tokens",
        "computed_tokens",
        "decode_start",
        "finish_step",
        "first_token_s",
        "generated",
        "hit_blocks",
        "instance",
        "match_limit_blocks",
        "output_tokens",
        "preemptions",
        "priority",
        "private_blocks",
        "program",
        "queue_key",
        "reserved",
        "restore",
        "sequence",
        "target_tokens",
        "turn",
        "uncached_tokens",
        "visible_after_s",
    )

    def __init__(
        self,
        turn: TurnState,
        output_tokens: int,
        instance: int,
        priority: float,
        restore: Restore,
        sequence: int,
        now_s: float,
    ) -> None:
        self.turn = turn
        self.program = turn.program
        self.output_tokens = output_tokens
        self.instance = instance
        self.priority = priority
        self.restore = restore
        self.sequence = sequence
        self.queue_key: QueueKey = (0, priority, sequence)
        self.visible_after_s = now_s
        self.target_tokens = turn.prompt_tokens
        self.match_limit_blocks = turn.match_limit_blocks
        self.computed_tokens = 0
        self.uncached_tokens = 0
        self.reserved = False
        self.awaits_load = False
        self.hit_blocks = 0
        self.private_blocks = 0
        self.chunk_tokens = 0
        self.admission = 0
        self.decode_start = 0
        self.finish_step = -1
        self.generated = 0
        self.first_token_s = -1.0
        self.preemptions = 0

    def start_over(self, queue_key: QueueKey, block_size_tokens: int, now_s: float) -> None:
        """It was preempted: what it generated is to be prefilled with its prompt."""
        self.target_tokens = self.turn.prompt_tokens + self.generated
        self.match_limit_blocks = (self.target_tokens - 1) // block_size_tokens
        self.computed_tokens = 0
        self.reserved = False
        self.preemptions += 1
        self.queue_key = queue_key
        self.visible_after_s = now_s


Prompt = TurnState | Request
"""What caches are asked about: a turn's prompt, or what an engine has to prefill."""
