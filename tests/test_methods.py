"""Losses against slow loops, golden files, and what each method does in a step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric

from dsm.errors import UserError
from dsm.methods import METHODS, MethodSettings, create_method
from dsm.methods.dsm import DsmConfig
from dsm.methods.embedding_health import margins
from dsm.methods.losses import info_nce, nt_xent, temporal_consistency, triplet
from dsm.methods.moco import MocoConfig
from dsm.methods.momentum import MomentumTwin, Queue, ramped
from dsm.methods.settings import DsmTripletConfig, SimclrConfig
from dsm.models.heads import projection_head
from dsm.models.zoo import create_model
from dsm.train.config import DataConfig, PretrainConfig
from dsm.train.optim import OptimConfig
from dsm.train.prepare import prepare


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def info_nce_slowly(query, key, temperature, queue=None, in_batch=False, negatives=None) -> float:
    query, key, losses = query.detach(), key.detach(), []
    for i in range(len(query)):
        positive = math.exp(float(query[i] @ key[i]) / temperature)
        others = []
        if in_batch:
            others += [float(query[i] @ key[j]) for j in range(len(key)) if j != i]
        if queue is not None:
            others += [float(query[i] @ one) for one in queue]
        if negatives is not None:
            others += [float(query[i] @ one) for one in negatives[i]]
        losses.append(-math.log(positive / (positive + sum(math.exp(o / temperature) for o in others))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("with_queue", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_info_nce_equals_the_slow_loop(in_batch: bool, with_queue: bool, count: int) -> None:
    query, key, queue = unit(5, 8, seed=1), unit(5, 8, seed=2), unit(7, 8, seed=3)
    negatives = unit(5, count, 8, seed=4) if count else None
    given = {"queue": queue if with_queue else None, "in_batch": in_batch, "negatives": negatives}
    found = info_nce(query, key, temperature=0.2, **given)
    assert float(found) == pytest.approx(info_nce_slowly(query, key, 0.2, **given), abs=1e-5)


def test_golden_info_nce(shared: Path) -> None:
    golden = {
        name: torch.from_numpy(value) for name, value in np.load(shared / "golden/contrast.npz").items()
    }
    found = info_nce(
        golden["q"], golden["k"], temperature=0.07, queue=golden["memory"], negatives=golden["n"][:, None]
    )
    assert float(found) == pytest.approx(float(golden["loss_infonce"]), abs=1e-5)


def test_golden_triplets_and_temporal_consistency(shared: Path) -> None:
    golden = {
        name: torch.from_numpy(value) for name, value in np.load(shared / "golden/contrast.npz").items()
    }
    q, k, n = golden["q"], golden["k"], golden["n"]
    assert float(triplet(q, k, n, 0.5)) == pytest.approx(float(golden["loss_triplet_intra"]), abs=1e-5)
    assert float(triplet(q, k, n.flip(0), 0.5)) == pytest.approx(
        float(golden["loss_triplet_inter"]), abs=1e-5
    )
    found = temporal_consistency(golden["feat_o"], golden["feat_r"])
    assert float(found) == pytest.approx(float(golden["loss_tcr"]), abs=1e-5)


def test_triplet_equals_the_slow_loop() -> None:
    anchor, positive, negative = (unit(6, 8, seed=seed) for seed in (1, 2, 3))
    slow = [
        max(0.0, math.dist(a.tolist(), p.tolist()) - math.dist(a.tolist(), n.tolist()) + 0.5)
        for a, p, n in zip(anchor, positive, negative, strict=True)
    ]
    assert float(triplet(anchor, positive, negative, 0.5)) == pytest.approx(sum(slow) / 6, abs=1e-4)


def test_the_queue_holds_the_newest_keys_whatever_the_batch() -> None:
    queue = Queue(5, 1)
    assert queue.current() is None
    pushed: list[float] = []
    for size in (2, 2, 3, 7, 1):
        batch = torch.arange(len(pushed), len(pushed) + size, dtype=torch.float32)[:, None]
        queue.push(batch)
        pushed += batch[:, 0].tolist()
        current = queue.current()
        assert current is not None
        assert sorted(current[:, 0].tolist()) == sorted(pushed[-5:])


def test_the_queue_is_in_the_state_dict() -> None:
    queue = Queue(4, 2)
    queue.push(unit(3, 2))
    other = Queue(4, 2)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.current(), queue.current())
    assert int(other.pointer) == 3
    for one in (queue, other):
        one.push(torch.full((2, 2), 0.5))
    assert torch.equal(other.current(), queue.current())


def test_the_momentum_encoder_follows_without_gradients() -> None:
    network = torch.nn.Linear(2, 2)
    twin = MomentumTwin(network)
    before = twin.network.weight.clone()
    with torch.no_grad():
        network.weight.add_(1.0)
    twin.follow(network, 0.9)
    assert torch.allclose(twin.network.weight, before + 0.1)
    assert not any(parameter.requires_grad for parameter in twin.parameters())


@pytest.mark.parametrize("joint", [False, True])
def test_a_momentum_encoder_that_gives_no_keys_does_not_follow(joint: bool) -> None:
    settings = MethodSettings(moco=MocoConfig(joint=joint, momentum=0.9))
    method = create_method("moco", create_model("tiny"), settings)
    before = [one.clone() for one in method.key.parameters()]
    with torch.no_grad():
        for one in method.query.parameters():
            one.add_(1.0)
    method.after_step(None, 0.5)
    stays = all(torch.equal(*pair) for pair in zip(before, method.key.parameters(), strict=True))
    assert stays == joint


def test_compiling_takes_the_momentum_encoder_too() -> None:
    method = create_method("moco", create_model("tiny"), MethodSettings())
    config = PretrainConfig(DataConfig(Path("no.txt")), out=Path("no"), compile=True)
    prepare(method, config, Fabric(accelerator="cpu", devices=1))
    for encoder in (method.query.encoder, method.key.network.encoder):
        assert encoder._compiled_call_impl is not None


def test_the_ramp_runs_from_the_momentum_to_one() -> None:
    assert ramped(0.9, 0.0) == pytest.approx(0.9)
    assert ramped(0.9, 1.0) == pytest.approx(1.0)
    assert 0.9 < ramped(0.9, 0.5) < 1.0


def test_margins_count_nearer_pairs() -> None:
    anchor = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    positive = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    negatives = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]])
    metrics = margins(anchor, positive, negatives)
    assert {name: float(value) for name, value in metrics.items()} == {
        "positive": 0.5, "negative": 0.5, "motion": 0.5,
    }  # fmt: skip


def test_a_tie_with_the_negative_does_not_count_as_motion() -> None:
    """As after a collapse of all embeddings."""
    same = torch.eye(2)
    assert float(margins(same, same, same[:, None])["motion"]) == 0


SETTINGS = MethodSettings(
    moco=MocoConfig(queue=8, momentum=0.9), dsm=DsmConfig(queue=8, momentum=0.9, negatives=2, joint=False)
)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_step_gives_every_trained_weight_a_finite_gradient(name: str) -> None:
    torch.manual_seed(0)
    method = create_method(name, create_model("tiny"), SETTINGS)
    views = {view.name: torch.randn(4, 3, 8, 32, 32) for view in method.views}
    output = method(views)
    output.loss.backward()
    for parameter in method.query.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    method.after_step(output.keys, 0.5)
    again = method(views)
    assert torch.isfinite(again.loss)


def test_moco_has_no_disturbance_and_no_motion_broken_negative() -> None:
    method = create_method("moco", create_model("tiny"), SETTINGS)
    assert [view.name for view in method.views] == ["anchor", "positive"]
    assert all(view.spatial is None and view.temporal is None for view in method.views)


@pytest.mark.parametrize("on", ["both", "anchor"])
def test_dsm_breaks_the_scene_and_the_negatives_motion(on: Literal["both", "anchor"]) -> None:
    settings = MethodSettings(dsm=DsmConfig(negatives=2, sld_on=on))
    method = create_method("dsm", create_model("tiny"), settings)
    by_name = {view.name: view for view in method.views}
    assert by_name["anchor"].spatial
    assert not by_name["anchor"].temporal
    assert bool(by_name["positive"].spatial) == (on == "both")
    assert not by_name["positive"].temporal
    assert by_name["negative0"].temporal
    assert by_name["negative1"].temporal


@pytest.mark.parametrize(("joint", "batches"), [(True, [12]), (False, [4, 4, 4])])
def test_a_triplet_is_encoded_in_one_batch_or_as_in_the_recipes_in_three(
    joint: bool, batches: list[int]
) -> None:
    """In one batch, BatchNorm's statistics are those of all three."""
    method = create_method(
        "dsm-triplet", create_model("tiny"), MethodSettings(dsm_triplet=DsmTripletConfig(joint=joint))
    )
    seen: list[int] = []
    method.query.encoder.register_forward_pre_hook(lambda _, clips: seen.append(len(clips[0])))
    views = {view.name: torch.randn(4, 3, 4, 32, 32) for view in method.views}
    output = method(views)
    assert seen == batches
    by_hand = method.query(torch.cat(list(views.values())))  # the same statistics, if it was one batch
    assert torch.allclose(output.negatives[:, 0], by_hand[8:].detach(), atol=1e-5) == joint


