"""Training and extraction from an S3 server on the loopback (moto's), with latency, faults and kills."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import CLIP, equal, small_run, weights_of
from stores import Fault, Store, listed_in, s3_store, upload
from test_cli import refused
from warm_dsm import HANG

from dsm.errors import UserError
from dsm.models.checkpoint_file import list_checkpoints, step_of
from dsm.runs.logs import read_metrics
from dsm.storage import cache, client, objects
from dsm.train.config import DataConfig
from dsm.train.pretrain import pretrain
from dsm.verbs.pack import pack

pytest.importorskip("moto", reason="moto, an S3 server for tests, is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")
BUCKET = "videos"
LATENCY = 0.02


@pytest.fixture(scope="session")
def packed(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "pack"
    pack(videos=scenes / "train.txt", out=out, short_side=40, shard_videos=15, workers=1)
    return out


@pytest.fixture(scope="session")
def server(packed: Path) -> Iterator[Store]:
    with s3_store(BUCKET) as store:
        upload(store, BUCKET, packed.parent)
        yield store


@pytest.fixture
def store(server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in {
        "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        cache.FOLDER: str(tmp_path / "cache"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(client, "SILENCE", 1.0)
    objects.forget_all()
    sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
    server.asked.clear()
    server.faults.clear()
    server.latency = 0
    return server


@pytest.fixture(scope="session")
def whole(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the local pack."""
    return pretrain(
        small_run(packed, tmp_path_factory.mktemp("whole") / "run", data=data(packed / "list.txt"))
    )


def data(listed: Path, workers: int = 0) -> DataConfig:
    return DataConfig(listed, batch_size=8, workers=workers)


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_training_from_s3_is_training_from_files(
    store: Store, whole: Path, tmp_path: Path, workers: int
) -> None:
    store.latency = LATENCY
    run = pretrain(
        small_run(tmp_path, tmp_path / "run", data=data(Path(f"s3://{BUCKET}/pack/list.txt"), workers))
    )
    assert equal(weights_of(run), weights_of(whole))
    assert not (run / "ledger.json").exists()


FAULTS: tuple[Fault, ...] = ("503", "cut", "closed", "short", "stall")
REQUESTS = (("HEAD", r"list\.txt"), ("GET", r"list\.txt"), ("HEAD", r"\.json"), ("GET", r"\.json"),
            ("HEAD", r"\.tar"), ("GET", r"\.tar"))  # fmt: skip


def test_a_fault_of_each_kind_in_each_request_is_survived(store: Store, whole: Path, tmp_path: Path) -> None:
    """Every kind of request fails in every way, one after the other, in one run."""
    store.faults += [(method, pattern, fault) for fault in FAULTS for method, pattern in REQUESTS]
    run = small_run(tmp_path, tmp_path / "run", data=data(Path(f"s3://{BUCKET}/pack/list.txt")))
    pretrain(run)
    assert not store.faults
    assert equal(weights_of(run.out), weights_of(whole))
    assert not (run.out / "ledger.json").exists()


def test_killed_and_resumed_from_s3_as_never_stopped_from_files(
    store: Store, packed: Path, tmp_path: Path
) -> None:
    """kill -9, twice, while the storage is slow and fails at times."""
    store.latency = LATENCY
    listed, out = Path(f"s3://{BUCKET}/pack/list.txt"), tmp_path / "killed"
    forks = multiprocessing.get_context("fork")  # does not import torch again
    for steps in (2, 6):
        config = small_run(tmp_path, out, data=data(listed, 1), steps=14, save_every=2, resume=out.exists())
        child = forks.Process(target=pretrain, args=(config,))
        child.start()
        give_up = time.monotonic() + HANG
        while not (saved := list_checkpoints(out)) or step_of(saved[-1]) < steps:
            assert child.is_alive()
            assert time.monotonic() < give_up
            time.sleep(0.01)
        child.kill()
        child.join()
        store.faults += [("GET", r"\.tar", "cut"), ("HEAD", r"\.tar", "503")]
    assert 6 <= step_of(list_checkpoints(out)[-1]) < 14
    pretrain(replace(config, resume=True))
    local = small_run(packed, tmp_path / "local", data=data(packed / "list.txt"), steps=14, save_every=14)
    assert equal(weights_of(out), weights_of(pretrain(local)))


def test_features_of_videos_in_s3_are_those_of_files(store: Store, scenes: Path, tmp_path: Path) -> None:
    import dsm

    upload(store, BUCKET, scenes)
    name = next(path.name for path in sorted(scenes.glob("test*.txt")))
    made = {}
    for place, listed in {"local": scenes / name, "far": f"s3://{BUCKET}/{name}"}.items():
        out = tmp_path / f"{place}.npz"
        dsm.extract(
            weights="none", data=listed, out=out, backbone="tiny", frames=CLIP.frames, stride=CLIP.stride,
            resize=CLIP.resize, size=CLIP.size, windows=2,
        )  # fmt: skip
        made[place] = dsm.load_features(out)
    assert np.array_equal(made["local"].features, made["far"].features)
    assert made["local"].paths == made["far"].paths
    assert made["far"].meta["root"] == f"s3://{BUCKET}"


def names_in(store: Store, folder: str) -> set[str]:
    return {name.removeprefix(f"{folder}/") for name in listed_in(store, BUCKET) if name.startswith(folder)}


