"""Pretraining: the same batches for any number of workers, and the same run whether stopped or not."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import CLIP, equal, weights_of
from runs import small_run as config

from dsm.data.clips import EpochBatches, TrainingClips
from dsm.data.lists import read_list
from dsm.data.loading import Batches
from dsm.distributed import trains_on_cpu
from dsm.disturb.spatial_mix import SpatialMix
from dsm.errors import UserError
from dsm.methods import METHODS, MethodSettings, create_method
from dsm.methods.dsm import DsmConfig
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.weights import load_encoder
from dsm.models.zoo import create_model
from dsm.runs.logs import read_metrics
from dsm.train.config import DataConfig
from dsm.train.optim import OptimConfig, learning_rate
from dsm.train.pretrain import pretrain
from dsm.train.start import train_once
from dsm.views import Augment, View


def batches(scenes: Path, workers: int) -> list[dict]:
    videos = read_list(scenes / "train.txt")
    method = create_method("dsm", create_model("tiny"), MethodSettings())
    dataset = TrainingClips(videos, CLIP, Augment(), method.views, seed=3, workers=workers)
    order = EpochBatches(len(videos), 8, seed=3, start=2, stop=8)
    return list(Batches(dataset, order, workers, 60, pin_memory=False))


def test_batches_are_the_same_with_any_number_of_workers(scenes: Path) -> None:
    alone, *others = (batches(scenes, workers) for workers in (0, 1, 2))
    for other in others:
        for one, two in zip(alone, other, strict=True):
            for view in one["clips"]:
                assert torch.equal(one["clips"][view], two["clips"][view])
                for name, value in one["parameters"][view].items():
                    assert torch.equal(value, two["parameters"][view][name])


def test_everything_random_depends_on_seed_epoch_and_video(scenes: Path) -> None:
    videos = read_list(scenes / "train.txt")
    drawn = {}
    for seed in (0, 1, 2**40):
        samples = TrainingClips(videos, CLIP, Augment(), (View("anchor"),), seed=seed)
        drawn |= {(seed, *key): samples[key] for key in ((0, 0), (0, 1), (1, 0))}
    for key, one in drawn.items():
        again = TrainingClips(videos, CLIP, Augment(), (View("anchor"),), seed=key[0])[key[1:]]
        same = [
            other
            for other in drawn.values()
            if equal(one["parameters"]["anchor"], other["parameters"]["anchor"])
        ]
        assert len(same) == 1
        assert equal(one["parameters"]["anchor"], again["parameters"]["anchor"])
    orders = [next(iter(EpochBatches(40, 40, seed, start=0, stop=1))) for seed in (0, 1)]
    assert orders[0] != orders[1]


def test_every_video_is_seen_once_an_epoch_in_a_new_order() -> None:
    order = [batch for batch in EpochBatches(10, 3, seed=0, start=0, stop=6)]  # noqa: C416
    epochs = [[index for batch in order[i : i + 3] for _, index in batch] for i in (0, 3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert [epoch for epoch, _ in order[3]] == [1, 1, 1]
    assert list(EpochBatches(10, 3, seed=0, start=4, stop=6)) == order[4:]


@pytest.fixture(scope="module")
def finished(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the finished run of a method, which is trained once, or a copy of it."""
    made: dict[str, Path] = {}

    def run_of(method: str = "dsm", copy: Path | None = None) -> Path:
        if method not in made:
            made[method] = pretrain(config(scenes, tmp_path_factory.mktemp(method) / "run", method=method))
        return made[method] if copy is None else Path(shutil.copytree(made[method], copy))

    return run_of


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_run_writes_its_folder_and_its_encoder_loads(finished: Callable[..., Path], method: str) -> None:
    out = finished(method)
    record = json.loads((out / "config.json").read_text())
    assert record["config"]["method"] == method
    assert record["versions"]["torch"] == torch.__version__
    lines = read_metrics(out)
    assert [line["step"] for line in lines] == list(range(1, 8))
    assert {"loss", "lr", "clips_per_second", "data_wait"} <= lines[0].keys()
    assert list(out.glob("events.out.tfevents.*"))
    assert [path.name for path in list_checkpoints(out)] == [
        "step_00000005.pt", "step_00000007.pt",
    ]  # fmt: skip
    clip = torch.randn(2, 3, 4, 32, 32)
    assert load_encoder(out)(clip).shape == (2, 128)
    embedding = load_encoder(out, head="projection")(clip)
    assert torch.allclose(embedding.norm(dim=1), torch.ones(2), atol=1e-5)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_resumed_run_ends_bit_for_bit_like_one_never_stopped(
    scenes: Path, tmp_path: Path, finished: Callable[..., Path], method: str
) -> None:
    whole, part = finished(method), finished(method, tmp_path / "part")
    newest = list_checkpoints(part)[-1]
    newest.unlink()  # as if it had been killed after step 5
    pretrain(
        config(
            scenes, part, method=method, resume=True,
            data=DataConfig(scenes / "train.txt", batch_size=8, workers=2),
        )
    )  # fmt: skip
    assert equal(weights_of(whole), weights_of(part))
    assert [line["loss"] for line in read_metrics(whole)] == [line["loss"] for line in read_metrics(part)]


