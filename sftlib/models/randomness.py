"""What a model draws by itself, dropout apart, and where it lets rows of a batch reach each other.

Each such thing is drawn from counters instead, switched off, frozen or refused; and it is said which. Models draw from
generators that all share, often one lot for the whole batch, so a run would depend on how it is cut up.

Letters: ``B`` rows, ``C`` channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from sftlib.errors import OptionError
from sftlib.models.dropout import DropoutMasks, RowDropout
from sftlib.support.display import counted

BatchNorm = Literal["frozen", "train"]
Done = Literal["from counters", "off", "frozen", "as it is", "refused"]
Modules = Sequence[tuple[str, nn.Module]]  # of a model, each once, as `named_modules` lists them

_FIRST_SITE = 2**21  # beyond those of `sftlib.models.dropout`
_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_BATCH_NORMS = nn.modules.batchnorm._BatchNorm  # every kind of it, those of other processes and other packages too
_ALPHA = -1.7580993408473766  # what SELU makes of minus infinity


@final
@dataclass(frozen=True)
class Found:
    """One kind of thing that a model does by chance, or by its neighbours.

    Attributes:
        kind: what it is.
        where: names of the modules, or of the settings, of the model.
        done: what becomes of it.
        sentence: that, for the lines before the first step; of what is refused, with a way out.
    """

    kind: str
    where: tuple[str, ...]
    done: Done
    sentence: str


@dataclass(frozen=True)
class _Switch:
    """Settings of a module or a config that make a model draw."""

    kind: str
    names: tuple[str, ...]
    off: float | None
    why: str
    unless: str = ""  # a setting that switches it off where it is False
    of: str = ""  # the class that the names belong to, where others use them for something else

    def on(self, owner: Any, value: object) -> bool:
        """Whether a module or a config with this value draws."""
        fits = self.of in ("", type(owner).__name__) and vars(owner).get(self.unless, True) is not False
        return fits and isinstance(value, int | float) and bool(value)


_BATCH = "it would be one lot for the whole batch"
_SHARED = "the model would draw it from a generator that all share"
_SWITCHES = (
    _Switch(
        "layer drop",
        ("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "speech_encoder_layerdrop"),
        0.0,
        _BATCH,
    ),
    _Switch("time mask", ("mask_time_prob", "mask_feature_prob"), 0.0, _SHARED, unless="apply_spec_augment"),
    _Switch("denoising", ("num_denoising",), 0, "its groups would depend on the boxes of the whole batch"),
    _Switch("noise on positions", ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"), None, _BATCH),
    _Switch("router noise", ("jitter_noise", "input_jitter_noise"), 0.0, _SHARED),
    _Switch("router noise", ("moe_jitter_eps",), None, _SHARED),
    _Switch("drop path of LeViT", ("drop_rate",), 0.0, _SHARED, of="LevitResidualLayer"),
)
_SWITCH_OF = {name: switch for switch in _SWITCHES for name in switch.names}
# Modules that draw in training only, and have a plain answer in evaluation.
_PLAIN_IN_EVALUATION = {
    "RReLU": "its mean slope is used",
    "PhimoeTopKRouter": "the best experts are taken, and none is drawn",
    "GroupViTAssignAttention": "the best group is taken, and none is drawn",
}
# Modules that draw in a way that nothing here can replace.
_REFUSED = {
    "FractionalMaxPool2d": "draws its regions, in evaluation too; use MaxPool2d",
    "FractionalMaxPool3d": "draws its regions, in evaluation too; use MaxPool3d",
    "InformerProbSparseAttention": 'draws keys, in evaluation too; set attention_type="full" in the config',
    "LSHSelfAttention": "draws its hashes, in evaluation too; set hash_seed in the config",
}


class RowDrop(nn.Module):
    """Stands in for drop path and dropout of channels while a run lasts: a lot falls on the whole of them.

    Args:
        p: rate.
        site: number of the place in the model.
        masks: of this run; without rows laid out, torch's generator draws.
        axes: 1 for lots of rows, 2 for lots of their channels.
        scaled: whether what is kept grows by 1 / (1 - p).
    """

    def __init__(self, p: float, site: int, masks: DropoutMasks, *, axes: int = 1, scaled: bool = True) -> None:
        super().__init__()
        self.p = p
        self.site = site
        self.masks = masks
        self.axes = axes
        self.scaled = scaled

    def forward(self, x: Tensor) -> Tensor:
        """Drop of (B, ...) or (B, C, ...), where B may be a multiple of the rows."""
        if not self.training or self.p == 0.0:
            return x
        if self.p >= 1.0:
            return x * 0.0
        shape = tuple(x.shape[: self.axes])
        if self.masks.active:
            kept = self.masks.kept(shape, self.p, self.site)
        else:
            kept = torch.rand(shape, device=x.device) >= self.p
        kept = kept.view(*shape, *(1 for _ in x.shape[self.axes :]))
        return torch.where(kept, x / (1 - self.p) if self.scaled else x, 0.0)


@final
class RowAlphaDropout(nn.Module):
    """Stands in for alpha dropout, which keeps mean and variance where SELU is the activation.

    Args:
        drop: what says which activations go.
    """

    def __init__(self, drop: RowDropout | RowDrop) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape that ``drop`` takes; torch's own formula."""
        p = self.drop.p
        if not self.training or p == 0.0:
            return x
        if p >= 1.0:
            return x * 0.0
        kept = self.drop(torch.ones_like(x)) != 0
        scale = math.sqrt(1 / ((1 - p) * (1 + p * _ALPHA**2)))
        return torch.where(kept, x, _ALPHA) * scale - scale * _ALPHA * p


