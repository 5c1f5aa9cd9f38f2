"""One encoder of a study: how it is trained, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from dsm.train.config import FinetuneConfig, PretrainConfig


@dataclass(frozen=True)
class Trial:
    """One encoder, how it is trained, and what is asked of it."""

    name: str
    """What tables call it."""
    config: PretrainConfig
    """How it is trained; its ``out`` is the trial's folder."""
    tests: tuple[Path, ...]
    """Labelled lists; neighbours and probes are taken from the training list."""
    measures: tuple[str, ...] = ("features",)
    """Names of :data:`measures.MEASURES`."""
    windows: int = 1
    """Clips a video; MotionScenes are hardly longer than one."""
    groups: Path | None = None
    """Table of the group of each video; intervals then draw whole groups."""
    suffix: str = ""
    """Put behind a test's name in the rows, as '@0.9'."""
    random: bool = False
    """Not trained at all."""
    labelled: Path | None = None
    """What the probe of ``dsm bias`` is trained on, and fine-tuning, which then asks the last test alone;
    left out, the list of pretraining."""
    tuned: FinetuneConfig | None = None
    """How it is fine-tuned, where that is asked for."""
    videos: str = ""
    """What the videos are, beyond the names of their lists."""
    confounded: tuple[Path, ...] = ()
    """Lists that train and test a probe, in which the scene gives the class away, wrongly."""

    @property
    def folder(self) -> Path:
        return self.config.out

    @property
    def weights(self) -> str:
        return str(self.folder / ("random.safetensors" if self.random else "run"))


def settings_of(trial: Trial, measure: str | None = None) -> dict[str, Any]:
    """All that decides what is measured, as JSON has it; of a path its last two names.

    What is off (0, none, false, empty) is left out: a setting that is new and off makes no other trial. Nor
    does a name: what two studies call differently is measured once.

    Args:
        measure: what is asked; left out, nothing yet. How an encoder is fine-tuned decides but "finetuned".
    """
    tuned = trial.tuned if measure == "finetuned" else None
    bare = replace(trial, name="", measures=(), config=replace(trial.config, out=Path()), tuned=tuned)
    told: dict[str, Any] = _told(bare)
    return told


def _told(value: Any) -> Any:
    if isinstance(value, Path):
        return "/".join(value.parts[-2:])
    if is_dataclass(value):
        told = {one.name: _told(getattr(value, one.name)) for one in fields(value)}
        return {name: one for name, one in told.items() if one}
    return [_told(one) for one in value] if isinstance(value, tuple) else value
