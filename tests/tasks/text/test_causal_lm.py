"""Language models: the loss of every family against plain logits, packed against padded, and what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from sftlib import FineTuner, Generation, TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.models.language.chunked_loss import OutputLayer
from sftlib.models.language.output_layers import Hidden
from sftlib.tasks.text.causal_lm import CausalLM
from sftlib.testing import LANGUAGE_MODELS, tiny_config, tiny_model, tiny_tokenizer
from tests.chat_templates import FORMATS, byte_tokenizer
from tests.contracts.cases import case_of, encoder_for, losses, tuner_for

CAUSAL = "AutoModelForCausalLM"


def chat(*pairs: tuple[str, str]) -> TaskDataset:
    turns = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}] for a, b in pairs]
    return TaskDataset({"messages": turns})


CHAT = chat(
    *((f"Say {word} and {i}.", f"{word} it is, {i} times {word}.") for i, word in enumerate("red blue grey".split()))
)


def byte_model(family: str = "llama", vocabulary: int = 300) -> Any:
    config = tiny_config(family)
    config.vocab_size, config.max_position_embeddings = vocabulary, 512
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, CAUSAL).from_config(config).eval()


def gradients(model: torch.nn.Module, loss: Tensor) -> list[Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_the_loss_is_that_of_all_logits(family: str) -> None:
    """Value and every gradient, for heads that scale or bend their scores too."""
    data, encoder = case_of("causal-lm").data(6), encoder_for(family)
    task = CausalLM().learned_from(data)
    model = tiny_model(family, dropout=0.0, auto_class=CAUSAL)
    encoded = task.encode(data, encoder)
    batch = task.collate(encoded, np.arange(6), encoder)
    outputs = task.ask(model, lambda module, inputs: module(**inputs), batch.inputs)
    assert isinstance(outputs, Hidden), "found by trial"
    found = task.loss(outputs, batch)
    scores = model(**batch.inputs).logits[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(scores, batch.targets["tokens"][:, 1:].flatten(), reduction="sum")
    assert float(found.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for own, plain in zip(gradients(model, found.total), gradients(model, expected), strict=True):
        assert float((own - plain).abs().max()) <= 1e-6 * max(1.0, float(plain.abs().max()))


@pytest.mark.parametrize(("precision", "expected"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_products_of_the_output_layer_are_in_the_precision_asked_for(
    monkeypatch: pytest.MonkeyPatch, precision: str, expected: torch.dtype
) -> None:
    """The loop asks for the loss after the pass, where autocast is off again; evaluation does so too."""

    def watched(name: str, formats: set[Any]) -> Any:
        plain = getattr(OutputLayer, name)

        def call(*given: Any, **more: Any) -> Any:
            formats.add(more["products"])
            return plain(*given, **more)

        return call

    seen: dict[str, set[Any]] = {"loss": set(), "judged": set()}
    for name in seen:
        monkeypatch.setattr(OutputLayer, name, watched(name, seen[name]))
    data = case_of("causal-lm").data()
    tuner_for("causal-lm", "llama", precision=precision, max_steps=1).fit(data, progress=False).evaluate(data)
    assert seen == {"loss": {expected}, "judged": {expected}}


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_packed_is_padded(family: str) -> None:
    """Rows end to end against rows side by side, dropout on: losses of a run, and the norm of the first gradient."""
    runs = [
        tuner_for("causal-lm", family, padding_free=flat, max_steps=4, batch_size=16).fit(
            case_of("causal-lm").data(), progress=False
        )
        for flat in (True, False)
    ]
    assert runs[0].settings["layout"] == "padding-free"
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=1e-5)
    first = [run.history.steps[0]["grad_norm"] for run in runs]
    assert first[0] == pytest.approx(first[1], rel=1e-5)


def test_padding_that_is_the_end_of_text_is_told_by_its_place() -> None:
    """gpt2 pads with its end of text; that of an answer is learned all the same."""
    data, encoder = case_of("causal-lm").data(4), encoder_for("gpt2")
    encoder.tokenizer.pad_token = encoder.tokenizer.eos_token
    task = CausalLM().learned_from(data)
    batch = task.collate(task.encode(data, encoder), np.arange(4), encoder)
    ends = (batch.targets["tokens"] == encoder.tokenizer.eos_token_id).sum(1)
    assert ends.tolist() == [1, 1, 1, 1]


def test_rows_that_a_template_refuses_can_be_left_out() -> None:
    """All of them stand in the error, also those that its message has no room for."""
    turns = [row["messages"] for row in CHAT]
    refused = [[{"role": "system", "content": "Be brief."}, *turns[i % 3]] for i in range(8)]
    data = TaskDataset({"messages": [turns[0], *refused, *turns[1:]]})
    options = {"max_steps": 1, "precision": "fp32", "batch_size": 3}
    tuner = FineTuner(byte_model(), tokenizer=FORMATS["gemma"].tokenizer(), **options)
    with pytest.raises(DataError, match=r"and 3 more\nleave them out") as caught:
        tuner.fit(data, progress=False)
    assert caught.value.rows == tuple(range(1, 9))
    kept = data.select(row for row in range(len(data)) if row not in caught.value.rows)
    assert [row["messages"] for row in kept] == turns
    assert len(tuner.fit(kept, progress=False).history.steps) == 1
    assert DataError("x").rows == ()


@pytest.mark.parametrize("form", ["chatml", "llama-2", None])
def test_the_saved_folder_generates_the_same_by_itself(form: str | None, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(None) if form is None else FORMATS[form].tokenizer()
    options = {"max_steps": 12, "learning_rate": 1e-2, "precision": "fp32", "batch_size": 3}
    task = CausalLM(generation=Generation(max_new_tokens=24))
    tuner = FineTuner(byte_model(), task=task, tokenizer=tokenizer, **options)
    tuner.fit(CHAT, progress=False).save(tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for question in ("Say red and 0.", "What else?"):
        turns = [{"role": "user", "content": question}]
        text = loaded.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = loaded(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            found = model.generate(ids, attention_mask=torch.ones_like(ids))[0, ids.shape[1] :]
        assert loaded.decode(found, skip_special_tokens=True).strip() == tuner.predict(question).text
    assert FineTuner.load(tmp_path / "model").predict("Say red and 0.") == tuner.predict("Say red and 0.")


def test_sampling_depends_on_seed_row_and_position_alone() -> None:
    tuner = FineTuner(byte_model(), tokenizer=byte_tokenizer(None), max_steps=1).fit(CHAT, progress=False)
    drawn = Generation(max_new_tokens=10, temperature=1.0, top_k=50, top_p=0.9)
    questions = ["a", "a longer question", "b", "and the longest of all questions"]
    alone, together = (tuner.predict(questions, batch_size=size, generation=drawn) for size in (1, 4))
    assert alone == together
    other = tuner.predict(questions, generation=Generation(max_new_tokens=10, temperature=1.0, seed=1))
    assert other != together
    beams = Generation(max_new_tokens=10, beams=3)
    assert tuner.predict(questions, batch_size=1, generation=beams) == tuner.predict(questions, generation=beams)


def test_a_stream_gets_every_answer_in_pieces() -> None:
    tuner = FineTuner(byte_model(), tokenizer=byte_tokenizer(None), max_steps=1).fit(CHAT, progress=False)
    pieces: dict[int, str] = {0: "", 1: ""}

    def take(row: int, piece: str) -> None:
        pieces[row] += piece

    plain = tuner.predict(["a", "b c"], generation=Generation(max_new_tokens=12))
    streamed = tuner.predict(["a", "b c"], generation=Generation(max_new_tokens=12, stream=take))
    assert [p.text for p in streamed] == [p.text for p in plain] == [pieces[0].strip(), pieces[1].strip()]


def test_answers_are_generated_for_evaluation_only_when_a_metric_asks() -> None:
    tuner = FineTuner(byte_model(), tokenizer=byte_tokenizer(None), max_steps=60, learning_rate=1e-2, precision="fp32")
    tuner.fit(CHAT, progress=False)
    assert "exact_match" not in tuner.evaluate(CHAT)
    tuner.set_params(metrics=["exact_match", "token_accuracy"])
    found = tuner.evaluate(CHAT)
    answers = [turns[-1]["content"] for turns in CHAT.column("messages")]
    by_hand = np.mean([p.text == answer for p, answer in zip(tuner.predict(CHAT), answers, strict=True)])
    assert found["exact_match"] == by_hand


def test_rows_whose_answer_lies_beyond_the_limit_are_refused_by_their_number() -> None:
    data = chat(("short", "fine"), ("long " * 30, "lost"))
    with pytest.raises(DataError, match=r"row 1"):
        FineTuner(byte_model(), tokenizer=byte_tokenizer(None), max_length=64).fit(data, progress=False)


def test_conversations_that_end_with_a_question_are_refused_by_their_number() -> None:
    asked = [*CHAT[1]["messages"], {"role": "user", "content": "And now?"}]
    data = TaskDataset({"messages": [CHAT[0]["messages"], asked]})
    tuner = FineTuner(byte_model(), tokenizer=byte_tokenizer(None), max_steps=1)
    with pytest.raises(DataError, match=r"row 1: .*does not end with one.*drop what follows the last answer"):
        tuner.fit(data, progress=False)


def test_rows_that_are_too_long_are_cut_split_or_refused() -> None:
    data, tokenizer = chat(("hi", "one two three " * 10), ("a", "b")), byte_tokenizer(None)
    options = {"tokenizer": tokenizer, "max_length": 48, "max_steps": 1}
    encoded = FineTuner(byte_model(), **options).fit(data, progress=False)._fitted.encode(data)  # type: ignore[union-attr]
    assert encoded.truncated.tolist() == [0]
    split = FineTuner(byte_model(), task=CausalLM(over_long="split"), **options).fit(data, progress=False)
    windows = split._fitted.encode(data)  # type: ignore[union-attr]
    assert windows.owners.tolist() == [0, 0, 0, 1]
    whole = CausalLM().learned_from(data).encode(data, split._fitted.encoder.__class__(tokenizer, 512))  # type: ignore[union-attr]
    assert sorted(targets_of(windows)) == sorted(targets_of(whole)), "every token is learned once"
    with pytest.raises(DataError, match=r"row 0.*over_long"):
        FineTuner(byte_model(), task=CausalLM(over_long="error"), **options).fit(data, progress=False)


def targets_of(encoded: Any) -> list[int]:
    return [int(token) for token in encoded.targets["tokens"].values if token != -100]


def test_prompts_that_leave_no_room_are_refused() -> None:
    tuner = FineTuner(byte_model(), tokenizer=byte_tokenizer(None), max_steps=1).fit(CHAT, progress=False)
    with pytest.raises(DataError, match="no room for an answer"):
        tuner.predict(["fine", "long " * 200])
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_options_that_cannot_be_are_refused() -> None:
    for option, value in {"train_on": "answer", "over_long": "cut"}.items():
        with pytest.raises(OptionError, match=option):
            CausalLM(**{option: value})
    with pytest.raises(OptionError, match="max_new_tokens=0"):
        Generation(max_new_tokens=0)


def test_plain_texts_are_continued() -> None:
    data = TaskDataset({"text": ["once upon a time", "twice upon a time"] * 4}, task="causal-lm")
    options = {"max_steps": 60, "learning_rate": 1e-2, "precision": "fp32", "dropout": 0.0}
    tuner = FineTuner(tiny_model("llama", auto_class=CAUSAL), tokenizer=tiny_tokenizer("llama"), **options)
    tuner.fit(data, progress=False)
    assert tuner.predict("once", generation=Generation(max_new_tokens=5)).text
    assert tuner.evaluate(data)["token_accuracy"] > 0.9


def test_a_preview_shows_what_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    tuner = FineTuner(byte_model(), tokenizer=FORMATS["chatml"].tokenizer())
    seen = tuner.preview(CHAT, 1)
    assert [piece.text for piece in seen if piece.learned] == ["blue it is, 1 times blue.<|im_end|>"]
    assert "\033[" in str(seen)
    assert "blue it is" in seen._repr_html_()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "assistant\n⟦blue it is, 1 times blue.<|im_end|>⟧\n" in str(seen)
    assert "\033" not in str(seen)
    with pytest.raises(DataError, match="no row 3"):
        tuner.preview(CHAT, 3)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_checkpointing_changes_nothing(family: str) -> None:
    """Dropout on: layers that are computed a second time drop the same."""
    options = {"max_steps": 3, "batch_size": 16, "padding_free": True}
    data = case_of("causal-lm").data()
    tuners = [tuner_for("causal-lm", family, checkpointing=on, **options) for on in (True, False)]
    runs = [tuner.fit(data, progress=False) for tuner in tuners]
    assert [run.settings["checkpointing"] for run in runs] == [True, False]
    assert losses(runs[0]) == losses(runs[1])
    norms = [[record["grad_norm"] for record in run.history.steps] for run in runs]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in runs[0].model.modules())
    without = tuner_for("causal-lm", family, dropout=0.0, **options).fit(data, progress=False)
    assert losses(runs[0]) != losses(without)


def test_a_model_that_sees_what_it_would_predict_is_refused() -> None:
    encoder = tiny_model("bert", auto_class="AutoModelForMaskedLM")
    tuner = FineTuner(encoder, tokenizer=tiny_tokenizer(), max_steps=1)
    with pytest.raises(OptionError, match="BertLMHeadModel sees the tokens that it would have to predict"):
        tuner.fit(TaskDataset([{"prompt": "a", "completion": "b"}]), progress=False)
