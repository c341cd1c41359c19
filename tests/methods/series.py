"""The arrays of all reference values: A(shape; a) = sin(a + k^2 / 10), k = 1, 2, ... in C order."""

import numpy as np
import torch


def series(*shape: int, shift: float = 0.0) -> torch.Tensor:
    """A(shape; shift) in float64."""
    k = np.arange(1, np.prod(shape) + 1)
    return torch.from_numpy(np.sin(shift + k**2 / 10).reshape(shape))
