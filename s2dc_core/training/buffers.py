"""What a forward pass changes beside the gradient: running statistics."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Put the running statistics of a network back as they were if the block fails."""
    buffers = [buffer for part in network.modules() if isinstance(part, _NormBase) for buffer in part.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        raise
