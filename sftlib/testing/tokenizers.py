"""A tiny real tokenizer, made on the spot, and the sentences it knows the words of."""

from __future__ import annotations

import functools
import re
import string

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, WhisperTokenizer

MAX_LENGTH = 64  # tokens that every family can read
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # ids 0 to 4

SENTENCES = (
    "A wonderful film, warm and funny from start to end.",
    "A dull film, cold and slow from start to end.",
    "I loved the story, the music and every actor in it.",
    "I hated the story, the noise and every minute of it.",
    "The best picture of the year, a great joy to watch.",
    "The worst picture of the year, a great pain to watch.",
    "Not bad at all, but far too long for such a small idea.",
    "Nothing works: bad jokes, bad acting and an awful ending.",
    "A clever script makes this quiet drama a pleasure.",
    "A lazy script makes this loud drama a bore.",
    "What a beautiful, moving and honest piece of work!",
    "What an ugly, empty and dishonest piece of work!",
    "My card has not arrived yet, where is it?",
    "How do I change the PIN of my card?",
    "Please cancel the transfer of 100 pounds I made on Monday.",
    "Why was I charged twice for one payment?",
)

_WITH_TYPES = ("bert", "electra", "albert", "deberta-v2")  # tell the two texts of a pair apart
_WITH_ENDS = ("t5", "bart", "marian")
WITHOUT_TEMPLATE = ("gpt2", "llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "cohere", "granite")


@functools.cache
def vocabulary() -> dict[str, int]:
    """Special tokens, characters, a few endings, and every word of the sentences.

    Written down by rule rather than trained: the trainers of ``tokenizers`` break ties by the order of a hash map, so
    two processes would get two vocabularies.
    """
    words = {word for word in re.findall(r"[a-z]+", " ".join(SENTENCES).lower()) if len(word) > 1}
    characters = list(string.ascii_lowercase + string.digits)
    endings = ["##ing", "##ed", "##er", "##ly", "##es"]
    pieces = [*characters, *string.punctuation, *(f"##{c}" for c in characters), *endings]
    return {entry: index for index, entry in enumerate([*SPECIAL, *pieces, *sorted(words)])}


def tiny_tokenizer(family: str = "bert") -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that lowercases, with a vocabulary of a few hundred entries.

    Encoders get ``[CLS] text [SEP] pair [SEP]``. Decoders get no template and, as GPT-2 and Llama do, no pad token:
    ``[SEP]`` is their end of text. Families that tell the two texts of a pair apart also get ``token_type_ids``.

    Args:
        family: of the model that it is for.

    Example:
        >>> tiny_tokenizer().tokenize("A wonderful film!")
        ['a', 'wonderful', 'film', '!']
    """
    tokenizer = Tokenizer(models.WordPiece(vocabulary(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    shared = {
        "tokenizer_object": tokenizer,
        "unk_token": "[UNK]",
        "model_max_length": MAX_LENGTH,
        "model_input_names": ["input_ids", *(["token_type_ids"] if family in _WITH_TYPES else []), "attention_mask"],
    }
    if family in WITHOUT_TEMPLATE:
        return PreTrainedTokenizerFast(**shared, eos_token="[SEP]")  # type: ignore[no-untyped-call]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    ends = {"bos_token": "[CLS]", "eos_token": "[SEP]"} if family in _WITH_ENDS else {}
    return PreTrainedTokenizerFast(**shared, **ends, **names)  # type: ignore[no-untyped-call]


def tiny_speech_tokenizer() -> WhisperTokenizer:
    """A tokenizer of Whisper's kind with a token for each printable character.

    Its control tokens are those of `tiny_audio_model`; the one for texts without times stands at the end, since
    transformers takes whatever is behind it for a time.

    Example:
        >>> tokenizer = tiny_speech_tokenizer()
        >>> ids = tokenizer(" one", add_special_tokens=False)["input_ids"]
        >>> len(ids), tokenizer.decode(ids)
        (4, ' one')
    """
    control = ["<|nospeech|>", "<|startofprev|>", "<|startoftranscript|>", "<|endoftext|>"]
    letters = string.printable[:95].replace(" ", "\u0120")  # as byte-level tokenizers write a blank
    names = [*control, *letters, "<|notimestamps|>"]
    end = control.pop()
    return WhisperTokenizer(
        vocab={name: number for number, name in enumerate(names)},
        merges=[],
        unk_token=end,
        bos_token=end,
        eos_token=end,
        additional_special_tokens=[*control, names[-1]],
    )
