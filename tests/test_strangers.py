"""Untrusted files: their contents are not believed, lead nowhere, and cost neither time nor memory."""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import re
import resource
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
import torch
from rich.table import Table
from warm_dsm import HANG

import dsm
from dsm import locks
from dsm.cli import main
from dsm.data.classes import read_classes
from dsm.data.groups import read_groups
from dsm.data.lists import listable, read_list
from dsm.data.settings import clip_of
from dsm.errors import UserError, sentence
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.evaluate.video_test import read_answers
from dsm.files import read_object
from dsm.models.checkpoint_file import read_file
from dsm.models.export import save_safetensors
from dsm.models.weights import load_weights
from dsm.models.zoo import create_model
from dsm.runs.card import is_untouched
from dsm.runs.folder import read_record
from dsm.runs.logs import RunLog, read_gradients, read_metrics
from dsm.runs.results import Row, write_results
from dsm.terminal import SafeConsole, console, warn
from dsm.train.finetune import FinetuneData, read_lists
from dsm.untrusted import parse_json, read_text
from dsm.verbs.convert import ConvertConfig, convert
from dsm.verbs.frames import FramesConfig, frames
from dsm.verbs.pack import PackConfig, pack
from dsm.verbs.report import read_given
from dsm.verbs.result import Result
from dsm.video.decode import read_frames
from dsm.video.ledger import judge_all
from dsm.video.sampling import at_rate
from dsm.video.source import VideoError