@pytest.mark.parametrize("symmetric", [False, True])
def test_joint_encodes_all_views_in_one_batch(symmetric: bool) -> None:
    torch.manual_seed(0)
    config = DsmConfig(negatives=2, symmetric=symmetric, motion_weight=0)
    method = create_method("dsm", create_model("tiny"), MethodSettings(dsm=config))
    views = {view.name: torch.randn(4, 3, 8, 32, 32) for view in method.views}
    a, p, *n = method.query(torch.cat(list(views.values()))).split(4)  # training mode: the batch counts
    negatives = torch.stack(n, dim=1)
    by_hand = info_nce_slowly(a, p, config.temperature, None, True, negatives)
    if symmetric:
        by_hand = (by_hand + info_nce_slowly(p, a, config.temperature, None, True, negatives)) / 2
    output = method(views)
    assert float(output.loss) == pytest.approx(by_hand, rel=1e-5)
    for name in views:
        views[name].requires_grad_()
    gradients = torch.autograd.grad(method(views).loss, list(views.values()))
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)


def test_nt_xent_equals_the_slow_loop() -> None:
    one, two = unit(4, 8, seed=1), unit(4, 8, seed=2)
    both, slowly = torch.cat([one, two]), 0.0
    for i in range(8):
        others = sum(math.exp(float(both[i] @ both[j]) / 0.2) for j in range(8) if j != i)
        slowly -= math.log(math.exp(float(both[i] @ both[(i + 4) % 8]) / 0.2) / others) / 8
    assert float(nt_xent(one, two, temperature=0.2)) == pytest.approx(slowly, rel=1e-5)


