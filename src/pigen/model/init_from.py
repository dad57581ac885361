"""Starting a network from a trained one: what is kept, what is mapped, what is new.

The network that comes out predicts exactly what the checkpoint does, for the elements and labels
that both have: a new label adds nothing until it is trained, and what a label left out contributed
where its value was missing stays, as part of a bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pigen.config import DiffusionConfig, ModelConfig
from pigen.crystal.elements import SYMBOLS
from pigen.model.checkpoint import Header, checkpoint_hash, load_checkpoint, read_header
from pigen.model.network import Denoiser
from pigen.model.size_prior import SizePrior
from pigen.model.spec import ModelSpec
from pigen.runtime.errors import UsageError
from pigen.runtime.resources import find_checkpoint

_ROW_OF_ELEMENT = ("type_head.2.weight", "type_head.2.bias")
_ROW_OF_CLASS = "embed_type.weight"  # class 0 is the mask
_COLUMN_OF_ELEMENT = "guess_types.weight"
_LABELS = ("embed_labels.weight", "embed_labels.null")
_CONDITION = ("condition.0.weight", "condition.0.bias")


def check_start(name: str, model: ModelConfig, diffusion: DiffusionConfig) -> None:
    """Raise UsageError, naming every difference, if a checkpoint's network has other settings.

    Args:
        name: a checkpoint file, or the name of a shipped one.
        model: the network to start; its labels may differ.
        diffusion: the corruption it is to be trained for.
    """
    header = read_header(find_checkpoint(name))
    pairs = (
        ("model", asdict(header.model), asdict(model)),
        ("diffusion", asdict(header.diffusion), asdict(diffusion)),
    )
    differing = [
        f"{part}.{key} = {theirs[key]} (here {ours[key]})"
        for part, theirs, ours in pairs
        for key in theirs
        if key != "labels" and theirs[key] != ours[key]
    ]
    if differing:
        raise UsageError(
            f"train.init_from: {name} is another network: {', '.join(differing)}; "
            "set these as the checkpoint has them, or start without it"
        )


@dataclass(frozen=True)
class Start:
    """A checkpoint to start from.

    Attributes:
        origin: its file's name and hash, and how it was trained, for the header of what comes.
        header: what it says of itself.
        weights: its network's, by name.
    """

    origin: str
    header: Header
    weights: dict[str, Tensor]

    @classmethod
    def load(cls, name: str) -> Start:
        """Read a checkpoint file, or a shipped one by name. Raises as `load_checkpoint`."""
        path: Path = find_checkpoint(name)
        network, header = load_checkpoint(path, torch.device("cpu"))
        facts = [f"{path.name} sha256 {checkpoint_hash(path)}"]
        facts += [
            f"{k} {header.training[k]}" for k in ("structures", "steps") if k in header.training
        ]
        return cls(", ".join(facts), header, network.state_dict())

    def spec(self, fitted: ModelSpec, labels: Sequence[str]) -> ModelSpec:
        """The spec to train with, from one fitted to the training set with these labels.

        The scales of the lattice and of labels that the checkpoint has are the checkpoint's, which
        its weights mean; elements are its own and those of the training set; sizes, and the scales
        of new labels, are those of the training set.
        """
        base, known = self.header.spec, self.header.model.labels
        mean, sd = np.array(fitted.label_mean), np.array(fitted.label_sd)
        for place, label in enumerate(labels):
            if label in known:
                mean[place] = base.label_mean[known.index(label)]
                sd[place] = base.label_sd[known.index(label)]
        # Moments of labels in units of the training set's deviations, in those of the new scale.
        ratio = np.array(fitted.label_sd) / sd
        shift = (np.array(fitted.label_mean) - mean) / sd
        return ModelSpec(
            elements=tuple(sorted({*base.elements, *fitted.elements})),
            lattice=base.lattice,
            label_mean=tuple(mean.tolist()),
            label_sd=tuple(sd.tolist()),
            label_unit=fitted.label_unit,
            sizes=SizePrior(
                frequency=fitted.sizes.frequency,
                mean=fitted.sizes.mean * ratio + shift,
                covariance=fitted.sizes.covariance * ratio[:, None] * ratio,
            ),
        )

    def fill(self, network: Denoiser, spec: ModelSpec) -> None:
        """Put the checkpoint's weights into a network made for `spec` and its own labels.

        An element that the checkpoint lacks begins as the mean of those it has, a new label as
        nothing.
        """
        state = {name: self.weights[name].clone() for name in network.state_dict()}
        place = {z: i for i, z in enumerate(self.header.spec.elements)}
        known = [place.get(z, -1) for z in spec.elements]
        for name in _ROW_OF_ELEMENT:
            state[name] = _rows(state[name], known)
        classes = state[_ROW_OF_CLASS]
        state[_ROW_OF_CLASS] = torch.cat([classes[:1], _rows(classes[1:], known)])
        state[_COLUMN_OF_ELEMENT] = _rows(state[_COLUMN_OF_ELEMENT].T, known).T.contiguous()

        old, new = self.header.model.labels, network.config.labels
        nulls = state[_LABELS[1]]
        gone = [i for i, label in enumerate(old) if label not in new]
        width = nulls.shape[1]
        weight, bias = (state[name] for name in _CONDITION)
        state[_CONDITION[1]] = bias + weight[:, -(width + 2) : -2] @ nulls[gone].sum(0)
        for name in _LABELS:
            rows = torch.zeros_like(network.state_dict()[name])
            for place_of, label in enumerate(new):
                if label in old:
                    rows[place_of] = state[name][old.index(label)]
            state[name] = rows
        network.load_state_dict(state, strict=True)

    def lines(self, spec: ModelSpec, labels: Sequence[str]) -> Iterator[str]:
        """What is taken and what is new, for people."""
        n = sum(weight.numel() for weight in self.weights.values())
        yield f"starts from {self.origin}: {n} weights"
        base = self.header
        lacking = [SYMBOLS[z] for z in spec.elements if z not in base.spec.elements]
        yield f"elements: {len(base.spec.elements)} known, new: {', '.join(lacking) or 'none'}"
        parts = {
            "taken": [label for label in labels if label in base.model.labels],
            "new": [label for label in labels if label not in base.model.labels],
            "left out": [label for label in base.model.labels if label not in labels],
        }
        yield "labels: " + "; ".join(f"{k}: {', '.join(v) or 'none'}" for k, v in parts.items())


def _rows(weights: Tensor, known: Sequence[int]) -> Tensor:
    """Rows of the weights in the order asked for; their mean for -1."""
    mean = weights.mean(0)
    return torch.stack([weights[i] if i >= 0 else mean for i in known])
