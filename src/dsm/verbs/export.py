"""``dsm export``: write an encoder to a file for use elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch

from dsm.data.settings import ClipConfig, clip_of
from dsm.errors import UserError
from dsm.files import json_text, write_text
from dsm.inputs import path_of
from dsm.models.export import export_onnx, export_program, export_safetensors, read_safetensors
from dsm.models.fetch import CONFIG, HUB_TYPE, WHOLE, is_hub_id, stated_licence
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
LOAD = {
    ".safetensors": "import dsm\n\nencoder = dsm.load_encoder({})",
    ".onnx": "import onnxruntime\n\nsession = onnxruntime.InferenceSession({})\n"
    'features = session.run(None, {{"clip": clip}})[0]  # clip: float32',
    ".pt2": "import torch\n\nencoder = torch.export.load({}).module()",
}


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
    head: Literal["projection"] | None = None if config.head == "none" else config.head
    loaded = config.loading.load(config.weights, head)
    merge(loaded.module)
    clip = _clip(config, loaded)
    example = torch.randn(1, MODALITIES[clip.modality].channels, clip.frames, clip.size, clip.size)
    dim = check_takes(loaded.module, example.shape[1:]).shape[1]
    difference: float | None
    if config.out.suffix == ".safetensors":
        about = _about(config, loaded, clip)
        difference = export_safetensors(config.out, loaded.module, about, example, half=config.half)
    elif config.out.suffix == ".onnx":
        difference = export_onnx(config.out, loaded.module, example)
    else:
        difference = export_program(config.out, loaded.module, example)
    compared = (
        "not compared with PyTorch, because onnxruntime is not installed"
        if difference is None
        else f"largest difference from PyTorch {difference:.1e} of the largest value"
    )
    shape = ", ".join(str(side) for side in example.shape[1:])
    megabytes = config.out.stat().st_size / 1e6
    card = config.out.with_name(f"{config.out.name}.md")
    written = write_card(card, _card(config, loaded, clip, shape, dim))
    about_card = (
        "its model card" if written else "was edited by hand, or is not a card of dsm; left unchanged"
    )
    return Result(
        files=[config.out, *([card] if written else [])],
        lines=[
            f"{config.out}: {megabytes:.1f} MB, clips (B, {shape}) -> (B, {dim}); {compared}",
            f"{card}: {about_card}",
        ],
    )


def _to_hub(config: ExportConfig) -> Result:
    """Write the encoder as a folder for a model hub."""
    if config.out.exists() and not config.out.is_dir():
        raise UserError(f"{config.out} is a file, but --to hub writes a folder; choose another --out.")
    parts = [config.out / name for name in (WHOLE, CONFIG, CARD)]
    claim_files(*parts, overwrite=config.overwrite)
    result = export(replace(config, to="file", out=parts[0], overwrite=True))
    about = read_safetensors(parts[0])[1]
    write_text(parts[1], json_text({"model_type": HUB_TYPE, "library_name": "dsm", **about}, indent=2) + "\n")
    card = parts[0].with_name(f"{WHOLE}.md")
    text = card.read_text(encoding="utf-8").replace(
        f'dsm.load_encoder("{WHOLE}")', 'dsm.load_encoder("hf:…")'
    )
    write_text(parts[2], f"{_front_matter(config)}\n{text}")
    card.unlink()
    return Result(
        files=parts,
        lines=[
            result.lines[0],
            f"{config.out}: --weights hf:{config.out} loads it; `hf upload NAME {config.out}` shares it",
        ],
    )


def _front_matter(config: ExportConfig) -> str:
    """The hub's metadata of a card. A base model and a licence are named only where they are known."""
    begun_with = config.weights
    if not begun_with.startswith("hf:"):
        begun_with = str(((read_record(_run(config)) or {}).get("config") or {}).get("weights", ""))
    lines = ["library_name: dsm", "pipeline_tag: feature-extraction", "tags: [video]"]
    library, _, name = begun_with.partition(":")
    if library == "hf" and Path(name).is_dir():
        licence = stated_licence(Path(name))
        lines += [f"license: {licence}"] if licence else []
    elif library == "hf" and is_hub_id(name):
        lines.append(f"base_model: {name}")
    return "\n".join(["---", *lines, "---", ""])


def _run(config: ExportConfig) -> Path:
    """The folder that would be the run of the weights: itself, or RUN of RUN/checkpoints/best.pt."""
    weights = path_of(config.weights).absolute()
    return weights if weights.is_dir() else weights.parent.parent


def _card(config: ExportConfig, loaded: LoadedEncoder, clip: ClipConfig, shape: str, dim: int) -> str:
    settings = loaded.config.get("settings")
    about = {**_about(config, loaded, clip), "settings": settings if isinstance(settings, dict) else {}}
    if loaded.report or loaded.name == "random":
        del about["method"]
    weights, run = path_of(config.weights).absolute(), _run(config)
    is_of_run = weights == run or (weights.parent.name == "checkpoints" and not loaded.report)
    record = (read_record(run) if is_of_run else None) or {}
    made = "Its weights are random, not trained. " if loaded.name == "random" else ""
    source = f", read as weights of {loaded.report.source}" if loaded.report else ""
    gaps = len(loaded.report.missing) + len(loaded.report.unfit) if loaded.report else 0
    if gaps:
        made = f"{gaps} of its tensors are random, because the source file has no matching ones. "
    behind = " after its projection head, scaled to length 1" if config.head == "projection" else ""
    note = (
        f"{made}Exported from {code(weights.name)}{source}: clips (B, {shape}) -> features (B, {dim})"
        f"{behind}. It takes (x - {about['mean']}) / {about['std']}, where x is {UNITS[clip.modality]}."
    )
    load = LOAD[config.out.suffix].format(json.dumps(config.out.name, ensure_ascii=False))
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
        "clip": asdict(clip),
        "method": loaded.name,
        "mean": mean,
        "std": std,
    }
