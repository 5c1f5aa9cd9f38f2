"""The training loop: parts of a batch, non-finite numbers, memory, other weights, full disks."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from runs import equal, small_run, weights_of
from torch import nn
from warm_dsm import run_line

from dsm.data.clips import EpochBatches
from dsm.errors import UserError
from dsm.methods import MethodSettings
from dsm.methods.moco import MocoConfig
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.weights import load_encoder
from dsm.models.zoo import create_model
from dsm.pages.run_figures import draw_run
from dsm.runs.logs import read_gradients, read_metrics
from dsm.runs.results import read_results
from dsm.signals import Interrupted
from dsm.train.health import first_bad_gradient, first_bad_layer
from dsm.train.optim import OptimConfig, build_optimizer, learning_rate
from dsm.train.prepare import recompute_stages
from dsm.train.pretrain import build_trainer, pretrain
from dsm.train.skipping import SKIPS, Skipping
from dsm.train.start import train_once
from dsm.train.trainer import Trainer

NO_NORM = MethodSettings(moco=MocoConfig(queue=16, in_batch=False, momentum=0.9, head="linear"))


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run)]


def frozen_norms(trainer: Trainer) -> Trainer:
    """BatchNorm with running statistics, so that a part of a batch is treated like the whole."""
    for module in trainer.method.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()
            module.train = lambda mode=True: None  # type: ignore[method-assign,assignment]
    return trainer


def build(scenes: Path, out: Path, **changes: object) -> Trainer:
    return build_trainer(small_run(scenes, out, **changes))


@pytest.mark.parametrize(("parts", "world"), [(1, 1), (2, 1), (1, 4), (2, 2)])
def test_a_batch_is_the_same_for_any_number_of_processes(parts: int, world: int) -> None:
    whole = list(EpochBatches(20, 8, seed=1, start=0, stop=5))
    ranks = [
        list(EpochBatches(20, 8, seed=1, start=0, stop=5 * parts, parts=parts, rank=rank, world=world))
        for rank in range(world)
    ]
    for number, batch in enumerate(whole):
        divided = [
            sample for part in range(parts) for rank in ranks for sample in rank[number * parts + part]
        ]
        assert divided == batch


def test_parts_of_a_batch_give_the_step_of_the_whole(scenes: Path, tmp_path: Path) -> None:
    optim = OptimConfig("sgd", lr=0.02, warmup=2)
    for name, accumulate in (("whole", 1), ("parts", 4)):
        settings = {"optim": replace(optim, accumulate=accumulate), "method": "moco", "settings": NO_NORM}
        frozen_norms(build(scenes, tmp_path / name, **settings)).run()
    assert max(losses(tmp_path / "whole")) > 0  # the queue has negatives
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=2e-5)
    one, two = (weights_of(tmp_path / name) for name in ("whole", "parts"))
    assert torch.allclose(one["queue.keys"], two["queue.keys"], atol=1e-5)
    assert int(one["queue.pointer"]) == int(two["queue.pointer"]) == 7 * 8 % 16


def test_clipping_bounds_the_step(scenes: Path, tmp_path: Path) -> None:
    optim = OptimConfig("sgd", lr=1.0, momentum=0, weight_decay=0, warmup=0, clip=1e-3)
    trainer = build(scenes, tmp_path / "run", steps=1, optim=optim)
    before = [p.detach().clone() for p in trainer.method.query.parameters()]
    trainer.run()
    after = list(trainer.method.query.parameters())
    moved = sum(float((a.detach() - b).square().sum()) for a, b in zip(after, before, strict=True)) ** 0.5
    assert moved == pytest.approx(1e-3, rel=1e-3)
    assert read_metrics(tmp_path / "run")[0]["grad_norm"] > 1e-3  # as it was before


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_settings_reach_the_optimizer(name: Any) -> None:
    optimizer = build_optimizer(OptimConfig(name, lr=0.1, momentum=0.8, weight_decay=0.02), nn.Linear(2, 2))
    assert type(optimizer).__name__.lower() == name
    assert optimizer.param_groups[0]["weight_decay"] == 0.02
    assert optimizer.param_groups[0].get("momentum", 0.8) == 0.8


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_one_kernel_updates_a_weight_where_that_is_faster(name: Any) -> None:
    """Here on the CPU, which has that kernel too; with a scaler of losses and Fabric, as in a run."""
    fabric, config = Fabric(accelerator="cpu", devices=1), OptimConfig(name, lr=0.1)
    ends = []
    for device, wanted in (("cpu", False), ("cpu", True), ("cuda", True)):
        torch.manual_seed(0)
        one = nn.Linear(3, 2)
        net, optimizer = fabric.setup(one, build_optimizer(config, one, None, device, fused=wanted))
        expected = wanted and (device == "cuda" or name == "adamw")
        assert bool(optimizer.param_groups[0]["fused"]) == expected
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for _ in range(3):
            optimizer.zero_grad()
            fabric.backward(scaler.scale(net(torch.ones(4, 3)).square().sum()))
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        ends.append(one.weight.detach())
    for end in ends[1:]:
        assert torch.allclose(ends[0], end, atol=1e-6)


def test_a_run_that_began_without_that_kernel_goes_on_without_it() -> None:
    net, config = nn.Linear(2, 2), OptimConfig("adamw")
    for began in (False, True):
        saved = build_optimizer(config, net, None, "cuda", fused=began).state_dict()
        for device in ("cpu", "cuda"):
            resumed = build_optimizer(config, net, saved, device)
            assert bool(resumed.param_groups[0]["fused"]) == began


@pytest.mark.parametrize(("name", "spared"), [("adamw", True), ("sgd", False)])
def test_adamw_does_not_decay_norms_and_biases(name: Any, spared: bool) -> None:
    net = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.Conv3d(4, 4, 1, bias=False))
    before = {key: value.detach().clone().fill_(2.0) for key, value in net.state_dict().items()}
    net.load_state_dict(before)
    optimizer = build_optimizer(OptimConfig(name, lr=0.5, momentum=0, weight_decay=0.1), net)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)  # only weight decay changes parameters
    optimizer.step()
    for key, parameter in net.named_parameters():
        still = spared and key not in ("0.weight", "2.weight")
        assert torch.allclose(
            parameter, torch.full_like(parameter, 2.0 if still else 2.0 * (1 - 0.5 * 0.1))
        ), key


def test_a_run_that_decays_everything_resumes_bit_for_bit(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints of older versions, whose optimiser had a single parameter group."""
    optim = OptimConfig("adamw", lr=0.01, weight_decay=0.5, warmup=2)
    with monkeypatch.context() as patch:
        old = {"param_groups": [{"weight_decay": 0.5}]}
        patch.setattr(
            "dsm.train.trainer.build_optimizer",
            lambda config, method, *_, **__: build_optimizer(config, method, old),
        )
        whole = pretrain(small_run(scenes, tmp_path / "whole", optim=optim))
    part = Path(shutil.copytree(whole, tmp_path / "part"))
    assert len(torch.load(list_checkpoints(whole)[-1], weights_only=True)["optimizer"]["param_groups"]) == 1
    list_checkpoints(part)[-1].unlink()
    pretrain(small_run(scenes, part, resume=True, optim=optim))
    assert equal(weights_of(whole), weights_of(part))
    anew = pretrain(small_run(scenes, tmp_path / "anew", optim=optim))
    assert not equal(weights_of(whole), weights_of(anew))


