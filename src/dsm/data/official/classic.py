"""Readers of the official annotations of UCF101, HMDB51, Diving48, Kinetics and Mimetics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dsm.data.list_format import UNKNOWN, UNLABELLED
from dsm.data.official.files import (
    Entry,
    Official,
    files_in,
    json_of,
    known,
    lines_of,
    names_of_labels,
    table_of,
    tell_lacking,
    whole,
)
from dsm.errors import UserError
from dsm.limits import MOST_CLASSES


def ucf101(folder: Path) -> Official:
    """UCF101 (Soomro et al. 2012): ``classInd.txt``, ``trainlist01.txt``, ``testlist01.txt`` … ``03``.

    Only train lists give labels; in both, the first folder of a path is its class.
    """
    index = folder / "classInd.txt"
    named = [line.split(maxsplit=1) for line in lines_of(index)]
    if not all(len(fields) == 2 for fields in named):
        raise UserError(f"{index}: expected `number name` on each line.")
    # The numbers count: a sorted file has 1, 10, 100, 2.
    classes = [name for number, name in sorted(named, key=lambda one: whole(one[0], "number", index))]
    label_of = {name: label for label, name in enumerate(classes)}
    lists, lacking = {}, []
    for split in (1, 2, 3):
        for kind in ("train", "test"):
            file = folder / f"{kind}list{split:02}.txt"
            if not file.is_file():
                lacking.append(file.name)
                continue
            # The path ends with .avi; the label follows.
            paths = [line.split(".avi")[0] + ".avi" for line in lines_of(file)]
            lists[f"{kind}{split}"] = [
                Entry(path, known(path.split("/")[0], label_of, file)) for path in paths
            ]
    tell_lacking(folder, lacking, lists)
    return Official(classes, lists)


def hmdb51(folder: Path) -> Official:
    """HMDB51 (Kuehne et al. 2011): ``CLASS_test_splitN.txt``, lines ``NAME 1|2|0``: train, test, unused."""
    lists: dict[str, list[Entry]] = {
        f"{kind}{split}": [] for split in (1, 2, 3) for kind in ("train", "test")
    }
    named = {}
    for file in files_in(folder, "*_test_split[123].txt"):
        named[file] = re.fullmatch(r"(.+)_test_split([123])\.txt", file.name)
    if not named:
        raise UserError(
            f"{folder}: contains no CLASS_test_split1.txt; give the folder of the official splits."
        )
    classes = sorted({match[1] for match in named.values() if match})
    for file, match in named.items():
        assert match is not None
        for line in lines_of(file):
            name, _, part = line.rpartition(" ")
            if part not in ("0", "1", "2"):
                raise UserError(f"{file}: expected `NAME 0|1|2`, found `{line}`.")
            if part != "0":
                kind = "train" if part == "1" else "test"
                path = f"{match[1]}/{name.strip()}"
                lists[f"{kind}{match[2]}"].append(Entry(path, classes.index(match[1])))
    lacking = [f"CLASS_test_split{split}.txt" for split in (1, 2, 3) if not lists[f"train{split}"]]
    lists = {name: entries for name, entries in lists.items() if entries}
    tell_lacking(folder, lacking, lists)
    return Official(classes, lists)


def diving48(folder: Path) -> Official:
    """Diving48 V2 (Li et al. 2018): ``Diving48_V2_train.json``, ``…_test.json``, ``Diving48_vocab.json``."""
    lists = {}
    lacking = []
    for name in ("train", "test"):
        file = folder / f"Diving48_V2_{name}.json"
        if not file.is_file():
            lacking.append(file.name)
            continue
        try:
            lists[name] = [
                Entry(f"{row['vid_name']}.mp4", int(row["label"]), int(row["end_frame"]) or UNKNOWN)
                for row in json_of(file)
            ]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise UserError(f"{file}: expected entries with vid_name, label, end_frame.") from None
    tell_lacking(folder, lacking, lists)
    if not any(lists.values()):
        raise UserError(f"{folder}: the annotation files of Diving48 name no videos.")
    vocabulary = folder / "Diving48_vocab.json"
    count = 1 + max(entry.label for entries in lists.values() for entry in entries)
    if vocabulary.is_file():
        rows = json_of(vocabulary)
        classes = ["+".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows]
    else:
        if count > MOST_CLASSES:
            raise UserError(f"{folder}: a label is {count - 1}, but the labels of Diving48 are below 48.")
        classes = [f"dive{label:02}" for label in range(count)]
    return Official(classes, lists)


class _Clip(NamedTuple):
    """A clip of Kinetics."""

    split: str
    label: str
    """The class; empty in the test."""
    youtube: str
    start: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.youtube}_{self.start:06d}_{self.end:06d}.mp4"


def kinetics(folder: Path) -> Official:
    """Kinetics (Kay et al. 2017): csv files with ``label, youtube_id, time_start, time_end, split``; or,
    for a split without one, the same as JSON, ``{ID: {annotations: {label, segment}, subset}}``.

    A clip is ``ID_000012_000022.mp4`` in a folder named after its class, the layout of the usual downloaders.
    Labels follow a list of names beside the files (``label_map_k600.txt``), otherwise alphabetical order.
    The number of clips depends on when they were downloaded; only the classes are checked.
    """
    clips = [*_clips_of_csv(folder, "*.csv")]
    done = {clip.split for clip in clips}
    clips += [clip for clip in _clips_of_json(folder) if clip.split not in done]
    if not clips:
        raise UserError(f"{folder}: contains no csv or JSON file of Kinetics (train.csv, val.csv).")
    return _numbered(folder, clips, (400, 600, 700))


def mimetics(folder: Path) -> Official:
    """Mimetics (Weinzaepfel and Rogez 2021): ``mimetics_v1.0.csv``, columns as in Kinetics; a test set of
    mimed actions from 50 of its classes.

    Labels follow a list of Kinetics' class names beside the file, if there is one, so that a classifier
    trained on Kinetics can be tested directly.
    """
    clips = [clip._replace(split="test") for clip in _clips_of_csv(folder, "mimetics*.csv")]
    if not clips:
        raise UserError(f"{folder}: contains no mimetics_v1.0.csv; give the folder of the annotations.")
    return _numbered(folder, clips, (50, 400))


def _numbered(folder: Path, clips: list[_Clip], sizes: tuple[int, ...]) -> Official:
    """Clips with class numbers; one of ``sizes`` is the published number of classes."""
    used = sorted({clip.label for clip in clips if clip.label})
    classes = names_of_labels(folder) or used
    label_of = {name: label for label, name in enumerate(classes)}
    lists: dict[str, list[Entry]] = {}
    for clip in clips:
        label = known(clip.label, label_of, folder) if clip.label else UNLABELLED
        place = clip.label.replace(" ", "_") or "unlabelled"
        lists.setdefault(clip.split, []).append(Entry(f"{place}/{clip.name}", label))
    published = min(sizes, key=lambda size: abs(size - len(classes)))
    return Official(classes, lists, {"classes": published})


def _clips_of_csv(folder: Path, pattern: str) -> Iterator[_Clip]:
    for file in files_in(folder, pattern):
        if file.name.endswith("labels.csv"):
            continue
        for row in table_of(file, ("youtube_id", "time_start", "time_end")):
            split = _split(row.get("split") or file.stem.split("_")[-1], file)
            # The test's csv has no labels.
            times = row["time_start"], row["time_end"]
            yield _Clip(
                split, row.get("label") or "", row["youtube_id"], *_seconds(times, row["youtube_id"], file)
            )


def _clips_of_json(folder: Path) -> Iterator[_Clip]:
    for file in files_in(folder, "*.json"):
        for youtube, row in json_of(file, dict).items():
            notes = row.get("annotations") if isinstance(row, dict) else None
            if not isinstance(notes, dict) or not isinstance(notes.get("segment"), list):
                raise UserError(f"{file}: expected annotations with label and segment for each video.")
            split = _split(str(row.get("subset") or file.stem), file)
            yield _Clip(
                split, str(notes.get("label") or ""), youtube, *_seconds(notes["segment"], youtube, file)
            )


def _split(name: str, file: Path) -> str:
    if not re.fullmatch(r"\w[\w-]*", name) or name in ("classes", "absent", "opposites"):
        raise UserError(f"{file}: '{name}' is not the name of a split (train, validate, test).")
    return name


def _seconds(times: Sequence[object], youtube: str, file: Path) -> tuple[int, int]:
    try:
        start, end = (round(float(str(time))) for time in times)
    except (ValueError, OverflowError):
        raise UserError(f"{file}: time_start and time_end of {youtube} are not numbers.") from None
    return start, end
