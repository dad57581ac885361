"""Checkpoints: safetensors weights with a JSON header. Loading one runs no code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from pigen import resources
from pigen.diffusion.lattice import LatticeScale
from pigen.errors import UsageError
from pigen.experiment import DiffusionConfig, ModelConfig
from pigen.files import write_atomically
from pigen.model.network import Denoiser
from pigen.model.size_prior import SizePrior
from pigen.model.spec import ModelSpec, units_of

FORMAT = "pigen-checkpoint-1"


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself.

    Attributes:
        model: the network's shape. diffusion: the corruption it was trained for.
        spec: vocabulary and constants. training: free text facts by key (epochs, data, …).
    """

    model: ModelConfig
    diffusion: DiffusionConfig
    spec: ModelSpec
    training: dict[str, str]


def save_checkpoint(path: Path, weights: dict[str, Tensor], header: Header) -> None:
    """Write weights of any shapes atomically: a reader finds the old file or the new one.

    Weights are rounded to half precision, which changes no loss of the shipped model by more than
    1e-4 of it and halves the file; what training needs to go on is kept elsewhere, in full.
    """
    sizes = header.spec.sizes
    tensors = {name: w.detach().cpu().half().contiguous() for name, w in weights.items()}
    for name in ("frequency", "mean", "covariance"):
        tensors[f"sizes.{name}"] = torch.from_numpy(getattr(sizes, name).copy())
    text = json.dumps(
        {
            "model": asdict(header.model),
            "diffusion": asdict(header.diffusion),
            "elements": header.spec.elements,
            "lattice": asdict(header.spec.lattice),
            "label_mean": header.spec.label_mean,
            "label_sd": header.spec.label_sd,
            "label_unit": header.spec.label_unit,
            "training": header.training,
        }
    )
    write_atomically(path, save(tensors, metadata={"format": FORMAT, "header": text}))


def read_header(path: Path) -> Header:
    """Header of a checkpoint, without its weights; UsageError if it is not one of ours."""
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                found = metadata.get("format", "no format at all")
                raise UsageError(f"{path}: expected a {FORMAT} file, found {found}")
            data = json.loads(metadata["header"])
            sizes = SizePrior(
                *(
                    np.asarray(file.get_tensor(f"sizes.{name}"))
                    for name in ("frequency", "mean", "covariance")
                )
            )
        return _header(data, sizes)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such checkpoint") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not a readable checkpoint ({error})") from None


def load_checkpoint(path: Path, device: torch.device) -> tuple[Denoiser, Header]:
    """The network, in evaluation mode on ``device``, and its header. Raises as `read_header`."""
    header = read_header(path)
    weights = {
        name: w.float()
        for name, w in load_file(str(path), device=str(device)).items()
        if not name.startswith("sizes.")
    }
    model = Denoiser(header.model, len(header.spec.elements)).to(device)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UsageError(
            f"{path}: weights do not fit the network its header says: {first}"
        ) from None
    return model.eval().requires_grad_(False), header


def find_checkpoint(name: str) -> Path:
    """The file of a shipped checkpoint's name, or of a path; UsageError if there is none."""
    path = resources.checkpoint(name)
    if name not in resources.SHIPPED_CHECKPOINTS:
        path = Path(name)
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    return path


def checkpoint_hash(path: Path) -> str:
    """First 12 hex digits of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _header(data: dict[str, Any], sizes: SizePrior) -> Header:
    model = dict(data["model"], labels=tuple(data["model"]["labels"]))
    return Header(
        model=ModelConfig(**model),
        diffusion=DiffusionConfig(**data["diffusion"]),
        spec=ModelSpec(
            elements=tuple(data["elements"]),
            lattice=LatticeScale(**data["lattice"]),
            label_mean=tuple(data["label_mean"]),
            label_sd=tuple(data["label_sd"]),
            label_unit=tuple(data.get("label_unit", units_of(model["labels"]))),
            sizes=sizes,
        ),
        training={str(k): str(v) for k, v in data["training"].items()},
    )
