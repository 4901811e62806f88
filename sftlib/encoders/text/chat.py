"""Conversations as text: what a chat template makes of them, and where in it the assistant speaks.

Templates do not say where an answer begins and ends. It is found by rendering: what is there with an answer and not
before it is the answer (*prefixes*). Where a template writes earlier turns anew when later ones come, marks around the
answers find them instead. Both look at the text the template makes of the whole conversation, and never change it.

Control strings in what people said are marked before rendering, so that the text tells those of the template from
those of the people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, final

from sftlib.data.kinds.messages import WEIGHTS, weight_of
from sftlib.data.problems import listed
from sftlib.encoders.text.templates import TemplateRenderer
from sftlib.encoders.text.unwritten import Talk, Unwritten, with_text_arguments, written_arguments
from sftlib.errors import DataError

#: For models that come without a template: ``Role: text`` a line, and an end of text after each answer.
PLAIN = (
    "{% if tools %}Tools: {{ tools | tojson }}\n{% endif %}"
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['tool_calls'] %}{{ '\\n' if message['content'] }}{{ message['tool_calls'] | tojson }}{% endif %}"
    "{{ eos_token if message['role'] == 'assistant' }}\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)

#: Stands inside a control string that somebody typed; a character that no text has.
MARK = "\U000f5f70"
_OPEN, _CLOSE = "\U000f5f71", "\U000f5f72"
_FIXED = datetime(2025, 1, 1)  # what training rows are told of the time: the same tokens on every day
_CHUNK = 256  # conversations at a time
_SHOWN = 5

Span = tuple[int, int]


@final
@dataclass(frozen=True)
class Rendering:
    """A conversation as text.

    Attributes:
        text: with `MARK` inside the control strings that people typed.
        answers: (start, end) in characters of each answer, its end of turn included.
        prompt: characters before the last answer; all where the assistant has not answered yet.
        ended: whether the last answer is followed by a control string of the template that ends the turn.
        weights: how much each answer counts, from 0 to 1.
    """

    text: str
    answers: tuple[Span, ...]
    prompt: int
    ended: bool
    weights: tuple[float, ...] = ()


class _Answer(NamedTuple):
    start: int
    end: int
    ended: bool


@final
class ChatFormat:
    """Renders conversations with the template of a tokenizer.

    Args:
        template: its source.
        special_tokens: name -> text, for the template.
        controls: texts that are control tokens.
    """

    def __init__(self, template: str, special_tokens: Mapping[str, str], controls: Sequence[str]) -> None:
        self._template = template
        self._special_tokens = dict(special_tokens)
        longest_first = sorted(filter(None, controls), key=lambda text: (-len(text), text))
        self.controls = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._has_blocks = re.search(r"{%[-+]?\s*generation\b", template) is not None
        self._as_text: bool | None = None  # whether it wants arguments of calls as JSON; None before it saw any
        self._unwritten = Unwritten(template)

    @property
    def facts(self) -> list[Any]:
        """All that decides the text of an answered conversation, as JSON values."""
        return [self._template, self._special_tokens, self.controls.pattern]

    def render(self, talks: Iterable[Talk]) -> Iterator[Rendering]:
        """The text of each conversation; those in which the assistant is to speak next end with what invites it to.

        What the template leaves out of them is told by the logger ``sftlib``, once.

        Raises:
            DataError: conversations that the template cannot render, or in which no answer can be found, or one that
                says nothing; all of them.
            ArtifactError: a template that breaks a limit, or is none.
        """
        problems: dict[int, str] = {}
        training = TemplateRenderer(self._template, self._special_tokens, now=_FIXED)
        asking = TemplateRenderer(self._template, self._special_tokens)
        waiting, first = iter(talks), 0
        with training, asking:
            while chunk := list(islice(waiting, _CHUNK)):
                neutral = [self._formed(_neutral(talk, self.controls), training) for talk in chunk]
                found = self._chunk(neutral, training, asking)
                self._unwritten.look(neutral, first, lambda some: _looked_at(some, training))
                for row, (talk, result) in enumerate(zip(neutral, found, strict=True), first):
                    empty = [] if isinstance(result, str) or not talk.is_answered else self._unwritten.empty_turns(talk)
                    if isinstance(result, str) or empty:
                        problems[row] = result if isinstance(result, str) else _nothing_of(talk, empty[0])
                    elif not problems:
                        yield result
                first += len(chunk)
        if problems:
            shown = [f"row {row}: {said}" for row, said in sorted(problems.items())[:_SHOWN]]
            more = [f"and {len(problems) - _SHOWN:,} more"] if len(problems) > _SHOWN else []
            mend = "leave them out with data.select(row for row in range(len(data)) if row not in error.rows)"
            error = DataError(
                "\n".join(["the chat template cannot be used on every conversation", *shown, *more, mend])
            )
            error.rows = tuple(sorted(problems))
            raise error

    def _formed(self, talk: Talk, renderer: TemplateRenderer) -> Talk:
        """A conversation with the arguments of its calls as the template wants them: as mappings, or as JSON."""
        arguments = written_arguments(talk)
        if arguments and self._as_text is None:
            as_text = with_text_arguments(talk)
            usual, other = (_texts(renderer, [form], invite=not talk.is_answered)[0] for form in (talk, as_text))
            if not isinstance(usual, _Refused):
                spelled = [repr(value) for value in arguments]  # as a template writes that means text
                self._as_text = any(text in usual for text in spelled) and not isinstance(other, _Refused)
            elif not isinstance(other, _Refused):
                self._as_text = True
        return with_text_arguments(talk) if arguments and self._as_text else talk

    def _chunk(
        self, talks: Sequence[Talk], training: TemplateRenderer, asking: TemplateRenderer
    ) -> list[Rendering | str]:
        """A rendering of each, or what is wrong with it."""
        found: list[Rendering | str] = [""] * len(talks)
        answered = [i for i, talk in enumerate(talks) if talk.is_answered]
        unanswered = [i for i, talk in enumerate(talks) if not talk.is_answered]
        for i, result in zip(answered, self._answered([talks[i] for i in answered], training), strict=True):
            found[i] = result
        texts = _texts(asking, [talks[i] for i in unanswered], invite=True)
        for i, text in zip(unanswered, texts, strict=True):
            found[i] = text.said if isinstance(text, _Refused) else self._open(text)
        return found

    def _open(self, text: str) -> Rendering:
        return Rendering(text, (), len(text), ended=False)

    def _answered(self, talks: Sequence[Talk], renderer: TemplateRenderer) -> list[Rendering | str]:
        places = [[k for k, turn in enumerate(talk.turns) if turn["role"] == "assistant"] for talk in talks]
        texts = _texts(renderer, talks)
        before = iter(
            _texts(renderer, [talk.until(k) for talk, ks in zip(talks, places, strict=True) for k in ks], invite=True)
        )
        after = iter(
            _texts(renderer, [talk.until(k + 1) for talk, ks in zip(talks, places, strict=True) for k in ks[:-1]])
        )
        spans = iter(self._blocks(talks, texts, renderer))
        results: list[Rendering | str] = []
        for talk, ks, text in zip(talks, places, texts, strict=True):
            invited, closed = [next(before) for _ in ks], [next(after) for _ in ks[:-1]]
            blocks = next(spans)
            if isinstance(text, _Refused):
                results.append(text.said)
                continue
            if len(blocks) == len(ks):
                results.append(self._rendering(talk, ks, text, self._by_blocks(text, blocks)))
                continue
            limits = [_agree(text, other) for other in closed]
            limits = [self._outside_controls(text, limit) for limit in limits] + [len(text)]
            answers = [
                self._between(text, turn, start, limit)
                for turn, start, limit in zip([talk.turns[k] for k in ks], invited, limits, strict=True)
            ]
            if any(answer is None for answer in answers):
                answers = self._by_marks(text, talk, ks, renderer)
            results.append(self._rendering(talk, ks, text, answers))
        return results

    def _rendering(
        self, talk: Talk, places: Sequence[int], text: str, answers: Sequence[_Answer | None]
    ) -> Rendering | str:
        """What was found, or what is wrong with it."""
        known = [answer for answer in answers if answer is not None]
        if len(known) < len(answers):
            return (
                "the template writes earlier turns anew when later ones come, and the assistant's words cannot be "
                "found in its text; give a template with {% generation %} blocks, or one turn of the assistant a row"
            )
        weights = tuple(talk.weight(k) for k in places)
        for k, answer, weight in zip(places, known, weights, strict=True):
            if weight and not self.controls.sub("", text[answer.start : answer.end]).strip():
                return _nothing_of(talk, k)
        return Rendering(text, tuple(answer[:2] for answer in known), known[-1].start, known[-1].ended, weights)

    def _blocks(
        self, talks: Sequence[Talk], texts: Sequence[str | _Refused], renderer: TemplateRenderer
    ) -> list[tuple[Span, ...]]:
        """The template's own generation blocks, where it has any."""
        if not self._has_blocks:
            return [() for _ in talks]
        fine = [not isinstance(text, _Refused) for text in texts]
        some = [talk for talk, ok in zip(talks, fine, strict=True) if ok]
        found = renderer.stream((talk.turns for talk in some), spans=True, each=(talk.given for talk in some))
        return [next(found).spans if ok else () for ok in fine]

    def _by_blocks(self, text: str, blocks: Sequence[Span]) -> list[_Answer | None]:
        """Answers as the template marks them, with the end of the turn where that stands right behind."""
        found: list[_Answer | None] = []
        limits = [start for start, _ in blocks[1:]] + [len(text)]
        for (start, end), limit in zip(blocks, limits, strict=True):
            inside = [match.end() for match in self.controls.finditer(text, start, end)]
            ended = bool(inside) and not text[inside[-1] : end].strip()
            found.append(_Answer(start, inside[-1], True) if ended else self._closed(text, start, end, limit))
        return found

    def _between(self, text: str, turn: Mapping[str, Any], invited: str | _Refused, limit: int) -> _Answer | None:
        """An answer that follows what invites it; None where the text does not begin with that."""
        if isinstance(invited, _Refused) or not text.startswith(invited) or len(invited) >= limit:
            return None
        start, said = len(invited), turn["content"].strip() if isinstance(turn["content"], str) else ""
        place = text.find(said, start, limit) if said and not turn.get("tool_calls") else -1
        if place < 0:  # calls of tools, or words that the template writes in its own way
            closing = [match.end() for match in self.controls.finditer(text, start, limit)]
            if not closing and turn.get("tool_calls"):
                return _Answer(start, start + len(text[start:limit].rstrip()), False)
            return _Answer(start, closing[-1], True) if closing else None
        heading = text[start:place]
        if self.controls.search(heading):  # a template that does not invite: what names the speaker is not an answer
            start = place
        return self._closed(text, start, place + len(said), limit)

    def _closed(self, text: str, start: int, end: int, limit: int) -> _Answer:
        """An answer up to and with the control string that ends its turn, where there is one."""
        closing = self.controls.search(text, end, limit)
        if closing is None or text[end : closing.start()].strip():
            return _Answer(start, end, False)
        return _Answer(start, closing.end(), True)

    def _by_marks(
        self, text: str, talk: Talk, places: Sequence[int], renderer: TemplateRenderer
    ) -> list[_Answer | None]:
        """Answers found by marks around their words, inside of the white space that a template may trim."""
        turns = enumerate(talk.turns)
        marked = [{**turn, "content": _wrapped(turn["content"])} if k in places else turn for k, turn in turns]
        (found,) = _texts(renderer, [talk._replace(turns=marked)])
        if isinstance(found, _Refused) or found.replace(_OPEN, "").replace(_CLOSE, "") != text:
            return [None]
        pairs = [(match.start(), match.end()) for match in re.finditer(f"{_OPEN}.*?{_CLOSE}", found, re.DOTALL)]
        if len(pairs) != len(places):
            return [None]
        spans = [(start - 2 * i, end - 2 * i - 2) for i, (start, end) in enumerate(pairs)]
        limits = [start for start, _ in spans[1:]] + [len(text)]
        return [self._closed(text, start, end, limit) for (start, end), limit in zip(spans, limits, strict=True)]

    def _outside_controls(self, text: str, place: int) -> int:
        """A place that lies in no control string: before one that it would cut."""
        longest = 80
        for match in self.controls.finditer(text, max(0, place - longest), min(len(text), place + longest)):
            if match.start() < place < match.end():
                return match.start()
        return place


