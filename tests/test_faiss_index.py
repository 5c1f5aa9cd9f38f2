"""Approximate search: what the engines find, the indexes kept beside features, and several files as one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsm.cli.main import run
from dsm.errors import UserError
from dsm.evaluate import faiss_index
from dsm.evaluate.archive import Stacked, open_archive
from dsm.evaluate.faiss_index import build, engine_beside, index_file
from dsm.evaluate.feature_files import load_features, save_features, write_features
from dsm.evaluate.features import Features
from dsm.evaluate.nearest import nearest
from dsm.evaluate.search import ArchiveIndex
from dsm.seals import BLANK, seal
from dsm.verbs.extract import extract

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="the extra faiss is not installed"
)
ROWS, DIM = 3000, 32


def made(count: int = ROWS, seed: int = 0) -> np.ndarray:
    """Clustered rows, as those of encoders are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, DIM))
    rows = centres[rng.integers(0, 50, count)] + 0.4 * rng.normal(size=(count, DIM))
    return rows.astype(np.float16)


def save(file: Path, rows: np.ndarray, prefix: str = "v", **meta: Any) -> Path:
    paths = [f"{prefix}{place}.mp4" for place in range(len(rows))]
    save_features(file, Features(rows, np.zeros(len(rows), np.int64), paths, {"root": "/videos", **meta}))
    return file


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_index, "EXACT_UP_TO", 500)


def test_an_engine_finds_nearly_what_sorting_finds(tmp_path: Path) -> None:
    archive = open_archive([save(tmp_path / "a.npz", made())])
    assert archive.features.features.dtype == np.float16
    queries = made(40, seed=1).astype(np.float32)
    sorted_rows = nearest(made().astype(np.float32), queries, 10)
    index = ArchiveIndex(archive.features, archive.engine("faiss"))
    found = [index.search(query, 10) for query in queries]
    pairs = zip(sorted_rows.places.tolist(), found, strict=True)
    recall = np.mean([len({*truth} & {hit.row for hit in hits}) / 10 for truth, hits in pairs])
    assert recall > 0.95
    exact = ArchiveIndex(archive.features)
    for query, hits in zip(queries, found, strict=True):
        cosine = {hit.row: hit.cosine for hit in exact.search(query, ROWS)}
        assert [hit.cosine for hit in hits] == [cosine[hit.row] for hit in hits], "cosines are exact"


def test_a_filter_finds_what_fits_though_it_lies_far_from_the_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_index, "SEARCHED_CELLS", 2)
    rng = np.random.default_rng(0)
    cameras = np.repeat(np.arange(4), 500)
    rows = (rng.normal(size=(4, DIM))[cameras] + 0.3 * rng.normal(size=(2000, DIM))).astype(np.float16)
    archive = open_archive([save(tmp_path / "a.npz", rows)])
    index, exact = ArchiveIndex(archive.features, archive.engine("faiss")), ArchiveIndex(archive.features)
    query = rows[5].astype(np.float32)
    for camera in range(1, 4):
        found = index.search(query, 10, among=cameras == camera, skip=3)
        assert found == exact.search(query, 10, among=cameras == camera, skip=3)
        assert len(found) == 10
    assert len(index.search(query, 1999, but=5)) == 1999


def test_an_index_is_built_once_and_again_for_other_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[int] = []

    def counting(rows: np.ndarray, told: Callable[[int], None]) -> Any:
        built.append(len(rows))
        return build(rows, told)

    monkeypatch.setattr(faiss_index, "build", counting)
    file = save(tmp_path / "a.npz", made())
    for _ in range(2):
        open_archive([file]).engine("faiss")
    assert built == [ROWS]
    more = save(tmp_path / "b.npz", made(700, seed=2), prefix="w")
    small = save(tmp_path / "c.npz", made(400, seed=3), prefix="x")
    archive = open_archive([file, more, small])
    index = ArchiveIndex(archive.features, archive.engine("faiss"))
    assert built == [ROWS, 700], "only the rows that are new, and none of so few"
    assert not index_file(small).exists()
    everything = np.concatenate([made(), made(700, seed=2), made(400, seed=3)]).astype(np.float32)
    for row in (5, ROWS + 5, ROWS + 705):
        assert index.search(everything[row], 1)[0].row == row
    save(file, made(600, seed=4))
    engine = open_archive([file]).engine("faiss")
    assert built == [ROWS, 700, 600]
    assert engine is not None
    assert "was built from other features" in capsys.readouterr().err
    damaged = index_file(file)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    open_archive([file]).engine("faiss")
    assert "is damaged" in capsys.readouterr().err
    assert built[3:] == [600]


