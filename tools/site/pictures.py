"""Moving pictures of the environments, drawn by their own renderer.

python -m tools.site.pictures    # writes docs/pictures/<environment>.gif
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.baselines import parse_policy
from agentserve_gym.files import write_file
from tools.site.environments import made

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
FRAMES = 64
SEED = 0

PLAYERS = {
    "AgentServe-v0": ("lmetric+write_through", 24),
    "AgentServeRouting-v0": ("lmetric", 16),
    "AgentServeOffload-v0": ("continuum", 12),
}
"""Who plays each environment, and how many decisions lie between two frames."""

Frame = NDArray[np.uint8]


def main() -> None:
    """Draw and write."""
    FOLDER.mkdir(exist_ok=True)
    for env_id in PLAYERS:
        content = moving(list(frames(env_id)))
        write_file(FOLDER / f"{env_id}.gif", content)
        print(f"docs/pictures/{env_id}.gif: {len(content) / 1000:.0f} kB")


def frames(env_id: str) -> Iterator[Frame]:
    """The pictures of an episode's beginning, uint8 of shape ``(height, width, 3)``."""
    name, every = PLAYERS[env_id]
    env = made(env_id, render_mode="rgb_array")
    policy = parse_policy(name)
    env.reset(seed=SEED)
    policy.bind(env.simulation)
    for step in range(FRAMES * every):
        if step % every == 0:
            picture = env.render()
            assert isinstance(picture, np.ndarray)
            yield picture
        decision = env.pending
        assert decision is not None, f"{env_id}: the episode is over after {step} decisions"
        env.step(env.encode(policy.decide(decision)))


def moving(pictures: list[Frame]) -> bytes:
    """A GIF without loss: the renderer has few colours, and what a frame leaves as it was is
    transparent in it, which packs well."""
    from PIL import Image

    packed = [picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1]) for picture in pictures]
    colours = np.unique(np.concatenate([np.unique(picture) for picture in packed]))
    unchanged = len(colours)
    numbers = [np.searchsorted(colours, picture).astype(np.uint8) for picture in packed]
    changes = [
        np.where(after == before, unchanged, after).astype(np.uint8)
        for before, after in zip(numbers, islice(numbers, 1, None), strict=False)
    ]
    palette = [channel for colour in colours for channel in int(colour).to_bytes(3, "big")]
    images = [Image.fromarray(layer).convert("P") for layer in (numbers[0], *changes)]
    for image in images:
        image.putpalette([*palette, 0, 0, 0])
    content = io.BytesIO()
    images[0].save(
        content, "GIF", save_all=True, append_images=images[1:], duration=125, loop=0,
        optimize=False, transparency=unchanged, disposal=1,
    )  # fmt: skip
    return content.getvalue()


def shown(content: bytes) -> Iterator[Frame]:
    """The pictures that a GIF shows one after the other."""
    from PIL import Image, ImageSequence

    with Image.open(io.BytesIO(content)) as image:
        for frame in ImageSequence.Iterator(image):
            yield np.asarray(frame.convert("RGB"))


if __name__ == "__main__":
    main()
