"""Settings of the verbs of `dsm data`: synth, index, check, convert, subset, split, leaks, dedup, export,
features, frames, pack and preview.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dsm.data.list_format import COLUMNS
from dsm.data.official import OFFICIAL
from dsm.data.settings import ClipConfig, Grouping
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError, check_range, did_you_mean
from dsm.evaluate.settings import LEAST_SIDE, NEAR_DUPLICATE, PREVIEW_FORMATS
from dsm.inputs import FeaturesFile, ListFile, RootFolder, Videos
from dsm.methods.settings import DsmConfig, SldOn
from dsm.synthetic.settings import Preset, WorldName
from dsm.video.settings import READING_TIME
from dsm.views import NegativeLook
from dsm.workers import usable_cores


@dataclass(frozen=True)
class SynthConfig:
    """Settings of `dsm data synth`."""

    out: tyro.conf.Positional[Path]
    """Folder to write. If writing was interrupted, the same command finishes it."""
    preset: Preset = "demo"
    """`demo`: minutes on a laptop. `full`: larger and much harder."""
    world: WorldName = "scenes"
    """`scenes`: shapes in front of patterns. `dots`: actor and scene made of the same dots, so that only
    motion tells them apart. `walkers`: people in rooms and streets. `drone`: a vehicle seen from above, over
    moving ground."""
    scene_correlation: float | None = None
    """How often a motion appears in its own scene family, in train and test (0 to 1)."""
    motions: int | None = None
    """Number of motion classes."""
    train: int | None = None
    """Number of training videos."""
    test: int | None = None
    """Number of videos in each test list."""
    size: int | None = None
    """Side of the square frame, in pixels."""
    frames: int | None = None
    """Frames in each video."""
    seed: int | None = None
    """The same seed and settings give the same videos."""
    workers: int | None = None
    """Number of processes; by default one per core."""
    overwrite: bool = False
    """Replace MotionScenes with other settings."""

    def __post_init__(self) -> None:
        check_range(self, "workers", least=1)


@dataclass(frozen=True)
class IndexConfig:
    """Settings of `dsm data index`."""

    folder: tyro.conf.Positional[Path]
    """Folder of the videos; its sub-folders are searched too."""
    out: Path
    """List to write. If the folder consists of train and val (or test) with class folders inside, each gets
    its own list: OUT_train, OUT_val."""
    unlabelled: bool = False
    """Write no labels. Otherwise a video's label is its first sub-folder."""
    workers: int = usable_cores()
    """Processes that count frames, used from 500 videos on; by default one per usable core."""
    overwrite: bool = False
    """Replace an existing list."""

    def __post_init__(self) -> None:
        check_range(self, "workers", least=1)


@dataclass(frozen=True)
class CheckConfig:
    """Settings of `dsm data check`."""

    videos: tyro.conf.Positional[Videos]
    """A list, or a folder, in which every file that could be a video is checked."""
    root: RootFolder | None = None
    """Folder that relative paths of a list start from; by default the list's own."""
    json: Path | None = None
    """File to write the verdict on each video to."""
    clean: Path | None = None
    """List of the usable videos to write, with the number of frames that can be decoded."""
    frames: int = 16
    """Frames that a training clip spans, (frames - 1) x stride + 1; a video with fewer is `short`."""
    timeout: float = READING_TIME
    """Seconds allowed for each video, plus one per 2 MB; after that its decoder is killed."""
    workers: int = usable_cores()
    """Videos decoded at the same time; by default one per usable core."""
    strict: bool = False
    """Exit with code 1 if any video is not ok, for scripts."""
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        check_range(self, "frames", "workers", least=1)
        check_range(self, "timeout", above=0, finite=False)


def check_columns(text: str) -> tuple[str, ...]:
    """The names of the columns, with '' for a column to ignore.

    Raises:
        UserError: a name is unknown, or the columns contradict each other.
    """
    columns = tuple(name.strip().lower() for name in text.split(",")) if text else ()
    columns = tuple("" if name == "_" else name for name in columns)
    if unknown := [name for name in columns if name and name not in COLUMNS]:
        raise UserError(f"--columns: '{unknown[0]}' is not one of {', '.join(COLUMNS)} or _ (ignored).")
    used = [name for name in columns if name]
    if columns and ("path" not in used or len(set(used)) < len(used) or ("start" in used) != ("end" in used)):
        raise UserError("--columns: give path, each name at most once, and start and end together.")
    if len({"label", "label1", "class"} & set(used)) > 1:
        raise UserError("--columns: give only one of label, label1 and class, and _ for the others.")
    return columns


