"""Checkpoints: safetensors weights with a JSON header. Loading one runs no code."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from pigen.config import DiffusionConfig, ModelConfig
from pigen.crystal.elements import MAX_Z
from pigen.model.diffusion.lattice import LatticeScale
from pigen.model.network import Denoiser
from pigen.model.size_prior import SizePrior
from pigen.model.spec import ModelSpec, units_of
from pigen.runtime.checked import checked
from pigen.runtime.errors import UsageError
from pigen.runtime.files import parse_json, sha256_of, write_atomically

FORMAT = "pigen-checkpoint-1"
MAX_CHECKPOINT_BYTES = 2**30
"""Of a file: a network of ours has some 10 MiB."""
ADDED = ("embed_given.weight", "embed_held.weight")
"""Weights that checkpoints of before lack; their zeros change no prediction."""
MAX_SIZES = 10_000
"""Atoms in the largest cell that a checkpoint may know of."""


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
    """Header of a checkpoint, without its weights; UsageError if it is not one of ours.

    Every value is checked as those of an experiment are: a stranger may have written it.
    """
    try:
        if path.stat().st_size > MAX_CHECKPOINT_BYTES:
            raise ValueError(f"oversized, MAX_CHECKPOINT_BYTES is {MAX_CHECKPOINT_BYTES}")
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                found = metadata.get("format", "no format at all")[:50]
                raise UsageError(f"{path}: expected a {FORMAT} file, found {found}")
            data = parse_json(metadata["header"])
            names = ("frequency", "mean", "covariance")
            for name in names:
                shape = file.get_slice(f"sizes.{name}").get_shape()
                if len(shape) > 3 or max(shape, default=0) > MAX_SIZES:
                    raise ValueError(f"sizes.{name} has shape {shape}")
            sizes = SizePrior(*(np.asarray(file.get_tensor(f"sizes.{name}")) for name in names))
        return _header(data, sizes, path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such checkpoint") from None
    except KeyError as error:
        raise UsageError(f"{path}: not a readable checkpoint (it lacks {error})") from None
    except (SafetensorError, OSError, *_BROKEN) as error:
        said = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: not a readable checkpoint ({said})") from None


_BROKEN = (TypeError, ValueError, AttributeError, OverflowError, MemoryError)


def load_checkpoint(path: Path, device: torch.device) -> tuple[Denoiser, Header]:
    """The network, in evaluation mode on ``device``, and its header. Raises as `read_header`."""
    header = read_header(path)
    _check_weights(path, header)
    weights = {
        name: w.float()
        for name, w in load_file(str(path), device=str(device)).items()
        if not name.startswith("sizes.")
    }
    strange = next((name for name, w in weights.items() if not torch.isfinite(w).all()), None)
    if strange is not None:
        raise UsageError(f"{path}: {strange} holds numbers that are not finite")
    model = Denoiser(header.model, len(header.spec.elements)).to(device)
    absent = {name: w for name, w in model.state_dict().items() if name in ADDED}
    model.load_state_dict({**absent, **weights}, strict=True)
    return model.eval().requires_grad_(False), header


def _check_weights(path: Path, header: Header) -> None:
    """UsageError unless the weights have names and shapes of the header's network.

    Found out without making it: a header may ask for any amount of memory.
    """
    with safe_open(str(path), framework="np") as file:
        stored = {
            name: tuple(file.get_slice(name).get_shape())
            for name in file.keys()  # noqa: SIM118
            if not name.startswith("sizes.")
        }
    misfit = f"{path}: weights do not fit the network its header says:"
    if header.model.layers > len(stored):
        raise UsageError(f"{misfit} {len(stored)} tensors for {header.model.layers} layers")
    try:
        with torch.device("meta"):
            network = Denoiser(header.model, len(header.spec.elements))
    except (RuntimeError, *_BROKEN) as error:  # sizes beyond what an integer holds
        raise UsageError(f"{misfit} {str(error).splitlines()[0]}") from None
    expected = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    for name in ADDED:
        stored.setdefault(name, expected[name])
    for name in (*expected, *stored):
        if expected.get(name) != stored.get(name):
            found = stored.get(name, "missing") if name in expected else "unknown"
            shape = expected.get(name, "nothing")
            raise UsageError(f"{misfit} {name[:80]}: expected {shape}, found {found}")


def checkpoint_hash(path: Path) -> str:
    """First 12 hex digits of the file's SHA-256."""
    return sha256_of(path, 12)


def _header(data: dict[str, Any], sizes: SizePrior, path: Path) -> Header:
    model = checked(ModelConfig, data["model"], path, key="model")
    n = len(model.labels)
    spec = ModelSpec(
        elements=tuple(data["elements"]),
        lattice=LatticeScale(**{str(key): float(x) for key, x in data["lattice"].items()}),
        label_mean=tuple(map(float, data["label_mean"])),
        label_sd=tuple(map(float, data["label_sd"])),
        label_unit=tuple(map(str, data.get("label_unit", units_of(model.labels)))),
        sizes=sizes,
    )
    known = [z for z in spec.elements if isinstance(z, int) and 1 <= z <= MAX_Z]
    if not known or len(set(known)) != len(spec.elements):
        raise ValueError("elements: expected different atomic numbers")
    if not all(len(each) == n for each in (spec.label_mean, spec.label_sd, spec.label_unit)):
        raise ValueError(f"label_mean, label_sd and label_unit: expected {n} values, one a label")
    scale = spec.lattice
    if not np.isfinite([*spec.label_mean, *spec.label_sd, *asdict(scale).values()]).all():
        raise ValueError("label_mean, label_sd, lattice: expected finite numbers")
    if min([*spec.label_sd, scale.volume_sd, scale.shape_sd]) <= 0:
        raise ValueError("label_sd, lattice: expected deviations above 0")
    m = len(sizes.frequency)
    shapes = [array.shape for array in (sizes.frequency, sizes.mean, sizes.covariance)]
    if not m or shapes != [(m,), (m, n), (m, n, n)]:
        raise ValueError(f"sizes: expected shapes ({m},), ({m}, {n}), ({m}, {n}, {n})")
    arrays = (sizes.frequency, sizes.mean, sizes.covariance)
    if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays):
        raise ValueError("sizes: expected finite numbers")
    if sizes.frequency.min() < 0 or abs(sizes.frequency.sum() - 1) > 1e-6:
        raise ValueError("sizes.frequency: expected shares that sum to 1")
    return Header(
        model=model,
        diffusion=checked(DiffusionConfig, data["diffusion"], path, key="diffusion"),
        spec=spec,
        training={str(key): str(value) for key, value in data["training"].items()},
    )
