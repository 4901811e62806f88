"""Weights in parts: each process holds, and steps, its share of the rows of every weight; a pass gathers them by layer.

The gathering is torch's own, `fully_shard` (FSDP2; Zhao et al., 2023, "PyTorch FSDP: experiences on scaling fully
sharded data parallel"; the idea is that of Rajbhandari et al., 2020, "ZeRO"): before a layer computes, its weights are
gathered; after it they are let go; in the backward pass once more, and its gradient is added up into parts. Here it is
told to add sums where it would take means, since the loop divides once.

What a process holds while it steps: its parts of weights, gradients and both moments, ``16 / n`` bytes a trained
weight, and one layer whole. Before the first step and after the last, weights are whole in every process, 4 bytes each.

The optimizer steps plain tensors, which share their memory with the parts: its state is plain too, and the loop's own
arithmetic works on it as on any other.

Letters: ``n`` processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map_only

from sftlib.errors import NonFiniteError, OptionError, ProcessError
from sftlib.models.memory import is_out_of_memory
from sftlib.models.structure import repeated_layers
from sftlib.tasks.base import LossSum
from sftlib.train.backward import Backward, Separate
from sftlib.train.comm import Comm, leave_untold
from sftlib.train.forward import Ask
from sftlib.train.held import Held, Part, Weights, changing_weights, require_names, rows_of

T = TypeVar("T")

_SUMS = "set_force_sum_reduction_for_comms"  # torch 2.13 has it, 2.6 nothing but NCCL's means


@final
class Sharded(Held):
    """A part of each weight in every process.

    Args:
        comm: the processes.

    Raises:
        OptionError: this torch cannot, or nothing connects these processes.
    """

    def __init__(self, comm: Comm) -> None:
        _require_torch()
        self.parts = comm.size
        self._comm = comm
        self._root: Any = None
        self._parts: dict[Tensor, DTensor] = {}  # what the optimizer steps -> the weight that it is a part of

    # A pass.

    @contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        cut = _Cut(model)
        self._root = cut.root
        try:
            yield
            self._whole_again(cut)
        except NonFiniteError:  # which all meet together
            self._whole_again(cut)
            raise
        except BaseException as error:
            error.add_note("The weights were in parts, and are gone: go on from a checkpoint, or begin anew.")
            raise
        finally:
            self._root, self._parts = None, {}
            cut.leave()

    def _whole_again(self, cut: _Cut) -> None:
        self._parts = {}  # and with them what there is of gradients: there is to be room for the whole
        cut.gather()

    def asking(self, ask: Ask) -> Ask:
        def asked(model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
            if self._root is None:
                return ask(model, call, inputs)
            with _inside_a_pass(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", r"FSDP2-wrapped module \(FSDP_Root\)")  # it stays gathered
                return self._root(partial(ask, model, call, inputs))

        return asked

    def evenly(self, own: Iterator[T], spare: Callable[[], T]) -> Iterator[tuple[T, bool]]:
        # One short exchange before each pass: here an error of another process is heard, and whether it has ended.
        while self._comm.any((item := next(own, None)) is not None):
            yield (spare(), False) if item is None else (item, True)

    def backward(self, passes: Separate) -> Backward:
        return _InStep(passes, self)

    # A step.

    def trained(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        named = [(name, p, _own(p)) for name, p in model.named_parameters() if p.requires_grad]
        self._parts = {own: p for _, p, own in named if isinstance(p, DTensor)}
        return [(name, own) for name, _, own in named]

    def hand_over(self) -> None:
        """Give what the optimizer steps its gradients, which a step's passes have added up over all processes."""
        for own, part in self._parts.items():
            if part.grad is not None:
                own.grad, part.grad = _local(part.grad), None

    def to_add_up(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        return [p for p in parameters if p not in self._parts]

    def norm(self, parameters: Sequence[Tensor]) -> Tensor:
        having = [p for p in parameters if p.grad is not None]
        of_parts, of_whole = (_squared([p for p in having if (p in self._parts) == parted]) for parted in (True, False))
        squared = self._comm.sum(of_parts) + of_whole
        like = having[0] if having else torch.zeros(())
        return torch.tensor(squared, dtype=torch.float64, device=like.device).sqrt().to(like.dtype)

    # A run.

    def changing(self, model: nn.Module) -> dict[str, Tensor | Part]:
        self._resharded()
        return {
            name: Part(_local(value), value.shape[0]) if isinstance(value, DTensor) else value
            for name, value in changing_weights(model).items()
        }

    @torch.no_grad()
    def put_back(self, model: nn.Module, weights: Weights) -> None:
        self._resharded()
        require_names(model, weights)
        for name, value in model.state_dict().items():
            if name in weights:
                here = _local(value) if isinstance(value, DTensor) else value
                given = self._cut(weights[name], whole=value.shape)
                if given.shape != here.shape:
                    raise ValueError(f"{name} has the shape {tuple(given.shape)}, expected {tuple(here.shape)}")
                here.copy_(given)

    def of_optimizer(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        wholes = [None if p not in self._parts else self._parts[p].shape[0] for p in _parameters(optimizer)]

        def marked(moment: Any, whole: int | None) -> Any:
            is_cut = whole is not None and isinstance(moment, Tensor) and moment.dim() > 0
            return Part(moment, whole) if is_cut else moment  # type: ignore[arg-type]

        state = optimizer.state_dict()
        moments = {
            number: {name: marked(moment, wholes[number]) for name, moment in own.items()}
            for number, own in state["state"].items()
        }
        return {**state, "state": moments}

    def for_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
        shapes = [self._parts[p].shape if p in self._parts else p.shape for p in _parameters(optimizer)]
        moments = {
            number: {name: self._cut(moment, whole=shapes[number]) for name, moment in own.items()}
            for number, own in state["state"].items()
        }
        return {**state, "state": moments}

    def _cut(self, value: Any, *, whole: torch.Size) -> Any:
        """What this process has of a value: of a whole one its part, of a part that part."""
        if isinstance(value, Part):
            if value.of != whole[0]:
                raise ValueError(f"{value.of} rows in parts, expected {whole[0]}")
            return value.rows
        if not isinstance(value, Tensor) or not value.dim() or value.shape != whole:
            return value
        first, last = rows_of(len(value), self._comm.rank, self._comm.size)
        return value[first:last]

    def _resharded(self) -> None:
        """After a pass without gradients what lies outside the layers is still whole."""
        assert self._root is not None, "these weights are whole"
        self._root.reshard()


@final
class _InStep(Backward):
    """Backward passes of a step, as many in every process."""

    def __init__(self, passes: Separate, held: Sharded) -> None:
        self._passes = passes
        self._held = held

    def __call__(self, step: int) -> list[LossSum]:
        sums = []
        for batch, own in self._held.evenly(self._passes.batches(step), lambda: self._passes.spare(step)):
            with _inside_a_pass():
                found = self._passes.one(batch, step, counts=own)
            sums += [found] if own else []
        self._held.hand_over()
        return sums


@contextmanager
def _inside_a_pass() -> Iterator[None]:
    """Where the other processes wait for parts of weights, and cannot be told of an error.

    Raises:
        ProcessError: another process is gone.
        OptionError: memory ran out: a pass that was begun by all cannot be cut smaller by one.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raised = leave_untold(
                OptionError(
                    "memory ran out in a pass, which with shard=True all processes make together, so that one cannot "
                    "cut it smaller: give a number for micro_batch_size=, or checkpointing=True, or more processes"
                )
            )
            raise raised from error
        if isinstance(error, RuntimeError) and _is_of_channel(error):
            raise ProcessError(f"another process of this run is gone: {error!s:.300}") from error
        leave_untold(error)
        raise


def _is_of_channel(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection" in str(error)


class _Root(nn.Module):
    """All of a pass: a task may ask the body alone, or the body and then the layer that makes scores."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ask: Callable[[], Any]) -> Any:
        return ask()


@final
class _Cut:
    """A model whose weights are cut, and put together again in place: in its own modules and parameters.

    Args:
        model: with whole weights.
    """

    def __init__(self, model: nn.Module) -> None:
        from torch.distributed.fsdp import fully_shard  # takes a second to import

        self.root: Any = _Root(model)
        owned = [(module, name) for module in model.modules() for name in module._parameters]
        self._whole = [(module, name, module._parameters[name]) for module, name in owned]
        layers = repeated_layers(model)
        self._before = [_Before(module) for module in [*self.root.modules()]]
        first = next(model.parameters())
        mesh = init_device_mesh(first.device.type, (dist.get_world_size(),))
        scalars = {p for p in model.parameters() if not p.dim()}  # nothing to cut in them: whole in every process
        self._cut = list(dict.fromkeys(p for p in model.parameters() if p.dim()))
        for p in self._cut:
            p.data = p.data.contiguous()
        units: list[Any] = [*layers, self.root]
        for unit in units:
            own = [p for p in unit.parameters() if p.dim() and not isinstance(p, DTensor)]
            unit.register_forward_hook(_no_views)
            fully_shard(unit, mesh=mesh, ignored_params=scalars)
            unit.set_gradient_divide_factor(1.0)
            getattr(unit, _SUMS)(True)
            for p in own:
                p.data = p.data.new_empty(0)

    @torch.no_grad()
    def gather(self) -> None:
        """Make every weight whole again, in the parameter that it was before."""
        self.root.reshard()
        parts: dict[Tensor, Any] = {p: module._parameters[name] for module, name, p in self._whole if p is not None}
        for parameter in self._cut:
            part = parts.pop(parameter)
            parameter.data = part.full_tensor() if isinstance(part, DTensor) else part

    def leave(self) -> None:
        """Take away all that was added to the modules."""
        for before in self._before:
            before.again()
        for module, name, parameter in self._whole:
            module._parameters[name] = parameter


def _no_views(_: nn.Module, __: object, outputs: Any) -> Any:
    """Whoever writes into a view undoes what `fully_shard` hangs on it, and the layer would not be gathered again."""
    return tree_map_only(Tensor, lambda found: found if found._base is None else found.clone(), outputs)


@final
class _Before:
    """A module as it was: its class, its hooks, and what it had beside."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kind = type(module)
        self._names = set(vars(module))
        self._hooks = {name: set(value) for name, value in _hooks(module)}

    def again(self) -> None:
        was_unit = type(self._module) is not self._kind
        self._module.__class__ = self._kind
        for name, value in _hooks(self._module):
            if was_unit or "state_dict" in name:  # the latter on all modules whose weights were cut
                for key in set(value) - self._hooks.get(name, set()):
                    del value[key]
        for name in [name for name in vars(self._module) if name not in self._names and _is_of_torch(name)]:
            delattr(self._module, name)


def _is_of_torch(name: str) -> bool:
    return "fsdp" in name or "composable_api" in name


def _hooks(module: nn.Module) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(module).items() if "_hooks" in name and isinstance(value, dict)]


def _own(parameter: Tensor) -> nn.Parameter:
    """What the optimizer of this process steps of a parameter."""
    if not isinstance(parameter, DTensor):
        assert isinstance(parameter, nn.Parameter)
        return parameter
    return nn.Parameter(_local(parameter))


@torch.no_grad()  # otherwise a node of the graph
def _local(value: Tensor) -> Tensor:
    """This process's part, in the memory where it lies."""
    found: Tensor = value.to_local()  # type: ignore[attr-defined]
    return found.detach()


def _squared(parameters: Sequence[Tensor]) -> float:
    """The squares of all numbers in the gradients of these."""
    return float(sum(p.grad.double().square().sum() for p in parameters if p.grad is not None))


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """In the order of the numbers in its state."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _require_torch() -> None:
    import torch.distributed.fsdp as fsdp

    if not hasattr(getattr(fsdp, "FSDPModule", None), _SUMS):
        raise OptionError(
            f"shard=True needs a newer torch than {torch.__version__}, whose fully_shard cannot add gradients up "
            "(that of 2.13 can): install one, or leave shard= out"
        )
    if not dist.is_initialized():
        raise OptionError("shard=True: these processes were not started by torchrun, and nothing connects them")
