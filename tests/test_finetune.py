"""Fine-tuning, the linear probe and the video-level test."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import CLIP, equal, small_run, weights_of
from torch import nn

from dsm.data.clips import cut_out
from dsm.data.lists import read_list
from dsm.data.settings import ClipConfig
from dsm.distributed import check_norms, synchronise_norms
from dsm.errors import UserError
from dsm.evaluate.video_test import Predictions, predict
from dsm.methods.classify import Classify, ClassifyConfig
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.weights import load_classifier, load_encoder, load_weights
from dsm.models.zoo import create_model
from dsm.runs.logs import read_metrics
from dsm.runs.results import read_results
from dsm.train.finetune import FinetuneConfig, FinetuneData, build_trainer, finetune
from dsm.train.optim import OptimConfig
from dsm.train.pretrain import pretrain
from dsm.verbs.settings.evaluation import VideoTestConfig, VideoTestData
from dsm.verbs.video_test import test as video_test
from dsm.views import Augment


def config(scenes: Path, out: Path, **changes: object) -> FinetuneConfig:
    base = FinetuneConfig(
        data=FinetuneData(scenes / "train.txt", batch_size=8, workers=0, test=scenes / "test_free.txt"),
        out=out, backbone="tiny", steps=7, clip=CLIP, test_every=1, test_windows=1,
        optim=OptimConfig("adamw", lr=1e-3, warmup=2), log_every=1, save_every=5,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def test_fine_tuning_learns_its_training_videos_and_is_tested(scenes: Path, tmp_path: Path) -> None:
    run = finetune(
        config(
            scenes, tmp_path / "run", steps=240, head=ClassifyConfig(dropout=0.0), test_every=48,
            data=FinetuneData(
                scenes / "train.txt", batch_size=8, workers=0, cache_mb=64, test=scenes / "test_free.txt"
            ),
            augment=Augment(rotate=0, jitter=0), optim=OptimConfig("adamw", lr=3e-3, warmup=2),
        )
    )  # fmt: skip
    lines = [line for line in read_metrics(run) if "top1" in line]
    assert (
        np.mean([line["top1"] for line in lines[:10]])
        < 0.4
        < 0.8
        < np.mean([line["top1"] for line in lines[-10:]])
    )
    assert (run / "checkpoints" / "best.pt").is_file()
    out = tmp_path / "results"
    data = VideoTestData(scenes / "train.txt", workers=0)
    rows = video_test(VideoTestConfig(str(run), data, out, windows=2)).rows
    by_metric = {row.metric: row for row in rows}
    assert by_metric["top1"].value > 0.8  # on its own training videos
    assert by_metric["top5"].value >= by_metric["top1"].value
    assert by_metric["top1"].low is not None
    written = json.loads((out / "results.json").read_text())["rows"]
    assert [row["metric"] for row in written] == ["top1", "top5", "mean_class_top1"]
    predictions = list(csv.DictReader((out / "predictions.csv").open()))
    videos = read_list(scenes / "train.txt")
    assert [line["path"] for line in predictions] == list(videos.paths)
    right = np.mean([line["class"] == line["predicted1"] for line in predictions])
    assert right == pytest.approx(by_metric["top1"].value)
    assert (out / "confusion.png").read_bytes()[:4] == b"\x89PNG"
    names = (scenes / "classes.txt").read_text().split()
    assert {line["class"] for line in csv.DictReader((out / "classes.csv").open())} <= set(names)


def test_it_starts_from_the_given_weights(scenes: Path, tmp_path: Path) -> None:
    first = pretrain(small_run(scenes, tmp_path / "first", steps=1))
    trainer = build_trainer(config(scenes, tmp_path / "run", weights=str(first)))
    assert equal(trainer.method.query.encoder.state_dict(), load_encoder(first).state_dict())


def test_without_clip_settings_it_takes_the_clips_of_the_weights(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pretrain(small_run(scenes, tmp_path / "first", steps=1))
    again = finetune(config(scenes, tmp_path / "again", weights=str(first), clip=ClipConfig(), steps=1))
    printed = " ".join(capsys.readouterr().err.split())
    assert f"clips as in {first}: {CLIP.frames} frames of {CLIP.size} x {CLIP.size} pixels" in printed
    assert load_weights(again).config["clip"] == asdict(CLIP)
    finetune(config(scenes, again, weights=str(first), clip=ClipConfig(), steps=2, resume=True, extend=True))
    assert [line["step"] for line in read_metrics(again)] == [1, 2]

    other = replace(CLIP, stride=1)
    own = finetune(config(scenes, tmp_path / "own", weights=str(first), clip=other, steps=1))
    assert load_weights(own).config["clip"] == asdict(other)
    assert f"--clip.stride {CLIP.stride}" in capsys.readouterr().err


def test_a_run_records_its_kind_and_its_starting_weights(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pretrain(small_run(scenes, tmp_path / "first", steps=1))
    out = finetune(config(scenes, tmp_path / "run", weights=str(first), backbone="r3d18", steps=1))
    assert "has the backbone tiny; --backbone r3d18 is ignored" in " ".join(capsys.readouterr().err.split())
    assert json.loads((out / "config.json").read_text())["config"]["backbone"] == "tiny"
    again = finetune(config(scenes, tmp_path / "again", weights=str(out), steps=1))
    assert load_weights(again).config["begun_with"] == "dsm"
    scratch = finetune(config(scenes, tmp_path / "scratch", steps=1))
    assert load_weights(scratch).config["begun_with"] == "random"
    data = VideoTestData(scenes / "train.txt", workers=0)
    rows = video_test(VideoTestConfig(str(again), data, tmp_path / "tested", windows=1)).rows
    assert {row.run for row in rows} == {"dsm"}
    assert {row.run for row in read_results(again / "results.json")} == {"dsm"}
    assert {row.run for row in read_results(scratch / "results.json")} == {"random"}


def test_a_linear_probe_leaves_the_encoder_unchanged(scenes: Path, tmp_path: Path) -> None:
    first = pretrain(small_run(scenes, tmp_path / "first", steps=1))
    run = finetune(
        config(scenes, tmp_path / "run", weights=str(first), head=ClassifyConfig(linear_probe=True))
    )
    assert equal(load_encoder(run).state_dict(), load_encoder(first).state_dict())


def test_only_the_last_stages_are_trained_each_at_its_learning_rate(scenes: Path, tmp_path: Path) -> None:
    head = ClassifyConfig(train_from="stage2", stage_decay=0.5)
    trainer = build_trainer(config(scenes, tmp_path / "run", head=head))
    before = {name: tensor.clone() for name, tensor in trainer.method.query.encoder.state_dict().items()}
    assert {group["scale"] for group in trainer.optimizer.param_groups} == {0.25, 0.5, 1.0}
    trainer.run()
    rates = [group["lr"] / group["scale"] for group in trainer.optimizer.param_groups]
    assert rates == pytest.approx([rates[0]] * len(rates))
    for name, tensor in trainer.method.query.encoder.state_dict().items():
        frozen = name.startswith(("stages.stem", "stages.stage1"))
        assert torch.equal(tensor, before[name]) == frozen, name


@pytest.mark.parametrize("backbone", ["r3d18", "r2plus1d18", "i3d", "c3d", "s3d"])
def test_pooling_is_not_a_stage_and_a_norm_belongs_to_its_convolution(backbone: str) -> None:
    with torch.device("meta"):
        method = Classify(create_model(backbone), ClassifyConfig(stage_decay=0.5), torch.tensor([1, 1]))
    inside = "query.encoder.stages."
    found = {
        name.removeprefix(inside).split(".")[0]: method.rate(name)
        for name, _ in method.named_parameters()
        if name.startswith(inside)
    }
    rates = list(found.values())
    assert rates[-1] == 0.5
    assert {after / before for before, after in itertools.pairwise(rates)} <= {1.0, 2.0}
    if backbone == "r3d18":
        expected = {"conv1": 5, "norm1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1}
        assert found == {name: 0.5**behind for name, behind in expected.items()}


def test_an_unknown_stage_is_refused(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no stage 'stage9'; did you mean"):
        build_trainer(config(scenes, tmp_path / "run", head=ClassifyConfig(train_from="stage9")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "head", [ClassifyConfig(), ClassifyConfig(mixup=0.4, label_smoothing=0.1, balanced=True)]
)
def test_it_resumes_bit_for_bit(scenes: Path, tmp_path: Path, head: ClassifyConfig) -> None:
    """Dropout and mixup too: their random numbers come from the generator in checkpoints."""
    whole = finetune(config(scenes, tmp_path / "whole", head=head))
    part = Path(shutil.copytree(whole, tmp_path / "part"))
    list_checkpoints(part)[-1].unlink()
    finetune(config(scenes, part, head=head, resume=True))
    assert equal(weights_of(whole), weights_of(part))


def test_an_unreadable_test_list_does_not_empty_the_run_to_replace(scenes: Path, tmp_path: Path) -> None:
    run = finetune(config(scenes, tmp_path / "run"))
    (tmp_path / "gone.txt").write_text("gone.mp4 0\ngone-too.mp4 1\n")
    data = FinetuneData(scenes / "train.txt", batch_size=8, workers=0, test=tmp_path / "gone.txt")
    with pytest.raises(UserError, match="none of its first videos can be read"):
        finetune(config(scenes, run, data=data, overwrite=True))
    assert list_checkpoints(run)


def test_a_new_head_predicts_uniform_probabilities() -> None:
    torch.manual_seed(0)
    encoder = nn.Flatten()
    encoder.feature_dim = 256  # type: ignore[assignment]
    method = Classify(encoder, ClassifyConfig(dropout=0), torch.tensor([2, 2, 2, 2]))
    views = {"clip": 3 * torch.randn(400, 256), "label": torch.arange(400) % 4}
    assert float(method(views).loss.detach()) == pytest.approx(np.log(4), rel=0.1)  # PyTorch's head: 2.4


def test_class_weights_equal_a_hand_computation() -> None:
    torch.manual_seed(0)
    counts = torch.tensor([6, 2])
    method = Classify(create_model("tiny"), ClassifyConfig(dropout=0, balanced=True), counts).eval()
    assert method.class_weights is not None
    assert method.class_weights.tolist() == pytest.approx([8 / 12, 2])
    clips, label = torch.randn(3, 3, 4, 32, 32), torch.tensor([0, 1, 1])
    loss = method({"clip": clips, "label": label}).loss
    chances = method.query(clips).softmax(1).detach()
    weights = method.class_weights[label]
    slowly = -sum(float(w) * float(chances[i, label[i]].log()) for i, w in enumerate(weights)) / len(weights)
    assert float(loss.detach()) == pytest.approx(slowly, rel=1e-5)
    parts = [method({"clip": clips[[i]], "label": label[[i]]}).loss.detach() for i in range(3)]
    assert float(sum(parts)) / 3 == pytest.approx(slowly, rel=1e-5)  # as with processes, or parts of a batch


def test_label_smoothing_respects_class_weights() -> None:
    """With class weights inside the loss, the rarest class used to be the best answer to everything."""
    counts = torch.tensor([300, 300, 0, 300])
    method = Classify(
        create_model("tiny"), ClassifyConfig(dropout=0, balanced=True, label_smoothing=0.1), counts
    )
    label = torch.tensor([0, 1, 3])
    logits = torch.zeros(3, 4, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(method._loss(logits, label), logits)
        logits = (logits - gradient).detach().requires_grad_()
    assert logits.argmax(1).tolist() == label.tolist()


@pytest.mark.parametrize("head", [ClassifyConfig(train_from="layer4"), ClassifyConfig(linear_probe=True)])
def test_frozen_layers_stay_frozen_with_synchronised_norms(head: ClassifyConfig) -> None:
    method = Classify(create_model("r3d18"), head, torch.tensor([1, 1]))
    synchronise_norms(method, torch.device("cpu"))
    method.train()
    stages = dict(method.query.encoder.stages.named_children())
    last = stages.pop("layer4")
    assert not any(module.training for stage in stages.values() for module in stage.modules())
    assert last.training is not head.linear_probe


class Activated(nn.BatchNorm3d):
    """Like timm's BatchNorms: with the activation inside."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).relu()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_norm_that_does_more_is_not_replaced_but_refused_where_it_learns(device: str) -> None:
    plain, own = nn.Sequential(nn.BatchNorm3d(2)), nn.Sequential(nn.Sequential(Activated(2)))
    for network in (plain, own):
        synchronise_norms(network, torch.device(device))
    assert "Sync" in type(plain[0]).__name__
    clip = torch.randn(2, 2, 3, 4, 4)
    assert own(clip).min() == 0
    check_norms(plain)
    check_norms(own.eval())
    with pytest.raises(UserError, match="several processes cannot train this network: its Activated"):
        check_norms(own.train())