@pytest.mark.parametrize("marker", ['{"my": "own"}', '{"videos": "list.txt"}', "no json", "[" * 200_000])
def test_overwrite_empties_only_folders_that_dsm_made(small_list: Path, tmp_path: Path, marker: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_text("irreplaceable")
    (photos / "pack.json").write_text(marker)
    with pytest.raises(UserError, match="is not empty and is not a pack"):
        pack(PackConfig(small_list, photos, overwrite=True))
    assert (photos / "holiday.jpg").read_text() == "irreplaceable"


def test_overwrite_does_not_empty_what_it_reads(small_list: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    frames(FramesConfig(small_list, out, short_side=64, workers=1))
    before = sorted(out.rglob("*.jpg"))
    with pytest.raises(UserError, match="is inside --out, which --overwrite empties"):
        frames(FramesConfig(out / "list.txt", out, short_side=32, workers=1, overwrite=True))
    assert sorted(out.rglob("*.jpg")) == before


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("config.json", "pretrain --data.train TRAIN --monitor.list LIST --monitor.root ROOT"),
        ("config.json", "finetune --data.train TRAIN --data.test LIST --data.root ROOT --weights RUN"),
        ("fractions.json", "finetune --fractions 0.5 1 --data.train LIST --data.root ROOT --weights RUN"),
        ("test.json", "test --data.test LIST --data.root ROOT --weights RUN"),
        ("bias.json", "bias --data.test LIST --data.root ROOT --weights RUN"),
        ("look.json", "look LIST --score --root ROOT --weights RUN"),
        ("recipe.json", "run still-camera --data.train TRAIN --data.test LIST --data.root ROOT"),
    ],
)
def test_overwrite_keeps_the_input_lists(
    marker: str, words: str, scenes: Path, runs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    ours = {"made_by": "dsm", "command": "", "config": {}, "versions": {}, "revision": None}
    (out / marker).write_text(json.dumps(ours))
    listed = out / "mine.txt"
    listed.write_bytes((scenes / "train.txt").read_bytes())
    meant = {"TRAIN": scenes / "train.txt", "LIST": listed, "ROOT": scenes, "RUN": runs / "tuned"}
    named = [str(meant.get(word, word)) for word in words.split()]
    with pytest.raises(UserError, match="is inside --out, which --overwrite empties"):
        main.run([*named, "--out", str(out), "--overwrite"])
    assert listed.exists()


def test_a_link_among_results_is_not_shown_as_a_picture(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a secret")
    folder = tmp_path / "results"
    write_results(folder / "results.json", [Row("dsm", 0, "test", "R@1", 0.5, None, None, 2)], command="x")
    (folder / "plot.png").symlink_to(tmp_path / "key")
    (folder / "own.png").write_bytes(b"\x89PNG")
    assert [path.name for path, _ in read_given(folder).pictures] == ["own.png"]


@pytest.mark.parametrize("split", ["../../escaped", "/tmp/escaped", "absent"])
def test_a_split_name_in_a_table_is_not_a_path(tmp_path: Path, split: str) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "train.csv").write_text(f"label,youtube_id,time_start,time_end,split\ndance,abc,1,2,{split}\n")
    with pytest.raises(UserError, match="is not the name of a split"):
        convert(ConvertConfig("kinetics", out=tmp_path / "a" / "b" / "lists", annotations=notes))
    assert not list(tmp_path.rglob("*.txt"))


def test_a_decompression_bomb_checkpoint_is_refused(tmp_path: Path) -> None:
    plain, packed, call = tmp_path / "plain.pt", tmp_path / "packed.pt", tmp_path / "call.pt"
    torch.save({"a": torch.zeros(1000)}, plain)
    with zipfile.ZipFile(plain) as whole, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        for name in whole.namelist():
            other.writestr(name, whole.read(name))
    program = b"\x80\x02c__builtin__\nbytearray\n\x8a\x08" + struct.pack("<q", 6_000_000_000) + b"\x85R."
    with zipfile.ZipFile(plain) as whole, zipfile.ZipFile(call, "w") as other:
        for name in whole.namelist():
            other.writestr(name, program if name.endswith("data.pkl") else whole.read(name))
    for file in (packed, call):
        with pytest.raises(UserError, match="is not a checkpoint that can be read safely"):
            load_weights(file)


def test_a_table_of_countless_small_objects_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte of a pickle may make an object of 200: 10 MB took 2.4 GB."""
    module = create_model("tiny")
    torch.save(module.state_dict(), tmp_path / "whole.pt")
    read_file(tmp_path / "whole.pt")
    monkeypatch.setattr("dsm.models.inert.PICKLE_STEPS", 50_000)
    read_file(tmp_path / "whole.pt")
    objects = pickle.dumps([set() for _ in range(50_000)], 4)  # in frames, whose bytes count too
    torch.save(module.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "old.pt").read_bytes()
    begin = content.index(b"\x80\x02", content.index(b"little_endian"))
    (tmp_path / "old.pt").write_bytes(content[:begin] + objects + content[begin:])
    with pytest.raises(UserError, match="more instructions than any network needs"):
        read_file(tmp_path / "old.pt")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            b'{"a":{"dtype":"F32","shape":[' + b",".join([b"1"] * 65) + b'],"data_offsets":[0,4]}}',
            "64 dimensions",
        ),
        (b"{" + b" " * 2**24 + b"}", "header is too long"),
    ],
)
def test_odd_headers_of_safetensors_are_refused(tmp_path: Path, header: bytes, said: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(UserError, match=said):
        read_file(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", ["pipe", "endless", "long"])
def test_texts_that_are_no_ordinary_files_are_not_waited_for(kind: str, tmp_path: Path) -> None:
    """Opening a pipe waits for a writer, and reading /dev/zero fills the memory: both have a size of 0."""
    file = tmp_path / "text"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "endless":
        file.symlink_to("/dev/zero")
    else:
        file.write_bytes(b"x" * 2000)
        with pytest.raises(ValueError, match="more than 1000 bytes"):
            read_text(file, most=1000)
        return
    for name in (
        "config.json",
        "metrics.jsonl",
        "gradients.jsonl",
        "README.md",
        "classes.txt",
        "predictions.csv",
    ):
        (tmp_path / name).symlink_to(file)
    with pytest.raises(ValueError, match="is not an ordinary file"):
        read_text(file)
    assert read_record(tmp_path) is read_object(file) is None
    assert read_metrics(tmp_path) == read_gradients(tmp_path) == read_classes(tmp_path) == []
    assert not is_untouched(tmp_path / "README.md")
    with pytest.raises(UserError):
        read_answers(tmp_path)
    with pytest.raises(UserError, match="no such table"):
        read_groups(file, ["a.mp4"])


@pytest.mark.parametrize("head", [None, "projection"])
def test_weights_with_a_giant_declared_shape_take_no_memory(
    tmp_path: Path, head: Literal["projection"] | None
) -> None:
    module = create_model("tiny").eval()
    about: dict[str, Any] = {"backbone": "tiny", "model": {}, "head": None}
    if head is None:
        about["model"] = {"widths": [12, 32, 64, 8000]}
    else:
        about["head"] = {"dim": 12_000_000, "kind": "linear"}
    save_safetensors(tmp_path / "giant.safetensors", module, about)
    state = {"format": 1, "config": json.dumps({**about, "method": "dsm"}), "method": {}}
    state["method"] = {f"query.encoder.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save(state, tmp_path / "giant.pt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for file in ("giant.safetensors", "giant.pt"):
        with pytest.raises(UserError, match="fit"):
            load_weights(tmp_path / file, head=head)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB


def test_a_one_pixel_high_video_is_not_enlarged(tmp_path: Path) -> None:
    thin = tmp_path / "thin.gif"
    with av.open(str(thin), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 60000, 1, "rgb8"
        for _ in range(3):
            picture = np.zeros((1, 60000, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture).reformat(format="rgb8")))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="60000 x 1 pixels would become"):
        read_frames(thin, np.arange(2), short_side=128)


def test_a_video_with_an_absurd_duration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="too many frames"):
        at_rate(np.array([0.0, 0.1, 1e9]), 12.0)
    assert len(at_rate(np.array([0.0, 0.1, 0.2]), 10.0).numbers) == 3


def test_deeply_nested_json_costs_one_verdict(small_list: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(bytes(1024))
    (tmp_path / "x.json").write_text("[" * 200_000)
    good = read_list(small_list).file(0)
    verdicts = judge_all([tmp_path / "x.tar" / "a", good], workers=1)
    assert [one.verdict for one in verdicts] == ["undecodable", "ok"]


def test_lists_of_blanks_and_of_huge_numbers_are_read_fast(tmp_path: Path) -> None:
    began = time.process_time()
    for text in ("a.mp4 0\n" + "a" + " " * 40_000 + "b\n", "a.mp4 0\n" * 1000 + " " * 100_000 + "x\n"):
        (tmp_path / "list.txt").write_text(text)
        with pytest.raises(UserError, match="is longer than any path"):
            read_list(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("a.mp4 0\n" + ("b" + " " * 8000 + "c 1\n") * 200)
    assert len(read_list(tmp_path / "list.txt")) == 201
    assert time.process_time() - began < 20  # it was quadratic in the length of a line: minutes
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 2147483647\n")
    with pytest.raises(UserError, match="line 2: the label is above"):
        read_list(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 400000\n")
    with pytest.raises(UserError, match="its labels go up to 400000"):
        read_lists(FinetuneData(tmp_path / "list.txt"))


def test_lists_that_are_no_text_or_have_countless_lines_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they are decoded and parsed: 100 MB of empty lines took 7 GB."""
    file = tmp_path / "list.txt"
    file.write_bytes(bytes(10**5))
    with pytest.raises(UserError, match="not a UTF-8 text file"):
        read_list(file)
    monkeypatch.setattr("dsm.data.lists.LIST_LINES", 1000)
    file.write_text("a.mp4\n" * 1000)
    assert len(read_list(file)) == 1000
    file.write_text("a.mp4\n" + "\n" * 1000)
    with pytest.raises(UserError, match="more than 1000 lines"):
        read_list(file)
    file.write_text("a.mp4\n")
    monkeypatch.setattr("dsm.data.classes.TEXT_BYTES", 1000)
    (tmp_path / "classes.txt").write_bytes(bytes(1001))
    with pytest.raises(UserError, match=r"classes.txt: has 1001 bytes, but dsm reads at most 1000"):
        read_list(file)


def test_features_with_bombs_or_giant_labels_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.npz"
    arrays = {"features": np.ones((2, 3), np.float32), "labels": np.array([0, 1]), "meta": np.array("{}")}
    np.savez(file, **arrays, paths=np.array(["a", "b"]))
    assert len(load_features(file)) == 2
    np.savez(file, **{**arrays, "labels": np.array([0, 4 * 10**8])}, paths=np.array(["a", "b"]))
    with pytest.raises(UserError, match="labels must be from"):
        load_features(file)
    for paths in (np.empty(10**8, "<U0"), np.array(["a"])):
        np.savez(file, **arrays, paths=paths)
        with pytest.raises(UserError, match="is not a features file"):
            load_features(file)
    np.savez_compressed(file, **arrays, paths=np.array(["a" * 15 * 10**6, "b"]))
    with pytest.raises(UserError, match="is not a features file"):
        load_features(file)


@pytest.mark.parametrize(("rows", "length"), [(20_000_000, 1), (2, 6 * 10**7)])
def test_a_parquet_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, length: int
) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    save_features(tmp_path / "f.parquet", Features(np.ones((2, 3), np.float32), np.arange(2), ["a", "b"], {}))
    assert len(load_features(tmp_path / "f.parquet")) == 2
    table = arrow.table({"label": np.zeros(rows, np.int64), "path": arrow.repeat("a" * length, rows)})
    parquet.write_table(table, tmp_path / "f.parquet", compression="zstd")
    monkeypatch.setattr(parquet, "read_table", lambda _: pytest.fail("it is read"))
    with pytest.raises(UserError, match="is not a features file"):
        load_features(tmp_path / "f.parquet")


