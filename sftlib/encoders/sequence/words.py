"""How letters become tokens, and tokenizers for models that come without one.

A tokenizer that is made here knows every letter of its alphabet, or every word of ``k`` letters, whatever the data: no
row of a test set meets a token that training rows did not happen to have. It is saved as ``tokenizer.json`` and opens
in transformers.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any, final

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sftlib.data.alphabets import SMILES_SIGNS, SMILES_VOCABULARY, Alphabet, Letters
from sftlib.errors import OptionError

_FORM = re.compile(r"char|smiles|kmer:([1-9][0-9]?)(?:/([1-9][0-9]?))?")
_LONGEST, _MOST = 12, 2**17  # letters of a word, words of a vocabulary

#: Of every tokenizer that is made here, with the numbers 0 to 4.
CONTROL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@final
@dataclass(frozen=True)
class Cut:
    """How a sequence is cut into tokens.

    Attributes:
        form: as users write it.
        size: letters of a token; 0 for the signs of SMILES, which are of different lengths.
        step: letters from the beginning of a token to that of the next.
    """

    form: str
    size: int
    step: int

    @property
    def overlaps(self) -> bool:
        """Whether two tokens share letters: then a tokenizer needs spaces between them."""
        return self.step < self.size

    def pieces(self, text: str) -> list[str]:
        """The tokens of a sequence; a last one may be shorter, and so is the only one of a short sequence.

        Example:
            >>> [cut_of(form).pieces("ACGTA") for form in ("char", "kmer:2", "kmer:3/1", "kmer:6/1")]
            [['A', 'C', 'G', 'T', 'A'], ['AC', 'GT', 'A'], ['ACG', 'CGT', 'GTA'], ['ACGTA']]
        """
        if not self.size:
            return re.findall(SMILES_SIGNS, text)
        last = max(len(text) - self.size, 0) if self.overlaps else len(text) - 1
        return [text[start : start + self.size] for start in range(0, last + 1, self.step)]

    def letters(self, pieces: Sequence[str]) -> str:
        """The sequence that these are the tokens of.

        Example:
            >>> cut_of("kmer:3/1").letters(["ACG", "CGT", "GTA"])
            'ACGTA'
        """
        if not self.overlaps or not pieces:
            return "".join(pieces)
        return pieces[0] + "".join(piece[-self.step :] for piece in pieces[1:])


def form_problem(form: object) -> str | None:
    """What is wrong with a value of ``tokens``; None when nothing is."""
    found = _FORM.fullmatch(form) if isinstance(form, str) else None
    size, step = (int(part) if part else 0 for part in (found.groups() if found else (0, 0)))
    if found is None or size > _LONGEST or step > size:
        return (
            f"tokens={form!r:.60}: expected 'char', 'smiles', 'kmer:6' (words of six letters, one after the other) or "
            f"'kmer:6/1' (words that begin one letter after the other), of at most {_LONGEST} letters"
        )
    return None


def cut_of(form: str) -> Cut:
    """What a value of ``tokens`` without problem means."""
    size, step = _FORM.fullmatch(form).groups()  # type: ignore[union-attr]
    if size is None:
        return Cut(form, 0 if form == "smiles" else 1, 1)
    return Cut(form, int(size), int(step or size))


def own_tokenizer(alphabet: Alphabet, cut: Cut) -> Any:
    """A tokenizer of transformers for an alphabet: ``[CLS] sequence [SEP]``.

    Raises:
        OptionError: more words than a vocabulary may have, or a cut that is not of this alphabet.

    Example:
        >>> from sftlib.data.alphabets import ALPHABETS
        >>> tokenizer = own_tokenizer(ALPHABETS["dna"], cut_of("kmer:3"))
        >>> tokenizer.tokenize("ACGTTgA"), len(tokenizer)
        (['ACG', 'TTG', 'A'], 89)
        >>> own_tokenizer(ALPHABETS["smiles"], cut_of("smiles")).tokenize("C[C@@H](Cl)c1cc[nH]c1")
        ['C', '[C@@H]', '(', 'Cl', ')', 'c', '1', 'c', 'c', '[nH]', 'c', '1']
    """
    words = list(_words(alphabet, cut))
    vocabulary = {word: number for number, word in enumerate([*CONTROL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=CONTROL[1]))
    if isinstance(alphabet, Letters):
        small = [normalizers.Replace(letter, letter.upper()) for letter in string.ascii_lowercase]
        swaps = [normalizers.Replace(*pair) for pair in alphabet.swaps.items()]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), *small, *swaps])
    else:
        tokenizer.normalizer = normalizers.Strip()
    tokenizer.pre_tokenizer = _splitter(cut)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _words(alphabet: Alphabet, cut: Cut) -> Iterable[str]:
    """Every token that a sequence may be cut into."""
    if not cut.size:
        return SMILES_VOCABULARY
    if cut.size == 1:
        return alphabet.letters
    count = sum(len(alphabet.plain) ** size for size in range(1, cut.size + 1))
    if count > _MOST:
        raise OptionError(
            f"tokens={cut.form!r}: there are {count:,} words of up to {cut.size} letters of {alphabet.title}, more "
            f"than a vocabulary may have ({_MOST:,}); take shorter ones, or tokens='char'"
        )
    of_sizes = (product(alphabet.plain, repeat=size) for size in range(cut.size, 0, -1))
    return ("".join(letters) for letters in chain.from_iterable(of_sizes))


def _splitter(cut: Cut) -> Any:
    if cut.overlaps:  # the words were set apart by spaces
        return pre_tokenizers.WhitespaceSplit()
    pattern = SMILES_SIGNS if not cut.size else f".{{1,{cut.size}}}"
    return pre_tokenizers.Split(Regex(pattern), "isolated")


#: How published vocabularies of molecules cut them: whatever stands in brackets is one sign.
_WHOLE_SIGNS = r"\[[^\[\]]*\]|%[0-9]{2}|Br|Cl|[^\[\]]"
_MOLECULE = "CC(=O)Oc1ccccc1C(=O)NCCl"


def of_signs(tokenizer: Any) -> Any:
    """A tokenizer over the same vocabulary that reads SMILES sign by sign, where that was plainly meant.

    Models of molecules are often published with a list of signs alone, which transformers reads as pieces of words, in
    small letters: an aromatic carbon and any other are then the same.

    Args:
        tokenizer: of transformers, as it was opened.

    Returns:
        Another one with the same numbers; the one that was given, where it reads signs already, or has other words.
    """
    signs, known = re.findall(_WHOLE_SIGNS, _MOLECULE), tokenizer.get_vocab()
    ids = tokenizer(_MOLECULE, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    roles = {name: getattr(tokenizer, f"{name}_token") for name in ("pad", "unk", "cls", "sep", "mask")}
    lacking = any(token not in known for token in [*signs, *roles.values()])
    if lacking or tokenizer.convert_ids_to_tokens(ids) == signs:
        return tokenizer
    found = Tokenizer(models.WordLevel(known, unk_token=roles["unk"]))
    found.normalizer = normalizers.Strip()
    found.pre_tokenizer = pre_tokenizers.Split(Regex(_WHOLE_SIGNS), "isolated")
    first, last = roles["cls"], roles["sep"]
    found.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(first, known[first]), (last, known[last])],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=found,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in roles.items()},
    )
