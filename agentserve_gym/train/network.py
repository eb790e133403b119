"""The network: every instance is scored by the same weights.

An observation is a context (decision, program, tools, cluster) and one row of features per
instance. A shared encoder reads each row together with the context; the mean and the maximum over
the instances that exist give a summary of the cluster. Each instance's routing logits, one for each
queue class, come from its own encoded row and the summary, so permuting instances permutes logits,
and a policy trained on 4 instances runs on 16: no weight's shape depends on their number. The
placement head reads the summary and the row of the program's home. Actor and critic have encoders
of their own, so that a critic that still learns does not disturb an actor that starts from
imitation.

Shapes: ``B`` observations, ``N`` instances (padding included), ``W`` the width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agentserve_gym.envs.actions import CLASSES
from agentserve_gym.envs.features import ObservationLayout

_NEVER = -1e8
"""The logit of an instance that does not exist; sb3-contrib masks with the same number."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """What the network must know of observations and actions; independent of ``N``.

    Attributes:
        context: leading features that occur once.
        row: features of one instance.
        routes: whether a route is among the actions. ``placements``: how many placements are.
        route_flag, placement_flag: positions in the context that say which decision is asked.
        home, present: positions in a row: the program's home; whether the instance exists.
        width: ``W``.
    """

    context: int
    row: int
    routes: bool
    placements: int
    route_flag: int
    placement_flag: int
    home: int
    present: int
    width: int

    @staticmethod
    def of(layout: ObservationLayout, *, routes: bool, placements: int, width: int) -> NetworkShape:
        """The shape for a layout of observations."""
        slices = layout.slices()
        start, row = layout.instances_start, slices["instance_0"]
        return NetworkShape(
            context=start,
            row=row.stop - row.start,
            routes=routes,
            placements=placements,
            route_flag=slices["decision.route"].start,
            placement_flag=slices["decision.placement"].start,
            home=slices["instance_0.home"].start - start,
            present=slices["instance_0.present"].start - start,
            width=width,
        )


class Encoder(nn.Module):
    """Context and instance rows to encoded rows and a summary, alike for any number of rows."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        width = shape.width
        self.shape = shape
        self.read_row = nn.Linear(shape.row, width)
        self.read_context = nn.Linear(shape.context, width)
        self.row = nn.Linear(width, width)
        self.summary = nn.Linear(3 * width, width)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode.

        Args:
            observations: ``(B, context + N * row)``.

        Returns:
            Raw rows ``(B, N, row)``, encoded rows ``(B, N, W)``, summary ``(B, W)``.
        """
        shape = self.shape
        context = observations[:, : shape.context]
        rows = observations[:, shape.context :].reshape(len(observations), -1, shape.row)
        read = self.read_context(context)
        encoded = torch.relu(self.row(torch.relu(self.read_row(rows) + read.unsqueeze(1))))
        present = rows[:, :, shape.present : shape.present + 1]
        existing = encoded * present
        mean = existing.sum(1) / present.sum(1).clamp(min=1.0)
        # Encoded rows are not negative, so a padded row's zero never is the only maximum.
        pooled = torch.cat((torch.relu(read), mean, existing.amax(1)), 1)
        return rows, encoded, torch.relu(self.summary(pooled))


class Scorer(nn.Module):
    """Scores of actions: ``3 N + 1`` routes (for each instance its queue classes, then hold), then
    the placements, as asked for."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        width = shape.width
        self.shape = shape
        self.encoder = Encoder(shape)
        if shape.routes:
            self.route_row = nn.Linear(width, width)
            self.route_summary = nn.Linear(width, width)
            self.route_score = nn.Linear(width, CLASSES)
            self.hold = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        if shape.placements:
            self.place = nn.Sequential(
                nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, shape.placements)
            )

    def forward(self, observations: Tensor) -> Tensor:
        """Scores, ``(B, 3 N + 1)``, ``(B, placements)`` or ``(B, 3 N + 1 + placements)``.

        Where routes and placements are both among the actions, the scores of the part that is not
        asked are 0: a uniform choice that no gradient reaches.
        """
        shape = self.shape
        rows, encoded, summary = self.encoder(observations)
        scores = []
        if shape.routes:
            joint = torch.relu(self.route_row(encoded) + self.route_summary(summary).unsqueeze(1))
            route = torch.cat((self.route_score(joint).flatten(1), self.hold(summary)), 1)
            scores.append(self._asked(route, observations, shape.route_flag))
        if shape.placements:
            home = (encoded * rows[:, :, shape.home : shape.home + 1]).sum(1)
            place = self.place(torch.cat((summary, home), 1))
            scores.append(self._asked(place, observations, shape.placement_flag))
        return torch.cat(scores, 1)

    def _asked(self, scores: Tensor, observations: Tensor, flag: int) -> Tensor:
        if self.shape.routes and self.shape.placements:
            return scores * observations[:, flag : flag + 1]
        return scores

    def logits(self, observations: Tensor) -> Tensor:
        """Scores with those of instances that do not exist out of reach."""
        scores: Tensor = self(observations)
        if not self.shape.routes:
            return scores
        shape = self.shape
        rows = observations[:, shape.context :].reshape(len(observations), -1, shape.row)
        absent = (rows[:, :, shape.present] < 0.5).repeat_interleave(CLASSES, 1)
        rest = torch.zeros_like(scores[:, absent.shape[1] :], dtype=torch.bool)
        return scores.masked_fill(torch.cat((absent, rest), 1), _NEVER)


class ActorCritic(nn.Module):
    """An actor (``Scorer``) and a critic with an encoder of its own.

    It takes the place of SB3's ``mlp_extractor``; its "latents" are logits and values already.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.actor = Scorer(shape)
        self.critic_encoder = Encoder(shape)
        width = shape.width
        self.critic = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and values, see the parts."""
        return self.forward_actor(observations), self.forward_critic(observations)

    def forward_actor(self, observations: Tensor) -> Tensor:
        """Logits, as ``Scorer.logits``."""
        return self.actor.logits(observations)

    def forward_critic(self, observations: Tensor) -> Tensor:
        """Values, ``(B, 1)``."""
        _, _, summary = self.critic_encoder(observations)
        values: Tensor = self.critic(summary)
        return values