def test_stage_decay_needs_an_encoder_with_stages() -> None:
    encoder = nn.Identity()
    encoder.feature_dim = 4  # type: ignore[assignment]
    with pytest.raises(UserError, match="this encoder has no stages"):
        Classify(encoder, ClassifyConfig(stage_decay=0.5), torch.tensor([1, 1]))


def test_predictions_equal_a_hand_computation() -> None:
    found = Predictions(
        np.array([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]], np.float32),
        np.array([0, 1, 1, 2]), ["a", "b", "c", "d"],
    )  # fmt: skip
    assert found.ranks().tolist() == [0, 1, 1, 2]  # in a tie the earlier class comes first
    assert found.top(1).tolist() == [True, False, False, False]
    assert found.top(2).tolist() == [True, True, True, False]
    assert found.class_accuracy() == {0: (1.0, 1), 1: (0.0, 2), 2: (0.0, 1)}
    assert found.confusion().tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_probabilities_are_averaged_over_views(scenes: Path) -> None:
    """Compared with a loop over windows and crops."""
    from dsm.data.clips import EvaluationClips
    from dsm.models.heads import Classifier
    from dsm.render import to_network

    torch.manual_seed(0)
    clip = ClipConfig(frames=4, stride=3, resize=40, size=32)
    classifier = Classifier(create_model("tiny"), 10).eval()
    videos = read_list(scenes / "test_free.txt")
    found = predict(classifier, videos, clip, classes=10, windows=2, crops=3, workers=0)
    views = EvaluationClips(videos, clip, 2, 3)[4]["clips"]  # type: ignore[index]
    assert views.shape == (6, 4, 32, 32, 3)
    assert not torch.equal(views[0], views[1])  # another crop
    assert not torch.equal(views[0], views[3])  # another window
    with torch.no_grad():
        each = [
            classifier(to_network(view.permute(3, 0, 1, 2)[None] / 255, "rgb")).softmax(1)[0]
            for view in views
        ]
    assert np.allclose(found.probabilities[4], torch.stack(each).mean(0), atol=1e-5)


