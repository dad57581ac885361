"""Sites of one structure assigned to those of another, to tell when the matcher rejects the pair.

The matcher takes the assignment of least total square distance, moves one structure by the mean
displacement, and looks at the largest displacement left. The same is computed here; where it hangs
on a tie, or on distances that the matcher may cut off, the answer is left to the matcher.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.lattice import inverse_heights
from pigen.runtime.kernels import njit

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

_FORBIDDEN = 1e6
_TIE = 4e-6


@njit()
def square_distances(
    cell: F64, frac: F64, kinds: U8, other: F64, other_kinds: U8, shift: F64, reach: float
) -> F64:
    """Squares of the distances from each site of the other, moved by a shift, to each site.

    Args:
        cell: (3, 3) Å, Minkowski-reduced, common to both structures.
        frac: (n, 3) sites in that cell.
        kinds: (n,); sites of different kinds are infinitely far apart.
        other: (n, 3).
        other_kinds: (n,).
        shift: (3,), fractional.
        reach: Å; a larger distance counts as this one.

    Returns:
        (n, n) Å^2, rows for sites of the other.
    """
    n = len(frac)
    per_height = inverse_heights(cell)
    far = reach * reach
    squares, step = np.empty((n, n)), np.empty(3)
    for i in range(n):
        for j in range(n):
            squares[i, j] = far
            if other_kinds[i] != kinds[j]:
                squares[i, j] = _FORBIDDEN * far
                continue
            near = True
            for k in range(3):
                d = frac[j, k] - other[i, k] - shift[k]
                step[k] = d - np.rint(d)
                near = near and abs(step[k]) <= reach * per_height[k]
            if near:
                squares[i, j] = min(far, _shortest(cell, step)[0])
    return squares


@njit()
def all_within_reach(squares: F64, reach: float) -> bool:
    """Is there an assignment all of whose distances are less than ``reach``?"""
    n = len(squares)
    edges = squares < reach * reach
    # Augmenting paths, depth first with a stack of its own.
    row_of, path = np.full(n, -1), np.empty(n + 1, dtype=np.int64)
    next_column = np.empty(n, dtype=np.int64)
    for start in range(n):
        seen = np.zeros(n, dtype=np.bool_)
        next_column[:] = 0
        path[0], depth = start, 0
        while depth >= 0:
            row = path[depth]
            j = next_column[row]
            if j == n:
                depth -= 1
                continue
            next_column[row] += 1
            if not edges[row, j] or seen[j]:
                continue
            seen[j] = True
            if row_of[j] >= 0:
                depth += 1
                path[depth] = row_of[j]
                continue
            for d in range(depth, -1, -1):
                row_of[next_column[path[d]] - 1] = path[d]
            break
        if depth < 0:
            return False
    return True


@njit()
def least_total(squares: F64) -> float:
    """Least total of the squares over all assignments."""
    partner, total = _assign(squares)[0], 0.0
    for i in range(len(squares)):
        total += squares[i, partner[i]]
    return total


@njit()
def surely_too_far(
    cell: F64, frac: F64, other: F64, shift: F64, squares: F64, limit: float
) -> bool:
    """Whether the largest displacement surely exceeds a limit.

    Args:
        cell: as for `square_distances`, like the next three.
        frac: (n, 3).
        other: (n, 3).
        shift: (3,).
        squares: (n, n) from `square_distances` with twice the limit for a reach. Further off the
            matcher may not look for a partner; an assignment that needs such a pair is not judged.
        limit: Å.
    """
    n, far = len(frac), 4 * limit * limit
    partner, row_price, column_price = _assign(squares)
    vectors, mean, step = np.empty((n, 3)), np.zeros(3), np.empty(3)
    for i in range(n):
        j = partner[i]
        if squares[i, j] >= far * (1 - _TIE):
            return False
        for k in range(3):
            d = frac[j, k] - other[i, k] - shift[k]
            step[k] = d - np.rint(d)
        shortest, second, vector = _shortest(cell, step)
        if second - shortest < _TIE * far:
            return False
        vectors[i] = vector
        mean += vector / n
    largest = 0.0
    for i in range(n):
        largest = max(largest, np.sqrt(np.sum((vectors[i] - mean) ** 2)))
    return largest > limit * (1 + _TIE) and _is_unique(
        squares, partner, row_price, column_price, _TIE * far
    )


@njit()
def _shortest(cell: F64, step: F64) -> tuple[float, float, F64]:
    """Least and second least square length of the images of a step, and the shortest one, Å."""
    best, second, chosen = np.inf, np.inf, np.zeros(3)
    for i in range(-1, 2):
        for j in range(-1, 2):
            for k in range(-1, 2):
                x = (step[0] + i) * cell[0, 0] + (step[1] + j) * cell[1, 0]
                y = (step[0] + i) * cell[0, 1] + (step[1] + j) * cell[1, 1]
                z = (step[0] + i) * cell[0, 2] + (step[1] + j) * cell[1, 2]
                x += (step[2] + k) * cell[2, 0]
                y += (step[2] + k) * cell[2, 1]
                z += (step[2] + k) * cell[2, 2]
                square = x * x + y * y + z * z
                if square < best:
                    second, best = best, square
                    chosen[0], chosen[1], chosen[2] = x, y, z
                elif square < second:
                    second = square
    return best, second, chosen


@njit()
def _assign(cost: F64) -> tuple[NDArray[np.int64], F64, F64]:
    """Assignment of least total cost, by shortest augmenting paths.

    Returns:
        The column of each row (n,), and prices of rows and of columns (n,): a pair costs at least
        the sum of its prices, and exactly that in the assignment.
    """
    n = len(cost)
    # Row and column n are the artificial start of each path.
    row_of = np.full(n + 1, n)
    rows, columns = np.zeros(n + 1), np.zeros(n + 1)
    for start in range(n):
        row_of[n] = start
        column = n
        slack = np.full(n, np.inf)
        before = np.full(n + 1, n)
        done = np.zeros(n + 1, dtype=np.bool_)
        while row_of[column] != n:
            done[column] = True
            row, least, following = row_of[column], np.inf, n
            for j in range(n):
                if done[j]:
                    continue
                gap = cost[row, j] - rows[row] - columns[j]
                if gap < slack[j]:
                    slack[j], before[j] = gap, column
                if slack[j] < least:
                    least, following = slack[j], j
            for j in range(n + 1):
                if done[j]:
                    rows[row_of[j]] += least
                    columns[j] -= least
                elif j < n:
                    slack[j] -= least
            column = following
        while column != n:
            row_of[column] = row_of[before[column]]
            column = before[column]
    partner = np.empty(n, dtype=np.int64)
    for j in range(n):
        partner[row_of[j]] = j
    return partner, rows[:n], columns[:n]


@njit()
def _is_unique(
    cost: F64, partner: NDArray[np.int64], rows: F64, columns: F64, tolerance: float
) -> bool:
    """Is every other assignment dearer? One as cheap would go round a cycle of tight pairs."""
    n = len(cost)
    tight, ahead = np.zeros((n, n), dtype=np.bool_), np.zeros(n, dtype=np.int64)
    for i in range(n):
        for k in range(n):
            j = partner[k]
            if k != i and cost[i, j] - rows[i] - columns[j] < tolerance:
                tight[i, k] = True
                ahead[i] += 1
    # Rows with no tight step ahead are on no cycle: take them away until none is left.
    removed, changed = np.zeros(n, dtype=np.bool_), True
    while changed:
        changed = False
        for k in range(n):
            if not removed[k] and ahead[k] == 0:
                removed[k] = changed = True
                for i in range(n):
                    ahead[i] -= tight[i, k]
    return bool(np.all(removed))