_Setting = tuple[Any, str, float, _Switch]  # owner, name, value


@dataclass(frozen=True)
class _Place:
    """A module that is replaced for a run."""

    kind: str
    where: str
    parent: nn.Module
    name: str
    module: nn.Module
    rate: float | None  # None where the module does not say

    def stand_in(self, site: int, masks: DropoutMasks) -> nn.Module:
        assert self.rate is not None
        if self.kind == "dropout":
            return RowDropout(self.rate, site, masks)
        if self.kind == "alpha dropout":
            return RowAlphaDropout(RowDropout(self.rate, site, masks))
        if self.kind == "alpha dropout of channels":
            return RowAlphaDropout(RowDrop(self.rate, site, masks, axes=2))
        axes = 2 if self.kind == "dropout of channels" else 1
        return RowDrop(self.rate, site, masks, axes=axes, scaled=getattr(self.module, "scale_by_keep", True))


def find_randomness(model: nn.Module, *, batch_norm: BatchNorm = "frozen") -> Sequence[Found]:
    """What a model draws beside dropout, where rows reach each other, and what becomes of it.

    Args:
        model: of any make.
        batch_norm: whether BatchNorm keeps its statistics, or takes those of each batch and so couples its rows.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout2d(0.1))
        >>> for found in find_randomness(model):
        ...     print(found.done, "-", found.sentence)
        from counters - dropout of channels 0.1 (1 place): drawn from seed, step and row
        frozen - BatchNorm (1 place): statistics are kept, 1 has none yet; scale and shift are trained
    """
    modules = list(model.named_modules())
    return [
        *_replaced(_places(modules)),
        *_switched_off(_settings(modules)),
        *_plain_in_evaluation(modules),
        *_normalised(_batch_norms(modules), batch_norm),
        *_refused(modules),
    ]


def refuse(found: Sequence[Found]) -> None:
    """Complain about what can be neither replaced nor switched off.

    Raises:
        OptionError: there is such a thing; all of them, each with a way out.
    """
    problems = [each.sentence for each in found if each.done == "refused"]
    if problems:
        raise OptionError("\n".join(problems))


