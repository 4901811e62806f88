"""`explain`: words by their characters, scores that add up, and agreement with independent code."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftlib import FineTuner, TaskDataset
from sftlib.errors import DataError, NotFittedError, OptionError
from sftlib.explain import PictureExplanation, examples, explain, summary
from sftlib.explain.pieces import Text, shares, words_of
from sftlib.testing import (
    SENTENCES,
    tiny_image_model,
    tiny_image_processor,
    tiny_model,
    tiny_tokenizer,
)

DECIDING = ("joy", "pain")
FILLERS = [re.sub(r"[^a-z ]", "", sentence.lower()).split() for sentence in SENTENCES]


def planted(rows: int, seed: int = 0) -> TaskDataset:
    """Rows whose label is decided by one word among others, wherever it stands, or by there being none such."""
    draw = np.random.default_rng(seed)
    texts, labels = [], []
    for number in range(rows):
        words = [word for word in draw.choice(FILLERS[number % len(FILLERS)], 6) if word not in DECIDING]
        label = ("yes", "no", "neither")[number % 3]
        words.insert(int(draw.integers(0, 1 + len(words))), {"yes": "joy", "no": "pain", "neither": "it"}[label])
        texts.append(" ".join(words))
        labels.append(label)
    return TaskDataset({"text": texts, "label": labels})


def decided(rows: int, seed: int) -> TaskDataset:
    """Such rows, of those that have a word that decides."""
    return planted(3 * rows, seed).filter(lambda row: row["label"] != "neither")


@pytest.fixture(scope="module")
def knowing() -> FineTuner:
    tuner = FineTuner(
        tiny_model(dropout=0.0), tokenizer=tiny_tokenizer(), max_steps=200, learning_rate=3e-3, precision="fp32"
    )
    return tuner.fit(planted(384), progress=False)


def test_a_word_that_decides_is_found(knowing: FineTuner) -> None:
    rows = decided(30, seed=1)
    right = [p.label == row["label"] for p, row in zip(knowing.predict(rows), rows, strict=True)]
    assert np.mean(right) == 1.0
    found = explain(knowing, rows)
    first = [max(why.words, key=lambda word: word.score).text for why in found]
    assert np.mean([word in ("joy", "pain") for word in first]) >= 0.95
    assert np.mean([why.faithfulness.beats_chance for why in found]) >= 0.95
    assert all(why.comprehensiveness > why.faithfulness.random_comprehensiveness for why in found)


@pytest.mark.parametrize("method", ["leave-one-out", "gradient"])
def test_other_methods_find_it_too(knowing: FineTuner, method: str) -> None:
    found = explain(knowing, decided(10, seed=2), method=method)
    first = [max(why.words, key=lambda word: word.score).text for why in found]
    # The slope at a place where the model is sure already is rough, even in sign.
    assert np.mean([word in DECIDING for word in first]) >= (0.9 if method == "leave-one-out" else 0.5)


def test_scores_add_up_to_what_the_input_adds(knowing: FineTuner) -> None:
    for why in explain(knowing, decided(5, seed=3)):
        difference = why.score - why.baseline
        assert sum(why.scores) == pytest.approx(difference, rel=0.01)
        assert why.gap <= 0.01
        assert not why.notes


def test_words_stand_where_they_stand(knowing: FineTuner) -> None:
    text = "  It's a JOY,\nwell-made -- 这 film!"
    why = explain(knowing, text)
    assert [text[word.start : word.end] for word in why.words] == [word.text for word in why.words]
    assert [word.text for word in why.words] == ["It's", "a", "JOY", ",", "well-made", "-", "-", "这", "film", "!"]
    assert max(why.words, key=lambda word: abs(word.score)).text == "JOY"


def test_the_score_is_that_of_the_model(knowing: FineTuner) -> None:
    """The number that is explained is the logit of transformers' own forward pass."""
    text, tokenizer = "a joy to watch", tiny_tokenizer()
    why = explain(knowing, text, target="yes")
    encoded = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = knowing.model(**encoded).logits[0]
        masked = encoded["input_ids"].clone()
        masked[0, 1:-1] = tokenizer.mask_token_id
        nothing = knowing.model(**{**encoded, "input_ids": masked}).logits[0]
    assert why.target == "yes"
    assert why.probability == pytest.approx(float(logits.softmax(-1)[2]), abs=1e-6)
    assert (why.score, why.baseline) == (
        pytest.approx(float(logits[2]), abs=1e-5),
        pytest.approx(float(nothing[2]), abs=1e-5),
    )


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_integrated_gradients_are_those_of_captum(family: str) -> None:
    attr = pytest.importorskip("captum.attr")
    tokenizer = tiny_tokenizer(family)
    tuner = FineTuner(tiny_model(family, 3, dropout=0.0), tokenizer=tokenizer, max_steps=30, learning_rate=3e-3)
    tuner.set_params(precision="fp32").fit(planted(64), progress=False)
    text = "what a joy to watch every minute"
    why = explain(tuner, text, target="yes", steps=64)
    model, ids = tuner.model, tokenizer(text, return_tensors="pt")
    away = ids["input_ids"].clone()
    away[0, 1:-1] = tokenizer.mask_token_id
    rest = {name: value for name, value in ids.items() if name != "input_ids"}

    def number(tokens: Tensor) -> Tensor:
        size = len(tokens)
        return model(input_ids=tokens, **{k: v.expand(size, -1) for k, v in rest.items()}).logits[:, 2]

    method = attr.LayerIntegratedGradients(number, model.get_input_embeddings())
    theirs = method.attribute(ids["input_ids"], away, n_steps=why.steps, method="gausslegendre").sum(-1)[0]
    theirs_by_word = theirs[1:-1].detach().numpy()  # every word of this text is one token
    assert len(theirs_by_word) == len(why.words)
    np.testing.assert_allclose(why.scores, theirs_by_word, atol=1e-4)