def test_a_run_killed_on_one_machine_continues_on_another_from_its_copy(
    store: Store, packed: Path, whole: Path, tmp_path: Path
) -> None:
    """The store fails at times; what the second machine fetches is all that it has."""
    url, here, there = f"s3://{BUCKET}/runs/mine", tmp_path / "here", tmp_path / "there"
    given = {"data": data(packed / "list.txt"), "copy_to": url, "keep": 1}
    store.faults += [("PUT", r"step_", "503"), ("PUT", r"step_", "closed")]
    child = multiprocessing.get_context("fork").Process(
        target=pretrain, args=(small_run(tmp_path, here, save_every=2, **given),)
    )
    child.start()
    give_up = time.monotonic() + HANG
    while not any(name.startswith("checkpoints/step_") for name in names_in(store, "runs/mine")):
        assert child.is_alive()
        assert time.monotonic() < give_up
        time.sleep(0.02)
    child.kill()
    child.join()
    with pytest.raises(UserError, match="already holds a run; --resume continues it"):
        pretrain(small_run(tmp_path, there, **given))
    run = pretrain(small_run(tmp_path, there, save_every=2, resume=True, **given))
    assert equal(weights_of(run), weights_of(whole))
    steps = [line["step"] for line in read_metrics(run)]
    assert steps == [line["step"] for line in read_metrics(whole)]
    local = {one.relative_to(run).as_posix() for one in run.rglob("*") if one.is_file()}
    assert names_in(store, "runs/mine") == local
    with pytest.raises(UserError, match="the copy is at step"):
        pretrain(small_run(tmp_path, here, save_every=2, resume=True, **given))


def test_the_copy_of_another_run_is_not_overwritten(store: Store, packed: Path, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/runs/one"
    given = {"data": data(packed / "list.txt"), "save_every": 2}
    pretrain(small_run(tmp_path, tmp_path / "one", copy_to=url, **given))
    before = names_in(store, "runs/one")
    other = pretrain(small_run(tmp_path, tmp_path / "other", **given))
    with pytest.raises(UserError, match="is the copy of another run"):
        pretrain(small_run(tmp_path, other, resume=True, copy_to=url, **given))
    assert names_in(store, "runs/one") == before
    pretrain(small_run(tmp_path, tmp_path / "one", resume=True, copy_to=url, **given))  # its own


def test_a_store_that_is_away_costs_a_run_nothing(
    store: Store, packed: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, out = f"s3://{BUCKET}/runs/away", tmp_path / "run"
    given = {"data": data(packed / "list.txt"), "copy_to": url}
    store.faults += [("PUT", r"away", "503")] * 1000
    run = pretrain(small_run(tmp_path, out, **given))
    assert equal(weights_of(run), weights_of(whole))
    said = capsys.readouterr().err
    assert said.count("continues without a copy") == 1
    assert "lacks the newest files" in said
    store.faults.clear()
    pretrain(small_run(tmp_path, out, resume=True, **given))
    assert names_in(store, "runs/away") == {
        one.relative_to(run).as_posix() for one in run.rglob("*") if one.is_file()
    }


def test_features_and_packs_are_copied_and_a_pack_is_read_back(
    store: Store, scenes: Path, tmp_path: Path
) -> None:
    import dsm

    pack(
        videos=scenes / "train.txt", out=tmp_path / "p", short_side=40, copy_to=f"s3://{BUCKET}/p", workers=1
    )
    assert names_in(store, "p") >= {"list.txt", "shard-00000.tar", "shard-00000.json"}
    dsm.extract(
        weights="none", data=f"s3://{BUCKET}/p/list.txt", out=tmp_path / "f.npz", backbone="tiny", windows=1,
        frames=CLIP.frames, stride=CLIP.stride, resize=CLIP.resize, size=CLIP.size,
        copy_to=f"s3://{BUCKET}/features/",
    )  # fmt: skip
    assert names_in(store, "features") == {"f.npz"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://host/runs", "cannot be written to"),
        ("runs/copy", "is not a URL"),
        ("s3://nothing/runs", "there is no bucket named nothing"),
    ],
)
def test_a_copy_that_cannot_be_written_is_refused_before_training(
    store: Store, packed: Path, tmp_path: Path, url: str, message: str
) -> None:
    run = small_run(tmp_path, tmp_path / "run", data=data(packed / "list.txt"), copy_to=url)
    with pytest.raises((UserError, client.StorageError), match=message):
        pretrain(run)
    assert not run.out.exists()


def test_mistakes_are_told_in_a_sentence(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, no traceback, and nothing written."""

    def told(listed: str) -> str:
        objects.forget_all()
        out = tmp_path / "run"
        words = "pretrain", "--data.train", listed, "--backbone", "tiny", "--out", out
        message = refused(capsys, monkeypatch, *words)
        assert not out.exists()
        return message

    assert "there is no bucket named absent; correct the name" in told("s3://absent/list.txt")
    assert f"s3://{BUCKET}/none.txt: no such list file" in told(f"s3://{BUCKET}/none.txt")
    store.faults += [("HEAD", r"list\.txt", "403")]
    assert "access denied (Forbidden); set AWS_ACCESS_KEY_ID" in told(f"s3://{BUCKET}/pack/list.txt")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
    assert "access denied (Unable to locate credentials); set" in told(f"s3://{BUCKET}/pack/list.txt")
