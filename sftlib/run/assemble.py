"""From options and data to the parts of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sftlib.arguments import Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.report import InputReport, TrainingReport, padding_share
from sftlib.encoders.text.unknown import UnknownSigns
from sftlib.errors import OptionError
from sftlib.models.adapters import adapt, described, following
from sftlib.models.checkpointing import can_checkpoint
from sftlib.models.device import resolve_device
from sftlib.models.frozen.freezing import freeze
from sftlib.models.precision import resolve_precision
from sftlib.models.sizes import count_parameters
from sftlib.models.sources import ModelSource
from sftlib.run.fitted import Fitted
from sftlib.run.rates import rates_of
from sftlib.run.settle import settled
from sftlib.run.supervision import with_supervision
from sftlib.support.display import counted
from sftlib.support.redaction import redacted
from sftlib.tasks.base import Task
from sftlib.tasks.plan import Plan
from sftlib.train.comm import open_comm
from sftlib.train.plan import Budget, ShuffledPlan

_MANY = 0.01  # share of the rows with inputs that nothing is made of from which it is said at the start


def assemble(arguments: Arguments, source: ModelSource, task: Task) -> Fitted:
    """Build the model and all it needs.

    Raises:
        ArtifactError: the model or its encoder cannot be opened.
        OptionError: the model does not fit the task or the options.
    """
    encoder = task.open(arguments.reading(task), source)
    if encoder.mixes and not task.mixes:
        raise OptionError(
            f"inputs=Image(mixup=..., cutmix=...): a picture in which another one is seen has a share of two targets, "
            f"which {task.name}{' with few_shot=' * bool(arguments.few_shot)} cannot learn from; leave them out"
        )
    source = source.reading(encoder.vocabulary, encoder.facts.get("max_length"))
    # An adapter stands on the model as it lies elsewhere, to which no layer may be added.
    alone = arguments.adapter is None
    model = task.build(source, dropout=arguments.dropout, seed=arguments.seed, pooled=alone)
    new_rows = encoder.settle(model, markers=task.markers, seed=arguments.seed)
    drawn = frozenset(task.attach(model, encoder, seed=arguments.seed)) | source.drawn
    if not count_parameters(model)[0]:
        raise OptionError(f"model={source.name}: it has no parameter that can be trained (requires_grad)")
    freeze(model, arguments.freeze, look=lambda: encoder.calling(model)(model, encoder.smallest()))
    adapter, moved = following(arguments.adapter, model, task.head)
    adapt(
        model,
        adapter,
        head=task.head.auto_class,
        drawn=drawn,
        new_rows=new_rows,
        seed=arguments.seed,
    )
    task.prepare(model, encoder)
    device = resolve_device(arguments.device)
    precision = resolve_precision(arguments.precision, device=device, model=model)
    asked, whole = arguments.learning_rate, source.usual_rate or task.head.rate
    rates = rates_of(
        model,
        None if isinstance(asked, str) else asked,
        head=arguments.head_learning_rate,
        decay=arguments.layer_decay,
        adapted=arguments.adapter is not None,
        whole=whole,
        attached=task.attached,
        new=drawn if task.head_alone and whole is None else (),
    )
    settings: dict[str, Any] = redacted(
        {
            **arguments.plain_values(),
            "model": source.name,
            "task": task.name,
            "max_length": encoder.facts.get("max_length"),
            "device": str(device),
            "precision": precision.name,
            "adapter": described(arguments.adapter),
            "learning_rate": rates.whole,
            "head_learning_rate": rates.head,
        }
    )
    return Fitted(
        task,
        model if arguments.quantize else model.to(device),
        encoder,
        precision,
        device,
        settings,
        drawn=drawn,
        told=[*source.told, *([moved] if moved else [])],
        lost=[*source.lost, *([moved] if moved else [])],
        comm=open_comm(),
        peaks=rates.own,
    )


def plan_of(arguments: Arguments, task: Task, encoded: Encoded) -> Plan:
    """Which rows make up which optimizer step."""
    size, seed = arguments.batch_size, arguments.seed
    own = task.plan(encoded, batch_size=size, seed=seed)
    return ShuffledPlan(len(encoded), batch_size=size, seed=seed) if own is None else own


def steps_of(arguments: Arguments, plan: Plan) -> int:
    """Optimizer steps of a run."""
    return arguments.max_steps or arguments.epochs * plan.steps_per_epoch


def training_budget(arguments: Arguments, fitted: Fitted) -> Budget:
    """What fits into one pass of training: as many rows as asked for, or as much as memory allows for this layout."""
    if isinstance(arguments.micro_batch_size, int):
        return Budget(arguments.micro_batch_size, 2**62)
    twice = fitted.settings.get("checkpointing") is True
    room = _room(fitted, checkpointing=twice)
    return Budget(arguments.batch_size, room, flat=fitted.layout is not None and fitted.layout.flat)


def _room(fitted: Fitted, *, checkpointing: bool) -> int:
    return fitted.encoder.room(fitted.model, fitted.device, checkpointing=checkpointing, parts=fitted.held.parts)


def with_checkpointing(arguments: Arguments, fitted: Fitted, encoded: Encoded) -> Fitted:
    """The same, decided whether layers are to compute twice what they would have to keep.

    Raises:
        OptionError: it is asked for, and the model cannot.
    """
    asked, able = arguments.checkpointing, can_checkpoint(fitted.model)
    if asked is True and not able:
        raise OptionError(f"checkpointing=True: {type(fitted.model).__name__} does not support it; leave it 'auto'")
    if asked == "auto":
        largest = int(encoded.cost.max(initial=0))
        asked = able and largest > _room(fitted, checkpointing=False)
    return replace(fitted, settings={**fitted.settings, "checkpointing": bool(asked)})


def training_report(
    arguments: Arguments, fitted: Fitted, train: TaskDataset, valid: TaskDataset | None, encoded: Encoded
) -> TrainingReport:
    """What can be known about the data of a run before its first step.

    Args:
        arguments: the options.
        fitted: settled, without what is only known of rows.
        train: training rows.
        valid: validation rows, if there are any.
        encoded: the training rows, as the model reads them.
    """
    learned = with_supervision(fitted.task, encoded)
    fitted = settled(with_checkpointing(arguments, fitted, learned), learned)
    budget, plan = training_budget(arguments, fitted), plan_of(arguments, fitted.task, learned)
    passes = (part for step in range(plan.steps_per_epoch) for part in budget.cut(plan.rows(step), learned.cost))
    others, unit = None if valid is None else fitted.encode(valid), fitted.encoder.unit
    return TrainingReport(
        data=train.report(_comparable(train, valid)),
        train=InputReport.of(encoded, fitted.task.shortened(encoded), unit),
        valid=None if others is None else InputReport.of(others, fitted.task.shortened(others), unit),
        max_length=fitted.encoder.facts.get("max_length"),
        batch_size=arguments.batch_size,
        steps=steps_of(arguments, plan),
        padding=0.0 if budget.flat else padding_share(learned.cost, passes),
        unknown=unknown_signs(fitted, train),
    )


def opening_lines(
    fitted: Fitted, train: TaskDataset, encoded: Encoded, steps: int, valid: TaskDataset | None
) -> Sequence[str]:
    """What to say before the first step: what is trained, on what, how; and what is wrong with the data."""
    trained, total = count_parameters(fitted.model)
    rows = counted(len(train), "row") + (f" (+ {len(valid):,} valid)" if valid is not None else "")
    lines = [
        f"{fitted.task.name}: {type(fitted.model).__name__} on {fitted.device} in {fitted.precision.name} "
        f"({fitted.precision.reason}), {_layout(fitted)}; "
        f"{trained:,} of {total:,} parameters trained{_share(fitted, trained / total)}; "
        f"{rows}, {counted(steps, 'step')}, peak rate {fitted.settings['learning_rate']:.2g}{_of_head(fitted)}"
    ]
    found = InputReport.of(encoded, fitted.task.shortened(encoded), fitted.encoder.unit)
    suspects = fitted.encoder.suspects(encoded)
    signs = unknown_signs(fitted, train, suspects.tolist()) if len(suspects) else ()
    told = [unknown.sentence for unknown in signs if unknown.learned or unknown.rows >= _MANY * len(train)]
    problems = train.report(_comparable(train, valid)).problems
    found_too = found.sentences(fitted.encoder.limit, "")
    return [*lines, *told, *fitted.task.said(train, valid), *problems, *found_too]


def unknown_signs(fitted: Fitted, data: TaskDataset, rows: Sequence[int] | None = None) -> tuple[UnknownSigns, ...]:
    """What the encoder makes nothing of in each role that holds texts, what is learned first.

    Args:
        fitted: with the encoder.
        data: the rows.
        rows: the only ones to look at, by number; all of them when None.
    """
    found = []
    alone = data.is_labelled and not data.targets  # rows that supervise themselves: what is read is learned
    for learned in (True, False):
        for role, kind in data.kinds.items():
            if not kind.holds_texts:
                continue
            view = data.view(role)
            pairs = enumerate(view) if rows is None else ((row, view[row]) for row in rows)
            pick = kind.learned_texts if learned else kind.texts
            texts = ((row, text) for row, value in pairs for text in pick(value))
            name = f"{role} (learned)" if learned and kind.may_lack_target else role
            is_learned = learned or (alone and not kind.may_lack_target)
            found.append(fitted.encoder.unknown(name, texts, learned=is_learned, of=len(data)))
    return tuple(signs for signs in found if signs is not None)


def _comparable(train: TaskDataset, valid: TaskDataset | None) -> TaskDataset | None:
    """Validation rows with the inputs of the training rows: others, such as pairs of them, cannot be compared."""
    return valid if valid is not None and valid.main_inputs == train.main_inputs else None


def _layout(fitted: Fitted) -> str:
    refused = fitted.layout.refused if fitted.layout else ""
    return f"{fitted.settings['layout']}{f' (end to end: {refused:.100})' if refused else ''}"


def _of_head(fitted: Fitted) -> str:
    rate = fitted.settings["head_learning_rate"]
    return "" if rate is None else f" ({rate:.2g} of the head)"


def _share(fitted: Fitted, share: float) -> str:
    adapter = fitted.settings["adapter"]
    return f" ({share:.2%}: {adapter:.80})" if adapter else ""
