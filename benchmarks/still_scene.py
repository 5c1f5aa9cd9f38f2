"""How much of an actor remains in the scene that is found without masks, on videos with known scenes.

    python benchmarks/still_scene.py [--videos 5]

Renders videos of MotionScenes (size and actors of the demo, all sixteen motions) with their actor and
without. For the scene by the temporal median and by `still_scene`, it prints: the area that looks more like
the actor than like the empty scene; the mean error; how much of the actor counts as moving; and how much else
does. Areas are relative to the actor's. The last lines are the mean and the maximum over motions.
"""

from __future__ import annotations

from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from dsm.disturb.scene import moving_mask, still_scene, temporal_median
from dsm.synthetic.motions import MOTIONS
from dsm.synthetic.motionscenes import VideoPlan, render
from dsm.synthetic.scenery import TRAINING_FAMILIES
from dsm.synthetic.settings import MotionScenesConfig

COVERS = 0.08
"""A pixel counts as covered by the actor if a colour changes by more than this."""


@dataclass(frozen=True)
class Options:
    videos: int = 5
    """Videos per motion."""


def rendered(motion: int, number: int) -> tuple[Tensor, Tensor]:
    """A video with its actor, and without: (1, 3, T, H, W) in [0, 1]."""
    family = TRAINING_FAMILIES[(motion + 5 * number) % len(TRAINING_FAMILIES)]
    config, plan = (
        MotionScenesConfig(motions=len(MOTIONS)),
        VideoPlan("test", 100 * motion + number, motion, family),
    )
    whole = render(config, plan)
    with mock.patch("dsm.synthetic.scenery.draw_actor"):
        empty = render(config, plan)
    one, two = (torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 255 for video in (whole, empty))
    return one, two


def measures_of(estimate: Tensor, whole: Tensor, empty: Tensor) -> list[float]:
    """For an estimated scene (1, 3, 1, H, W): area left, error, share of the actor that counts as moving,
    other area that does."""
    covers = ((whole - empty).abs().amax(1, keepdim=True) > COVERS).float()
    area = covers.sum((3, 4)).mean()
    actor = (whole * covers).sum(2, keepdim=True) / covers.sum(2, keepdim=True).clamp(min=1)
    scene = empty.median(2, keepdim=True).values
    nearer = (estimate - actor).abs().sum(1) < (estimate - scene).abs().sum(1)
    left = nearer & (covers.sum(2) > 2)
    moving = moving_mask(whole, estimate)
    kept, extra = (moving * covers).sum() / covers.sum(), (moving * (1 - covers)).sum() / covers.sum()
    return [float(one) for one in (left.sum() / area, (estimate - scene).abs().mean(), kept, extra)]


def line(name: str, values: NDArray[np.float64]) -> None:
    print(f"{name:22}", "  ".join("{:5.2f} {:6.3f} {:5.2f} {:5.2f}".format(*each) for each in values))


def main(options: Options) -> None:
    print(f"{'':22} {'median:':26}  still:")
    print(f"{'':22}", "  ".join(["left   error  kept  else "] * 2))
    every = []
    for motion, name in enumerate(MOTIONS):
        values = []
        for number in range(options.videos):
            whole, empty = rendered(motion, number)
            scenes = temporal_median(whole), still_scene(whole)
            values.append([measures_of(scene, whole, empty) for scene in scenes])
        every.append(np.mean(values, axis=0))
        line(name, every[-1])
    line("mean", np.mean(every, axis=0))
    line("maximum", np.max(every, axis=0))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
