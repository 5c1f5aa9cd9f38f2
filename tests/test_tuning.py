"""Adapting an encoder: what is trained, what stays, and what the user is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import save_published
from runs import equal, small_run, weights_of
from test_adapters import TINY

from dsm import export
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.methods.momentum import MomentumTwin
from dsm.methods.settings import MethodSettings
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.heads import Embedder
from dsm.models.tuning import Mapped, merge, rows_of, tuned
from dsm.models.weights import load_weights
from dsm.models.zoo import create_model
from dsm.signals import Interrupted
from dsm.train.adaptation import Adaptation, Retention, agreement
from dsm.train.config import MonitorConfig
from dsm.train.encoder import starting_encoder
from dsm.train.prepare import train_mode
from dsm.train.pretrain import build_trainer, pretrain
from dsm.verbs.train import pretrain as train

CLIP = torch.randn(2, 3, 4, 32, 32)


def transformer() -> Any:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    return create_model("hf:videomae", **{**TINY["videomae"], "num_hidden_layers": 3})


def test_low_rank_additions_begin_at_nothing_and_merge_into_the_layers() -> None:
    encoder = transformer()
    names = list(encoder.state_dict())
    expected = encoder(CLIP)
    adapted, about = tuned(encoder, "lora", rank=2)
    assert about == {"tuned": {"kind": "lora", "rank": 2}}
    assert torch.equal(adapted(CLIP), expected)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert {name.rpartition(".")[2] for name in trained} == {"down", "up"}
    assert len(trained) == 3 * 6 * 2  # query, key, value, their output, and two of the perceptron
    for parameter in adapted.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    changed = adapted(CLIP)
    merge(adapted)
    assert list(adapted.state_dict()) == names
    assert (adapted(CLIP) - changed).abs().max() < 1e-5 * changed.abs().max()


def test_what_is_frozen_is_not_in_the_graph() -> None:
    encoder, _ = tuned(transformer(), "last:1")
    needs: list[bool] = []
    for block in rows_of(encoder):
        block.register_forward_pre_hook(lambda m, args: needs.append(args[0].requires_grad))
        block.register_forward_hook(lambda m, args, out: needs.append(out.requires_grad))
    encoder(CLIP).sum().backward()
    assert needs == [False, False, False, False, False, True]
    with_gradients = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert with_gradients
    assert all("layer.2." in name for name in with_gradients)
    mapped, _ = tuned(transformer(), "head")
    assert isinstance(mapped, Mapped)
    assert torch.allclose(mapped(CLIP), mapped.encoder(CLIP), atol=1e-6)
    assert not mapped.encoder(CLIP).requires_grad
    assert [name for name, p in mapped.named_parameters() if p.requires_grad] == ["map.weight", "map.bias"]
    for how, match in (("lora", "is for transformers"), ("last:9", "has only 4 blocks or stages")):
        with pytest.raises(UserError, match=match):
            tuned(create_model("tiny"), how)


def test_frozen_weights_are_kept_once_and_frozen_norms_learn_nothing() -> None:
    encoder, _ = tuned(create_model("tiny"), "last:1")
    query = Embedder(encoder, 8, "mlp")
    twin = MomentumTwin(query)
    shared = [one is other for one, other in zip(query.parameters(), twin.network.parameters(), strict=True)]
    frozen = [not one.requires_grad for one in query.parameters()]
    assert shared == frozen
    assert any(frozen)
    assert not all(frozen)

    class Method(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = query, twin

    method = Method()
    train_mode(method)
    before = {name: t.clone() for name, t in method.state_dict().items() if "running" in name}
    clip = torch.randn(4, 3, 4, 32, 32)
    query(clip), twin(clip)
    moved = {
        name
        for name, t in method.state_dict().items()
        if "running" in name and not torch.equal(t, before[name])
    }
    assert moved
    assert all("stage3" in name or ".head." in name for name in moved)


def test_retention_is_the_share_of_neighbours_in_common() -> None:
    rng = np.random.default_rng(0)
    paths = [f"{n}.mp4" for n in range(40)]

    def features(rows: np.ndarray, names: list[str]) -> Features:
        return Features(rows.astype(np.float32), np.zeros(len(names), np.int64), names)

    one, other = rng.normal(size=(40, 8)), rng.normal(size=(38, 5))
    before, now = features(one, paths), features(other, paths[:1:-1])
    shared = 0.0
    for n in range(2, 40):

        def near(rows: np.ndarray, row: int) -> set[int]:
            unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            return set(np.argsort(-(unit @ unit[row]))[1:11])

        turned = {39 - place for place in near(other, 39 - n)}
        shared += len({place + 2 for place in near(one[2:], n - 2)} & turned) / 10 / 38
    assert agreement(before, now) == pytest.approx(shared)
    assert agreement(before, before) == 1
    assert np.isnan(agreement(before, features(other[:2], paths[:2])))


def test_the_user_is_told_which_encoder_is_better(tmp_path: Path) -> None:
    adapting = Adaptation(Retention(tmp_path / "b.npz"), "hf:theirs", "knn", patience=2, start={"knn": 0.5})
    adapting.add({"knn": 0.4, "retention": 0.7}, 10)
    assert not adapting.given_up
    adapting.add({"knn": 0.3, "retention": 0.2}, 20)
    assert adapting.given_up
    assert adapting.words() == [
        "Stopped: 2 evaluations in a row were worse. The original encoder is better: knn 0.500 before, at "
        "most 0.400 since (step 10); at that step 70% of each video's neighbours were unchanged. "
        "Use hf:theirs."
    ]
    again = Adaptation(Retention(tmp_path / "b.npz"), "hf:theirs", "knn", patience=3)
    again.load(json.loads(json.dumps(adapting.state())))
    again.add({"knn": 0.6}, 30)
    assert not again.given_up
    assert again.words() == ["Adapted: knn 0.500 before, 0.600 at step 30 (best.pt)."]
    again.add({"knn": 0.4}, 40), again.add({"knn": 0.4}, 50), again.add({"knn": 0.4}, 60)
    assert again.words() == [
        "Stopped: 3 evaluations in a row were worse. Adapted: knn 0.500 before, 0.600 at step 30 (best.pt)."
    ]


def test_an_adapted_encoder_is_watched_resumed_and_exported(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_published("videomae", tmp_path / "theirs")
    weights = f"hf:{tmp_path / 'theirs'}"
    config = small_run(
        scenes, tmp_path / "run", weights=weights, tune="lora", rank=2, steps=10, clip=ClipConfig(),
        save_every=5, monitor=MonitorConfig(videos=12, every=1, patience=0),
    )  # fmt: skip
    run = pretrain(config)
    said = " ".join(capsys.readouterr().err.split())
    assert "Adapted: balance" in said or "The original encoder is better: balance" in said
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    looks = {row["step"]: row for row in logged if "monitor/balance" in row}
    assert 0 in looks
    assert "monitor/retention" not in looks[0]
    assert all(0 <= row["monitor/retention"] <= 1 for step, row in looks.items() if step)

    theirs: Any = load_weights(weights)
    ours: Any = load_weights(run)
    assert ours.config["clip"]["size"] == 32
    assert ours.config["clip"]["resize"] == 36  # the model's own clip, not the default
    before, now = theirs.module.state_dict(), ours.module.state_dict()
    assert all(torch.equal(t, before[name.replace("linear.", "")]) for name, t in now.items()
               if not name.endswith((".up", ".down")))  # fmt: skip
    clip = torch.randn(2, 3, 4, 32, 32)
    export(weights=run, out=tmp_path / "e.safetensors")
    exported: Any = load_weights(tmp_path / "e.safetensors")
    assert exported.module.state_dict().keys() == before.keys()
    with torch.no_grad():
        feature, first = ours.module(clip), theirs.module(clip)
        assert (feature - first).abs().max() > 1e-4 * first.abs().max()
        assert (exported.module(clip) - feature).abs().max() < 1e-5 * feature.abs().max()

    # A run that is stopped and resumed is the same run.
    half = replace(config, out=tmp_path / "half")
    trainer = build_trainer(half)
    step = trainer.train_step

    def stopped(*args: Any) -> Any:
        if trainer.step == 5:
            raise Interrupted("stopped", 2)
        return step(*args)

    monkeypatch.setattr(trainer, "train_step", stopped)
    with pytest.raises(Interrupted):
        trainer.run()
    assert equal(weights_of(pretrain(replace(half, resume=True))), weights_of(run))


def test_scores_on_another_list_are_not_compared_with_the_start(scenes: Path, tmp_path: Path) -> None:
    def monitor(name: str) -> MonitorConfig:
        return MonitorConfig(scenes / f"{name}.txt", every=1, patience=1)

    run = pretrain(small_run(scenes, tmp_path / "theirs"))
    config = small_run(
        scenes,
        tmp_path / "run",
        weights=str(run),
        tune="head",
        steps=5,
        save_every=5,
        monitor=monitor("test"),
    )
    pretrain(config)
    for file in (config.out / "checkpoints").glob("*.pt"):
        state = torch.load(file, weights_only=True)
        state["adapting"]["start"] = {"knn": 2.0}  # all scores are worse
        torch.save(state, file)
    longer = replace(config, steps=20, resume=True, extend=True)
    other = build_trainer(replace(longer, monitor=monitor("test_free")))
    other.run()
    assert other.step == 20, "not stopped by a score on the other list"
    assert other.evaluations.adapting is not None
    assert not other.evaluations.adapting.start


def test_the_next_command_uses_the_better_encoder(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = pretrain(small_run(scenes, tmp_path / "begun", steps=2))
    run = tmp_path / "run"
    scores = iter([0.5, 0.6, 0.4, 0.5, 0.4, 0.3])  # of the start and two evaluations; twice

    def scored(*_args: Any, **_more: Any) -> dict[str, float]:
        return {"balance": next(scores)}

    monkeypatch.setattr("dsm.train.pretrain.compare_scenes", scored)
    for weights in (run / "checkpoints" / "best.pt", begun):
        config = small_run(
            scenes, run, weights=str(begun), tune="head", steps=10, overwrite=True,
            monitor=MonitorConfig(every=1, patience=0), settings=MethodSettings(),
        )  # fmt: skip
        lines = train(config).lines
        assert lines[-1].startswith(f"Next: dsm extract --weights {weights} --data")


def test_a_mapped_encoder_of_pictures_learns_from_differences(scenes: Path, tmp_path: Path) -> None:
    save_published("videomae", tmp_path / "theirs")
    clip = ClipConfig(frames=4, stride=2, resize=36, size=32)
    run = pretrain(
        small_run(
            scenes, tmp_path / "rgb", weights=f"hf:{tmp_path / 'theirs'}", tune="head", steps=2, clip=clip,
            monitor=MonitorConfig(videos=0),
        )
    )  # fmt: skip
    other = replace(clip, modality="rgbdiff")
    encoder, about, _ = starting_encoder(small_run(scenes, tmp_path / "d", weights=str(run), clip=other))
    assert isinstance(encoder, Mapped)
    assert "pictures" not in about
    inner: Any = load_weights(run).module
    with torch.no_grad():
        assert torch.equal(encoder.eval()(CLIP), inner.map(inner.encoder.encoder(CLIP)))


def test_a_run_that_cannot_tell_whether_adapting_helps_says_so(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = pretrain(small_run(scenes, tmp_path / "begun", steps=2))
    capsys.readouterr()
    build_trainer(
        small_run(scenes, tmp_path / "run", weights=str(begun), tune="head", monitor=MonitorConfig(videos=0))
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "nothing is evaluated, so the run cannot say whether adapting helps" in said


def test_tune_needs_something_to_adapt(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name one with --weights"):
        small_run(scenes, tmp_path, tune="lora")
    with pytest.raises(UserError, match="add --tune lora"):
        small_run(scenes, tmp_path, weights="x", tune="head", rank=4)
    for how in ("last", "last:0", "last:x", "lora:4", "most"):
        with pytest.raises(UserError, match="head, lora, all or last:K"):
            small_run(scenes, tmp_path, weights="x", tune=how)


def test_a_run_that_gave_up_trains_no_more_when_it_resumes(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dsm.terminal._noted", set())
    begun = pretrain(small_run(scenes, tmp_path / "begun", steps=1))
    monitor = MonitorConfig(scenes / "test.txt", every=1, patience=1)
    config = small_run(scenes, tmp_path / "run", weights=str(begun), tune="head", steps=5, monitor=monitor)
    run = pretrain(config)
    for file in (run / "checkpoints").glob("*.pt"):
        state = torch.load(file, weights_only=True)
        state["adapting"]["start"] = {"knn": 2.0}  # all scores are worse
        torch.save(state, file)
    results = (run / "results.json").read_bytes()
    on = replace(config, steps=6, resume=True, extend=True)
    for _ in range(2):
        pretrain(on)
        assert list_checkpoints(run)[-1].name == "step_00000005.pt"
    assert (run / "results.json").read_bytes() == results
    assert "stopped at step 5, as adapting made the encoder worse" in capfd.readouterr().err
    pretrain(replace(on, monitor=replace(monitor, patience=0)))
    assert list_checkpoints(run)[-1].name == "step_00000006.pt"
