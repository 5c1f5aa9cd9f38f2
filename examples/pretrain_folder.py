"""Pretrain an encoder on a folder of unlabelled videos: python examples/pretrain_folder.py FOLDER OUT

After Ctrl-C, the same command continues.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.data.folders import find_list
from dsm.data.lists import write_list
from dsm.data.reading import ClipConfig
from dsm.models.checkpoint_file import list_checkpoints
from dsm.train.config import DataConfig
from dsm.train.pretrain import PretrainConfig, pretrain


@dataclass(frozen=True)
class Options:
    folder: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    backbone: str = "tiny"
    steps: int = 2000
    batch_size: int = 16


def main(options: Options) -> None:
    videos = find_list(options.folder)
    listed = options.out.with_suffix(".txt")
    write_list(listed, videos)
    pretrain(
        PretrainConfig(
            data=DataConfig(listed, root=options.folder, batch_size=options.batch_size, cache_mb=1000),
            out=options.out,
            method="dsm",
            backbone=options.backbone,
            steps=options.steps,
            clip=ClipConfig(frames=8, stride=2, resize=80, size=64),
            resume=bool(list_checkpoints(options.out)),
        )
    )
    print(f"an encoder: dsm.load_encoder({str(options.out)!r})")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
