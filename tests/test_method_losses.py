"""The methods' losses by hand, with an encoder that returns its input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.methods import MethodSettings, create_method
from dsm.methods.be import BeConfig
from dsm.methods.classify import Classify, ClassifyConfig
from dsm.methods.dsm import DsmConfig
from dsm.methods.losses import info_nce, temporal_consistency, triplet
from dsm.methods.moco import MocoConfig
from dsm.methods.triplet import DsmTripletConfig
from dsm.models.zoo import create_model


class Same(nn.Module):
    feature_dim = 8

    def forward(self, clip: Tensor) -> Tensor:
        return clip


def vectors(seed: int, count: int = 4) -> Tensor:
    """Embeddings (count, 8) of length 1."""
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def without_heads(name: str, **settings: Any) -> Any:
    method = create_method(name, Same(), MethodSettings(**settings))
    method.query.head = nn.Identity()
    if hasattr(method, "key"):
        method.key.network.head = nn.Identity()
    return method


ANCHOR, POSITIVE, NEGATIVE = vectors(1), vectors(2), vectors(3)


def test_moco_pushes_from_its_queue_and_the_batch() -> None:
    method = without_heads("moco", moco=MocoConfig(queue=6, dim=8))
    method.queue.push(vectors(4, count=6))
    expected = info_nce(ANCHOR, POSITIVE, temperature=0.1, queue=vectors(4, count=6), in_batch=True)
    found = method({"anchor": ANCHOR, "positive": POSITIVE}).loss
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_the_symmetric_loss_is_the_mean_of_both_directions() -> None:
    method = without_heads("moco", moco=MocoConfig(symmetric=True, dim=8))
    ways = [
        float(info_nce(one, two, temperature=0.1, in_batch=True))
        for one, two in ((ANCHOR, POSITIVE), (POSITIVE, ANCHOR))
    ]
    assert abs(ways[0] - ways[1]) > 0.01
    found = method({"anchor": ANCHOR, "positive": POSITIVE}).loss
    assert float(found) == pytest.approx(sum(ways) / 2, rel=1e-5)


def test_dsm_pushes_from_each_clips_own_negatives() -> None:
    method = without_heads("dsm", dsm=DsmConfig(dim=8, negatives=2, motion_weight=0, symmetric=False))
    own = torch.stack([NEGATIVE, vectors(5)], dim=1)
    expected = info_nce(ANCHOR, POSITIVE, temperature=0.1, in_batch=True, negatives=own)
    views = {"anchor": ANCHOR, "positive": POSITIVE, "negative0": own[:, 0], "negative1": own[:, 1]}
    assert float(method(views).loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("joint", [False, True])
def test_a_motion_weight_gives_motion_broken_negatives_a_separate_loss(joint: bool) -> None:
    config = DsmConfig(dim=8, negatives=2, motion_weight=3, joint=joint)
    own = torch.stack([NEGATIVE, vectors(5)], dim=1)
    ways = []
    for one, two in ((ANCHOR, POSITIVE), (POSITIVE, ANCHOR)):
        pairs = [
            math.log1p(math.exp((float(a @ n) - float(a @ p)) / 0.1))
            for a, p, negatives in zip(one, two, own, strict=True)
            for n in negatives
        ]
        others = float(info_nce(one, two, temperature=0.1, in_batch=True))
        ways.append(others + 3 * sum(pairs) / len(pairs))
    assert abs(ways[0] - ways[1]) > 0.01
    views = {"anchor": ANCHOR, "positive": POSITIVE, "negative0": own[:, 0], "negative1": own[:, 1]}
    found = float(without_heads("dsm", dsm=config)(views).loss)
    assert found == pytest.approx(sum(ways) / 2, rel=1e-5)


@pytest.mark.parametrize(("on", "bent"), [("anchor", "10"), ("positive", "01"), ("both", "11")])
def test_sld_applies_to_the_configured_views(on: Any, bent: str) -> None:
    method = without_heads("dsm", dsm=DsmConfig(sld_on=on, dim=8))
    assert [view.spatial is not None for view in method.views[:2]] == [one == "1" for one in bent]


def test_dsm_triplet_weighs_its_own_and_the_next_clips_negative() -> None:
    method = without_heads("dsm-triplet", dsm_triplet=DsmTripletConfig(dim=8, intra=2, inter=0.5))
    expected = 2 * triplet(ANCHOR, POSITIVE, NEGATIVE, 0.5)
    expected += 0.5 * triplet(ANCHOR, POSITIVE, NEGATIVE.roll(1, dims=0), 0.5)
    found = method({"anchor": ANCHOR, "positive": POSITIVE, "negative": NEGATIVE}).loss
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("ramp", "progress", "share"), [(True, 1, 0), (False, 1, 0.5), (True, 0, 0.5)])
def test_the_momentum_rises_if_configured(ramp: bool, progress: float, share: float) -> None:
    encoder = nn.Linear(8, 8)
    encoder.feature_dim = 8  # type: ignore[assignment]
    config = MocoConfig(momentum=0.5, ramp=ramp, head="linear", dim=8)
    method = create_method("moco", encoder, MethodSettings(moco=config))
    before = method.key.network.encoder.weight.clone()
    with torch.no_grad():
        method.query.encoder.weight.add_(1)
    method.after_step(None, progress)
    assert torch.allclose(method.key.network.encoder.weight, before + share)


def test_be_adds_the_consistency_of_a_clip_and_its_reverse() -> None:
    generator = torch.Generator().manual_seed(0)
    views = {name: torch.randn(3, 3, 8, 32, 32, generator=generator) for name in ("anchor", "positive")}
    found = []
    for consistency in (0.0, 2.0):
        torch.manual_seed(0)
        settings = MethodSettings(be=BeConfig(consistency=consistency))
        method = create_method("be", create_model("tiny"), settings).eval()
        found.append(float(method(views).loss.detach()))
    feature_map = method.query.encoder.feature_map
    with torch.no_grad():
        apart = temporal_consistency(feature_map(views["anchor"]), feature_map(views["positive"].flip(2)))
    assert found[1] - found[0] == pytest.approx(2 * float(apart), rel=1e-3)


def test_mixup_mixes_labels_as_it_mixes_clips() -> None:
    torch.manual_seed(0)
    encoder = nn.Flatten()
    encoder.feature_dim = 6  # type: ignore[assignment]
    method = Classify(encoder, ClassifyConfig(dropout=0, mixup=0.4), torch.tensor([1, 1, 1]))
    nn.init.normal_(method.query.head.weight)
    clips, label = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
    torch.manual_seed(3)
    found = method({"clip": clips, "label": label}).loss
    torch.manual_seed(3)  # the same draws
    share, order = float(torch.distributions.Beta(0.4, 0.4).sample()), torch.randperm(5)
    assert abs(share - 0.5) > 0.05
    log_probabilities = method.query.head(share * clips + (1 - share) * clips[order]).log_softmax(1)
    slowly = -sum(
        share * float(log_probabilities[i, label[i]])
        + (1 - share) * float(log_probabilities[i, label[order[i]]])
        for i in range(5)
    ) / len(clips)
    assert float(found.detach()) == pytest.approx(slowly, rel=1e-5)


def test_with_mixup_an_answer_counts_by_the_share_of_its_label() -> None:
    encoder = nn.Flatten()
    encoder.feature_dim = 6  # type: ignore[assignment]
    method = Classify(encoder, ClassifyConfig(dropout=0, mixup=0.4), torch.tensor([1, 1, 1]))
    nn.init.normal_(method.query.head.weight)
    clips, label = torch.randn(9, 6), torch.arange(9) % 3
    torch.manual_seed(3)
    output = method({"clip": clips, "label": label})
    torch.manual_seed(3)  # the same draws
    share, order = float(torch.distributions.Beta(0.4, 0.4).sample()), torch.randperm(9)
    answers = method.query.head(share * clips + (1 - share) * clips[order]).argmax(1).tolist()
    slowly = sum(
        share * (answer == one) + (1 - share) * (answer == other)
        for answer, one, other in zip(answers, label.tolist(), label[order].tolist(), strict=True)
    )
    assert output.metrics is not None
    assert float(output.metrics["top1"]) == pytest.approx(slowly / 9, abs=1e-6)
