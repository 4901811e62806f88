"""GGUF files are opened in full precision, with their own tokenizer, and trained like any other model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftlib import FineTuner, Pretrained, TaskDataset
from sftlib.errors import ArtifactError, MissingExtraError, OptionError
from sftlib.models.sources import Head, open_source
from sftlib.testing import SENTENCES, tiny_model

gguf = pytest.importorskip("gguf")

TEMPLATE = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
FILE = "tiny.Q8_0.gguf"
DATA = TaskDataset({"text": list(SENTENCES), "label": ["bad", "good"] * 8})
LANGUAGE_MODEL = Head(auto_class="AutoModelForCausalLM")


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in a GPT-2 vocabulary."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_gguf(path: Path, model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Write a tiny Llama, its matrices in 8 bits; returns what its matrices are after that."""
    config, alphabet = model.config, byte_alphabet()
    tokens = ["<|unk|>", "<|pad|>", "<|begin|>", "<|end|>", *alphabet, "th", "he", "Ġa", "er"]
    tokens += [f"<|spare{i}|>" for i in range(config.vocab_size - len(tokens))]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny Llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges(["t h", "h e", "Ġ a", "e r"])
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_chat_template(TEMPLATE)
    kept = {}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        values = weight.numpy().astype(np.float32)
        stem = name.removesuffix(".weight")
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(stem.split(".")[-1])
        if heads:  # llama.cpp keeps the two halves of a head's rotation interleaved
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0) if values.ndim == 2 else values
        dtype = gguf.GGMLQuantizationType.Q8_0 if values.ndim == 2 else None
        writer.add_tensor(f"{names.get_name(stem)}.weight", raw, raw_dtype=dtype)
        back = gguf.quants.dequantize(raw, dtype) if dtype is not None else values
        if heads:
            back = back.reshape(heads, -1, 2, back.shape[1]).swapaxes(1, 2).reshape(back.shape)
        kept[name] = back
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("gguf")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = tiny_model("llama").config
        config.vocab_size, config.tie_word_embeddings = 288, False
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_config(config)
    return folder, write_gguf(folder / FILE, model)


def test_weights_are_those_of_the_file_in_full_precision(written: tuple[Path, dict[str, Any]]) -> None:
    folder, kept = written
    source = open_source(Pretrained(folder, gguf_file=FILE))
    model = source.build(LANGUAGE_MODEL, dropout=None, seed=0)
    assert not source.drawn
    state = model.state_dict()
    assert state.keys() == kept.keys()
    for name, value in kept.items():
        assert state[name].dtype == torch.float32
        assert np.array_equal(state[name].numpy(), value), name
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_tokenizer_is_the_files_own(written: tuple[Path, dict[str, Any]]) -> None:
    tokenizer = open_source(Pretrained(written[0], gguf_file=FILE)).tokenizer()
    assert tokenizer.chat_template == TEMPLATE
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|end|>", "<|pad|>")
    assert (
        tokenizer.decode(tokenizer("the other day")["input_ids"], skip_special_tokens=True).strip() == "the other day"
    )


@pytest.mark.parametrize("adapter", [None, "lora"])
def test_it_is_tuned_saved_and_loaded(adapter: Any, written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    if adapter:
        pytest.importorskip("peft")
    folder = written[0]
    model = Pretrained(folder, gguf_file=FILE)
    tuner = FineTuner(model, adapter=adapter, max_steps=3, learning_rate=1e-2, device="cpu")
    tuner.fit(DATA, progress=False).save(tmp_path / "model")
    assert tuner.get_params()["model"] is tuner.clone().get_params()["model"] is model
    assert f"gguf_file={FILE!r}" in repr(tuner)
    again = FineTuner.load(tmp_path / "model", model=model if adapter else None)
    assert [vars(p) for p in again.predict(list(SENTENCES))] == [vars(p) for p in tuner.predict(list(SENTENCES))]
    if adapter:
        plain = tuner.merge()
        plain.save(tmp_path / "plain")
        assert FineTuner.load(tmp_path / "plain").predict("a film") == plain.predict("a film")
        assert plain.settings["gguf_file"] is None


def test_what_cannot_be_opened_is_told(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = written[0]
    for value in ("../" + FILE, str(folder / FILE), 3, "model.bin", ""):
        with pytest.raises(OptionError, match="without a path"):
            Pretrained(folder, gguf_file=value)
    with pytest.raises(ArtifactError, match=f"did you mean '{FILE}'"):
        FineTuner(Pretrained(folder, gguf_file="tiny.Q4_0.gguf"))
    with pytest.raises(ArtifactError, match="no .gguf file at all"):
        FineTuner(Pretrained(tmp_path, gguf_file=FILE))
    with pytest.raises(ArtifactError, match=f"gguf_file='{FILE}'"):
        FineTuner(folder / FILE)
    with pytest.raises(ArtifactError, match=f"to open the GGUF file in it: Pretrained.*gguf_file='{FILE}'"):
        FineTuner(folder)
    with pytest.raises(OptionError, match="an object has its weights already"):
        Pretrained(tiny_model(), gguf_file=FILE)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="do not go together"):
        Pretrained(folder, gguf_file=FILE, quantize="4bit")
    with pytest.raises(OptionError, match=r"Pretrained\(\) has no option 'gguf': did you mean 'gguf_file'"):
        Pretrained(folder, gguf=FILE)  # type: ignore[call-arg]
    (tmp_path / FILE).write_bytes((folder / FILE).read_bytes()[:500])
    with pytest.raises(ArtifactError, match="tmp|cannot be"):
        FineTuner(Pretrained(tmp_path, gguf_file=FILE)).fit(DATA, progress=False)


def test_without_the_package_the_command_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sftlib\[gguf\]'"):
        Pretrained(tmp_path, gguf_file=FILE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine could quantise")
def test_quantising_needs_a_gpu_and_an_adapter(bert_folder: str) -> None:
    pytest.importorskip("peft")
    with pytest.raises(OptionError, match="needs a CUDA GPU, and this machine has none"):
        FineTuner(Pretrained(bert_folder, quantize="4bit"), adapter="lora")
    with pytest.raises(OptionError, match="add adapter='lora'"):
        FineTuner(Pretrained(bert_folder, quantize="8bit"))
    with pytest.raises(OptionError, match="did you mean '4bit'"):
        Pretrained(bert_folder, quantize="4-bit")


def test_a_quantised_base_is_known_by_its_full_weights(bert_folder: str, tmp_path: Path) -> None:
    """As on a GPU, but that the weights beside the adapter are changed by hand rather than by bitsandbytes."""
    pytest.importorskip("peft")
    tuner = FineTuner(bert_folder, adapter="lora", max_steps=2, device="cpu").fit(DATA, progress=False)
    with torch.no_grad():
        for name, parameter in tuner.model.named_parameters():
            if name.endswith("base_layer.weight"):
                parameter.copy_((parameter * 64).round() / 64)
    tuner._ready("test").settings["quantize"] = "4bit"
    tuner.save(tmp_path / "adapter")
    again = FineTuner.load(tmp_path / "adapter", model=bert_folder)
    assert again.get_params()["model"] == bert_folder
    plain = tuner.merge()
    assert plain.predict("a film").probability == pytest.approx(again.predict("a film").probability, abs=1e-6)
    assert plain.predict("a film") != tuner.predict("a film")
    with pytest.raises(ArtifactError, match="SHA-256"):
        FineTuner.load(tmp_path / "adapter", model=tiny_model("bert", seed=3))
