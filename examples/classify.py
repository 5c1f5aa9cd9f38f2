"""Label videos from a few labelled ones: python examples/classify.py WEIGHTS LABELLED_LIST FOLDER

Extracts features of both, fits a linear classifier to those of the list, and prints its prediction for each
video of the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dsm.data.folders import find_list
from dsm.data.reading import ClipConfig
from dsm.devices import best_device
from dsm.evaluate.extract import extract_features
from dsm.models.weights import load_weights


@dataclass(frozen=True)
class Options:
    weights: tyro.conf.Positional[str]
    labelled: tyro.conf.Positional[Path]
    folder: tyro.conf.Positional[Path]


def main(options: Options) -> None:
    loaded = load_weights(options.weights)
    clip = ClipConfig(**loaded.config.get("clip", {}))
    encoder = loaded.module.to(best_device())
    known, unknown = (
        extract_features(encoder, find_list(source), clip) for source in (options.labelled, options.folder)
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(known.features, known.labels)
    probabilities = model.predict_proba(unknown.features)
    for path, row in zip(unknown.paths, probabilities, strict=True):
        print(f"{path}\t{model.classes_[row.argmax()]}\t{row.max():.2f}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
