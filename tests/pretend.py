"""A device that is none: tensors on the CPU that claim another one, refuse what a GPU refuses, and count its waits.

A tensor of it holds a plain CPU tensor. Every operation is looked at before it runs: tensors of two devices do not mix
(but for single numbers in elementwise work, and indices), nor does a generator of another one; what a GPU would have to
wait for, and what would have to be copied to it, is counted under the line of the project that asked.

It claims PyTorch's `privateuseone` under the name `pretend`, which PyTorch keeps for devices that it does not know.
Autocast casts what goes into matrix products and convolutions. What it cannot see: memory, streams, pinned memory,
kernels that a GPU lacks, a generator of it that is given to work on the CPU, and a gradient of the CPU that a backward
pass returns, until the optimiser's step.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

PROJECT = str(Path(__file__).resolve().parents[1] / "s2dc_core")
NAME = "pretend"
aten = torch.ops.aten

WAITS = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.bincount, aten.equal, aten._unique2,
    aten.unique_dim, aten.unique_consecutive, aten._linalg_check_errors,
}  # fmt: skip
"""What a GPU has to be waited for: a number, or a shape, that the CPU has to know."""

INDEXING = {aten.index, aten.index_put_, aten._index_put_impl_, aten.index_put}
NUMBERS = {aten.fill_, aten.masked_fill, aten.masked_fill_, aten.where}
"""Not elementwise by their tags, and still taking single numbers that lie on the CPU."""

CAST = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv3d", "convolution", "einsum")


class Counts(NamedTuple):
    """How often the CPU waited for the device, and copied something there, {place in the project: times}."""

    waits: Counter
    copies: Counter


_counting: list[Counts] = []


class Pretended(torch.Tensor):
    """A tensor that claims to lie on the pretended device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, device=torch.device(NAME, 0), **layout)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), named=None):
        return _run(operation, arguments, named or {})

    def tolist(self):
        _count("waits", "tolist")
        return self.held.tolist()

    def numpy(self, **_):
        raise TypeError(f"can't convert {NAME} device type tensor to numpy")

    def __format__(self, form: str) -> str:
        return format(self.item() if self.dim() == 0 else repr(self), form)

    def __repr__(self, **_) -> str:
        return f"{self.held!r} on {NAME}"

    def untyped_storage(self):
        """Of what is held: safetensors asks which tensors share memory."""
        return self.held.untyped_storage()

    def __reduce_ex__(self, protocol):
        """As torch.save with map_location="cpu" would have it."""
        _count("waits", "save")
        return self.held.__reduce_ex__(protocol)


class Generator(torch.Generator):
    """One that claims its device, by its seed: an operation is handed another object with the same numbers."""

    SEEDS: ClassVar[set[int]] = set()

    def __new__(cls, device: torch.device | str = "cpu"):
        made = super().__new__(cls, "cpu")
        made.pretends = torch.device(device).type == NAME
        return made.manual_seed(2**62 + len(cls.SEEDS)) if made.pretends else made

    def manual_seed(self, seed: int) -> "Generator":
        if self.pretends:
            self.SEEDS.add(seed)
        super().manual_seed(seed)
        return self


@contextmanager
def pretended() -> Iterator[torch.device]:
    """The device, for as long as the context lasts."""
    _register()
    Generator.SEEDS.clear()
    types, generator = torch.utils._foreach_utils._foreach_supported_types, torch.Generator
    types.append(Pretended)  # a GPU's optimiser takes many tensors at a time
    torch.Generator = Generator
    try:
        with torch.autograd.set_multithreading_enabled(
            False
        ):  # an error in a device's thread would abort Python's exit
            yield torch.device(NAME)
    finally:
        types.remove(Pretended)
        torch.Generator = generator


@contextmanager
def counted() -> Iterator[Counts]:
    """Counts what happens within."""
    _counting.append(Counts(Counter(), Counter()))
    try:
        yield _counting[-1]
    finally:
        _counting.pop()


