"""One encoder of a study: how it is trained and what is measured."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from dsm.train.config import PretrainConfig


@dataclass(frozen=True)
class Trial:
    """One encoder: how it is trained and what is measured."""

    name: str
    """Its name in tables."""
    config: PretrainConfig
    """How it is trained; its ``out`` is the trial's folder."""
    tests: tuple[Path, ...]
    """Labelled lists; neighbours come from the training list, and probes are trained on it."""
    measures: tuple[str, ...] = ("features",)
    """Names of :data:`measures.MEASURES`."""
    windows: int = 1
    """Clips per video; MotionScenes are hardly longer than one clip."""
    groups: Path | None = None
    """Table with the group of each video; intervals then draw whole groups."""
    suffix: str = ""
    """Appended to a test's name in the rows, such as '@0.9'."""
    random: bool = False
    """Random weights: not trained at all."""
    videos: str = ""
    """Identifies the videos, beyond the names of their lists."""
    confounded: tuple[Path, ...] = ()
    """Lists for training and testing a probe, in which the scene predicts the class, and does so wrongly in
    the test."""

    @property
    def folder(self) -> Path:
        return self.config.out

    @property
    def weights(self) -> str:
        return str(self.folder / ("random.safetensors" if self.random else "run"))


def settings_of(trial: Trial) -> dict[str, Any]:
    """All settings that a result depends on, as JSON values; of paths only the last two parts.

    Settings that are off (0, none, false, empty) are left out, so that a new setting that is off does not
    change the trial. The name is left out too, so that a candidate can be renamed, and so are the settings of
    other methods.
    """
    bare = replace(trial, name="", measures=(), config=replace(trial.config, out=Path()))
    settings: dict[str, Any] = _plain(bare)
    method = trial.config.method.replace("-", "_")
    settings["config"]["settings"] = {method: settings["config"]["settings"].get(method, {})}
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return "/".join(value.parts[-2:])
    if is_dataclass(value):
        settings = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        return {name: one for name, one in settings.items() if one}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
