"""Gaps: how many, which, and that nothing but seed, step and row decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from sftlib import FineTuner, TaskDataset
from sftlib.errors import OptionError
from sftlib.models.language.places import scores_at
from sftlib.models.sources import held, open_source
from sftlib.run.adapt import stages_of
from sftlib.tasks.text.masked_lm import MaskedLM
from sftlib.testing import ENCODERS, SENTENCES, tiny_folder, tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of, encoder_for, losses, tuner_for

ENCODER = encoder_for("bert")


def drawn(texts: list[str], *, seed: int = 0, step: int | None = 0, share: float = 0.15) -> tuple[Any, Any, Any]:
    """Tokens, what is shown, and where the gaps are."""
    task = MaskedLM(mask_probability=share)
    encoded = task.encode(TaskDataset({"text": texts}, task="masked-lm"), ENCODER)
    batch = task.collate(encoded, np.arange(len(texts)), ENCODER)
    found = task.draw(batch.inputs, ENCODER, seed=seed, step=step)
    return batch.inputs["input_ids"], found["input_ids"], found["gaps"]


def test_shares_are_those_of_bert() -> None:
    texts = [f"{sentence} {i}" for i in range(300) for sentence in SENTENCES]
    ids, shown, gaps = drawn(texts)
    free = ids > 4
    assert float(gaps.sum() / free.sum()) == pytest.approx(0.15, abs=0.01)
    assert not (gaps & ~free).any()
    masked, same = shown[gaps] == ENCODER.tokenizer.mask_token_id, shown[gaps] == ids[gaps]
    assert float(masked.float().mean()) == pytest.approx(0.8, abs=0.01)
    assert float(same.float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(shown[~gaps], ids[~gaps])
    swapped = shown[gaps & (shown != ids) & (shown != ENCODER.tokenizer.mask_token_id)]
    assert (torch.bincount(swapped, minlength=208)[5:] > 0).float().mean() > 0.9  # any token may come
    assert (swapped > 4).all()


def test_every_text_has_a_gap_and_blanks_have_none() -> None:
    _, _, gaps = drawn(["a", "film", "", "..", "a b"], share=0.01)
    assert gaps.sum(dim=1).tolist() == [1, 1, 0, 1, 1]


def test_gaps_are_a_function_of_seed_step_and_row() -> None:
    texts = case_of("masked-lm").columns["text"]
    _, _, first = drawn(texts)
    assert torch.equal(drawn(texts)[2], first)
    order = np.random.default_rng(0).permutation(len(texts)).tolist()
    assert torch.equal(drawn([texts[i] for i in order])[2], first[order])
    alone = drawn(texts[3:4])[2]
    assert torch.equal(alone[0], first[3, : alone.shape[1]])
    assert not torch.equal(drawn(texts, step=1)[2], first)
    assert not torch.equal(drawn(texts, seed=1)[2], first)


def test_gaps_of_evaluation_are_always_the_same() -> None:
    texts = case_of("masked-lm").columns["text"]
    assert torch.equal(drawn(texts, step=None, seed=0)[2], drawn(texts, step=None, seed=5)[2])


@pytest.mark.parametrize("family", ENCODERS)
def test_scores_at_places_are_those_of_the_model(family: str) -> None:
    model = tiny_model(family, auto_class="AutoModelForMaskedLM")
    ids = torch.randint(5, 100, (3, 9), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    places = torch.rand(3, 9, generator=torch.Generator().manual_seed(1)) < 0.3
    with torch.no_grad():
        found = scores_at(model, lambda module, given: module(**given), inputs, places)
        expected = model(**inputs).logits[places]
        nothing = scores_at(model, lambda module, given: module(**given), inputs, places & False)
    torch.testing.assert_close(found, expected)
    assert nothing.shape == (0, expected.shape[1])


@pytest.mark.parametrize("padding_free", [True, False])
def test_layouts_give_the_same_losses(padding_free: bool) -> None:
    runs = [
        tuner_for("masked-lm", max_steps=4, padding_free=free, micro_batch_size=cut)
        for free, cut in ((False, 32), (padding_free, 5))
    ]
    first, second = (losses(tuner.fit(case_of("masked-lm").data(), progress=False)) for tuner in runs)
    assert second == pytest.approx(first, rel=1e-5)


def test_a_resumed_run_makes_the_same_gaps(tmp_path: Path) -> None:
    data, options = case_of("masked-lm").data(), {"max_steps": 6, "batch_size": 8}
    whole = tuner_for("masked-lm", **options).fit(data, output_dir=tmp_path / "a", save_every=2, progress=False)
    tuner_for("masked-lm", **options).fit(data, output_dir=tmp_path / "b", save_every=2, progress=False)
    for step in ("step-00000004", "step-00000006"):
        for file in (tmp_path / "b" / step).iterdir():
            file.unlink()
        (tmp_path / "b" / step).rmdir()
    again = tuner_for("masked-lm", **options)
    again.fit(data, output_dir=tmp_path / "b", save_every=2, resume=True, progress=False)
    assert losses(again) == losses(whole)


def test_a_frozen_part_is_computed_anew() -> None:
    tuner = tuner_for("masked-lm", max_steps=2, freeze=1).fit(case_of("masked-lm").data(), progress=False)
    cut = tuner_for("masked-lm", max_steps=2, freeze=1, micro_batch_size=3).fit(
        case_of("masked-lm").data(), progress=False
    )
    assert losses(cut) == pytest.approx(losses(tuner), rel=1e-5)


def test_the_folder_fills_masks(tmp_path: Path) -> None:
    tuner_for("masked-lm", max_steps=2).fit(case_of("masked-lm").data(), progress=False).save(tmp_path / "model")
    fill = transformers.pipeline("fill-mask", str(tmp_path / "model"))
    assert len(fill("a [MASK] film")) == 5


def test_a_decoder_is_sent_to_causal_lm() -> None:
    tuner = FineTuner(tiny_model("gpt2", auto_class="AutoModelForCausalLM"), tokenizer=tiny_tokenizer("gpt2"))
    with pytest.raises(OptionError, match="causal-lm"):
        tuner.fit(case_of("masked-lm").data(), progress=False)


def test_no_gaps_at_all_are_refused() -> None:
    with pytest.raises(OptionError, match="mask_probability=0"):
        MaskedLM(mask_probability=0.0)


class TestAdapt:
    """`FineTuner.adapt`: later fits begin from a body that knows the language of the texts."""

    texts = (*SENTENCES, *(f"{text} {i}" for i, text in enumerate(SENTENCES)))

    def tuner(self, folder: Path, **options: Any) -> FineTuner:
        if not folder.exists():
            tiny_folder(folder, "bert")
        return FineTuner(str(folder), max_steps=3, device="cpu", precision="fp32", **options)

    def data(self) -> TaskDataset:
        return case_of("text-classification").data()

    def test_it_moves_the_origin_of_every_later_fit(self, tmp_path: Path) -> None:
        plain = self.tuner(tmp_path / "m").fit(self.data(), progress=False)
        adapted = self.tuner(tmp_path / "m").adapt(self.texts, max_steps=5, progress=False)
        first = losses(adapted.fit(self.data(), progress=False))
        assert first[0] != losses(plain)[0]
        assert losses(adapted.fit(self.data(), progress=False)) == first
        assert losses(adapted.clone().fit(self.data(), progress=False)) == first
        assert losses(adapted.set_params(epochs=2).fit(self.data(), progress=False)) == first

    def test_the_body_is_that_of_the_adapted_model(self, tmp_path: Path) -> None:
        tiny_folder(tmp_path / "m", "bert", auto_class="AutoModelForMaskedLM")
        gaps = TaskDataset({"text": self.texts}, task="masked-lm")
        by_hand = self.tuner(tmp_path / "m", learning_rate=5e-5).fit(gaps, progress=False)
        tuner = self.tuner(tmp_path / "m", learning_rate=0.0)
        tuner.adapt(self.texts, max_steps=3, learning_rate=5e-5, progress=False).fit(self.data(), progress=False)
        expected, found = by_hand.model.state_dict(), tuner.model.state_dict()
        shared = [name for name in found if name in expected]
        assert len(shared) > 30
        assert all(torch.equal(found[name], expected[name]) for name in shared)
        original = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m").state_dict()
        assert not torch.equal(found[shared[0]], original[shared[0]])

    def test_a_head_that_the_model_lacks_learns_first_and_the_body_after_it(self, tmp_path: Path) -> None:
        """Against the two fits by hand; the pooler, which gaps do not need, comes from the folder."""
        tuner = self.tuner(tmp_path / "m", learning_rate=0.0)
        tuner.adapt(self.texts, max_steps=3, learning_rate=5e-5, progress=False).fit(self.data(), progress=False)
        gaps = TaskDataset({"text": self.texts}, task="masked-lm")
        head = self.tuner(tmp_path / "m", freeze="backbone", learning_rate=1e-3).fit(gaps, progress=False)
        original = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m").state_dict()
        after_head = {name: weight.clone() for name, weight in head.model.state_dict().items()}
        body = [name for name in after_head if name in original]
        assert len(body) > 30
        assert all(torch.equal(after_head[name], original[name]) for name in body)
        both = FineTuner(
            head.model.requires_grad_(True),
            tokenizer=tiny_tokenizer(),
            max_steps=3,
            learning_rate=5e-5,
            precision="fp32",
        )
        expected, found = both.fit(gaps, progress=False).model.state_dict(), tuner.model.state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in body)
        assert not all(torch.equal(found[name], original[name]) for name in body)
        assert torch.equal(found["bert.pooler.dense.weight"], original["bert.pooler.dense.weight"])
        assert all(parameter.requires_grad for parameter in tuner.model.parameters())

    def test_who_adapts_a_model_without_that_head_is_warned(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        tiny_folder(tmp_path / "fills", "bert", auto_class="AutoModelForMaskedLM")
        self.tuner(tmp_path / "fills").adapt(self.texts, max_steps=1, progress=False)
        assert "adapt" not in caplog.text
        self.tuner(tmp_path / "m").adapt(self.texts, max_steps=1, progress=False)
        assert caplog.text.count("comes without the head that fills gaps") == 1

    def test_a_head_that_the_model_brings_or_has_learned_is_not_taught_again(self, tmp_path: Path) -> None:
        tiny_folder(tmp_path / "fills", "bert", auto_class="AutoModelForMaskedLM")
        tiny_folder(tmp_path / "m", "bert")
        fills, lacks = (open_source(str(tmp_path / name)) for name in ("fills", "m"))
        assert [len(stages_of(source, None)) for source in (fills, lacks)] == [1, 2]
        assert len(stages_of(open_source(tiny_model("bert", auto_class="AutoModelForMaskedLM")), None)) == 1
        for kind, stages in (("Bert", 1), ("Electra", 2)):
            config = getattr(transformers, f"{kind}Config")(
                vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
            )
            model = getattr(transformers, f"{kind}ForPreTraining")(config)
            assert len(stages_of(open_source(model), None)) == stages
        once = self.tuner(tmp_path / "m").adapt(self.texts, max_steps=1, progress=False)
        assert len(stages_of(once._source, None)) == 1
        assert len(stages_of(held(lacks), None)) == 2
        assert len(stages_of(open_source("new:encoder"), None)) == 1, "where all is drawn, nothing waits"

    def test_it_takes_data_sets_and_adds_up(self, tmp_path: Path) -> None:
        data = TaskDataset({"text": self.texts})
        once = self.tuner(tmp_path / "m").adapt(data, max_steps=2, progress=False)
        same = self.tuner(tmp_path / "m").adapt(self.texts, max_steps=2, progress=False)
        assert losses(once.fit(self.data(), progress=False)) == losses(same.fit(self.data(), progress=False))
        twice = once.adapt(data, max_steps=2, progress=False)
        assert losses(twice.fit(self.data(), progress=False)) != losses(same)

    def test_a_new_model_forgets_it(self, tmp_path: Path) -> None:
        tuner = self.tuner(tmp_path / "m").adapt(self.texts, max_steps=2, progress=False)
        tuner.set_params(model=str(tmp_path / "m")).fit(self.data(), progress=False)
        assert losses(tuner) == losses(self.tuner(tmp_path / "m").fit(self.data(), progress=False))

    def test_a_decoder_continues_texts(self, tmp_path: Path) -> None:
        tiny_folder(tmp_path / "m", "gpt2", auto_class="AutoModelForCausalLM")
        plain = self.tuner(tmp_path / "m").fit(self.data(), progress=False)
        tuner = self.tuner(tmp_path / "m").adapt([*self.texts, "word " * 200], max_steps=2, progress=False)
        with pytest.raises(OptionError, match="mask_probability"):
            self.tuner(tmp_path / "m").adapt(self.texts, mask_probability=0.3)
        assert losses(tuner.fit(self.data(), progress=False))[0] != losses(plain)[0]

    def test_gaps_are_as_asked_for(self, tmp_path: Path) -> None:
        more = self.tuner(tmp_path / "m").adapt(self.texts, max_steps=2, mask_probability=0.5, progress=False)
        usual = self.tuner(tmp_path / "m").adapt(self.texts, max_steps=2, progress=False)
        assert losses(more.fit(self.data(), progress=False)) != losses(usual.fit(self.data(), progress=False))
        with pytest.raises(OptionError, match="mask_probability=2"):
            usual.adapt(self.texts, mask_probability=2)

    def test_labels_and_their_options_are_left_out(self, tmp_path: Path) -> None:
        tuner = self.tuner(tmp_path / "m", class_weights="balanced", keep_best="f1_macro", freeze=1, metrics=["mcc"])
        tuner.adapt(self.data(), max_steps=1, progress=False).fit(self.data(), self.data(), progress=False)
        assert "adapted" in tuner.settings["model"]

    @pytest.mark.parametrize("wrong", ["a text", [], [1, 2], None, [" ", ""]])
    def test_what_is_no_text_is_refused(self, tmp_path: Path, wrong: Any) -> None:
        with pytest.raises((OptionError, ValueError), match=r"adapt|text"):
            self.tuner(tmp_path / "m").adapt(wrong)

    def test_a_saved_model_that_was_adapted_comes_back(self, tmp_path: Path) -> None:
        tuner = self.tuner(tmp_path / "m").adapt(self.texts, max_steps=1, progress=False)
        tuner.fit(self.data(), progress=False).save(tmp_path / "saved")
        assert FineTuner.load(tmp_path / "saved").predict("a film") == tuner.predict("a film")