def test_a_run_in_bfloat16_resumes_and_may_not_change_its_precision(scenes: Path, tmp_path: Path) -> None:
    # Large steps amplify the difference; a CPU without bfloat16 instructions needs a second for each step.
    short = {"optim": OptimConfig(lr=1e-5), "steps": 3, "save_every": 2}
    whole, exact = (
        pretrain(config(scenes, tmp_path / precision, precision=precision, **short))
        for precision in ("bf16", "fp32")
    )
    losses = [[line["loss"] for line in read_metrics(run)] for run in (whole, exact)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
    part = Path(shutil.copytree(whole, tmp_path / "part"))
    list_checkpoints(part)[-1].unlink()
    with pytest.raises(UserError, match="precision bf16, not fp32"):
        pretrain(config(scenes, part, resume=True, **short))
    pretrain(config(scenes, part, resume=True, precision="bf16", **short))
    assert equal(weights_of(whole), weights_of(part))


@pytest.mark.parametrize("size", [1000, 12_288, 65_536])  # torch's reader fails differently for each
def test_a_corrupt_newest_checkpoint_is_skipped(
    scenes: Path, tmp_path: Path, finished: Callable[..., Path], size: int
) -> None:
    whole, part = finished(), finished(copy=tmp_path / "part")
    newest = list_checkpoints(part)[-1]
    newest.write_bytes(newest.read_bytes()[:size])
    pretrain(config(scenes, part, resume=True))
    assert newest.with_suffix(".unreadable").stat().st_size == size
    assert equal(weights_of(whole), weights_of(part))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "not enough memory"),
    ],
)
def test_an_unreadable_checkpoint_is_left_alone(
    scenes: Path, finished: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: Exception,
    message: str,
) -> None:  # fmt: skip
    run = finished()
    before = list_checkpoints(run)

    def fails(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(UserError, match=rf"cannot be read now \({message}\)"):
        pretrain(config(scenes, run, resume=True))
    assert list_checkpoints(run) == before


def test_train_once_does_not_empty_a_run_with_broken_checkpoints(
    scenes: Path, tmp_path: Path, finished: Callable[..., Path]
) -> None:
    run = finished(copy=tmp_path / "run")
    (run / "results.json").unlink()  # as if stopped before its end
    for path in list_checkpoints(run):
        path.write_bytes(path.read_bytes()[:1000])
    for message in ("none of its checkpoints can be read", "remove this folder to train again"):
        with pytest.raises(UserError, match=message):
            train_once(config(scenes, run), pretrain)
    assert list((run / "checkpoints").glob("*.unreadable"))


def test_an_existing_run_is_never_overwritten_by_accident(scenes: Path, tmp_path: Path) -> None:
    out = pretrain(config(scenes, tmp_path / "run", steps=2))
    before = weights_of(out)
    with pytest.raises(UserError, match="already holds a run"):
        pretrain(config(scenes, out, steps=3))
    assert equal(weights_of(out), before)
    pretrain(config(scenes, out, steps=3, overwrite=True))
    assert not equal(weights_of(out), before)


def test_other_files_beside_an_unstarted_run_are_kept(scenes: Path, tmp_path: Path) -> None:
    videos = (scenes / "train.txt").read_text()
    # One can be read, so that the run begins.
    first, *others = videos.splitlines()
    (tmp_path / "gone.txt").write_text("\n".join([f"{scenes}/{first}", *(f"gone/{line}" for line in others)]))
    data = replace(config(scenes, tmp_path).data, train=tmp_path / "gone.txt")
    out = tmp_path / "runs"
    with pytest.raises(UserError):
        pretrain(config(scenes, out, data=data))
    assert (out / "config.json").is_file()
    pretrain(config(scenes, out / "good", steps=1))
    with pytest.raises(UserError, match="already holds a run"):
        pretrain(config(scenes, out, steps=1))
    assert list_checkpoints(out / "good")
    inside = replace(data, train=out / "train.txt", root=scenes)
    (out / "train.txt").write_text(videos)
    with pytest.raises(UserError, match=r"train.txt is inside --out"):
        pretrain(config(scenes, out, data=inside, overwrite=True))
    assert list_checkpoints(out / "good")


def test_an_unrelated_folder_is_not_emptied_even_with_overwrite(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UserError, match="is not a run of dsm"):
        pretrain(config(scenes, tmp_path, overwrite=True))
    assert (tmp_path / "photo.jpg").exists()


def test_a_foreign_config_json_does_not_make_a_run(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is not a run of dsm"):
        pretrain(config(scenes, tmp_path, overwrite=True))
    assert (tmp_path / "config.json").exists()


def test_overwriting_a_run_behind_a_link_keeps_the_link(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    for _ in range(2):
        pretrain(config(scenes, tmp_path / "run", steps=1, overwrite=True))
    assert (tmp_path / "run").is_symlink()


def test_too_few_videos_for_a_batch_are_refused(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"40 videos are too few for a batch of 41.*--data.batch-size 40"):
        pretrain(config(scenes, tmp_path / "run", data=DataConfig(scenes / "train.txt", batch_size=41)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"method": "moco"}, "method dsm, not moco"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"optim": OptimConfig("sgd", lr=1e-3, warmup=2)}, "optim.name adamw, not sgd"),
        ({"settings": MethodSettings(dsm=DsmConfig(queue=64, momentum=0.9))}, "dsm.queue 32, not 64"),
    ],
)
def test_resuming_with_other_settings_names_the_first(
    scenes: Path, tmp_path: Path, change: dict, named: str
) -> None:
    out = pretrain(config(scenes, tmp_path / "run", steps=1))
    with pytest.raises(UserError, match="needs the same settings") as raised:
        pretrain(config(scenes, out, resume=True, **change))
    assert named in str(raised.value)


