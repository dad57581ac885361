"""The Voronoi cell of a site, cut plane by plane, and the solid angles of its faces (compiled)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pigen.runtime.kernels import njit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MAX_FACES = 512
MAX_VERTICES = 64
MISSED, OVERFLOW = -1, -2
_BOX_FACES = 6
_TOUCH = 1e-9  # of its distance: an atom whose plane reaches less deep makes no face of weight


@njit(nogil=True)
def new_cell(half_width: float) -> tuple[F64, I64, F64]:
    """A cube around the origin to start from, with room to be cut. Its faces keep slots 0 … 5.

    Returns:
        Vertices (MAX_FACES, MAX_VERTICES, 3) of each face in order around it, vertices per face
        (0 where there is no face), and planes (MAX_FACES, 4) as unit normal and offset.
    """
    corner = np.empty((MAX_FACES, MAX_VERTICES, 3))
    corners = np.zeros(MAX_FACES, dtype=np.int64)
    plane = np.zeros((MAX_FACES, 4))
    for face in range(_BOX_FACES):
        axis, sign = face // 2, 1.0 - 2.0 * (face % 2)
        plane[face, axis] = sign
        plane[face, 3] = half_width
        corners[face] = 4
        for k in range(4):
            corner[face, k, axis] = sign * half_width
            corner[face, k, (axis + 1) % 3] = half_width if k in (0, 1) else -half_width
            corner[face, k, (axis + 2) % 3] = half_width if k in (0, 3) else -half_width
    return corner, corners, plane


@njit(nogil=True)
def _clip(polygon: F64, n: int, side: F64, scratch: F64) -> int:
    """Keep the part of a polygon where ``side`` <= 0 (one value per vertex); return its size."""
    kept = 0
    for a in range(n):
        b = a + 1 if a + 1 < n else 0
        if side[a] <= 0.0:
            for x in range(3):
                scratch[kept, x] = polygon[a, x]
            kept += 1
        if side[a] * side[b] < 0.0:
            t = side[a] / (side[a] - side[b])
            for x in range(3):
                scratch[kept, x] = polygon[a, x] + t * (polygon[b, x] - polygon[a, x])
            kept += 1
    if kept < 3:
        return 0
    for a in range(kept):
        for x in range(3):
            polygon[a, x] = scratch[a, x]
    return kept


@njit(nogil=True)
def cut(
    corner: F64,
    corners: I64,
    plane: F64,
    n_faces: int,
    point: F64,
    distance: float,
    half_width: float,
) -> int:
    """Cut the cell by the plane half-way to a point.

    Args:
        corner, corners, plane: the cell of `new_cell`, changed in place.
        n_faces: face slots in use.
        point: (3,) the neighbour, seen from the site.
        distance: its distance in Å.
        half_width: of the starting box, Å.

    Returns:
        Slot of the new face (at most ``n_faces``), `MISSED` where the plane leaves the cell as it
        is, `OVERFLOW` where the cell outgrew its room.
    """
    nx, ny, nz = point[0] / distance, point[1] / distance, point[2] / distance
    offset, touch = 0.5 * distance, _TOUCH * distance
    side = np.empty(MAX_VERTICES)
    scratch = np.empty((MAX_VERTICES + 2, 3))
    reaches = False
    for face in range(n_faces):
        outside = False
        for a in range(corners[face]):
            side[a] = (
                nx * corner[face, a, 0] + ny * corner[face, a, 1] + nz * corner[face, a, 2] - offset
            )
            outside |= side[a] > touch
        if outside:
            reaches = True
            if corners[face] + 1 > MAX_VERTICES:
                return OVERFLOW
            corners[face] = _clip(corner[face], corners[face], side, scratch)
    if not reaches:
        return MISSED
    slot = n_faces
    for face in range(_BOX_FACES, n_faces):
        if corners[face] == 0:
            slot = face
            break
    if slot == MAX_FACES:
        return OVERFLOW
    # The new face: a square on its plane, cut by every plane that still carries a face.
    square = corner[slot]
    if abs(nx) < 0.6:
        ux, uy, uz = 0.0, nz, -ny
    else:
        ux, uy, uz = -nz, 0.0, nx
    scale = 2.0 * half_width / math.sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = scale * ux, scale * uy, scale * uz
    wx, wy, wz = ny * uz - nz * uy, nz * ux - nx * uz, nx * uy - ny * ux
    for k in range(4):
        s = 1.0 if k in (0, 1) else -1.0
        t = 1.0 if k in (0, 3) else -1.0
        square[k, 0] = nx * offset + s * ux + t * wx
        square[k, 1] = ny * offset + s * uy + t * wy
        square[k, 2] = nz * offset + s * uz + t * wz
    n = 4
    for face in range(n_faces):
        if corners[face] == 0:
            continue
        outside = False
        for a in range(n):
            side[a] = (
                plane[face, 0] * square[a, 0]
                + plane[face, 1] * square[a, 1]
                + plane[face, 2] * square[a, 2]
                - plane[face, 3]
            )
            outside |= side[a] > 0.0
        if outside:
            if n + 1 > MAX_VERTICES:
                return OVERFLOW
            n = _clip(square, n, side, scratch)
            if n == 0:
                break
    corners[slot] = n
    plane[slot, 0], plane[slot, 1], plane[slot, 2], plane[slot, 3] = nx, ny, nz, offset
    return slot


@njit(nogil=True)
def extent(corner: F64, corners: I64, n_faces: int, box: F64) -> float:
    """How far in Å the cell reaches from the site; into ``box`` (3,), how far along x, y and z."""
    furthest = 0.0
    box[:] = 0.0
    for face in range(n_faces):
        for a in range(corners[face]):
            square = 0.0
            for x in range(3):
                square += corner[face, a, x] ** 2
                box[x] = max(box[x], abs(corner[face, a, x]))
            furthest = max(furthest, square)
    return math.sqrt(furthest)


@njit(nogil=True)
def is_closed(corners: I64) -> bool:
    """True if no part of the starting box is left."""
    for face in range(_BOX_FACES):
        if corners[face] > 0:
            return False
    return True


@njit(nogil=True)
def solid_angle(polygon: F64, n: int) -> float:
    """Solid angle in sr under which the origin sees a convex polygon of n vertices.

    A fan of triangles from the first vertex; each by the formula of Van Oosterom and Strackee.
    """
    total = 0.0
    a0, a1, a2 = polygon[0, 0], polygon[0, 1], polygon[0, 2]
    a = math.sqrt(a0 * a0 + a1 * a1 + a2 * a2)
    for k in range(1, n - 1):
        b0, b1, b2 = polygon[k, 0], polygon[k, 1], polygon[k, 2]
        c0, c1, c2 = polygon[k + 1, 0], polygon[k + 1, 1], polygon[k + 1, 2]
        b = math.sqrt(b0 * b0 + b1 * b1 + b2 * b2)
        c = math.sqrt(c0 * c0 + c1 * c1 + c2 * c2)
        triple = abs(a0 * (b1 * c2 - b2 * c1) + a1 * (b2 * c0 - b0 * c2) + a2 * (b0 * c1 - b1 * c0))
        dot_ab = a0 * b0 + a1 * b1 + a2 * b2
        dot_ac = a0 * c0 + a1 * c1 + a2 * c2
        dot_bc = b0 * c0 + b1 * c1 + b2 * c2
        total += 2.0 * math.atan2(triple, a * b * c + c * dot_ab + b * dot_ac + a * dot_bc)
    return total
