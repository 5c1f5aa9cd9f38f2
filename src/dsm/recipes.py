"""Named experiments: every script of the paper's release, with its actual settings, and two for small data.

A recipe does what its script was meant to do, without the release's mistakes: the MoCo baseline has no
negative from the clip's own video, Kinetics is pretrained on its training list, jitter applies all four
changes, and a resumed run keeps its queue. A recipe's notes name what is uncertain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dsm.data.settings import ClipConfig
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError, did_you_mean
from dsm.methods.settings import ClassifyConfig, DsmConfig, DsmTripletConfig, MethodSettings, MocoConfig
from dsm.train.config import DataConfig, FinetuneConfig, FinetuneData, OptimConfig, PretrainConfig
from dsm.views import Augment

NOWHERE = Path()
"""Placeholder for the data and the folder of a run."""
PAPER_AUGMENT = Augment(jitter=1, light=0)
"""The augmentation of the paper's scripts."""


@dataclass(frozen=True)
class Recipe:
    """The stages of an experiment; without ``finetune`` nothing is tested."""

    name: str
    summary: str
    pretrain: PretrainConfig | None
    finetune: FinetuneConfig | None
    devices: int = 1
    reported: float | None = None
    """The paper's top-1, a share in [0, 1]."""
    retrieves: bool = False
    """Compute features and recall at k instead of fine-tuning; ``reported`` is then R@1."""
    only_tests: bool = False
    """Train nothing: test a given classifier."""
    script: str = ""
    """The release's script that the recipe follows, if any."""
    notes: tuple[str, ...] = ()

    @property
    def stages(self) -> list[str]:
        """The names of the stages: of ``pretrain``, ``finetune``, ``test``, ``retrieve``."""
        names = ["pretrain"] if self.pretrain else []
        if self.finetune:
            names += ["retrieve"] if self.retrieves else ["test"] if self.only_tests else ["finetune", "test"]
        return names


def paper_method() -> MethodSettings:
    """The paper's settings of the losses, and the disturbances that its scripts use."""
    contrast = {"temperature": 0.07, "momentum": 0.999, "ramp": False, "head": "linear", "queue": 3569}
    sld, tld = SpatialMix.only("local"), TemporalMix.only("shift")
    return MethodSettings(
        moco=MocoConfig(in_batch=False, **contrast),  # type: ignore[arg-type]
        dsm=DsmConfig(
            in_batch=False,
            symmetric=False,
            joint=False,
            sld=sld,
            sld_on="anchor",
            tld=tld,
            look="own",
            motion_weight=0,
            **contrast,  # type: ignore[arg-type]
        ),
        dsm_triplet=DsmTripletConfig(margin=0.5, head="linear", sld=sld, tld=tld, look="own", joint=False),
    )


def paper_pretrain(
    method: str, backbone: str, *, batch: int, epochs: int, frames: int = 16, devices: int = 1
) -> PretrainConfig:
    """Pretraining as in the paper's scripts: SGD 0.003, decayed at epochs 120, 160 and 200, at 224²."""
    return PretrainConfig(
        data=DataConfig(NOWHERE, batch_size=batch, workers=4), out=NOWHERE, backbone=backbone, epochs=epochs,
        clip=ClipConfig(frames=frames, stride=4, resize=256, size=224), augment=PAPER_AUGMENT,
        optim=OptimConfig(
            "sgd", lr=0.003, weight_decay=1e-4, schedule="step", warmup=0,
            milestones=tuple(epoch / epochs for epoch in (120, 160, 200)),
        ),
        method=method, settings=paper_method(), devices=devices,
    )  # fmt: skip


def paper_finetune(
    backbone: str,
    *,
    batch: int = 4,
    epochs: int = 45,
    frames: int = 64,
    decays: Sequence[int] = (10, 20, 25, 30, 35, 40),
    devices: int = 1,
) -> FinetuneConfig:
    """Fine-tuning as in the paper's scripts: 64 consecutive frames at 224², SGD 0.001."""
    return FinetuneConfig(
        data=FinetuneData(NOWHERE, batch_size=batch, workers=4), out=NOWHERE,
        backbone=backbone, epochs=epochs,
        clip=ClipConfig(frames=frames, stride=1, resize=256, size=224), augment=PAPER_AUGMENT,
        optim=OptimConfig(
            "sgd", lr=0.001, weight_decay=1e-8, schedule="step", warmup=0, decay=0.3,
            milestones=tuple(epoch / epochs for epoch in decays),
        ),
        head=ClassifyConfig(dropout=0.5), devices=devices,
    )  # fmt: skip


SOMETHING = (
    "The release's negative for Something-Something comes from another video, as those in the queue do. "
    "Here it is another window of the same video, as for the other data sets.",
)
SHORT = ("Training ends long before the first decay of the learning rate, at epoch 120.",)
LIST = ("The release's script read the validation list; here give the training list.",)
ABSENT = (
    "The release's README names this script but does not include it: the schedule is the paper's, the batch "
    "size a guess.",
)
QUEUE = ("With such a small batch the queue spans hundreds of steps: watch queue_age.",)