def test_a_loss_without_negatives_is_refused() -> None:
    for config in (MocoConfig, DsmConfig):
        with pytest.raises(UserError, match=r"nothing to push from|negatives"):
            config(queue=0, in_batch=False, **({"negatives": 0} if config is DsmConfig else {}))


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        (DsmTripletConfig, {"margin": 0.0}),
        (DsmTripletConfig, {"margin": math.nan}),
        (SimclrConfig, {"temperature": math.nan}),
        (MocoConfig, {"temperature": math.nan}),
        (OptimConfig, {"lr": math.nan}),
        (OptimConfig, {"clip": 0.0}),
        (OptimConfig, {"lr_batch": 0}),
    ],
)
def test_values_that_cannot_train_are_refused(settings: Any, values: dict[str, float]) -> None:
    with pytest.raises(UserError, match="above 0"):
        settings(**values)


def test_losses_take_their_embeddings_by_name() -> None:
    one, two = unit(4, 8, seed=1), unit(4, 8, seed=2)
    by_name = info_nce(query=one, key=two, temperature=0.1, in_batch=True)
    assert by_name == info_nce(one, two, temperature=0.1, in_batch=True)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_each_method_learns_and_those_with_negatives_learn_motion(name: str) -> None:
    """Eight noisy clips; a reversed clip has the same frames and only another motion."""
    torch.manual_seed(1)
    settings = MethodSettings(moco=MocoConfig(momentum=0.5), dsm=DsmConfig(momentum=0.5))
    method = create_method(name, create_model("tiny", widths=(4, 8, 8, 8)), settings)
    optimizer = torch.optim.AdamW(method.parameters(), lr=5e-3)
    scenes = torch.rand(8, 3, 16, 16)
    clips = torch.stack(
        [
            torch.stack([scene.roll((1 + i % 3) * t, -1) for t in range(6)], 1)
            for i, scene in enumerate(scenes)
        ]
    )
    losses, motion = [], []
    for _ in range(80):
        views = {
            view.name: (clips.flip(2) if view.name.startswith("negative") else clips)
            + 0.3 * torch.randn_like(clips)
            for view in method.views
        }
        output = method(views)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step(output.keys, 0.5)
        losses.append(float(output.loss.detach()))
        motion.append(float(margins(output.anchor, output.positive, output.negatives).get("motion", -1)))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    if name.startswith("dsm"):
        begin = 2 if name == "dsm-triplet" else 5  # it sees the motion from the third step on
        assert np.mean(motion[:begin]) < 0.75
        assert np.mean(motion[-5:]) > 0.9


def test_batchnorm_after_the_head_spreads_embeddings_that_are_nearly_alike() -> None:
    """Features in a narrow cone, as of an encoder that tells no clips apart."""
    torch.manual_seed(0)
    features = 5 + 0.01 * torch.randn(64, 16)
    embedded = {}
    for kind in ("linear", "mlp-bn"):
        head = projection_head(16, 8, kind)
        embedded[kind] = F.normalize(head(features), dim=1)
    assert float(embedded["linear"].mean(0).norm()) > 0.999
    assert float(embedded["mlp-bn"].mean(0).norm()) < 0.1


def test_losses_keep_the_precision_of_their_embeddings() -> None:
    """Cosines near 1 that are equal in bfloat16."""
    torch.manual_seed(0)
    query, key, negative = F.normalize(1 + 0.05 * torch.randn(3, 8, 32), dim=2)
    losses = {
        "info_nce": lambda: info_nce(
            query, key, temperature=0.1, queue=negative, in_batch=True, negatives=negative[:, None]
        ),
        "nt_xent": lambda: nt_xent(query, key, temperature=0.1),
        "triplet": lambda: triplet(query, key, negative, 0.5),
    }
    for name, loss in losses.items():
        expected = loss()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(loss(), expected), name
