"""``dsm data convert``: lists of other tools and official annotation files -> lists and classes.txt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dsm.data.classes import CLASSES, OPPOSITES, carry_classes, read_classes, write_classes, write_opposites
from dsm.data.folders import walk_with_links
from dsm.data.list_format import LIST_ENDINGS, UNLABELLED
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.official import opposites_of
from dsm.data.official.files import Entry
from dsm.data.official.reading import read_official
from dsm.errors import UserError
from dsm.files import one_spelling, write_text
from dsm.runs.claims import claim_files
from dsm.settings import takes_settings
from dsm.terminal import many
from dsm.verbs.result import ListResult
from dsm.verbs.settings.data import ConvertConfig, check_columns
from dsm.video.segments import SEGMENT, without_segment
from dsm.video.source import EXTENSIONS
from dsm.video.write import without_ending

MAX_NAMED = 5
"""Most absent videos that are named."""
ABSENT = "absent.txt"
"""File that names all absent videos."""


@takes_settings(ConvertConfig)
def convert(config: ConvertConfig) -> ListResult:
    """Convert a list of another tool, or the official annotation files of a data set."""
    return _convert_list(config) if config.of_list else _convert_official(config)


def _convert_list(config: ConvertConfig) -> ListResult:
    source = Path(config.dataset)
    out = config.out if config.out.suffix in LIST_ENDINGS else config.out / f"{source.stem}.txt"
    claim_files(out, overwrite=config.overwrite, needed=[source])
    # A second list beside the first (test beside train) must number its classes the same way.
    classes = read_classes(out.parent)
    videos = read_list(source, config.root, check_columns(config.columns), classes or None)
    carry_classes(videos, out.parent)
    written = write_list(out, videos.part(np.arange(len(videos)), out.parent))
    labelled = videos.labels[videos.labels != UNLABELLED]
    kinds = many(len(np.unique(labelled)), "class", "classes") if len(labelled) else "unlabelled"
    return ListResult(files=[out], lines=[f"{out}: {many(len(videos), 'video')}, {kinds}"], lists=[written])


def _convert_official(config: ConvertConfig) -> ListResult:
    """Write the lists; compare their counts with the published ones, and name absent videos."""
    assert config.annotations is not None
    official = read_official(config.dataset, config.annotations)
    files = {name: config.out / f"{name}.txt" for name in official.lists}
    pairs = opposites_of(config.dataset, official.classes)
    more = (CLASSES, ABSENT, *([OPPOSITES] if pairs else []))
    claim_files(*files.values(), *(config.out / name for name in more), overwrite=config.overwrite)
    places = _by_name(config.videos) if config.videos else None
    absent: list[str] = []
    present = {
        name: entries if places is None else _present(entries, places, official.elsewhere, absent)
        for name, entries in official.lists.items()
    }
    timeless = _only_frames(absent, places or {})
    if absent and not any(present.values()):
        raise UserError(
            f"{config.videos}: contains none of the {many(len(set(absent)), 'video')} that the "
            "annotations name; "
            f"{timeless or 'check that --videos is the folder of the videos.'}"
        )
    lines = [_counted("classes", len(official.classes), official.published)]
    lists = []
    for name, entries in present.items():
        listed = len(official.lists[name])
        lines.append(_counted(name, listed, official.published, absent=listed - len(entries)))
        if entries:
            written = write_list(files[name], _as_list(entries, config.out))
            lists.append(replace(written, root=config.videos) if config.videos else written)
        else:
            files[name].unlink(missing_ok=True)  # from an earlier call that found some
    write_classes(config.out, official.classes)
    written_files = [*(Path(one.source) for one in lists), config.out / CLASSES]
    if pairs:
        written_files.append(write_opposites(config.out, pairs))
        where = f"{config.out / OPPOSITES}, for dsm bias --opposites"
        lines.append(f"opposite classes: {many(len(pairs), 'pair')} ({where})")
    if config.videos:
        if absent:
            written_files.append(config.out / ABSENT)
            lines.append(_write_absent(config.out / ABSENT, absent))
            lines += [timeless] * bool(timeless)
        else:
            (config.out / ABSENT).unlink(missing_ok=True)  # from an earlier call
        lines.append(f"use the lists with --data.root {config.videos}")
    return ListResult(files=written_files, lines=lines, lists=lists)


def _as_list(entries: list[Entry], root: Path) -> VideoList:
    paths, labels, frames = zip(*entries, strict=True)
    return VideoList(list(paths), np.array(labels), np.array(frames), root)


def _by_name(folder: Path) -> dict[str, list[str]]:
    """Paths of videos and innermost folders below ``folder``, by name without extension."""
    paths: dict[str, list[str]] = {}
    for place, folders, files in walk_with_links(folder):
        inside = Path(place).relative_to(folder)
        if not folders and place != str(folder):
            paths.setdefault(one_spelling(inside.name), []).append(inside.as_posix())
        # Other files of the same name (subtitles, poses, a thumbnail) are not videos.
        for name in files:
            if Path(name).suffix.lower() in EXTENSIONS:
                key = one_spelling(without_ending(name))
                paths.setdefault(key, []).append((inside / name).as_posix())
    return paths


def _present(
    entries: list[Entry],
    places: dict[str, list[str]],
    elsewhere: dict[str, tuple[str, ...]],
    absent: list[str],
) -> list[Entry]:
    """The entries whose video exists, with its path in the folder; paths of the others go to ``absent``.

    Args:
        elsewhere: other names of a video, by path.
    """
    present = []
    for entry in entries:
        names = (entry.path, *elsewhere.get(entry.path, ()))
        path = next(filter(None, (_place(one_spelling(name), places) for name in names)), None)
        if path is None:
            absent.append(entry.path)
        else:
            present.append(entry._replace(path=path))
    return present


def _place(name: str, places: dict[str, list[str]]) -> str | None:
    """Path of a video or segment below the folder; None if it is absent."""
    part = SEGMENT.fullmatch(name)
    path = Path(part[1] if part else name)
    candidates = _candidates(path, places)
    if part:  # a folder of frames has no times
        candidates = [place for place in candidates if Path(place).suffix.lower() in EXTENSIONS]
    if not candidates:
        return None
    # If several share the name, take the one in the folder that the annotations give.
    best = max(reversed(candidates), key=lambda place: Path(place).parent.name == path.parent.name)
    return best + name.removeprefix(part[1]) if part else best


def _candidates(path: Path, places: dict[str, list[str]]) -> list[str]:
    # A folder of frames is named after its video, without the extension.
    return places.get(without_ending(path.name)) or places.get(path.name) or []


def _only_frames(absent: list[str], places: dict[str, list[str]]) -> str:
    """A sentence about segments whose videos exist only as folders of frames; empty if there are none."""
    files = dict.fromkeys(without_segment(path) for path in absent if SEGMENT.fullmatch(path))
    frames = [
        place for file in files if (found := _candidates(Path(one_spelling(file)), places)) for place in found
    ]
    if not frames:
        return ""
    return f"folders of frames, such as {frames[0]}, have no times, so parts of them cannot be listed."


def _counted(name: str, count: int, published: dict[str, int], absent: int = 0) -> str:
    line = f"{name}: {count}"
    if name in published:
        same = published[name] == count
        line += ", as published" if same else f" (published: {published[name]})"
    return line + (f", of which {absent} are absent" if absent else "")


def _write_absent(file: Path, absent: list[str]) -> str:
    """Write the paths of absent videos; for a segment, the path of its whole video.

    Returns:
        A sentence with the first of them.
    """
    unique = list(dict.fromkeys(map(without_segment, absent)))
    write_text(file, "".join(f"{path}\n" for path in unique))
    shown = ", ".join(unique[:MAX_NAMED]) + (", …" if len(unique) > MAX_NAMED else "")
    return f"{many(len(unique), 'video is', 'videos are')} listed but absent: {shown} (all: {file})"
