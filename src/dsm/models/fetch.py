"""Fetches published models from the hub, its cache or a folder: settings and tensors, never code."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm.errors import UserError, did_you_mean, first_line, machine_fault, sentence
from dsm.extras import load_extra
from dsm.limits import SETTINGS_BYTES
from dsm.models.checkpoint_file import read_tensors
from dsm.models.preprocessor import FILES, NESTED, PARTS
from dsm.terminal import console
from dsm.untrusted import read_json, read_text
from dsm.weights_names import published

CONFIG = "config.json"
HUB_TYPE = "dsm"
"""The type in ``config.json`` of encoders of ``dsm export --to hub``."""
WHOLE, INDEX, SHARDS = "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Fetched:
    """A published model on this machine."""

    name: str
    """As given: ``hf:facebook/vjepa2-vitl-fpc64-256``."""
    folder: Path
    settings: dict[str, Any]
    """The content of its ``config.json``."""


def fetch(
    what: str, library: str, check: Callable[[dict[str, Any], str], object], *, owner: str = ""
) -> Fetched:
    """A published model: in the given folder, or the hub's or its cache's copy of an id.

    Args:
        what: a folder, or an id such as ``facebook/vjepa2-vitl-fpc64-256``.
        library: ``hf`` or ``timm``, for messages.
        check: raises UserError if the model cannot be used, given its settings and name; weights are fetched
            after it.
        owner: owner of ids that do not name one.

    Raises:
        UserError: there is no such folder or model, it may not be fetched, or there is no network and nothing
            in the cache; or of ``check``.
    """
    name, folder = f"{library}:{what}", Path(what)
    if folder.is_dir():
        settings = read_settings(folder / CONFIG, name)
        check(settings, name)
        return Fetched(name, folder, settings)
    if folder.exists() or not _ID.fullmatch(what) or what.startswith("."):
        raise UserError(
            f"{name}: neither a folder (with {CONFIG} and {WHOLE}) nor an id on the hub, such as "
            "MCG-NJU/videomae-base."
        )
    repository = what if "/" in what or not owner else f"{owner}/{what}"
    about = (CONFIG, NESTED, *FILES)
    with _explained(library, repository, "the model") as hub:
        folder = Path(hub.snapshot_download(repository, allow_patterns=list(about)))
    settings = read_settings(folder / CONFIG, name)
    check(settings, name)
    with _explained(library, repository, "the weights of the model", shown=not console.quiet) as hub:
        folder = Path(hub.snapshot_download(repository, allow_patterns=[*about, WHOLE, INDEX, SHARDS]))
        if not ((folder / WHOLE).is_file() or (folder / INDEX).is_file()):
            # Without a network, the hub's library gives what the cache has. Is there more?
            hub.HfApi().list_repo_files(repository)
    return Fetched(name, folder, settings)


def is_hub_id(name: str) -> bool:
    """Whether a name is that of a model on the hub, ``OWNER/MODEL``."""
    return "/" in name and _ID.fullmatch(name) is not None and not name.startswith(".")


def origin_of(weights: str, about: Mapping[str, Any]) -> dict[str, str]:
    """What is known of the published model that weights are, or began with: ``base_model``, its id on the
    hub, and ``license``, as its folder states it.

    Args:
        about: what the weights record about themselves; it is not trusted.
    """
    base, licence = str(about.get("base_model", "")), str(about.get("license", ""))
    library, what = published(weights) or ("", "")
    if library == "hf" and Path(what).is_dir():
        licence = stated_licence(Path(what)) or licence
    elif library == "hf":
        base = what
    known = {"base_model": base} if is_hub_id(base) else {}
    return {**known, "license": licence} if re.fullmatch(_LICENCE, licence) else known


_LICENCE = r"[\w.-]{1,50}"


def stated_licence(folder: Path) -> str | None:
    """The licence in the metadata of a folder's ``README.md``, such as ``apache-2.0``; None without one."""
    try:
        text = read_text(folder / "README.md", errors="replace")
    except (OSError, ValueError):
        return None
    front = re.match(r"---\n(.*?)\n---\s", text, re.DOTALL)
    found = front and re.search(rf"^license: *({_LICENCE})\s*$", front[1], re.MULTILINE)
    return found[1] if found else None


