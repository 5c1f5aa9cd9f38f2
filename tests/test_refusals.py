"""Weights that cannot be used: every verb refuses them from the command line, in one sentence.

The hub is a server of our own, so that its library raises its own errors.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from published import save_published
from warm_dsm import dsm, run_line

CODE = "open('executed', 'w')\n"


class Hub(BaseHTTPRequestHandler):
    """A hub with one model, ``gated/model``; of ``odd/model`` it answers what no hub answers."""

    def do_GET(self) -> None:
        body = b""
        if "gated/model" in self.path and "/resolve/" not in self.path:
            names = ("config.json", "model.safetensors")
            if "/tree/" in self.path:
                answer: object = [{"type": "file", "path": one, "size": 9, "oid": "b" * 40} for one in names]
            else:
                siblings = [{"rfilename": one} for one in names]
                answer = {"id": "gated/model", "sha": "a" * 40, "siblings": siblings}
            body = json.dumps(answer).encode()
            self.send_response(200)
        elif "gated/model" in self.path:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
        elif "odd/model" in self.path:
            body = b'{"id": "odd/model", "sha": "main", "siblings": []}'
            self.send_response(200)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound tiny model, and beside it the same as a pickle, and one that asks for code."""
    folder = tmp_path_factory.mktemp("theirs")
    save_published("videomae", folder / "sound")
    shutil.copytree(folder / "sound", folder / "pickle")
    (folder / "pickle" / "model.safetensors").rename(folder / "pickle" / "pytorch_model.bin")
    shutil.copytree(folder / "sound", folder / "code")
    config = json.loads((folder / "sound" / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_theirs.Model"}
    (folder / "code" / "config.json").write_text(json.dumps(config))
    (folder / "code" / "modeling_theirs.py").write_text(CODE)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the command runs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "here"


def refused(done: CompletedProcess[str], match: str, here: Path) -> None:
    assert done.returncode == 2, done.stderr
    assert match in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert list(here.iterdir()) == []


TRAINED = ("--steps", "1", "--data.batch-size", "2", "--data.train", "TRAIN", "--out", "out")
VERBS: dict[str, tuple[str, ...]] = {
    "extract": ("--data", "TRAIN", "--out", "x.npz"),
    "explore": ("VIDEOS", "--out", "x.html"),
    "look": ("VIDEO", "--out", "x.png"),
    "look --score": ("TRAIN", "--out", "x"),
    "test": ("--data.test", "TRAIN", "--out", "x"),
    "bias": ("--data.train", "TRAIN", "--data.test", "TRAIN", "--out", "x"),
    "export": ("--out", "x.safetensors"),
    "export --to hub": ("--out", "x"),
    "pretrain": TRAINED,
    "pretrain --tune head": TRAINED,
    "pretrain --tune lora": TRAINED,
    "finetune": TRAINED,
    "weights inspect": (),
    "run still-camera": ("--data.train", "TRAIN", "--data.test", "TRAIN", "--out", "x"),
    "report": ("--data.train", "TRAIN", "--data.test", "TRAIN", "--out", "x.html"),
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_refuses_weights_that_ask_for_code(
    verb: str, scenes: Path, theirs: Path, here: Path
) -> None:
    stand = {"TRAIN": scenes / "train.txt", "VIDEOS": scenes / "videos" / "train"}
    stand["VIDEO"] = next(stand["VIDEOS"].iterdir())
    words = [stand.get(word, word) for word in VERBS[verb]]
    weights = f"hf:{theirs / 'code'}"
    given = [weights] if verb in ("weights inspect", "report") else ["--weights", weights]
    refused(dsm(*verb.split(), *given, *words), "asks to run its author's code", here)


@pytest.mark.parametrize(
    ("weights", "endpoint", "match"),
    [
        ("hf:no/such", "HUB", "the hub has no such model; check its id"),
        ("hf:gated/model", "HUB", "is gated; accept its terms on https://huggingface.co/gated/model"),
        ("hf:odd/model", "HUB", "the server that answered is not a model hub"),
        ("hf:some/model", "http://127.0.0.1:9", "give its folder: hf:FOLDER"),
        ("timm:some_model", "http://127.0.0.1:9", "give its folder: timm:FOLDER"),
        ("hf:THEIRS/pickle", "HUB", "has pytorch_model.bin, a pickle, which can run code"),
        ("hf:THEIRS/nothing", "HUB", "neither a folder"),
    ],
)
def test_every_reason_is_one_sentence(
    weights: str,
    endpoint: str,
    match: str,
    hub: str,
    theirs: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", endpoint.replace("HUB", hub))
    refused(dsm("weights", "inspect", weights.replace("THEIRS", str(theirs))), match, here)


def test_a_published_model_has_no_card_of_a_run(theirs: Path, here: Path) -> None:
    refused(dsm("card", f"hf:{theirs / 'sound'}"), "its authors' card; `dsm export` writes", here)


def test_a_clip_that_the_model_does_not_take_is_refused(scenes: Path, theirs: Path, here: Path) -> None:
    out = ("--data", scenes / "train.txt", "--out", "x.npz", "--size", "48")
    done = dsm("extract", "--weights", f"hf:{theirs / 'sound'}", *out, "--resize", "48")
    assert done.returncode == 2
    assert "does not take clips of 3x4x48x48" in done.stderr.splitlines()[-1]
    done = dsm("extract", "--weights", f"hf:{theirs / 'sound'}", *out)
    assert "set it to 48 or more" in done.stderr.splitlines()[-1]
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("package", "weights", "extra"),
    [
        ("transformers", "hf:THEIRS/sound", "transformers"),
        ("huggingface_hub", "hf:some/model", "transformers"),
        ("timm", "timm:THEIRS/timm", "timm"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    package: str, weights: str, extra: str, theirs: Path, here: Path, tmp_path: Path
) -> None:
    (theirs / "timm").mkdir(exist_ok=True)
    (theirs / "timm" / "config.json").write_text('{"architecture": "resnet10t"}')
    shutil.copy(theirs / "sound" / "model.safetensors", theirs / "timm")
    without = tmp_path / "without.py"
    without.write_text(
        "import sys\nsys.modules[sys.argv.pop(1)] = None\nfrom dsm.cli.main import main\nmain()\n"
    )
    words = (package, "weights", "inspect", weights.replace("THEIRS", str(theirs)))
    refused(run_line("python", without, *words), f"needs {package}, which is not installed: pip install "
            f"'dsm-video[{extra}]'", here)  # fmt: skip
