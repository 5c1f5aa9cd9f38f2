"""Search in an archive: the videos nearest to a query clip, among those that fit by path, camera and label.

A query clip is encoded with the weights and the clip shape of the index.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.data.clips import CROPS, EvaluationClips
from dsm.data.lists import unlabelled
from dsm.data.settings import ClipConfig, clip_of
from dsm.devices import best_device
from dsm.errors import UserError, did_you_mean
from dsm.evaluate.duplicates import ROUNDING
from dsm.evaluate.extract import as_array, to_input
from dsm.evaluate.extract_to_file import digest
from dsm.evaluate.faiss_index import Parts
from dsm.evaluate.features import Features, label_names
from dsm.evaluate.nearest import BASE, cosines, nearest, nearest_among, unit_rows
from dsm.files import one_spelling
from dsm.limits import CLIP_PIXELS, QUERY_PIXELS, SHORTEST_STEP
from dsm.models.precision import channels_last
from dsm.models.settings import RANDOM, Init, Pooling
from dsm.models.weights import load_weights
from dsm.untrusted import brief
from dsm.urls import named
from dsm.video.pack import in_pack
from dsm.video.segments import without_segment
from dsm.weights_names import path_of, published

FEW_ROWS = 0.1
"""If the filters leave a smaller share of the rows, only these rows are searched."""
SPARE = 4
"""Rows that an engine proposes per requested row: its 8-bit order is less exact than the features'."""
MORE = 4
"""Rows requested per video, since several may be of one video; also the factor for each retry."""
MOST_RANKED = 1000
"""If more rows are requested, all are compared and sorted: to keep so many of the nearest takes longer."""


@dataclass(frozen=True)
class Hit:
    """A row found by a search."""

    row: int
    cosine: float


