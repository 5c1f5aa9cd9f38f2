"""Model cards of runs and exports; text that people wrote in them is kept."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from runs import small_run

import dsm
from dsm.errors import UserError
from dsm.models.checkpoint_file import checkpoint_of, list_checkpoints, step_of
from dsm.models.settings import LoadSettings
from dsm.runs.card import CARD, card_text, code, fenced, is_untouched, write_card
from dsm.runs.results import Row, command_line, write_results
from dsm.train.finetune import FinetuneConfig, FinetuneData, finetune
from dsm.train.pretrain import pretrain
from dsm.verbs.card import CardConfig, card
from dsm.verbs.export import ExportConfig, export


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(small_run(scenes, tmp_path_factory.mktemp("card") / "run", steps=2))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may break."""
    folder = tmp_path / "copy"
    for file in (p for p in run.rglob("*") if p.is_file()):
        target = folder / file.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return folder


def code_of(text: str) -> str:
    """The first Python block of a card."""
    return text.split("```python\n")[1].split("\n```")[0]


def test_a_card_describes_its_run(run: Path) -> None:
    text = (run / CARD).read_text(encoding="utf-8")
    record = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert text.startswith("# `dsm` on `tiny`\n")
    assert "for 2 steps" in text
    assert "| list | `train.txt` |" in text
    assert "| videos | 40 |" in text
    assert record["command"] in text
    assert f"`torch {torch.__version__}`" in text
    assert "4 frames, every 3rd of the video" in text
    assert "\n--optim.warmup 2\n" in text
    assert "\n--dsm.head mlp-bn\n" in text
    assert "--moco." not in text, "settings of an unused method"
    assert "Wang et al. 2021" in text
    assert is_untouched(run / CARD)


def test_the_card_gives_the_length_of_the_list_in_hours(run: Path, scenes: Path) -> None:
    frames = sum(int(line.split()[-1]) for line in (scenes / "train.txt").read_text().splitlines())
    assert f"| frames | {frames} ({frames / 25 / 3600:.1f} hours at 25 frames per second) |" in (
        run / CARD
    ).read_text(encoding="utf-8")


def test_the_code_of_a_card_loads_the_weights(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    names: dict[str, object] = {}
    exec(code_of((run / CARD).read_text(encoding="utf-8")), names)  # noqa: S102 the card is our own
    weight = next(iter(names["encoder"].parameters()))  # type: ignore[attr-defined]
    assert torch.equal(weight, next(iter(dsm.load_encoder(run).parameters())))


def test_a_classifier_names_its_classes(scenes: Path, run: Path, tmp_path: Path) -> None:
    base = small_run(scenes, tmp_path / "tuned", steps=2)
    out = finetune(
        FinetuneConfig(
            data=FinetuneData(scenes / "train.txt", batch_size=8, workers=0), out=tmp_path / "tuned",
            weights=str(run), steps=2, clip=base.clip,
        )
    )  # fmt: skip
    text = (out / CARD).read_text(encoding="utf-8")
    first = (scenes / "classes.txt").read_text(encoding="utf-8").splitlines()[0]
    assert f"Meant to distinguish `{first}`, " in text
    assert "load_classifier" in code_of(text)
    assert f"| started from | `{run}` |" in text


def test_an_edited_card_is_not_overwritten(copy: Path, scenes: Path) -> None:
    file = copy / CARD
    edited = file.read_text(encoding="utf-8").replace(
        "## Licence", "## Licence\n\nCC BY 4.0, by agreement.\n"
    )
    file.write_text(edited, encoding="utf-8")
    assert not is_untouched(file)
    with pytest.raises(UserError, match="edited"):
        card(CardConfig(copy))
    pretrain(small_run(scenes, copy, steps=4, resume=True, extend=True))  # the run continues; the text stays
    assert file.read_text(encoding="utf-8") == edited
    card(CardConfig(copy, overwrite=True))
    assert "CC BY" not in file.read_text(encoding="utf-8")
    assert "for 4 steps" in file.read_text(encoding="utf-8")


def test_other_line_endings_do_not_count_as_an_edit(copy: Path, scenes: Path) -> None:
    file = copy / CARD
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    pretrain(small_run(scenes, copy, steps=3, resume=True, extend=True))
    assert "for 3 steps" in file.read_text(encoding="utf-8")


def test_an_existing_readme_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text("My notes.\n", encoding="utf-8")
    assert not write_card(tmp_path / CARD, "# other")
    assert (tmp_path / CARD).read_text(encoding="utf-8") == "My notes.\n"


def test_results_are_listed_with_their_command(copy: Path, tmp_path: Path) -> None:
    rows = [
        Row("dsm", 0, "test", "R@1", 0.4321, 0.4, 0.5, 84),
        Row("dsm", 0, "test", "mAP", 0.25, None, None, 84),
    ]
    write_results(tmp_path / "found" / "results.json", rows, command="dsm retrieve --gallery a|b.npz")
    card(CardConfig(copy, results=(tmp_path / "found",)))
    text = (copy / CARD).read_text(encoding="utf-8")
    assert "| `dsm` | `test` | `R@1` | 0.4321 | 0.4 to 0.5 | 84 |" in text
    assert "| `dsm` | `test` | `mAP` | 0.25 |  | 84 |" in text
    assert "\ndsm retrieve --gallery a|b.npz\n" in text


def test_wrong_folders_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run"):
        card(CardConfig(tmp_path / "none"))
    with pytest.raises(UserError, match=r"has no results\.json"):
        card(CardConfig(copy, results=(tmp_path,)))
    row = asdict(Row("a", 0, "t", "m", 0.5, None, None, 1)) | {"value": None}
    (copy / "tested").mkdir()
    for wrong in ({"rows": [3]}, {"rows": [row]}):
        (copy / "tested" / "results.json").write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(UserError, match="is not a results file"):
            card(CardConfig(copy))


def test_an_unknown_checkpoint_is_reported(copy: Path) -> None:
    file = list_checkpoints(copy)[-1]
    state = torch.load(file, weights_only=True)
    for odd in ("no json", json.dumps({"method": "dsm"})):
        torch.save({**state, "config": odd}, file)
        with pytest.raises(UserError, match="contradicts itself"):
            card(CardConfig(copy))


def test_a_failing_card_does_not_stop_the_run(
    copy: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "tested").mkdir()
    (copy / "tested" / "results.json").write_text("{", encoding="utf-8")
    pretrain(small_run(scenes, copy, steps=3, resume=True, extend=True))
    assert (copy / "checkpoints" / "step_00000003.pt").is_file()
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["safetensors", "pt2"])
def test_an_export_has_a_card_beside_it(
    run: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"mine.{ending}"
    export(ExportConfig(str(run), out))
    text = (tmp_path / f"mine.{ending}.md").read_text(encoding="utf-8")
    assert "Exported from `run`: clips (B, 3, 4, 32, 32) -> features (B, 128)." in text
    assert "(x - 0.45) / 0.225, where x is RGB in [0, 1]" in text
    assert "| videos | 40 |" in text
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code_of(text), names)  # noqa: S102 the card is our own
    assert names["encoder"](torch.zeros(2, 3, 4, 32, 32)).shape == (2, 128)  # type: ignore[operator]