def test_a_run_resumes_with_its_moved_list(scenes: Path, tmp_path: Path) -> None:
    out = pretrain(config(scenes, tmp_path / "run", steps=1))
    lines = (scenes / "train.txt").read_text().splitlines(keepends=True)
    other, moved = tmp_path / "other.txt", tmp_path / "moved.txt"
    other.write_text("".join(reversed(lines)))
    moved.write_text("".join(lines))
    with pytest.raises(UserError, match=r"was trained on another list: paths, labels or frame counts differ"):
        pretrain(
            config(
                scenes, out, steps=2, resume=True, extend=True, data=DataConfig(other, scenes, batch_size=8)
            )
        )
    pretrain(
        config(scenes, out, steps=2, resume=True, extend=True, data=DataConfig(moved, scenes, batch_size=8))
    )


def test_a_run_from_before_a_setting_existed_resumes(scenes: Path, tmp_path: Path) -> None:
    out = pretrain(config(scenes, tmp_path / "run", steps=1))
    (file,) = list_checkpoints(out)
    state = torch.load(file, weights_only=True)
    saved = json.loads(state["config"])
    del saved["settings"]["augment.light"], saved["settings"]["dsm.joint"]
    torch.save({**state, "config": json.dumps(saved)}, file)
    with pytest.raises(UserError, match=r"was trained with augment\.light 0\.3, not 0\.5"):
        pretrain(config(scenes, out, steps=2, resume=True, extend=True, augment=Augment(light=0.5)))
    pretrain(config(scenes, out, steps=2, resume=True, extend=True))


