"""Settings of the verbs that evaluate: extract, retrieve, look, probe, embed, test, bias and report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from dsm.data.list_format import LIST_ENDINGS
from dsm.data.settings import ClipChanges, Grouping
from dsm.errors import UserError, check_range
from dsm.evaluate.settings import (
    ALTERATIONS,
    FILM_FORMATS,
    Alteration,
    Colours,
    ExtractSettings,
    MapKind,
    MapName,
    MotionKind,
)
from dsm.inputs import (
    FeaturesFile,
    ListFile,
    MasksFolder,
    OppositesFile,
    RootFolder,
    TrainedFolder,
    Videos,
    Weights,
)
from dsm.models.settings import LoadSettings, Precision


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of `dsm extract`."""

    weights: Weights
    """A run folder, a checkpoint, a published model (`hf:ID`, `tv:NAME`, `timm:NAME`), `motion` (comes with
    dsm; trained on synthetic videos), or `none` for random weights."""
    data: Videos
    """List of videos, a folder of them, or one video."""
    out: Path
    """File to write: .npz or (for big sets) .parquet with labels and paths, or .npy with the bare array."""
    root: Annotated[RootFolder | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """Folder that relative paths start from; by default the list's own."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    settings: Annotated[ExtractSettings, tyro.conf.arg(name="")] = field(default_factory=ExtractSettings)
    devices: int = 1
    """Processes on this machine that share the list, one per GPU. For several machines, use torchrun."""
    copy_to: str | None = None
    """Folder in storage, such as s3://bucket/features, to copy the file to when it is complete."""
    overwrite: bool = False
    """Replace an existing file, or an unfinished extraction with other settings."""

    def __post_init__(self) -> None:
        check_range(self, "devices", least=1)


@dataclass(frozen=True)
class RetrieveConfig:
    """Settings of `dsm retrieve`."""

    gallery: FeaturesFile
    """Features to search in (usually the training videos)."""
    queries: FeaturesFile
    """Features to search for (usually the test videos)."""
    out: Path
    """Folder for results.json, neighbours.tsv, classes.csv and gallery.html."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    across_groups: bool = False
    """Count only neighbours from other groups."""
    shown: int = 12
    """Number of queries in gallery.html, with their neighbours, as playing clips; 0: no gallery."""
    overwrite: bool = False
    """Replace the results in `out`."""

    def __post_init__(self) -> None:
        check_range(self, "shown", least=0)
        if self.across_groups and not self.grouping.given:
            raise UserError("--across-groups needs --groups or --group-regex, which define the groups.")


@dataclass(frozen=True)
class LookConfig:
    """Settings of `dsm look`."""

    video: tyro.conf.Positional[Videos]
    """A video, or with --score a list of videos."""
    weights: Weights
    """A run folder, a checkpoint, a published model (`hf:ID`, `tv:NAME`), or `none` for random weights."""
    out: Path
    """Picture to write: .gif, .mp4, or a film strip as .png or .jpg; with --score, a folder."""
    score: bool = False
    """Score a list: the share of the map that lies where things move, compared with chance."""
    probe: tuple[Literal[Alteration, "all"], ...] = ("clip",)
    """`clip`: unchanged; `frozen`: one frame repeated; `pasted`: a still actor added; `mixed`: a still frame
    blended in; or `all`."""
    target_class: str | None = None
    """For a classifier: the class to explain, by name or number; by default the predicted one."""
    target: Path | None = None
    """For an encoder: show what makes the clip similar to this video (by default: to itself)."""
    map: MapKind = "cam"
    """`cam`: each location's share of the score; `grad-cam`: channels weighted by their mean gradient."""
    layer: str | None = None
    """Module whose feature map is used; by default the last that has one."""
    head: Literal["features", "projection"] = "features"
    """Embedding of an encoder to compare: its pooled features, or the output of its projection head."""
    start: int | None = None
    """First frame of the clip; by default the clip is taken from the middle of the video."""
    other: Path | None = None
    """Video that supplies the still actor and the still frame; by default the start of the same video."""
    paste_at: tuple[float, float] | None = None
    """Where to paste the still actor, as shares of width and height; by default the calmest corner."""
    mix: float = 0.5
    """Weight of the blended still frame."""
    colours: Colours = "inferno"
    """Colour map; all are safe for colour-blind readers."""
    root: Annotated[RootFolder | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """With --score: folder that relative paths start from; by default the list's own."""
    windows: int = 1
    """With --score: clips per video, evenly spaced."""
    motion: MotionKind = "difference"
    """With --score: find motion by frame `difference` or by optical `flow` (needs OpenCV)."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    workers: int | None = None
    """With --score: decoding processes; by default 1, on a GPU up to 12."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        check_range(self, "windows", least=1)
        check_range(self, "workers", "start", least=0)
        check_range(self, "mix", least=0, most=1)
        if not all(0 <= share <= 1 for share in self.paste_at or ()):
            raise UserError("paste-at must be shares, from 0 to 1.")
        if self.score:
            if self.out.suffix in FILM_FORMATS:
                raise UserError(f"{self.out}: with --score, --out is a folder, not a picture.")
            still = self.alterations == ("frozen",)
            if len(self.alterations) != 1 or still or self.other or self.start is not None:
                raise UserError(
                    "--score takes one --probe in which something moves (clip, pasted or mixed), and neither "
                    "--other nor --start."
                )
        elif self.out.suffix not in FILM_FORMATS:
            raise UserError(f"{self.out}: --out must end in one of {', '.join(FILM_FORMATS)}.")
        elif self.video.suffix.lower() in LIST_ENDINGS:
            raise UserError(f"{self.video} is a list; add --score to measure it, or give one of its videos.")

    @property
    def alterations(self) -> tuple[Alteration, ...]:
        if "all" in self.probe:
            return ALTERATIONS
        return tuple(name for name in get_args(Alteration) if name in self.probe)


@dataclass(frozen=True)
class ProbeConfig:
    """Settings of `dsm probe`."""

    train: FeaturesFile
    """Features with labels to learn from."""
    test: FeaturesFile
    """Features to test on; if a video has no label, labels are predicted and no accuracies measured."""
    out: Path
    """Folder for results.json; if a video to test on has no label, for predictions.csv."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    k: int = 20
    """Number of neighbours that vote."""
    temperature: float = 0.07
    """A neighbour's vote counts exp(cosine / temperature)."""
    folds: int = 5
    """Folds of the cross-validation that chooses the regularisation."""
    overwrite: bool = False
    """Replace the results in `out`."""

    def __post_init__(self) -> None:
        check_range(self, "k", least=1)
        check_range(self, "folds", least=2)
        check_range(self, "temperature", above=0)


@dataclass(frozen=True)
class EmbedConfig:
    """Settings of `dsm embed`."""

    features: tyro.conf.Positional[tuple[FeaturesFile, ...]]
    """One or more feature files: the same videos, encoded by different models. Without labels, the numbers
    that need labels are left out."""
    out: Path
    """Folder for embedding.html, embedding.png and results.json."""
    gallery: tuple[FeaturesFile, ...] = ()
    """One gallery for each file, usually the training videos by the same model; by default the file's other
    videos. A video is drawn as right if its nearest neighbour there has its label."""
    colour: tuple[str, ...] = ()
    """More colourings, as NAME=TABLE (.tsv or .csv with a header; path first, name last), such as
    `place=places.tsv`. The scenes of MotionScenes are added automatically."""
    map: tuple[MapName, ...] = ("tsne",)
    """`tsne`, `umap` (an extra: pip install 'dsm-video[umap]'), or both."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    most: Annotated[int, tyro.conf.arg(metavar="VIDEOS")] = 2000
    """Use at most this many videos, drawn at random."""
    clips: int = 150
    """Number of videos that play in the page; the others are shown as text."""
    seed: int = 0
    """Seed of the maps and of random choices."""
    overwrite: bool = False
    """Replace the files in `out`."""

    def __post_init__(self) -> None:
        if not self.features:
            raise UserError("give one or more feature files, as written by `dsm extract`.")
        if self.gallery and len(self.gallery) != len(self.features):
            raise UserError(
                f"{len(self.gallery)} --gallery for {len(self.features)} feature files; each needs its own."
            )
        check_range(self, "clips", "seed", least=0)
        check_range(self, "most", least=1)
        if not self.map:
            raise UserError("--map needs tsne, umap or both.")


@dataclass(frozen=True)
class VideoTestData:
    """The videos to test on."""

    test: ListFile
    """List of labelled videos."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    workers: int | None = None
    """Processes that decode videos; by default 1, or up to 12 with a GPU."""


@dataclass(frozen=True)
class VideoTestConfig:
    """Settings of `dsm test`."""

    weights: Weights
    """A run of `dsm finetune`, one of its checkpoints, or a published classifier (`hf:ID`)."""
    data: VideoTestData
    out: Path
    """Folder for results.json, predictions.csv, classes.csv, probabilities.npz and the confusion matrix."""
    windows: int = 10
    """Clips per video, evenly spaced; their probabilities are averaged."""
    crops: int = 1
    """Crops per clip: 1 in the middle, or 3 along its longer side."""
    batch_size: int = 4
    """Videos per batch."""
    precision: Precision = "fp32"
    """Number format of the networks' computation: bf16 or, on GPUs, fp16 are faster where the hardware has
    them."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    against: Path | None = None
    """Output folder of another `dsm test` on the same list: compares the two and writes disagreements.csv."""
    overwrite: bool = False
    """Replace results in `out` that were made with other settings."""

    def __post_init__(self) -> None:
        check_range(self, "windows", "batch_size", least=1)
        check_range(self, "data.workers", least=0)
        if self.crops not in (1, 3):
            raise UserError(f"crops must be 1 or 3, not {self.crops}.")
        if self.against is not None and self.against.absolute() == self.out.absolute():
            raise UserError(f"{self.out}: --against needs the folder of another test, not --out itself.")


@dataclass(frozen=True)
class BiasData:
    """Lists to test on."""

    test: ListFile
    """Videos to test on, in every variant. Without labels, --data.train and --data.conflict, only what needs
    no labels is measured."""
    train: ListFile | None = None
    """Videos to train a linear probe on; classifiers do not need it."""
    conflict: ListFile | None = None
    """A second test list, shown beside the first; for MotionScenes, test_conflict.txt."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default each list's own."""
    workers: int | None = None
    """Processes that decode videos; by default 1, or up to 12 with a GPU."""


@dataclass(frozen=True)
class BiasConfig:
    """Settings of `dsm bias`."""

    weights: tuple[Weights, ...]
    """Runs, checkpoints, published models (`hf:ID`, `tv:NAME`, `timm:NAME`), or `none` for random weights. A
    run of `dsm finetune` is tested as it is; for an encoder, a linear probe is trained on its features."""
    data: BiasData
    out: Path
    """Folder for card.html, results.json, classes.csv, predictions.csv and the pictures."""
    masks: MasksFolder | None = None
    """Folder with a mask of the actor for each test video `a/b.mp4`: a folder `a/b` of pictures, or a video
    `a/b.mp4`, white where the actor is. By default the actor is whatever moves. With masks, actors are
    cut out as for published numbers; docs/bias-measures.md names what else differs."""
    opposites: OppositesFile | None = None
    """File with pairs of opposite classes, two names per line; by default those whose names differ in a word
    such as left and right."""
    quick: bool = False
    """Skip the published measures and the card: 14 forward passes per clip, not 25."""
    names: tuple[str, ...] = ()
    """Names of the models; by default those of their folders."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    windows: int = 3
    """Clips per video, evenly spaced; features or probabilities are averaged over them."""
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    batch_size: int = 4
    """Videos per batch."""
    precision: Precision = "fp32"
    """Number format of the networks' computation: bf16 or, on GPUs, fp16 are faster where the hardware has
    them."""
    overwrite: bool = False
    """Replace a report of other settings in `out`."""

    def __post_init__(self) -> None:
        check_range(self, "windows", "batch_size", least=1)
        check_range(self, "data.workers", least=0)
        if not self.weights:
            raise UserError("give at least one of --weights.")
        if self.names and len(self.names) != len(self.weights):
            raise UserError(f"{len(self.names)} --names for {len(self.weights)} --weights; each needs one.")
        if len(set(self.names)) < len(self.names):
            raise UserError("two of --names are the same.")


Measure = Literal["retrieval", "probe", "test", "look", "bias", "embedding"]
"""What `dsm report` can measure."""
MEASURES: tuple[Measure, ...] = get_args(Measure)
CURVE_FORMATS = (".png", ".pdf", ".svg")
"""File endings for the figure of curves."""


@dataclass(frozen=True)
class ReportData:
    """Lists to measure the runs on. Without lists, nothing is measured.

    Without labels, only what needs no labels is measured.
    """

    train: ListFile | None = None
    """Videos to search in and to train linear probes on."""
    test: ListFile | None = None
    """Videos to test on."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default each list's own."""
    workers: int | None = None
    """Processes that decode videos; by default 1, or up to 12 with a GPU."""


@dataclass(frozen=True)
class ReportConfig:
    """Settings of `dsm report`."""

    runs: tyro.conf.Positional[tuple[TrainedFolder, ...]]
    """Run folders of `dsm pretrain` and `dsm finetune`; with lists also published models (`hf:ID`)."""
    out: Path
    """Page to write (.html). Measurements are kept beside it, in a folder of the same name without .html."""
    data: ReportData = field(default_factory=ReportData)
    results: tuple[Path, ...] = ()
    """Folders with a results.json of any verb; its rows and pictures are added to the page."""
    names: tuple[str, ...] = ()
    """Names for the runs; by default those of their folders."""
    curves: Path | None = None
    """Figure to write with the curves of all runs: .png, .pdf or .svg."""
    measures: Annotated[tuple[Measure, ...], tyro.conf.arg(name="measure")] = MEASURES
    """What to measure."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    windows: int = 3
    """Clips per video, evenly spaced."""
    shown: int = 6
    """Test videos to show with their nearest neighbours."""
    maps: int = 3
    """Test videos to show with maps of where the runs look."""
    overwrite: bool = False
    """Replace the page, and measurements of other weights or lists."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("give at least one run folder: dsm report RUN… --out report.html")
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"{self.out}: the report is a web page; --out must end in .html.")
        if self.curves and self.curves.suffix.lower() not in CURVE_FORMATS:
            raise UserError(f"{self.curves}: --curves must end in one of {', '.join(CURVE_FORMATS)}.")
        if (self.data.train is None) != (self.data.test is None):
            raise UserError("measuring needs both --data.train and --data.test; give both or neither.")
        if self.names and len(self.names) != len(self.runs):
            raise UserError(f"{len(self.names)} --names for {len(self.runs)} runs; each needs one.")
        if len(set(self.names)) < len(self.names):
            raise UserError("two of --names are the same.")
        check_range(self, "windows", least=1)
        check_range(self, "shown", "maps", "data.workers", least=0)
