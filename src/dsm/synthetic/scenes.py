"""Draws the world `scenes`: a flat, two-coloured shape in front of a still pattern."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsm.synthetic import scenery
from dsm.synthetic.motions import MOTIONS
from dsm.synthetic.world import MARGIN, Shot, World, cycles, expose, steady


def render(shot: Shot, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one video: uint8 RGB, shape (frames, size, size, 3)."""
    total = shot.frames
    scene = scenery.paint_scene(shot.family, shot.size, MARGIN, shot.contrast, rng)
    frames, shake = steady(scene, shot, rng)

    for _ in range(shot.bystanders):
        start, velocity = rng.uniform(-0.5, 0.5, 2), rng.normal(0, 0.012, 2)
        path = (start + velocity * np.arange(total)[:, None] + 0.6) % 1.2 - 0.6
        ones = np.ones(total, np.float32)
        bystander = scenery.random_actor(0.5 * rng.uniform(*shot.radius), rng)
        scenery.draw_actor(frames, bystander, path[:, 0], path[:, 1], ones, 0 * ones)

    actor = scenery.random_actor(rng.uniform(*shot.radius), rng)
    pose = MOTIONS[shot.motion](cycles(total, rng))
    reach, strength = rng.uniform(0.17, 0.23), rng.uniform(0.85, 1.15)
    home = rng.uniform(-0.06, 0.06, 2)
    still = np.zeros(total)
    scenery.draw_actor(
        frames,
        actor,
        x=home[0] + reach * pose.x - shake[:, 0],
        y=home[1] + reach * pose.y - shake[:, 1],
        scale=1 + strength * (pose.scale - 1) + still,
        angle=pose.angle + still,
    )
    return expose(frames, rng)


SCENES = World(
    motions=tuple(MOTIONS),
    training_families=scenery.TRAINING_FAMILIES,
    free_families=scenery.FREE_FAMILIES,
    render=render,
    bystanders=True,
)
