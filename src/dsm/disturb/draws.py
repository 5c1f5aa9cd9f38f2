"""What the kinds of SLD and their mix share: seeds, draws, and where pictures and borders come from."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Draw = NDArray[np.float32]
"""The random parameters of one sample, for one kind."""
Seed = np.random.Generator | int | None
Source = Literal["clip", "batch"]
"""Where the picture comes from: the clip itself, or another clip of the batch, drawn for each clip and view;
two views of a clip get those of different clips, where the batch has three or more. With several processes,
each draws from its own part of the batch, so no pictures are transferred."""
Padding = Literal["reflection", "border", "zeros"]
"""What fills the area beyond the border: the mirrored picture, its outermost pixels, or black."""
