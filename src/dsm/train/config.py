"""The settings of training: data, optimiser, monitoring, and those of each kind of run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dsm.data.settings import ClipConfig
from dsm.errors import UserError, check_range
from dsm.inputs import ListFile, RootFolder, Weights
from dsm.methods.settings import ClassifyConfig, MethodSettings, check_method
from dsm.models.settings import RANDOM, Pooling, Precision, check_name
from dsm.runs.trackers import TrackerName
from dsm.video.settings import READING_TIME, Decoder
from dsm.views import Augment


@dataclass(frozen=True)
class OptimConfig:
    """How weights are updated. The paper's long recipe: sgd, lr 0.003, weight decay 1e-4, step schedule."""

    name: Literal["sgd", "adamw"] = "adamw"
    """The optimiser."""
    lr: float = 1e-3
    """Peak learning rate."""
    lr_batch: int | None = None
    """Batch size that `lr` is meant for: the rate scales with the actual batch size (Goyal et al. 2017)."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.05
    """adamw does not decay norms and biases; sgd does, as in the paper."""
    schedule: Literal["step", "cosine"] = "cosine"
    """`cosine` falls to 0; `step` multiplies by `decay` at each milestone."""
    milestones: tuple[float, ...] = (0.5, 2 / 3, 5 / 6)
    """When `step` decays the rate, as fractions of the training (the paper: epochs 120, 160, 200 of 240); an
    empty list keeps it constant."""
    decay: float = 0.1
    """Factor of the learning rate at each milestone."""
    warmup: int = 20
    """Steps over which the learning rate rises to its peak."""
    clip: float | None = None
    """Largest norm of the whole gradient; larger gradients are scaled down to it."""
    accumulate: int = 1
    """Process a batch in this many parts, one after the other, which divides the memory by as much. BatchNorm
    and in-batch negatives see only their own part, and SLD exchanges scenes only within it: keep 8 clips or
    more per part and process."""

    def __post_init__(self) -> None:
        check_range(self, "lr", "clip", "lr_batch", above=0)
        check_range(self, "weight_decay", "momentum", "decay", "warmup", least=0)
        check_range(self, "accumulate", least=1)


@dataclass(frozen=True)
class MonitorConfig:
    """How a run is evaluated during training. The best checkpoint is kept as `best.pt`."""

    list: ListFile | None = None
    """Labelled videos, each compared with all others; their labels are not trained on. Without a list,
    training videos are compared without labels."""
    root: RootFolder | None = None
    """Folder that its relative paths start from; by default `--data.root`, else the list's own folder."""
    every: int = 10
    """Epochs between evaluations; the last step always evaluates."""
    windows: int = 1
    """Clips per video of the list."""
    videos: int = 200
    """Without a list: number of training videos on which to measure the balance of motion (1) and scene
    (-1). With 0 videos, nothing is evaluated."""

    patience: int = 3
    """With `--tune`: stop after this many evaluations in a row that are worse than before the first step; 0:
    never."""

    def __post_init__(self) -> None:
        check_range(self, "every", "windows", least=1)
        check_range(self, "videos", "patience", least=0)


@dataclass(frozen=True)
class DataConfig:
    """Which videos to train on, and how to read them."""

    train: ListFile
    """List of training videos."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own folder."""
    batch_size: int = 16
    """Videos per step, over all processes and all `--optim.accumulate` parts."""
    workers: int | None = None
    """Decoding processes per training process; by default 1, or up to 12 with a GPU. 0: the process itself
    decodes. The batches do not depend on it."""
    cache_mb: int = 0
    """MB of memory in which each worker keeps decoded videos. With at most one worker each video is decoded
    once; several workers each keep their own copies, so prefer `dsm data pack` then."""
    cache_folder: Path | None = None
    """Cache folder for files read by URL; by default $DSM_CACHE_FOLDER, or ~/.cache/dsm/objects."""
    cache_gb: float | None = None
    """Size of that folder in GB; by default $DSM_CACHE_GB, or 20."""
    decoder: Decoder = "pyav"
    """Decoder of the training clips; evaluations during training use pyav. torchcodec is an extra;
    torchcodec-cuda needs a GPU and `--data.workers 0`."""
    max_bad: float = 0.05
    """Largest share of videos that may be unreadable; others replace them. With more, the run stops."""
    timeout: float = READING_TIME
    """Seconds that reading one video may take; a worker that takes longer is replaced."""