class Bag(nn.Module):
    """Adds up a number for each token: what each word does is known exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(len(tiny_tokenizer()), 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return (self.table(input_ids) * attention_mask[..., None]).sum(1)


class Switch(nn.Module):
    """Knows no table: counts a token."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.token = tiny_tokenizer().convert_tokens_to_ids("joy")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        count = (input_ids == self.token).float().sum(1)
        return torch.stack([-count, 0 * count, count], 1) * self.weight


def fitted(model: nn.Module) -> FineTuner:
    return FineTuner(model, tokenizer=tiny_tokenizer(), max_steps=1, task="text-classification").fit(
        planted(8), progress=False
    )


@pytest.mark.parametrize("method", ["integrated-gradients", "leave-one-out", "gradient"])
def test_of_a_sum_every_method_is_exact(method: str) -> None:
    tuner, tokenizer = fitted(Bag()), tiny_tokenizer()
    why = explain(tuner, "a joy unwatchable", target="yes", method=method)
    table = tuner.model.table.weight[:, 2].tolist()
    mask = table[tokenizer.mask_token_id]
    for word in why.words:
        tokens = tokenizer(word.text, add_special_tokens=False)["input_ids"]
        assert word.score == pytest.approx(sum(table[token] - mask for token in tokens), abs=1e-5)
    assert why.gap < 1e-5
    assert len(tokenizer.tokenize("unwatchable")) > 1  # a word of several tokens is one word


def test_a_model_without_a_table_is_left_words_out_of() -> None:
    tuner = fitted(Switch())
    with pytest.raises(OptionError, match="leave-one-out"):
        explain(tuner, "a joy to watch")
    why = explain(tuner, "a joy to watch", target="yes", method="leave-one-out")
    assert [word.score != 0 for word in why.words] == [False, True, False, False]


def test_a_random_model_explains_nothing_and_says_so() -> None:
    tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=1, learning_rate=0.0)
    found = explain(tuner.fit(planted(8), progress=False), planted(30, seed=4))
    assert all(not why.faithfulness.beats_chance for why in found)
    assert all("explains nothing" in str(why) for why in found)


def test_pairs_and_numbers_and_several_labels() -> None:
    pairs = TaskDataset({"text": ["a joy", "a pain"] * 8, "text_pair": ["so it is", "no"] * 8, "label": [1, 0] * 8})
    numbers = TaskDataset({"text": ["a joy", "a pain"] * 8, "target": [1.0, -1.0] * 8})
    several = TaskDataset({"text": ["a joy", "a pain"] * 8, "labels": [["up", "x"], ["down"]] * 8})

    def tuned(rows: TaskDataset) -> FineTuner:
        return FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=20, learning_rate=3e-3).fit(
            rows, progress=False
        )

    why = explain(tuned(pairs), ("a joy", "so it is"))
    assert [(word.role, word.text, word.start) for word in why.words] == [
        ("text", "a", 0),
        ("text", "joy", 2),
        ("text_pair", "so", 0),
        ("text_pair", "it", 3),
        ("text_pair", "is", 6),
    ]
    tuner = tuned(numbers)
    why = explain(tuner, "a joy")
    assert why.target is None
    assert why.probability is None
    assert why.score == pytest.approx(tuner.predict("a joy").value, abs=1e-4)
    tuner = tuned(several)
    why = explain(tuner, "a joy", target="x")
    assert why.probability == pytest.approx(tuner.predict("a joy").probabilities["x"], abs=1e-4)


