"""Files of other programs that are not opened here, and how to convert them."""

from __future__ import annotations

from pathlib import Path

PICKLES = {
    ".pt": "torch",
    ".pth": "torch",
    ".ckpt": "torch",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".p": "pickle",
}
"""Ends of names of pickles, and the module that opens them."""
PACKED = {
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "zstd -d",
    b"7z\xbc\xaf": "7z x",
}
"""First bytes of packed files that are not read, and what unpacks them."""
_ARRAYS = "('frac_coords', 'atom_types', 'num_atoms', 'lengths', 'angles')"


def advice(path: Path, head: bytes) -> str | None:
    """Why a file is not opened and how to convert it; None if it may be read."""
    for magic, program in PACKED.items():
        if head.startswith(magic):
            return f"{path} is packed; unpack it first: {program} {path.name}"
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")
    if suffix in PICKLES or pickled:
        return pickle_advice(path, PICKLES.get(suffix, "pickle"))
    return None


def pickle_advice(path: Path, module: str = "torch") -> str:
    """The two lines that convert a pickle, in one."""
    target = f"{path.name.split('.')[0]}.json"
    if module == "torch":
        load = f"import json, torch; d = torch.load({path.name!r}, 'cpu', weights_only=False)"
        save = f"json.dump({{k: d[k].tolist() for k in {_ARRAYS}}}, open({target!r}, 'w'))"
    else:
        load = f"import json, pickle; d = pickle.load(open({path.name!r}, 'rb'))"
        save = f"json.dump([s.as_dict() for s in d], open({target!r}, 'w'))"
    return (
        f"{path} is a pickle, and to open it is to run code in it. If you trust it, convert it by "
        f"two lines of Python: {load}  and  {save}"
    )