def template_of(tokenizer: Any) -> str | None:
    """The chat template of a tokenizer, or None."""
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, Mapping):
        template = template.get("default") or next(iter(template.values()), None)
    return template or None


def chat_format(tokenizer: Any) -> ChatFormat:
    """The format of a tokenizer: its own template, or the plain one."""
    special = {name: value for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    return ChatFormat(template_of(tokenizer) or plain_template(tokenizer), special, control_strings(tokenizer))


def plain_template(tokenizer: Any) -> str:
    """`PLAIN`, with the beginning of text where the tokenizer begins texts with one."""
    begins = tokenizer.bos_token is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    return ("{{ bos_token }}" if begins else "") + PLAIN


def control_strings(tokenizer: Any) -> list[str]:
    """Texts that the tokenizer would read as control tokens."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*added, *tokenizer.all_special_tokens})


@final
@dataclass(frozen=True)
class _Refused:
    """What the template said instead of a text."""

    said: str


def _texts(renderer: TemplateRenderer, talks: Sequence[Talk], *, invite: bool = False) -> list[str | _Refused]:
    """The text of each, or what was said against it: then each is rendered by itself."""
    try:
        turns, given = [talk.turns for talk in talks], [talk.given for talk in talks]
        return list(renderer.render(turns, add_generation_prompt=invite, each=given))
    except DataError as error:
        if len(talks) == 1:
            return [_Refused(str(error).splitlines()[-1].removeprefix("row 0: "))]
        middle = len(talks) // 2
        halves = (talks[:middle], talks[middle:])
        return [text for half in halves for text in _texts(renderer, half, invite=invite)]


def _nothing_of(talk: Talk, turn: int) -> str:
    """What is wrong with a turn of the assistant of which a template writes nothing."""
    has = [key for key in talk.turns[turn] if key not in ("role", "content")]
    where = f", which is in {listed(has)}" if has else ""
    return (
        f"turn {turn}: the template writes nothing of what the assistant says{where}; give a template that does, or "
        "drop these rows"
    )


def _looked_at(talks: Sequence[Talk], renderer: TemplateRenderer) -> list[str | None]:
    """The text of each, whoever speaks last; None where it is refused."""
    found: list[str | None] = [None] * len(talks)
    for answered in (True, False):
        rows = [i for i, talk in enumerate(talks) if talk.is_answered is answered]
        texts = _texts(renderer, [talks[i] for i in rows], invite=not answered) if rows else []
        for i, text in zip(rows, texts, strict=True):
            found[i] = None if isinstance(text, _Refused) else text
    return found


def _neutral(talk: Talk, controls: re.Pattern[str]) -> Talk:
    """The same with a mark inside every control string that somebody typed; weights are no part of what is said."""
    turns = [
        {key: value if key == "role" else _marked(value, controls) for key, value in turn.items() if key not in WEIGHTS}
        for turn in talk.turns
    ]
    return Talk(turns, _marked(talk.given, controls), [weight_of(turn) for turn in talk.turns])


def _marked(value: Any, controls: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return controls.sub(lambda match: match[0][0] + MARK + match[0][1:], value.replace(MARK, ""))
    if isinstance(value, Mapping):
        return {_marked(key, controls): _marked(item, controls) for key, item in value.items()}
    return [_marked(item, controls) for item in value] if isinstance(value, list | tuple) else value


def _wrapped(content: str) -> str:
    core = content.strip()
    left = content[: len(content) - len(content.lstrip())]
    return f"{left}{_OPEN}{core}{_CLOSE}{content[len(left) + len(core) :]}"


def _agree(left: str, right: str | _Refused) -> int:
    """How many characters two texts begin with in common."""
    other = "" if isinstance(right, _Refused) else right
    low, high = 0, min(len(left), len(other))
    while low < high:  # the longest common beginning, by halving
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[:middle] == other[:middle] else (low, middle - 1)
    return low
