"""Loading of an encoder from ``--weights``: a run folder, a checkpoint of any known project, or ``none``."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from torch import nn

from dsm.errors import UserError, first_line, has_control
from dsm.models.about import check_about, parse_about
from dsm.models.bare import Found, build_found, recognise_transformer
from dsm.models.checkpoint_file import Exported, chosen_in, read_file
from dsm.models.export import build_encoder, build_filled, check_format, create_described
from dsm.models.fetch import WHOLE, fetch_torchvision
from dsm.models.foreign import LoadReport, Match, Renormalized, build, find_encoder
from dsm.models.heads import Classifier, Embedder
from dsm.models.hub import fetch_published, is_of_dsm, read_published
from dsm.models.inert import Foreign, find_places
from dsm.models.settings import RANDOM, Head, Init, Pooling
from dsm.models.zoo import create_model, initialise_xavier
from dsm.weights_names import path_of, published

FORMAT = 1
ENDINGS = (".pt", ".pth", ".pyth", ".ckpt", ".tar", ".bin", ".safetensors")
"""File extensions of checkpoints; anything else after a dot, as in ``dsm0.5``, is part of the name."""


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder and what its checkpoint records about it."""

    module: nn.Module
    """Clips (B, C, T, H, W) -> (B, D), for a classifier logits (B, classes); in evaluation mode."""
    name: str
    """Its name in tables: the method that trained it, or `random`."""
    config: dict[str, Any] = field(default_factory=dict)
    """The config of the run that wrote it; empty for random weights."""
    report: LoadReport | None = None
    """Which tensors of a foreign file were loaded."""
    step: int | None = None
    """Steps that it was trained for, if its checkpoint says so."""
    classes: list[str] | None = None
    """Names of the classes if ``module`` is a classifier."""
    own_classifier: LoadedEncoder | None = None
    """The same with the classifier of a published model, which has its own classes."""


def weights_name(weights: str | Path) -> str:
    """A name for weights: ``random``, the name of their folder, or of their file without its extension."""
    if str(weights) == RANDOM:
        return "random"
    path = Path(os.path.abspath(path_of(weights)))
    while not path.is_dir() and path.suffix.lower() in ENDINGS:
        path = path.with_suffix("")
    return path.name


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this project.

    Raises:
        UserError: see :func:`dsm.models.checkpoint_file.read_file`; or it is not dsm's, or in another format.
    """
    state = read_file(path)
    if not is_ours(state):
        raise UserError(f"{path} is not a checkpoint of dsm.")
    return _of_our_format(path, state)


def _of_our_format(path: str | Path, state: Any) -> dict[str, Any]:
    if state["format"] != FORMAT:
        raise UserError(f"{path}: has format {state['format']}, but this version of dsm reads {FORMAT}.")
    return cast("dict[str, Any]", state)


def is_ours(state: Any) -> bool:
    """Whether a file's content is a checkpoint of this project."""
    named = isinstance(state, dict) and {"format", "config", "method"} <= state.keys()
    return named and isinstance(state["format"], int) and isinstance(state["config"], str)


def load_weights(
    weights: str | Path,
    *,
    head: Head | None = None,
    backbone: str = "tiny",
    pooling: Pooling | None = None,
    partial: bool = False,
    init: Init = "own",
) -> LoadedEncoder:
    """Build an encoder and fill it.

    Args:
        weights: a run folder (its newest checkpoint), a checkpoint of this project or of one in
            ``sources.py``, a published model (``hf:ID_OR_FOLDER``, ``tv:NAME_OR_FILE``,
            ``timm:NAME_OR_FOLDER``), ``motion`` for the weights that come with dsm, or ``none`` for random
            ones.
        head: ``projection`` for the L2-normalised embedding that pretraining compares clips in;
            ``classifier`` for the classifier if the weights have one, otherwise the encoder.
        backbone: what to build for ``none``.
        pooling: its pooling; None for the backbone's own.
        partial: accept a foreign file that fills only part of the encoder.
        init: how to draw random weights: as in the backbone's paper, or ``xavier``, as in DSM's code.

    Raises:
        UserError: the weights cannot be read or do not fit.
    """
    if str(weights) == RANDOM:
        if head == "projection":
            raise UserError("random weights have no projection head; remove --head projection.")
        module = create_model(backbone, **({"pooling": pooling} if pooling else {})).eval()
        if init == "xavier":
            initialise_xavier(module)
        return LoadedEncoder(module, "random")
    if found := published(weights):
        return _load_published(*found, head=head, partial=partial)
    file, choice = chosen_in(path_of(weights))
    state = read_file(file)
    if is_ours(state):
        return _load_ours(weights, _of_our_format(weights, state), head)
    if isinstance(state, Exported):
        return _load_exported(weights, state, head)
    match = recognise_in(state, choice)
    if match is None and (transformer := transformer_in(state, choice)):
        read = build_found(transformer, name=str(weights), partial=partial)
        if head == "projection":
            raise UserError(f"{weights}: has no projection head; remove --head projection.")
        return LoadedEncoder(read.module, weights_name(weights), read.about, read.report)
    if match is None:
        raise UserError(f"{weights}: no encoder known to dsm; `dsm weights inspect` lists its tensors.")
    config: dict[str, Any] = {"backbone": match.source.backbone, "model": match.settings}
    config["clip"] = dict(match.source.clip)
    channels = match.settings.get("in_channels", 3)
    if channels not in (2, 3):
        raise UserError(f"{weights} takes frames of {channels} channels; dsm can give it only 2 or 3.")
    module = build(match, partial=partial, head=head == "projection", name=str(weights))
    if isinstance(module, Renormalized):
        config["pictures"] = {one: list(values) for one, values in asdict(module.normalization).items()}
    if channels == 2:
        config["clip"]["modality"] = "flow"
    return LoadedEncoder(module.eval(), weights_name(weights), config, match.report)


