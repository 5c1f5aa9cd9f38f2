"""Checkpoints as people have them: in any wrapper, with other contents, and malicious ones."""

from __future__ import annotations

import argparse
import builtins
import collections
import contextlib
import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_foreign import as_hara, as_piergiaj, random_state
from torch import Tensor, nn

from dsm.cli import main
from dsm.errors import UserError
from dsm.models.inert import Foreign, find_tensors, read_inert
from dsm.models.weights import load_weights
from dsm.models.zoo import create_model

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """Of an I3D, whose file is a third of an R3D-18's."""
    return random_state("i3d", {"norm_eps": 1e-3}, as_piergiaj)


def behind(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def compiled_inside(state: State) -> State:
    """As after compiling or sharding each stage."""
    return {f"{name.partition('.')[0]}._orig_mod.{name.partition('.')[2]}": t for name, t in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "compiled": lambda state: behind("_orig_mod.", state),
    "compiled and distributed": lambda state: {"state_dict": behind("module._orig_mod.", state)},
    "compiled inside": compiled_inside,
    "byol": lambda state: {"state_dict": behind("online_network.", state), "epoch": 7},
    "ema": lambda state: {"state_dict_ema": state, "epoch": 7},
    "deepspeed": lambda state: {"module": behind("module.", state), "optimizer": None},
    "lightning": lambda state: {"state_dict": behind("model.video_encoder.trunk.", state), "hparams": {}},
    "nobody's": lambda state: {"ckpt": {"nets": {"G": behind("a.b_c.0.", state)}}},
}


def load_and_compare(path: Path | str, state: State) -> Any:
    """Load, and check that every tensor is the file's."""
    loaded = load_weights(path)
    encoder: Any = loaded.module
    found = {as_piergiaj(name): tensor for name, tensor in encoder.encoder.state_dict().items()}
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor), name
    return loaded.report


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, marks=[pytest.mark.slow] * (case in ("compiled and distributed", "ema", "lightning"))
        )
        for case in WRAPPED
    ],
)
def test_the_wrapper_that_fits_is_found(case: str, state: State, tmp_path: Path) -> None:
    torch.save(WRAPPED[case](state), tmp_path / "theirs.pth")
    report = load_and_compare(tmp_path / "theirs.pth", state)
    assert (report.share, report.others, report.left) == (1.0, [], [])


