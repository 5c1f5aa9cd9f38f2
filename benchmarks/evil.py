"""Files that attack their readers, for benchmarks/strangers.py: lies about sizes, bombs, endless devices."""

# ruff: noqa: E501 - an attack is easier to read in one line

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def npy(shape: str, kind: str = "'<f4'", content: bytes = b"", more: str = "", version: int = 1) -> bytes:
    """A ``.npy`` with any header."""
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}{more}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + content


def npz(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)


def array(value: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(value), allow_pickle=True)
    return file.getvalue()


def features(folder: Path, video: str) -> None:
    """Features files that lie about their shapes and about what they are of."""
    rows = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    good = {"features": array(rows), "labels": array([0, 1, 0, 1]), "paths": array([video] * 4)}
    meta = {
        "weights": "none",
        "backbone": "tiny",
        "clip": {"frames": 4, "size": 32, "resize": 40},
        "windows": 1,
    }
    good["meta"] = array(json.dumps(meta))
    headers = {
        "many_rows": npy("(1000000000000, 8)"),
        "no_columns": npy("(1000000000000, 0)"),
        "overflow": npy("(4294967296, 4294967296)"),
        "negative": npy("(-4, -8)"),
        "float_shape": npy("(4.0, 8)"),
        "bool_shape": npy("(True, 8)"),
        "deep": npy("(" + "-" * 9000 + "1, 8)"),
        "nested": npy("(" * 4000 + "1" + ",)" * 4000),
        "long_header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{",
        "objects": npy("(4, 8)", "'|O'", b"cos\nsystem\n(S'echo evil'\ntR."),
        "structured": npy("(4,)", "[('a', '<f4', (1000000000,))]"),
        "text": npy("()", "'<U1000000000'"),
        "wide": npy("(4, 8)", "'<U500000000'"),
        "long_double": npy("(4, 8)", "'<f16'", bytes(512)),
    }
    for name, header in headers.items():
        for key in ("features", "labels", "paths", "meta"):
            npz(folder / f"{name}_{key}.npz", {**good, key: header})
        npz(folder / f"{name}_packed.npz", {**good, "features": header + bytes(10**6)}, zipfile.ZIP_DEFLATED)
        (folder / f"{name}.npy").write_bytes(header)
    lies = [
        {"clip": {"frames": 10**9}}, {"clip": {"frames": 64, "size": 60000, "resize": 60000}},
        {"clip": {"fps": 1e300}}, {"clip": {"stride": 10**18}}, {"clip": "x"}, {"clip": [1]}, {"windows": 10**9},
        {"windows": -1}, {"windows": True}, {"every": 1e-300}, {"every": -1.0}, {"every": "x"}, {"crops": 10**6},
        {"backbone": "../../etc/passwd"}, {"backbone": 3}, {"weights": "/dev/zero"}, {"weights": "\x1b[2J"},
        {"weights": 5}, {"root": "/etc"}, {"root": 7}, {"root": "\x1b]0;x\x07"}, {"below": "/"}, {"classes": "ab"},
        {"classes": ["\x1b[2J", "b"]}, {"classes": [["a"]]}, {"run": "\x1b[2J"}, {"run": "<script>"},
        {"seed": 10**400}, {"every": 10**400}, {"deep": json.loads("[" * 900 + "]" * 900)}, {"init": "x" * 10**6},
    ]  # fmt: skip
    for number, lie in enumerate(lies):
        text = json.dumps({**meta, **lie})
        npz(folder / f"meta_{number:02}_{next(iter(lie))}.npz", {**good, "meta": array(text)})
    for name, text in {
        "deep": "[" * 200_000,
        "nan": '{"every": NaN}',
        "list": "[1]",
        "digits": "9" * 9000,
    }.items():
        npz(folder / f"text_{name}.npz", {**good, "meta": array(text)})
    names = {
        "up": "../../../etc/passwd", "absolute": "/etc/passwd", "device": "/dev/zero", "escape": "\x1b[2J.mp4",
        "line": "a\nb.mp4", "surrogate": "\udcff.mp4", "long": "x" * 10**5, "right_to_left": "a\u202egpj.mp4",
        "url": "http://127.0.0.1:1/x.mp4", "file_url": "file:///etc/passwd", "zero": "a\0b.mp4",
    }  # fmt: skip
    for name, path in names.items():
        content = npy("(4,)", f"'<U{len(path)}'", path.encode("utf-32-le", "surrogatepass") * 4)
        npz(folder / f"path_{name}.npz", {**good, "paths": content})
    npz(folder / "no_meta.npz", {key: good[key] for key in ("features", "labels", "paths")})
    npz(folder / "huge_label.npz", {**good, "labels": array([0, 1, 2, 999_999])})
    npz(folder / "nan.npz", {**good, "features": array(rows * np.nan)})
    npz(folder / "huge.npz", {**good, "features": array(rows * np.float32(1e38))})
    npz(folder / "zeros.npz", {**good, "features": array(rows * 0)})
    npz(
        folder / "empty.npz",
        {**good, "features": array(rows[:0]), "labels": array([0][:0]), "paths": array(["a"][:0])},
    )
    npz(folder / "times.npz", {**good, "times": array([[np.inf, -np.inf], [1e300, -5], [5, 1], [0, 0]])})
    npz(folder / "columns.npz", {**good, "features": npy("(4, 200000000)")})
    npz(
        folder / "bomb.npz",
        {**good, "features": npy("(1000000, 500)", content=bytes(2 * 10**9))},
        zipfile.ZIP_DEFLATED,
    )
    whole = folder / "whole.npz"
    npz(whole, good)
    content = whole.read_bytes()
    end = content.rfind(b"PK\5\6")
    (folder / "entries_lie.npz").write_bytes(content[: end + 8] + b"\xff\xff\xff\xff" + content[end + 12 :])
    central = content.find(b"PK\1\2")
    for name, place, value in (
        ("size_lies", 24, 2**32 - 2),
        ("packed_lies", 20, 2**32 - 2),
        ("place_lies", 42, 2**31),
    ):
        broken = bytearray(content)
        struct.pack_into("<I", broken, central + place, value)
        (folder / f"{name}.npz").write_bytes(broken)
    extra = struct.pack("<HHQQ", 1, 16, 2**60, 2**60)
    broken = bytearray(content)
    struct.pack_into("<II", broken, central + 20, 2**32 - 1, 2**32 - 1)
    length = struct.unpack_from("<H", broken, central + 28)[0]
    old = struct.unpack_from("<H", broken, central + 30)[0]
    struct.pack_into("<H", broken, central + 30, old + len(extra))
    broken[central + 46 + length : central + 46 + length] = extra
    size = struct.unpack_from("<I", content, end + 12)[0] + len(extra)
    struct.pack_into("<I", broken, end + len(extra) + 12, size)
    (folder / "zip64_lies.npz").write_bytes(broken)
    whole.unlink()
    special(folder, (".npz", ".npy", ".parquet", ".h5"))
    columns(folder, video, rows, json.dumps(meta))


