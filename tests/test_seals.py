"""A file that has changed since it was written is told, whatever has changed in it."""

from __future__ import annotations

import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import numbered_frames

from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.models.checkpoint_file import NoCheckpointError, read_file, read_tensors, write_tensors
from dsm.runs.checkpoint import newest_good, save_checkpoint
from dsm.seals import BLANK, DamagedError, sealed_json, unsealed
from dsm.untrusted import parse_json
from dsm.video.pack import is_packed, read_packed
from dsm.video.source import VideoError
from dsm.video.write import write_shard, write_video

ABOUT = '{"backbone": "tiny", "model": {}, "settings": {}}'
STATE = {"config": ABOUT, "method": {"a": torch.arange(3000.0), "b": torch.ones(7)}}


def damaged(content: bytes) -> Iterator[bytes]:
    """32 ways in which a file changes: bits, blocks of zeros, cuts; and its end, which holds the seal."""
    at = random.Random(0)
    for _ in range(16):
        changed = bytearray(content)
        changed[at.randrange(len(changed))] ^= 1 << at.randrange(8)
        yield bytes(changed)
    for _ in range(6):
        start, length = at.randrange(len(content)), at.choice((64, 512, 4096))
        stop = min(start + length, len(content))
        if any(content[start:stop]):
            yield content[:start] + bytes(stop - start) + content[stop:]
    for _ in range(4):
        yield content[: at.randrange(len(content))]
    for length in (1, len(BLANK), len(BLANK) + 2):
        yield content[:-length]
        yield content[:-length] + bytes(length)


def test_no_damaged_checkpoint_is_accepted_and_the_one_before_it_is_taken(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path, 4, STATE, keep=2)
    newest = save_checkpoint(tmp_path, 8, STATE, keep=2)
    content = newest.read_bytes()
    assert newest_good(tmp_path, {}, {})["step"] == 8
    count = 0
    for changed in damaged(content):
        newest.write_bytes(changed)
        with pytest.raises(NoCheckpointError):
            read_file(newest)
        count += 1
    assert count >= 30
    assert newest_good(tmp_path, {}, {})["step"] == 4
    assert "is set aside" in " ".join(capfd.readouterr().err.split())
    assert newest.with_suffix(".unreadable").exists()


def test_a_checkpoint_without_a_seal_is_checked_by_its_entries(tmp_path: Path) -> None:
    """Those of older versions and of others; torch itself looks at no checksum."""
    file = tmp_path / "theirs.pt"
    torch.save(STATE, file)
    assert torch.equal(read_file(file)["method"]["a"], STATE["method"]["a"])
    content = bytearray(file.read_bytes())
    content[content.index(np.arange(3000, dtype="<f4").tobytes()) + 100] ^= 1
    file.write_bytes(content)
    assert not torch.equal(torch.load(file, weights_only=True)["method"]["a"], STATE["method"]["a"])
    with pytest.raises(NoCheckpointError, match="is damaged"):
        read_file(file)


def test_a_sealed_checkpoint_is_a_zip_that_others_read(tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path, 1, STATE, keep=1)
    assert torch.load(file, weights_only=True)["step"] == 1
    assert zipfile.ZipFile(file).testzip() is None


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_no_damaged_features_are_accepted(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    file, rng = tmp_path / name, np.random.default_rng(0)
    features = rng.normal(size=(50, 16)).astype(np.float32)
    save_features(
        file, Features(features, np.zeros(50, np.int64), [f"{i}.mp4" for i in range(50)], {"run": "x"})
    )
    content = file.read_bytes()
    assert np.array_equal(load_features(file).features, features)
    if name.endswith("npz"):
        for changed in damaged(content):
            file.write_bytes(changed)
            with pytest.raises(UserError):
                load_features(file)
    else:  # its pages have checksums, the table at its end has none
        for place in range(200, 3000, 90):
            file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            with pytest.raises(UserError):
                load_features(file)


def test_no_damaged_tensors_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "e.safetensors"
    write_tensors(file, STATE["method"], {"format": 1, "note": '"seal":"dsm-crc32:'})  # type: ignore[arg-type]
    tensors, about = read_tensors(file)
    assert torch.equal(tensors["a"], STATE["method"]["a"])  # type: ignore[index]
    assert about["format"] == 1
    content = file.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    for place in (*range(length, len(content), 977), length + 1):
        file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(NoCheckpointError, match="is damaged"):
            read_tensors(file)


def test_a_damaged_frame_of_a_pack_is_told_and_its_index_too(tmp_path: Path) -> None:
    video, shard = tmp_path / "v.mp4", tmp_path / "shard-00000.tar"
    write_video(video, numbered_frames(9))
    write_shard(shard, [("v", video)], 48)
    index = shard.with_suffix(".json")
    frames = read_packed(shard, "v", np.arange(9), None)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    copy = tmp_path / "copy" / shard.name
    copy.parent.mkdir()
    copy.write_bytes(content)
    shutil.copy(index, copy.with_suffix(".json"))
    wrong = []
    for number in range(9):
        try:
            assert np.array_equal(read_packed(copy, "v", np.array([number]), None)[0], frames[number])
        except VideoError as error:
            wrong.append(str(error))
    assert len(wrong) == 1
    assert "has changed since it was packed" in wrong[0]
    text = index.read_text()
    assert is_packed(shard)
    index.write_text(text.replace("24.0", "25.0"))
    assert not is_packed(shard)


def test_json_that_has_changed_is_told() -> None:
    value = {"a": [1, 2.5, float("1e300")], "ä": {"b": None}}
    text = sealed_json(value)
    assert unsealed(parse_json(text)) == value
    assert unsealed({"a": 1}) == {"a": 1}
    with pytest.raises(DamagedError):
        unsealed(parse_json(text.replace("2.5", "2.6")))
