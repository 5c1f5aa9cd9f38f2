"""``dsm data export``: features for tools that show and search them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.errors import MachineError, UserError
from dsm.evaluate.export_features import (
    Rows,
    most_sprites,
    write_fiftyone,
    write_lance,
    write_projector,
    write_table,
)
from dsm.evaluate.feature_files import load_features
from dsm.files import written_aside, written_aside_folder
from dsm.pages.gallery import clip_frames
from dsm.runs.claims import claim_files
from dsm.settings import takes_settings
from dsm.terminal import many, progress, warn
from dsm.verbs.result import Result
from dsm.verbs.settings.data import DataExportConfig


@takes_settings(DataExportConfig)
def export(config: DataExportConfig) -> Result:
    """Write features for FiftyOne, LanceDB, a vector database, or TensorBoard's Embedding Projector."""
    claim_files(config.out, overwrite=False)
    features = load_features(config.features, half=True)
    if config.root is not None:
        features = features.rooted(config.root)
    groups = features.groups(config.grouping) or []
    rows = Rows(features, groups)
    if config.to == "parquet":
        with written_aside(config.out) as aside:
            write_table(aside, rows)
    else:
        with written_aside_folder(config.out) as folder:
            if config.to == "lance":
                write_lance(folder, rows)
            elif config.to == "fiftyone":
                write_fiftyone(folder, rows)
            else:
                _projector(config, folder, rows)
    line = f"{config.out}: {many(len(features), 'row')} x {many(features.dim, 'dimension')}"
    return Result(files=[config.out], lines=[line])


def _projector(config: DataExportConfig, folder: Path, rows: Rows) -> None:
    features = rows.features
    if not config.pictures:
        write_projector(folder, rows)
        return
    if len(features) > most_sprites():
        raise UserError(
            f"{config.features}: has more than {most_sprites()} rows, the most whose pictures fit into one "
            "file; leave out --pictures."
        )
    with progress("pictures", len(features)) as bar:

        def picture(row: int) -> NDArray[np.uint8] | None:
            bar.update(row + 1)
            try:
                frames = clip_frames(features, row)
            except MachineError:  # such as a network fault
                raise
            except UserError:
                return None
            return frames[len(frames) // 2]

        drawn = write_projector(folder, rows, picture)
    if drawn < len(features):
        warn(f"{many(len(features) - drawn, 'row')} without a picture: the videos cannot be read.")
