"""``dsm data convert`` of official annotations: small files of the documented form, not the official ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dsm
from dsm import terminal
from dsm.cli import main
from dsm.data.classes import OPPOSITES
from dsm.data.lists import read_list
from dsm.data.official import OFFICIAL, opposites_of
from dsm.data.official.files import Entry, Official
from dsm.data.official.reading import READERS, read_official
from dsm.errors import UserError
from dsm.evaluate.opposites import read_opposites
from dsm.video.segments import segment_of

ELEMENT = "0LtLS9wROrk_E_002407_002435_A_0003_0005"
EPIC_HEAD = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb,verb_class\n"


@pytest.fixture(autouse=True)
def _forget_notes() -> None:
    terminal._noted.clear()


def write(folder: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def categories(count: int = 99) -> str:
    """The categories of Gym99 in their documented form, with sets 21 and 41 where they are."""
    sets = [21 if 6 <= label <= 16 else 41 if 74 <= label <= 88 else 1 for label in range(count)]
    return "".join(
        f"Clabel: {label:3}; set: {group:2}; Glabel: {label + 1:3}; (FX) leap {label}\n"
        for label, group in enumerate(sets)
    )


def paths(official: Official, name: str) -> list[str]:
    return [entry.path for entry in official.lists[name]]


def test_every_data_set_has_a_reader_a_source_and_a_line_in_the_docs() -> None:
    assert list(READERS) == list(OFFICIAL)
    page = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")
    for name, dataset in OFFICIAL.items():
        assert dataset.source
        row = next(line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line)
        for what, count in dataset.published.items():
            assert f"{count:,}" in row, f"{name}: {what}"


def test_jester_has_the_form_of_something_something(tmp_path: Path) -> None:
    notes = write(
        tmp_path,
        {
            "jester-v1-labels.csv": "Swiping Left\nSwiping Right\nStop Sign\n",
            "jester-v1-train.csv": "34870;Stop Sign\n56557;Swiping Right\n",
            "jester-v1-validation.csv": "9223;Swiping Left\n",
            "jester-v1-test.csv": "70206\n",
        },
    )
    official = read_official("jester", notes)
    assert official.lists == {
        "train": [("34870", 2, -1), ("56557", 1, -1)],
        "val": [("9223", 0, -1)],
        "test": [("70206", -1, -1)],
    }


def test_something_something_v2_takes_labels_of_the_test_from_the_answers(tmp_path: Path) -> None:
    name, other = "Moving something up", "Moving something down"
    notes = write(
        tmp_path,
        {
            "something-something-v2-labels.json": {other: "1", name: "0"},
            "something-something-v2-train.json": [{"id": "1", "template": "Moving [something] up"}],
            "something-something-v2-test.json": [{"id": "2"}, {"id": "3"}],
            "something-something-v2-test-answers.csv": f"2;{other}\n",
        },
    )
    assert read_official("something-something-v2", notes).lists == {
        "train": [("1.webm", 0, -1)],
        "test": [("2.webm", 1, -1), ("3.webm", -1, -1)],
    }


def test_opposites_are_written_in_the_form_that_bias_reads(tmp_path: Path) -> None:
    names = ["Moving something up", "Holding something", "Moving something down", "Opening something"]
    files = {
        "labels.json": {name: str(label) for label, name in enumerate(names)},
        "train.json": [{"id": "1", "template": "Moving [something] up"}],
    }
    notes, out = write(tmp_path / "notes", files), tmp_path / "lists"
    result = dsm.data.convert(dataset="something-something-v2", annotations=notes, out=out)
    assert read_opposites(out / OPPOSITES, names) == [(2, 0)]
    assert f"opposite classes: 1 pair ({out / OPPOSITES}, for dsm bias --opposites)" in result.lines
    assert out / OPPOSITES in result.files
    for name, dataset in OFFICIAL.items():
        classes = [one for pair in dataset.opposites for one in pair]
        assert len(set(classes)) == len(classes), name
        assert opposites_of(name, classes) == list(dataset.opposites)


def test_kinetics_is_read_from_json_and_numbered_like_a_list_of_names(tmp_path: Path) -> None:
    def clip(label: str | None, subset: str) -> object:
        notes: dict[str, object] = {"segment": [12.0, 22.0]}
        return {"annotations": notes | ({"label": label} if label else {}), "subset": subset, "url": "…"}

    write(
        tmp_path,
        {
            "train.json": {"abc": clip("zumba", "train"), "-d_e": clip("air drumming", "train")},
            "validate.csv": "label,youtube_id,time_start,time_end,split\nzumba,xyz,1,11,validate\n",
            "validate.json": {"not this one": clip("zumba", "validate")},
            "test.json": {"fgh": clip(None, "test")},
        },
    )
    lists = read_official("kinetics", tmp_path).lists
    assert lists["train"] == [
        ("zumba/abc_000012_000022.mp4", 1, -1),
        ("air_drumming/-d_e_000012_000022.mp4", 0, -1),
    ]
    assert lists["validate"] == [("zumba/xyz_000001_000011.mp4", 1, -1)]
    assert lists["test"] == [("unlabelled/fgh_000012_000022.mp4", -1, -1)]
    (tmp_path / "label_map_k600.txt").write_text("zumba\nyoga\nair drumming\n")
    official = read_official("kinetics", tmp_path)
    assert official.classes == ["zumba", "yoga", "air drumming"]
    assert [entry.label for entry in official.lists["train"]] == [0, 2]
    (tmp_path / "label_map_k600.txt").unlink()
    (tmp_path / "kinetics_400_labels.csv").write_text("id,name\n1,zumba\n0,air drumming\n")
    assert read_official("kinetics", tmp_path).classes == ["air drumming", "zumba"]
    (tmp_path / "kinetics_400_labels.csv").write_text("id,name\n0,zumba\n")
    with pytest.raises(UserError, match="'air drumming' is not one of the 1 class"):
        read_official("kinetics", tmp_path)
    (tmp_path / "classes.txt").write_text("air drumming\nzumba\n")
    with pytest.raises(
        UserError, match=r"several lists of class names \(classes.txt, kinetics_400_labels.csv\)"
    ):
        read_official("kinetics", tmp_path)


def test_mimetics_is_a_test_with_the_numbers_of_kinetics(tmp_path: Path) -> None:
    head = "label,youtube_id,time_start,time_end,split,is_cc\n"
    (tmp_path / "mimetics_v1.0.csv").write_text(f"{head}archery,abc,3,9,test,0\nzumba,def,0,4,test,1\n")
    official = read_official("mimetics", tmp_path)
    assert official.lists == {
        "test": [("archery/abc_000003_000009.mp4", 0, -1), ("zumba/def_000000_000004.mp4", 1, -1)]
    }
    assert official.published == {"test": 713, "classes": 50}
    names = [f"class {label:03}" for label in range(398)] + ["zumba", "archery"]
    (tmp_path / "label_map_k400.txt").write_text("\n".join(names))
    official = read_official("mimetics", tmp_path)
    assert [entry.label for entry in official.lists["test"]] == [399, 398]
    assert official.published["classes"] == len(official.classes) == 400


@pytest.mark.parametrize(
    ("disk", "path"),
    [
        (f"parts/{ELEMENT}.mp4", f"parts/{ELEMENT}.mp4"),
        (f"frames/{ELEMENT}/img_00001.jpg", f"frames/{ELEMENT}"),
        ("events/0LtLS9wROrk_E_002407_002435.mp4", "events/0LtLS9wROrk_E_002407_002435.mp4#3.25-5.5"),
        ("videos/0LtLS9wROrk.mkv", "videos/0LtLS9wROrk.mkv#2410.75-2413"),
        ("frames/0LtLS9wROrk/img_00001.jpg", None),
    ],
)
def test_parts_of_finegym_are_found_cut_or_as_segments(disk: str, path: str | None, tmp_path: Path) -> None:
    part = {"stages": 2, "timestamps": [[3.25, 4.0], [4.5, 5.5]]}
    event = {"event": 2, "timestamps": [[2407.5, 2435.0]], "segments": {"A_0003_0005": part}}
    notes = write(
        tmp_path / "notes",
        {
            "gym99_train_element_v1.1.txt": f"{ELEMENT} 6\n",
            "gym99_val_element.txt": "zNL3kn3UBmg_E_008111_008200_A_0046_0048 7\n",
            "gym99_categories.txt": categories(),
            "finegym_annotation_info_v1.1.json": {
                "0LtLS9wROrk": {"E_002407_002435": event, "E_3": {"timestamps": [[0, 9]], "segments": None}}
            },
        },
    )
    videos, out = write(tmp_path / "disk", {disk: ""}), tmp_path / "lists"
    if path is None:
        with pytest.raises(UserError, match="contains none of the 2 videos"):
            dsm.data.convert(dataset="gym99", annotations=notes, videos=videos, out=out)
        return
    result = dsm.data.convert(dataset="gym99", annotations=notes, videos=videos, out=out)
    assert "train: 1 (published: 20484)" in result.lines
    assert "val: 1 (published: 8521), of which 1 are absent" in result.lines
    train = read_list(out / "train.txt", videos)
    assert list(train.paths) == [path]
    assert train.labels.tolist() == [6]
    segment = segment_of(train.file(0))
    assert (segment.file if segment else train.file(0)).exists()


def test_finegym_without_times_uses_those_in_the_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"gym288_train.txt": f"{ELEMENT}.mp4 287\n"})
    official = read_official("gym288", tmp_path)
    assert official.lists == {"train": [(f"{ELEMENT}.mp4", 287, -1)]}
    assert official.elsewhere[f"{ELEMENT}.mp4"] == (
        "0LtLS9wROrk_E_002407_002435.mp4#3-5",
        "0LtLS9wROrk.mp4#2410-2412",
    )
    told = capsys.readouterr().err
    assert "gym288_val_element.txt" in told
    assert "contains no gym288_categories.txt, so classes have numbers" in told
    assert "start and end at whole seconds" in told


def test_fx_s1_and_ub_s1_are_the_sets_of_the_categories(tmp_path: Path) -> None:
    lines = "".join(f"v{label}_E_000000_000009_A_0001_0002 {label}\n" for label in range(99))
    write(
        tmp_path,
        {"gym99_train.txt": lines, "gym99_val.txt": lines, "gym99_categories.txt": categories()},
    )
    for name, group in (("fx-s1", 21), ("ub-s1", 41)):
        wanted = [
            int(line.split(";")[0].split(":")[1])
            for line in categories().splitlines()
            if f"set: {group};" in line
        ]
        official = read_official(name, tmp_path)
        assert official.classes == [f"(FX) leap {label}" for label in wanted]
        expected = [
            (f"v{label}_E_000000_000009_A_0001_0002.mp4", place, -1) for place, label in enumerate(wanted)
        ]
        assert official.lists == {"train": expected, "val": expected}
        assert len(official.classes) == official.published["classes"]


def test_an_element_in_two_sets_has_two_names(tmp_path: Path) -> None:
    text = "Clabel: 0; set: 33; Glabel: 290; (BB) salto\nClabel: 1; set: 35; Glabel: 359; (BB) salto\n"
    write(tmp_path, {"gym99_val.txt": f"{ELEMENT} 1\n", "gym99_categories.txt": text})
    assert read_official("gym99", tmp_path).classes == ["(BB) salto [set 33]", "(BB) salto [set 35]"]


def test_severe_draws_as_many_videos_of_each_class(shared: Path) -> None:
    folder = shared / "data" / "splits" / "ucf101"
    official = read_official("severe-ucf101", folder)
    assert {name: len(entries) for name, entries in official.lists.items()} == {"train": 1010, "test": 3783}
    train = read_official("ucf101", folder).lists["train1"]
    generator = np.random.RandomState(19)
    expected = []
    for label in range(101):
        mine = [entry for entry in train if entry.label == label]
        expected += [mine[place] for place in generator.permutation(len(mine))[:10]]
    assert official.lists["train"] == expected


def test_severe_takes_all_videos_of_a_small_class(tmp_path: Path) -> None:
    lines = [
        f"v{label}x{copy}_E_000000_000009_A_0001_0002 {label}"
        for label in range(99)
        for copy in range(3 + label)
    ]
    write(tmp_path, {"gym99_train.txt": "\n".join(lines), "gym99_val.txt": f"{ELEMENT} 0\n"})
    official = read_official("severe-gym99", tmp_path)
    counts = np.bincount([entry.label for entry in official.lists["train"]])
    assert counts.tolist() == [min(3 + label, 11) for label in range(99)]  # ceil(1000 / 99) is 11
    assert len(official.lists["val"]) == 1


def test_epic_kitchens_clips_are_segments_or_files_of_their_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = write(
        tmp_path / "notes",
        {
            "EPIC_100_verb_classes.csv": "id,key,instances,category\n"
            "0,take,\"['take', 'grab']\",retrieve\n1,open,['open'],access\n2,close,['close'],access\n",
            "EPIC_100_train.csv": EPIC_HEAD + "P01_01_0,P01,P01_01,00:00:00.14,00:00:03.37,open,1\n"
            "P01_01_1,P01,P01_01,00:01:04.37,00:01:06.17,close,2\n"
            "P02_03_9,P02,P02_03,00:00:05.00,00:00:05.00,take,0\n",
            "EPIC_100_test_timestamps.csv": "narration_id,video_id,start_timestamp,stop_timestamp\n"
            "P01_101_0,P01_101,01:00:02.860,01:00:03.870\n",
        },
    )
    official = read_official("epic-kitchens-100", notes)
    told = capsys.readouterr().err
    assert "1 clip left out, which does not end after its start: P02_03_9" in told
    assert "missing, so not converted: EPIC_100_validation.csv" in told
    assert official.lists == {
        "train": [("P01/videos/P01_01.MP4#0.14-3.37", 1, -1), ("P01/videos/P01_01.MP4#64.37-66.17", 2, -1)],
        "test": [("P01/videos/P01_101.MP4#3602.86-3603.87", -1, -1)],
    }
    assert official.classes == ["take", "open", "close"]
    videos = write(tmp_path / "disk", {"EPIC/P01/videos/P01_01.MP4": "", "cut/P01_101_0.mp4": ""})
    dsm.data.convert(dataset="epic-kitchens-100", annotations=notes, videos=videos, out=tmp_path / "lists")
    train, test = (read_list(tmp_path / "lists" / f"{name}.txt", videos) for name in ("train", "test"))
    assert list(train.paths) == [
        "EPIC/P01/videos/P01_01.MP4#0.14-3.37",
        "EPIC/P01/videos/P01_01.MP4#64.37-66.17",
    ]
    assert list(test.paths) == ["cut/P01_101_0.mp4"]
    assert (tmp_path / "lists" / OPPOSITES).read_text() == "open\tclose\n"
    (videos / "EPIC" / "P01" / "videos" / "P01_01.MP4").unlink()
    write(videos, {"rgb/P01_01/frame_0000000001.jpg": ""})
    convert = {"dataset": "epic-kitchens-100", "annotations": notes, "videos": videos, "overwrite": True}
    result = dsm.data.convert(**convert, out=tmp_path / "lists")
    assert (tmp_path / "lists" / "absent.txt").read_text() == "P01/videos/P01_01.MP4\n"
    frames = "folders of frames, such as rgb/P01_01, have no times, so parts of them cannot be listed."
    assert frames in result.lines
    (videos / "cut" / "P01_101_0.mp4").unlink()
    with pytest.raises(UserError) as error:
        dsm.data.convert(**convert, out=tmp_path / "none")
    assert str(error.value).endswith(f"contains none of the 3 videos that the annotations name; {frames}")


def test_ucf_crime_has_detection_folds_and_segments_of_anomalies(tmp_path: Path) -> None:
    normal = "Testing_Normal_Videos_Anomaly/Normal_Videos_003_x264.mp4"
    write(
        tmp_path,
        {
            "Anomaly_Detection_splits/Anomaly_Train.txt": "Abuse/Abuse001_x264.mp4\n"
            "Training_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4 \n",
            "Anomaly_Detection_splits/Anomaly_Test.txt": f"Vandalism/Vandalism007_x264.mp4\n{normal}\n",
            "Action_Regnition_splits/train_002.txt": "Normal_Videos_event/Normal_Videos_015_x264.mp4 \n",
            "Action_Regnition_splits/test_002.txt": "Arrest/Arrest001_x264.mp4 \n",
            "Temporal_Anomaly_Annotation_for_Testing_Videos.txt": "Vandalism007_x264.mp4  Vandalism  "
            "165  240  300  450\nNormal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1  \n",
        },
    )
    official = read_official("ucf-crime", tmp_path)
    assert official.classes == ["Abuse", "Arrest", "Vandalism", "Normal"]
    labels = {name: [entry.label for entry in entries] for name, entries in official.lists.items()}
    assert labels == {"train": [0, 3], "test": [2, 3], "train2": [3], "test2": [1], "test_events": [2, 2]}
    assert paths(official, "test") == ["Vandalism/Vandalism007_x264.mp4", normal]
    assert paths(official, "test_events") == [  # at 30 frames a second
        "Vandalism/Vandalism007_x264.mp4#5.5-8",
        "Vandalism/Vandalism007_x264.mp4#10-15",
    ]


@pytest.mark.parametrize("layout", ["torchvision", "mmaction2 videos", "mmaction2 rawframes"])
@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_layouts_of_torchvision_and_mmaction2_are_found(name: str, layout: str, tmp_path: Path) -> None:
    video = "v_Archery_g08_c01" if name == "ucf101" else "A_Fun_(archery)_g_u_cm_np1_fr_med_1"
    folder = "Archery" if name == "ucf101" else "archery"
    below = {
        "torchvision": f"root/{folder}/{video}.avi",
        "mmaction2 videos": f"data/{name}/videos/{folder}/{video}.avi",
    }
    disk = below.get(layout, f"data/{name}/rawframes/{folder}/{video}/img_00001.jpg")
    more = (
        {} if layout in below else {disk.replace("img_", "flow_x_"): "", disk.replace("img_", "flow_y_"): ""}
    )
    notes = (
        {"classInd.txt": "1 Archery\n", "trainlist01.txt": f"Archery/{video}.avi 1\n", "testlist01.txt": ""}
        if name == "ucf101"
        else {"archery_test_split1.txt": f"{video}.avi 1 \nunused.avi 0 \n"}
    )
    place = tmp_path / ("splits" if layout == "torchvision" else f"data/{name}/annotations")
    write(tmp_path, {disk: "", **more})
    dsm.data.convert(
        dataset=name,
        annotations=write(place, dict(notes)),
        videos=(tmp_path / disk).parents[1 if layout in below else 2],
        out=tmp_path / "out",
    )
    found = f"{folder}/{video}" + (".avi" if layout in below else "")
    assert (tmp_path / "out" / "train1.txt").read_text() in (f"{found} 0\n", f"# dsm list\n{found} 0\n")


def test_any_encoding_is_read_and_repeated_videos_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        tmp_path,
        {
            "jester-v1-labels.csv": "Café\n".encode("latin-1"),
            "jester-v1-train.csv": "1;Café\r\n1;Café\r\n2;Café\r\n".encode("utf-16"),
            "jester-v1-validation.csv": "\ufeff2;Café\n".encode(),
            "jester-v1-test.csv": "3",
        },
    )
    official = read_official("jester", tmp_path)
    assert official.lists["train"] == [("1", 0, -1), ("1", 0, -1), ("2", 0, -1)]
    assert official.lists["val"] == [Entry("2", 0)]
    told = capsys.readouterr().err
    assert "1 video is in train more than once, such as 1" in told
    assert "1 video is in train and in val, such as 2" in told


VERBS = {"EPIC_100_verb_classes.csv": "id,key\n0,take\n"}
WRONG = {
    "jester, an unknown label": (
        "jester",
        {"jester-v1-labels.csv": "A\n", "jester-v1-train.csv": "1;B\n"},
        "'B' is not one of the 1 class",
    ),
    "jester, nothing": ("jester", {}, "jester-v1-labels.csv: no such annotation file"),
    "jester, one class twice": (
        "jester",
        {"jester-v1-labels.csv": "A\nA\n", "jester-v1-train.csv": "1;A\n"},
        "two classes named 'A'",
    ),
    "mimetics, nothing": ("mimetics", {"train.csv": ""}, "contains no mimetics_v1.0.csv"),
    "mimetics, other columns": (
        "mimetics",
        {"mimetics_v1.0.csv": "a,b\n1,2\n"},
        "line 1: lacks the columns youtube_id",
    ),
    "kinetics, other JSON": (
        "kinetics",
        {"train.json": {"a": {"label": 1}}},
        "expected annotations with label and segment",
    ),
    "kinetics, times": (
        "kinetics",
        {"train.json": {"a": {"annotations": {"segment": [1]}}}},
        "of a are not numbers",
    ),
    "gym, another line": (
        "gym99",
        {"gym99_train.txt": "a.mp4 0\n"},
        "expected `VIDEO_E_002407_002435_A_0003_0005 LABEL`",
    ),
    "gym, no label": ("gym99", {"gym99_train.txt": f"{ELEMENT} x\n"}, "the label 'x' is not an integer"),
    "gym, a high label": (
        "gym99",
        {"gym99_train.txt": f"{ELEMENT} 99\n"},
        "has the label 99, but gym99 has 99 classes",
    ),
    "gym, nothing": ("gym288", {}, "gym288_train_element_v1.1.txt: no such annotation file, nor gym288_val"),
    "gym, categories": (
        "gym99",
        {"gym99_train.txt": f"{ELEMENT} 0\n", "gym99_categories.txt": "leap\n"},
        "expected `Clabel: 0;",
    ),
    "gym, times": (
        "gym99",
        {
            "gym99_train.txt": f"{ELEMENT} 0\n",
            "finegym_annotation_info_v1.1.json": {"a": {"E_1": {"segments": {"A": 1}}}},
        },
        "the events of a lack segments or timestamps",
    ),
    "fx-s1, few classes": (
        "fx-s1",
        {"gym99_train.txt": f"{ELEMENT} 0\n", "gym99_categories.txt": categories(9)},
        "lacks this set",
    ),
    "epic, no verbs": ("epic-kitchens-100", {}, "EPIC_100_verb_classes.csv: no such annotation file"),
    "epic, another table": (
        "epic-kitchens-100",
        VERBS | {"EPIC_100_train.csv": "a\n1\n"},
        "lacks the columns narration_id, video_id",
    ),
    "epic, a short row": (
        "epic-kitchens-100",
        VERBS | {"EPIC_100_train.csv": f"{EPIC_HEAD}P01_01_0,P01\n"},
        "line 2: has no video_id, start_timestamp",
    ),
    "epic, a page of the web": (
        "epic-kitchens-100",
        VERBS | {"EPIC_100_train.csv": "<html>\n"},
        "line 1: lacks the columns",
    ),
    "epic, no time": (
        "epic-kitchens-100",
        VERBS | {"EPIC_100_train.csv": f"{EPIC_HEAD}P01_01_0,P01,P01_01,soon,00:00:03.37,open,0\n"},
        "P01_01_0 has no start and stop such as 00:00:03.37",
    ),
    "epic, another verb": (
        "epic-kitchens-100",
        VERBS | {"EPIC_100_train.csv": f"{EPIC_HEAD}P01_01_0,P01,P01_01,0:00,0:03,open,7\n"},
        "has the label 7, but epic-kitchens-100 has 1 class",
    ),
    "crime, no class": (
        "ucf-crime",
        {"Anomaly_Train.txt": "a.mp4\n"},
        "expected `CLASS/NAME.mp4`, found `a.mp4`",
    ),
    "crime, nothing": ("ucf-crime", {}, "Anomaly_Train.txt: no such annotation file, nor Anomaly_Test.txt"),
    "crime, odd events": (
        "ucf-crime",
        {"Anomaly_Test.txt": "A/a.mp4\n", "Temporal_Anomaly_Annotation.txt": "a.mp4 A 1\n"},
        "expected `NAME CLASS START END",
    ),
    "crime, a huge frame": (
        "ucf-crime",
        {"Anomaly_Test.txt": "A/a.mp4\n", "Temporal_Anomaly_Annotation.txt": f"a.mp4 A 1 {'9' * 400}\n"},
        "is not an integer up to",
    ),
    "gym, a huge time": (
        "gym99",
        {
            "gym99_train.txt": f"{ELEMENT} 0\n",
            "annotation.json": {
                "V": {"E": {"timestamps": [[10**400, 2]], "segments": {"A": {"timestamps": [[0, 1]]}}}}
            },
        },
        "the events of V lack segments or timestamps",
    ),
    "something, an endless number": (
        "something-something-v2",
        {"labels.json": '{"A": 1e999}'},
        "expected label names with their numbers",
    ),
    "diving, an endless label": (
        "diving48",
        {"Diving48_V2_train.json": '[{"vid_name": "a", "label": 1e999, "end_frame": 3}]'},
        "expected entries with vid_name, label, end_frame",
    ),
    "something, deep JSON": ("something-something-v2", {"labels.json": "[" * 9999}, "nested too deeply"),
    "something, an odd id": (
        "something-something-v2",
        {"labels.json": {"A": "0"}, "train.json": [{"id": ["1"], "template": "A"}]},
        "expected entries with id and template",
    ),
    "a control character": (
        "jester",
        {"jester-v1-labels.csv": "A\n", "jester-v1-train.csv": "1\x00;A\n"},
        "has a video named '1\\x00'",
    ),
    "a class with a control character": (
        "jester",
        {"jester-v1-labels.csv": "A\x1b\n", "jester-v1-train.csv": "1;A\x1b\n"},
        "has the name 'A\\x1b'",
    ),
    "diving, a huge label": (
        "diving48",
        {"Diving48_V2_train.json": [{"vid_name": "a", "label": 10**12, "end_frame": 3}]},
        "a label is 1000000000000",
    ),
    "diving, negative frames": (
        "diving48",
        {"Diving48_V2_train.json": [{"vid_name": "a", "label": 0, "end_frame": -3}]},
        "a.mp4 cannot have -3 frames",
    ),
    "half a character": (
        "something-something-v2",
        {"labels.json": '{"\\ud800": "0"}', "train.json": [{"id": "1", "template": "\ud800"}]},
        "JSON with half a character",
    ),
    "no video": ("jester", {"jester-v1-labels.csv": "A\n", "jester-v1-train.csv": ""}, "name no video"),
}


@pytest.mark.parametrize(("name", "files", "message"), WRONG.values(), ids=WRONG)
def test_other_files_end_with_one_sentence(
    name: str, files: dict[str, object], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "notes", files)
    (tmp_path / "notes").mkdir(exist_ok=True)
    with pytest.raises(UserError) as error:
        read_official(name, tmp_path / "notes")
    assert message in str(error.value.args[0])
    assert str(error.value).endswith(f"(the official files of {name}: {OFFICIAL[name].source}).")
    convert = [
        "data", "convert", name, "--annotations", str(tmp_path / "notes"), "--out", str(tmp_path / "lists"),
    ]  # fmt: skip
    with pytest.raises(UserError):
        main.run(convert)
    assert not (tmp_path / "lists").exists()


def test_an_odd_vocabulary_is_still_names(tmp_path: Path) -> None:
    row = {"vid_name": "a", "label": 1, "end_frame": 3}
    write(tmp_path, {"Diving48_V2_test.json": [row], "Diving48_vocab.json": [["Back", 15], "Front"]})
    assert read_official("diving48", tmp_path).classes == ["Back+15", "Front"]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, {"jester-v1-labels.csv": "A\n"})
    with (tmp_path / "jester-v1-train.csv").open("wb") as file:
        file.truncate(2**29 + 1)
    with pytest.raises(UserError, match="so it is not an annotation file"):
        read_official("jester", tmp_path)
