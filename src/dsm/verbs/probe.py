"""``dsm probe``: how well simple classifiers do on features."""

from __future__ import annotations

import numpy as np

from dsm.errors import UserError
from dsm.evaluate.attentive import attentive_probe, means_of_tokens
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import Features, numbered_alike, same_encoder
from dsm.evaluate.probe import choose_strength, fit_probe, linear_probe, need_classes
from dsm.evaluate.retrieval import knn_probe
from dsm.files import csv_text, write_text
from dsm.intervals import share_interval
from dsm.runs.claims import claim_files
from dsm.runs.results import RESULTS, row_of, rows_table, run_and_seed, share, write_results
from dsm.settings import takes_settings
from dsm.terminal import many, warn
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import ProbeConfig

PREDICTIONS = "predictions.csv"


@takes_settings(ProbeConfig)
def probe(config: ProbeConfig) -> Result:
    """Fit a linear and a nearest-neighbour classifier on training features; write their test accuracies."""
    file, predicted = config.out / RESULTS, config.out / PREDICTIONS
    claim_files(file, predicted, overwrite=config.overwrite)
    train, test = load_features(config.train), load_features(config.test)
    test = numbered_alike(train, test, (str(config.train), str(config.test)))
    if not train.labelled:
        raise UserError(
            f"{config.train}: a probe needs a label for every training video, but some have none; `dsm "
            "explore` groups videos without labels, and exports the labels that you give."
        )
    need_classes(train)
    inside = train.groups(config.grouping)
    groups = test.groups(config.grouping)
    with_tokens = train, test
    train, test = means_of_tokens(train), means_of_tokens(test)
    unseen = np.setdiff1d(test.labels[test.labels >= 0], train.labels)
    if len(unseen):
        warn(
            f"{many(len(unseen), 'class of the test list is', 'classes of the test list are')} not in the "
            f"training list, so {many(int(np.isin(test.labels, unseen).sum()), 'video')} can never be right."
        )
    by = "groups" if config.grouping.given else "videos"
    try:
        chosen = choose_strength(train, inside, config.folds)
        best = max(chosen.accuracy.values())
        strength, how = chosen.strength, f"by {by} in cross-validation ({best:.1%} there)"
    except UserError:
        if inside is None or by == "groups":
            raise
        strength, how = 1.0, "not chosen by cross-validation, because there are too few videos"
    if not test.labelled:
        return _predict(config, train, test, strength, how)
    predicted.unlink(missing_ok=True)  # of earlier results
    (linear,) = linear_probe(train, [test], strength=strength)
    knn = knn_probe(train, test, k=config.k, temperature=config.temperature)
    run, seed = run_and_seed(test.meta)
    name = str(test.meta.get("list", "test"))
    rows = []
    measured = [("linear_probe", linear), ("knn", knn)]
    if train is not with_tokens[0]:
        (attentive,) = attentive_probe(with_tokens[0], [with_tokens[1]])
        measured.append(("attentive_probe", attentive))
    for metric, hits in measured:
        rows.append(share(run, seed, name, metric, hits, groups=groups))
        mean = share_interval(hits, labels=test.labels, groups=groups)
        rows.append(row_of(run, seed, name, f"{metric}_mean_class", mean, len(hits)))
    write_results(file, rows)
    most = np.bincount(test.labels).max() / len(test)
    lines = [
        f"regularisation C = {strength:g}, {how}; the most frequent class has {most:.1%} of the test videos",
        f"written: {file}",
    ]
    return Result(rows, [file], [rows_table(rows)], lines)


def _predict(config: ProbeConfig, train: Features, test: Features, strength: float, how: str) -> Result:
    """Write the linear probe's predictions for videos without labels, most confident first."""
    same_encoder(train, test, ("train", "test"))
    model = fit_probe(train, strength=strength)
    probabilities = model.predict_proba(test.features)
    most = probabilities.max(1)
    known = train.meta.get("classes")
    names = [str(name) for name in known] if isinstance(known, list) else []
    labels = model.classes_[probabilities.argmax(1)].tolist()
    lines = [["path", "begin", "end", "label", "name", "probability"]]
    for row in np.argsort(-most, kind="stable").tolist():
        times = test.times_of(row)
        span = [f"{one:.2f}" for one in times] if times else ["", ""]
        name = names[labels[row]] if labels[row] < len(names) else ""
        lines.append([test.paths[row], *span, str(labels[row]), name, f"{most[row]:.4f}"])
    file = config.out / PREDICTIONS
    write_text(file, csv_text(lines))
    (config.out / RESULTS).unlink(missing_ok=True)  # of earlier results
    notes = [
        f"regularisation C = {strength:g}, {how}",
        "not every test video has a label, so the accuracies of the linear and k-NN probes are left out",
        f"written: {file}",
    ]
    return Result((), [file], [], notes)
