"""The attentive probe on cached tokens, and extraction in other precisions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from published import FRAMES, SIZE, save_published

from dsm import extract, probe
from dsm.errors import UserError
from dsm.evaluate.attentive import Tokens, attentive_probe, means_of_tokens
from dsm.evaluate.extract import as_array
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import Features
from dsm.evaluate.probe import linear_probe
from dsm.models.precision import check_precision, fast_in_bf16
from dsm.models.weights import load_weights
from dsm.models.zoo import create_model


def hidden_in_one_token(count: int, seed: int) -> Features:
    """Tokens of which one, at a random place, is marked and says the label; the mean does not."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    tokens = rng.normal(size=(count, 16, 8))
    tokens[:, :, 0] = 0
    place = rng.integers(0, 16, count)
    rows = np.arange(count)
    tokens[rows, place, 0] = 4
    tokens[rows, place, 1] = np.where(labels, 2, -2)
    tokens[:, :, 1] -= tokens[:, :, 1].mean(1, keepdims=True)  # nothing is left in the mean
    flat = tokens.reshape(count, -1).astype(np.float32)
    return Features(flat, labels, [f"{n}" for n in range(count)], {"tokens": 16})


def test_what_one_token_knows_is_found_by_attention_and_not_in_the_mean() -> None:
    train, test = hidden_in_one_token(300, 0), hidden_in_one_token(100, 1)
    (hits,) = attentive_probe(train, [test])
    (linear,) = linear_probe(means_of_tokens(train), [means_of_tokens(test)])
    assert hits.mean() > 0.9
    assert linear.mean() < 0.65
    (again,) = attentive_probe(train, [test])
    assert np.array_equal(hits, again)
    for tokens, match in (
        (0, "needs tokens"),
        (7, "which cannot be 7 tokens"),
        ("x", "which cannot be 'x' tokens"),
    ):
        with pytest.raises(UserError, match=match):
            attentive_probe(replace(train, meta={"tokens": tokens}), [test])


def test_tokens_are_extracted_and_probed(scenes: Path, tmp_path: Path) -> None:
    save_published("videomae-pretrained", tmp_path / "theirs")
    weights = f"hf:{tmp_path / 'theirs'}"
    for part in ("train", "test"):
        extract(
            weights=weights, data=scenes / f"{part}.txt", out=tmp_path / f"{part}.npz", windows=1, workers=0,
            tokens=8,
        )  # fmt: skip
    extract(weights=weights, data=scenes / "test.txt", out=tmp_path / "mean.npz", windows=1, workers=0)
    tokens = load_features(tmp_path / "test.npz")
    assert tokens.features.shape[1] == 8 * 32
    # All 8 tokens of 4 frames of 32 x 32 pixels, whose mean is this model's feature.
    whole = means_of_tokens(tokens).features
    assert np.allclose(whole, load_features(tmp_path / "mean.npz").features, atol=1e-5)
    assert tokens.meta["encoder"] == load_features(tmp_path / "mean.npz").meta["encoder"], "it is the same"
    result = probe(train=tmp_path / "train.npz", test=tmp_path / "test.npz", out=tmp_path / "p")
    assert {row.metric for row in result.rows} >= {
        "linear_probe",
        "attentive_probe",
        "attentive_probe_mean_class",
    }


def test_every_encoder_with_places_has_tokens() -> None:
    tiny = create_model("tiny").eval()
    clip = torch.randn(2, 3, 8, 64, 64)
    with torch.no_grad():
        tokens = Tokens(tiny, 16)(clip).reshape(2, 16, -1)
        places = tiny.feature_map(clip).flatten(2).transpose(1, 2)  # type: ignore[operator]
        assert places.shape[1] == 64
        assert torch.allclose(tokens[:, 3], places[:, 12:16].mean(1), atol=1e-6)
        with pytest.raises(UserError, match="has only 64 tokens"):
            Tokens(tiny, 65)(clip)
        with pytest.raises(UserError, match="neither tokens nor a feature map"):
            Tokens(torch.nn.Flatten(), 1)(clip)


def test_bf16_is_close_and_fp16_needs_a_gpu(tmp_path: Path) -> None:
    save_published("videomae", tmp_path)
    module = load_weights(f"hf:{tmp_path}").module
    clip = torch.randn(2, 3, FRAMES, SIZE, SIZE)
    exact, coarse = as_array(module, clip), as_array(module, clip, "bf16")
    assert 0 < np.abs(exact - coarse).max() < 0.05 * np.abs(exact).max()
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        check_precision("fp16", "cpu")
    if fast_in_bf16("cpu"):
        check_precision("bf16", "cpu")