def test_the_learning_rate_scales_with_the_batch() -> None:
    config = OptimConfig(lr=0.1, lr_batch=64, warmup=0)
    assert learning_rate(config, 0, 10, 256) == pytest.approx(0.4)
    assert learning_rate(config, 0, 10, 32) == pytest.approx(0.05)
    assert learning_rate(OptimConfig(lr=0.1, warmup=0), 0, 10, 256) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_every_optimiser_resumes_bit_for_bit(scenes: Path, tmp_path: Path, name: str) -> None:
    optim = OptimConfig(name, lr=0.01, warmup=2, clip=1.0)  # type: ignore[arg-type]
    whole = pretrain(small_run(scenes, tmp_path / "whole", optim=optim))
    part = Path(shutil.copytree(whole, tmp_path / "part"))
    list_checkpoints(part)[-1].unlink()
    pretrain(small_run(scenes, part, optim=optim, resume=True))
    assert equal(weights_of(whole), weights_of(part))
    assert losses(whole) == losses(part)


def test_the_layer_that_breaks_the_numbers_is_named() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU())
    with torch.no_grad():
        net[1].bias[0] = float("inf")
    assert first_bad_layer(net, lambda: net(torch.ones(1, 2))) == "1"
    net[1].bias.grad = torch.tensor([float("nan"), 0])
    net[0].bias.grad = torch.zeros(2)
    assert first_bad_gradient(net) == "1.bias"


