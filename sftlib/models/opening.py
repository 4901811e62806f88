"""What can go wrong when a model or a tokenizer is opened, and what to say about it.

transformers, tokenizers and safetensors each raise errors of their own; none of them reaches a user.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from torch import nn

from sftlib.errors import ArtifactError, OptionError
from sftlib.models.feature_extractors import is_extractor, saved_extractor
from sftlib.models.image_processors import pillow_processor, saved_processor
from sftlib.support.checking import nearest_folder
from sftlib.support.extras import require

CONFIG = "config.json"
_WANTED = "expected a transformers tokenizer, or the folder or name of one"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Transformers' bars and notices off; a new head is news to nobody who asked for one."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()  # type: ignore[no-untyped-call]
    log.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()  # type: ignore[no-untyped-call]


def open_tokenizer(given: object, *, option: str = "tokenizer", more: Mapping[str, str] | None = None) -> Any:
    """The tokenizer that a user means: an object, or the folder or hub name of one.

    Args:
        given: as the user gave it.
        option: which option it comes from, for messages.
        more: what else transformers has to know, such as the name of a GGUF file.

    Raises:
        OptionError: it is something else.
        ArtifactError: there is none under this name.
    """
    if isinstance(given, transformers.PreTrainedTokenizerBase):
        return given
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise OptionError(f"{option}={given!r:.60}: {_WANTED}{_wrapping(given)}")
    where = os.path.expanduser(os.fspath(given))
    local = os.path.isdir(where)
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                where, trust_remote_code=False, local_files_only=local, **(more or {})
            )
    except Exception as error:  # whatever it is that tokenizers and transformers stumble over
        raise ArtifactError(
            f"{option}={where!r}: no tokenizer can be opened from there: {_reason(where, error)}"
        ) from error
    # Without its files, transformers makes one that knows its control tokens only, and reads every word as unknown.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ArtifactError(
            f"{option}={where!r}: it holds no vocabulary{found_in(where) if local else ''}; save the tokenizer there, "
            "or name another place with tokenizer="
        )
    return tokenizer


def open_image_processor(given: object, *, option: str) -> Any:
    """The image processor that a user means: an object, or the folder or hub name of one.

    Raises:
        OptionError: it is something else.
        ArtifactError: there is none under this name.
    """
    if callable(getattr(given, "preprocess", None)):
        return given
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise OptionError(
            f"{option}={given!r:.60}: expected an image processor of transformers, or the folder or name of one"
        )
    where = os.path.expanduser(os.fspath(given))
    require("PIL", extra="image", purpose="reading pictures")
    try:
        with quiet():
            return saved_processor(where, local=os.path.isdir(where))
    except Exception as error:  # whatever it is that transformers stumbles over
        raise ArtifactError(
            f"{option}={where!r}: no image processor can be opened from there: {first_line(error)}"
        ) from error


def open_feature_extractor(given: object, *, option: str) -> Any:
    """The feature extractor that a user means: an object, a processor that holds one, or the folder or hub name of one.

    Raises:
        OptionError: it is something else.
        ArtifactError: there is none under this name.
    """
    inner = getattr(given, "feature_extractor", given)
    if is_extractor(inner):
        return inner
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise OptionError(
            f"{option}={given!r:.60}: expected a feature extractor of transformers, or the folder or name of one"
        )
    where = os.path.expanduser(os.fspath(given))
    try:
        with quiet():
            return saved_extractor(where, local=os.path.isdir(where))
    except Exception as error:  # whatever it is that transformers stumbles over
        raise ArtifactError(
            f"{option}={where!r}: no feature extractor can be opened from there: {first_line(error)}"
        ) from error


def plain_image_processor(height: int, width: int) -> Any:
    """An image processor for a model that comes without one: pictures are brought to a size, and centred.

    Mean and deviation are those of ImageNet, with which most published models of pictures were trained.
    """
    require("PIL", extra="image", purpose="reading pictures")
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    size = {"height": height, "width": width}
    return pillow_processor("ViTImageProcessor", size=size, image_mean=means, image_std=deviations)


def _reason(where: str, error: BaseException) -> str:
    if not os.path.isdir(where):
        return "there is no such folder" if looks_like_a_path(where) else first_line(error)
    if not any(re.search(r"token|vocab|spiece|\.model$", item.name) for item in Path(where).iterdir()):
        return f"there are no tokenizer files{found_in(where)}"
    return f"{type(error).__name__}: {first_line(error)}"


def _wrapping(given: object) -> str:
    if type(given).__module__.startswith("tokenizers"):
        return "; wrap it: transformers.PreTrainedTokenizerFast(tokenizer_object=...)"
    return f", found {'a class' if isinstance(given, type) else type(given).__name__}"


def check_vocabulary(
    model: nn.Module, ids: NDArray[np.integer[Any]], added: Mapping[int, str] = MappingProxyType({})
) -> None:
    """Refuse tokens that the model has no embedding for.

    Args:
        model: any; one that does not tell its embeddings is not checked.
        ids: (L,) of tokens.
        added: number -> text of tokens that were added to the tokenizer after it was made.

    Raises:
        OptionError: tokenizer and model do not belong together.
    """
    try:
        table = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return
    size = getattr(table, "num_embeddings", None)
    if not isinstance(size, int) or not len(ids) or ids.max() < size:
        return
    beyond = [added.get(int(number)) for number in ids if number >= size]
    if None not in beyond:
        shown = ", ".join(repr(token) for token in beyond[:5])
        raise OptionError(
            f"the tokenizer has tokens that were added to it ({shown}), and the model {type(model).__name__} has no "
            f"embeddings for them (it knows {size:,} tokens): open the model yourself, call "
            "model.resize_token_embeddings(len(tokenizer)), and give FineTuner(model, tokenizer=tokenizer); the new "
            "embeddings are then trained with the model, and under an adapter stay as they were drawn unless that "
            "trains the embeddings too"
        )
    raise OptionError(
        f"the tokenizer gives token number {ids.max():,}, the model {type(model).__name__} knows {size:,} tokens: "
        "they do not belong together; give the model's own tokenizer"
    )


def looks_like_a_path(name: str) -> bool:
    """Whether a name can only be meant as a path, since no model on the hub is called so."""
    return name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or "\\" in name or " " in name or not name


def neighbours(name: str) -> str:
    """The nearest folder beside a path that does not exist."""
    hint = nearest_folder(Path(name))
    return f"; {hint}" if hint else ""


def found_in(folder: str) -> str:
    """What a folder holds instead, and where beneath it a model lies."""
    inside = sorted(Path(folder).iterdir())
    models = [str(item) for item in inside if (item / CONFIG).is_file()]
    if models:
        return f"; did you mean {models[-1]!r}?"
    return f" (found: {', '.join(repr(item.name) for item in inside[:5])})" if inside else " (it is empty)"


@contextlib.contextmanager
def opening(name: str, auto_class: str, config: Any, advice: str = "") -> Iterator[None]:
    """Turn what transformers raises for a model that cannot be opened into one of our errors.

    Args:
        name: of the model.
        auto_class: that was asked to open it.
        config: of the model.
        advice: what to do instead where there is no such class for it.
    """
    try:
        yield
    except Exception as error:  # safetensors, torch and transformers each have their own
        if "Unrecognized configuration class" in str(error):
            raise OptionError(
                f"model={name!r}: transformers has no {auto_class} for {config.model_type!r}{advice}"
            ) from error
        raise ArtifactError(f"model={name!r}: its weights cannot be opened: {first_line(error)}") from error


def check_weights(name: str, model: Any, facts: Mapping[str, Any]) -> None:
    """Refuse weights of another model: transformers would put random numbers in their place.

    A new head is welcome; so is a missing pooler, which models that were trained to fill in words do not have.

    Raises:
        ArtifactError: shapes in the body differ, or most of the body is not there.
    """
    prefix = f"{model.base_model_prefix}."
    wrong = sorted(item for item in facts["mismatched_keys"] if item[0].startswith(prefix))
    if wrong:
        weight, found, expected = wrong[0]
        raise ArtifactError(
            f"model={name!r}: {len(wrong)} weights have other shapes than its {CONFIG} says: "
            f"{weight} has {tuple(found)}, expected {tuple(expected)}"
        )
    body = [weight for weight in model.state_dict() if weight.startswith(prefix)]
    missing = sorted(weight for weight in facts["missing_keys"] if weight.startswith(prefix))
    if 2 * len(missing) > len(body):
        raise ArtifactError(
            f"model={name!r}: {len(missing)} of the {len(body)} weights of {type(model).__name__} are not there, "
            f"such as {missing[0]}; these are the weights of another kind of model"
        )


def first_line(error: BaseException) -> str:
    """What an error says, in one line; a second one is taken along when the first ends in a colon."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"{said:.300}".rstrip(" .:")