@pytest.mark.parametrize(
    "clip",
    [
        {"zoom": 2},
        {"frames": "16"},
        [1],
        {"modality": "x"},
        {"modality": []},
        {"frames": 10**12},
        {"fps": None},
    ],
)
def test_clip_settings_in_a_file_are_validated(clip: object) -> None:
    with pytest.raises(UserError):
        clip_of(clip)
    assert clip_of({"frames": 8, "fps": 12.5, "modality": "flow"}).frames == 8


def test_foreign_logs_are_read_as_far_as_possible(tmp_path: Path) -> None:
    lines = [
        '{"step": 1, "loss": "x", "motion": null, "lr": 0.5}',
        '{"step": 3, "lo{"step": 4}',
        "[" * 100_000,
        "3",
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 5, "loss": 1.0}']))
    assert read_metrics(tmp_path) == [
        {"step": 1, "motion": math.nan, "lr": 0.5},  # a single nan object, so that it equals itself
        {"step": 5, "loss": 1.0},
    ]
    (tmp_path / "gradients.jsonl").write_text('x}\n{"step": 1}\n{"step": 2, "layers": {"a": [1, 2, 3]}}\n')
    assert [line["step"] for line in read_gradients(tmp_path)] == [2]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory ran out"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
            "memory ran out",
        ),
        (
            RuntimeError("unable to open shared memory object: Too many open files (24)"),
            "too many open files",
        ),
        (ImportError("libtorch.so: failed to map segment from shared object"), "memory ran out"),
        (RuntimeError("could not execute a primitive"), "memory ran out"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
            "--optim.accumulate 4, --precision",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "the GPU's memory ran out"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "the GPU's memory ran out"),
        (RuntimeError("GET was unable to find an engine to execute this"), "the GPU's memory ran out"),
        (RuntimeError("can't start new thread"), "no thread or process can be started"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EFBIG, "File too large", "a.mp4"), "a.mp4: the disk is full"),
        (OSError(errno.EROFS, "Read-only file system", "o"), "o: the disk is read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "o"), "o: Permission denied."),
    ],
)
def test_a_fault_of_the_machine_is_a_sentence_with_the_remedy(error: Exception, said: str) -> None:
    assert said in str(sentence(error))
    assert sentence(RuntimeError("a fault of our own")) is None