def trainer_with_infinities(trainer: Trainer, at: set[int]) -> Trainer:
    """A trainer that gets infinite pictures at some steps."""
    render = trainer.render

    def spoilt(batch: dict) -> dict:
        views = render(batch)
        if trainer.step in at:
            views["anchor"] = views["anchor"].clone().fill_(float("inf"))
        return views

    trainer.render = spoilt  # type: ignore[method-assign]
    return trainer


def test_a_step_that_is_not_finite_is_skipped_and_counted(scenes: Path, tmp_path: Path) -> None:
    trainer_with_infinities(build(scenes, tmp_path / "run", nonfinite="skip"), {3, 4}).run()
    lines = read_metrics(tmp_path / "run")
    assert [int(line["skipped"]) for line in lines] == [0, 0, 0, 1] + [2] * 3
    assert np.isfinite([line["loss"] for line in lines[5:]]).all()
    assert all(torch.isfinite(t).all() for t in weights_of(tmp_path / "run").values())


def test_a_run_resumed_right_after_a_skipped_step_is_the_same_bit_for_bit(
    scenes: Path, tmp_path: Path
) -> None:
    """Nothing of the skipped step is left that a checkpoint does not contain."""
    given: dict[str, Any] = {"nonfinite": "skip", "save_every": 1, "keep": 9, "steps": 6}
    trainer_with_infinities(build(scenes, tmp_path / "whole", **given), {3}).run()
    part = Path(shutil.copytree(tmp_path / "whole", tmp_path / "part"))
    for later in list_checkpoints(part)[4:]:
        later.unlink()
    build(scenes, part, **given, resume=True).run()
    assert equal(weights_of(tmp_path / "whole"), weights_of(part))
    assert losses(tmp_path / "whole")[4:] == losses(part)[4:]


def test_logs_are_standard_json(scenes: Path, tmp_path: Path) -> None:
    trainer = trainer_with_infinities(
        build(scenes, tmp_path / "run", nonfinite="skip", steps=4, save_every=2), {1, 2}
    )
    trainer.run()
    for name in ("metrics.jsonl", "gradients.jsonl", "config.json", "results.json"):
        text = (tmp_path / "run" / name).read_text()
        for line in text.splitlines() if name.endswith("l") else [text]:
            json.loads(line, parse_constant=pytest.fail)  # called with NaN, Infinity and -Infinity
    assert "null" in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert [math.isfinite(loss) for loss in losses(tmp_path / "run")] == [True, False, False, True]
    old = tmp_path / "run" / "metrics.jsonl"  # as older versions wrote it
    old.write_text('{"step": 1, "loss": NaN, "lr": 1.0}\n{"step": 2, "loss": -Infinity}\n')
    assert math.isnan(losses(tmp_path / "run")[0])
    assert losses(tmp_path / "run")[1] == -math.inf


