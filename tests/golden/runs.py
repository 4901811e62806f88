"""The runs whose numbers the goldens hold, and how they are made: through the public front alone.

Nothing here may import the insides of the package: these runs have to say the same before and after the insides move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sftlib import (
    CausalLM,
    FineTuner,
    Generation,
    LoRA,
    MaskedLM,
    MultiLabelClassification,
    QuestionAnswering,
    RelationExtraction,
    Seq2Seq,
    TaskDataset,
    TextClassification,
    TextEmbedding,
    TextRegression,
    TokenClassification,
)
from sftlib.testing import tiny_model, tiny_tokenizer
from tests.golden.rows import INPUTS, TEXTS, data_of
from tests.golden.values import shown

STEPS, BATCH_SIZE = 5, 8  # of 32 rows: the fifth step is the first of a second epoch
CUTS = (8, 2)  # rows of a pass: a step is one pass, or four
EVALUATED = 12  # rows

Options = Mapping[str, Any]

TASKS: dict[str, Callable[..., Any]] = {
    "text-classification": TextClassification,
    "multi-label-classification": MultiLabelClassification,
    "text-regression": TextRegression,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
    "relation-extraction": RelationExtraction,
    "seq2seq": Seq2Seq,
    "causal-lm": CausalLM,
    "masked-lm": MaskedLM,
    "text-embedding": TextEmbedding,
}
_RENAMED = {"embedding_loss": "objective", "embedding_scale": "scale", "embedding_margin": "margin"}

# A template that the tiny vocabulary can write: the end of a turn is the end of text.
_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}[SEP]{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def tuner_for(model: Any, *, task: str, task_options: Options, **options: Any) -> FineTuner:
    """A tuner; the only place that knows how options of a task are handed to it.

    Args:
        model: a model, or its folder.
        task: its name.
        task_options: those that shape it, as version 0.1 called them, such as ``embedding_loss``.
        options: all others.
    """
    own = {_RENAMED.get(name, name): value for name, value in task_options.items()}
    return FineTuner(model, task=TASKS[task](**own), **options)


class Words(nn.Module):
    """A model that transformers does not know."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.words = nn.Embedding(300, 16)
            self.drop = nn.Dropout(0.1)
            self.layer = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask[..., None].float()
        scores: Tensor = self.layer(self.drop((self.words(input_ids) * mask).sum(1) / mask.sum(1)))
        return scores


@dataclass(frozen=True)
class Kind:
    """What a task's models are.

    Attributes:
        auto_class: of transformers.
        outputs: width of the head; 0 where the task needs none.
        families: of `sftlib.testing`: two of them, as unlike as the task allows.
        task_options: of every run.
    """

    auto_class: str
    outputs: int
    families: tuple[str, ...]
    task_options: Options = field(default_factory=dict)


_ROWS = "AutoModelForSequenceClassification"
_ANSWERS = {"generation": Generation(max_new_tokens=6)}  # of models that have learned nothing: short ones will do

#: Tasks that version 0.1 did not have, so that there is nothing of it to hold them to.
LATER = {
    "audio-classification",
    "audio-embedding",
    "speech-recognition",
    "image-classification",
    "multi-label-image-classification",
    "image-regression",
    "image-embedding",
    "semantic-segmentation",
    "object-detection",
    "sequence-classification",
    "multi-label-sequence-classification",
    "sequence-regression",
    "residue-classification",
    "contact-prediction",
}