@dataclass(frozen=True)
class ConvertConfig:
    """Settings of `dsm data convert`."""

    dataset: tyro.conf.Positional[str]
    """A list written by another tool, or a data set with official annotation files: ucf101, hmdb51, kinetics,
    mimetics, something-something-v1, something-something-v2, jester, diving48, gym99, gym288, fx-s1, ub-s1,
    severe-ucf101, severe-gym99, epic-kitchens-100 or ucf-crime."""
    out: Path
    """Folder for the lists and classes.txt. When a list is converted, it can also be the list to write
    (.txt)."""
    annotations: Path | None = None
    """Folder of the official annotation files."""
    columns: str = ""
    """Meaning of a list's columns, for example path,label,start,end. Known: path, label (label1 if labels
    count from 1), class (a name), frames, start and end (of a segment, in seconds), _ (ignored; in last
    place, the rest of the line). By default detected from the content."""
    root: Path | None = None
    """Folder that relative paths of a list start from; by default the list's own."""
    videos: Path | None = None
    """Folder of the videos. Absent videos are reported and left out of the lists."""
    overwrite: bool = False
    """Replace existing lists."""

    def __post_init__(self) -> None:
        if self.of_list:
            if self.annotations or self.videos:
                raise UserError(
                    "--annotations and --videos are for data sets; a list is converted without them."
                )
            check_columns(self.columns)
        elif self.dataset not in OFFICIAL:
            raise UserError(
                f"'{self.dataset}' is neither a list file nor a known data set"
                f"{did_you_mean(str(self.dataset), OFFICIAL)}"
            )
        elif self.annotations is None:
            raise UserError(f"--annotations: give the folder of the official files of {self.dataset}.")
        elif self.columns or self.root:
            raise UserError("--columns and --root are for lists, not for official annotation files.")
        for folder in (self.annotations, self.videos):
            if folder and not folder.is_dir():
                raise UserError(f"{folder}: no such folder.")

    @property
    def of_list(self) -> bool:
        return self.dataset not in OFFICIAL and Path(self.dataset).is_file()


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UserError("seed must not be below 0.")


@dataclass(frozen=True)
class SubsetConfig:
    """Settings of `dsm data subset`."""

    videos: tyro.conf.Positional[ListFile]
    """The list to take from."""
    fraction: float
    """Share of each class to take: 0.01 for 1 %. With the same seed, a smaller subset is part of a larger
    one."""
    out: Path
    """List to write."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    seed: int = 0
    """A different seed takes different videos."""
    overwrite: bool = False
    """Replace an existing list."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)


@dataclass(frozen=True)
class SplitConfig:
    """Settings of `dsm data split`."""

    videos: tyro.conf.Positional[ListFile]
    """The list to split."""
    out: Path
    """Folder for train.txt and test.txt."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    test_share: float = 0.3
    """Approximate share of the videos to test on, overall and in each class."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    seed: int = 0
    """A different seed gives a different split."""
    overwrite: bool = False
    """Replace existing lists."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)


@dataclass(frozen=True)
class LeaksConfig:
    """Settings of `dsm data leaks`."""

    one: tyro.conf.Positional[ListFile]
    """A list to train on."""
    two: tyro.conf.Positional[ListFile]
    """A list to test on."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)


@dataclass(frozen=True)
class DedupConfig:
    """Settings of `dsm data dedup`."""

    videos: tyro.conf.Positional[ListFile]
    """List of videos."""
    features: FeaturesFile
    """Features of its videos, written by `dsm extract` without `--per-clip`."""
    out: Path
    """List to write. OUT.left-out.tsv names the videos left out, by group. Nothing is ever overwritten."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    threshold: float = NEAR_DUPLICATE
    """Cosine from which two videos count as near-duplicates, after the mean feature is subtracted."""

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise UserError("threshold is a cosine, from -1 to 1.")


@dataclass(frozen=True)
class DataExportConfig:
    """Settings of `dsm data export`."""

    features: tyro.conf.Positional[FeaturesFile]
    """Features, written by `dsm extract`."""
    out: Path
    """File (.parquet) or folder to write; existing ones are never replaced."""
    to: Literal["parquet", "lance", "fiftyone", "projector"]
    """`parquet` for vector databases; `lance`, a Lance data set (extra lance), best named NAME.lance;
    `fiftyone`, a data set that FiftyOne imports; `projector`, for TensorBoard's Embedding Projector."""
    pictures: bool = False
    """With `projector`: add a picture of each row."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    root: RootFolder | None = None
    """Where the videos are now, if they have moved since the features were extracted."""

    def __post_init__(self) -> None:
        if (self.out.suffix == ".parquet") != (self.to == "parquet"):
            raise UserError(f"{self.out}: --out must end in .parquet for --to parquet, and only for that.")
        if self.pictures and self.to != "projector":
            raise UserError("--pictures is for --to projector.")


@dataclass(frozen=True)
class FeaturesConfig:
    """Settings of `dsm data features`."""

    file: tyro.conf.Positional[Path]
    """File to read: .npz, .npy, .h5 or .parquet (the last two need the extras hdf5 and parquet)."""
    out: Path
    """File to write for `dsm retrieve`, `probe`, `search` and `embed`: .npz or .parquet."""
    features: str | None = None
    """Name of the features array, of shape (n, d); may be left out if only one array fits."""
    labels: str | None = None
    """Name of the labels array, of shape (n,); may be left out if only one array of integers fits."""
    paths: str | None = None
    """Name of the array of video names, of shape (n,); may be left out if only one array of strings fits."""
    videos: Path | None = None
    """List of the same videos in the same order, if the file has no paths or labels."""
    classes: Path | None = None
    """Names of all classes in order, one per line; needed if the labels are names."""
    root: Path | None = None
    """Folder that paths are relative to; needed to show clips, and to recognise a video in two files."""
    run: str | None = None
    """Name of these features in tables; by default the file's name."""
    overwrite: bool = False
    """Replace an existing file."""