def columns(folder: Path, video: str, rows: Any, meta: str) -> None:
    """Parquet and HDF5 files."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        pass
    else:
        wide = arrow.FixedSizeListArray.from_arrays(arrow.array(rows.reshape(-1)), 8)
        deep: Any = arrow.array([1.0] * 4)
        for _ in range(60):
            deep = arrow.ListArray.from_arrays([0, 1, 2, 3, 4], deep)
        kinds = {
            "nulls": {"feature": arrow.nulls(4)},
            "deep": {"feature": deep},
            "uneven": {"feature": arrow.array([[1.0], [1.0, 2.0], [], [1.0]])},
            "long_path": {"path": arrow.array(["x" * 10**6, "a", "b", "c"])},
            "bytes": {"path": arrow.array([b"\xff"] * 4)},
            "null_path": {"path": arrow.array(["a", None, "b", "c"])},
            "dictionary": {"path": arrow.array([video] * 4).dictionary_encode()},
            "label_floats": {"label": arrow.array([0.5, np.nan, 1e300, 0.0])},
            "starts": {"start": arrow.array(["a"] * 4), "end": arrow.array([1.0] * 4)},
        }
        for name, change in kinds.items():
            table = {"path": arrow.array([video] * 4), "label": arrow.array([0, 1, 0, 1]), "feature": wide}
            made = arrow.table({**table, **change}).replace_schema_metadata({"dsm": meta})
            parquet.write_table(made, folder / f"{name}.parquet")
        many = arrow.table({"path": ["x" * 30_000, *["a"] * 99_999], "label": np.zeros(10**5, np.int64),
                            "feature": arrow.FixedSizeListArray.from_arrays(arrow.array(np.zeros(2 * 10**5)), 2)})  # fmt: skip
        parquet.write_table(many.replace_schema_metadata({"dsm": meta}), folder / "one_long_path.parquet")
        good = (folder / "dictionary.parquet").read_bytes()
        for seed in range(12):
            broken = bytearray(good)
            for place in np.random.default_rng(seed).integers(4, len(broken), 6):
                broken[place] ^= 0xFF
            (folder / f"flipped{seed}.parquet").write_bytes(broken)
        (folder / "footer_lies.parquet").write_bytes(good[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1")
    try:
        import h5py
    except ImportError:
        return
    with h5py.File(folder / "many_empty.h5", "w") as file:
        for number in range(300):
            file.create_dataset(f"a{number}", (5000, 5000), "f4", chunks=(100, 100))
    with h5py.File(folder / "giant.h5", "w") as file:
        file.create_dataset("x", (10**9, 512), "f4", chunks=(1000, 512))
    with h5py.File(folder / "texts.h5", "w") as file:
        file["x"] = rows
        texts = file.create_dataset("p", (200_000,), h5py.string_dtype(), chunks=(1000,))
        texts[0] = "x" * 10**5
        one = file.create_dataset("q", (1,), h5py.string_dtype())
        one[0] = "y"
    # Every row of p refers to the one long text.
    content = bytearray((folder / "texts.h5").read_bytes())
    heap = content.find(b"GCOL")
    for place in (
        match.start() for match in re.finditer(re.escape(struct.pack("<I", 10**5)), bytes(content))
    ):
        reference = bytes(content[place : place + 16])
        if struct.unpack_from("<Q", reference, 4)[0] == heap:
            for row in range(1000):
                content[place + 16 * row : place + 16 * row + 16] = reference
            break
    (folder / "repeated_text.h5").write_bytes(content)
    with h5py.File(folder / "links.h5", "w") as file:
        file["x"] = rows
        file["away"] = h5py.ExternalLink("/etc/passwd", "/")
        file["loop"] = h5py.SoftLink("/loop")
        file.create_dataset("raw", (10,), "u1", external=[("/etc/passwd", 0, 10)])


class Evil:
    def __init__(self, call: Any, words: tuple[Any, ...], state: Any = None) -> None:
        self.call, self.words, self.state = call, words, state

    def __reduce__(self) -> Any:
        return (self.call, self.words) if self.state is None else (self.call, self.words, self.state)


def weights(folder: Path) -> None:
    """Pickles, checkpoints and safetensors."""
    import torch

    torch.save({"a": torch.zeros(8)}, folder / "plain.pt")
    with zipfile.ZipFile(folder / "plain.pt") as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    (folder / "plain.pt").unlink()
    table = next(name for name in entries if name.endswith("data.pkl"))
    start = b"\x80\x02"
    bombs = {
        "reduce": pickle.dumps(Evil(os.system, ("echo evil",)), 2),
        "eval": pickle.dumps(Evil(eval, ("9**9**9",)), 2),
        "build": pickle.dumps({"a": Evil(list, (), {"__class__": "x", "append": 1})}, 2),
        "memo": start + b"]r\xff\xff\xff\x7f.",
        "memo_get": start + b"]q\0j\xff\xff\xff\x7f.",
        "long": start + b"\x8b\xff\xff\xff\x7f.",
        "text": start + b"\x8d" + struct.pack("<Q", 2**62) + b"x.",
        "bytes": start + b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
        "bytearray": start + b"\x96" + struct.pack("<Q", 2**32) + b".",
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"].",
        "laughs": start + b"]q\0" + b"".join(b"]q" + bytes([i + 1]) + b"(" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(100)) + b".",
        "tuples": start + b")q\0" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(100)) + b".",
        "tuple_key": start + b"}" + b")q\0" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60)) + b"K\1s.",
        "deep": start + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        "deep_tuples": start + b")" + b"\x85" * 10**6 + b".",
        "lists": start + b"(" + b"]" * 3 * 10**7 + b"l.",
        "sets": b"\x80\x04(" + b"\x8f" * 10**7 + b"l.",
        "itself": start + b"}q\0(X\1\0\0\0ah\0u.",
        "range": start + b"c__builtin__\nrange\nK\0\x8a\6\xff\xff\xff\xff\xff\x00\x86Rq\0c__builtin__\nlist\nh\0\x85R.",
        "zeros": start + b"ctorch\nzeros\n\x8a\5\0\0\0\0\1\x85R.",
        "encode": start + b"c_codecs\nencode\n" + b"X\1\0\0\0aX\5\0\0\0utf32\x86R.",
        "shape": start + b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpuK\x08tQK\0\x8a\6\0\0\0\0\0\1\x85K\0\x85\x89ccollections\nOrderedDict\n)RtR.",
        "negative_stride": start + b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpuK\x08tQK\0K\x08\x85J\xff\xff\xff\xff\x85\x89ccollections\nOrderedDict\n)RtR.",
        "stop": start, "nothing": b"", "name": start + b"c\x1b[2J\n\x1b]0;x\x07\n)R.",
    }  # fmt: skip
    magic = (
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + pickle.dumps({"little_endian": True}, 2)
    )
    for name, program in bombs.items():
        (folder / f"raw_{name}.pt").write_bytes(program)
        (folder / f"old_{name}.pth").write_bytes(magic + program + pickle.dumps([], 2))
        with zipfile.ZipFile(folder / f"zip_{name}.ckpt", "w") as archive:
            for entry, content in entries.items():
                archive.writestr(entry, program if entry == table else content)
    headers = {
        "overlap": {"a": [0, 400], "b": [0, 400]}, "negative": {"a": [-400, 0]}, "beyond": {"a": [0, 2**60]},
        "backwards": {"a": [400, 0]}, "hole": {"a": [100, 500]},
    }  # fmt: skip
    for name, places in headers.items():
        about = {
            key: {"dtype": "F32", "shape": [100], "data_offsets": offsets} for key, offsets in places.items()
        }
        text = json.dumps(about).encode()
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(400))
    texts = {
        "overflow": b'{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}}',
        "no_numbers": b'{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}',
        "type": b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}',
        "deep": b"[" * 10**6, "deep_meta": b'{"__metadata__":' + b'{"a":' * 10**5 + b"}" * 10**5,
        "meta": b'{"__metadata__":{"dsm":"' + b"[" * 10**5 + b'"}}', "list": b"[]", "null": b"null",
        "lies": b'{"__metadata__":{"dsm":"{\\"backbone\\": 5, \\"model\\": []}"}}',
        "many": b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(10**6)) + b"}",
        "long_shape": b'{"a":{"dtype":"F32","shape":[' + b",".join([b"1"] * 10**6) + b'],"data_offsets":[0,4]}}',
        "name": b'{"\\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    }  # fmt: skip
    for name, text in texts.items():
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    (folder / "header.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    (folder / "short.safetensors").write_bytes(b"\1\2")
    special(folder, (".pt", ".safetensors"))


def special(folder: Path, endings: tuple[str, ...]) -> None:
    """What is no file, or looks endless."""
    for ending in endings:
        os.mkfifo(folder / f"fifo{ending}")
        (folder / f"zero{ending}").symlink_to("/dev/zero")
        (folder / f"random{ending}").symlink_to("/dev/random")
        (folder / f"loop{ending}").symlink_to(folder / f"loop{ending}")
        (folder / f"folder{ending}").mkdir()
        with (folder / f"gigabyte{ending}").open("wb") as file:
            file.truncate(10**9)
        (folder / f"{'n' * (250 - len(ending))}{ending}").write_bytes(b"x")
        (folder / f"empty{ending}").write_bytes(b"")


def lists(folder: Path, video: str) -> None:
    special(folder, (".txt", ".csv", ".json"))
    odd = {"escape": "\x1b[2J.mp4", "tab": "a\tb.mp4", "surrogate": "\udcff.mp4", "up": "../" * 3000 + "x.mp4",
           "null": "a\0b.mp4", "long": "x" * 300 + ".mp4", "fifo": f"{folder}/fifo.mp4", "zero": "/dev/zero",
           "random": "/dev/random", "stdin": "/dev/stdin", "tty": "/dev/tty", "mem": "/proc/self/mem",
           "segment": f"{video}#-5-1e300", "nan": f"{video}#nan-inf", "part": f"{video}#0-1#0-1", "folder": "/",
           "url": "http://127.0.0.1:1/a.mp4", "scheme": "concat:/etc/passwd|/etc/passwd", "pipe": "pipe:0",
           "tar": f"{folder}/shard.tar/a", "kmsg": "/dev/kmsg"}  # fmt: skip
    os.mkfifo(folder / "fifo.mp4")
    for name, path in odd.items():
        line = f"{path} 0 30\n{video} 1 30\n"
        (folder / f"names_{name}.txt").write_bytes(line.encode("utf-8", "surrogateescape"))
    texts = {
        "deep.json": "[" * 10**6, "deep_dict.json": '{"a":' * 10**5, "digits.json": '{"a": ' + "9" * 10**5 + "}",
        "deep.jsonl": '{"path": ' + "[" * 10**5 + "\n", "labels.json": json.dumps({video: 10**400}),
        "quotes.csv": 'path,label\n"' + "x" * 10**6, "columns.csv": ",".join(["a"] * 10**5) + "\n",
        "label.csv": f"path,label\n{video},{'9' * 5000}\n", "nan.csv": f"path,label,start,end\n{video},1,nan,inf\n",
        "huge_label.txt": f"{video} 999999 30\n{video} 0 30\n", "frames.txt": f"{video} 0 2147483647\n",
        "utf16.txt": "\ufeffa.mp4 0\n",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-16" if name.startswith("utf16") else "utf-8")
    (folder / "lines.txt").write_bytes(b"\n" * 10**8)
    for name in ("zero", "fifo", "gigabyte"):  # class names beside a list
        beside = folder / f"classes_{name}"
        beside.mkdir()
        (beside / "list.txt").write_text(f"{video} 0 30\n{video} 1 30\n")
        if name == "zero":
            (beside / "classes.txt").symlink_to("/dev/zero")
        elif name == "fifo":
            os.mkfifo(beside / "classes.txt")
        else:
            with (beside / "classes.txt").open("wb") as file:
                file.truncate(10**9)


def videos(folder: Path, video: str) -> None:
    special(folder, (".mp4", ".avi", ".gif", ".jpg", ".tar"))
    good = Path(video).read_bytes()
    for name in ("a\nb.mp4", "\x1b[2J\x1b]0;x\x07.mp4", "-rf.mp4", "$(touch evil).mp4", "a\u202eb.mp4"):
        (folder / name).write_bytes(good)
    with open(os.fsencode(folder) + b"/\xff\xfe.mp4", "wb") as file:  # noqa: PTH123
        file.write(good)
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    (folder / "concat.mp4").write_text("ffconcat version 1.0\nfile /etc/passwd\nfile /dev/zero\n")
    (folder / "svg.jpg").write_text(
        '<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="/etc/passwd"/></svg>'
    )
    (folder / "sdp.mp4").write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n")
    gif = b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"
    (folder / "big.gif").write_bytes(gif)
    for name, kind, link in (("links", tarfile.SYMTYPE, "/etc/passwd"), ("hard", tarfile.LNKTYPE, "/etc/passwd"),
                             ("device", tarfile.CHRTYPE, ""), ("fifo", tarfile.FIFOTYPE, "")):  # fmt: skip
        with tarfile.open(folder / f"shard_{name}.tar", "w") as archive:
            for path in ("/etc/absolute.mp4", "../up.mp4", "a"):
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = kind, link
                archive.addfile(entry, io.BytesIO())
    tars = {"a": 10, "b": 2**40}
    about = {"videos": {name: {"offset": 512, "size": size, "frames": 10**9} for name, size in tars.items()}}
    for name, text in (("lies", json.dumps(about)), ("deep", "[" * 10**5), ("null", "null")):
        (folder / f"pack_{name}.tar").write_bytes(bytes(10240))
        (folder / f"pack_{name}.json").write_text(text)


def runs(folder: Path, run: Path) -> None:
    """Run folders whose texts are evil."""
    evil: dict[str, Callable[[Path], object]] = {
        "fifo": lambda file: os.mkfifo(file),
        "zero": lambda file: file.symlink_to("/dev/zero"),
        "gigabyte": lambda file: os.truncate(os.open(file, os.O_RDWR | os.O_CREAT), 10**9),
        "deep": lambda file: file.write_text("[" * 10**6),
        "types": lambda file: file.write_text('{"rows": 3, "step": "x", "config": 5, "settings": [1], "files": {}}'),
        "escape": lambda file: file.write_text('{"made_by": "dsm", "command": "\\u001b[2J", "rows": [{"run": "\\u001b[2J"}]}'),
        "numbers": lambda file: file.write_text('{"step": 1e400, "loss": ' + "9" * 400 + "}\n" * 3),
        "secret": lambda file: file.symlink_to("/etc/passwd"),
    }  # fmt: skip
    for name in ("config.json", "metrics.jsonl", "gradients.jsonl", "results.json", "ledger.json", "README.md",
                 "trackers.json"):  # fmt: skip
        for kind, make in evil.items():
            copy = folder / f"{Path(name).stem}_{kind}"
            shutil.copytree(run, copy)
            (copy / name).unlink(missing_ok=True)
            make(copy / name)