def _scripts() -> list[Recipe]:
    """The release's scripts, and those that its README names but the release lacks."""
    r = Recipe
    i3d, r3d = "i3d", "r3d18"
    pt, ft = paper_pretrain, paper_finetune
    return [
        r("diving48-i3d-ft", "Diving48, fine-tuned from given weights", None, ft(i3d),
          script="Diving48/i3d_ft"),
        r("diving48-i3d-dsm", "Diving48", pt("dsm", i3d, batch=8, epochs=10), ft(i3d),
          script="Diving48/i3d_pt_and_ft", notes=SHORT),
        r("diving48-i3d-moco", "Diving48", pt("moco", i3d, batch=4, epochs=10), ft(i3d),
          script="Diving48/i3d_pt_and_ft_moco", notes=SHORT + QUEUE),
        r("ucf101-diving48-i3d-moco", "UCF101, then Diving48", pt("moco", i3d, batch=4, epochs=10),
          ft(i3d), script="Diving48/i3d_pt_and_ft_moco_ucf_to_diving48", notes=SHORT + QUEUE),
        r("hmdb51-i3d-eval", "HMDB51, test of given weights", None, ft(i3d),
          only_tests=True, script="evaluation/hmdb51_i3d_eval", reported=0.525),
        r("ucf101-i3d-eval", "UCF101, test of given weights", None, ft(i3d),
          only_tests=True, script="evaluation/ucf101_i3d_eval", reported=0.748),
        r("hmdb51-c3d-retrieve", "HMDB51, retrieval by given weights", None, ft("c3d"),
          retrieves=True, script="feature_extract/hmdb51_extract", reported=0.082),
        r("ucf101-c3d-retrieve", "UCF101, retrieval by given weights", None, ft("c3d"),
          retrieves=True, script="feature_extract/ucf101_extract", reported=0.168),
        r("hmdb51-i3d-ft", "HMDB51, fine-tuned from given weights", None, ft(i3d),
          script="hmdb51/ft", reported=0.525),
        r("ucf101-hmdb51-i3d-dsm", "UCF101, then HMDB51", pt("dsm", i3d, batch=3, epochs=100, frames=32),
          ft(i3d, epochs=100, decays=(30, 50, 65, 80, 90, 95)), script="hmdb51/pt_and_ft",
          reported=0.525, notes=QUEUE),
        r("hmdb51-i3d-dsm", "HMDB51", pt("dsm", i3d, batch=4, epochs=10), ft(i3d),
          script="hmdb51/pt_and_ft_hmdb51", notes=SHORT + QUEUE),
        r("kinetics-i3d-dsm-8gpu", "Kinetics, on eight GPUs",
          pt("dsm", i3d, batch=256, epochs=200, devices=8), None, devices=8,
          script="kinetics/pt_multi_gpus", notes=LIST),
        r("something-i3d-ft", "Something-Something v1, fine-tuned from given weights", None,
          ft(i3d, batch=6), script="something-something-v1/i3d_ft"),
        r("something-i3d-dsm", "Something-Something v1", pt("dsm", i3d, batch=48, epochs=10),
          ft(i3d, batch=48, frames=16), script="something-something-v1/i3d_pt_and_ft",
          notes=SHORT + SOMETHING),
        r("something-i3d-dsm-4gpu", "Something-Something v1, on four GPUs",
          pt("dsm", i3d, batch=128, epochs=10, devices=4), ft(i3d, batch=32, devices=4),
          devices=4, script="something-something-v1/i3d_pt_and_ft_multi_gpus", notes=SHORT + SOMETHING),
        r("something-r3d-ft", "Something-Something v1, fine-tuned from given weights", None,
          ft(r3d, batch=6), script="something-something-v1/r3d_ft"),
        r("something-r3d-ft-4gpu", "Something-Something v1, fine-tuned on four GPUs", None,
          ft(r3d, batch=32, devices=4), devices=4,
          script="something-something-v1/r3d_ft_multi_gpus"),
        r("something-r3d-dsm", "Something-Something v1", pt("dsm", r3d, batch=48, epochs=10),
          ft(r3d, batch=48, frames=16), script="something-something-v1/r3d_pt_and_ft",
          notes=SHORT + SOMETHING),
        r("something-r3d-dsm-4gpu", "Something-Something v1, on four GPUs",
          pt("dsm", r3d, batch=128, epochs=10, devices=4), ft(r3d, batch=32, devices=4),
          devices=4, script="something-something-v1/r3d_pt_and_ft_multi_gpus", notes=SHORT + SOMETHING),
        r("ucf101-i3d-pretrain", "UCF101", pt("dsm", i3d, batch=8, epochs=240), None,
          script="ucf101/pt", notes=ABSENT),
        r("ucf101-i3d-ft", "UCF101, fine-tuned from given weights", None, ft(i3d),
          script="ucf101/ft", reported=0.748, notes=ABSENT),
        r("kinetics-i3d-pretrain", "Kinetics, on one GPU", pt("dsm", i3d, batch=32, epochs=200), None,
          script="kinetics/pt", notes=ABSENT),
        r("kinetics-i3d-ft", "Kinetics, fine-tuned from given weights", None, ft(i3d),
          script="kinetics/ft", notes=ABSENT),
    ]  # fmt: skip