@contextmanager
def settled_randomness(model: nn.Module, masks: DropoutMasks, *, batch_norm: BatchNorm = "frozen") -> Iterator[None]:
    """While this context lasts, the model does what `find_randomness` says; afterwards it is as it was.

    No parameter and no buffer changes its name, so weights may be taken and put back in the meantime.

    Args:
        model: of any make.
        masks: of this run.
        batch_norm: as in `find_randomness`.
    """
    modules = list(model.named_modules())
    with ExitStack() as stack:
        for site, place in enumerate(_places(modules), start=_FIRST_SITE):
            if place.rate:
                stack.callback(_swap(place, place.stand_in(site, masks)))
        for owner, name, value, switch in _settings(modules):
            setattr(owner, name, switch.off if switch.off is None else type(value)(switch.off))
            stack.callback(setattr, owner, name, value)
        norms = [norm for _, norm in _batch_norms(modules)]
        still = [module for _, module in _of_kind(modules, _PLAIN_IN_EVALUATION)]
        for module in [*still, *(norms if batch_norm == "frozen" else [])]:
            stack.callback(_in_evaluation(module))
        for norm in norms:
            stack.callback(norm.register_forward_hook(_right_gradient).remove)
        yield


def _swap(place: _Place, stand_in: nn.Module) -> Callable[[], None]:
    """Put a stand-in into a model; returns what takes it out."""
    stand_in.train(place.module.training)
    setattr(place.parent, place.name, stand_in)

    def undo() -> None:
        place.module.train(stand_in.training)
        setattr(place.parent, place.name, place.module)

    return undo


def _in_evaluation(module: nn.Module) -> Callable[[], None]:
    """Let a module compute as in evaluation, whatever `train` is called meanwhile; returns what ends that.

    By hooks of the module itself: a stand-in would have other names for its weights, and nobody need call the model as
    a whole.
    """
    were: list[bool] = []

    def before(module: nn.Module, _: Any) -> None:
        were.append(module.training)
        module.eval()

    def after(module: nn.Module, *_: Any) -> None:
        module.train(were.pop())

    hooks = [module.register_forward_pre_hook(before), module.register_forward_hook(after, always_call=True)]

    def undo() -> None:
        for hook in hooks:
            hook.remove()

    return undo


def _right_gradient(_: nn.Module, __: Any, output: Tensor) -> None:
    """Have BatchNorm's gradient begin with its channels, where it is that of a single row.

    With the channels last, as ``flatten(2).transpose(1, 2).contiguous()`` behind BatchNorm leaves it (LeViT, RT-DETR),
    torch 2.13 returns wrong gradients on the CPU, without a word.
    """
    if output.requires_grad and len(output) == 1:
        output.register_hook(lambda gradient: gradient.contiguous())  # type: ignore[no-untyped-call]


def _places(modules: Modules) -> list[_Place]:
    """Every module that is replaced, in the order of the model's own listing; a shared one wherever it stands."""
    return [
        _Place(kind, f"{above}.{name}".lstrip("."), parent, name, child, _rate(child))
        for above, parent in modules
        for name, child in parent._modules.items()  # unlike `named_children`, with those that have two names
        if child is not None and (kind := _kind(child)) and _rate(child) != 0.0
    ]


def _kind(module: nn.Module) -> str | None:
    """What a module drops; None where it drops nothing, or its elements as `torch.nn.Dropout` does."""
    name = type(module).__name__
    if name.endswith("DropPath") or name == "StochasticDepth":
        return "drop path"
    if isinstance(module, _CHANNELS):
        return "dropout of channels"
    if isinstance(module, nn.FeatureAlphaDropout):
        return "alpha dropout of channels"
    if isinstance(module, nn.AlphaDropout):
        return "alpha dropout"
    return "dropout" if name == "StableDropout" else None


def _rate(module: nn.Module) -> float | None:
    """The rate of a module that drops; None where it does not say."""
    rates = [getattr(module, name) for name in ("drop_prob", "p") if hasattr(module, name)]
    return float(rates[0] or 0.0) if rates else None


def _replaced(places: Sequence[_Place]) -> Iterator[Found]:
    for kind in dict.fromkeys(place.kind for place in places):
        rates = [(place.where, place.rate) for place in places if place.kind == kind and place.rate is not None]
        if not rates:
            continue
        lowest, highest = (f"{edge(rate for _, rate in rates):.3g}" for edge in (min, max))
        span = highest if lowest == highest else f"{lowest} to {highest}"
        where = tuple(name for name, _ in rates)
        by = "seed, step, row and position" if kind in ("dropout", "alpha dropout") else "seed, step and row"
        yield Found(kind, where, "from counters", f"{kind} {span} ({_many(where)}): drawn from {by}")