def test_the_broken_layer_is_searched_in_the_failing_precision(scenes: Path, tmp_path: Path) -> None:
    trainer = build(scenes, tmp_path / "run", precision="bf16")
    stage = trainer.method.query.encoder.stages.stage2
    name, layer = next((n, one) for n, one in stage.named_modules() if isinstance(one, nn.Conv3d))
    whole = layer.forward

    def narrow(x: torch.Tensor) -> torch.Tensor:
        """A layer whose numbers are too large only for half precision."""
        return whole(x) * (math.inf if torch.is_autocast_enabled("cpu") else 1)

    layer.forward = narrow  # type: ignore[method-assign]
    with pytest.raises(
        UserError, match=rf"first in the output of the layer query\.encoder\.stages\.stage2\.{name} \("
    ):
        trainer.run()


def test_the_broken_part_of_an_accumulated_batch_is_inspected(scenes: Path, tmp_path: Path) -> None:
    trainer = build(scenes, tmp_path / "run", optim=OptimConfig("sgd", lr=0.02, accumulate=2))
    render, parts = trainer.render, iter(range(100))

    def spoilt(batch: dict) -> dict:
        views = render(batch)
        if next(parts) == 2:  # the first part of the second step
            views["anchor"] = views["anchor"].clone().fill_(float("inf"))
        return views

    trainer.render = spoilt  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"step 2: .*in the clips of the view anchor"):
        trainer.run()


