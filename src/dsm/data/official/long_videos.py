"""Readers of annotations of parts of long videos: FineGym, EPIC-Kitchens-100 and UCF-Crime.

A part is a segment of the long video, or a file that was cut out of it, whichever is on disk.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dsm.data.list_columns import seconds_of
from dsm.data.list_format import UNLABELLED
from dsm.data.official.files import (
    Entry,
    Official,
    by_number,
    files_in,
    json_of,
    known,
    lines_of,
    one_of,
    table_of,
    tell_lacking,
    whole,
)
from dsm.errors import UserError
from dsm.terminal import many, note, some
from dsm.video.segments import segment_name

Span = tuple[float, float]

_ELEMENT = re.compile(r"(?P<video>.+)_(?P<event>E_(\d{6})_(\d{6}))_(?P<part>A_(\d{4,6})_(\d{4,6}))")
FX_S1 = range(6, 17)
"""Gym99's labels of set 21, leaps, jumps and hops on the floor: FX-S1 of SEVERE (Thoker et al. 2022)."""
UB_S1 = range(74, 89)
"""Gym99's labels of set 41, circles on uneven bars: UB-S1 of SEVERE."""


def gym99(folder: Path) -> Official:
    """Gym99 of FineGym (Shao et al. 2020); see :func:`_gym`."""
    return _gym(folder, 99)


def gym288(folder: Path) -> Official:
    """Gym288 of FineGym (Shao et al. 2020); see :func:`_gym`."""
    return _gym(folder, 288)


def fx_s1(folder: Path) -> Official:
    """FX-S1, 11 classes of Gym99 that only differ in how the gymnast leaps (Thoker et al. 2022)."""
    return _classes_of(gym99(folder), FX_S1)


def ub_s1(folder: Path) -> Official:
    """UB-S1, 15 classes of Gym99 that are all circles on uneven bars (Thoker et al. 2022)."""
    return _classes_of(gym99(folder), UB_S1)


def _gym(folder: Path, size: int) -> Official:
    """FineGym: ``gym99_train_element_v1.1.txt`` (or ``_v1.0``) and ``gym99_val_element.txt``, lines
    ``VIDEO_E_002407_002435_A_0003_0005 LABEL``; also as in mmaction2, with ``.mp4`` after the name.

    ``gym99_categories.txt`` names the classes: ``Clabel: 6; set: 21; Glabel: 67; (FX) switch leap …``.
    ``finegym_annotation_info_v1.1.json`` has the exact times: ``{VIDEO: {E_…: {timestamps, segments: {A_…:
    {timestamps}}}}}``; those of a part count from the start of its event. Without it, times are those in the
    names, to the second. A part is ``NAME.mp4``, or a segment of the event ``VIDEO_E_….mp4`` or of
    ``VIDEO.mp4``.
    """
    kind = f"gym{size}"
    files = {
        "train": (f"{kind}_train_element_v1.1.txt", f"{kind}_train_element_v1.0.txt", f"{kind}_train_org.txt",
                  f"{kind}_train.txt"),
        "val": (f"{kind}_val_element.txt", f"{kind}_val_org.txt", f"{kind}_val.txt"),
    }  # fmt: skip
    spans = _gym_spans(folder)
    lists: dict[str, list[Entry]] = {}
    lacking, elsewhere = [], dict[str, tuple[str, ...]]()
    for name, names in files.items():
        file = one_of(folder, *names)
        if not file.is_file():
            lacking.append(file.name)
            continue
        lists[name] = []
        for line in lines_of(file):
            element, _, label = line.rpartition(" ")
            element = element.strip().removesuffix(".mp4").removesuffix(".avi")
            match = _ELEMENT.fullmatch(element)
            if not match:
                raise UserError(
                    f"{file}: expected `VIDEO_E_002407_002435_A_0003_0005 LABEL`, found `{line[:200]}`."
                )
            path = f"{element}.mp4"
            lists[name].append(Entry(path, whole(label, "label", file)))
            elsewhere[path] = _gym_elsewhere(match, spans)
    tell_lacking(folder, lacking, lists)
    if not spans:
        note(
            f"{folder}: contains no finegym_annotation_info_v1.1.json, so segments of whole videos start and "
            "end at whole seconds"
        )
    return Official(_gym_classes(folder, size), lists, elsewhere=elsewhere)