@dataclass(frozen=True)
class RunConfig:
    """Settings common to all training runs."""

    data: DataConfig
    out: Path
    """Run folder to write."""
    backbone: str = "i3d"
    """Network to train; `dsm models` lists them."""
    pooling: Pooling | None = None
    """How a feature map becomes one vector; by default, as the backbone does it."""
    epochs: int = 240
    """Passes over the videos."""
    steps: int | None = None
    """Number of steps; replaces `epochs`."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Shape of a clip. Without any --clip setting, clips are as in the training of `weights`."""
    augment: Augment = field(default_factory=Augment)
    optim: OptimConfig = field(default_factory=OptimConfig)
    precision: Precision = "fp32"
    """Number format of the encoder's computation. bf16 is twice as fast on machines with bf16 instructions;
    fp16, with loss scaling, is for older GPUs."""
    recompute: bool = False
    """Recompute activations in the backward pass: at most half the memory, but a second forward pass."""
    compile: bool = False
    """Compile the encoder (torch.compile): starts slower, then runs faster on GPUs; no gain on CPUs."""
    devices: int = 1
    """Processes on this machine: at most one per GPU, or sharing the CPU cores. For several machines, use
    torchrun."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What to do when a step's loss or gradient is not finite: stop, or skip the step and count it."""
    deterministic: bool = False
    """On GPUs: use only deterministic algorithms (slower); on CPUs training always is deterministic."""
    seed: int = 0
    """Seed of the weights, the order of the videos and all random sampling."""
    log_every: int = 10
    """Steps between log lines."""
    save_every: int = 200
    """Steps between checkpoints; the last step always writes one."""
    keep: int = 2
    """Number of newest checkpoints to keep."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that receive the curves, settings, pictures and results. TensorBoard's curves are always
    written."""
    copy_to: str | None = None
    """Folder in storage, such as s3://bucket/runs/mine, that the run is copied to after each checkpoint. On a
    machine without `out`, `--resume` fetches the run from there."""
    resume: bool = False
    """Continue from the newest intact checkpoint in `out`."""
    extend: bool = False
    """With `resume`: allow `steps` or `epochs` to differ from the run's; the learning rate then follows the
    new schedule."""
    overwrite: bool = False
    """Replace the run in `out`."""

    def __post_init__(self) -> None:
        check_name(self.backbone)
        if self.resume and self.overwrite:
            raise UserError("give only one of --resume (continue the run) and --overwrite (replace it).")
        check_range(self, "epochs", "steps", "log_every", "save_every", "keep", "devices", least=1)
        check_range(self, "data.batch_size", least=2)
        check_range(self, "data.workers", "data.cache_mb", "seed", least=0)
        check_range(self, "data.max_bad", least=0, most=1)
        check_range(self, "data.timeout", above=0, finite=False)


@dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """Settings of one pretraining run. Labels are neither needed nor used."""

    method: str = "dsm"
    """dsm, dsm-triplet, moco, be or simclr; `--help-all` shows the settings of each."""
    settings: Annotated[MethodSettings, tyro.conf.arg(name="")] = field(default_factory=MethodSettings)
    weights: Weights = RANDOM
    """Weights to start from: a run folder, a checkpoint, a published model (`hf:ID`, `tv:NAME`, `timm:NAME`),
    `motion` (comes with dsm), or `none` for random ones. Their backbone replaces `--backbone`."""
    tune: str | None = None
    """What to train of the encoder of `weights`: `head`, a linear map after it; `lora`, low-rank additions to
    all linear layers of its blocks; `last:K`, its last K blocks; or `all`. The run then compares the encoder
    with the one it started from, and says which is better."""
    rank: int = 8
    """Rank of `lora`."""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    def __post_init__(self) -> None:
        check_method(self.method)
        super().__post_init__()
        if self.tune != "lora" and self.rank != PretrainConfig.rank:
            raise UserError("--rank is the rank of LoRA; add --tune lora.")
        if self.tune is None:
            return
        kind, _, count = self.tune.partition(":")
        good = self.tune in ("head", "lora", "all") or (kind == "last" and count.isdecimal() and int(count))
        if not good:
            raise UserError(f"--tune must be head, lora, all or last:K (such as last:2), not {self.tune}.")
        if self.weights == RANDOM:
            raise UserError("--tune adapts a pretrained encoder; name one with --weights.")
        if not 1 <= self.rank <= 1024:
            raise UserError(f"--rank must be from 1 to 1024, not {self.rank}.")


@dataclass(frozen=True)
class FinetuneData(DataConfig):
    """Labelled videos to train on, and to test on during training."""

    test: ListFile | None = None
    """Labelled list to test on during training and to select the best checkpoint by; it is not trained on."""


@dataclass(frozen=True)
class FinetuneConfig(RunConfig):
    """Settings of `dsm finetune`; the paper's are sgd, lr 0.001, 45 epochs of 64 frames, batch 4."""

    data: FinetuneData
    weights: Weights = RANDOM
    """Weights to start from: a run folder, a checkpoint, a published model (`hf:ID`, `tv:NAME`, `timm:NAME`),
    `motion` (comes with dsm), or `none` for random ones. Their backbone replaces `--backbone`."""
    epochs: int = 45
    """Passes over the videos."""
    # The paper's SGD needs long schedules; the paper's recipes set it.
    optim: OptimConfig = field(default_factory=lambda: OptimConfig("adamw", lr=1e-3, weight_decay=1e-4))
    head: Annotated[ClassifyConfig, tyro.conf.arg(name="")] = field(default_factory=ClassifyConfig)
    test_every: int = 5
    """Epochs between tests on `data.test`; the last step always tests."""
    test_windows: int = 3
    """Clips per video in these tests; `dsm test` uses ten."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "test_every", "test_windows", least=1)
