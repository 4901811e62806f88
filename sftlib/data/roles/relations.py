"""What must hold between two roles of a row, once each of them can be used by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, final

from sftlib.data.kinds.base import RoleKind
from sftlib.data.kinds.objects import box_faults
from sftlib.data.kinds.values import Fault
from sftlib.data.pictures import UnreadableError, size_of
from sftlib.data.problems import SHOWN, Findings
from sftlib.data.structures import placed, read_structure


class Relation(ABC):
    """Something that holds between two roles of every row.

    Args:
        first: a role.
        second: another; problems are reported under it.

    Attributes:
        shown: how many rows of a kind of problem are told one by one.
    """

    shown: ClassVar[int] = SHOWN

    def __init__(self, first: str, second: str) -> None:
        self.first = first
        self.second = second

    @abstractmethod
    def breach(self, first: Any, second: Any) -> Fault | None:
        """How the values of a row, as their kinds normalise them, break it; None when they do not."""

    def breaches(self, first: Any, second: Any) -> Iterable[Fault]:
        """All ways in which they break it, each once."""
        breach = self.breach(first, second)
        return () if breach is None else (breach,)

    @final
    def check(self, rows: Iterator[tuple[int, Any, Any]]) -> Findings:
        """Every row that breaks it."""
        findings = Findings(shown=self.shown)
        for row, first, second in rows:
            for breach in self.breaches(first, second):
                findings.add(row, breach.what, breach.shown, breach.mend, note=breach.note)
        return findings


@final
class SameLength(Relation):
    """As many of the one as of the other.

    Example:
        >>> SameLength("tokens", "tags").breach(["New", "York"], ["O"]).note
        'tokens: 2, tags: 1'
    """

    def breach(self, first: Any, second: Any) -> Fault | None:
        if len(first) == len(second):
            return None
        what = f"another number of {self.second} than of {self.first}"
        note = f"{self.first}: {len(first)}, {self.second}: {len(second)}"
        return Fault(what, None, f"give one of {self.second} for each of {self.first}, or drop these rows", note)


@final
class SpanInside(Relation):
    """A span that does not reach beyond its text or its words.

    Example:
        >>> SpanInside("text", "head").breach("Paris", (0, 6)).note
        'text has 5 characters'
    """

    def breach(self, first: Any, second: Any) -> Fault | None:
        if second[1] <= len(first):
            return None
        unit = "characters" if isinstance(first, str) else "words"
        mend = f"spans count {unit} from 0, the end not included"
        return Fault(f"a span beyond the end of {self.first}", second, mend, f"{self.first} has {len(first)} {unit}")


@final
class Differ(Relation):
    """Two values that are not the same.

    Example:
        >>> Differ("head", "tail").breach((0, 2), (0, 2)).what
        'the same span as head and tail'
    """

    def breach(self, first: Any, second: Any) -> Fault | None:
        if first != second:
            return None
        what = f"the same span as {self.first} and {self.second}"
        return Fault(what, second, "a relation holds between two places: drop these rows or mend them")


@final
class AnswersInside(Relation):
    """Answers that stand in the context where they are said to.

    Example:
        >>> relation = AnswersInside("context", "answers")
        >>> relation.breach("It is Paris.", {"text": ["Paris"], "answer_start": [5]}).note
        'not at 5 but at 6'
    """

    def breach(self, first: Any, second: Any) -> Fault | None:
        for text, start in zip(second["text"], second["answer_start"], strict=True):
            if not first.startswith(text, start):
                what = f"an answer that does not stand in {self.first} at answer_start"
                mend = f"answer_start counts the characters of {self.first} before the answer; mend or drop these rows"
                return Fault(what, text, mend, f"not at {start} {_found(first, text, start)}")
        return None


@final
class Covers(Relation):
    """A mask with a number for each pixel of its picture.

    Example:
        >>> import numpy as np
        >>> Covers("image", "mask").breach(np.zeros((4, 6, 3), np.uint8), np.zeros((4, 4), np.uint8)).note
        'image 4 x 6, mask 4 x 4'
    """

    def breach(self, first: Any, second: Any) -> Fault | None:
        try:
            picture = size_of(first)
            mask = size_of(second)
        except UnreadableError:  # which its own kind says
            return None
        if picture == mask:
            return None
        named = [repr(second)] if isinstance(second, str) else []
        sizes = f"{self.first} {picture[0]} x {picture[1]}, {self.second} {mask[0]} x {mask[1]}"
        mend = "a mask has a number for each pixel, heights and widths are equal: mend or drop these rows"
        what = f"a {self.second} of another size than its {self.first}"
        return Fault(what, None, mend, ", ".join([*named, sizes]))


@final
class BoxesInside(Relation):
    """Boxes with an area, inside of their picture but for a pixel.

    Example:
        >>> import numpy as np
        >>> objects = [{"label": "cat", "box": (0, 0, 4, 2)}, {"label": "cat", "box": (3, 1, 3, 2)}]
        >>> [
        ...     fault.what
        ...     for fault in BoxesInside("image", "objects").breaches(np.zeros((2, 4, 3), np.uint8), objects)
        ... ]
        ['a box without area']
    """

    shown = 100  # each is mended by hand

    def breach(self, first: Any, second: Any) -> Fault | None:
        return next(iter(self.breaches(first, second)), None)

    def breaches(self, first: Any, second: Any) -> Iterator[Fault]:
        try:
            height, width = size_of(first)
        except UnreadableError:  # which its own kind says
            return
        found: dict[str, list[str]] = {}
        for number, thing in enumerate(second):
            what = box_faults(thing["box"], height, width)
            if what is not None:
                found.setdefault(what, []).append(f"object {number} {tuple(thing['box'])}")
        name = [repr(first)] if isinstance(first, str) else []
        for what, places in found.items():
            more = [f"and {len(places) - 3} more"] if len(places) > 3 else []
            size = [f"picture {width} wide, {height} high"] if "picture" in what else []
            mend = (
                "a box is (x1, y1, x2, y2) in pixels, x1 < x2 and y1 < y2; with x, y, width and height given, x2 = x + "
            )
            mend += "width: mend or drop these rows"
            yield Fault(what, None, mend, ", ".join([*name, *places[:3], *more, *size]))


@final
class PairsInside(Relation):
    """Pairs of letters that a sequence has.

    Example:
        >>> PairsInside("sequence", "contacts").breach("MKV", [[0, 2], [1, 3]]).note
        '[1, 3], and the last of 3 letters is 2'
    """

    def breach(self, first: Any, second: Any) -> Fault | None:
        beyond = next((pair for pair in second if pair[1] >= len(first)), None)
        if beyond is None:
            return None
        mend = "letters count from 0, so that the last one's number is their count less 1: mend or drop these rows"
        note = f"{beyond}, and the last of {len(first):,} letters is {len(first) - 1:,}"
        return Fault(f"a pair beyond the end of its {self.first}", None, mend, note)


@final
class ResiduesMatch(Relation):
    """A structure of a sequence's own residues, as far as they were observed."""

    shown = 100  # each is mended by hand

    def breach(self, first: Any, second: Any) -> Fault | None:
        try:
            chains = read_structure(second)
        except UnreadableError:  # which its own kind says
            return None
        try:
            placed(chains, first.upper())
        except UnreadableError as problem:
            return Fault(problem.what, None, problem.mend, f"{second!r}, {problem.note}")
        return None


