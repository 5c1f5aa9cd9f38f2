"""Features in the formats of other tools: Parquet, Lance, TensorBoard's Embedding Projector, FiftyOne.

Every format has, for each row, its path, label, class name, times (of clips), group and feature.
"""

from __future__ import annotations

import base64
import io
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsm.evaluate.feature_files import ROWS, arrow_tables, pyarrow, write_parquet
from dsm.evaluate.features import Features, label_names
from dsm.extras import load_extra
from dsm.files import json_text
from dsm.video.segments import without_segment

TILE, SIDE = 64, 8192
"""Side of a sprite, and largest side of the sprite sheet that browsers accept, in pixels."""
GREY = 128


@dataclass(frozen=True)
class Rows:
    """The rows to export."""

    features: Features
    groups: Sequence[str]
    """(n,), the group of each row; empty for none."""

    def names(self) -> list[str | None]:
        """(n,), the class name of each row; None if it has no label."""
        texts = label_names(self.features)
        return [texts[label] if label >= 0 else None for label in self.features.labels.tolist()]

    def columns(self) -> dict[str, Sequence[str | None]]:
        """The text columns besides the path."""
        columns: dict[str, Sequence[str | None]] = {"class": self.names()}
        return columns | ({"group": self.groups} if self.groups else {})


def write_table(file: Path, rows: Rows) -> None:
    """A Parquet table with the feature as a column of lists of fixed size; ``load_features`` reads it too."""
    write_parquet(file, rows.features, _chunks(rows.features), rows.columns())


def write_lance(folder: Path, rows: Rows) -> None:
    """A Lance data set, which LanceDB opens as a table; it has the same columns as the Parquet file."""
    lance = load_extra("lance", "lance", package="pylance", wanted_by="--to lance")
    schema, tables = arrow_tables(rows.features, _chunks(rows.features), rows.columns())
    batches = (batch for table in tables for batch in table.to_batches())
    lance.write_dataset(pyarrow().RecordBatchReader.from_batches(schema, batches), str(folder))


def write_projector(
    folder: Path, rows: Rows, picture: Callable[[int], NDArray[np.uint8] | None] | None = None
) -> int:
    """Tables for TensorBoard's Embedding Projector: ``tensorboard --logdir FOLDER``, or load them by hand.

    Args:
        picture: returns a picture (H, W, 3) of a row, or None if it has none; None for no pictures.

    Returns:
        The number of rows with a picture.
    """
    features = rows.features
    with (folder / "features.tsv").open("w", encoding="utf-8") as opened:
        for chunk in _chunks(features):
            opened.writelines("\t".join(f"{value:.7g}" for value in row) + "\n" for row in chunk)
    columns: dict[str, Sequence[Any]] = {"path": features.paths, **rows.columns()}
    if features.times is not None:
        columns |= {name: features.times[:, side].tolist() for side, name in enumerate(("start", "end"))}
    with (folder / "metadata.tsv").open("w", encoding="utf-8") as opened:
        opened.write("\t".join(columns) + "\n")
        for cells in zip(*columns.values(), strict=True):
            texts = ("" if cell is None else " ".join(str(cell).splitlines()) for cell in cells)
            opened.write("\t".join(text.replace("\t", " ") for text in texts) + "\n")
    config = ['tensor_name: "features"', 'tensor_path: "features.tsv"', 'metadata_path: "metadata.tsv"']
    drawn = 0
    if picture is not None:
        sheet, drawn = _sprites(len(features), picture)
        sheet.save(folder / "sprites.png")
        config.append(
            f'sprite {{ image_path: "sprites.png" single_image_dim: {TILE} single_image_dim: {TILE} }}'
        )
    text = "embeddings {\n" + "".join(f"  {line}\n" for line in config) + "}\n"
    (folder / "projector_config.pbtxt").write_text(text, encoding="utf-8")
    return drawn


def most_sprites() -> int:
    """Most rows whose sprites fit into one picture."""
    return (SIDE // TILE) ** 2


def _sprites(count: int, picture: Callable[[int], NDArray[np.uint8] | None]) -> tuple[Image.Image, int]:
    """A square sheet of small pictures, row by row; grey for rows without one."""
    wide = int(np.ceil(np.sqrt(count)))
    sheet, drawn = Image.new("RGB", (wide * TILE, wide * TILE), (GREY,) * 3), 0
    for row in range(count):
        frame = picture(row)
        if frame is not None:
            small = Image.fromarray(frame).resize((TILE, TILE))
            sheet.paste(small, (row % wide * TILE, row // wide * TILE))
            drawn += 1
    return sheet, drawn


def write_fiftyone(folder: Path, rows: Rows) -> None:
    """FiftyOne's format of a data set on disk (``fo.types.LegacyFiftyOneDataset``): samples with embeddings.

    A sample is a video, or a clip of it given by its fields ``start`` and ``end``. An embedding is stored as
    FiftyOne stores vectors: a numpy array, compressed with zlib, as MongoDB's binary JSON. FiftyOne reads the
    fields from the samples, so this format does not depend on its version.
    """
    features = rows.features
    root = Path(str(features.meta.get("root", "")))
    names = rows.names()
    (folder / "metadata.json").write_text(json_text({"info": {"source": "dsm"}}), encoding="utf-8")
    with (folder / "samples.json").open("w", encoding="utf-8") as opened:
        opened.write('{"samples": [')
        row = 0
        for chunk in _chunks(features):
            for feature in chunk:
                sample: dict[str, Any] = {
                    "filepath": os.path.abspath(root / without_segment(features.paths[row])),
                    "tags": [],
                    "path": features.paths[row],
                    "embedding": {"$binary": {"base64": _packed(feature), "subType": "00"}},
                }
                if names[row] is not None:
                    sample["label"] = {"_cls": "Classification", "label": names[row]}
                if times := features.times_of(row):
                    sample |= dict(zip(("start", "end"), times, strict=True))
                if rows.groups:
                    sample["source"] = rows.groups[row]
                opened.write((", " if row else "") + json_text(sample))
                row += 1
        opened.write("]}")


def _packed(feature: NDArray[np.float32]) -> str:
    content = io.BytesIO()
    np.save(content, np.asarray(feature, np.float32), allow_pickle=False)
    return base64.b64encode(zlib.compress(content.getvalue())).decode("ascii")


def _chunks(features: Features) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(features), ROWS):
        yield np.asarray(features.features[first : first + ROWS], np.float32)