def test_relations_and_words_that_come_as_a_list() -> None:
    draw, words, labels = np.random.default_rng(0), ("loved", "hated", "of"), ("love", "hate", "none")
    rows = TaskDataset(
        {
            "tokens": [
                ["ada", words[n % 3], "charles", *map(str, draw.choice(FILLERS[n % 16], 4))] for n in range(192)
            ],
            "head": [(0, 1)] * 192,
            "tail": [(2, 3)] * 192,
            "label": [labels[n % 3] for n in range(192)],
        }
    )
    tuner = FineTuner(tiny_model("bert", 3, 0.0), tokenizer=tiny_tokenizer(), max_steps=250, learning_rate=3e-3)
    tuner.fit(rows, progress=False)
    assert tuner.evaluate(rows)["accuracy"] == 1.0
    for row, word in ((0, "loved"), (1, "hated")):
        why = explain(tuner, {role: rows[row][role] for role in rows.inputs})
        assert [word.text for word in why.words] == rows[row]["tokens"]
        assert [word.start for word in why.words][:4] == [0, 4, 10, 18]
        assert why.gap <= 0.01
        assert max(why.words, key=lambda word: word.score).text == word


def test_tags_of_words() -> None:
    draw = np.random.default_rng(0)
    rows = [[*draw.choice(FILLERS[n % 16], 3).tolist(), ("mr", "of")[n % 2], "drama", "it"] for n in range(192)]
    data = TaskDataset({"tokens": rows, "tags": [["O"] * 4 + [("B-PER", "O")[n % 2], "O"] for n in range(192)]})
    tuner = FineTuner(
        tiny_model("bert", 2, 0.0, auto_class="AutoModelForTokenClassification"),
        tokenizer=tiny_tokenizer(),
        max_steps=120,
        learning_rate=3e-3,
    ).fit(data, progress=False)
    assert tuner.evaluate(data)["f1"] == 1.0
    text = "a warm film mr drama it"
    why = explain(tuner, text)
    assert why.target == (4, "B-PER")
    assert [text[word.start : word.end] for word in why.words] == ["a", "warm", "film", "mr", "drama", "it"]
    assert max(why.words, key=lambda word: word.score).text in ("mr", "drama")
    assert why.gap <= 0.01
    found = tuner.predict(text)
    assert explain(tuner, text, target=0).target == (0, found.tags[0])
    other = explain(tuner, text, target=(0, "B-PER"))
    assert other.probability == pytest.approx(1 - found.scores[0], abs=1e-4)
    for wrong in (6, -1, (0, "B-LOC"), "B-PER"):
        with pytest.raises(OptionError, match="target="):
            explain(tuner, text, target=wrong)


def test_answers_in_a_context() -> None:
    draw = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {"question": [], "context": [], "answers": []}
    for n in range(192):
        words = draw.choice(FILLERS[n % 16], 4).tolist()
        answer = ("drama", "music", "story")[n % 3]
        words[int(draw.integers(0, 4)) : 0] = ["called", answer]
        context = " ".join(words)
        start = context.index(f"called {answer}") + 7
        rows["question"].append("what is it called")
        rows["context"].append(context)
        rows["answers"].append({"text": [answer], "answer_start": [start]})
    tuner = FineTuner(
        tiny_model("bert", 2, 0.0, auto_class="AutoModelForQuestionAnswering"),
        tokenizer=tiny_tokenizer(),
        max_steps=200,
        learning_rate=3e-3,
    ).fit(TaskDataset(rows), progress=False)
    asked = {"question": "what is it called", "context": "a quiet film called drama and a joy"}
    said, why = tuner.predict(asked), explain(tuner, asked)
    assert why.target == said.answer
    assert why.probability == pytest.approx(said.score, abs=1e-4)
    assert {word.role for word in why.words} == {"question", "context"}
    assert why.gap <= 0.01
    best = max(why.words, key=lambda word: word.score)
    assert best.text in ("called", "drama")
    assert explain(tuner, asked, target="quiet film").target == "quiet film"
    with pytest.raises(OptionError, match="word for word"):
        explain(tuner, asked, target="a loud film")


