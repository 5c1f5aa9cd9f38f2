"""Export of an encoder for other programs: safetensors, ONNX, or a torch.export program."""

from __future__ import annotations

import importlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsm.errors import UserError, first_line
from dsm.extras import load_extra
from dsm.files import written_aside
from dsm.limits import EXTRA_NUMBERS
from dsm.models.checkpoint_file import read_tensors, write_tensors
from dsm.models.foreign import Renormalized
from dsm.models.heads import Embedder
from dsm.models.sources import Normalization
from dsm.models.tuning import retuned
from dsm.models.zoo import MODELS, create_model


def create_described(about: Mapping[str, Any]) -> nn.Module:
    """The encoder that a file describes, with random weights; it takes clips normalised as by dsm."""
    settings = about["model"]
    if str(about["backbone"]).startswith("hf:"):
        settings = {"readout": "mean", **settings}  # older versions did not record it
    module = create_model(about["backbone"], **settings)
    if about.get("pictures"):
        mean, std = (tuple(about["pictures"][one]) for one in ("mean", "std"))
        module = Renormalized(module, Normalization(mean, std))
    return retuned(module, about["tuned"]) if about.get("tuned") else module


def build_filled(
    build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> nn.Module:
    """The module that ``build`` makes, with these weights, in evaluation mode.
    A file may name a module a thousand times its own size. So dsm's own backbones are first built without
    memory, and others only as far as the file's tensors can fill them.

    Args:
        about: what the file records; only ``backbone`` is used.

    Raises:
        RuntimeError: the weights do not fit the module.
    """
    if about["backbone"] in MODELS:
        with torch.device("meta"):
            wanted = build().state_dict()
        for name, tensor in wanted.items():
            if name in tensors and tensors[name].shape != tensor.shape:
                shapes = f"{tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
                raise RuntimeError(f"its {name} is of shape {shapes}")
        if odd := sorted(wanted.keys() ^ tensors.keys()):
            raise RuntimeError(f"{odd[0]} is not in {'it' if odd[0] in wanted else 'such an encoder'}")
    with at_most(sum(tensor.numel() for tensor in tensors.values()) + EXTRA_NUMBERS):
        module = build()
    module.load_state_dict(tensors)
    return module.eval()


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Limit the parameters and buffers of modules built inside to ``numbers`` in total.

    Raises:
        RuntimeError: there are more.
    """
    thread = threading.get_ident()
    left = numbers

    def count(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
        nonlocal left
        if tensor is None or threading.get_ident() != thread:
            return
        left -= tensor.numel()
        if left < 0:
            raise RuntimeError("its config describes a larger network than its tensors fill")

    hooks = nn.modules.module
    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


FORMAT = 1
BATCH = torch.export.Dim("batch")
TOLERANCE = 1e-4
"""Largest allowed difference of an export from the PyTorch encoder, in units of the largest value."""


TOLERANCE_HALF = 1e-2
"""The same for weights in float16, which have three significant digits."""


def save_safetensors(
    path: str | Path, module: nn.Module, about: dict[str, Any], *, half: bool = False
) -> None:
    """Write a module's tensors, and what is needed to rebuild it, to one file.

    Args:
        half: write them in float16; reading turns them into float32 again.
        about: JSON data. :func:`build_encoder` needs ``backbone`` (its name), ``model`` (settings of
            ``create_model``) and ``head`` (``dim`` and ``kind`` of a projection head, or None); and
            ``pictures``, the ``mean`` and ``std`` it was trained with, if these are not the project's.
    """
    tensors = {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in module.state_dict().items()
    }
    write_tensors(path, tensors, {"format": FORMAT, **about})


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of :func:`save_safetensors`; nothing in it is executed.

    Returns:
        The tensors by name, and ``about``.

    Raises:
        UserError: no such file, or this version cannot read it.
    """
    tensors, about = read_tensors(path)
    check_format(path, about)
    return tensors, about


def check_format(path: str | Path, about: dict[str, Any]) -> None:
    """Raise UserError if a file does not say which encoder it holds, or is in an unsupported format."""
    if "format" not in about:
        raise UserError(f"{path}: does not say which encoder it holds; give a file written by dsm.")
    if about["format"] != FORMAT:
        raise UserError(f"{path}: has format {about['format']}, but this version of dsm reads {FORMAT}.")


def build_encoder(tensors: dict[str, Tensor], about: dict[str, Any]) -> nn.Module:
    """Build the module that :func:`read_safetensors` read, in evaluation mode.

    Raises:
        UserError: the tensors do not fit ``about``.
    """

    def build() -> nn.Module:
        module = create_described(about)
        if about["head"]:
            module = Embedder(module, int(about["head"]["dim"]), about["head"]["kind"])
        return module

    try:
        return build_filled(build, tensors, about)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"the encoder does not fit its file ({first_line(error)}).") from None