@contextmanager
def _explained(library: str, repository: str, wanted: str, *, shown: bool = False) -> Iterator[Any]:
    """The hub's library, whose errors become one sentence.

    Args:
        wanted: what is fetched, for messages.
        shown: show a progress bar, for slow downloads.
    """
    hub, errors, utils = (
        load_extra(f"huggingface_hub{part}", "transformers", package="huggingface_hub", wanted_by="the hub")
        for part in ("", ".errors", ".utils")
    )
    name = f"{library}:{repository}"
    try:
        with nullcontext() if shown else _without_bars(utils):
            yield hub
    except errors.GatedRepoError:
        raise UserError(
            f"{name} is gated; accept its terms on https://huggingface.co/{repository}, then log in "
            "with `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{name}: the hub has no such model; check its id, or if it is private, log in with "
            "`hf auth login`."
        ) from None
    except errors.HFValidationError as error:
        raise UserError(f"{name}: is not an id of the hub ({first_line(error)[:200].rstrip('.')}).") from None
    except errors.HfHubHTTPError as error:
        raise UserError(f"{name}: the hub answered: {first_line(error)[:200]}.") from None
    except (AttributeError, KeyError, TypeError) as error:  # a proxy's page, or another server
        raise UserError(
            f"{name}: the server that answered is not a model hub ({first_line(error)[:200]}); "
            f"check the network and HF_ENDPOINT, or give the model's folder: {library}:FOLDER."
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # of the network: the hub's HTTP library has its own kinds
        if isinstance(error, OSError) and (error.filename or machine_fault(error) is not None):
            raise UserError(
                f"{name}: cannot be stored in the hub's cache, which HF_HOME moves: {sentence(error)}"
            ) from None
        raise UserError(
            f"{name}: the hub cannot be reached and its cache does not have {wanted} "
            f"({type(error).__name__}); fetch the model where there is a network, and give its folder: "
            f"{library}:FOLDER."
        ) from None


@contextmanager
def _without_bars(utils: Any) -> Iterator[None]:
    """Keep the hub's progress bars from the terminal."""
    shown = not utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            utils.enable_progress_bars()


def read_settings(file: Path, name: str) -> dict[str, Any]:
    """The content of a published model's ``config.json``.

    Raises:
        UserError: there is none, it is not a JSON object, or it asks for code.
    """
    if not file.is_file():
        raise UserError(f"{name}: has no {file.name}, which describes its weights.")
    settings = _object(file, name)
    if "auto_map" in settings:
        raise UserError(
            f"{name}: its {CONFIG} asks to run its author's code (auto_map), which dsm never does; use a "
            "model that is part of transformers."
        )
    return settings


def read_preprocessor(folder: Path, name: str) -> dict[str, Any] | None:
    """The settings of a model's image processor, from the file that transformers takes; None if none has any.

    Raises:
        UserError: a file cannot be read.
    """
    if (folder / NESTED).is_file():
        processors = _object(folder / NESTED, name)
        for part in PARTS:
            if isinstance(processors.get(part), dict):
                return processors[part]
    file = next((folder / one for one in FILES if (folder / one).is_file()), None)
    return None if file is None else _object(file, name)


def _object(file: Path, name: str) -> dict[str, Any]:
    try:
        value = read_json(file, most=SETTINGS_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: its {file.name} cannot be read ({first_line(error)}).") from None
    if not isinstance(value, dict):
        raise UserError(f"{name}: its {file.name} is not a JSON object.")
    return value


def read_weights(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a model's safetensors files.

    Raises:
        UserError: there are none, or one of them is missing or cannot be read.
    """
    if (folder / WHOLE).is_file():
        return read_tensors(folder / WHOLE)[0]
    if not (folder / INDEX).is_file():
        pickles = [file.name for kind in PICKLES for file in sorted(folder.glob(kind))]
        has = f" (it has {pickles[0]}, a pickle, which can run code)" if pickles else ""
        raise UserError(
            f"{name}: has no weights as {WHOLE}{has}, and dsm reads only safetensors; if you trust it, load "
            "it with transformers and call save_pretrained."
        )
    shards = _object(folder / INDEX, name).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(one, str) for one in shards.values()):
        raise UserError(f"{name}: its {INDEX} does not say which file holds which tensor.")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(shards.values())):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise UserError(f"{name}: its {INDEX} names {shard[:100]!r}, not one of its safetensors files.")
        if not (folder / shard).is_file():
            raise UserError(f"{name}: lacks {shard}, a part of its weights; fetch the model again.")
        tensors |= read_tensors(folder / shard)[0]
    return tensors


TORCHVISION = {
    "r3d_18": "r3d_18-b3b3357e.pth",
    "mc3_18": "mc3_18-a90a0ba3.pth",
    "r2plus1d_18": "r2plus1d_18-91a641e6.pth",
    "s3d": "s3d-d76dad2f.pth",
}
"""The files of torchvision's video models that dsm builds itself; each name ends in the file's SHA-256."""
_FROM = "https://download.pytorch.org/models/"


def fetch_torchvision(what: str) -> Path:
    """The file of one of torchvision's video models: the given one, or torch's cached or downloaded copy.

    Raises:
        UserError: there is no such file or model, or it cannot be fetched.
    """
    if Path(what).is_file():
        return Path(what)
    if what not in TORCHVISION:
        raise UserError(
            f"tv:{what}: no such file, and no model of that name{did_you_mean(what, TORCHVISION)}"
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / TORCHVISION[what]
    if file.is_file():
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        prefix = file.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(_FROM + file.name, str(file), prefix, progress=False)
    except (OSError, RuntimeError, http.client.HTTPException) as error:  # no network, or another checksum
        if machine_fault(error) is not None or isinstance(error, PermissionError):
            raise UserError(
                f"tv:{what}: cannot be stored in torch's cache, which TORCH_HOME moves "
                f"({first_line(error)[:200]})."
            ) from None
        raise UserError(
            f"tv:{what}: cannot be fetched ({first_line(error)[:200]}); fetch {_FROM}{file.name} on a "
            "machine with a network, and give the file: tv:FILE."
        ) from None
    return file