def test_letters_of_a_sequence() -> None:
    """A motif decides: its letters are named, by single letters and by overlapping words of three."""
    from sftlib import Sequence

    draw, rows = np.random.default_rng(0), []
    for number in range(192):
        letters = draw.choice(list("ACGT"), 14)
        label = ("first", "second", "none")[number % 3]
        if label != "none":
            letters[5:9] = list({"first": "AAAA", "second": "CCCC"}[label])
        rows.append({"sequence": "".join(letters), "label": label})
    data = TaskDataset(rows)
    for form in ("char", "kmer:3/1"):
        tuner = FineTuner(
            "new:encoder", inputs=Sequence(alphabet="dna", tokens=form), max_steps=150, learning_rate=2e-3
        )
        tuner.fit(data, progress=False)
        assert tuner.evaluate(data)["accuracy"] > 0.95
        row = rows[0]["sequence"]
        why = explain(tuner, row)
        assert [word.text for word in why.words] == list(row)
        assert [word.start for word in why.words] == list(range(14))
        best = sorted(range(14), key=lambda place: -why.words[place].score)[:3]
        assert set(best) <= set(range(4, 10))


def test_texts_that_are_written() -> None:
    rows = TaskDataset({"source": [f"a joy {n}" for n in range(4)] * 2, "target": ["yes", "no"] * 4})
    tuner = FineTuner(
        tiny_model("t5", auto_class="AutoModelForSeq2SeqLM"), tokenizer=tiny_tokenizer("t5"), max_steps=2
    ).fit(rows, progress=False)
    why = explain(tuner, "a joy to watch", target="yes")
    assert [word.text for word in why.words] == ["a", "joy", "to", "watch"]
    assert why.target == "yes"
    asked = TaskDataset({"source": ["a joy to watch"], "target": ["yes"]})
    judged = tuner.judge(asked)  # the loss is minus what is explained, over the tokens
    assert why.score == pytest.approx(-judged.loss_sum, rel=1e-4)
    assert why.probability == pytest.approx(float(np.exp(-judged.loss_sum / judged.count)), rel=1e-4)
    assert abs(sum(why.scores) - (why.score - why.baseline)) <= max(0.01, why.gap * 1.01) * abs(
        why.score - why.baseline
    )
    own = explain(tuner, "a joy to watch", target=tuner.predict("a joy to watch").text or "no", method="leave-one-out")
    assert len(own.words) == 4
    with pytest.raises(OptionError, match="expected a text"):
        explain(tuner, "a joy", target=3)


def test_what_the_model_never_read_is_said() -> None:
    tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=1, max_length=8).fit(
        planted(8), progress=False
    )
    why = explain(tuner, "a joy to watch in every minute of it and a pain")
    assert why.unread == 6
    assert "6 words were cut off" in str(why)
    assert [word.score for word in why.words[-6:]] == [0.0] * 6