# Top-1 of pretrained and fine-tuned I3D in the paper's table.
REPORTED = {
    "ucf101": {"random": 0.479, "moco": 0.623, "dsm-triplet": 0.707, "dsm": 0.748},
    "hmdb51": {"random": 0.296, "moco": 0.365, "dsm-triplet": 0.485, "dsm": 0.525},
}


def _tables() -> list[Recipe]:
    """The paper's comparison: no pretraining, and each method with its long schedule on UCF101."""
    recipes = []
    for data, numbers in REPORTED.items():
        for backbone in ("i3d", "r3d18", "c3d", "s3d"):
            for method, number in numbers.items():
                trained = None
                if method != "random":
                    trained = paper_pretrain(method, backbone, batch=8, epochs=240)
                summary = (
                    f"the paper's table: {'from scratch' if method == 'random' else 'pretrained on UCF101'}, "
                    f"fine-tuned on {data.upper()}"
                )
                recipes.append(
                    Recipe(
                        f"table-{data}-{backbone}-{method}", summary, trained, paper_finetune(backbone),
                        reported=number if backbone == "i3d" else None,
                    )
                )  # fmt: skip
    return recipes


def _plus() -> Recipe:
    """The paper's schedule with the default settings of `dsm`."""
    trained = replace(paper_pretrain("dsm", "i3d", batch=8, epochs=240), augment=Augment())
    return Recipe(
        "dsm-plus", "the paper's table with this project's settings of dsm",
        replace(trained, settings=replace(trained.settings, dsm=DsmConfig())), paper_finetune("i3d"),
        notes=(
            "The settings of `dsm` and the augmentation are the defaults of `dsm pretrain`, which were "
            "compared with others on several data sets (docs/evidence.md), but not on UCF101.",
        ),
    )  # fmt: skip


def _small() -> Recipe:
    """For a few hundred of your own videos on one CPU or GPU: settings that train in hours."""
    clip = ClipConfig(frames=16, stride=2, resize=128, size=112)
    pretrain = PretrainConfig(
        data=DataConfig(NOWHERE, batch_size=16), out=NOWHERE, backbone="r3d18", pooling="avgmax",
        steps=3000, clip=clip,
    )  # fmt: skip
    finetune = FinetuneConfig(
        data=FinetuneData(NOWHERE, batch_size=16), out=NOWHERE, epochs=30, clip=clip,
        optim=OptimConfig("adamw", lr=3e-4), head=ClassifyConfig(dropout=0),
    )  # fmt: skip
    notes = (
        "With --weights it starts from another encoder. Pack the videos first (`dsm data pack`).",
        "--precision bf16 halves the time if `dsm doctor` calls it fast. Its accuracy has not been measured.",
    )
    return Recipe("small-own", "your own small data: short schedule", pretrain, finetune, notes=notes)


def _still_camera() -> Recipe:
    """For fixed cameras: small clips that train in minutes without a GPU."""
    clip = ClipConfig(frames=8, stride=2, resize=80, size=64)
    pretrain = PretrainConfig(
        data=DataConfig(NOWHERE, batch_size=24, workers=1, cache_mb=1500), out=NOWHERE, backbone="tiny3d",
        pooling="avgmax", steps=1500, clip=clip,
    )  # fmt: skip
    finetune = FinetuneConfig(
        data=FinetuneData(NOWHERE, batch_size=16, workers=1, cache_mb=1500), out=NOWHERE, backbone="tiny3d",
        steps=310, clip=clip, optim=OptimConfig("adamw", lr=1e-3, weight_decay=1e-4),
        head=ClassifyConfig(dropout=0),
    )  # fmt: skip
    notes = (
        "Use it with a pack: `dsm data pack LIST --square --short-side 80 --out PACK` squeezes frames into "
        "squares, so that the sides are not cut off.",
        "Training takes a quarter of an hour on two cores.",
    )
    return Recipe(
        "still-camera", "fixed cameras: small network, short schedule", pretrain, finetune, notes=notes
    )


_OWN = [_small(), _still_camera()]
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in [*_scripts(), *_tables(), _plus(), *_OWN]}
"""Every recipe, by name."""
OWN = tuple(recipe.name for recipe in _OWN)
"""Recipes for your own videos rather than a public data set."""


def find_recipe(name: str) -> Recipe:
    """The recipe with a name.

    Raises:
        UserError: no recipe has that name.
    """
    if name not in RECIPES:
        near = did_you_mean(name, RECIPES)
        hint = near if "did you mean" in near else "; `dsm recipes` lists all."
        raise UserError(f"unknown recipe '{name}'{hint}")
    return RECIPES[name]
