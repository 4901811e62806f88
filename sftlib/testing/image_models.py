"""Tiny models that look at pictures of 32 x 32 pixels, and what prepares pictures for them, by pillow alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import AutoConfig

from sftlib.models.image_processors import pillow_processor
from sftlib.support.checking import choice, raise_together
from sftlib.support.extras import require
from sftlib.testing.models import built

IMAGE_FAMILIES = ("mobilenet_v2", "resnet", "vit", "convnext", "swin", "segformer", "dinov2")
IMAGE_SIZE = 32

_PATCHES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": IMAGE_SIZE,
    "patch_size": 8,
}
_SQUARE = {"size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}
_MIDDLE = {"size": {"shortest_edge": 36}, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}
_PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "mobilenet_v2": ("MobileNetV2ImageProcessor", _MIDDLE),
    "resnet": ("ConvNextImageProcessor", {"size": {"shortest_edge": IMAGE_SIZE}}),
    "vit": ("ViTImageProcessor", _SQUARE),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": IMAGE_SIZE}}),
    "swin": ("ViTImageProcessor", _SQUARE),
    "segformer": ("SegformerImageProcessor", _SQUARE),
    "dinov2": ("BitImageProcessor", _MIDDLE),
}


def tiny_image_config(family: str, *, num_labels: int = 2, dropout: float = 0.1) -> Any:
    """The configuration of one family at toy size.

    Args:
        family: one of `IMAGE_FAMILIES`.
        num_labels: classes of a picture, or of a pixel.
        dropout: at every site the family has, of whole paths too; ResNet has none.

    Raises:
        OptionError: an unknown family.
    """
    raise_together([choice("family", family, IMAGE_FAMILIES)])
    hidden = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    own: dict[str, dict[str, Any]] = {
        "mobilenet_v2": {
            "depth_multiplier": 0.025,
            "min_depth": 8,
            "finegrained_output": False,
            "image_size": IMAGE_SIZE,
            "classifier_dropout_prob": dropout,
        },
        "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "layer_type": "basic"},
        "vit": {**_PATCHES, **hidden, "intermediate_size": 64},
        "dinov2": {**_PATCHES, **hidden, "mlp_ratio": 2, "drop_path_rate": dropout},
        "convnext": {
            "num_stages": 3,
            "hidden_sizes": [8, 16, 32],
            "depths": [1, 1, 1],
            "patch_size": 2,
            "image_size": IMAGE_SIZE,
            "drop_path_rate": dropout,
        },
        "swin": {
            **hidden,
            "image_size": IMAGE_SIZE,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 4,
            "drop_path_rate": dropout,
        },
        "segformer": {
            **hidden,
            "hidden_sizes": [8, 16, 32, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 2],
            "mlp_ratios": [2, 2, 2, 2],
            "decoder_hidden_size": 32,
            "classifier_dropout_prob": dropout,
            "drop_path_rate": dropout,
        },
    }
    return AutoConfig.for_model(family, num_labels=num_labels, **own[family])


def tiny_image_model(
    family: str = "vit",
    num_labels: int = 2,
    dropout: float = 0.1,
    seed: int = 0,
    *,
    auto_class: str = "AutoModelForImageClassification",
) -> PreTrainedModel:
    """A model of pictures with random weights: equal for equal arguments, torch's own generator untouched.

    Args:
        family: one of `IMAGE_FAMILIES`.
        num_labels: classes of a picture, or of a pixel.
        dropout: at every site the family has.
        seed: of the weights.
        auto_class: the class of transformers that makes it, such as ``"AutoModelForSemanticSegmentation"``.

    Returns:
        The model in evaluation mode, as ``from_pretrained`` leaves it.

    Raises:
        OptionError: an unknown family.

    Example:
        >>> import torch
        >>> tiny_image_model("resnet", 3)(torch.zeros(1, 3, 32, 32)).logits.shape
        torch.Size([1, 3])
    """
    model = built(tiny_image_config(family, num_labels=num_labels, dropout=dropout), auto_class, seed)
    if family == "mobilenet_v2":
        _keep_signal(model, seed)
    return model


def _keep_signal(model: nn.Module, seed: int) -> None:
    """Draw convolutions by He's rule.

    In evaluation mode nothing normalises in a network that has not seen data: as transformers draws them, fifty layers
    leave 1e-29 of a picture.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)


def tiny_image_processor(family: str = "vit") -> Any:
    """The image processor of a family, for 32 x 32 pixels; it needs pillow, and never torchvision.

    Args:
        family: one of `IMAGE_FAMILIES`.

    Raises:
        OptionError: an unknown family.
        MissingExtraError: pillow is not installed.
    """
    raise_together([choice("family", family, IMAGE_FAMILIES)])
    require("PIL", extra="image", purpose="preparing pictures")
    name, settings = _PROCESSORS[family]
    return pillow_processor(name, **settings)
