"""Fetches published models from the hub, its cache or a folder: settings and tensors, never code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm.errors import UserError, did_you_mean, first_line
from dsm.extras import load_extra
from dsm.limits import SETTINGS_BYTES
from dsm.models.checkpoint_file import read_tensors
from dsm.models.preprocessor import FILES
from dsm.terminal import console
from dsm.untrusted import read_json, read_text

CONFIG = "config.json"
HUB_TYPE = "dsm"
"""The type in ``config.json`` of encoders of ``dsm export --to hub``."""
WHOLE, INDEX, SHARDS = "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def fetch(what: str, library: str, *, owner: str = "") -> Path:
    """The folder of a published model: the given one, or the hub's or its cache's copy of an id.

    Settings are fetched first, so that weights are fetched only if the model will be accepted.

    Args:
        what: a folder, or an id such as ``facebook/vjepa2-vitl-fpc64-256``.
        library: ``hf`` or ``timm``, for messages.
        owner: owner of ids that do not name one.

    Raises:
        UserError: there is no such folder or model, it may not be fetched, or there is no network and nothing
            in the cache.
    """
    folder = Path(what)
    if folder.is_dir():
        return folder
    if folder.exists() or not _ID.fullmatch(what) or what.startswith("."):
        raise UserError(
            f"{library}:{what}: neither a folder (with {CONFIG} and {WHOLE}) nor an id on the hub, such as "
            "MCG-NJU/videomae-base."
        )
    name = what if "/" in what or not owner else f"{owner}/{what}"
    found = _from_hub(name, library, (CONFIG, *FILES))
    read_settings(found / CONFIG, f"{library}:{what}")
    return _from_hub(name, library, (CONFIG, *FILES, WHOLE, INDEX, SHARDS))


def is_hub_id(name: str) -> bool:
    """Whether a name is that of a model on the hub, ``OWNER/MODEL``."""
    return "/" in name and _ID.fullmatch(name) is not None and not name.startswith(".")


def stated_licence(folder: Path) -> str | None:
    """The licence in the metadata of a folder's ``README.md``, such as ``apache-2.0``; None without one."""
    try:
        text = read_text(folder / "README.md", errors="replace")
    except (OSError, ValueError):
        return None
    front = re.match(r"---\n(.*?)\n---\s", text, re.DOTALL)
    found = front and re.search(r"^license: *([\w.-]{1,50})\s*$", front[1], re.MULTILINE)
    return found[1] if found else None


def _from_hub(name: str, library: str, files: Sequence[str]) -> Path:
    hub, errors, utils = (
        load_extra(f"huggingface_hub{part}", "transformers", package="huggingface_hub", wanted_by="the hub")
        for part in ("", ".errors", ".utils")
    )
    shown = WHOLE in files and not console.quiet  # a progress bar for slow downloads
    try:
        with nullcontext() if shown else _without_bars(utils):
            return Path(hub.snapshot_download(name, allow_patterns=list(files)))
    except errors.GatedRepoError:
        raise UserError(
            f"{library}:{name} is gated; accept its terms on https://huggingface.co/{name}, then log in "
            "with `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{library}:{name}: the hub has no such model; check its id, or if it is private, log in with "
            "`hf auth login`."
        ) from None
    except errors.HfHubHTTPError as error:
        raise UserError(f"{library}:{name}: the hub answered: {first_line(error)[:200]}.") from None
    except (OSError, errors.EntryNotFoundError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{library}:{name}: the hub cannot be reached and its cache does not have the model "
            f"({type(error).__name__}); fetch it where there is a network, and give its folder: "
            f"{library}:FOLDER."
        ) from None
    except (AttributeError, KeyError, TypeError) as error:  # a proxy's page, or another server
        raise UserError(
            f"{library}:{name}: the server that answered is not a model hub ({first_line(error)[:200]}); "
            f"check the network and HF_ENDPOINT, or give the model's folder: {library}:FOLDER."
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
    """The content of a model's preprocessor file; None if there is none."""
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
            f"tv:{what}: neither a file nor one of {', '.join(TORCHVISION)}{did_you_mean(what, TORCHVISION)}"
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / TORCHVISION[what]
    if file.is_file():
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        prefix = file.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(_FROM + file.name, str(file), prefix, progress=False)
    except (OSError, RuntimeError) as error:  # no network, or another checksum
        raise UserError(
            f"tv:{what}: cannot be fetched ({first_line(error)[:200]}); fetch {_FROM}{file.name} on a "
            "machine with a network, and give the file: tv:FILE."
        ) from None
    return file