def _run(operation, arguments: tuple, named: dict) -> Any:
    leaves = list(_leaves((arguments, named)))
    ours = {id(leaf.held): leaf for leaf in leaves if isinstance(leaf, Pretended)}
    plain = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Pretended)]
    given = named.get("device")
    makes = torch.device(given).type == NAME if given is not None else bool(ours)
    if ours:
        _look(operation, arguments, named, plain, to_cpu=given is not None and not makes)
    generator = named.get("generator")
    if makes and generator is not None and generator.initial_seed() not in Generator.SEEDS:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    if given is not None:
        named = {**named, "device": torch.device("cpu") if makes else given}
    held, held_named = _changed((arguments, named), lambda leaf: leaf.held if isinstance(leaf, Pretended) else leaf)
    done = operation(*held, **held_named)

    def claim(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not makes:
            return leaf
        known = ours.get(id(leaf))
        return Pretended(leaf) if known is None else known

    if operation.overloadpacket is aten.copy_:
        return arguments[0]
    return _changed(done, claim)


def _look(operation, arguments: tuple, named: dict, plain: list, to_cpu: bool) -> None:
    """Refuse what a GPU refuses, count what it has to be waited for."""
    packet = operation.overloadpacket
    if packet is aten.copy_:
        here, there = (isinstance(arguments[k], Pretended) for k in (0, 1))
        if here != there:
            _count("copies" if here else "waits", "copy")
        return
    if to_cpu:
        _count("waits", "copy to the CPU")
    elif packet in WAITS or packet is aten.repeat_interleave and named.get("output_size") is None:
        _count("waits", packet.__name__)
    if packet in INDEXING and isinstance(arguments[0], Pretended):
        indices = [index for index in arguments[1] if index is not None]
        for index in indices:
            if not isinstance(index, Pretended):
                _count("copies", "index")
            elif index.dtype in (torch.bool, torch.uint8) and not _is_fill(packet, arguments):
                _count("waits", "mask")
        plain = [tensor for tensor in plain if not any(tensor is index for index in indices)]
        plain = [tensor for tensor in plain if tensor.dim()]
    elif torch.Tag.pointwise in operation.tags or packet in NUMBERS:
        plain = [tensor for tensor in plain if tensor.dim() or tensor is arguments[0]]
    if plain or any(not isinstance(named.get(name, arguments[0]), (Pretended, list)) for name in _written(operation)):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! "
            f"(when running {operation})"
        )


@cache
def _written(operation) -> list[str]:
    """The arguments that an operation changes."""
    return [a.name for a in operation._schema.arguments if a.alias_info is not None and a.alias_info.is_write]


def _leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, (tuple, list, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _leaves(value)
    else:
        yield values


def _changed(values: Any, change: Callable[[Any], Any]) -> Any:
    """PyTorch's own tree_map takes longer than most operations."""
    if isinstance(values, dict):
        return {name: _changed(value, change) for name, value in values.items()}
    if isinstance(values, (tuple, list)):
        return type(values)([_changed(value, change) for value in values])
    return change(values)


def _is_fill(packet, arguments: tuple) -> bool:
    """x[mask] = number needs no place of the mask."""
    return packet is not aten.index and len(arguments[1]) == 1 and arguments[2].numel() == 1


def _count(kind: str, what: str) -> None:
    if _counting:
        getattr(_counting[-1], kind)[f"{_place()} {what}"] += 1


def _place() -> str:
    frame = sys._getframe(2)
    while frame:
        if frame.f_code.co_filename.startswith(PROJECT):
            return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


class _Module(_DummyBackendModule):
    """What PyTorch asks of `torch.pretend`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, _device=None) -> torch.Tensor:
        """What fork_rng asks every device that there is; other tests meet this one too."""
        return torch.get_rng_state()

    def set_rng_state(self, _state, _device=None) -> None:
        """Nothing is drawn there."""


@cache
def _register() -> list[torch.library.Library]:
    """Once in a process: PyTorch forgets no device."""
    _setup_privateuseone_for_python_backend(NAME, _Module())
    makers, everywhere = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    # PyTorch makes a range by resizing an empty tensor, which would go on claiming to be empty.
    ranges = (aten.arange.default, aten.arange.start, aten.arange.start_step)
    for operation in (aten.empty.memory_format, aten.empty_strided.default, aten.copy_.default, *ranges):
        makers.impl(operation, lambda *given, _run_as=operation, **named: _run(_run_as, given, named), "PrivateUse1")
    everywhere.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in CAST:
        operation = getattr(aten, name).default
        makers.impl(
            operation, lambda *given, _cast=operation, **named: _autocast(_cast, given, named), "AutocastPrivateUse1"
        )
    return [makers, everywhere]


def _autocast(operation, arguments: tuple, named: dict) -> Any:
    dtype = torch.get_autocast_dtype(NAME)

    def cast(leaf: Any) -> Any:
        on_device = isinstance(leaf, Pretended) and leaf.dtype == torch.float32
        return leaf.to(dtype) if on_device else leaf

    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
        return operation(*_changed(arguments, cast), **_changed(named, cast))