def export_safetensors(
    path: str | Path, module: nn.Module, about: dict[str, Any], example: Tensor, *, half: bool = False
) -> float:
    """:func:`save_safetensors`, then rebuild the encoder from the file and compare the outputs.

    Returns:
        The largest difference of the rebuilt encoder's output, in units of the largest value.

    Raises:
        UserError: the module cannot be rebuilt from ``about``; nothing is written.
    """
    with written_aside(path) as aside:
        save_safetensors(aside, module, about, half=half)
        allowed = TOLERANCE_HALF if half else TOLERANCE
        return _compare(build_encoder(*read_safetensors(aside)), module, example, path, allowed)


def export_onnx(path: str | Path, module: nn.Module, example: Tensor) -> float | None:
    """Write a module as ONNX: ``clip`` (batch, C, T, H, W) -> ``features`` (batch, D).

    The batch may have any size; the other dimensions are those of the example.

    Args:
        module: in evaluation mode, on the CPU.
        example: clips (B, C, T, H, W).

    Returns:
        The largest difference of onnxruntime's output from PyTorch's, in units of the largest value;
        None if onnxruntime is not installed.

    Raises:
        UserError: onnx or onnxscript is not installed, or the outputs differ.
    """
    for package in ("onnx", "onnxscript"):
        load_extra(package, "export", package=package, wanted_by="an ONNX file")
    with written_aside(path) as aside:
        with _quiet():
            program = torch.onnx.export(
                _program(module, example),
                input_names=["clip"],
                output_names=["features"],
                dynamic_shapes=({0: BATCH},),  # this names the axis
                dynamo=True,
                verbose=False,
            )
        assert program is not None  # always set with dynamo
        program.save(str(aside), external_data=False)
        try:
            runtime = importlib.import_module("onnxruntime")
        except ImportError:
            return None
        session = runtime.InferenceSession(str(aside), providers=["CPUExecutionProvider"])

        def forward(clip: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {"clip": clip.numpy()})[0])

        return _compare(forward, module, example, path)


def export_program(path: str | Path, module: nn.Module, example: Tensor) -> float:
    """Write a module as a torch.export program, which runs without the code of this package.

    Arguments and errors as for :func:`export_onnx`; only PyTorch is needed.

    Returns:
        The largest difference of the loaded program's output, in units of the largest value.
    """
    with written_aside(path) as aside:
        with _quiet():
            # Use open files: a path would have to end in .pt2.
            with aside.open("wb") as file:
                torch.export.save(_program(module, example), file)
            with aside.open("rb") as file:
                loaded = torch.export.load(file).module()
        return _compare(loaded, module, example, path)


def difference(forward: Callable[[Tensor], Tensor], module: nn.Module, example: Tensor) -> float:
    """The largest difference of two outputs in units of the largest value, over two batch sizes."""
    differences = torch.zeros(2)
    with torch.inference_mode():
        for i, clip in enumerate((example[:1], torch.cat([example, example, example[:1]]))):
            expected = module(clip)
            scale = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
            differences[i] = (forward(clip) - expected).abs().max() / scale
    return float(differences.max())  # NaN if any is NaN


def _compare(
    forward: Callable[[Tensor], Tensor], module: nn.Module, example: Tensor, path: str | Path,
    allowed: float = TOLERANCE,
) -> float:  # fmt: skip
    largest = difference(forward, module, example)
    if not largest <= allowed:  # written so that NaN is refused too
        raise UserError(
            f"{path}: not written, because its output differs from PyTorch's by {largest:.1e} of the largest "
            f"value (allowed: {allowed:.0e}); export to another format."
        )
    return largest


def _program(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    # Two clips, because a batch of 1 would become a constant; zeros, because a program contains its example.
    batch = example.new_zeros((2, *example.shape[1:]))
    with torch.no_grad():
        program = torch.export.export(module, (batch,), dynamic_shapes=({0: BATCH},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # contains paths of the exporting machine
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence PyTorch's exporters, whose warnings only their authors can act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