KINDS: dict[str, Kind] = {
    "text-classification": Kind(_ROWS, 3, ("bert", "gpt2")),
    "multi-label-classification": Kind(_ROWS, 3, ("bert", "llama")),
    "text-regression": Kind(_ROWS, 1, ("roberta", "gpt2")),
    "token-classification": Kind("AutoModelForTokenClassification", 4, ("bert", "gpt2")),
    "question-answering": Kind("AutoModelForQuestionAnswering", 2, ("distilbert", "gpt2")),
    "relation-extraction": Kind(_ROWS, 3, ("bert", "gpt2")),
    "seq2seq": Kind("AutoModelForSeq2SeqLM", 0, ("t5", "bart"), _ANSWERS),
    "causal-lm": Kind("AutoModelForCausalLM", 0, ("gpt2", "llama"), _ANSWERS),
    "masked-lm": Kind("AutoModelForMaskedLM", 0, ("bert", "modernbert")),
    "text-embedding": Kind("AutoModel", 0, ("bert", "gpt2")),
}


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        task: its name.
        family: of the model.
        rows: the set of `tests.golden.rows`; the task's own when empty.
        task_options: beside those of the kind.
        options: beside those of all.
        cuts: rows of a pass; one run each.
        model: makes the model; a tiny one of the family when None.
        template: whether the tokenizer gets one for conversations.
        inputs: of `predict`; those of the task when None.
    """

    task: str
    family: str
    rows: str = ""
    task_options: Options = field(default_factory=dict)
    options: Options = field(default_factory=dict)
    cuts: tuple[int, ...] = CUTS
    model: Callable[[], nn.Module] | None = None
    template: bool = False
    inputs: Sequence[Any] | None = None

    def start(self) -> nn.Module:
        """The model that is tuned."""
        kind = KINDS[self.task]
        make = self.model or (lambda: tiny_model(self.family, kind.outputs, auto_class=kind.auto_class))
        return make()

    def fitted(self, cut: int, *, valid: TaskDataset | None = None) -> FineTuner:
        """The tuner after the run.

        Args:
            cut: rows of a pass.
            valid: rows that are evaluated on the way.
        """
        tokenizer = tiny_tokenizer(self.family)
        if self.template:
            tokenizer.chat_template = _TEMPLATE
        options = {
            "tokenizer": tokenizer,
            "max_steps": STEPS,
            "batch_size": BATCH_SIZE,
            "micro_batch_size": cut,
            "learning_rate": 1e-3,
            "precision": "fp32",
            "device": "cpu",
            "seed": 7,
            **self.options,
        }
        task_options = {**KINDS[self.task].task_options, **self.task_options}
        tuner = tuner_for(self.start(), task=self.task, task_options=task_options, **options)
        return tuner.fit(data_of(self.rows or self.task, self.task), valid, progress=False)

    def numbers(self) -> dict[str, Any]:
        """Everything that is held of it, as JSON values."""
        found: dict[str, Any] = {"start": size_of(self.start()).hex(), "cuts": {}}
        for cut in self.cuts:
            tuner = self.fitted(cut)
            found["cuts"][f"{cut}x{BATCH_SIZE // cut}"] = course_of(tuner)
            if cut == self.cuts[0]:  # of the others the digest of the weights says as much
                metrics = tuner.evaluate(data_of(self.rows or self.task, self.task, EVALUATED))
                found["metrics"] = {name: float(value).hex() for name, value in metrics.items()}
                found["predictions"] = predictions_of(tuner, self.task, self.inputs)
        return found


def course_of(tuner: FineTuner) -> dict[str, Any]:
    """Loss and norm of the gradient of each step, and what became of the weights."""
    steps = tuner.history.steps
    return {
        "losses": [float(record["loss"]).hex() for record in steps],
        "grad_norms": [float(record["grad_norm"]).hex() for record in steps],
        "size": size_of(tuner.model).hex(),
        "digest": digest_of(tuner.model),
    }


def predictions_of(tuner: FineTuner, task: str, inputs: Sequence[Any] | None = None) -> list[Any]:
    """What the tuner says to inputs; to those of the task when None."""
    return [shown(prediction, task) for prediction in tuner.predict(INPUTS[task] if inputs is None else inputs)]


def digest_of(model: nn.Module) -> str:
    """Hex SHA-256 over names and raw bytes of all weights, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def size_of(model: nn.Module) -> float:
    """The length of all weights as one vector: what can be compared where bits cannot."""
    squares = [float(value.detach().double().square().sum()) for _, value in sorted(model.state_dict().items())]
    return sum(squares) ** 0.5


def _plain_runs() -> dict[str, Run]:
    """Every task in two families, as it comes."""
    return {
        f"{task} {family}": Run(task, family, cuts=CUTS[:1] if task == "text-embedding" else CUTS)
        for task, kind in KINDS.items()
        for family in kind.families
    }


_CLASSES, _TAGS, _WHOLE = "text-classification", "token-classification", CUTS[:1]
_SMALL = {"max_length": 16}  # of texts up to some 40 tokens
_DRAWN = Generation(max_new_tokens=8, temperature=1.0, top_k=50, top_p=0.9, seed=3)
_BEAMS = Generation(max_new_tokens=6, beams=3, length_penalty=2.0)