def _gym_spans(folder: Path) -> dict[tuple[str, str, str], tuple[Span, Span]]:
    """Seconds of the event in the video and of the part in the event, by their names."""
    found = files_in(folder, "finegym_annotation_info*.json") or files_in(folder, "annotation.json")
    spans = {}
    for video, events in (json_of(found[-1], dict) if found else {}).items():
        try:
            for event, row in events.items():
                for part, times in (row.get("segments") or {}).items():
                    spans[video, event, part] = _span(row["timestamps"]), _span(times["timestamps"])
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
            raise UserError(f"{found[-1]}: the events of {video} lack segments or timestamps.") from None
    return spans


def _span(timestamps: Any) -> Span:
    """From the start of the first stage to the end of the last; a vault has several."""
    return float(timestamps[0][0]), float(timestamps[-1][1])


def _gym_elsewhere(
    match: re.Match[str], spans: Mapping[tuple[str, str, str], tuple[Span, Span]]
) -> tuple[str, ...]:
    video, event, part = match["video"], match["event"], match["part"]
    rounded = (float(match[3]), float(match[4])), (float(match[6]), float(match[7]))
    (begin, _), (start, end) = spans.get((video, event, part), rounded)
    if not 0 <= start < end or begin < 0:
        return ()
    return (
        segment_name(f"{video}_{event}.mp4", start, end),
        segment_name(f"{video}.mp4", begin + start, begin + end),
    )


def _gym_classes(folder: Path, size: int) -> list[str]:
    kind = f"gym{size}"
    file = one_of(folder, f"{kind}_categories.txt", f"label_map_{kind}.txt")
    if not file.is_file():
        note(f"{folder}: contains no {kind}_categories.txt, so classes have numbers instead of names")
        return [f"element {label}" for label in range(size)]
    numbered: list[tuple[str, str]] = []
    for line in lines_of(file):
        match = re.fullmatch(r"Clabel:\s*(\d+);\s*set:\s*(\d+);\s*Glabel:\s*\d+;\s*(.+)", line)
        if not match:
            raise UserError(f"{file}: expected `Clabel: 0; set: 1; Glabel: 1; NAME`, found `{line[:200]}`.")
        numbered.append((match[1], f"{match[3].strip()} [set {match[2]}]"))
    names = by_number(numbered, file)
    bare = [name.rpartition(" [set ")[0] for name in names]
    # The same element can be in two sets: a salto within an exercise, and one as its dismount.
    doubled = {name for name, count in Counter(bare).items() if count > 1}
    return [name if short in doubled else short for name, short in zip(names, bare, strict=True)]


def _classes_of(whole_set: Official, labels: range) -> Official:
    """The entries of some classes, which are numbered from 0."""
    if len(whole_set.classes) < labels.stop:
        raise UserError(
            f"Gym99 has only {many(len(whole_set.classes), 'class', 'classes')} here and lacks this set."
        )
    lists = {
        name: [entry._replace(label=entry.label - labels.start) for entry in entries if entry.label in labels]
        for name, entries in whole_set.lists.items()
    }
    return replace(whole_set, classes=[whole_set.classes[label] for label in labels], lists=lists)