@dataclass(frozen=True)
class FramesConfig:
    """Settings of `dsm data frames`."""

    videos: tyro.conf.Positional[Videos]
    """List of the videos."""
    out: Path
    """Folder for list.txt and one folder of frames per video. Videos that are already done are skipped, so
    an interrupted command can simply be run again."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    short_side: int | None = None
    """Shorter side of the frames, in pixels; by default as in the videos."""
    square: bool = False
    """Squeeze frames to a square, so that crops reach the edges of wide footage; this distorts shapes."""
    flow: bool = False
    """Write the optical flow between frames instead, as pairs of pictures (needs OpenCV)."""
    quality: int = 90
    """JPEG quality, 1 to 95."""
    workers: int = usable_cores()
    """Videos decoded at the same time."""
    copy_to: str | None = None
    """Folder in storage, such as s3://bucket/frames, to copy the result to when it is complete."""
    overwrite: bool = False
    """Replace frames that were written with other settings."""

    def __post_init__(self) -> None:
        check_range(self, "workers", least=1)
        check_range(self, "quality", least=1, most=95)
        check_range(self, "short_side", least=16)


@dataclass(frozen=True)
class PackConfig:
    """Settings of `dsm data pack`."""

    videos: tyro.conf.Positional[Videos]
    """List of the videos."""
    out: Path
    """Folder for the shards and list.txt. If packing was interrupted, the same command finishes it."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    short_side: int = 128
    """Shorter side of the frames, in pixels: the size used in training (--clip.resize)."""
    square: bool = False
    """Squeeze frames to a square, so that crops reach the edges of wide footage; this distorts shapes."""
    shard_videos: int = 100
    """Videos in each shard."""
    workers: int = usable_cores()
    """Shards written at the same time."""
    copy_to: str | None = None
    """Folder in storage, such as s3://bucket/packs/mine, to copy the pack to when it is complete."""
    overwrite: bool = False
    """Replace a pack that was written with other settings."""

    def __post_init__(self) -> None:
        check_range(self, "workers", "shard_videos", least=1)
        check_range(self, "short_side", least=16)


TLD_KINDS = tuple(kind.name for kind in fields(TemporalMix))
"""Names of the kinds of temporal disturbance (TLD)."""


@dataclass(frozen=True)
class PreviewConfig:
    """Settings of `dsm data preview`."""

    videos: tyro.conf.Positional[ListFile]
    """List of the videos."""
    out: Path
    """File to write: a picture (.png, .gif, .mp4), or a page with playing clips and the table (.html)."""
    root: Annotated[RootFolder | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """Folder that relative paths start from; by default the list's own."""
    kinds: tuple[str, ...] = ()
    """Kinds of disturbance to show one by one, or `all`. By default: anchor, positive and negative as in
    training, without crops and changes of colour."""
    sld: SpatialMix = field(default_factory=lambda: DsmConfig().sld)
    """How the scene is broken: the weight of each kind. Mixed-in images are shown at full strength."""
    sld_on: SldOn = DsmConfig.sld_on
    """Which clip's scene is broken."""
    tld: TemporalMix = field(default_factory=lambda: DsmConfig().tld)
    """How the negative's motion is broken: the weight of each kind."""
    look: NegativeLook = DsmConfig.look
    """Which clip's crop, colours and SLD the negative copies; see `dsm pretrain --dsm.look`."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Shape of a clip."""
    show: int = 3
    """Number of clips to show."""
    measure: int | None = None
    """Number of clips to average the changes over; by default those shown."""
    seed: int = 0
    """Seed that decides which videos, clips and disturbances are drawn."""
    json: Path | None = None
    """File to write the numbers of every clip to."""
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        if self.out.suffix not in PREVIEW_FORMATS:
            raise UserError(f"{self.out}: --out must end in one of {', '.join(PREVIEW_FORMATS)}.")
        check_range(self, "show", "measure", least=1)
        check_range(self, "seed", least=0)
        if self.clip.modality != "rgb":
            raise UserError("a preview shows frames and their flow: leave --clip.modality at rgb.")
        if self.clip.frames < 2 or self.clip.size < LEAST_SIDE:
            raise UserError(
                f"a preview measures clips of at least 2 frames and {LEAST_SIDE} pixels (--clip)."
            )
        known = (*self.sld.kind_names(), *TLD_KINDS)
        for kind in self.kinds:
            if kind not in (*known, "all"):
                raise UserError(f"unknown kind '{kind}'{did_you_mean(kind, known)}")