def test_that_memory_ran_out_is_told_with_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(main, "run", fails)
    monkeypatch.setattr(SafeConsole, "print", fails)
    monkeypatch.setattr(main, "leave_by_exception", lambda: None)
    monkeypatch.setattr(sys, "argv", ["dsm", "doctor"])
    with pytest.raises(SystemExit, match="2"):
        main.main()
    assert capsys.readouterr().err.startswith("dsm: memory ran out")


@pytest.mark.parametrize("verb", ["data synth", "data pack", "data frames", "data index"])
def test_a_full_disk_ends_a_verb_with_one_sentence(verb: str, small_list: Path, tmp_path: Path) -> None:
    """Files may have a few bytes here; a full disk differs by the number of the error alone."""
    words: list[object] = [*verb.split(), small_list, "--out", tmp_path / "o"]
    if verb == "data synth":
        words = ["data", "synth", tmp_path / "o", "--train", 4, "--test", 2, "--motions", 2, "--workers", 1]
    if verb == "data index":
        words = ["data", "index", small_list.parent, "--out", tmp_path / "o", "--unlabelled"]
    code = f"""
import resource, sys
from dsm.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({2 if verb == "data index" else 300}, resource.RLIM_INFINITY))
sys.argv = ["dsm", *{list(map(str, words))!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    log = RunLog(tmp_path)
    log._metrics.close()
    log._metrics._file = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115
    log.write(1, {"loss": 1.0})
    log.write(2, {"loss": 1.0})
    log.close()
    assert capfd.readouterr().err.count("a line cannot be written (No space left on device)") == 2


def test_a_failing_tensorboard_does_not_stop_a_run(tmp_path: Path) -> None:
    """Files are limited to 20 kB, and TensorBoard's thread fails."""
    code = f"""
import resource, signal
from pathlib import Path
from dsm.runs.logs import RunLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = RunLog(Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for step in range(200):
    log.write(step, {{f"number{{i}}": 0.5 for i in range(30)}})
log.close()
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG)
    assert "went on" in done.stdout, done.stderr
    assert done.stderr.count("tensorboard does not take the run's numbers") == 1


def test_results_with_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    row = {"run": "a", "seed": 0, "test": "t", "metric": "m", "low": None, "high": None, "n": 1}
    (tmp_path / "results.json").write_text(json.dumps({"rows": [{**row, "value": 10**400}]}))
    with pytest.raises(UserError, match="is not a results file"):
        read_given(tmp_path)


def test_what_is_printed_cannot_send_terminal_escapes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names in lines, tables and warnings; rich strips a few control characters, but not escapes."""
    odd = "a\x1b[2J\x9b\x07.mp4"
    table = Table("name")
    table.add_row(odd)
    SafeConsole(highlight=False).print(odd)
    SafeConsole(highlight=False).print(table)
    console.print(odd)
    warn(odd)
    said = "".join(capfd.readouterr()) + str(Result(tables=[table], lines=[odd]))
    assert said.count("a\\x1b[2J\\x9b\\x07.mp4") == 6
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", said)


