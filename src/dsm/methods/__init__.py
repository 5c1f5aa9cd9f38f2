"""Training methods, one file each; ``settings.py`` has their settings, ``registry.py`` their names.

Modules that need torch are imported on first use, so that the settings can be read without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsm.methods.settings import MethodSettings

if TYPE_CHECKING:
    from dsm.methods.registry import METHODS, create_method

__all__ = ["METHODS", "MethodSettings", "create_method"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from dsm.methods import registry

        return getattr(registry, name)
    raise AttributeError(f"module 'dsm.methods' has no attribute '{name}'")
