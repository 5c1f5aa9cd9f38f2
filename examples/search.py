"""The videos of a folder that move most like a given one: python examples/search.py WEIGHTS FOLDER VIDEO"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.data.folders import find_list
from dsm.data.reading import ClipConfig
from dsm.devices import best_device
from dsm.evaluate.extract import extract_features
from dsm.evaluate.nearest import nearest
from dsm.models.weights import load_weights


@dataclass(frozen=True)
class Options:
    weights: tyro.conf.Positional[str]
    folder: tyro.conf.Positional[Path]
    video: tyro.conf.Positional[Path]
    k: int = 5


def main(options: Options) -> None:
    loaded = load_weights(options.weights)
    clip = ClipConfig(**loaded.config.get("clip", {}))
    encoder = loaded.module.to(best_device())
    archive, query = (
        extract_features(encoder, find_list(source), clip) for source in (options.folder, options.video)
    )
    found = nearest(archive.features, query.features, options.k)
    for place, cosine in zip(found.places[0], found.similarities[0], strict=True):
        print(f"{cosine:.3f}  {archive.paths[place]}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
