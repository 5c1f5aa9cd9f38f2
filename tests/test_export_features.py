"""Features exported to other tools, read back by these tools."""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dsm
from dsm.cli.main import run
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.video.write import write_video

COUNT, DIM = 9, 4


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Clips of three videos, the last of which is missing; one label is unknown."""
    rng = np.random.default_rng(0)
    for number in range(2):
        frames = np.full((12, 32, 48, 3), (200, 0, 0) if number else (0, 0, 200), np.uint8)
        write_video(tmp_path / f"v/cam{number} é.mp4", frames, fps=12)
    paths = [f"v/cam{place // 3} é.mp4" for place in range(COUNT)]
    times = np.array([[0.25 * (place % 3), 0.25 * (place % 3) + 0.25] for place in range(COUNT)], np.float32)
    labels = np.array([0, 1, 1, 0, 0, 1, 1, 0, -1])
    rows = rng.normal(size=(COUNT, DIM)).astype(np.float16)
    meta = {"root": str(tmp_path), "classes": ["run", "fall"], "weights": "none"}
    save_features(tmp_path / "f.npz", Features(rows, labels, paths, meta, times))
    return tmp_path / "f.npz"


def expected(file: Path) -> list[dict[str, object]]:
    features = load_features(file)
    assert features.times is not None
    names = ["run", "fall", None]
    return [
        {
            "path": features.paths[row],
            "label": int(features.labels[row]),
            "class": names[features.labels[row]],
            "group": f"g{row // 3}",
            "start": float(features.times[row, 0]),
            "end": float(features.times[row, 1]),
            "feature": features.features[row].tolist(),
        }
        for row in range(COUNT)
    ]


def export(file: Path, to: str, out: str, *words: str) -> Path:
    table = file.parent / "groups.tsv"
    table.write_text("path\tgroup\n" + "".join(f"v/cam{n} é.mp4\tg{n}\n" for n in range(3)), encoding="utf-8")
    given = ["data", "export", str(file), "--to", to, "--out", str(file.parent / out)]
    run([*given, "--groups", str(table), *words])
    return file.parent / out


def test_parquet_has_a_column_of_vectors_and_is_a_features_file(file: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = export(file, "parquet", "f.parquet")
    table = parquet.read_table(out)
    assert table.to_pylist() == expected(file)
    assert str(table.schema.field("feature").type) == f"fixed_size_list<element: float>[{DIM}]"
    again, features = load_features(out), load_features(file)
    assert np.array_equal(again.features, features.features)
    assert again.meta == features.meta
    with pytest.raises(UserError, match="already exists"):
        export(file, "parquet", "f.parquet")


def test_lance_reads_the_table_and_finds_neighbours(file: Path) -> None:
    lance = pytest.importorskip("lance", reason="the extra lance is not installed")
    out = export(file, "lance", "f.lance")
    data = lance.dataset(str(out))
    assert data.to_table().to_pylist() == expected(file)
    rows = load_features(file).features
    query = {"column": "feature", "q": rows[4], "k": 3, "metric": "cosine"}
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = data.to_table(nearest=query, columns=["path", "feature"]).to_pylist()
    nearest = np.argsort(-(unit @ unit[4]))[:3]
    assert [one["feature"] for one in found] == [rows[row].tolist() for row in nearest]


def test_lancedb_opens_the_folder_as_a_table(file: Path) -> None:
    lancedb = pytest.importorskip("lancedb", reason="LanceDB is not installed")
    pytest.importorskip("lance", reason="the extra lance is not installed")
    export(file, "lance", "f.lance")
    table = lancedb.connect(str(file.parent)).open_table("f")
    assert table.count_rows() == COUNT
    row = table.search(load_features(file).features[5]).limit(1).to_list()[0]
    assert (row["path"], row["group"]) == ("v/cam1 é.mp4", "g1")


def test_the_projector_of_tensorboard_reads_vectors_names_and_pictures(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from google.protobuf import text_format
    from tensorboard.plugins.projector import projector_plugin
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    out = export(file, "projector", "p", "--pictures")
    config = text_format.Parse((out / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    vectors = projector_plugin._read_tensor_tsv_file(str(out / embedding.tensor_path))
    np.testing.assert_allclose(vectors, load_features(file).features, rtol=1e-6)
    lines = [line.split("\t") for line in (out / embedding.metadata_path).read_text("utf-8").splitlines()]
    assert lines[0] == ["path", "class", "group", "start", "end"]
    assert lines[2] == ["v/cam0 é.mp4", "fall", "g0", "0.25", "0.5"]
    assert lines[9][1] == ""
    side = embedding.sprite.single_image_dim[0]
    with Image.open(out / embedding.sprite.image_path) as opened:
        sheet = np.asarray(opened)
    assert sheet.shape == (3 * side, 3 * side, 3), "a square of 9 pictures"
    middles = sheet[side // 2 :: side, side // 2 :: side].reshape(9, 3)
    assert [int(row.argmax()) for row in middles[:6]] == [2, 2, 2, 0, 0, 0]
    assert (middles[6:] == middles[6, 0]).all(), "grey where the video is missing"
    assert "3 rows without a picture" in capsys.readouterr().err


def test_names_with_tabs_and_line_ends_stay_in_their_cells(file: Path) -> None:
    features = load_features(file)
    odd = [f"a\tb{label}\nc" for label in range(int(features.labels.max()) + 1)]
    save_features(file, replace(features, meta=features.meta | {"classes": odd}))
    lines = (export(file, "projector", "p") / "metadata.tsv").read_text("utf-8").split("\n")
    assert [line.count("\t") for line in lines[:-1]] == [lines[0].count("\t")] * (1 + COUNT)


def test_fiftyone_has_its_documented_form(file: Path) -> None:
    out = export(file, "fiftyone", "fo")
    assert json.loads((out / "metadata.json").read_text()) == {"info": {"source": "dsm"}}
    samples = json.loads((out / "samples.json").read_text())["samples"]
    for sample, row in zip(samples, expected(file), strict=True):
        assert Path(sample["filepath"]) == file.parent / str(row["path"])
        assert sample["tags"] == []
        assert sample.get("label") == (row["class"] and {"_cls": "Classification", "label": row["class"]})
        assert (sample["start"], sample["end"], sample["source"]) == (row["start"], row["end"], row["group"])
        packed = sample["embedding"]["$binary"]
        assert packed["subType"] == "00"
        vector = np.load(io.BytesIO(zlib.decompress(base64.b64decode(packed["base64"]))), allow_pickle=False)
        assert vector.dtype == np.float32
        assert vector.tolist() == row["feature"]


def test_wrong_exports_are_refused(file: Path) -> None:
    for words, message in (
        ({"to": "parquet", "out": "f.npz"}, "must end in .parquet"),
        ({"to": "lance", "out": "f.parquet"}, "only for that"),
        ({"to": "fiftyone", "out": "f", "pictures": True}, "is for --to projector"),
    ):
        with pytest.raises(UserError, match=message):
            dsm.data.export(features=file, **words)
