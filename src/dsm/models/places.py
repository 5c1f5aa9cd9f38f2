"""Where in a checkpoint tensors lie: under whatever keys its trainer keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dsm.models.inert import Inert, module_tensors
from dsm.models.load_report import label_of

# How deep, and in how many places, for a stranger's may be endless.
_DEEPEST, _MOST_PLACES = 6, 256


def find_places(state: Any) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by where they lie, wherever its trainer keeps them.

    Returns:
        By the keys that lead there, joined by dots (empty for the top): tensors by name.
    """
    places: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()
    todo: list[tuple[str, Any, int]] = [("", state, 0)]
    for nest, inside, depth in todo:
        if id(inside) in seen or depth > _DEEPEST or len(places) >= _MOST_PLACES:  # one may hold itself
            continue
        seen.add(id(inside))
        if isinstance(inside, Inert):
            tensors = module_tensors(inside)
        elif isinstance(inside, Mapping):
            tensors = {str(name): value for name, value in inside.items() if isinstance(value, Tensor)}
            more = [(label_of(nest, str(key)), value, depth + 1) for key, value in inside.items()]
            todo += [one for one in more if isinstance(one[1], (Mapping, Inert))][:_MOST_PLACES]
        else:
            continue
        if tensors:
            places[nest] = tensors
    return places


def find_tensors(state: Any) -> dict[str, Tensor]:
    """The tensors at the place of a checkpoint that has most of them; empty if there are none."""
    return max(find_places(state).values(), key=len, default={})