@pytest.mark.parametrize("content", [b"", b"no index", b"\x80\x04]." * 40, bytes(100)])
def test_a_file_that_is_no_index_is_neither_read_nor_replaced(content: bytes, tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", made())
    index_file(file).write_bytes(content)
    with pytest.raises(UserError, match="cannot be used as the index"):
        open_archive([file]).engine("faiss")
    assert index_file(file).read_bytes() == content


def test_a_sealed_index_must_hold_what_it_says(tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", made())
    engine_beside(file, load_features(file, half=True).features)
    kept = index_file(file)
    other = save(tmp_path / "other.npz", made(900))
    engine_beside(other, load_features(other, half=True).features)
    theirs = index_file(other).read_bytes()
    ours = kept.read_bytes()
    about, their_about = faiss_index.read_about(kept), faiss_index.read_about(index_file(other))
    line = ours[about.bytes :].replace(
        f'"bytes": {about.bytes}'.encode(), f'"bytes": {their_about.bytes}'.encode()
    )
    line = line[: -len(BLANK)] + BLANK.encode()
    line = line[: line.rindex(b"}") + 1]
    forged = theirs[: their_about.bytes] + line + len(line).to_bytes(8, "little") + BLANK.encode()
    kept.write_bytes(forged)
    seal(kept, len(forged) - len(BLANK))
    with pytest.raises(UserError, match="its content does not match its description"):
        open_archive([file]).engine("faiss")


def test_stacked_rows_are_indexed_like_one_array() -> None:
    parts = [made(5), made(1, seed=1), made(7, seed=2)]
    one, stacked = np.concatenate(parts), Stacked(parts)
    rng = np.random.default_rng(0)
    assert stacked.shape == one.shape
    for rows in (slice(None), slice(2, 9), slice(4, 6), slice(0, 0), slice(12, 99), slice(0, 13, 3), -8 % 13):
        assert np.array_equal(stacked[rows], one[rows])
    for rows in (rng.integers(0, 13, 20), rng.integers(0, 13, (4, 5)), rng.random(13) < 0.5):
        assert np.array_equal(stacked[rows], one[rows])
    assert np.array_equal(np.asarray(stacked, np.float32), one.astype(np.float32))
    assert np.shares_memory(stacked[6:9], parts[2]), "a part of one file is not copied"


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one = save(tmp_path / "a.npz", made(20), encoder="x")
    for other, message in (
        (save(tmp_path / "b.npz", made(20)[:, :8]), "dimensions"),
        (save(tmp_path / "c.npz", made(20), encoder="y"), "other weights"),
        (one, "given twice"),
    ):
        with pytest.raises(UserError, match=message):
            open_archive([one, other])
    clips = [
        save(tmp_path / f"{frames}{crops}.npz", made(20), clip={"frames": frames, "stride": 2}, crops=crops)
        for frames, crops in ((8, 1), (16, 1), (8, 3))
    ]
    with pytest.raises(UserError, match="with frames 8 and 16"):
        open_archive(clips[:2])
    with pytest.raises(UserError, match="with crops 1 and 3"):
        open_archive(clips[::2])
    assert len(open_archive([one, clips[0]]).features) == 40, "one does not tell"


def test_paths_of_several_files_lead_to_their_own_folders(tmp_path: Path) -> None:
    one = save(tmp_path / "a.npz", made(3), root="/data/one")
    two = save(tmp_path / "b.npz", made(2), root="/data/two", classes=["run"])
    features = open_archive([one, two]).features
    files = [Path(str(features.meta["root"])) / path for path in features.paths]
    assert files == [Path(f"/data/{of}") for of in (
        "one/v0.mp4", "one/v1.mp4", "one/v2.mp4", "two/v0.mp4", "two/v1.mp4"
    )]  # fmt: skip
    assert features.meta["below"] == "/data"
    assert features.meta["classes"] == ["run"]
    same = open_archive([one, save(tmp_path / "c.npz", made(2), root="/data/one")]).features
    assert same.video_numbers().tolist() == [0, 1, 2, 0, 1], "a video in two files is one video"


def test_half_precision_is_written_mapped_and_told_where_it_does_not_fit(tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", made())
    assert file.stat().st_size < 1.6 * made().nbytes + 2**19
    half = load_features(file, half=True).features
    assert isinstance(half, np.memmap)
    assert np.array_equal(half, made())
    assert load_features(file).features.dtype == np.float32
    large = replace(load_features(file, half=True))
    with pytest.raises(UserError, match="above 65504"):
        write_features(tmp_path / "b.npz", large, [np.full((ROWS, DIM), 1e5, np.float32)])
    assert not (tmp_path / "b.npz").exists()


def test_the_command_takes_several_files_and_an_engine(
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faiss_index, "EXACT_UP_TO", 5)
    clip = {
        "frames": 4,
        "stride": 3,
        "resize": 40,
        "size": 32,
        "backbone": "tiny",
        "workers": 0,
        "half": True,
    }
    files = [tmp_path / f"{part}.npz" for part in ("train", "test")]
    lists = scenes / "train.txt", next(iter(sorted(scenes.glob("test*.txt"))))
    for file, listed in zip(files, lists, strict=True):
        extract(weights="none", data=listed, out=file, **clip)
    query = str(Path(str(load_features(files[1]).meta["root"])) / load_features(files[1]).paths[2])
    words = ["search", "--index", *map(str, files), "--query", query, "--itself", "--k", "4"]
    capsys.readouterr()
    run(words)
    exact = capsys.readouterr().out
    assert load_features(files[1]).paths[2] in exact.splitlines()[0]
    run([*words, "--engine", "faiss"])
    assert capsys.readouterr().out == exact
    assert all(index_file(file).is_file() for file in files)
