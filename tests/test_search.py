"""Search in an archive, by command and by page."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import fits
from runs import CLIP

from dsm.cli.main import run
from dsm.data.settings import ClipChanges
from dsm.errors import UserError
from dsm.evaluate.extract_to_file import ExtractSettings
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.evaluate.nearest import Neighbours, nearest
from dsm.evaluate.search import ArchiveIndex, Filters, QueryEncoder, rows_of_file, rows_with
from dsm.models.settings import LoadSettings
from dsm.models.zoo import create_model
from dsm.pages.film import label
from dsm.pages.search_page import PageServer
from dsm.runs.results import read_results
from dsm.verbs.extract import ExtractConfig, extract
from dsm.verbs.pack import PackConfig, pack


@pytest.fixture(scope="module")
def archive(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the clips of 40 videos."""
    out = tmp_path_factory.mktemp("archive") / "index.npz"
    settings = ExtractSettings(windows=2, per_clip=True, workers=0)
    extract(
        ExtractConfig(
            "none", scenes / "train.txt", out, loading=LoadSettings("tiny"),
            clip=ClipChanges(frames=4, stride=3, resize=40, size=32), settings=settings,
        )
    )  # fmt: skip
    return out


def test_a_query_from_the_archive_finds_itself_at_its_time(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = load_features(archive)
    assert index.times is not None
    middle = float(index.times[7].mean())
    query = Path(str(index.meta["root"])) / index.paths[7]
    sheet = tmp_path / "found.png"
    words = ["search", "--index", str(archive), "--query", str(query), "--time", f"{middle:.3f}", "--k", "3"]
    run([*words, "--itself", "--out", str(sheet)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert index.paths[7] in lines[0]
    assert float(lines[0].split()[1]) > 0.999
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert len({line.split()[2] for line in lines}) == 3, "a video is listed once, by its nearest clip"
    run(words)
    output = capsys.readouterr()
    assert output.out.splitlines()[:2] == [
        line.replace(f"{n + 1} ", f"{n} ", 1) for n, line in ((1, lines[1]), (2, lines[2]))
    ]
    assert "left out of the results" in output.err


@pytest.mark.parametrize("per_clip", [False, True])
def test_a_query_is_read_at_the_rate_and_crop_of_the_index(
    scenes: Path, tmp_path: Path, per_clip: bool
) -> None:
    encoder = create_model("tiny")
    config = {"method": "moco", "backbone": "tiny", "model": {}, "clip": asdict(replace(CLIP, fps=10.0))}
    state = {f"query.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    weights, out = tmp_path / "weights.pt", tmp_path / "index.npz"
    torch.save({"format": 1, "config": json.dumps(config), "method": state}, weights)
    settings = ExtractSettings(windows=1, per_clip=per_clip, every=1, crops=3, workers=0)
    extract(ExtractConfig(str(weights), scenes / "test.txt", out, settings=settings))
    index = load_features(out)
    video = Path(str(index.meta["root"])) / index.paths[0]
    middle = None if index.times is None else float(index.times[0].mean())
    np.testing.assert_allclose(QueryEncoder(index)(video, middle), index.features[0], rtol=1e-4, atol=1e-5)


def test_a_query_may_be_in_a_pack(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(PackConfig(scenes / "test.txt", tmp_path / "pack", short_side=40, workers=1))
    settings = ExtractSettings(workers=0)
    clip = ClipChanges(frames=4, stride=3, resize=40, size=32)
    out = tmp_path / "index.npz"
    extract(
        ExtractConfig(
            "none", tmp_path / "pack" / "list.txt", out,
            loading=LoadSettings("tiny", "avgmax"), clip=clip, settings=settings,
        )
    )  # fmt: skip
    index = load_features(out)
    packed = str(tmp_path / "pack" / index.paths[3])
    run(["search", "--index", str(out), "--query", packed, "--k", "1"])
    assert index.paths[3] not in capsys.readouterr().out
    run(["search", "--index", str(out), "--query", packed, "--k", "1", "--itself"])
    assert index.paths[3] in capsys.readouterr().out.splitlines()[0]
    with pytest.raises(UserError, match="contains no video named nothing"):
        QueryEncoder(index)(tmp_path / "pack" / "shard-00000.tar" / "nothing")


def test_a_link_to_a_video_of_the_index_is_its_own_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    (tmp_path / "sub" / "b.mp4").symlink_to(tmp_path / "a.mp4")
    index = Features(
        np.zeros((3, 2), np.float32), np.full(3, -1), ["a.mp4#0-2", "b.mp4", "a.mp4#2-4"],
        {"root": str(tmp_path)},
    )  # fmt: skip
    for query in ("a.mp4", "link.mp4", "sub/b.mp4"):
        assert rows_of_file(index, tmp_path / query).tolist() == [True, False, True]
    assert rows_of_file(index, tmp_path / "b.mp4").tolist() == [False, True, False]


def test_nothing_found_is_said_and_no_sheet_is_written(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = load_features(archive)
    query = str(Path(str(index.meta["root"])) / index.paths[0])
    words = ["search", "--index", str(archive), "--query", query, "--out", str(tmp_path / "found.png")]
    run([*words, "--path", index.paths[0]])
    told = " ".join(capsys.readouterr().err.split())
    assert "no other video is left to find; " in told
    assert "found.png is not written" in told
    assert not (tmp_path / "found.png").exists()
    run([*words, "--page", "99"])
    assert "no other video is left to find on page 99" in " ".join(capsys.readouterr().err.split())


def test_tokens_are_refused_where_features_are_needed(archive: Path, tmp_path: Path) -> None:
    index, file = load_features(archive), str(tmp_path / "tokens.npz")
    save_features(file, replace(index, meta=index.meta | {"tokens": 2}))
    out = ["--out", str(tmp_path / "out.html")]
    for words in (
        ["search", "--index", str(archive), file, "--duplicates"],
        ["explore", file, *out],
        ["explore", str(archive), "--against", file, *out],
        ["retrieve", "--gallery", str(archive), "--queries", file, "--out", str(tmp_path / "out")],
    ):
        with pytest.raises(UserError, match=r"tokens\.npz: holds tokens"):
            run(words)
    with pytest.raises(UserError, match="--tokens is for the attentive probe"):
        run(["explore", str(tmp_path), "--tokens", "2", *out])


def test_search_equals_sorting(archive: Path) -> None:
    index = load_features(archive)
    query = np.random.default_rng(0).normal(size=index.dim).astype(np.float32)
    cosines = index.features @ query / np.linalg.norm(index.features, axis=1) / np.linalg.norm(query)
    best: dict[str, float] = {}
    for path, cosine in zip(index.paths, cosines.tolist(), strict=True):
        best[path] = max(best.get(path, -1.0), cosine)
    expected = sorted(best, key=lambda path: -best[path])[:5]
    assert [index.paths[hit.row] for hit in ArchiveIndex(index).search(query, 5)] == expected


class All:
    """An engine that proposes the k nearest, but the nearest last."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def candidates(self, unit: np.ndarray, k: int) -> np.ndarray:
        return np.argsort(-unit @ self.rows.T, axis=1)[:, :k][:, ::-1]


@pytest.mark.parametrize("proposed", [False, True])
def test_a_video_with_many_near_clips_does_not_hide_others(proposed: bool) -> None:
    rng = np.random.default_rng(0)
    query = rng.normal(size=16).astype(np.float32)
    film = query + 0.1 * rng.normal(size=(500, 16)).astype(np.float32)
    others = rng.normal(size=(30, 16)).astype(np.float32)
    paths = ["film.mp4"] * 500 + [f"{place // 2}.mp4" for place in range(30)]
    rows = np.concatenate([film, others])
    index = ArchiveIndex(Features(rows, np.zeros(530, np.int64), paths), All(rows) if proposed else None)
    cosines = others @ query / np.linalg.norm(others, axis=1)
    expected = np.argsort(-cosines.reshape(15, 2).max(1))
    first, *found = index.search(query, 6)
    assert paths[first.row] == "film.mp4"
    assert [paths[hit.row] for hit in found] == [f"{video}.mp4" for video in expected[:5]]
    assert [paths[hit.row] for hit in index.search(query, 5, but=7)] == [paths[hit.row] for hit in found]
    assert len(index.search(query, 99)) == 16


def test_few_long_videos_are_searched_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """To keep thousands of the nearest rows, as long as they are of too few videos, takes minutes."""
    asked: list[int] = []

    def counted(base: np.ndarray, queries: np.ndarray, k: int) -> Neighbours:
        asked.append(k)
        return nearest(base, queries, k)

    monkeypatch.setattr("dsm.evaluate.search.nearest", counted)
    rng = np.random.default_rng(0)
    rows, videos = rng.normal(size=(5000, 8)).astype(np.float32), np.arange(5000) // 200
    rows[:200] += 9  # of 25 recordings, the clips of the first are nearest to each other
    index = ArchiveIndex(Features(rows, np.zeros(5000, np.int64), [f"{video}.mp4" for video in videos]))
    cosines = rows @ rows[7] / np.linalg.norm(rows, axis=1)
    for k, among in ((10, None), (24, None), (30, None), (30, videos < 12), (10, videos < 8)):
        fits = np.ones(5000, bool) if among is None else among
        best: dict[int, int] = {}
        for row in np.argsort(-cosines).tolist():
            if fits[row]:
                best.setdefault(int(videos[row]), row)
        assert [hit.row for hit in index.search(rows[7], k, among=among)] == list(best.values())[:k]
    assert asked == [44, 100], "and never more"


def test_clips_of_a_video_are_one_group_and_in_one_fold(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same result as with a table of groups that names the videos."""
    index = load_features(archive)
    table = tmp_path / "groups.tsv"
    table.write_text("path\tgroup\n" + "".join(f"{path}\t{path}\n" for path in index.paths))
    verbs = {
        "probe": ["--train", str(archive), "--test", str(archive)],
        "retrieve": ["--gallery", str(archive), "--queries", str(archive), "--shown", "0"],
    }
    for verb, words in verbs.items():
        found = []
        for name, more in (("clips", []), ("videos", ["--groups", str(table)])):
            out = tmp_path / verb / name
            run([verb, *words, "--out", str(out), *more])
            strength = re.findall("C = [0-9.]+", capsys.readouterr().err)
            found.append((strength, read_results(out / "results.json")))
        assert found[0] == found[1]


def test_changed_weights_are_reported(archive: Path) -> None:
    index = load_features(archive)
    other = replace(index, meta=index.meta | {"seed": 1})
    with pytest.raises(UserError, match="are not the weights"):
        QueryEncoder(other)
    with pytest.raises(UserError, match="ends before second 99"):
        QueryEncoder(index)(Path(str(index.meta["root"])) / index.paths[0], 99.0)
    with pytest.raises(UserError, match="3 dimensions"):
        ArchiveIndex(index).search(np.zeros(3, np.float32), 1)
    with pytest.raises(UserError, match="has no videos"):
        ArchiveIndex(Features(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), []))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "exactly one of --query"),
        (["--duplicates", "--serve"], "exactly one of --query"),
        (["--query", "none.mp4"], "no such video"),
        (["--duplicates", "--camera", "cam1"], "not for --duplicates"),
        (["--duplicates", "--out", "pairs.png"], r"must end in \.tsv or \.html"),
    ],
)
def test_wrong_settings_are_refused(archive: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(["search", "--index", str(archive), *words])


@pytest.fixture
def page(archive: Path) -> Iterator[http.client.HTTPConnection]:
    index = load_features(archive)
    with PageServer(ArchiveIndex(index), QueryEncoder(index), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert server.server_address[0] == "127.0.0.1"
        yield http.client.HTTPConnection("127.0.0.1", int(server.server_address[1]), timeout=30)
        server.shutdown()
        thread.join()


def answer(
    page: http.client.HTTPConnection, way: str, what: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    page.request(way, what, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = page.getresponse()
    return response.status, response.read()


def test_the_page_plays_clips_and_searches_like_the_command(
    page: http.client.HTTPConnection, archive: Path
) -> None:
    index = load_features(archive)
    status, body = answer(page, "GET", "/")
    assert status == 200
    assert b"Find similar clips" in body
    status, body = answer(page, "GET", "/clip?row=3")
    assert status == 200
    assert body[4:8] == b"ftyp"
    status, body = answer(page, "GET", "/near?row=3")
    hits = json.loads(body)["hits"]
    expected = ArchiveIndex(index).search(np.array(index.features[3]), 24, but=3)
    assert [hit["row"] for hit in hits] == [hit.row for hit in expected]
    for a, b, one, two in zip(expected, expected[1:], hits, hits[1:], strict=False):
        assert one["cosine"] != two["cosine"] or abs(a.cosine - b.cosine) < 2e-6, "scores can be told apart"
    assert (Path(str(index.meta["root"])) / index.paths[hits[0]["row"]]).samefile(hits[0]["place"])
    status, body = answer(page, "GET", "/near?row=3&k=5&from=10")
    assert [hit["row"] for hit in json.loads(body)["hits"]] == [hit.row for hit in expected[10:15]]
    status, body = answer(page, "GET", "/browse?k=200&path=*1.mp4")
    browsed = json.loads(body)
    assert {hit["row"] for hit in browsed["hits"]} == {
        row for row, path in enumerate(index.paths) if path.endswith("1.mp4")
    }
    assert not browsed["more"]


def test_a_video_sent_is_found_by_its_neighbours_and_not_by_itself(
    page: http.client.HTTPConnection, archive: Path
) -> None:
    index = load_features(archive)
    video = (Path(str(index.meta["root"])) / index.paths[5]).read_bytes()
    status, body = answer(page, "POST", "/query?k=3", video, X_Requested_With="dsm")
    found = json.loads(body)
    assert status == 200
    assert index.paths[5] in found["own"]
    feature = QueryEncoder(index)(Path(str(index.meta["root"])) / index.paths[5])
    expected = [hit.row for hit in ArchiveIndex(index).search(feature, 6, but=5)]
    assert [hit["row"] for hit in found["hits"]] == expected[:3]
    status, body = answer(page, "GET", f"/again?token={found['token']}&k=3&from=3")
    assert [hit["row"] for hit in json.loads(body)["hits"]] == expected[3:]
    assert answer(page, "GET", "/again?token=unknown")[0] == 400


@pytest.mark.parametrize(
    "what", ["k=0", "k=9999", "from=-1", "camera=none", "label=77", "path=nothing-like-it"]
)
def test_wrong_questions_of_the_page_are_refused(page: http.client.HTTPConnection, what: str) -> None:
    assert b"no such page" in answer(page, "GET", "/favicon.ico")[1]
    status, body = answer(page, "GET", f"/near?row=3&{what}")
    assert status == 400
    assert "error" in json.loads(body)


def test_filters_choose_what_is_searched(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = load_features(archive)
    query = str(Path(str(index.meta["root"])) / index.paths[0])
    name = str(index.meta["classes"][2]) if "classes" in index.meta else "2"
    words = ["search", "--index", str(archive), "--query", query, "--k", "99"]

    def found(*more: str) -> set[str]:
        run([*words, *more])
        return {line.split()[2] for line in capsys.readouterr().out.splitlines()}

    every = set(index.paths) - {index.paths[0]}
    assert found() == every
    assert (
        found("--label", name)
        == {p for p, c in zip(index.paths, index.labels, strict=True) if c == 2} & every
    )
    assert found("--path", "1.MP4") == {path for path in every if path.endswith("1.mp4")}
    paths = ["[1] caf\u00e9/a", "[1] cafe\u0301/b", "1/c"]
    spelled = Features(np.eye(3, dtype=np.float32), np.zeros(3, int), paths)
    fits = rows_with(spelled, [""] * 3, Filters(path="[1]*caf\u00e9*"))
    assert fits is not None
    assert fits.tolist() == [True, True, False]
    assert found("--camera-regex", r"(\d)\.mp4", "--camera", "4") == {p for p in every if p.endswith("4.mp4")}
    run([*words[:-1], "7", "--page", "2"])
    second = capsys.readouterr().out.splitlines()
    run([*words[:-1], "14"])
    both = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in second] == [line.split()[2] for line in both[7:]]
    assert second[0].split()[0] == "8"
    with pytest.raises(UserError, match="no video is from the camera"):
        run([*words, "--camera", "cam99"])


def test_a_search_among_some_rows_equals_sorting_them() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 8)).astype(np.float32)
    index = ArchiveIndex(
        Features(rows, np.zeros(300, np.int64), [f"{place // 3}.mp4" for place in range(300)])
    )
    query = rng.normal(size=8).astype(np.float32)
    cosines = rows @ query / np.linalg.norm(rows, axis=1)
    for share in (0.03, 0.5):
        among = rng.random(300) < share
        best: dict[int, int] = {}
        for row in np.argsort(-cosines).tolist():
            if among[row]:
                best.setdefault(row // 3, row)
        found = [hit.row for hit in index.search(query, 99, among=among)]
        assert found == list(best.values())[:99]
        assert [hit.row for hit in index.search(query, 2, among=among, skip=3)] == found[3:5]
    assert index.search(query, 3, among=np.zeros(300, bool)) == []


@pytest.mark.parametrize(
    "what",
    [
        "/clip?row=../../etc/passwd",
        "/clip?row=-1",
        "/clip?row=999999",
        "/etc/passwd",
        "/../index.npz",
        f"/clip?row={'9' * 5000}",
    ],
)
def test_the_page_serves_only_rows_of_the_index(page: http.client.HTTPConnection, what: str) -> None:
    status, body = answer(page, "GET", what)
    assert status == 400
    assert b"error" in body


def test_a_stalled_upload_does_not_block_others(page: http.client.HTTPConnection) -> None:
    with socket.create_connection((page.host, page.port)) as silent:
        head = f"POST /query HTTP/1.1\r\nHost: {page.host}\r\nX-Requested-With: dsm\r\nContent-Length: 9\r\n"
        silent.sendall(f"{head}\r\nabc".encode())
        time.sleep(0.2)
        assert answer(page, "GET", "/clip?row=4")[0] == 200


@pytest.mark.parametrize("way", ["GET", "POST"])
def test_a_malformed_address_is_refused(page: http.client.HTTPConnection, way: str) -> None:
    for address, told in (("//[", b"error"), ("http://[::1/clip?row=1", b"malformed")):
        with socket.create_connection((page.host, page.port)) as one:  # http.client sends no such address
            one.sendall(
                f"{way} {address} HTTP/1.0\r\nHost: {page.host}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            got = b"".join(iter(lambda: one.recv(65536), b""))
        assert got.startswith(b"HTTP/1.0 400 ")
        assert told in got


def test_a_query_without_a_length_is_refused(page: http.client.HTTPConnection) -> None:
    page.putrequest("POST", "/query")
    page.putheader("X-Requested-With", "dsm")
    page.putheader("Content-Length", "9" * 5000)
    page.endheaders()
    assert page.getresponse().status == 400


def test_the_page_answers_only_this_machine_and_itself(page: http.client.HTTPConnection) -> None:
    assert answer(page, "GET", "/", Host="evil.example")[0] == 403
    assert answer(page, "POST", "/query", b"x")[0] == 400
    status, body = answer(page, "POST", "/query", b"no video", X_Requested_With="dsm")
    assert status == 400
    assert json.loads(body)["error"].startswith("The video cannot be decoded")


def test_a_gallery_page_and_classes_are_written(archive: Path, tmp_path: Path) -> None:
    words = ["retrieve", "--gallery", str(archive), "--queries", str(archive), "--out", str(tmp_path)]
    run([*words, "--shown", "2", "--group-regex", r"(\d)\d\.mp4", "--across-groups"])
    page = (tmp_path / "gallery.html").read_text()
    assert page.count("data:video/mp4") == 2 * 6
    assert re.search(r"query: (swing|spin|slide|hop|circle|figure|pulse|zig)[a-z-]*", page), (
        "a name, no number"
    )
    assert "a random video would have it for" in page
    fits(tmp_path / "gallery.html", tmp_path)
    index = load_features(archive)
    lines = (tmp_path / "neighbours.tsv").read_text().splitlines()[1:]
    for line in lines:
        query, _, *near = line.split("\t")
        assert near
        assert all(one.split(":")[0][-6] != query[-6] for one in near), "only neighbours of other groups"
    classes = (tmp_path / "classes.csv").read_text().splitlines()
    assert len(classes) == 1 + len(set(index.labels.tolist()))
    metrics = [row["metric"] for row in json.loads((tmp_path / "results.json").read_text())["rows"]]
    assert "mAP" in metrics
    run([*words, "--shown", "0", "--overwrite"])
    assert not (tmp_path / "gallery.html").exists()


def test_captions_use_letters_that_the_font_has() -> None:
    unknown = label("\ufff0", 20)  # drawn as an empty box
    assert all((label(letter, 20) != unknown).any() for letter in "–äßжΩ→")
