"""Freezing a part of a model: which parameters stay as they are, and what is constant because of it.

Whatever a model computes from frozen parameters alone is the same number for the same row in every epoch, as long as no
dropout disturbs it. So the constant part runs in evaluation mode, and `sftlib.models.frozen.prefix_cache` may compute
it once. Neither is read off names: autograd is asked what depends on what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import final

import torch
from torch import Tensor, nn

from sftlib.errors import OptionError
from sftlib.models.layouts.layout import Around, Layout
from sftlib.models.own_heads import body_under
from sftlib.models.structure import body_of, hooked, layers_of
from sftlib.support.checking import nearest

BACKBONE = "backbone"

#: What ``freeze=`` takes.
Freeze = str | int | Sequence[str] | None


def freeze_problem(value: object) -> str | None:
    """What is wrong with a value of ``freeze=``, as far as that can be known without a model.

    Example:
        >>> freeze_problem(8), freeze_problem(["*.embeddings.*"])
        (None, None)
        >>> freeze_problem("body")
        "freeze='body': expected 'backbone', a number of lowest layers, or a list of patterns such as ['body']"
    """
    if value is None or (isinstance(value, str) and value == BACKBONE):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return None
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return None
    example = [value] if isinstance(value, str) else ["*.embeddings.*"]
    return (
        f"freeze={value!r:.60}: expected 'backbone', a number of lowest layers, or a list of patterns such as {example}"
    )


def freeze(model: nn.Module, what: Freeze, look: Callable[[], object]) -> None:
    """Mark parameters as not to be trained.

    Args:
        model: with its head.
        what: ``"backbone"`` for everything but the head; a number for the embeddings and that many lowest layers; a
            list of shell patterns (``*``, ``?``, ``[0-7]``) for the names of parameters, or of modules with all they
            hold; None for nothing.
        look: calls the model on a small row, in evaluation mode.

    Raises:
        OptionError: the model has no such part, a pattern matches nothing, or nothing is left to train.
    """
    if what is None:
        return
    if isinstance(what, str):
        frozen = list(_body(model, what).parameters())
    elif isinstance(what, int):
        frozen = _lowest(model, what, look)
    else:
        frozen = _matching(model, what)
    for parameter in frozen:
        parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise OptionError(f"freeze={what!r}: nothing is left to train")


def constant_parts(model: nn.Module, run: Callable[[], object]) -> list[str]:
    """Names of the largest modules whose output depends on no trained parameter.

    In the body that may be plain dropout as well; elsewhere only modules with weights count, so that the dropout of a
    head on a constant body stays.

    Args:
        model: after `freeze`.
        run: calls it on a few rows.
    """
    body = body_of(model)
    inside = set() if body is None else set(body.modules())
    candidates = {
        module: name
        for name, module in model.named_modules()
        if module in inside or any(True for _ in module.parameters())
    }
    constant: set[nn.Module] = set()

    def look(module: nn.Module, _: object, output: object) -> None:
        found = list(_tensors(output))
        if found and not any(x.requires_grad for x in found):
            constant.add(module)

    hooks = [module.register_forward_hook(look) for module in candidates]
    with hooked(hooks), torch.enable_grad():
        run()
    covered = {child for module in constant for child in module.modules() if child is not module}
    return [name for module, name in candidates.items() if module in constant and module not in covered]


@final
class Frozen(Around):
    """A layout in which the constant part runs in evaluation mode, whatever mode the model is in.

    Args:
        inner: how rows lie.
        constant: from `constant_parts`.
    """

    def __init__(self, inner: Layout, constant: Sequence[str]) -> None:
        super().__init__(inner)
        self.constant = tuple(constant)

    @contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        hooks = [model.get_submodule(name).register_forward_pre_hook(_to_evaluation) for name in self.constant]
        with hooked(hooks), self.inner.installed(model):
            yield


def _to_evaluation(module: nn.Module, _: object) -> None:
    if module.training:
        module.eval()


def _body(model: nn.Module, what: str) -> nn.Module:
    body = body_under(model)
    if body is None:
        raise OptionError(
            f"freeze={what!r}: {type(model).__name__} is not a transformers model with a body and a head; "
            f"name its parameters instead: freeze=[{_first_name(model)!r}, ...]"
        )
    return body


def _lowest(model: nn.Module, count: int, look: Callable[[], object]) -> list[nn.Parameter]:
    """The parameters that what enters layer ``count`` depends on: its lower layers, embeddings, shared positions."""
    layers = layers_of(model, headless=True)
    if layers is None:
        raise OptionError(
            f"freeze={count}: the layers of {type(model).__name__} cannot be found, or share their weights; use "
            f"freeze='backbone', or name parameters: freeze=[{_first_name(model)!r}, ...]"
        )
    if count > len(layers):
        raise OptionError(f"freeze={count}: this model has {len(layers)} layers; expected at most {len(layers)}")
    entering: list[Tensor] = []
    if count < len(layers):
        hook = layers[count].register_forward_pre_hook(
            lambda _, args, kwargs: entering.extend(_tensors((args, kwargs.get("hidden_states")))), with_kwargs=True
        )
    else:
        hook = layers[count - 1].register_forward_hook(lambda _, __, output: entering.extend(_tensors(output)))
    parameters = list(model.parameters())
    required, was_training = [parameter.requires_grad for parameter in parameters], model.training
    try:
        model.eval()  # dropout would draw from the user's generator
        with torch.enable_grad():
            for parameter in parameters:
                parameter.requires_grad_(True)
            look()
            gradients = torch.autograd.grad(entering[0].sum(), parameters, allow_unused=True)
    finally:
        hook.remove()
        model.train(was_training)
        for parameter, before in zip(parameters, required, strict=True):
            parameter.requires_grad_(before)
    return [parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None]


def _matching(model: nn.Module, patterns: Sequence[str]) -> list[nn.Parameter]:
    named = dict(model.named_parameters(remove_duplicate=False))
    found: list[nn.Parameter] = []
    problems = []
    for pattern in patterns:
        matching = [named[name] for name in named if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
        if not matching:
            modules = [name for name, module in model.named_modules() if name]
            problems.append(f"freeze: no parameter matches {pattern!r}; {nearest(pattern, [*named, *modules])}")
        found += matching
    if problems:
        raise OptionError("\n".join(problems))
    return found


def _tensors(value: object) -> Iterator[Tensor]:
    """The floating-point tensors in an output or in arguments, in order."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _first_name(model: nn.Module) -> str:
    return next((name for name, _ in model.named_parameters()), "")
