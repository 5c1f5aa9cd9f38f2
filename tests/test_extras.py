"""Packages of the extras: the messages if one is missing or broken."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import dsm
from dsm.errors import UserError, first_line, sentence
from dsm.extras import load_extra

SOURCE = Path(dsm.__file__).parent


def ask(module: str) -> object:
    return load_extra(module, "flow", package="OpenCV", wanted_by="optical flow", hint="; or take rgb")


def test_an_installed_package_is_loaded() -> None:
    assert ask("json.decoder").__name__ == "json.decoder"


def test_only_the_first_line_of_a_librarys_error_is_shown() -> None:
    assert first_line(RuntimeError("no such layer\n  at conv1")) == "no such layer"
    assert first_line(ValueError()) == "ValueError"


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(UserError, match=re.escape(
        "optical flow needs OpenCV, which is not installed: pip install 'dsm-video[flow]'; or take rgb."
    )):  # fmt: skip
        ask("no_such_package_of_anyone.part")


@pytest.mark.parametrize("code", ["raise RuntimeError('wrong\\ntorch')", "import no_such_package_of_anyone"])
def test_a_broken_package_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "broken_here.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"cannot be used here \((wrong|No module named '[a-z_]+')\): pip"):
        ask("broken_here")


def test_a_package_that_finds_no_memory_need_not_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large_here.py").write_text(
        "raise ImportError('cv2.so: failed to map segment from shared object')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError) as raised:
        ask("large_here")
    assert "memory ran out" in str(sentence(raised.value))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_a_library_is_not_loaded_where_it_would_crash_for_want_of_memory() -> None:
    code = (
        "import os, pathlib, resource, dsm.extras\n"
        "pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])\n"
        "size = pages * os.sysconf('SC_PAGESIZE') + 100 * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "dsm.extras.load_extra('cv2', 'flow', package='OpenCV', wanted_by='flow')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr  # a crash is below 0
    assert ended.stderr.rstrip().endswith("MemoryError")


def test_every_extra_in_messages_exists() -> None:
    metadata = (SOURCE.parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r'load_extra\(\s*"[\w.]+",\s*"(\w+)"', "".join(
        file.read_text(encoding="utf-8") for file in sorted(SOURCE.rglob("*.py"))
    ))  # fmt: skip
    assert len(named) >= 5
    for extra in named:
        assert re.search(rf"^{extra} = \[", metadata, re.MULTILINE), extra