def test_a_single_checkpoint_has_a_card_too(run: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone" / "weights.pt"
    lone.parent.mkdir()
    lone.write_bytes(next((run / "checkpoints").glob("step_*.pt")).read_bytes())
    (tmp_path / "results.json").write_text("{", encoding="utf-8")  # must not be read
    export(ExportConfig(str(lone), tmp_path / "mine.safetensors"))
    text = (tmp_path / "mine.safetensors.md").read_text(encoding="utf-8")
    assert "trained by `dsm` for 2 steps" in text
    assert "| command |" not in text


def test_the_card_of_random_weights_says_so(tmp_path: Path) -> None:
    export(ExportConfig("none", tmp_path / "r.safetensors", frames=4, size=32, loading=LoadSettings("tiny")))
    text = (tmp_path / "r.safetensors.md").read_text(encoding="utf-8")
    assert "Its weights are random" in text
    assert "trained by" not in text


def test_a_clip_at_a_fixed_rate_takes_every_fourth_frame_too() -> None:
    text = card_text({"backbone": "tiny", "clip": {"frames": 8, "stride": 4, "fps": 12.0}}, load="pass")
    assert "Clips have 8 frames, every 4th of the video at 12 frames per second" in text


def test_an_edited_card_of_a_hub_folder_is_kept(tmp_path: Path) -> None:
    def exported() -> str:
        return " ".join(
            export(
                ExportConfig(
                    "none", tmp_path / "hub", to="hub", frames=4, size=32, loading=LoadSettings("tiny"),
                    overwrite=True,
                )
            ).lines
        )  # fmt: skip

    file = tmp_path / "hub" / CARD
    exported()
    exported()
    assert is_untouched(file)
    file.write_text(file.read_text(encoding="utf-8") + "\nThe licence is CC BY.\n", encoding="utf-8")
    assert "left unchanged" in exported()
    assert "CC BY" in file.read_text(encoding="utf-8")


def test_the_newest_checkpoint_has_the_highest_step(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for step in (100_000_000, 99_999_999):
        checkpoint_of(tmp_path, step).touch()
    assert [step_of(file) for file in list_checkpoints(tmp_path)] == [99_999_999, 100_000_000]


def test_text_from_files_is_escaped() -> None:
    nasty = "a | b`c``\n<script>alert(1)</script>\n# heading"
    about = {"backbone": "tiny", "method": nasty, "classes": [nasty]}
    text = card_text(about, load="pass", record={"command": nasty, "data": {"list": nasty}, "config": {}})
    assert code(nasty) == "```a | b`c`` <script>alert(1)</script> # heading```"
    assert f"Meant to distinguish {code(nasty)} in footage" in text
    for line in text.splitlines():
        if line.startswith("|"):  # outside of tables a backslash would be shown
            assert re.sub(r"\\\|", "", line).count("|") == 3, line
    assert "\n<script>" not in text
    assert "\n# heading" not in text
    assert fenced("````\nx").startswith("`````\n")


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/usr/bin/dsm", "demo", "--out", "a b"], "dsm demo --out 'a b'"),
        (["/lib/dsm/__main__.py", "demo"], "dsm demo"),
        (["scripts/train.py", "--seed", "1"], "python train.py --seed 1"),
        (["/lib/ipykernel_launcher.py", "-f", "/tmp/kernel.json"], "Python"),
        ([""], "Python"),
    ],
)
def test_a_run_records_what_started_it(
    argv: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", argv)
    assert command_line() == command