def _switched_off(settings: Sequence[_Setting]) -> Iterator[Found]:
    for switch in {switch.kind: switch for *_, switch in settings}.values():
        ours = [setting for setting in settings if setting[-1].kind == switch.kind]
        of_configs = [setting for setting in ours if not isinstance(setting[0], nn.Module)]  # what a user would set
        told = ", ".join(dict.fromkeys(f"{name}={value:g}" for _, name, value, _ in of_configs or ours))
        where = tuple(dict.fromkeys(name for _, name, _, _ in ours))
        yield Found(switch.kind, where, "off", f"{switch.kind} is off ({told}): {switch.why}")


def _settings(modules: Modules) -> list[_Setting]:
    """Every setting that makes the model draw; owners are modules and configs."""
    owners = [module for _, module in modules]
    configs = {id(config): config for module in owners if hasattr(config := vars(module).get("config"), "__dict__")}
    return [
        (owner, name, vars(owner)[name], switch)
        for owner in (*owners, *configs.values())
        for name, switch in _SWITCH_OF.items()
        if name in vars(owner) and switch.on(owner, vars(owner)[name])
    ]


def _plain_in_evaluation(modules: Modules) -> Iterator[Found]:
    found = _of_kind(modules, _PLAIN_IN_EVALUATION)
    for kind, plain in _PLAIN_IN_EVALUATION.items():
        where = tuple(name for name, module in found if type(module).__name__ == kind)
        if where:
            yield Found(kind, where, "off", f"{kind} ({_many(where)}) draws nothing: {plain}")


def _of_kind(modules: Modules, kinds: Mapping[str, str]) -> Modules:
    """Those whose class has one of these names."""
    return [(name, module) for name, module in modules if type(module).__name__ in kinds]


def _batch_norms(modules: Modules) -> Sequence[tuple[str, nn.modules.batchnorm._BatchNorm]]:
    """Those that normalise over the batch."""
    return [(name, module) for name, module in modules if isinstance(module, _BATCH_NORMS)]


def _normalised(norms: Sequence[tuple[str, Any]], batch_norm: BatchNorm) -> Iterator[Found]:
    kind = "BatchNorm"
    if norms and batch_norm == "train":
        where = tuple(name for name, _ in norms)
        yield Found(kind, where, "as it is", f"{kind} ({_many(where)}) couples rows: results depend on the micro-batch")
        return
    for name in [name for name, norm in norms if norm.running_mean is None]:
        problem = "keeps no statistics, so rows depend on their batch, in evaluation too; use track_running_stats=True"
        yield Found(kind, (name,), "refused", f"{name or 'the model'}: {kind} {problem}")
    found = [(name, norm) for name, norm in norms if norm.running_mean is not None]
    if found:
        yield _frozen(tuple(name for name, _ in found), [norm for _, norm in found])


def _frozen(where: tuple[str, ...], norms: Sequence[nn.modules.batchnorm._BatchNorm]) -> Found:
    new = sum(_without_statistics(norm) for norm in norms)
    told = f", {new} {'has' if new == 1 else 'have'} none yet" if new else ""
    trained = any(weight.requires_grad for norm in norms for weight in norm.parameters())
    more = "; scale and shift are trained" if trained else ""
    return Found("BatchNorm", where, "frozen", f"BatchNorm ({_many(where)}): statistics are kept{told}{more}")


def _without_statistics(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    """Whether they are as torch makes them; counts of batches are no help, as converted weights have none."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None or mean.is_meta:
        return False
    return not mean.any() and bool((variance == 1).all())


def _refused(modules: Modules) -> Iterator[Found]:
    for name, module in modules:
        kind = type(module).__name__
        problem = _problem(module, kind)
        if problem:
            yield Found(kind, (name,), "refused", f"{name or 'the model'}: {kind} {problem}")


def _problem(module: nn.Module, kind: str) -> str | None:
    """What a module does that nothing here can replace, and a way out."""
    if kind in _REFUSED and getattr(module, "hash_seed", None) is None:
        return _REFUSED[kind]
    if _kind(module) and _rate(module) is None:
        return "drops by a rate that is neither drop_prob nor p; name it so, or use torch.nn.Dropout"
    return None


def _many(where: Sequence[str]) -> str:
    return counted(len(where), "place")
