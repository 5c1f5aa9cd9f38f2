"""Entry points of torch.hub: one per backbone, and ``encoder`` for your own weights.

``torch.hub.load(repository, "i3d", in_channels=2)`` builds an encoder with random weights.
"""

import sys
from pathlib import Path

try:
    import dsm.models.weights as _weights
except ImportError:  # not installed: this is a checkout
    sys.path.append(str(Path(__file__).parent / "src"))
    import dsm.models.weights as _weights

from dsm.models import zoo as _zoo

dependencies = ["numpy", "safetensors", "torch"]


def _entry(name):
    def create(**settings):
        return _zoo.create_model(name, **settings).eval()

    create.__name__ = name
    create.__doc__ = f"""``{name}`` with random weights: normalised clips (B, C, T, H, W) -> (B, feature_dim).

    Args:
        settings: the model's own, such as ``in_channels=3`` or ``pooling="avg"``.
    """
    return create


for _name in _zoo.MODELS:
    globals()[_name] = _entry(_name)


def encoder(weights, head=None):
    """A trained encoder: normalised clips (B, C, T, H, W) -> (B, D).

    Args:
        weights: a run folder, a checkpoint, or a .safetensors file of ``dsm export``.
        head: None for pooled features; ``projection`` for the L2-normalised embedding.
    """
    return _weights.load_weights(weights, head=head).module
