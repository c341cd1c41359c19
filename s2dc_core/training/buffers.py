"""What a forward pass changes beside the gradient: running statistics."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Put the buffers of a network back as they were if the block fails."""
    before = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in zip(network.buffers(), before, strict=True):
                buffer.copy_(value)
        raise
