"""A file of a few bytes may ask for any memory: what it asks for is found out before it is given."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from warm_dsm import HANG

from dsm.errors import UserError
from dsm.evaluate.extract_to_file import digest
from dsm.evaluate.features import Features
from dsm.evaluate.search import QueryEncoder
from dsm.limits import CLIP_PIXELS
from dsm.models.checkpoint_file import read_file
from dsm.models.weights import load_weights
from dsm.models.zoo import create_model
from dsm.video.containers import Tables, tables_of

ROOM = 10**9
"""Bytes that a child may take beyond those of a process that has only imported what it needs."""
CLIP = {"frames": 8, "stride": 1, "fps": 0.0, "resize": 32, "size": 32, "modality": "rgb"}


def sentences(call: str, files: Sequence[Path]) -> list[str]:
    """What the UserErrors of a call on each file say, in a child that has little memory."""
    code = f"""
import json, resource, sys
from dsm.errors import UserError
module, name = {call!r}.rsplit(".", 1)
call = getattr(__import__(module, fromlist=[name]), name)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + {ROOM}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for file in sys.argv[1:]:
    try:
        call(file)
        print("no error")
    except UserError as error:
        print(str(error).splitlines()[0])
"""
    words = [sys.executable, "-c", code, *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def tensor(shown: int, stored: int, stride: int, more: bytes = b"") -> bytes:
    """The pickle of a tensor of so many numbers, over a storage that is said to have so many."""
    return (
        b"\x80\x02" + named("torch._utils", "_rebuild_tensor_v2") + b"((X\x07\x00\x00\x00storage"
        + named("torch", "FloatStorage") + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number(stored) + more
        + b"tQK\x00" + number(shown) + b"\x85" + number(stride) + b"\x85\x89}tR."
    )  # fmt: skip


HUGE = 4 * 10**9
BYTEARRAY = b"\x80\x02" + named("builtins", "bytearray") * 2 + number(HUGE) + b"\x85R\x85R."
PAIRS = b"(" + b"K\x01K\x02\x86" * 3000 + b"lq\x01"
COPIES = b"\x80\x02(" + PAIRS + (named("collections", "OrderedDict") + b"h\x01\x85R") * 20_000 + b"l."
NESTED_KEY = b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 40 + b"K\x01s."
PROGRAMS = {
    "bytearray": BYTEARRAY,
    "any_tensor": b"\x80\x02" + named("torch", "Tensor") + number(HUGE) + b"\x85R.",
    "claims": tensor(HUGE, HUGE, 1),
    "repeats": tensor(HUGE, 4, 0),
    "copies": COPIES,
    "nested_key": NESTED_KEY,
    "buffer": b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b"x.",
}


def old_file(program: bytes) -> bytes:
    """A file of torch before 1.6 with this content."""
    begin = [0x1950A86A20F9469CFC6C, 1001, {}]
    return b"".join(pickle.dumps(one, 2) for one in begin) + program + pickle.dumps([], 2)


def test_a_checkpoint_gets_no_memory_beyond_its_size(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(4)}, tmp_path / "plain")
    files = []
    for name, program in PROGRAMS.items():
        zipped, old = tmp_path / f"{name}.pt", tmp_path / f"{name}.old.pt"
        with zipfile.ZipFile(tmp_path / "plain") as plain, zipfile.ZipFile(zipped, "w") as out:
            for part in plain.namelist():
                out.writestr(part, program if part.endswith("data.pkl") else plain.read(part))
        old.write_bytes(old_file(tensor(HUGE, HUGE, 1, b"N") if name == "claims" else program))
        files += [zipped, old]
    (tmp_path / "bare.pt").write_bytes(BYTEARRAY)
    (tmp_path / "two.pt").write_bytes(old_file(BYTEARRAY))  # torch looks at its begin, zip readers at its end
    with zipfile.ZipFile(tmp_path / "two.pt", "a") as harmless:
        harmless.writestr("x/data.pkl", b"\x80\x02}.")
    with tarfile.open(tmp_path / "tar.pt", "w:") as tar:
        for name, content in (("storages", pickle.dumps(0, 2)), ("pickle", BYTEARRAY)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    files += [tmp_path / name for name in ("bare.pt", "two.pt", "tar.pt")]
    told = sentences("dsm.models.checkpoint_file.read_file", files)
    for file, line in zip(files, told, strict=True):
        assert line.startswith(f"{file} is not a checkpoint that can be read safely ("), line


def test_files_of_old_and_new_torch_are_read_alike(tmp_path: Path) -> None:
    encoder = create_model("tiny")
    state = {"state_dict": encoder.state_dict(), "epoch": 3, "best": 0.5, "size": torch.Size([2, 3])}
    for name, zipped in (("new.pt", True), ("old.pt", False)):
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zipped)
        read = read_file(tmp_path / name)
        assert read["epoch"] == 3
        assert read["size"] == (2, 3)
        assert all(torch.equal(read["state_dict"][key], one) for key, one in encoder.state_dict().items())


def own_checkpoint(file: Path, **about: Any) -> Path:
    """A checkpoint of a tiny encoder that says this about itself."""
    encoder = create_model("tiny")
    state = {f"query.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    config = {"backbone": "tiny", "model": {}, "method": "dsm", "clip": CLIP} | about
    torch.save({"format": 1, "step": 1, "config": json.dumps(config), "method": state}, file)
    return file


@pytest.mark.parametrize(
    "about",
    [
        {"backbone": ["tiny"]},
        {"backbone": {}},
        {"model": {"in_channels": 10**12}},
        {"model": {"widths": "wide"}},
        {"model": json.loads("[" * 500 + "]" * 500)},
        {"classes": 5},
        {"classes": [["a"]]},
        {"method": ["dsm"]},
        {"settings": [1]},
        {"head": "mlp"},
        {"pictures": {"mean": 1, "std": 1}},
        {"clip": [1]},
    ],
)
def test_what_a_checkpoint_says_has_the_right_types(tmp_path: Path, about: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="fit"):
        load_weights(own_checkpoint(tmp_path / "w.pt", **about))


def test_what_a_safetensors_file_says_is_checked(tmp_path: Path) -> None:
    for said, sentence in (
        ("[" * 50_000, "nested too deeply"),
        ("[1]", "it is not an object"),
        ('{"format": 1, "backbone": 5, "model": {}}', "backbone is 5"),
        ('{"format": 1, "backbone": "tiny"}', "has no model"),
    ):
        about = {"__metadata__": {"dsm": said}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
        header = json.dumps(about).encode()
        file = tmp_path / "w.safetensors"
        file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
        with pytest.raises(UserError, match=sentence):
            load_weights(file)


@pytest.mark.parametrize(
    "said",
    [
        {"resize": 65535, "size": 65535},
        {"resize": 65535},
        {"frames": 65535, "resize": 128},
        {"fps": 65535.0},
        {"frames": True},
    ],
)
def test_clips_and_windows_that_an_index_asks_for(said: dict[str, Any]) -> None:
    torch.manual_seed(0)
    encoder = digest(create_model("tiny").eval())
    meta = {"weights": "none", "backbone": "tiny", "clip": CLIP, "encoder": encoder}

    def index(**other: Any) -> Features:
        return Features(np.zeros((1, 2), np.float32), np.zeros(1, np.int64), ["a"], meta | other)

    assert QueryEncoder(index(windows=30, crops=3, every=0.5)).windows == 30
    with pytest.raises(UserError, match="the file has clips of"):
        QueryEncoder(index(clip=CLIP | said))
    for other, sentence in (
        ({"windows": 10**6}, "asks for 1000000 clips of each query"),
        ({"every": 1e-9}, "at least 0.01"),
        ({"crops": 10**9}, "does not support"),
        ({"seed": 10**400}, "does not support"),
    ):
        with pytest.raises(UserError, match=sentence):
            QueryEncoder(index(**other))


def test_the_largest_clips_of_real_networks_are_allowed() -> None:
    assert CLIP_PIXELS > 64 * 384**2
    assert CLIP_PIXELS >= 128 * 512**2


def box(kind: bytes, *content: bytes) -> bytes:
    inside = b"".join(content)
    return struct.pack(">I4s", 8 + len(inside), kind) + inside


def words(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


@pytest.mark.parametrize(
    ("tables", "too_many"),
    [
        ((box(b"stsz", words(0, 1, 10**8)),), True),
        ((box(b"stsz", words(0, 0, 2, 30, 30)),), False),
        ((box(b"stsz", words(0, 1, 100)),), False),
        ((box(b"stco", words(0, 1, 40)), box(b"stsc", words(0, 1, 1, 10**8, 1))), True),
        ((box(b"stco", words(0, 1, 40)), box(b"stsc", words(0, 1, 1, 10, 1))), False),
    ],
)
def test_an_mp4_that_lists_more_frames_than_it_holds(
    tmp_path: Path, tables: tuple[bytes, ...], too_many: bool
) -> None:
    inside = box(b"stbl", *tables)
    for kind in (b"minf", b"mdia", b"trak", b"moov"):
        inside = box(kind, inside)
    file = tmp_path / "video.mp4"
    file.write_bytes(box(b"ftyp", b"isom") + inside + box(b"mdat", bytes(100)))
    found = tables_of(file)
    assert found is not None
    assert found.too_many is too_many
    many = box(b"moof", box(b"traf", box(b"trun", words(0, 200)))) * 9
    file.write_bytes(box(b"ftyp", b"isom") + many)
    assert tables_of(file) == Tables(too_many=True, whole=False), "fragments count together"
    if too_many:
        assert "lists far more frames" in sentences("dsm.video.decode.probe", [file])[0]


def test_pictures_that_say_they_are_giants(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return words(len(content)) + kind + content + words(zlib.crc32(kind + content))

    for width, height in ((100_000, 100_000), (60_000_000, 1)):
        header = words(width, height) + bytes([8, 2, 0, 0, 0])
        picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
        for place in range(3):
            (tmp_path / f"img_{place}.png").write_bytes(picture + chunk(b"IEND", b""))
        assert "img_0.png: " in sentences("dsm.video.decode.probe", [tmp_path])[0]


@pytest.mark.slow
def test_broken_pictures_are_not_kept_in_memory(tmp_path: Path) -> None:
    """Each gets 200 MB when its header is read, and fails; only its sentence is kept."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return words(len(content)) + kind + content + words(zlib.crc32(kind + content))

    header = chunk(b"IHDR", words(8191, 8191) + bytes([8, 2, 0, 0, 0]))
    for place in range(12):
        picture = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        (tmp_path / f"img_{place}.png").write_bytes(picture)
    for call in ("dsm.video.decode.probe", "dsm.video.decode.read_clip"):
        assert "img_0.png: cannot be decoded" in sentences(call, [tmp_path])[0]
