"""Answers requests of the search page: browsing, pages of hits, and uploaded queries."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.features import label_names
from dsm.evaluate.footage import file_of
from dsm.evaluate.search import ArchiveIndex, Filters, rows_with, told_apart
from dsm.pages.gallery import row_text

MOST_DIGITS = 12
MOST_HITS, CHOICES = 200, 200
"""Most hits on a page, and most cameras or labels to choose from."""
KEPT_QUERIES, LIKELY = 16, 5
"""Number of uploaded queries to keep, and of nearest hits to compare with a query's file."""


class Sent(NamedTuple):
    """A video uploaded as a query, kept for further pages of hits."""

    feature: NDArray[np.float32]
    own: int | None
    """A row of the same file in the archive, which is left out; None if the archive lacks it."""


class Answers:
    """Answers requests of the page; their settings come from the URL.

    Args:
        cameras: the camera of each row.
        among: which rows to search; None for all.
        k: hits per page, unless the request sets it.
    """

    def __init__(
        self, index: ArchiveIndex, cameras: Sequence[str], among: NDArray[np.bool_] | None, k: int
    ) -> None:
        self.index, self.features, self.k = index, index.features, k
        self._cameras, self._among = cameras, among
        self._names = label_names(self.features)
        self._order = np.random.default_rng(0).permutation(len(self.features))
        self._sent: OrderedDict[str, Sent] = OrderedDict()

    def choices(self) -> dict[str, Any]:
        """The choices on the page: cameras and labels, if there are several."""
        cameras = sorted(set(self._cameras))
        known = np.unique(self.features.labels[self.features.labels >= 0]).tolist()
        labels = [self._names[label] for label in known]
        return {
            "cameras": cameras[:CHOICES] if len(cameras) > 1 else [],
            "labels": labels[:CHOICES] if len(labels) > 1 else [],
        }

    def _settings(self, asked: Mapping[str, list[str]]) -> tuple[int, int, NDArray[np.bool_] | None]:
        """Hits per page, hits before it, and the rows to search."""

        def one(name: str) -> str:
            return asked.get(name, [""])[0]

        k = number_in(one("k") or str(self.k), "k", 1, MOST_HITS)
        first = number_in(one("from") or "0", "from", 0, max(len(self.features), MOST_HITS))
        fits = rows_with(self.features, self._cameras, Filters(one("path"), one("camera"), one("label")))
        if fits is None:
            return k, first, self._among
        return k, first, fits if self._among is None else fits & self._among

    def browse(self, asked: Mapping[str, list[str]]) -> dict[str, Any]:
        """Rows in a fixed random order."""
        k, first, among = self._settings(asked)
        rows = self._order if among is None else self._order[among[self._order]]
        return {"hits": [self.described(row) for row in rows[first : first + k].tolist()], "from": first,
                "more": first + k < len(rows)}  # fmt: skip

    def near(self, row: int, asked: Mapping[str, list[str]]) -> dict[str, Any]:
        """The videos nearest to a row, without the row's own video."""
        return {
            "query": self.described(row),
            **self._found(np.array(self.features.features[row]), row, asked),
        }

    def sent(
        self, content: bytes, feature: NDArray[np.float32], asked: Mapping[str, list[str]]
    ) -> dict[str, Any]:
        """The videos nearest to an uploaded one; the same file in the archive is left out."""
        token = hashlib.sha256(content).hexdigest()
        own = next(
            (hit.row for hit in self.index.search(feature, LIKELY) if self._holds(hit.row, content)), None
        )
        self._sent[token] = Sent(feature, own)
        self._sent.move_to_end(token)
        while len(self._sent) > KEPT_QUERIES:
            self._sent.popitem(last=False)
        return self.again(token, asked)

    def again(self, token: str, asked: Mapping[str, list[str]]) -> dict[str, Any]:
        """Another page of hits for an uploaded query.

        Raises:
            UserError: the query is no longer kept.
        """
        sent = self._sent.get(token)
        if sent is None:
            raise UserError("that query is no longer kept; send the video again.")
        found = {"token": token, **self._found(sent.feature, sent.own, asked)}
        return found if sent.own is None else found | {"own": row_text(self.features, sent.own)}

    def _holds(self, row: int, content: bytes) -> bool:
        """Whether a row's file has the same content."""
        try:
            file = file_of(self.features, row)
            return file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content
        except (UserError, OSError):
            return False

    def _found(
        self, feature: NDArray[np.float32], but: int | None, asked: Mapping[str, list[str]]
    ) -> dict[str, Any]:
        k, first, among = self._settings(asked)
        hits = self.index.search(feature, k + 1, but=but, among=among, skip=first)
        scores = told_apart([hit.cosine for hit in hits[:k]])
        return {
            "hits": [
                self.described(hit.row) | {"cosine": score} for hit, score in zip(hits, scores, strict=False)
            ],
            "from": first,
            "more": len(hits) > k,
        }

    def described(self, row: int) -> dict[str, Any]:
        """A row for the page: the end of its path, its times, file, camera and label."""
        try:
            place = str(file_of(self.features, row).absolute())
        except UserError:
            place = ""
        times = self.features.times_of(row)
        label = int(self.features.labels[row])
        return {
            "row": row, "told": row_text(self.features, row, short=True), "place": place,
            "begin": times[0] if times else None,
            "camera": self._cameras[row] if len(self._cameras) else "",
            "label": self._names[label] if label >= 0 else "",
        }  # fmt: skip


def is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= MOST_DIGITS


def number_in(text: str, name: str, least: int, most: int) -> int:
    if not is_number(text) or not least <= int(text) <= most:
        raise UserError(f"{name} must be a number from {least} to {most}.")
    return int(text)
