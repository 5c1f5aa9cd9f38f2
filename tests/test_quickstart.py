"""The quickstart notebook: few cells, which run in order in any folder without a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_docs import check_names
from warm_dsm import run_line

from dsm.data.lists import read_list
from dsm.evaluate.feature_files import load_features
from dsm.runs.results import read_results

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"
MOST_LINES = 25
RUN = """
import json, socket, sys
import dsm

dsm.show_progress(False)

def refuse(self, address):
    if self.family != getattr(socket, "AF_UNIX", None):
        raise AssertionError(f"the notebook connects to {address}")
    return connect(self, address)

connect = socket.socket.connect
socket.socket.connect = refuse
names = {}
for source in json.loads(sys.argv[1]):
    exec(compile(source, "cell", "exec"), names)
"""


def cells(kind: str) -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_short_and_holds_no_outputs() -> None:
    lines = [line for cell in cells("code") for line in cell.splitlines() if line.strip()]
    assert len(lines) < MOST_LINES
    assert all(len(line) <= 110 for line in lines)
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_the_functions_of_the_notebook_exist() -> None:
    """Where it does not run: that is slow."""
    for cell in cells("code"):
        check_names(cell)


@pytest.mark.slow
def test_the_notebooks_links_work(finished: Path) -> None:
    links = [part.split(")")[0] for cell in cells("markdown") for part in cell.split("](")[1:]]
    assert len(links) > 4
    for link in links:
        folder = NOTEBOOK.parent if link.startswith("..") else finished
        assert (folder / link).is_file(), link


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all cells ran."""
    folder = tmp_path_factory.mktemp("quickstart")
    script = folder / "cells.py"
    script.write_text(RUN, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = run_line("python", script, json.dumps(cells("code")))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return folder / "."


@pytest.mark.slow
def test_the_notebook_runs_from_videos_to_a_bias_figure(finished: Path) -> None:
    here = finished / "quickstart"
    train, test = read_list(here / "train.txt"), read_list(here / "test.txt")
    assert (len(train) + len(test), len(np.unique(train.labels))) == (36, 3)
    assert not set(train.paths) & set(test.paths)
    assert (here / "run" / "README.md").is_file()
    features = load_features(here / "test.npz")
    assert len(features) == len(test)
    for name, metric in (("neighbours", "R@1"), ("probe", "linear_probe"), ("bias", "acc_clip")):
        rows = {row.metric: row for row in read_results(here / name / "results.json")}
        assert 0 <= rows[metric].value <= 1
        assert rows[metric].n == len(test)
    assert (here / "neighbours" / "gallery.html").is_file()
    for name in ("bars.png", "bias.png", "variants.png"):
        assert (here / "bias" / name).read_bytes()[:4] == b"\x89PNG"
