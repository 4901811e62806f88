"""Adapters: what is trained, what stays, and that the ways of the library hold with them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftlib import Callback, FineTuner, LoRA, TaskDataset
from sftlib.errors import MissingExtraError, OptionError
from sftlib.models import memory
from sftlib.models.adapters import (
    SavedAdapter,
    adapt,
    adapter_off,
    adapter_settings,
    adapter_weights,
    base_digest,
    merged,
    without_adapter,
)
from sftlib.models.dropout import DropoutMasks, RowDropout, row_dropout
from sftlib.models.sizes import typical_width
from sftlib.models.structure import body_of
from sftlib.run.assemble import assemble
from sftlib.run.settle import settled
from sftlib.tasks import find_task
from sftlib.testing import FAMILIES, tiny_model, tiny_tokenizer
from tests.contracts.cases import NAMES, case_of, having, losses, same_weights, tuner_for, weights

peft = pytest.importorskip("peft")

NAME = "text-classification"
SMALL = LoRA(r=4, dropout=0.2)
TEXTS = ["A wonderful film.", "dull", "I hated the noise, and every minute of it was too long!"]


def adapted(family: str = "bert", adapter: Any = "lora", *, new_rows: Sequence[int] = (), **options: Any) -> Any:
    """A tiny model with an adapter that is away from where it began."""
    model = tiny_model(family, **options)
    model.config.pad_token_id = 0
    if new_rows:
        model.resize_token_embeddings(max(new_rows) + 1, mean_resizing=False)
    adapt(model, adapter, head="AutoModelForSequenceClassification", drawn=(), new_rows=new_rows, seed=0)
    return shaken(model).eval()


def shaken(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def scores(model: Any) -> Tensor:
    ids = torch.tensor([[2, 40, 60, 80, 3], [2, 50, 3, 0, 0]])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=(ids > 0).long()).logits  # type: ignore[no-any-return]


def fit(name: str = NAME, family: str | None = None, **options: Any) -> FineTuner:
    given = {"adapter": SMALL, "max_steps": 4, "batch_size": 8, **options}
    return tuner_for(name, family, **given).fit(case_of(name).data(), progress=False)


# What may be given.


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("lara", "expected 'lora', LoRA"),
        (16, "expected 'lora', LoRA"),
        ({"r": 8}, "expected 'lora', LoRA"),
        (LoRA, "not the class"),
        (peft.LoraConfig, "not the class"),
        (peft.PromptTuningConfig(), "adds tokens to the input"),
        (peft.VeraConfig(), "known: LORA, IA3, LOHA, LOKR"),
        (peft.LoraConfig(bias="all"), r"bias='all'.*would change the base"),
        (peft.LoraConfig(init_lora_weights="pissa"), r"init_lora_weights='pissa'.*would change the base"),
        (peft.LoraConfig(layer_replication=[(0, 2)]), "layer_replication"),
        (peft.LoraConfig(rank_pattern={"(a+)+$": 4}), "rank_pattern"),
    ],
    ids=repr,
)
def test_anything_else_is_refused(value: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        FineTuner(tiny_model(), adapter=value)


def test_values_of_lora_are_refused_all_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        LoRA(r=0, alpha=-1, dropout=1, targets="query", rslora=3)  # type: ignore[arg-type]
    for option in ("r=0", "alpha=-1", "dropout=1", "targets='query'", "rslora=3"):
        assert option in str(caught.value)


def test_what_does_not_fit_the_model_is_an_option_error() -> None:
    data = case_of(NAME).data()
    for adapter, said in [
        (LoRA(targets=["quary"]), "does not fit BertForSequenceClassification"),
        (peft.LoraConfig(target_modules="(unclosed"), "no regular expression"),
        (peft.LoraConfig(target_modules=["LayerNorm"]), "does not fit"),
    ]:
        with pytest.raises(OptionError, match=said):
            tuner_for(NAME, adapter=adapter).fit(data, progress=False)


def test_without_peft_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    FineTuner(tiny_model())
    for adapter in ("lora", LoRA(r=2)):
        with pytest.raises(MissingExtraError, match=r"pip install 'sftlib\[lora\]'"):
            FineTuner(tiny_model(), adapter=adapter)


def test_options_come_back_as_given() -> None:
    config = peft.LoraConfig(r=2, target_modules=["query"])
    for adapter in (None, "lora", SMALL, config):
        tuner = tuner_for(NAME, adapter=adapter)
        assert tuner.get_params()["adapter"] is adapter
        assert tuner.clone().get_params()["adapter"] is adapter
    tuner_for(NAME, adapter=config, max_steps=1).fit(case_of(NAME).data(), progress=False)
    assert config.target_modules == {"query"}, "a user's config is not changed"
    assert config.modules_to_save is None


def test_an_adapter_wants_a_higher_learning_rate() -> None:
    data = case_of(NAME).data()
    for adapter, rate in ((None, 2e-4), ("lora", 1e-3)):
        tuner = FineTuner(case_of(NAME).model(), tokenizer=tiny_tokenizer(), adapter=adapter, max_steps=1, warmup=0)
        assert tuner.fit(data, progress=False).history.steps[0]["learning_rate"] == rate
        assert tuner.settings["learning_rate"] == rate


# What is trained.


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_of_the_body_gets_one_and_the_head_is_trained_whole(family: str) -> None:
    model = adapted(family)
    plain = tiny_model(family)
    body = plain.base_model_prefix
    linear = {
        name
        for name, module in plain.named_modules()
        if name.startswith(f"{body}.") and type(module).__name__ in ("Linear", "Conv1D")
    }
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.partition(".lora_")[0] for name in trained if ".lora_" in name} == linear
    head = {name for name, _ in plain.named_parameters() if not name.startswith(f"{body}.")}
    assert {name.replace(".modules_to_save.default", "") for name in trained if ".lora_" not in name} == head


def test_nothing_else_has_an_optimizer_state(monkeypatch: pytest.MonkeyPatch) -> None:
    from sftlib.run import prepare as fitting

    made: list[Any] = []
    original = fitting.make_optimizer
    monkeypatch.setattr(fitting, "make_optimizer", lambda *a, **k: made.append(original(*a, **k)) or made[-1])
    tuner = fit()
    trained = [p for p in tuner.model.parameters() if p.requires_grad]
    assert len(made[0].state) == len(trained)
    assert sum(p.numel() for p in trained) < 0.2 * sum(p.numel() for p in tuner.model.parameters())


@pytest.mark.parametrize(("name", "family"), having(("bert", "gpt2")))
def test_the_base_is_not_touched_by_training(name: str, family: str) -> None:
    tuner = fit(name, family, learning_rate=1e-2)
    model: Any = tuner.model
    base = without_adapter(model).state_dict()
    given = case_of(name).model(family).state_dict()
    attached = tuple(f"{child}." for child in case_of(name).tasks[0].attached)  # by the task: no part of what was given
    assert {weight for weight in base if not weight.startswith(attached)} == given.keys()
    heads = list(model.peft_config["default"].modules_to_save or ())
    for weight, value in given.items():
        if not any(part in weight for part in heads):  # what is new was drawn anew
            assert torch.equal(base[weight][: len(value)], value), weight  # below may be rows of new tokens
    assert any(p.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n), "and the adapter has moved"


def test_what_a_checkpoint_lacks_is_trained_and_saved(tmp_path: Path) -> None:
    """A body without its pooler, as after training to fill in words: random weights must not stay random."""
    from transformers import AutoModelForMaskedLM

    with torch.random.fork_rng():
        model = AutoModelForMaskedLM.from_config(tiny_model().config)
    model.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    tuner = FineTuner(tmp_path / "base", adapter=SMALL, max_steps=2, precision="fp32").fit(
        case_of(NAME).data(), progress=False
    )
    trained = {name for name, p in tuner.model.named_parameters() if p.requires_grad and "pooler" in name}
    assert {name.partition(".modules_to_save")[0] for name in trained} == {"bert.pooler.dense"}
    tuner.save(tmp_path / "adapter")
    again = FineTuner.load(tmp_path / "adapter", model=tmp_path / "base")
    assert again.predict(TEXTS) == tuner.predict(TEXTS)


def test_a_part_whose_parts_end_alike_is_trained_and_saved(tmp_path: Path) -> None:
    """Of a body alone, where ``embeddings`` is a whole name and ``embeddings.word_embeddings`` ends alike."""
    config = peft.LoraConfig(r=4, target_modules=["query"], modules_to_save=["embeddings"])
    tuner = fit("text-embedding", adapter=config)
    trained = {name.partition(".modules_to_save")[0] for name, p in tuner.model.named_parameters() if p.requires_grad}
    parts = ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")
    assert {name for name in trained if "lora" not in name} == {f"embeddings.{part}" for part in parts}
    tuner.save(tmp_path / "adapter")
    again = FineTuner.load(tmp_path / "adapter", model=case_of("text-embedding").model())
    assert same_weights(weights(again), weights(tuner))


def test_a_part_that_cannot_be_told_from_its_parts_is_refused() -> None:
    config = peft.LoraConfig(r=4, target_modules=["query"], modules_to_save=["embeddings"])
    with pytest.raises(OptionError, match=r"'embeddings' cannot be trained whole"):
        fit("image-embedding", adapter=config)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2"])
def test_a_body_alone_has_no_head(family: str) -> None:
    """Nothing that it was trained with is taken for a head, which would be trained whole and saved."""
    model: Any = tiny_model(family, auto_class="AutoModel")
    assert body_of(model) is None
    adapt(model, SMALL, head="AutoModel", drawn=(), new_rows=(), seed=0)
    assert not model.peft_config["default"].modules_to_save
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_it_begins_as_the_base_and_the_seed_decides() -> None:
    plain = tiny_model()
    models = []
    for seed in (0, 0, 1):
        model = copy.deepcopy(plain)
        before = torch.get_rng_state()
        adapt(model, SMALL, head="x", drawn=(), new_rows=(), seed=seed)
        assert torch.equal(torch.get_rng_state(), before), "the user's generator is left alone"
        assert torch.equal(scores(model.eval()), scores(plain))
        models.append(adapter_weights(model))
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_frozen_layers_get_none_and_are_computed_once(capsys: pytest.CaptureFixture[str]) -> None:
    tuner = tuner_for(NAME, adapter=SMALL, freeze=1, max_steps=4, batch_size=8)
    tuner.fit(case_of(NAME).data())
    printed = "".join(capsys.readouterr())
    assert "frozen layers are computed once for each row" in printed
    assert "%: LoRA(r=4" in printed
    layers = {name.partition(".lora_")[0] for name, _ in tuner.model.named_parameters() if ".lora_" in name}
    assert layers
    assert not any(".layer.0." in name or ".embeddings." in name for name in layers)
    head = fit(freeze=["classifier"])
    assert not any(p.requires_grad for name, p in head.model.named_parameters() if "classifier" in name)
    with pytest.raises(OptionError, match="leaves no layer"):
        tuner_for(NAME, adapter="lora", freeze="backbone")
    with pytest.raises(OptionError, match="every linear layer is frozen"):
        fit(freeze=["bert"])


def test_a_module_of_ones_own_names_its_layers(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.words, self.middle = nn.Embedding(300, 16), nn.Linear(16, 16)
                self.head = nn.Linear(16, 3)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            mask = attention_mask[..., None].float()
            return self.head(torch.tanh(self.middle((self.words(input_ids) * mask).sum(1))))  # type: ignore[no-any-return]

    data = case_of(NAME).data()
    with pytest.raises(OptionError, match="cannot be told from its head"):
        FineTuner(Own(), tokenizer=tiny_tokenizer(), adapter="lora").fit(data, progress=False)
    config = peft.LoraConfig(r=2, target_modules=["middle"], modules_to_save=["head"])
    tuner = FineTuner(Own(), tokenizer=tiny_tokenizer(), adapter=config, max_steps=3).fit(data, progress=False)
    tuner.save(tmp_path / "adapter")
    assert FineTuner.load(tmp_path / "adapter", model=Own()).predict(TEXTS) == tuner.predict(TEXTS)
    plain = tuner.merge()
    assert type(plain.model.middle) is nn.Linear


# Kinds of adapters.

CONFIGS = {
    "rslora": LoRA(r=4, rslora=True, targets=("query", "value")),
    "peft's own targets": peft.LoraConfig(r=2),
    "a regular expression": peft.LoraConfig(r=2, target_modules=r".*\.layer\.1\..*(query|key)"),
    "all-linear": peft.LoraConfig(r=2, target_modules="all-linear"),
    "dora": peft.LoraConfig(r=2, use_dora=True, target_modules=["query", "dense"]),
    "ranks by name": peft.LoraConfig(r=2, target_modules=["query"], rank_pattern={"layer.0.attention.self.query": 1}),
    "an embedding": peft.LoraConfig(r=2, target_modules=["query", "word_embeddings"]),
    "an embedding as a whole": peft.LoraConfig(r=2, target_modules=["query"], modules_to_save=["embeddings"]),
    "some tokens": peft.LoraConfig(r=2, trainable_token_indices=[7, 9]),
    "IA3": peft.IA3Config(),
    "LoHa": peft.LoHaConfig(r=2, target_modules=["query"]),
    "LoKr": peft.LoKrConfig(r=2, target_modules=["query"]),
}


@pytest.mark.parametrize("adapter", CONFIGS.values(), ids=CONFIGS)
def test_every_kind_keeps_its_promises(adapter: Any, tmp_path: Path) -> None:
    plain = tiny_model()
    model = adapted(adapter=adapter)
    there = scores(model)
    assert not torch.equal(there, scores(plain))
    with adapter_off(model):
        assert torch.equal(scores(model), scores(plain))
    assert torch.equal(scores(model), there)
    assert torch.equal(scores(without_adapter(model)), scores(plain))
    alone = merged(model)
    assert torch.allclose(scores(alone), there, rtol=0, atol=1e-6)
    assert {type(part).__module__.partition(".")[0] for part in alone.modules()} <= {"torch", "transformers"}
    assert alone.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(scores(model), there), "neither copy changed it"

    data, case = case_of(NAME).data(), case_of(NAME)
    tuner = FineTuner(case.model(), tokenizer=tiny_tokenizer(), adapter=adapter, max_steps=2, learning_rate=1e-2)
    tuner.fit(data, progress=False).save(tmp_path / "adapter")
    again = FineTuner.load(tmp_path / "adapter", model=case.model())
    assert torch.equal(scores(again.model), scores(tuner.model))
    base: Any = without_adapter(tuner.model)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert torch.equal(scores(theirs), scores(tuner.model))


@pytest.mark.parametrize("auto_class", ["AutoModelForSequenceClassification", "AutoModelForCausalLM"])
def test_embeddings_of_new_rows_are_trained_and_nothing_else_of_the_table(auto_class: str) -> None:
    for family in ("gpt2", "llama") if auto_class.endswith("LM") else ("bert", "gpt2"):
        size = tiny_model(family).get_input_embeddings().weight.shape[0]
        model = adapted(family, SMALL, new_rows=[size, size + 1], auto_class=auto_class)
        before = without_adapter(model).get_input_embeddings().weight
        after = merged(model).get_input_embeddings().weight
        assert torch.equal(before[:size], after[:size])
        assert not torch.equal(before[size:], after[size:])
        digest = base_digest(model)
        with torch.no_grad():
            before[size] += 1.0  # a base whose new rows were drawn otherwise is the same base
        assert base_digest(model) == digest
        with torch.no_grad():
            before[5] += 1.0
        assert base_digest(model) != digest


def test_a_language_models_head_is_not_trained() -> None:
    for family in ("gpt2", "llama"):
        model = adapted(family, auto_class="AutoModelForCausalLM")
        assert all(".lora_" in name for name, p in model.named_parameters() if p.requires_grad)
        alone = merged(model)
        tied = model.config.tie_word_embeddings
        assert (alone.get_output_embeddings().weight is alone.get_input_embeddings().weight) == tied
        assert torch.allclose(scores(alone), scores(model), rtol=0, atol=1e-6)


# The contract of invariance.


def test_dropout_inside_the_layers_is_the_librarys_own() -> None:
    model = adapted(adapter=SMALL)
    with row_dropout(model, DropoutMasks(0)):
        parts = [part for name, part in model.named_modules() if name.endswith("lora_dropout.default")]
        assert parts
        assert all(isinstance(part, RowDropout) and part.p == 0.2 for part in parts)
    assert not any(isinstance(part, RowDropout) for part in model.modules())


def gradients(name: str, family: str, *, padding_free: bool, precision: str) -> tuple[str, float, dict[str, Tensor]]:
    """Layout, loss and gradients of a few rows, dropout on."""
    tuner = tuner_for(name, family, adapter=SMALL, padding_free=padding_free, precision=precision)
    data = case_of(name).data()
    task = tuner._arguments.learning(find_task(name)).learned_from(data)
    fitted = assemble(tuner._arguments, tuner._source, task)
    shaken(fitted.model)
    encoded = fitted.encode(data)
    fitted = settled(fitted, encoded)
    forward = fitted.forward()
    batch = task.collate(encoded, np.array([4, 1, 9, 2]), fitted.encoder)
    fitted.model.train()
    with forward.prepared():
        total = task.loss(forward.train(batch, step=3), batch).total
    total.backward()
    found = {key: p.grad for key, p in fitted.model.named_parameters() if p.grad is not None}
    assert all(any(part in key for part in (".lora_", ".modules_to_save.", "trainable_tokens")) for key in found)
    return forward.layout.name, float(total.detach()), found


LAID_OUT = having(("bert", "modernbert", "gpt2", "llama"))
BF16 = {*having(("bert",)), *having(("modernbert", "gpt2", "llama"), [NAME])}  # every task, every family


@pytest.mark.parametrize(
    ("name", "family", "precision", "bound"),
    [
        *((*pair, "fp32", 1e-6) for pair in LAID_OUT),
        *(pytest.param(*pair, "bf16", 2e-2, marks=() if pair in BF16 else pytest.mark.slow) for pair in LAID_OUT),
    ],
)
def test_packed_and_padded_give_the_same_gradients(name: str, family: str, precision: str, bound: float) -> None:
    flat = gradients(name, family, padding_free=True, precision=precision)
    if flat[0] != "padding-free":
        pytest.skip(f"{family} is laid out {flat[0]}")
    padded = gradients(name, family, padding_free=False, precision=precision)
    assert padded[0] != flat[0]
    assert flat[1] == pytest.approx(padded[1], rel=bound)
    assert padded[2].keys() == flat[2].keys()
    scale = max(float(value.abs().max()) for value in padded[2].values())
    for key, value in padded[2].items():
        assert float((flat[2][key] - value).abs().max()) <= bound * scale, key


@pytest.mark.parametrize("name", NAMES)
def test_cuts_of_a_batch_give_the_same_losses(name: str) -> None:
    whole, cut = (fit(name, micro_batch_size=size) for size in (8, 3))
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-5, abs=1e-7)
    other = fit(name, adapter=LoRA(r=4))
    assert losses(other) != losses(whole), "the dropout of the adapter takes part"


class Stops(Callback):
    """Interrupts the run after its third step, once."""

    armed = True

    def on_step_end(self, training: Any, record: Any) -> None:
        if training.step == 3 and self.armed:
            raise KeyboardInterrupt


@pytest.mark.parametrize("options", [{}, {"freeze": 1}, {"keep_best": "loss"}], ids=repr)
def test_interrupted_and_resumed_to_the_bit(options: Any, tmp_path: Path) -> None:
    data, stops = case_of(NAME).data(), Stops()
    given = {"adapter": SMALL, "epochs": 2, "batch_size": 8, **options}
    valid = data.select(range(8)) if "keep_best" in options else None
    where: dict[str, Any] = {"output_dir": tmp_path / "run", "save_every": 1, "callbacks": [stops], "progress": False}
    whole = tuner_for(NAME, **given).fit(data, valid, progress=False)
    with pytest.raises(KeyboardInterrupt):
        tuner_for(NAME, **given).fit(data, valid, **where)
    stops.armed = False
    resumed = tuner_for(NAME, **given).fit(data, valid, **where, resume=True)
    assert same_weights(weights(resumed), weights(whole))
    assert losses(resumed) == losses(whole)


def test_only_what_is_trained_is_in_a_checkpoint(tmp_path: Path) -> None:
    data = case_of(NAME).data()
    sizes = {}
    for adapter in (None, LoRA(r=1, targets=("query",))):
        place = tmp_path / str(adapter is None)
        tuner_for(NAME, adapter=adapter, max_steps=1).fit(data, output_dir=place, progress=False)
        sizes[adapter is None] = sum(file.stat().st_size for file in place.rglob("*.safetensors"))
    assert sizes[False] < sizes[True] / 10
    with pytest.raises(Exception, match="adapter"):
        tuner_for(NAME, adapter=LoRA(r=2), max_steps=1).fit(
            data, output_dir=tmp_path / "False", resume=True, progress=False
        )


def test_vocabularies_and_plans_and_self_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    from sftlib.models.language import vocabulary

    data = case_of(NAME).data()
    whole = fit()
    monkeypatch.setattr(vocabulary, "_SMALLEST_TABLE", 1)
    assert same_weights(weights(fit()), weights(whole))
    monkeypatch.undo()
    tuner = tuner_for(NAME, adapter=SMALL, max_steps=4, batch_size=8)
    plan = tuner.plan(data)
    names = [way.name for way in plan.ways]
    assert names[0] == "everything"
    assert names[1].startswith("adapter: LoRA(r=4")
    assert names[2].startswith("head only")
    parameters = [way.parameters for way in plan.ways]
    assert parameters[0] > parameters[1] > parameters[2]


def test_a_loaded_adapter_trains_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = case_of(NAME).data()
    tuner = fit(max_steps=6, learning_rate=1e-2)
    tuner.save(tmp_path / "adapter")
    again = FineTuner.load(tmp_path / "adapter", model=case_of(NAME).model())
    assert isinstance(again.get_params()["adapter"], SavedAdapter)
    before = tuner.evaluate(data)["loss"]
    again.set_params(max_steps=10, dropout=0.0, schedule="constant").fit(data, progress=False)
    assert again.evaluate(data)["loss"] < before
    clone = again.clone().fit(data, progress=False)
    assert same_weights(weights(clone), weights(again)), "a clone begins where the loaded one began"
    assert adapter_settings(again.model)["r"] == 4
    with caplog.at_level("WARNING", logger="sftlib"):
        again.fit(TaskDataset({"text": ["a", "b"] * 4, "label": [0, 1] * 4}), progress=False)
    assert "the head is drawn anew: it was trained for bad, good, so-so, the data has 0, 1" in caplog.text
    assert again.label_names == (0, 1)


@pytest.mark.parametrize("adapter", [LoRA(r=2), peft.IA3Config(), peft.LoKrConfig(target_modules=["query"])], ids=repr)
def test_what_is_decided_by_width_is_decided_as_without(adapter: Any) -> None:
    """Layout and precision look at how wide the model is; the thin layers of an adapter are not the model."""
    for family in ("bert", "llama") if isinstance(adapter, LoRA) else ("bert",):
        assert typical_width(adapted(family, adapter)) == typical_width(tiny_model(family)) == 32


def test_memory_is_kept_for_what_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_limit", lambda _: 2**20)
    monkeypatch.setattr(memory, "_FEWEST", 1)
    device = torch.device("cpu")
    assert memory.tokens_of_a_pass(adapted(adapter=LoRA(r=1)), device) > memory.tokens_of_a_pass(tiny_model(), device)