def epic_kitchens_100(folder: Path) -> Official:
    """EPIC-Kitchens-100 (Damen et al. 2022), verbs: ``EPIC_100_train.csv``, ``EPIC_100_validation.csv``,
    ``EPIC_100_test_timestamps.csv`` (without labels) and ``EPIC_100_verb_classes.csv`` (``id``, ``key``).

    A clip is a segment, from ``start_timestamp`` to ``stop_timestamp``, of ``P01/videos/P01_01.MP4``, or a
    file named by its ``narration_id``.
    """
    file = folder / "EPIC_100_verb_classes.csv"
    verbs = by_number(((row["id"], row["key"]) for row in table_of(file, ("id", "key"))), file)
    lists: dict[str, list[Entry]] = {}
    lacking, empty, elsewhere = [], [], dict[str, tuple[str, ...]]()
    for name, part in (("train", "train"), ("val", "validation"), ("test", "test_timestamps")):
        file = folder / f"EPIC_100_{part}.csv"
        if not file.is_file():
            lacking.append(file.name)
            continue
        lists[name] = []
        for row in table_of(file, ("narration_id", "video_id", "start_timestamp", "stop_timestamp")):
            start, end = seconds_of(row["start_timestamp"]), seconds_of(row["stop_timestamp"])
            if start is None or end is None:
                raise UserError(f"{file}: {row['narration_id']} has no start and stop such as 00:00:03.37.")
            if not 0 <= start < end:
                empty.append(row["narration_id"])
                continue
            video = row["video_id"]
            path = segment_name(f"{video.split('_')[0]}/videos/{video}.MP4", start, end)
            verb = row.get("verb_class") or ""
            lists[name].append(Entry(path, whole(verb, "verb_class", file) if verb else UNLABELLED))
            elsewhere[path] = (f"{row['narration_id']}.mp4",)
    tell_lacking(folder, lacking, lists)
    if empty:
        what = many(len(empty), "clip left out, which does", "clips left out, which do")
        note(f"{folder}: {what} not end after {'its' if len(empty) == 1 else 'their'} start: {some(empty)}")
    return Official(verbs, lists, elsewhere=elsewhere)


NORMAL = "Normal"
"""The class of videos in which nothing unusual happens."""
_CRIME_RATE = 30
"""Frames per second of UCF-Crime, according to its notes."""


def ucf_crime(folder: Path) -> Official:
    """UCF-Crime (Sultani et al. 2018): ``Anomaly_Train.txt`` and ``Anomaly_Test.txt`` (in
    ``Anomaly_Detection_splits``), ``train_001.txt``, ``test_001.txt`` … ``004`` (in
    ``Action_Regnition_splits``), lines ``Abuse/Abuse001_x264.mp4``;
    ``Temporal_Anomaly_Annotation_for_Testing_Videos.txt``.

    The folder of a path is its class; the folders of normal videos are one class. The last file gives the
    frames of each anomaly in the test, ``NAME CLASS START END START END``, -1 for none: the list
    ``test_events`` has them as segments.
    """
    places = [folder, *(folder / name for name in ("Anomaly_Detection_splits", "Action_Regnition_splits"))]
    wanted = {"train": "Anomaly_Train.txt", "test": "Anomaly_Test.txt"}
    for fold in (1, 2, 3, 4):
        wanted |= {f"{kind}{fold}": f"{kind}_{fold:03}.txt" for kind in ("train", "test")}
    paths, lacking = {}, []
    for name, title in wanted.items():
        file = next((place / title for place in places if (place / title).is_file()), None)
        if file is None:
            lacking.append(title)
            continue
        paths[name] = lines_of(file)
        if odd := [path for path in paths[name] if "/" not in path]:
            raise UserError(f"{file}: expected `CLASS/NAME.mp4`, found `{odd[0][:200]}`.")
    events = list(_crime_events(folder))
    found = {_crime_class(path) for part in paths.values() for path in part} | {
        _crime_class(path) for path in events
    }
    classes = sorted(found - {NORMAL}) + [NORMAL] * (NORMAL in found)
    label_of = {name: label for label, name in enumerate(classes)}
    lists = {
        name: [Entry(path, known(_crime_class(path), label_of, folder)) for path in part]
        for name, part in {**paths, **({"test_events": events} if events else {})}.items()
    }
    tell_lacking(folder, lacking, lists)
    return Official(classes, lists)


def _crime_class(path: str) -> str:
    name = path.split("/")[0]
    return NORMAL if "normal" in name.lower() else name


def _crime_events(folder: Path) -> list[str]:
    """Segments of anomalies."""
    file = one_of(
        folder, "Temporal_Anomaly_Annotation_for_Testing_Videos.txt", "Temporal_Anomaly_Annotation.txt"
    )
    events = []
    for line in lines_of(file) if file.is_file() else []:
        cells = line.split()
        if len(cells) < 4 or len(cells) % 2:
            raise UserError(f"{file}: expected `NAME CLASS START END …`, found `{line[:200]}`.")
        frames = [whole(cell, "frame", file) for cell in cells[2:]]
        for start, end in zip(frames[::2], frames[1::2], strict=True):
            if 0 <= start < end:
                path = f"{cells[1]}/{cells[0]}"
                events.append(segment_name(path, start / _CRIME_RATE, end / _CRIME_RATE))
    return events
