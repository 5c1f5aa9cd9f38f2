"""Seals: checksums in dsm's binary files, checked when they are read.

A disk or a copy may change a bit without an error. Zip files (checkpoints, ``.npz``) carry the seal
``dsm-crc32:89abcdef`` as their comment, ``.safetensors`` in their metadata: the CRC-32 of all bytes but these
eight. Zip files without a seal are checked by the CRC-32 of each entry.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from dsm.limits import UNPACKED

TAG = b"dsm-crc32:"
DIGITS = 8
BLANK = TAG.decode() + DIGITS * "0"
"""The placeholder that :func:`seal` overwrites with the checksum."""
_END = struct.Struct("<4s16xH")
"""The end of a zip without a comment: a mark and, last, the length of the comment."""
_CHUNK = 2**20


class DamagedError(ValueError):
    """The content of a file has changed since it was written."""


def seal(file: Path, place: int) -> None:
    """Fill in the checksum of a file that has :data:`BLANK` at ``place``."""
    with file.open("r+b") as opened:
        crc = _crc(opened, place + len(TAG))
        opened.seek(place + len(TAG))
        opened.write(b"%08x" % crc)


def seal_zip(file: Path) -> None:
    """Seal a zip file that has no comment."""
    with file.open("r+b") as opened:
        opened.seek(-_END.size, 2)
        mark, length = _END.unpack(opened.read(_END.size))
        if mark != b"PK\5\6" or length:
            raise ValueError(f"{file}: not a zip without a comment")
        opened.seek(-2, 2)
        opened.write(struct.pack("<H", len(BLANK)))
        place = opened.tell()
        opened.write(BLANK.encode())
    seal(file, place)


def check_seal(file: Path, place: int) -> None:
    """Raise DamagedError if the checksum at ``place`` is not the file's."""
    with file.open("rb") as opened:
        opened.seek(place)
        stored = opened.read(len(BLANK))
        if stored != TAG + b"%08x" % _crc(opened, place + len(TAG)):
            raise DamagedError(f"{file}: has changed since it was written; its checksum differs")


def check_zip(file: Path) -> bool:
    """Check a zip file by its seal, or else by the checksums of its entries.

    Returns:
        Whether it is sealed; False if it is not a zip.

    Raises:
        DamagedError: its content has changed. ValueError: its entries overlap, or it holds
            far more than its size.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(0, size - len(BLANK) - 2**16))
        end = opened.read()
    if end[-len(BLANK) :].startswith(TAG):
        check_seal(file, size - len(BLANK))
        return True
    place = end.rfind(b"PK\5\6")
    if 0 <= place <= len(end) - _END.size:
        _, comment = _END.unpack_from(end, place)
        if len(BLANK) in (comment, len(end) - place - _END.size):
            raise DamagedError(f"{file}: has lost its seal")
    if zipfile.is_zipfile(file):
        _check_entries(file)
    return False


def fingerprint(file: Path) -> str:
    """Identifies a file's content: its size and its seal or, without a seal, its CRC-32.

    The seal is not checked here.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(0, size - len(BLANK)))
        end = opened.read()
        if not end.startswith(TAG):
            end = b"%08x" % _crc(opened, size)
    return f"{size}-{end[-DIGITS:].decode('ascii', 'replace')}"


def is_intact_zip(file: Path) -> bool:
    """Whether the file exists and is unchanged since it was written."""
    try:
        return check_zip(file)
    except (OSError, ValueError):
        return False


def room_of(file: Path) -> int:
    """How many bytes a file may unpack to."""
    return UNPACKED * max(file.stat().st_size, 2**20)


def _check_entries(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(one.compress_size for one in entries) > file.stat().st_size:
            raise ValueError("its entries overlap")
        if sum(one.file_size for one in entries) > room_of(file):
            raise ValueError("it holds far more than its size")  # unpacking it all would take hours
        try:
            bad = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DamagedError(f"{file}: {error}") from None
    if bad is not None:
        raise DamagedError(f"{file}: has changed since it was written; the checksum of an entry differs")


def _crc(opened: IO[bytes], digits: int) -> int:
    """The CRC-32 of a file without the eight bytes at ``digits``."""
    opened.seek(0)
    crc, left = 0, digits
    while left > 0 and (chunk := opened.read(min(left, _CHUNK))):
        crc, left = zlib.crc32(chunk, crc), left - len(chunk)
    opened.seek(digits + DIGITS)
    while chunk := opened.read(_CHUNK):
        crc = zlib.crc32(chunk, crc)
    return crc


def sealed_json(value: dict[str, Any]) -> str:
    """An object as JSON, with the checksum of its text."""
    crc = zlib.crc32(json.dumps(value).encode())
    return json.dumps({**value, "crc32": crc})


def unsealed(value: Any) -> Any:
    """The object given to :func:`sealed_json`, from the parsed text; not checked if it has no checksum.

    Raises:
        DamagedError: the text has changed.
    """
    if isinstance(value, dict) and "crc32" in value:
        stored = value.pop("crc32")
        if stored != zlib.crc32(json.dumps(value).encode()):
            raise DamagedError("has changed since it was written; its checksum differs")
    return value