def test_the_same_by_itself_and_among_others(knowing: FineTuner) -> None:
    texts = ["a joy", "a pain and a long noise of it", "it"]
    alone = [explain(knowing, text) for text in texts]
    for one, among in zip(alone, explain(knowing, texts), strict=True):
        assert one.to_dict() == among.to_dict()
    before = {name: value.clone() for name, value in knowing.model.state_dict().items()}
    explain(knowing, texts)
    assert all(torch.equal(before[name], value) for name, value in knowing.model.state_dict().items())
    assert not knowing.model.training


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda tuner: explain(tuner, ""), DataError, "no word"),
        (lambda tuner: explain(tuner, ["a joy", "  "]), DataError, "row 1: there is no word"),
        (lambda tuner: explain(tuner, "a joy", target="yess"), OptionError, "did you mean 'yes'"),
        (lambda tuner: explain(tuner, "a joy", method="integrated"), OptionError, "integrated-gradients"),
        (lambda tuner: explain(tuner, "a joy", steps=0), OptionError, "steps=0"),
        (lambda tuner: explain(tuner, "a joy", step=3), OptionError, "did you mean 'steps'"),
        (lambda tuner: explain(tuner.clone(), "a joy"), NotFittedError, "explain"),
        (lambda _: explain("model", "a joy"), OptionError, "FineTuner"),
        (lambda tuner: explain(tuner, ("a", "joy")), DataError, "single texts"),
        (lambda tuner: explain(tuner, "a joy").save("why.pdf"), OptionError, ".html, .png or .txt"),
        (lambda tuner: summary(tuner, planted(4), n=0), OptionError, "n=0"),
        (lambda tuner: summary(tuner, ["a joy"]), DataError, "expected a TaskDataset, found list"),
        (lambda tuner: examples(tuner, "a joy", planted(4), k=0), OptionError, "k=0"),
    ],
)
def test_mistakes_are_told(
    knowing: FineTuner, call: Callable[[FineTuner], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        call(knowing)


def test_it_is_shown(knowing: FineTuner, tmp_path: Any) -> None:
    why = explain(knowing, "a <b>joy</b> & a tired noise")
    text, html = str(why), why.to_html()
    assert "'yes'" in text
    assert re.search(r"joy +\+\d", text)
    assert "<b>joy" not in html
    assert "&lt;" in html
    assert "<script" not in html
    assert re.search(r">joy<sup[^>]*>\+\+\+</sup>", html)  # a sign, not the colour alone
    for name in ("why.html", "why.png", "why.txt"):
        why.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 100
    assert why.to_dict()["words"][0]["text"] == "a"
    assert list(why.to_frame()["text"]) == [word.text for word in why.words]


def test_summary_names_the_words_that_push(knowing: FineTuner) -> None:
    found = summary(knowing, decided(20, seed=5), n=40)
    assert found.rows == 40
    assert found.of("yes")[0].word == "joy"
    assert found.of("no")[0].word == "pain"
    assert all(word.low <= word.mean <= word.high for word in found)
    assert "joy" in str(found)


def test_examples_are_the_rows_that_are_alike(knowing: FineTuner) -> None:
    train = planted(60)
    found = examples(knowing, train[7]["text"], train, k=3)
    assert found[0].row == 7
    assert found[0].similarity == pytest.approx(1.0, abs=1e-5)
    assert [example.similarity for example in found] == sorted((e.similarity for e in found), reverse=True)
    assert found[0].label == train[7]["label"]


def test_pictures_get_a_heat_map(tmp_path: Any) -> None:
    """One corner decides: it is the hottest."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(96):
        pixels = draw.integers(90, 160, (32, 32, 3)).astype(np.uint8)
        label = ("dark", "light", "neither")[number % 3]
        if label != "neither":
            pixels[:8, :8] = 255 if label == "light" else 0
        rows.append({"image": pixels, "label": label})
    tuner = FineTuner(
        tiny_image_model("resnet", 3),
        inputs=_as_it_is("resnet"),
        max_steps=120,
        learning_rate=3e-3,
        task="image-classification",
    )
    tuner.fit(TaskDataset(rows), progress=False)
    assert tuner.evaluate(TaskDataset(rows))["accuracy"] == 1.0
    for row in [*rows[:2], *rows[3:5]]:
        why = explain(tuner, row["image"])
        assert isinstance(why, PictureExplanation)
        assert why.heat.shape == (8, 8)
        down, across = np.unravel_index(why.heat.argmax(), why.heat.shape)
        assert down < 2
        assert across < 2
    assert "speaks for" in str(why)
    why.save(tmp_path / "why.png")
    why.save(tmp_path / "why.html")
    steep = explain(tuner, rows[0]["image"], method="integrated-gradients")
    assert steep.gap <= 0.01
    assert steep.heat.sum() == pytest.approx(steep.score - steep.baseline, rel=0.01)


def _as_it_is(family: str) -> Any:
    from sftlib import Image

    return Image(processor=tiny_image_processor(family), augment="none")


def test_words_of_texts() -> None:
    def words(text: str) -> list[str]:
        return [text[a:b] for a, b in words_of(text)]

    assert words("I'd re-do it, 3.5 times (at_least)!") == [
        *["I'd", "re-do", "it", ",", "3", ".", "5", "times", "(", "at", "_", "least", ")", "!"]
    ]
    assert words("naïve Ärger ΟΔΟΣ") == ["naïve", "Ärger", "ΟΔΟΣ"]
    assert words("今日は") == ["今", "日", "は"]
    assert words(" \n\t") == []


def test_tokens_are_shared_out_among_words() -> None:
    text = Text("text", "new york is")
    places = SimpleNamespace(
        tokens=np.arange(5),
        texts=np.array([-1, 0, 0, 0, -1]),
        starts=np.array([0, 0, 8, 9, 0]),
        ends=np.array([0, 8, 9, 11, 0]),
    )
    found = shares(text.pieces(0), places)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.sum(axis=0), [0, 1, 1, 1, 0])
    np.testing.assert_allclose(found[:, 1], [3 / 7, 4 / 7, 0])  # a token over two words
    np.testing.assert_allclose(found[:, 2], [0, 0, 1])  # white space goes to the next word
