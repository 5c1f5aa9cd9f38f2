"""``dsm export``: write an encoder to a file for use elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from dsm.data.settings import ClipConfig, clip_of
from dsm.errors import UserError
from dsm.files import json_text, write_text
from dsm.models.export import export_onnx, export_program, export_safetensors, read_safetensors
from dsm.models.fetch import CONFIG, HUB_TYPE, WHOLE, origin_of
from dsm.models.heads import Embedder
from dsm.models.tuning import Mapped, merge
from dsm.models.weights import LoadedEncoder, weights_name
from dsm.models.zoo import check_takes
from dsm.render import MEAN, STD
from dsm.runs.card import CARD, card_text, code, results_in, write_card
from dsm.runs.claims import claim_files
from dsm.runs.folder import read_record
from dsm.settings import takes_settings
from dsm.verbs.result import Result
from dsm.verbs.settings.weights import ExportConfig
from dsm.video.flow import BOUND
from dsm.views import MODALITIES, ModalityName
from dsm.weights_names import path_of

ENDINGS = (".safetensors", ".onnx", ".pt2")
# The mean and std of dsm.render.to_network, (x - mean) / std, where x is RGB in [0, 1], its change, or flow
# in pixels.
NORMALISATION: dict[ModalityName, tuple[float, float]] = {
    "rgb": (MEAN, STD),
    "rgbdiff": (0.0, STD),
    "flow": (0.0, BOUND),
}

UNITS: dict[ModalityName, str] = {
    "rgb": "RGB in [0, 1]",
    "rgbdiff": "the change of RGB in [0, 1] from frame to frame",
    "flow": "optical flow in pixels",
}
KEPT = "was edited by hand, or is not a card of dsm; left unchanged"
"""What is told of a card that is not replaced."""
LOAD = {
    ".safetensors": "import dsm\n\nencoder = dsm.load_encoder({})",
    ".onnx": "import onnxruntime\n\nsession = onnxruntime.InferenceSession({})\n"
    'features = session.run(None, {{"clip": clip}})[0]  # clip: float32',
    ".pt2": "import torch\n\nencoder = torch.export.load({}).module()",
}


@dataclass(frozen=True)
class Written:
    """An encoder that was written to a file."""

    loaded: LoadedEncoder
    clip: ClipConfig
    shape: str
    """Of its clips: ``3, 16, 112, 112``."""
    dim: int
    """Dimensions of its features."""
    line: str
    """What was written, for the terminal."""


@takes_settings(ExportConfig)
def export(config: ExportConfig) -> Result:
    """Write an encoder and its model card; compare the exported encoder's output with PyTorch."""
    if config.to == "hub":
        return _to_hub(config)
    if config.out.suffix not in ENDINGS:
        raise UserError(f"{config.out}: --out must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    if config.half and config.out.suffix != ENDINGS[0]:
        raise UserError(f"{config.out}: --half writes {ENDINGS[0]} files only; choose such an --out.")
    claim_files(config.out, overwrite=config.overwrite)
    made = _written(config, config.out)
    load = LOAD[config.out.suffix].format(json.dumps(config.out.name, ensure_ascii=False))
    card = config.out.with_name(f"{config.out.name}.md")
    written = write_card(card, _card(config, made, load))
    return Result(
        files=[config.out, *([card] if written else [])],
        lines=[made.line, f"{card}: {'its model card' if written else KEPT}"],
    )


def _written(config: ExportConfig, out: Path) -> Written:
    """Write the encoder to a file, whose ending names the format."""
    head: Literal["projection"] | None = None if config.head == "none" else config.head
    loaded = config.loading.load(config.weights, head)
    merge(loaded.module)
    clip = _clip(config, loaded)
    example = torch.randn(1, MODALITIES[clip.modality].channels, clip.frames, clip.size, clip.size)
    dim = check_takes(loaded.module, example.shape[1:]).shape[1]
    difference: float | None
    if out.suffix == ".safetensors":
        about = _about(config, loaded, clip)
        difference = export_safetensors(out, loaded.module, about, example, half=config.half)
    elif out.suffix == ".onnx":
        difference = export_onnx(out, loaded.module, example)
    else:
        difference = export_program(out, loaded.module, example)
    compared = (
        "not compared with PyTorch, because onnxruntime is not installed"
        if difference is None
        else f"largest difference from PyTorch {difference:.1e} of the largest value"
    )
    shape = ", ".join(str(side) for side in example.shape[1:])
    line = f"{out}: {out.stat().st_size / 1e6:.1f} MB, clips (B, {shape}) -> (B, {dim}); {compared}"
    return Written(loaded, clip, shape, dim, line)


def _to_hub(config: ExportConfig) -> Result:
    """Write the encoder as a folder for a model hub."""
    if config.out.exists() and not config.out.is_dir():
        raise UserError(f"{config.out} is a file, but --to hub writes a folder; choose another --out.")
    parts = [config.out / name for name in (WHOLE, CONFIG, CARD)]
    claim_files(*parts, overwrite=config.overwrite)
    made = _written(config, parts[0])
    about = read_safetensors(parts[0])[1]
    write_text(parts[1], json_text({"model_type": HUB_TYPE, "library_name": "dsm", **about}, indent=2) + "\n")
    card = _card(config, made, LOAD[ENDINGS[0]].format('"hf:…"'))
    written = write_card(parts[2], f"{_front_matter(config, made.loaded.config)}\n{card}")
    return Result(
        files=parts if written else parts[:2],
        lines=[
            made.line,
            *([] if written else [f"{parts[2]}: {KEPT}"]),
            f"{config.out}: --weights hf:{config.out} loads it; `hf upload NAME {config.out}` shares it",
        ],
    )


def _front_matter(config: ExportConfig, about: Mapping[str, Any]) -> str:
    """The hub's metadata of a card. A base model and a licence are named only where they are known.

    Args:
        about: what the weights record about themselves.
    """
    known = origin_of(config.weights, about)
    if not known:  # runs of older versions record only the weights that they were given
        begun_with = ((read_record(_run(config)) or {}).get("config") or {}).get("weights")
        known = origin_of(str(begun_with), {})
    lines = ["library_name: dsm", "pipeline_tag: feature-extraction", "tags: [video]"]
    lines += [f"{name}: {value}" for name, value in known.items()]
    return "\n".join(["---", *lines, "---", ""])


def _run(config: ExportConfig) -> Path:
    """The folder that would be the run of the weights: itself, or RUN of RUN/checkpoints/best.pt."""
    weights = path_of(config.weights).absolute()
    return weights if weights.is_dir() else weights.parent.parent


def _card(config: ExportConfig, made: Written, load: str) -> str:
    """The text of the model card; ``load`` is the Python code that loads the weights."""
    loaded, clip = made.loaded, made.clip
    settings = loaded.config.get("settings")
    about = {**_about(config, loaded, clip), "settings": settings if isinstance(settings, dict) else {}}
    if loaded.report or loaded.name == "random":
        del about["method"]
    weights, run = path_of(config.weights).absolute(), _run(config)
    is_of_run = weights == run or (weights.parent.name == "checkpoints" and not loaded.report)
    record = (read_record(run) if is_of_run else None) or {}
    origin = "Its weights are random, not trained. " if loaded.name == "random" else ""
    source = f", read as weights of {loaded.report.source}" if loaded.report else ""
    gaps = len(loaded.report.missing) + len(loaded.report.unfit) if loaded.report else 0
    if gaps:
        origin = f"{gaps} of its tensors are random, because the source file has no matching ones. "
    behind = " after its projection head, scaled to length 1" if config.head == "projection" else ""
    note = (
        f"{origin}Exported from {code(weights.name)}{source}: clips (B, {made.shape}) -> features "
        f"(B, {made.dim})"
        f"{behind}. It takes (x - {about['mean']}) / {about['std']}, where x is {UNITS[clip.modality]}."
    )
    results = results_in(run) if record else ()
    of_others = weights_name(config.weights) if loaded.report else ""
    return card_text(
        about, load=load, record=record, step=loaded.step, results=results, note=note, of_others=of_others
    )


def _clip(config: ExportConfig, loaded: LoadedEncoder) -> ClipConfig:
    clip = clip_of(loaded.config.get("clip", {}))
    size = clip.size if config.size is None else config.size
    # Frames must be at least as large as the crop.
    return replace(
        clip,
        frames=clip.frames if config.frames is None else config.frames,
        size=size,
        resize=max(clip.resize, size),
    )


def _about(config: ExportConfig, loaded: LoadedEncoder, clip: ClipConfig) -> dict[str, Any]:
    mean, std = NORMALISATION[clip.modality]
    encoder = loaded.module.encoder if isinstance(loaded.module, Embedder) else loaded.module
    return {
        "backbone": loaded.config.get("backbone", config.loading.backbone),
        "model": loaded.config.get("model", {}),
        "head": loaded.module.spec if isinstance(loaded.module, Embedder) else None,
        "pictures": loaded.config.get("pictures"),
        **({"tuned": {"kind": "head"}} if isinstance(encoder, Mapped) else {}),
        **origin_of(config.weights, loaded.config),
        "clip": asdict(clip),
        "method": loaded.name,
        "mean": mean,
        "std": std,
    }
