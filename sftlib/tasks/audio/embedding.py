"""Audio embedding: sounds of one identity lie near each other; voices, instruments, machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.audio.encoder import MASK
from sftlib.encoders.audio.inputs import Audio
from sftlib.errors import OptionError
from sftlib.models.language.encoder_decoder import is_encoder_decoder
from sftlib.support.checking import checked_fields
from sftlib.tasks.audio.sounds import example_sounds, sound_in
from sftlib.tasks.identities import Embedded, IdentityTask, Seen

_FRAMES = "frames"  # (B,) how many of a row's states are its own


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class AudioEmbedding(IdentityTask):
    """An embedding for each sound, of length 1, in which sounds of one identity lie together: one speaker, one machine.

    ``"arcface"`` and ``"cosface"`` learn a direction for each identity, and a row's loss is its own; ``"triplet"`` and
    ``"contrastive"`` compare the sounds of a step, ``rows_of_each`` of as many identities as fit into ``batch_size``;
    ``"pairs"`` learns from two sounds and a verdict. Identities of validation and test rows may be new.

    The embedding is the mean of the model's last states over the frames that are the sound's own, divided by its
    length. That of a sound longer than ``Audio(longest=...)`` is the mean of those of its pieces; of pairs the
    beginnings are heard. Validation rows choose the similarity from which on two sounds are called the same.

    Args:
        objective: what is learned; by the roles of the data when None: ``"arcface"``, or ``"pairs"``.
        margin: by how much a sound is to be nearer to its own identity than to others; by the objective when None.
        scale: factor of the cosines; by the objective when None.
        rows_of_each: sounds of an identity in a step (``"triplet"``, ``"contrastive"``).
        pooling: ``"mean"`` of the last states, the ``"first"`` of them, or the model's own ``"pooler"``.
        far: share of strangers that may pass at the threshold; None for where both errors are nearest to each other.
        learned: objective, identities and threshold; from the data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> AudioEmbedding(objective="triplet", margin=0.2)
        AudioEmbedding(objective='triplet', margin=0.2)
    """

    name = "audio-embedding"
    inputs = Audio
    media = "audio"

    def one(self, example: object) -> Any:
        return sound_in(example)

    def examples(self) -> list[object]:
        return example_sounds()

    def check_model(self, model: nn.Module, name: str) -> None:
        if is_encoder_decoder(model):
            raise OptionError(
                f"model={name!r}: {type(model).__name__} cannot listen without writing; {self.name} needs an encoder "
                "of sounds: wav2vec2, HuBERT, WavLM, AST, or a module of your own"
            )

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Seen:
        own: Any = getattr(model, "_get_feat_extract_output_lengths", None)
        if own is None or MASK not in inputs:
            return super().ask(model, call, inputs)

        def calling(module: nn.Module, given: Mapping[str, Any]) -> Any:
            return call(module, {name: value for name, value in given.items() if name != _FRAMES})

        return super().ask(model, calling, {**inputs, _FRAMES: own(inputs[MASK].sum(dim=1))})

    def mean(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        frames = inputs.get(_FRAMES)
        if frames is None:
            return states.mean(dim=1)
        inside = torch.arange(states.shape[1], device=states.device) < frames[:, None]  # (B, places)
        mean: Tensor = (states * inside[..., None]).sum(dim=1) / inside.sum(dim=1, keepdim=True)
        return mean

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[Any]) -> Any:
        if len(pieces) == 1:
            return pieces[0]
        whole = np.mean([piece.embedding for piece in pieces], axis=0, dtype=np.float64)
        return Embedded((whole / np.linalg.norm(whole)).astype(np.float32).tobytes())