def test_a_run_with_a_skipped_last_step_has_results_and_pictures(scenes: Path, tmp_path: Path) -> None:
    trainer_with_infinities(build(scenes, tmp_path / "run", nonfinite="skip"), {6}).run()
    lines = [line["loss"] for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert not np.isfinite(lines[-1])
    found = {row.metric: row.value for row in read_results(tmp_path / "run" / "results.json")}
    assert found["train/loss"] == lines[-2]
    record = read_gradients(tmp_path / "run")[0]
    record["layers"] = {name: [math.inf, math.nan, 0.0] for name in record["layers"]}
    (tmp_path / "run" / "gradients.jsonl").write_text(json.dumps(record) + "\n")
    assert [path.name for path in draw_run(tmp_path / "run")] == ["health.png", "gradients.png"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_in_the_last_step_is_handled(scenes: Path, tmp_path: Path, number: signal.Signals) -> None:
    trainer = build(scenes, tmp_path / "run")
    step = trainer.train_step

    def stopped(*args: Any) -> Any:
        if trainer.step == trainer.total - 1:
            os.kill(os.getpid(), number)
        return step(*args)

    trainer.train_step = stopped  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="stopped at step 7 of 7 and saved") as raised:
        trainer.run()
    assert raised.value.exit_code == 128 + number
    assert (tmp_path / "run" / "results.json").is_file()


def test_steps_that_lower_a_high_loss_scale_do_not_count_as_too_many() -> None:
    """fp16 begins at a scale of 2^16 or more, and real losses may need one of 2^2."""
    skips = Skipping(nn.Linear(1, 1), Fabric(accelerator="cpu", devices=1), allowed=False)
    for power in range(24, 0, -1):
        assert skips.skip(1.0, torch.amp.GradScaler("cpu", init_scale=2.0**power))
    lowest = torch.amp.GradScaler("cpu", init_scale=1.0)
    assert [skips.skip(1.0, lowest) for _ in range(SKIPS)] == [True] * (SKIPS - 1) + [False]
    assert skips.total == 24 + SKIPS
    skips.take()
    assert skips.in_a_row == 0
    assert not skips.skip(float("inf"), torch.amp.GradScaler("cpu", init_scale=2.0**24))
    assert not skips.skip(1.0, torch.amp.GradScaler("cpu", enabled=False))


def test_too_many_skipped_steps_end_the_run(scenes: Path, tmp_path: Path) -> None:
    trainer = build(scenes, tmp_path / "run", nonfinite="skip", steps=12)
    spoilt = trainer_with_infinities(trainer, set(range(1, 12)))
    with pytest.raises(UserError, match=r"step 11: .*in the clips of the view anchor"):
        spoilt.run()


def test_a_step_that_is_not_finite_stops_by_default(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 4: .*in the clips of the view anchor"):
        trainer_with_infinities(build(scenes, tmp_path / "run"), {3}).run()


def test_a_run_killed_before_its_results_finishes_when_resumed(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_run(scenes, tmp_path / "run", steps=2)
    train_once(config, pretrain)
    results, weights = tmp_path / "run" / "results.json", weights_of(tmp_path / "run")
    rows = read_results(results)
    results.unlink()
    train_once(config, pretrain)
    assert read_results(results) == rows
    assert equal(weights_of(tmp_path / "run"), weights)
    capsys.readouterr()
    train_once(config, pretrain)
    assert "is done (2 steps)" in capsys.readouterr().err
    results.write_text("of a done run")
    pretrain(replace(config, resume=True))  # trains and rewrites nothing
    assert results.read_text() == "of a done run"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_activations_give_the_same_gradients(precision: str) -> None:
    from dsm.models.precision import encode

    clips = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    plain = create_model("tiny").train()
    torch.manual_seed(0)
    thrifty = recompute_stages(create_model("tiny").train(), precision, "cpu")  # type: ignore[arg-type]
    for model in (plain, thrifty):
        encode(model, clips, precision).square().mean().backward()  # type: ignore[arg-type]
    for (name, one), two in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad), name
    assert equal(plain.state_dict(), thrifty.state_dict())  # BatchNorm has counted the batch once


def test_recomputing_saves_memory() -> None:
    """Bytes that autograd saves for the backward pass."""
    clips = torch.randn(2, 3, 8, 64, 64)

    def kept(model: nn.Module) -> int:
        storages: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(clips)
        return sum(storages.values())

    assert kept(recompute_stages(create_model("i3d"), "fp32", "cpu")) < kept(create_model("i3d")) / 2


def test_a_run_starts_from_other_weights(scenes: Path, tmp_path: Path) -> None:
    first = pretrain(small_run(scenes, tmp_path / "first"))
    second = build(scenes, tmp_path / "second", weights=str(first), backbone="i3d", method="moco")
    taken = second.method.query.encoder.state_dict()
    assert equal(taken, load_encoder(first).state_dict())
    assert equal(second.method.key.network.encoder.state_dict(), taken)
    flow = replace(small_run(scenes, first).clip, modality="flow")
    with pytest.raises(UserError, match="was not trained on"):
        build(scenes, tmp_path / "third", weights=str(first), clip=flow)


def test_clips_unlike_those_of_the_weights_are_reported(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = pretrain(small_run(scenes, tmp_path / "first"))
    clip = small_run(scenes, first).clip
    build(scenes, tmp_path / "same", weights=str(first))
    assert "other clips" not in capfd.readouterr().err
    build(scenes, tmp_path / "other", weights=str(first), clip=replace(clip, frames=clip.frames + 1))
    assert f"to use the same, set --clip.frames {clip.frames}\n" in capfd.readouterr().err


def test_a_full_disk_stops_no_run_and_loses_no_checkpoint(scenes: Path, tmp_path: Path) -> None:
    """From step 6 on, a limit on file sizes, so that no checkpoint fits."""
    script = tmp_path / "limited.py"
    script.write_text(f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from runs import small_run
from dsm.train import trainer
from dsm.train.pretrain import pretrain
from dsm.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
step = trainer.Trainer.train_step
def limited(self, *args):
    if self.step in (6, 11):
        size = 100_000 if self.step == 6 else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return step(self, *args)
trainer.Trainer.train_step = limited
pretrain(small_run(Path({str(scenes)!r}), Path({str(tmp_path / "run")!r}), steps=12, save_every=3, keep=1))
""")
    done = run_line("python", script)
    assert done.returncode == 0, done.stderr
    assert "step_00000009.pt: cannot be written" in done.stderr
    assert "the newest is step_00000006.pt" in done.stderr
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step_00000012.pt"]
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


def test_unsupported_half_precision_is_refused(scenes: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="needs a GPU"):
        pretrain(small_run(scenes, tmp_path / "run", precision="fp16"))


def test_an_indivisible_batch_is_refused(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be a multiple of 3 \(.*\), and at least 6"):
        pretrain(small_run(scenes, tmp_path / "run", optim=OptimConfig(accumulate=3)))