def test_halves_of_characters_are_refused(tmp_path: Path) -> None:
    """They can be read from a file, but neither printed nor written."""
    whole, half = "a\U0001f600.mp4", "a\udcff.mp4"
    for path in (whole, half):
        save_features(
            tmp_path / "f.npz", Features(np.ones((1, 2), np.float32), np.zeros(1, np.int64), [path], {})
        )
        if path == whole:
            assert load_features(tmp_path / "f.npz").paths == [whole]
    with pytest.raises(UserError, match="one of its paths contains a control character"):
        load_features(tmp_path / "f.npz")
    assert parse_json(json.dumps({whole: [whole]})) == {whole: [whole]}
    with pytest.raises(ValueError, match="half a character"):
        parse_json(json.dumps({"a": [half]}))
    assert str(UserError(half)) == "a\\udcff.mp4"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / os.fsdecode(b"d\xff")
    odd.mkdir()
    (odd / "l.txt").write_text("a.mp4\n")
    with pytest.raises(UserError, match=r"d\\udcff/l.txt: its name is not UTF-8; rename it"):
        dsm.data.check(videos=odd / "l.txt")
    with pytest.raises(UserError, match=r"d\\udcff: its name is not UTF-8"):
        dsm.data.synth(out=odd, train=2, test=2)
    monkeypatch.chdir(odd)
    with pytest.raises(UserError, match=r"d\\udcff: the name of this folder is not UTF-8"):
        dsm.data.check(videos="l.txt")
    monkeypatch.setattr(sys, "argv", ["dsm", "data check", str(odd)])
    with locks.work():
        locks.hold(tmp_path / "out")  # writes the command into the lock


@pytest.mark.parametrize("odd", ["\x1b]0;x\x07", "\x9b2J", "\x7f", "a\rb", "\0"])
def test_names_cannot_send_terminal_escapes(tmp_path: Path, odd: str) -> None:
    (tmp_path / "l.txt").write_bytes(f"fine.mp4 0\n{odd}.mp4 1\n".encode())
    with pytest.raises(UserError, match=r"line 2: the path contains a control character") as raised:
        read_list(tmp_path / "l.txt")
    assert odd not in str(raised.value)
    with pytest.raises(UserError, match="rename the file"):
        listable(f"{odd}.mp4")
    (tmp_path / "classes.txt").write_text(
        f"run\n{odd}\n" if odd != "a\rb" else "run\n\x1b\n", encoding="utf-8"
    )
    with pytest.raises(UserError, match="a name contains a control character"):
        read_classes(tmp_path)
    features = Features(np.ones((1, 2), np.float32), np.zeros(1, np.int64), [f"{odd}x"], {})
    save_features(tmp_path / "f.npz", features)
    with pytest.raises(UserError, match="one of its paths contains a control character"):
        load_features(tmp_path / "f.npz")
    encoder = create_model("tiny")
    state = {f"query.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    about = {"method": odd, "backbone": "tiny", "model": {}, "clip": {}}
    torch.save({"format": 1, "config": json.dumps(about), "method": state}, tmp_path / "w.pt")
    with pytest.raises(
        UserError, match="a class or method named in the weights contains a control character"
    ):
        load_weights(tmp_path / "w.pt")
    assert "\x1b" not in str(UserError("no such file: \x1b[2J"))
