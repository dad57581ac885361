"""Where torch computes."""

from __future__ import annotations

import torch

from pigen.runtime.errors import UsageError
from pigen.runtime.memory import unlimit_memory


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where present; UsageError for CUDA where there is none.

    A worker that takes CUDA is freed of its limit of memory.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device = 'cuda', but this machine has no usable CUDA device; use 'auto'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        unlimit_memory()
    return torch.device(name)


def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are worth using in training: on CUDA, and CPUs with AVX512-BF16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Older versions of torch lack the call.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16"))