def _load_published(library: str, what: str, *, head: Head | None, partial: bool) -> LoadedEncoder:
    no_head = UserError(f"{library}:{what}: has no projection head; remove --head projection.")
    if library == "tv":
        if head == "projection":
            raise no_head
        file = fetch_torchvision(what)
        return replace(load_weights(file, partial=partial), name=weights_name(what))
    model = fetch_published(library, what)
    if library == "hf" and is_of_dsm(model):
        return load_weights(model.folder / WHOLE, head=head)
    if head == "projection":
        raise no_head
    read = read_published(model, partial=partial)
    loaded = LoadedEncoder(read.module, weights_name(what), read.about, read.report)
    if read.head is None or read.classes is None:
        return loaded
    weight, bias = read.head
    _check_names(*read.classes)
    classifier = Classifier(read.module, len(bias))
    classifier.head.load_state_dict({"weight": weight, "bias": bias})
    about = {**read.about, "classes": read.classes, "begun_with": loaded.name}
    return replace(
        loaded, own_classifier=replace(loaded, module=classifier.eval(), config=about, classes=read.classes)
    )


def recognise_in(state: Any, choice: str = "") -> Match | None:
    """Find the encoder in a foreign file's content, as returned by
    :func:`dsm.models.checkpoint_file.read_file`; see :func:`~dsm.models.foreign.find_encoder`."""
    skipped = state.skipped if isinstance(state, Foreign) else []
    match = find_encoder(find_places(state.state if isinstance(state, Foreign) else state), choice)
    return match and replace(match, report=replace(match.report, skipped=skipped))


def transformer_in(state: Any, choice: str = "") -> Found | None:
    """Find a transformer in a foreign file's content, as :func:`recognise_in` does other networks."""
    return recognise_transformer(find_places(state.state if isinstance(state, Foreign) else state), choice)


def _load_ours(weights: str | Path, state: dict[str, Any], head: Head | None) -> LoadedEncoder:
    try:
        config = parse_about(state["config"])
        if head == "projection" and not config.get("head"):
            raise UserError(f"{weights}: has no projection head; remove --head projection.")
        classes = None
        if head == "classifier" and "classes" in config:
            classes = list(config["classes"])

        def make() -> nn.Module:
            encoder = create_described(config)
            if head == "projection":
                return Embedder(encoder, int(config["head"]["dim"]), config["head"]["kind"])
            return encoder if classes is None else Classifier(encoder, len(classes))

        prefix = "query." if head == "projection" or classes is not None else "query.encoder."
        tensors = {k.removeprefix(prefix): t for k, t in state["method"].items() if k.startswith(prefix)}
        module = build_filled(make, tensors, config)
        name = str(config["method"])
        _check_names(name, *(classes or ()))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{weights}: its tensors do not fit its config ({first_line(error)}).") from None
    step = state.get("step")
    return LoadedEncoder(module, name, config, step=step if type(step) is int else None, classes=classes)


def _check_names(*names: str) -> None:
    if any(map(has_control, names)):
        raise UserError(
            "a class or method named in the weights contains a control character; use other weights."
        )


def load_classifier(weights: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load what ``dsm finetune`` trained, or a published classifier, in evaluation mode.

    It takes clips (B, C, T, H, W) and gives logits (B, classes).

    Returns:
        The classifier and its config, with ``clip`` (settings) and ``classes`` (names).

    Raises:
        UserError: the weights cannot be read, or have no classifier.
    """
    loaded = load_weights(weights, head="classifier")
    if loaded.classes is None and loaded.own_classifier is not None:
        loaded = loaded.own_classifier
    if loaded.classes is None:
        raise UserError(f"{weights}: has no classifier; `dsm finetune --weights {weights}` trains one.")
    return loaded.module, loaded.config


def _load_exported(path: str | Path, exported: Exported, head: Head | None) -> LoadedEncoder:
    check_format(path, exported.about)
    try:
        about = check_about(exported.about)
    except ValueError as error:
        raise UserError(f"{path}: its description of the encoder is not in dsm's format ({error}).") from None
    _check_names(about.get("method", ""))
    module = build_encoder(exported.tensors, about)
    if head == "projection" and not about["head"]:
        raise UserError(f"{path}: has no projection head; remove --head projection.")
    if isinstance(module, Embedder) and head != "projection":
        module = module.encoder
    return LoadedEncoder(module, str(about.get("method", "exported")), about)


def load_encoder(weights: str | Path, head: Literal["projection"] | None = None) -> nn.Module:
    """Load an encoder from a run folder or a checkpoint.

    Args:
        weights: see :func:`~dsm.models.weights.load_weights`.
        head: None for pooled features (B, D); ``projection`` for the L2-normalised embedding.

    Returns:
        A module in evaluation mode: normalised clips (B, C, T, H, W) -> (B, D).

    Raises:
        UserError: the weights cannot be read, or have no such head.
    """
    if head not in (None, "projection"):
        raise UserError(f"head must be None or 'projection', not {head!r}.")
    return load_weights(weights, head=head).module