def test_of_two_matching_encoders_one_is_used_and_the_other_named(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {name: tensor + 1 for name, tensor in state.items()}
    file = tmp_path / "two.pth"
    torch.save({"ema": other, "model": state}, file)
    report = load_and_compare(file, state)
    assert "; ema fits as well as model, which was loaded: --weights FILE::ema loads the other" in str(report)
    load_and_compare(f"{file}::ema", other)
    torch.save(behind("target_network.", other) | behind("online_network.", state), file)
    assert load_and_compare(file, state).others == ["target_network"]
    assert len(load_and_compare(f"{file}::target_network", other).left) == len(state)
    main.run(["weights", "inspect", str(file)])
    assert f"also fits: target_network; load it with --weights {file}::target_network" in (
        capsys.readouterr().out
    )
    with pytest.raises(UserError, match="no encoder known to dsm"):
        load_weights(f"{file}::nowhere")


def test_a_convolution_left_random_is_refused(tmp_path: Path) -> None:
    """One of the smallest: the file still has 99 % of the tensors and lacks 0.3 % of the numbers."""
    state = random_state("r3d18", {}, as_hara)
    few = {name: tensor for name, tensor in state.items() if name != "layer1.0.conv1.weight"}
    torch.save(few, tmp_path / "few.pth")
    with pytest.raises(
        UserError, match=r"fill only 99\.\d% of \w+ \(.*missing: stages.layer1.0.conv1.weight"
    ):
        load_weights(tmp_path / "few.pth")
    assert load_weights(tmp_path / "few.pth", partial=True).report is not None
    no_norm = {name: tensor for name, tensor in state.items() if not name.startswith("layer2.1.bn2.")}
    torch.save(no_norm, tmp_path / "few.pth")
    with pytest.raises(UserError, match=r"missing: stages.layer2.1.norm2.weight 128"):
        load_weights(tmp_path / "few.pth")
    no_bias = {name: tensor for name, tensor in state.items() if name != "layer2.1.bn2.bias"}
    torch.save(no_bias, tmp_path / "few.pth")
    report = load_weights(tmp_path / "few.pth").report
    assert report is not None
    assert "1 stay random" in str(report)


class Settings:
    """Pickled with its class's module, which another machine does not have."""

    def __init__(self) -> None:
        self.lr, self.inner = 0.1, argparse.Namespace(a=[1, {"b": 2}])


@pytest.mark.parametrize(
    ("beside", "called"),
    [
        (argparse.Namespace(lr=0.1, layers=[1, 2]), "argparse.Namespace"),
        (np.float64(0.5), "scalar"),
        (np.arange(3), "_reconstruct"),
        (Settings(), "test_wrappers.Settings"),
        (Path("/somewhere"), "PosixPath"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({1, 2, np.int64(3)}, "scalar"),
        (torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), "SGD"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_contents_beside_tensors_are_ignored_and_named(
    beside: Any, called: str, state: State, tmp_path: Path
) -> None:
    torch.save({"args": beside, "state_dict": state, "more": [beside]}, tmp_path / "theirs.pth")
    report = load_and_compare(tmp_path / "theirs.pth", state)
    assert any(called in name for name in report.skipped)
    assert "skipped, because they are not tensors" in str(report)


def test_a_pickled_model_is_read(tmp_path: Path) -> None:
    model = create_model("r3d18").eval()
    model.stages[0] = nn.Conv3d(3, 64, 7, 2, 3, bias=False)
    plain: Any = nn.Module()
    for name, stage in model.stages.named_children():
        plain.add_module(name, stage)
    torch.save({"net": plain}, tmp_path / "whole.pth")
    read = read_inert(tmp_path / "whole.pth")
    assert isinstance(read, Foreign)
    found = find_tensors(read.state)
    assert found.keys() == plain.state_dict().keys()
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in found.items())


def test_views_half_precision_and_shared_tensors_are_restored(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
    tensors = {
        "view": base[3:15].view(3, 4).T,
        "shared": base[:5],
        "none": torch.zeros(0, 3),
        "scalar": torch.tensor(7),
        "parameter": nn.Parameter(base.clone()),
        **{str(kind): (base % 3).to(kind) for kind in kinds},
    }
    torch.save({"args": argparse.Namespace(), **tensors}, tmp_path / "odd.pth")
    read = read_inert(tmp_path / "odd.pth").state
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach()), name


# --- malicious files


def bomb(call: Callable[..., Any], *arguments: Any) -> Any:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return call, arguments

    return Bomb()


def traps() -> dict[str, Any]:
    """Each would create the folder ``sprung`` if it were unpickled."""
    make = "__import__('os').mkdir('sprung')"
    return {
        "os.mkdir": bomb(os.mkdir, "sprung"),
        "os.system": bomb(os.system, "mkdir sprung"),
        "eval": bomb(builtins.eval, make),
        "exec": bomb(builtins.exec, make),
        "getattr": bomb(getattr, bomb(__import__, "os"), "mkdir"),
        "nested": {"a": [({"b": bomb(os.mkdir, "sprung")},)]},
        "in a call": bomb(map, bomb(os.mkdir, "sprung"), [1]),
        "pickle in pickle": bomb(pickle.loads, pickle.dumps(bomb(os.mkdir, "sprung").__reduce__())),
        "torch.storage": bomb(torch.storage._load_from_bytes, b"x"),
        "torch.jit": bomb(torch.jit.load, "other.pth"),
        "hub": bomb(torch.hub.load, ".", "x"),
    }  # fmt: skip


@pytest.mark.parametrize("trap", traps())
def test_code_in_a_file_is_never_run(
    trap: str, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": traps()[trap], "state_dict": state, "last": traps()[trap]}, "evil.pth")
    report = load_and_compare("evil.pth", state)
    assert report.skipped
    torch.save({"state_dict": traps()[trap]}, "evil.pth")
    with pytest.raises(UserError, match="not a checkpoint that can be read safely"):
        load_weights("evil.pth")
    assert not Path("sprung").exists()


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"epoch": 3, "model": one}])
def test_the_lines_that_save_a_file_again_work(
    wrap: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays of numpy cannot be read safely, so the message says how to make tensors of them."""
    monkeypatch.chdir(tmp_path)
    arrays = {f"layer{number}.weight": np.full((2, 3), number, np.float32) for number in range(4)}
    torch.save(wrap(arrays), "arrays.pth")
    with pytest.raises(UserError, match="these lines save only its tensors") as error:
        load_weights("arrays.pth")
    lines = str(error.value).splitlines()[1:]
    exec("\n".join(line.strip() for line in lines), {"torch": torch})  # noqa: S102
    saved = torch.load("new.pth", weights_only=True)
    assert {name: tensor.tolist() for name, tensor in saved.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


def packed(table: bytes, path: Path, numbers: bytes = bytes(64)) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", table)
        archive.writestr("a/data/0", numbers)
    return path


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x10tQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "table",
    [
        b"\x80\x02" + REBUILD + b"(" + STORAGE + b"K\0J\0\0\0\x40\x85K\x01\x85\x89N}tR.",  # a billion numbers
        b"\x80\x02" + REBUILD + b"(" + STORAGE + b"K\x0fK\x02\x85K\x01\x85\x89N}tR.",  # one past the end
        b"\x80\x02"
        + REBUILD
        + b"("
        + STORAGE
        + b"K\0J\0\0\0\x40\x85K\0\x85\x89N}tR.",  # one, a billion times
        b"\x80\x05\x96\0\0\0\0\x10\0\0\0.",  # a bytearray of 64 GB
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a huge index in the memo
        b"\x80\x02\x82\x01.",  # an extension
        b"Pelsewhere\n.",  # a reference
        b"\x80\x02" + b"(" * 200_000 + b".",
        b"",
    ],
)
def test_pickles_that_need_too_much_are_refused(table: bytes, tmp_path: Path) -> None:
    path = packed(table, tmp_path / "evil.pth")
    with contextlib.suppress(Exception):
        assert not find_tensors(read_inert(path).state)
    with pytest.raises(UserError):
        load_weights(path)


def test_a_file_cannot_change_functions_of_torch(tmp_path: Path) -> None:
    """``BUILD`` on a name sets its attributes, defaults among them, where the name is torch's own."""
    before = torch._utils._rebuild_tensor_v2.__defaults__, dict(vars(torch._utils._rebuild_tensor_v2))
    for name in (REBUILD, b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n", b"cos\nsystem\n"):
        table = b"\x80\x02" + name + b"N}X\x0c\0\0\0__defaults__(K\x01ts\x86b."
        read_inert(packed(table, tmp_path / "evil.pth"))
    assert (torch._utils._rebuild_tensor_v2.__defaults__, vars(torch._utils._rebuild_tensor_v2)) == before
    assert collections.OrderedDict(a=1) == {"a": 1}


def test_a_thousand_broken_pickles_run_nothing_and_raise_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random changes of bytes, and names replaced by malicious ones."""
    monkeypatch.chdir(tmp_path)
    whole = io.BytesIO()
    torch.save(
        {"args": argparse.Namespace(a=1), "w": torch.arange(16.0), "x": bomb(os.mkdir, "sprung")}, whole
    )
    with zipfile.ZipFile(whole) as archive:
        table = archive.read("archive/data.pkl")
    draw = random.Random(0)
    for _ in range(1000):
        changed = bytearray(table)
        for _ in range(draw.randint(1, 6)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        if draw.random() < 0.3:
            evil = draw.choice([b"posix\nsystem", b"builtins\neval"])
            changed = changed.replace(b"argparse\nNamespace", evil)
        with contextlib.suppress(Exception):
            read_inert(packed(bytes(changed), tmp_path / "broken.pth"))
    assert [file.name for file in tmp_path.iterdir()] == ["broken.pth"]


@pytest.mark.parametrize("name", ["compiled", "byol", "ema_only", "plain", "with_args", "with_numpy_number"])
def test_shared_checkpoints_are_read(name: str, shared: Path) -> None:
    files = [*(shared / "cases" / "05_checkpoints").glob(f"{name}.*")]
    if not files:
        pytest.skip("the shared cases are missing")
    report = load_weights(files[0]).report
    assert report is not None
    assert (report.backbone, report.share) == ("r3d18", 1.0)
    assert bool(report.skipped) == name.startswith("with_")
