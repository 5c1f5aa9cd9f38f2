"""Features of other tools are imported with any array names; an error lists what the file holds."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsm.cli import main
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features

RNG = np.random.default_rng(0)
FEATS, LABELS = RNG.normal(size=(61, 8)).astype(np.float32), np.arange(61) % 3
NAMES = np.array([f"v{i}.mp4" for i in range(61)])


def take(file: Path, *words: object) -> Any:
    out = file.parent / "out.npz"
    main.run(["data", "features", str(file), "--out", str(out), "--overwrite", *map(str, words)])
    return load_features(out)


def test_array_names_are_given_or_inferred_if_unique(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "theirs.npz"
    np.savez(file, feats=FEATS, label=LABELS, names=NAMES)
    for words in ([], ["--features", "feats", "--labels", "label", "--paths", "names"]):
        found = take(file, *words)
        assert np.array_equal(found.features, FEATS)
        assert found.labels.tolist() == LABELS.tolist()
        assert found.paths == NAMES.tolist()
    assert "features from feats, labels from label, paths from names" in " ".join(
        capsys.readouterr().err.split()
    )


def test_the_imported_file_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "out.npz"  # where `take` writes
    np.savez(file, feats=FEATS)
    before = file.read_bytes()
    with pytest.raises(UserError, match="is read by this command"):
        take(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("verb", ["retrieve", "probe", "search", "embed"])
def test_every_command_takes_imported_features(verb: str, tmp_path: Path) -> None:
    file, out = tmp_path / "theirs.npz", str(tmp_path / "results")
    np.savez(file, feats=FEATS, label=LABELS, names=NAMES)
    take(file)
    ours = str(tmp_path / "out.npz")
    words = {
        "retrieve": ["--gallery", ours, "--queries", ours, "--shown", "0", "--out", out],
        "probe": ["--train", ours, "--test", ours, "--out", out],
        "search": ["--index", ours, "--duplicates", "--out", f"{out}.tsv"],
        "embed": [ours, "--out", out, "--clips", "0"],
    }[verb]
    main.run([verb, *words])


def test_the_message_lists_the_arrays_and_the_command(tmp_path: Path) -> None:
    file = tmp_path / "theirs.npz"
    np.savez(file, feats=FEATS, label=LABELS, names=NAMES)
    message = r"not a features file .*has feats, label, names\). .*`dsm data features .*npz --features NAME"
    with pytest.raises(UserError, match=message):
        load_features(file)
    with pytest.raises(
        UserError, match=re.escape("has no array emb (--features). Its arrays: feats float32 61x8,")
    ):
        take(file, "--features", "emb")
    with pytest.raises(UserError, match=re.escape("label (--features) is not (n, d), numbers")):
        take(file, "--features", "label")
    np.savez(file, a=FEATS, b=FEATS)
    with pytest.raises(UserError, match="a and b may all be the features; choose one with --features"):
        take(file)
    np.savez(file, x=LABELS)
    with pytest.raises(
        UserError, match=r"has no features, an array of numbers \(n, d\)\. Its arrays: x int64 61"
    ):
        take(file)
    np.savez(file, feats=FEATS, label=LABELS[:-1])
    assert (take(file).labels == -1).all()
    with pytest.raises(UserError, match="one for each row of the features"):
        take(file, "--labels", "label")


def test_a_bare_array_gets_its_names_from_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, listed = tmp_path / "theirs.npy", tmp_path / "list.txt"
    np.save(file, FEATS)
    assert take(file).paths[:2] == ["row 0", "row 1"]
    assert "no labels and no paths in" in " ".join(capsys.readouterr().err.split())
    listed.write_text("".join(f"{name} {label}\n" for name, label in zip(NAMES, LABELS, strict=True)))
    found = take(file, "--videos", listed)
    assert found.paths == NAMES.tolist()
    assert found.labels.tolist() == LABELS.tolist()
    assert found.meta["root"] == str(tmp_path)
    listed.write_text("a.mp4 0\n")
    with pytest.raises(UserError, match=r"has 1 video, but .* 61 rows"):
        take(file, "--videos", listed)


def test_named_classes_have_one_number_in_all_files(tmp_path: Path) -> None:
    file, classes = tmp_path / "theirs.npz", tmp_path / "classes.txt"
    np.savez(file, feats=FEATS[:2], y=np.array(["wave", "run"]), names=NAMES[:2])
    with pytest.raises(UserError, match="its labels y are names, such as wave; give --classes"):
        take(file, "--labels", "y", "--paths", "names")
    classes.write_text("jump\nrun\nwave\n")
    words = ["--labels", "y", "--paths", "names", "--classes", classes]
    assert take(file, *words).labels.tolist() == [2, 1]
    classes.write_text("run\n")
    with pytest.raises(UserError, match="the class 'wave' is not in --classes"):
        take(file, *words)


def test_parquet_columns_are_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"emb": FEATS.tolist(), "y": LABELS, "file": NAMES.tolist(), "note": ["x"] * 61})
    parquet.write_table(table, tmp_path / "theirs.parquet")
    found = take(tmp_path / "theirs.parquet", "--paths", "file")
    assert np.allclose(found.features, FEATS)
    assert (found.labels.tolist(), found.paths) == (LABELS.tolist(), NAMES.tolist())


def test_hdf5_is_read_or_its_extra_is_named(tmp_path: Path) -> None:
    file = tmp_path / "theirs.h5"
    if importlib.util.find_spec("h5py") is None:
        file.write_bytes(b"\x89HDF")
        with pytest.raises(UserError, match=r"h5py, which is not installed: pip install 'dsm-video\[hdf5\]'"):
            take(file)
        return
    import h5py

    with h5py.File(file, "w") as opened:
        opened["net/emb"], opened["y"], opened["names"] = FEATS, LABELS, NAMES.astype("S")
    found = take(file, "--features", "net/emb", "--paths", "names")
    assert np.array_equal(found.features, FEATS)
    assert found.paths == NAMES.tolist()


def test_hdf5_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    empty, long = tmp_path / "empty.h5", tmp_path / "long.h5"
    with h5py.File(empty, "w") as opened:  # what was never written is not in the file
        for number in range(3):
            opened.create_dataset(f"a{number}", (5000, 2000), "f4", chunks=(100, 100))
    assert empty.stat().st_size < 10**5
    with pytest.raises(UserError, match="a2 is far larger than the file"):
        take(empty)
    with h5py.File(long, "w") as opened:
        opened["x"], opened["names"] = FEATS, ["x" * 2000] * 61
    assert take(long, "--paths", "names").paths == ["x" * 2000] * 61
    monkeypatch.setattr("dsm.evaluate.import_features.UNPACKED", 0.08)  # as if most texts were the same one
    with pytest.raises(UserError, match="its strings are far longer than the file"):
        take(long, "--paths", "names")


def test_one_long_text_in_a_parquet_file_does_not_lengthen_all(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for length, said in (
        (5000, "names has more than 4096 characters"),
        (2 * 10**6, "far longer than the file"),
    ):
        names = ["x" * length, *NAMES[1:].tolist()]
        table = arrow.table({"emb": FEATS.tolist(), "names": names})
        parquet.write_table(table, tmp_path / "theirs.parquet")
        with pytest.raises(UserError, match=said):
            take(tmp_path / "theirs.parquet", "--paths", "names")


@pytest.mark.parametrize("rubbish", [b"", b"PK\x05\x06" + bytes(18), b"\x93NUMPY" + bytes(99), b"PAR1"])
@pytest.mark.parametrize("ending", [".npz", ".npy", ".parquet"])
def test_broken_files_raise_one_sentence(rubbish: bytes, ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"theirs{ending}"
    file.write_bytes(rubbish)
    with pytest.raises(UserError):
        take(file)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    file = tmp_path / "theirs.npz"
    np.savez(file, feats=FEATS, label=LABELS, names=np.array([{"a": 1}] * 61, dtype=object))
    assert take(file).paths[0] == "row 0"
    with pytest.raises(UserError, match="is not"):
        take(file, "--paths", "names")


def test_names_of_classes_beside_numbers_of_a_list(tmp_path: Path) -> None:
    file, listed, names = tmp_path / "theirs.npy", tmp_path / "lists" / "list.txt", tmp_path / "names.txt"
    listed.parent.mkdir()
    np.save(file, FEATS[:3])
    listed.write_text("a.mp4 0\nb.mp4 1\nc.mp4 1\n")
    names.write_text("sit\nstand\n")
    words = ["--videos", listed, "--classes", names]
    assert take(file, *words).meta["classes"] == ["sit", "stand"]
    (listed.parent / "classes.txt").write_text("stand\nsit\n")
    with pytest.raises(UserError, match="class 0 is 'stand'"):
        take(file, *words)