_VARIANTS: dict[str, Run] = {
    "pairs": Run(_CLASSES, "bert", "pairs", inputs=[("a", "b c"), (TEXTS[6], TEXTS[3])]),
    "lora": Run(_CLASSES, "bert", options={"adapter": LoRA(r=4)}),
    "lora of a decoder": Run("causal-lm", "llama", options={"adapter": LoRA(r=4, dropout=0.1)}),
    "frozen backbone": Run(_CLASSES, "bert", options={"freeze": "backbone"}),
    "one frozen layer": Run(_CLASSES, "gpt2", options={"freeze": 1}),
    "padded": Run(_CLASSES, "bert", options={"padding_free": False}),
    "padding-free": Run(_CLASSES, "bert", options={"padding_free": True}),
    "padded decoder": Run(_CLASSES, "llama", options={"padding_free": False}),
    "padding-free decoder": Run(_CLASSES, "llama", options={"padding_free": True}),
    "own attention": Run(_CLASSES, "deberta-v2", cuts=_WHOLE),
    "checkpointing": Run(_CLASSES, "bert", options={"checkpointing": True}, cuts=_WHOLE),
    "clipped, cosine": Run(
        _CLASSES, "bert", options={"max_grad_norm": 0.1, "schedule": "cosine", "warmup": 2}, cuts=_WHOLE
    ),
    "truncated": Run(_CLASSES, "bert", options=_SMALL, cuts=_WHOLE),
    "balanced": Run(_CLASSES, "bert", task_options={"class_weights": "balanced"}),
    "weighted and smoothed": Run(
        _CLASSES,
        "gpt2",
        task_options={"class_weights": {"bad": 1.0, "good": 0.5, "so-so": 2.0}, "label_smoothing": 0.1},
    ),
    "plain module": Run(_CLASSES, "bert", options={"max_length": 40}, model=Words),
    "huber": Run("text-regression", "roberta", task_options={"huber_delta": 0.3}),
    "windows of words": Run(_TAGS, "bert", task_options={"stride": 4}, options=_SMALL),
    "windows of words, weighted": Run(
        _TAGS, "bert", task_options={"class_weights": "balanced", "label_smoothing": 0.1}, options=_SMALL
    ),
    "windows of contexts": Run(
        "question-answering",
        "distilbert",
        task_options={"stride": 3, "max_answer_length": 4},
        options={"max_length": 24},
    ),
    "relations, another negative": Run(
        "relation-extraction", "bert", task_options={"negative_label": "part_of", "label_smoothing": 0.1}, cuts=_WHOLE
    ),
    "conversations": Run("causal-lm", "llama", "conversations", cuts=_WHOLE, template=True),
    "conversations, last turn": Run(
        "causal-lm", "llama", "conversations", task_options={"train_on": "last"}, template=True
    ),
    "conversations, every token": Run(
        "causal-lm", "gpt2", "conversations", task_options={"train_on": "all"}, cuts=_WHOLE, template=True
    ),
    "plain texts, split": Run(
        "causal-lm",
        "gpt2",
        "texts",
        task_options={"over_long": "split", "train_on": "all", "label_smoothing": 0.1},
        options=_SMALL,
        inputs=["a", "b c"],
    ),
    "completions, split": Run("causal-lm", "llama", task_options={"over_long": "split"}, options=_SMALL, cuts=_WHOLE),
    "drawn answers": Run("causal-lm", "gpt2", task_options={"generation": _DRAWN}, cuts=_WHOLE),
    "beams": Run("seq2seq", "bart", task_options={"generation": _BEAMS}, cuts=_WHOLE),
    "short targets": Run("seq2seq", "t5", task_options={"max_target_length": 4}, cuts=_WHOLE),
    "smoothed targets": Run("seq2seq", "bart", task_options={"label_smoothing": 0.2}, cuts=_WHOLE),
    "an encoder and a decoder": Run("seq2seq", "encoder-decoder", cuts=_WHOLE),
    "more gaps": Run("masked-lm", "bert", task_options={"mask_probability": 0.4}, cuts=_WHOLE),
    "in-batch, scaled": Run("text-embedding", "bert", task_options={"embedding_scale": 5.0}, cuts=_WHOLE),
    "in-batch with negatives": Run("text-embedding", "bert", "triplets", cuts=_WHOLE),
    "triplets": Run(
        "text-embedding",
        "bert",
        "triplets",
        task_options={"embedding_loss": "triplet", "embedding_margin": 0.4},
        cuts=_WHOLE,
    ),
    "cosine": Run("text-embedding", "bert", "scored", task_options={"embedding_loss": "cosine"}, cuts=_WHOLE),
}

#: Name -> run; those of tasks as they come first.
RUNS: dict[str, Run] = {**_plain_runs(), **_VARIANTS}