def _found(context: str, text: str, start: int) -> str:
    """Where a text stands that is not where it was said to be."""
    places = [place for place in (context.rfind(text, 0, start + len(text)), context.find(text, start)) if place >= 0]
    return f"but at {min(places, key=lambda place: abs(place - start))}" if places else "nor anywhere else"


def check_relations(
    relations: Sequence[Relation],
    kinds: Mapping[str, RoleKind],
    raw: Mapping[str, Sequence[object]],
    values: Mapping[str, Sequence[object]],
) -> Iterator[tuple[str, Findings]]:
    """Under which role each relation is broken by which rows.

    Rows with a value that cannot be used are left to the kind of its role; the others are looked at all the same, so
    that everything that is wrong comes in one error.

    Args:
        relations: between roles; those of a role that the data set lacks are passed over.
        kinds: of each role.
        raw: the values of each role as they came.
        values: of the roles without a problem, normalised.
    """
    for relation in relations:
        pair = (relation.first, relation.second)
        if not set(pair) <= kinds.keys():
            continue
        if set(pair) <= values.keys():
            columns = zip(values[pair[0]], values[pair[1]], strict=True)
            yield relation.second, relation.check((row, *both) for row, both in enumerate(columns))
        else:
            usable = [_usable(kinds[role], raw[role]) for role in pair]
            rows = enumerate(zip(*usable, strict=True))
            yield relation.second, relation.check((row, *a, *b) for row, (a, b) in rows if a and b)


def _usable(kind: RoleKind, values: Sequence[object]) -> Iterator[list[object]]:
    """For each row a list of its normalised value, or an empty one."""
    for value in values:
        yield [] if kind.check([value]) else kind.normalise([value])
