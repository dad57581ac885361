"""A vasprun.xml as VASP 6 lays it out, with what a reader of energies looks at."""

from __future__ import annotations

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS


def vasprun(
    crystal: Crystals,
    energy: float,
    *,
    titles: dict[str, str] | None = None,
    steps: int = 3,
    nelm: int = 60,
    encut: float = 600.0,
) -> str:
    """Text of a static calculation.

    Args:
        crystal: a batch of one.
        energy: eV of the cell, σ → 0; the free energy is 2 meV lower.
        titles: of the potentials by element; ``PAW_PBE X 01Jan2000`` by default.
        steps: electronic steps; as many as ``nelm`` means no convergence.
        nelm: NELM.
        encut: ENCUT.
    """
    numbers = crystal.atomic_numbers.tolist()
    elements = list(dict.fromkeys(numbers))
    order = [i for z in elements for i, w in enumerate(numbers) if w == z]
    atoms = "\n".join(
        f"    <rc><c>{SYMBOLS[numbers[i]]:<2}</c><c>{elements.index(numbers[i]) + 1:>4}</c></rc>"
        for i in order
    )
    types = "\n".join(
        f"    <rc><c>{numbers.count(z):>4}</c><c>{SYMBOLS[z]:<2}</c><c>     50.00000000</c>"
        f"<c>      4.00000000</c>"
        f"<c>  {(titles or {}).get(SYMBOLS[z], f'PAW_PBE {SYMBOLS[z]} 01Jan2000')}  </c></rc>"
        for z in elements
    )
    basis = _rows(crystal.lattice[0].tolist())
    positions = _rows(crystal.frac_coords[order].tolist())
    structure = f"""<crystal>
   <varray name="basis" >
{basis}
   </varray>
   <i name="volume">   {crystal.volume[0]:.8f} </i>
   <varray name="rec_basis" >
{basis}
   </varray>
  </crystal>
  <varray name="positions" >
{positions}
  </varray>"""
    scf = "\n".join(
        f"""  <scstep>
   <time name="total">    0.10    0.10</time>
   <energy>
    <i name="alphaZ">     10.00000000 </i>
    <i name="e_fr_energy">  {energy - 0.002 + 10.0 ** -(k + 1):.8f} </i>
    <i name="e_wo_entrp">  {energy + 0.002 + 10.0 ** -(k + 1):.8f} </i>
    <i name="e_0_energy">  {energy + 10.0 ** -(k + 1) if k < steps - 1 else energy:.8f} </i>
   </energy>
  </scstep>"""
        if k < steps - 1
        else f"""  <scstep>
   <time name="total">    0.10    0.10</time>
   <energy>
    <i name="e_fr_energy">  {energy - 0.002:.8f} </i>
    <i name="e_wo_entrp">  {energy + 0.002:.8f} </i>
    <i name="e_0_energy">  {energy:.8f} </i>
   </energy>
  </scstep>"""
        for k in range(steps)
    )
    forces = _rows([[0.0, 0.0, 0.0]] * len(numbers))
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator>
  <i name="program" type="string">vasp </i>
  <i name="version" type="string">6.5.0  </i>
  <i name="platform" type="string">LinuxGNU </i>
 </generator>
 <incar>
  <i type="int" name="NSW">     0</i>
  <i name="ENCUT">    {encut:.8f}</i>
  <i name="EDIFF">      0.00000100</i>
  <i name="KSPACING">      0.30000000</i>
  <i type="logical" name="KGAMMA"> T  </i>
  <i type="int" name="ISMEAR">     0</i>
  <i name="SIGMA">      0.05000000</i>
 </incar>
 <kpoints>
  <generation param="Gamma">
   <v type="int" name="divisions">       1        1        1 </v>
   <v name="usershift">      0.00000000       0.00000000       0.00000000 </v>
   <v name="genvec1">      1.00000000       0.00000000       0.00000000 </v>
   <v name="genvec2">      0.00000000       1.00000000       0.00000000 </v>
   <v name="genvec3">      0.00000000       0.00000000       1.00000000 </v>
   <v name="shift">      0.00000000       0.00000000       0.00000000 </v>
  </generation>
  <varray name="kpointlist" >
   <v>       0.00000000       0.00000000       0.00000000 </v>
  </varray>
  <varray name="weights" >
   <v>       1.00000000 </v>
  </varray>
 </kpoints>
 <parameters>
  <separator name="general" >
   <i type="string" name="SYSTEM"> unknown system</i>
  </separator>
  <separator name="electronic" >
   <i name="ENMAX">    {encut:.8f}</i>
   <separator name="electronic convergence" >
    <i type="int" name="NELM">{nelm:6d}</i>
   </separator>
  </separator>
  <separator name="ionic" >
   <i type="int" name="NSW">     0</i>
   <i type="int" name="IBRION">    -1</i>
  </separator>
 </parameters>
 <atominfo>
  <atoms>{len(numbers):8d} </atoms>
  <types>{len(elements):8d} </types>
  <array name="atoms" >
   <dimension dim="1">ion</dimension>
   <field type="string">element</field>
   <field type="int">atomtype</field>
   <set>
{atoms}
   </set>
  </array>
  <array name="atomtypes" >
   <dimension dim="1">type</dimension>
   <field type="int">atomspertype</field>
   <field type="string">element</field>
   <field>mass</field>
   <field>valence</field>
   <field type="string">pseudopotential</field>
   <set>
{types}
   </set>
  </array>
 </atominfo>
 <structure name="initialpos" >
  {structure}
 </structure>
 <calculation>
{scf}
  <structure>
  {structure}
  </structure>
  <varray name="forces" >
{forces}
  </varray>
  <varray name="stress" >
{_rows([[0.0, 0.0, 0.0]] * 3)}
  </varray>
  <energy>
   <i name="e_fr_energy">  {energy - 0.002:.8f} </i>
   <i name="e_wo_entrp">  {energy + 0.002:.8f} </i>
   <i name="e_0_energy">  {energy:.8f} </i>
  </energy>
  <time name="totalsc">    0.40    0.40</time>
 </calculation>
 <structure name="finalpos" >
  {structure}
 </structure>
</modeling>
"""


def _rows(rows: list[list[float]]) -> str:
    return "\n".join("    <v> " + " ".join(f"{x:16.8f}" for x in row) + " </v>" for row in rows)
