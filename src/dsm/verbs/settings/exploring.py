"""Settings of the verbs that explore footage: explore and search."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dsm.data.settings import ClipChanges, Grouping
from dsm.errors import UserError, check_range
from dsm.evaluate.settings import NEAR_DUPLICATE, EngineName, ExtractSettings
from dsm.inputs import FeaturesFile, GroupsTable, ListFile, RootFolder, Videos, Weights
from dsm.models.settings import LoadSettings


@dataclass(frozen=True)
class ExploreConfig:
    """Settings of `dsm explore`."""

    source: tyro.conf.Positional[Videos]
    """Footage: a folder, a list or one video; or features of it, as written by `dsm extract`."""
    out: Path
    """Page to write (.html). Tables, and the features of footage, go into a folder of the same name beside
    it."""
    weights: Weights | None = None
    """For footage: a run folder, a checkpoint, a published model (`hf:ID`, `tv:NAME`, `timm:NAME`), or `none`
    for random weights; by default those of the archive (--against), otherwise `motion`, the weights that come
    with dsm."""
    root: RootFolder | None = None
    """Where the videos are now, if they have moved; of a list, the folder that its paths start from."""
    cameras: GroupsTable | None = None
    """Table (.tsv, .csv: a header, path first, camera last) with the camera of each video. By default the
    camera is taken from names such as `cam3` in the path, otherwise from the folder."""
    camera_regex: str = ""
    """Regular expression that finds the camera in a path, in place of `cameras`."""
    neighbours: int = 10
    """Number of nearest clips of other videos that decide how rare a clip is."""
    least: Annotated[int, tyro.conf.arg(metavar="CLIPS")] = 0
    """Size of the smallest cluster; 0: half the square root of the number of clips, at least 5."""
    duplicates: float = NEAR_DUPLICATE
    """Cosine from which two videos count as near-duplicates, after the mean feature is subtracted."""
    rarest: int = 20
    """Number of rarest clips to show; of each camera, a quarter as many."""
    labels: ListFile | None = None
    """List of labels given so far, as the page exports it: shows the clips that a probe trained on them is
    least sure of, to label next. From `names.csv`, beside its `clusters.csv`, `labels.csv` is written."""
    suggestions: int = 24
    """Number of clips to suggest for labelling."""
    against: FeaturesFile | None = None
    """Features of an archive: shows the clips that are unlike anything in it. Footage is then read with the
    archive's weights and clips."""
    false_alarms: float = 0.01
    """False alarm rate: the average share of familiar clips that may be taken for new."""
    grouping: Annotated[Grouping, tyro.conf.arg(name="")] = field(default_factory=Grouping)
    clips: int = 400
    """Most clips that play in the page, which never exceeds 25 MB; the others are linked."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    settings: Annotated[ExtractSettings, tyro.conf.arg(name="")] = field(default_factory=ExtractSettings)
    overwrite: bool = False
    """Replace the page and its tables, and features of other footage, weights or settings, or of files that
    were replaced since; the same are kept."""

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"{self.out}: the result is a web page; --out must end in .html.")
        check_range(self, "neighbours", "rarest", "suggestions", least=1)
        check_range(self, "least", "clips", least=0)
        if self.least == 1:
            raise UserError("least must be at least 2, or 0: a single clip is no cluster.")
        check_range(self, "false_alarms", above=0, below=1)
        check_range(self, "duplicates", least=-1, most=1)


@dataclass(frozen=True)
class SearchConfig:
    """Settings of `dsm search`."""

    index: tuple[FeaturesFile, ...]
    """Features of the archive, written by `dsm extract` (preferably with `--per-clip`); several files, for
    example one per day, are searched as one."""
    query: Path | None = None
    """A video to search for."""
    time: float | None = None
    """Search with the clip around this second of the query; by default with the mean over its windows."""
    k: int = 10
    """Number of videos to find; with `serve`, on each page of results."""
    page: int = 1
    """Page of results to show; each has `k` videos."""
    itself: bool = False
    """With --query: also find the query's own file."""
    path: str = ""
    """Search only videos with this text in their path; with * or ?, those whose whole path matches."""
    camera: str = ""
    """Search only videos of this camera."""
    label: str = ""
    """Search only videos with this label: its name or number."""
    cameras: GroupsTable | None = None
    """Table (.tsv, .csv: a header, path first, camera last) with the camera of each video; by default it
    is taken from names such as `cam3` in the path, otherwise from the folder."""
    camera_regex: str = ""
    """Regular expression that finds the camera in a path, in place of `cameras`."""
    out: Path | None = None
    """File to write: a contact sheet of the hits (.png, .jpg); for duplicates, a page (.html) or a table of
    all pairs (.tsv)."""
    duplicates: bool = False
    """Instead of a query: find groups of videos in the index that are nearly the same."""
    threshold: float = NEAR_DUPLICATE
    """Cosine from which two videos count as near-duplicates, after the mean feature is subtracted."""
    serve: bool = False
    """Instead of a query: serve a search page, reachable from this machine only, until stopped."""
    port: int = 8077
    """Port of the page; 0 picks a free one."""
    weights: str | None = None
    """Where the weights are now, if they have moved since the index was extracted."""
    root: Path | None = None
    """Where the videos are now, if they have moved since the index was extracted."""
    engine: EngineName = "exact"
    """`faiss` (an extra) is approximate, and fast for millions of rows. Its index of each file is built once
    and kept beside it."""
    overwrite: bool = False
    """Replace `out` if it exists."""

    def __post_init__(self) -> None:
        if not self.index:
            raise UserError("--index: give a features file.")
        if (self.query is not None) + self.duplicates + self.serve != 1:
            raise UserError("give exactly one of --query VIDEO, --duplicates and --serve.")
        check_range(self, "k", "page", least=1)
        check_range(self, "threshold", least=-1, most=1)
        check_range(self, "port", least=0, most=65535)
        if self.time is not None and self.query is None:
            raise UserError("--time needs --query VIDEO.")
        if self.duplicates and (self.path or self.camera or self.label):
            raise UserError("--path, --camera and --label are for --query and --serve, not for --duplicates.")
        endings = (".tsv", ".html") if self.duplicates else (".png", ".jpg")
        if self.out is not None and self.out.suffix not in endings:
            raise UserError(f"{self.out}: --out must end in {' or '.join(endings)}.")