class ArchiveIndex:
    """The rows of a features file, prepared for many searches.

    Args:
        engine: proposes the rows to compare; None compares all rows.

    Raises:
        UserError: the index has no rows.
    """

    def __init__(self, features: Features, engine: Parts | None = None) -> None:
        if not len(features):
            raise UserError("the index has no videos; extract features first.")
        self.features = features
        self._videos = features.video_numbers()
        self._count = int(self._videos.max()) + 1
        self._engine = engine

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        but: int | None = None,
        among: NDArray[np.bool_] | None = None,
        skip: int = 0,
    ) -> list[Hit]:
        """The k nearest videos to a feature (d,), by the nearest clip of each.

        Args:
            but: a row whose video is left out.
            among: (rows,), which rows are searched; None for all.
            skip: number of nearest videos to skip.

        Raises:
            UserError: the query has a different number of dimensions.
        """
        query = np.asarray(query, np.float32)
        if query.shape != (self.features.dim,):
            raise UserError(
                f"the query has {query.size} dimensions, but the index has {self.features.dim}; "
                "search with the weights that extracted the index."
            )
        left = np.ones(self._count, bool)
        if among is not None:
            left[:] = False
            left[self._videos[among]] = True
        if but is not None:
            left[self._videos[but]] = False
        most = int(left.sum())
        k = min(k + skip, most)
        if k == 0:
            return []
        ranked = self._engine is None and MORE * (k + 1) > MOST_RANKED
        hits = [] if k == most or ranked else self._nearest(query, k, left, among)
        if len(hits) < k:
            hits = self._of_all(query, k, left, among)
        return hits[skip:]

    def _nearest(
        self, query: NDArray[np.float32], k: int, left: NDArray[np.bool_], among: NDArray[np.bool_] | None
    ) -> list[Hit]:
        """The hits among the nearest rows, or those that the engine proposes; fewer than k if these are of
        fewer videos.

        Args:
            left: (videos,), which may be found.
        """
        # If few rows remain, search only these; otherwise search all and skip the others.
        rows = np.flatnonzero(among) if among is not None and among.mean() < FEW_ROWS else None
        most = len(self.features) if rows is None else len(rows)
        needed = MORE * (k + 1)
        while True:
            found, near = self._rows(query[None], min(needed, most), rows)
            hits: dict[int, Hit] = {}
            for row, cosine in zip(found.tolist(), near.tolist(), strict=True):
                fits = row >= 0 and (among is None or among[row])
                if fits and len(hits) < k and left[video := int(self._videos[row])]:
                    hits.setdefault(video, Hit(row, cosine))
            proposed = self._engine is not None and rows is None
            if len(hits) == k or not proposed or needed >= most or found[-1] < 0:
                return list(hits.values())
            needed *= MORE

    def _of_all(
        self, query: NDArray[np.float32], k: int, left: NDArray[np.bool_], among: NDArray[np.bool_] | None
    ) -> list[Hit]:
        """The hits among all rows, by the nearest row of each video."""
        rows = np.flatnonzero(left[self._videos] if among is None else among & left[self._videos])
        unit, base = unit_rows(query[None]), self.features.features
        blocks = (rows[first : first + BASE] for first in range(0, len(rows), BASE))
        exact = np.concatenate([cosines(base[block], unit)[0] for block in blocks])
        order = np.argsort(-exact, kind="stable")
        exact = exact.astype(np.float32)  # as of the nearest
        first = np.unique(self._videos[rows[order]], return_index=True)[1]
        chosen = order[np.sort(first)[:k]]
        return [Hit(*hit) for hit in zip(rows[chosen].tolist(), exact[chosen].tolist(), strict=True)]

    def _rows(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if among is not None:  # engines cannot filter rows
            near = nearest(self.features.features[among], query, k)
            return among[near.places[0]], near.similarities[0]
        if self._engine is None:
            near = nearest(self.features.features, query, k)
        else:
            proposed = self._engine.candidates(unit_rows(query), min(SPARE * k, len(self.features)))
            near = nearest_among(self.features.features, query, proposed, k)
        return near.places[0], near.similarities[0]


@dataclass(frozen=True)
class Filters:
    """Conditions on the videos to search; an empty string sets none."""

    path: str = ""
    """Text in the path or, with * or ?, a pattern for the whole path; case is ignored."""
    camera: str = ""
    label: str = ""
    """A class name, or a number."""


def rows_with(features: Features, cameras: Sequence[str], filters: Filters) -> NDArray[np.bool_] | None:
    """(n,), which rows match; None if there are no conditions.

    Raises:
        UserError: no row has this camera or label, or none matches.
    """
    if filters == Filters():
        return None
    fits = np.ones(len(features), bool)
    if filters.path:
        wanted = one_spelling(filters.path).casefold()
        pattern = wanted.replace("[", "[[]") if any(mark in wanted for mark in "*?") else ""
        spelled = (one_spelling(path).casefold() for path in features.paths)
        fits &= [fnmatch.fnmatchcase(path, pattern) if pattern else wanted in path for path in spelled]
    if filters.camera:
        if filters.camera not in cameras:
            raise UserError(
                f"no video is from the camera {filters.camera!r}{did_you_mean(filters.camera, set(cameras))}"
            )
        fits &= np.asarray(cameras) == filters.camera
    if filters.label:
        names = label_names(features)
        number = names.index(filters.label) if filters.label in names else -2
        if filters.label.isascii() and filters.label.isdigit() and len(filters.label) < 10 and number < 0:
            number = int(filters.label)
        if not (features.labels == number).any():
            raise UserError(f"no video has the label {filters.label!r}{did_you_mean(filters.label, names)}")
        fits &= features.labels == number
    if not fits.any():
        raise UserError("no video has this path, camera and label together; drop one of them.")
    return fits


def rows_of_file(features: Features, query: Path) -> NDArray[np.bool_]:
    """(n,), which rows are of a query's own file.

    Links are followed, if the index has the query's name or that of the file to which it leads.
    """
    file = Path(without_segment(str(query)))
    real = os.path.realpath(file)
    names, root = {file.name, os.path.basename(real)}, str(features.meta.get("root", ""))  # noqa: PTH119
    known: dict[str, bool] = {}
    for path in features.paths:
        if path not in known:
            own = without_segment(path) if any(name in path for name in names) else ""
            known[path] = Path(own).name in names and os.path.realpath(named(root, own)) == real
    return np.array([known[path] for path in features.paths], bool)


FINEST = 6


def told_apart(cosines: Sequence[float], least: int = 3) -> list[str]:
    """Cosines as text, with as many digits as are needed to distinguish neighbours in the list."""
    for digits in range(least, FINEST + 1):
        texts = [f"{one:.{digits}f}" for one in cosines]
        pairs = zip(cosines, cosines[1:], texts, texts[1:], strict=False)
        if all(a == b or abs(a - b) < ROUNDING or one != two for a, b, one, two in pairs):
            break
    return texts if cosines else []


AT_ONCE = 16
"""Most clips of a query to encode together."""
MAX_SETTING = 2**32
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class HowMade:
    """How features were extracted, as their metadata say."""

    weights: str
    backbone: str
    """Of random weights."""
    pooling: Pooling | None
    """Of random weights."""
    seed: int
    init: Init
    clip: ClipConfig
    windows: int
    crops: int
    every: float


def how_made(features: Features, name: str, weights: str | None = None) -> HowMade:
    """How features were extracted; the metadata are untrusted.

    Args:
        name: of the features, for errors.
        weights: where the weights are now; None for the path that the features name.

    Raises:
        UserError: the features do not name their weights and clips, or name impossible settings.
    """
    meta = features.meta
    chosen = weights or str(meta.get("weights") or "")
    if not chosen or "clip" not in meta:
        raise UserError(f"{name}: does not name the weights and clips that made it; extract it again.")
    if weights is None and published(chosen) and not path_of(chosen).exists():
        raise UserError(
            f"{name}: was made with {chosen}; add --weights {chosen} to use it (it is downloaded if not "
            "cached)."
        )

    def number(setting: str, least: Number) -> Number:
        value = meta.get(setting, least)
        kinds = int if isinstance(least, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < MAX_SETTING:
            raise UserError(
                f"{name}: was made with {setting} {brief(value)}, which this version of dsm does not support."
            )
        return type(least)(value)

    pooling = meta.get("pooling")
    if pooling is not None and pooling not in get_args(Pooling):
        raise UserError(
            f"{name}: was made with pooling {brief(pooling)}, which this version of dsm does not support."
        )
    made = HowMade(
        chosen, str(meta.get("backbone") or "tiny"), pooling, number("seed", 0),
        "xavier" if meta.get("init") == "xavier" else "own", clip_of(meta["clip"]), number("windows", 1),
        number("crops", 1), number("every", 0.0),
    )  # fmt: skip
    if made.crops not in CROPS:
        raise UserError(
            f"{name}: was made with crops {made.crops}, which this version of dsm does not support."
        )
    return made


class QueryEncoder:
    """Computes features of videos like those of an index.

    Args:
        weights: the path of the index's weights; None for the path that the index names.

    Raises:
        UserError: the index does not name its weights, or the weights have changed since.
    """

    def __init__(self, index: Features, weights: str | None = None) -> None:
        made = how_made(index, "the index", weights)
        torch.manual_seed(made.seed)
        # Partly loaded or initialised by xavier: the digest below checks that the weights are the same.
        loaded = load_weights(
            made.weights, backbone=made.backbone, pooling=made.pooling, partial=True, init=made.init
        )
        if index.meta.get("encoder") != digest(loaded.module):
            other = " (random weights with another seed or initialisation)" if made.weights == RANDOM else ""
            raise UserError(
                f"{made.weights}: are not the weights that extracted the index{other}; extract the index "
                "again, or name its checkpoint with --weights."
            )
        self.clip = clip = made.clip
        self.windows, self.crops = made.windows, made.crops
        most = max(QUERY_PIXELS // (clip.frames_to_read * clip.size**2 * self.crops), 1)
        if self.windows > most:
            raise UserError(
                f"the index asks for {self.windows} clips of each query, but with {clip.frames} frames of "
                f"{clip.size} x {clip.size} pixels at most {most} are allowed. Extract it again with fewer."
            )
        # If the index's rows are clips, a query video is represented by its windows only.
        self.every = made.every if index.times is None else 0.0
        if 0 < self.every < SHORTEST_STEP:
            raise UserError(
                f"the index asks for a clip every {self.every:g} s of each query, but at least "
                f"{SHORTEST_STEP:g} s must lie between clips. Extract it again."
            )
        self._encoder = channels_last(loaded.module.to(best_device()).eval())

    def __call__(self, video: Path, seconds: float | None = None) -> NDArray[np.float32]:
        """The feature (d,) of a video, the mean over its windows; or of the clip around ``seconds``.

        Raises:
            UserError: the video cannot be read, or ends before ``seconds``.
        """
        if not video.exists() and not in_pack(video):
            raise UserError(f"{video}: no such video (--query).")
        reader = EvaluationClips(
            unlabelled([str(video)], str(video)), self.clip, self.windows, self.crops, every=self.every
        )
        pieces = reader.pieces(0, CLIP_PIXELS) if seconds is None else [reader.around(0, seconds)]
        device = next(self._encoder.parameters()).device
        at_once = max(min(CLIP_PIXELS // (self.clip.frames_to_read * self.clip.size**2), AT_ONCE), 1)
        rows = [
            as_array(self._encoder, to_input(some, self.clip.modality, device))
            for clips in pieces
            for some in clips.split(at_once)  # type: ignore[no-untyped-call]
        ]
        return np.concatenate(rows).mean(0)