def test_another_length_needs_extend(scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = pretrain(config(scenes, tmp_path / "run", steps=2))
    refusal = (
        r"was planned for 2 steps, not 4, .*--steps 2 continues as planned, --extend continues .*not 0\)"
    )
    with pytest.raises(UserError, match=refusal):
        pretrain(config(scenes, out, steps=4, resume=True))
    with pytest.raises(UserError, match="was planned for 2 steps, not 10"):
        pretrain(config(scenes, out, steps=None, epochs=2, resume=True))
    (file,) = list_checkpoints(out)
    state = torch.load(file, weights_only=True)
    del state["total"]  # as in older checkpoints; the run's record knows
    torch.save(state, file)
    with pytest.raises(UserError, match=refusal):
        pretrain(config(scenes, out, steps=4, resume=True))
    pretrain(config(scenes, out, steps=4, resume=True, extend=True))
    assert "was planned for 2 steps and now continues to 4" in " ".join(capfd.readouterr().err.split())
    pretrain(config(scenes, out, steps=4, resume=True))  # its new length
    assert list_checkpoints(out)[-1].name == "step_00000004.pt"


def test_a_run_with_a_constant_rate_may_have_any_length(scenes: Path, tmp_path: Path) -> None:
    steady = OptimConfig("sgd", lr=1e-3, schedule="step", milestones=(), warmup=0)
    own = {
        "optim": steady,
        "settings": MethodSettings(dsm=DsmConfig(queue=32, momentum=0.9, ramp=False, sld=SpatialMix())),
    }
    whole = pretrain(config(scenes, tmp_path / "whole", steps=4, **own))
    part = pretrain(config(scenes, tmp_path / "part", steps=2, **own))
    pretrain(config(scenes, part, steps=4, resume=True, **own))
    assert equal(weights_of(whole), weights_of(part))
    rising = pretrain(config(scenes, tmp_path / "rising", steps=2, optim=steady))  # of the momentum
    with pytest.raises(UserError, match="was planned for 2 steps, not 4, and its schedules depend on that"):
        pretrain(config(scenes, rising, steps=4, resume=True, optim=steady))
    ramp = DsmConfig(ramp=False, sld=SpatialMix(smooth=0, exchange=1, ramp=0.5))  # and SLD's
    growing = {"optim": steady, "settings": MethodSettings(dsm=ramp)}
    short = pretrain(config(scenes, tmp_path / "growing", steps=2, **growing))
    with pytest.raises(UserError, match="was planned for 2 steps, not 4, and its schedules depend on that"):
        pretrain(config(scenes, short, steps=4, resume=True, **growing))


def test_a_changed_decoder_is_refused_on_resume(scenes: Path, tmp_path: Path) -> None:
    out = pretrain(config(scenes, tmp_path / "run", steps=2))
    other = DataConfig(scenes / "train.txt", batch_size=8, workers=0, decoder="torchcodec")
    with pytest.raises(UserError, match=r"with data\.decoder pyav, not torchcodec"):
        pretrain(config(scenes, out, steps=2, resume=True, data=other))
    (file,) = list_checkpoints(out)
    state = torch.load(file, weights_only=True)
    saved = json.loads(state["config"])
    del saved["settings"]["data.decoder"]  # as in older checkpoints; the run's record knows
    torch.save({**state, "config": json.dumps(saved)}, file)
    pretrain(config(scenes, out, steps=2, resume=True))
    record = json.loads((out / "config.json").read_text())
    record["config"]["data"]["decoder"] = "torchcodec"
    (out / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"with data\.decoder torchcodec, not pyav"):
        pretrain(config(scenes, out, steps=2, resume=True))


def test_a_checkpoint_of_another_version_is_refused_with_the_remedy(scenes: Path, tmp_path: Path) -> None:
    out = pretrain(config(scenes, tmp_path / "run", steps=1))
    (file,) = list_checkpoints(out)
    state = torch.load(file, weights_only=True)
    for damage in ({"method": {**state["method"], "pace.gone": torch.zeros(1)}}, {"optimizer": {}}):
        torch.save({**state, **damage}, file)
        with pytest.raises(UserError, match="do not fit this version of dsm; continue with the version that"):
            pretrain(config(scenes, out, steps=2, resume=True, extend=True))


def test_resuming_from_nothing_is_refused(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        pretrain(config(scenes, tmp_path / "none", resume=True))


def test_a_diverging_run_stops_with_one_sentence(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="step 2: numbers that are not finite, first in"):
        pretrain(config(scenes, tmp_path / "run", optim=OptimConfig("sgd", lr=1e30)))


def test_learning_rates_follow_their_schedules() -> None:
    step = OptimConfig(lr=1.0, schedule="step", warmup=0, milestones=(0.5, 0.75), decay=0.1)
    assert [learning_rate(step, s, 8, 16) for s in (0, 3, 4, 6)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = OptimConfig(lr=1.0, schedule="cosine", warmup=2)
    assert learning_rate(cosine, 0, 100, 16) == pytest.approx(0.5)
    assert learning_rate(cosine, 50, 100, 16) == pytest.approx(0.5)
    assert learning_rate(cosine, 100, 100, 16) == pytest.approx(0.0)


def test_a_malicious_checkpoint_is_not_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": 1, "config": Trap(), "method": {}}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match="read safely"):
        load_encoder(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("wrong", [{"weights": "no/such.pt"}, {"precision": "fp16"}, {"weights": "itself"}])
def test_overwrite_with_impossible_settings_empties_nothing(
    scenes: Path, tmp_path: Path, wrong: dict[str, str]
) -> None:
    if wrong.get("precision") and not trains_on_cpu():
        pytest.skip("fp16 works on a GPU")
    run = pretrain(config(scenes, tmp_path / "run", steps=2))
    held = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    changed = {name: str(run) if value == "itself" else value for name, value in wrong.items()}
    with pytest.raises(UserError, match=r"no such checkpoint|needs a GPU|choose another --out"):
        pretrain(config(scenes, run, overwrite=True, **changed))
    assert held == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
