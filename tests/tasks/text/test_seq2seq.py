"""Encoder-decoders against transformers' own loss and generation, in every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers.trainer_pt_utils import LabelSmoother

from sftlib import FineTuner, Generation, TaskDataset
from sftlib.encoders.batch import IGNORED
from sftlib.errors import DataError, OptionError
from sftlib.models.language.encoder_decoder import settle_decoder, shifted
from sftlib.models.outputs import logits
from sftlib.tasks.text.seq2seq import Seq2Seq
from sftlib.testing import TWO_STACKS, tiny_folder, tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of, encoder_for, losses, tuner_for

SOURCES = ["a wonderful film", "dull", "I loved the story, the music and every actor in it.", "a bore"]
TARGETS = ["film wonderful", "a dull dull picture", "music", "awful ending of it"]


def data_of(**more: Any) -> TaskDataset:
    return TaskDataset({"source": SOURCES, "target": TARGETS, **more}, task="seq2seq")


def settled(family: str, dropout: float = 0.0) -> Any:
    model = tiny_model(family, dropout=dropout, auto_class="AutoModelForSeq2SeqLM")
    tokenizer = tiny_tokenizer(family)
    model.config.pad_token_id = tokenizer.pad_token_id
    settle_decoder(model, tokenizer)
    return model


def asked(family: str, task: Seq2Seq, rows: list[int] | None = None) -> tuple[Any, Any, Any]:
    """A model, what it makes of some rows, and the rows."""
    model, encoder = settled(family), encoder_for(family)
    encoded = task.encode(data_of(), encoder)
    batch = task.collate(encoded, np.array(rows or range(len(SOURCES))), encoder)
    with torch.no_grad():
        outputs = task.ask(model, lambda module, inputs: module(**inputs), batch.inputs)
    return model, outputs, batch


@pytest.mark.parametrize("family", TWO_STACKS)
def test_the_loss_is_that_of_the_model_itself(family: str) -> None:
    model, outputs, batch = asked(family, task := Seq2Seq())
    total, count = task.loss(outputs, batch)
    labels = batch.targets["target"]
    own = {name: value for name, value in batch.inputs.items() if name in ("input_ids", "attention_mask")}
    with torch.no_grad(), pytest.warns() if family == "encoder-decoder" else _Nothing():
        expected = model(**own, labels=labels).loss
    assert count == (labels != IGNORED).sum()
    assert float(total / count) == pytest.approx(float(expected), rel=1e-6)


class _Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_smoothing_is_that_of_the_trainer() -> None:
    task = Seq2Seq(label_smoothing=0.1)
    _, outputs, batch = asked("t5", task)
    total, count = task.loss(outputs, batch)
    expected = LabelSmoother(epsilon=0.1)({"logits": logits(outputs)}, batch.targets["target"])
    assert float(total / count) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("family", TWO_STACKS)
def test_a_token_is_scored_from_those_before_it(family: str) -> None:
    """What stands at a place of the target and after it changes nothing at this place; what stands before it does."""
    model, outputs, batch = asked(family, task := Seq2Seq())
    changed = batch.inputs["decoder_tokens"].clone()
    changed[:, 1] = (changed[:, 1] + 1) % 200
    with torch.no_grad():
        other = task.ask(model, lambda module, inputs: module(**inputs), {**batch.inputs, "decoder_tokens": changed})
    before, after = logits(outputs), logits(other)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.equal(before[:, 2], after[:, 2])


def test_the_model_is_called_without_targets() -> None:
    seen: list[set[str]] = []
    _, _, batch = asked("t5", task := Seq2Seq())
    task.ask(settled("t5"), lambda module, inputs: seen.append(set(inputs)), batch.inputs)
    assert seen == [{"input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"}]


@pytest.mark.parametrize("family", TWO_STACKS)
def test_cuts_give_the_same_losses_with_dropout(family: str) -> None:
    """Their dropout is called by functions; it is ours nevertheless."""

    def run(cut: int, **options: Any) -> list[float]:
        tuner = tuner_for("seq2seq", family, max_steps=4, batch_size=32, micro_batch_size=cut, **options)
        return losses(tuner.fit(case_of("seq2seq").data(), progress=False))

    whole = run(32)
    for cut in (7, 1):
        assert run(cut) == pytest.approx(whole, rel=1e-5)
    assert abs(run(32, dropout=0.0)[0] - whole[0]) > 1e-4


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", TWO_STACKS)
def test_the_folder_generates_the_same_in_transformers(family: str, beams: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_steps": 80, "learning_rate": 1e-2, "dropout": 0.0, "batch_size": 8}
    generation = Generation(max_new_tokens=9, beams=beams)
    tuner = tuner_for("seq2seq", family, task=Seq2Seq(generation=generation), **options)
    tuner.fit(case_of("seq2seq").data(12), progress=False).save(tmp_path / "model")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    sources = case_of("seq2seq").columns["source"][:6]
    together = tuner.predict(sources)
    assert [p.text for p in tuner.predict(sources, batch_size=1)] == [p.text for p in together]
    assert len({p.text for p in together}) > 1
    for source, prediction in zip(sources, together, strict=True):
        inputs = tokenizer(source, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        found = model.generate(**inputs, num_beams=beams, max_new_tokens=9, do_sample=False)
        assert tokenizer.decode(found[0], skip_special_tokens=True) == prediction.text
        assert 0 < prediction.score <= 1


def test_the_score_is_the_mean_probability_of_the_tokens() -> None:
    task = Seq2Seq(max_target_length=8)
    tuner = tuner_for("seq2seq", "bart", max_steps=20, learning_rate=1e-2, dropout=0.0, task=task)
    tuner.fit(case_of("seq2seq").data(), progress=False)
    tokenizer, model = tiny_tokenizer("bart"), tuner.model
    inputs = tokenizer("a wonderful film", return_tensors="pt")
    found = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    with torch.no_grad():
        scores = model(**inputs, decoder_input_ids=found[:, :-1]).logits.log_softmax(-1)
    chosen = scores.gather(2, found[:, 1:, None])
    assert tuner.predict("a wonderful film").score == pytest.approx(float(chosen.mean().exp()), rel=1e-5)


def test_token_accuracy_and_perplexity() -> None:
    tuner = tuner_for("seq2seq", "t5", max_steps=30, learning_rate=1e-2).fit(case_of("seq2seq").data(), progress=False)
    found = tuner.evaluate(case_of("seq2seq").data(), batch_size=5)
    task, encoder, right, tokens = Seq2Seq(), encoder_for("t5"), 0, 0
    encoded = task.encode(case_of("seq2seq").data(), encoder)
    for row in range(len(encoded)):
        batch = task.collate(encoded, np.array([row]), encoder)
        with torch.no_grad():
            outputs = task.ask(tuner.model, lambda module, inputs: module(**inputs), batch.inputs)
        right += int((logits(outputs).argmax(-1) == batch.targets["target"]).sum())
        tokens += batch.targets["target"].numel()
    assert 0 < right < tokens
    assert found["token_accuracy"] == pytest.approx(right / tokens, rel=1e-9)
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]), rel=1e-9)


def test_texts_are_written_only_if_a_metric_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    answer = Seq2Seq.answer
    monkeypatch.setattr(Seq2Seq, "answer", lambda self, *given: calls.append(1) or answer(self, *given))
    tuner = tuner_for("seq2seq", "t5", max_steps=1, task=Seq2Seq(max_target_length=4))
    tuner.fit(data_of(), data_of(), progress=False)
    assert not calls
    tuner.set_params(metrics=["token_accuracy", "exact_match", "chrf", "rouge1", "error_rate"])
    found = tuner.evaluate(data_of())
    assert calls
    assert set(found) == {"loss", "token_accuracy", "exact_match", "chrf", "rouge1", "error_rate"}


@pytest.mark.parametrize("family", TWO_STACKS)
def test_long_targets_are_cut_end_all_the_same_and_are_told(family: str) -> None:
    task, encoder = Seq2Seq(max_target_length=4), encoder_for(family)
    encoded = task.encode(data_of(), encoder)
    targets = [encoded.targets["target"][row].tolist() for row in range(len(encoded))]
    assert max(map(len, targets)) == 4
    assert {row[-1] for row in targets} == {3}
    assert task.shortened(encoded).tolist() == [1, 3]
    report = tuner_for("seq2seq", family, task=Seq2Seq(max_target_length=4)).report(data_of())
    assert report.train.unsupervised_rows == (1, 3)
    assert any("lost supervision with their end: row 1, row 3" in problem for problem in report.problems)


def test_a_tokenizer_that_ends_no_text_gets_an_end() -> None:
    encoder = encoder_for("gpt2")
    (chunk,) = encoder.encode_targets(["a film", "a dull dull picture"], max_length=4, end=3)
    assert chunk.inputs["input_ids"].tolist()[chunk.lengths[0] - 1] == 3
    assert chunk.inputs["input_ids"].tolist()[-1] == 3
    assert chunk.lengths.tolist() == [3, 4]
    assert chunk.cut.tolist() == [0, 1]


def test_control_tokens_in_a_target_are_characters() -> None:
    encoder = encoder_for("t5")
    (chunk,) = encoder.encode_targets(["a [SEP] film"], max_length=20, end=3)
    assert chunk.inputs["input_ids"].tolist().count(3) == 1


def test_blank_targets_are_refused_with_their_row() -> None:
    with pytest.raises(DataError, match="row 2"):
        TaskDataset({"source": ["a", "b", "c"], "target": ["x", "y", "  "]})


def test_a_decoder_is_sent_to_causal_lm() -> None:
    model = tiny_model("gpt2", auto_class="AutoModelForCausalLM")
    with pytest.raises(OptionError, match=r"encoder-decoder.*causal-lm.*prompt="):
        FineTuner(model, tokenizer=tiny_tokenizer("gpt2")).fit(data_of(), progress=False)


def test_a_module_without_a_rule_for_its_decoder_is_refused() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Embedding(300, 8)

        def forward(self, input_ids: torch.Tensor, decoder_input_ids: torch.Tensor) -> torch.Tensor:
            return self.layer(decoder_input_ids)

    with pytest.raises(OptionError, match="encoder-decoder of transformers"):
        FineTuner(Own(), tokenizer=tiny_tokenizer("bert")).fit(data_of(), progress=False)


def test_a_target_cannot_be_longer_than_the_decoder() -> None:
    with pytest.raises(OptionError, match="at most 66"):
        tuner_for("seq2seq", "bart", task=Seq2Seq(max_target_length=67)).fit(data_of(), progress=False)


def test_two_encoders_become_one_model(tmp_path: Path) -> None:
    folders = [tiny_folder(tmp_path / name, "bert", seed=seed) for seed, name in enumerate(("left", "right"))]
    pair = transformers.EncoderDecoderModel.from_encoder_decoder_pretrained(*folders)
    tuner = FineTuner(pair, tokenizer=folders[0], max_steps=2, device="cpu").fit(data_of(), progress=False)
    assert isinstance(tuner.model, transformers.EncoderDecoderModel)
    config = tuner.model.config
    assert (config.decoder_start_token_id, config.eos_token_id, config.pad_token_id) == (2, 3, 0)
    assert tuner.settings["max_length"] == 64


def test_two_encoder_folders_write_the_same_after_a_save(tmp_path: Path) -> None:
    folders = [tiny_folder(tmp_path / name, "bert", seed=seed) for seed, name in enumerate(("left", "right"))]
    pair = transformers.EncoderDecoderModel.from_encoder_decoder_pretrained(*folders)
    options: dict[str, Any] = {"max_steps": 30, "learning_rate": 1e-2, "dropout": 0.0, "batch_size": 8}
    task = Seq2Seq(generation=Generation(max_new_tokens=8))
    tuner = FineTuner(pair, task=task, tokenizer=folders[0], device="cpu", **options)
    before = tuner.fit(data_of(), progress=False).predict(SOURCES)
    tuner.save(tmp_path / "model")
    assert FineTuner.load(tmp_path / "model").predict(SOURCES) == before
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for source, prediction in zip(SOURCES, before, strict=True):
        inputs = tokenizer(source, return_tensors="pt", return_token_type_ids=False)
        found = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        assert tokenizer.decode(found[0], skip_special_tokens=True) == prediction.text


@pytest.mark.parametrize("beams", [1, 2])
def test_the_first_token_that_a_model_asks_for_is_written(beams: int, tmp_path: Path) -> None:
    """In mBART it says in which language to answer."""
    language = tiny_tokenizer("bart").convert_tokens_to_ids("film")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.MBartForConditionalGeneration(_mbart())
    model.generation_config.forced_bos_token_id = language
    task = Seq2Seq(generation=Generation(max_new_tokens=6, beams=beams))
    tuner = FineTuner(model, task=task, tokenizer=tiny_tokenizer("bart"), max_steps=3, device="cpu")
    before = tuner.fit(data_of(), progress=False).predict(SOURCES)
    assert all(p.text.startswith("film") for p in before)
    tuner.save(tmp_path / "model")
    assert FineTuner.load(tmp_path / "model").predict(SOURCES) == before
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    assert again.generation_config.forced_bos_token_id == language
    for source, prediction in zip(SOURCES, before, strict=True):
        inputs = tiny_tokenizer("bart")(source, return_tensors="pt")
        found = again.generate(**inputs, num_beams=beams, max_new_tokens=6, do_sample=False)
        assert tiny_tokenizer("bart").decode(found[0], skip_special_tokens=True) == prediction.text


def _mbart() -> Any:
    return transformers.MBartConfig(
        vocab_size=len(tiny_tokenizer("bart")), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        max_position_embeddings=66, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip


def test_steps_are_those_of_seq2seq_trainer(tmp_path: Path) -> None:
    """Same weights, rows and rate, no dropout: the losses, and what the weights become."""
    options: dict[str, Any] = {"max_steps": 4, "learning_rate": 1e-3, "batch_size": len(SOURCES), "weight_decay": 0.0}
    tuner = FineTuner(
        settled("t5"), tokenizer=tiny_tokenizer("t5"), schedule="constant", warmup=0.0, device="cpu", precision="fp32",
        **options,
    ).fit(data_of(), progress=False)  # fmt: skip
    model, tokenizer = settled("t5"), tiny_tokenizer("t5")
    rows = [
        {
            **tokenizer(source, return_token_type_ids=False),
            "labels": tokenizer(target)["input_ids"],
        }
        for source, target in zip(SOURCES, TARGETS, strict=True)
    ]
    arguments = transformers.Seq2SeqTrainingArguments(
        str(tmp_path), max_steps=4, learning_rate=1e-3, per_device_train_batch_size=len(rows), weight_decay=0.0,
        lr_scheduler_type="constant", logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True,
        use_cpu=True,
    )  # fmt: skip
    collate = transformers.DataCollatorForSeq2Seq(tokenizer, model)
    trainer = transformers.Seq2SeqTrainer(model, arguments, train_dataset=rows, data_collator=collate)
    trainer.train()
    theirs = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert losses(tuner) == pytest.approx(theirs, rel=1e-5)


def test_the_decoder_starts_by_the_models_own_rule() -> None:
    targets = torch.tensor([[7, 8, 3], [9, 3, IGNORED]])
    assert shifted(settled("t5"), targets).tolist() == [[0, 7, 8], [0, 9, 3]]
    assert shifted(settled("bart"), targets).tolist() == [[3, 7, 8], [3, 9, 3]]
    config = transformers.MBartConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=0,
    )  # fmt: skip
    turned = shifted(transformers.MBartForConditionalGeneration(config), targets)
    assert turned[:, 1:].tolist() == [[7, 8], [9, 3]]
    assert turned[:, 0].tolist() == [3, 3]  # mBART moves the last token, its language, to the front


def test_rows_are_sorted_by_both_lengths() -> None:
    encoded = Seq2Seq().encode(data_of(), encoder_for("t5"))
    assert encoded.cost.tolist() == (encoded.inputs["input_ids"].lengths + encoded.targets["target"].lengths).tolist()
    assert encoded.take(np.array([2, 0])).cost.tolist() == encoded.cost[[2, 0]].tolist()
