"""How much memory a computation holds."""

import weakref
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_memory(work: Callable[[], object]) -> int:
    """Most bytes that tensors made by the work held at one time, forward and backward; what was there is not counted.

    Counted from the tensors that operations return, so it does not depend on the machine; scratch space inside an
    operation is not seen.
    """
    with _HeldMemory() as memory:
        work()
    return memory.peak


class _HeldMemory(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.held = self.peak = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = {tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if _is_tensor(tensor)}
        out = operation(*args, **(kwargs or {}))
        for tensor in filter(_is_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if storage not in self.known and storage._cdata not in given:
                self.known.add(storage)
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return out

    def _change(self, size: int) -> None:
        self.held += size
        self.peak = max(self.peak, self.held)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
