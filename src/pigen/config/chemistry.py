"""The settings that say what a composition must be, in sampling and in filters alike."""

from __future__ import annotations

from dataclasses import dataclass

from pigen.crystal.chemistry import Chemistry, Stoichiometry
from pigen.crystal.elements import MAX_Z, SYMBOLS, Z_OF
from pigen.runtime.checked import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ChemistryConfig:
    """What a composition must be."""

    elements_allowed: tuple[str, ...] = setting(
        (), "Only these elements; empty allows all.", choices=SYMBOLS[1:]
    )
    elements_excluded: tuple[str, ...] = setting(
        (), "Elements no structure may hold.", choices=SYMBOLS[1:]
    )
    elements_required: tuple[str, ...] = setting(
        (), "Elements every structure must hold.", choices=SYMBOLS[1:]
    )
    elements_one_of: tuple[tuple[str, ...], ...] = setting(
        (),
        'Lists of elements; a structure holds one or more of each list: [["O", "S"]].',
        choices=SYMBOLS[1:],
    )
    n_elements: int | tuple[int, int] = setting(
        (1, MAX_Z),
        "How many elements: a number, or [lo, hi] with both ends included.",
        lo=1,
        hi=MAX_Z,
        window=True,
    )
    charge_balanced: bool = setting(
        False,
        "Only compositions whose charges can balance (SMACT, mixed valence allowed); alloys, of "
        "metals alone, are none of them.",
    )
    stoichiometry: str = setting(
        "",
        "Amounts of classes of elements, such as Ca,Sr:transition_metal:O = 1:1:3; empty: any.",
    )

    def __post_init__(self) -> None:
        """Some composition can be so."""
        chemistry = self.chemistry()
        for symbol in self.elements_required:
            if Z_OF.get(symbol, 0) not in chemistry.allowed:
                raise ValueError(f"elements_required: {symbol} is not among those allowed")
        for group in self.elements_one_of:
            if not chemistry.allowed & {Z_OF.get(symbol, 0) for symbol in group}:
                raise ValueError(f"elements_one_of: none of {', '.join(group)} is allowed")
        if chemistry.most < len(set(self.elements_required)):
            raise ValueError(
                f"n_elements: {len(set(self.elements_required))} elements are required, at most "
                f"{chemistry.most} may be there"
            )
        wanted = chemistry.stoichiometry
        classes = () if wanted is None else wanted.classes
        if not all(chemistry.allowed & members for members in classes):
            raise ValueError("stoichiometry: of one of its classes no element is allowed")
        if classes and any(not frozenset().union(*classes) & g for g in chemistry.groups):
            raise ValueError(
                "stoichiometry: an element that must be there is in none of its classes"
            )

    def chemistry(self) -> Chemistry:
        """As rules; ValueError for a stoichiometry that is none."""
        allowed = {Z_OF.get(symbol, 0) for symbol in self.elements_allowed or SYMBOLS[1:]}
        required = [(symbol,) for symbol in dict.fromkeys(self.elements_required)]
        both = (self.n_elements,) * 2 if isinstance(self.n_elements, int) else self.n_elements
        return Chemistry(
            allowed=frozenset(allowed - {Z_OF[symbol] for symbol in self.elements_excluded}),
            groups=tuple(
                frozenset(Z_OF.get(symbol, 0) for symbol in group)
                for group in (*required, *self.elements_one_of)
            ),
            fewest=both[0],
            most=both[1],
            balanced=self.charge_balanced,
            stoichiometry=Stoichiometry.parse(self.stoichiometry) if self.stoichiometry else None,
        )

    def restrictions(self) -> list[str]:
        """Names of the settings that ask something of compositions."""
        return [name for name, default in _DEFAULTS.items() if getattr(self, name) != default]


_DEFAULTS = {name: getattr(ChemistryConfig(), name) for name in ChemistryConfig.__slots__}