def test_impossible_settings_are_refused(scenes: Path, tmp_path: Path) -> None:
    videos = read_list(scenes / "train.txt")
    unlabelled = tmp_path / "unlabelled.txt"
    unlabelled.write_text("".join(f"{videos.file(i)}\n" for i in range(len(videos))))
    data = FinetuneData(unlabelled, batch_size=8, workers=0)
    with pytest.raises(UserError, match="needs labelled videos"):
        finetune(config(scenes, tmp_path / "run", data=data))
    more = tmp_path / "more.txt"
    more.write_text(f"{videos.file(0)} 10\n")
    data = FinetuneData(scenes / "train.txt", batch_size=8, workers=0, test=more)
    with pytest.raises(UserError, match="from 0 to 9"):
        finetune(config(scenes, tmp_path / "run", data=data))
    names = (scenes / "classes.txt").read_text().split()
    (tmp_path / "classes.txt").write_text("\n".join(names[::-1]))
    more.write_text(f"{videos.file(0)} 0\n")
    with pytest.raises(UserError, match=f"'{names[-1]}'"):
        finetune(config(scenes, tmp_path / "run", data=data))
    run = pretrain(small_run(scenes, tmp_path / "pretrained", steps=1))
    with pytest.raises(UserError, match="has no classifier"):
        load_classifier(run)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("height", "width"), [(128, 171), (171, 128), (112, 112)])
def test_three_crops_lie_along_the_longer_side_in_the_middle_of_the_shorter(height: int, width: int) -> None:
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    frames = np.broadcast_to(np.stack([rows, columns, rows], -1).astype(np.uint8), (2, height, width, 3))
    places = [one[0, 0, 0, :2].tolist() for one in cut_out(frames, 112, 3)]
    along = [[8, 0], [8, 30], [8, 59]]
    upright = [[y, x] for x, y in along]
    assert places == {171: along, 128: upright, 112: [[0, 0]] * 3}[width]
    assert [one[0, 0, 0, :2].tolist() for one in cut_out(frames, 112, 1)] == places[1:2]
