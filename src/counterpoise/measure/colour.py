"""sRGB pixels to CIELAB in its true units (L* 0 to 100), and the angle by which skin is graded.

Source: IEC 61966-2-1:1999 (sRGB), CIE 15:2018 (CIELAB, 2 degree observer, D65), in float64 throughout:
8-bit Lab (L* as 0 to 255, a* and b* shifted by 128) and uint8 arithmetic are what broke published graders.
"""

from __future__ import annotations

import numpy as np

# IEC 61966-2-1, Annex F: linear sRGB to XYZ. White is the rows' sums, so that equal channels have a* = b* =
# 0.
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)
_EPSILON, _KAPPA = 216 / 24389, 24389 / 27
# Every 8-bit level's linear value: a table is exact and ten times as fast as the power.
_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)


def lab_of(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB pixels: uint8 (..., 3) in RGB order to float64 (..., 3), L* in 0..100.

    TypeError for anything but uint8 with three channels: a float picture's range would be a guess.
    """
    if rgb.dtype != np.uint8 or rgb.shape[-1] != 3:
        raise TypeError(f"pixels are {rgb.dtype} {rgb.shape}; expected uint8 (..., 3) in RGB order")
    xyz = _LINEAR[rgb] @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > _EPSILON, np.cbrt(xyz), (_KAPPA * xyz + 16) / 116)
    lab: np.ndarray = np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )
    return lab


def ita_of(lab: np.ndarray) -> np.ndarray:
    """The individual typology angle in degrees, atan((L* - 50) / b*): float (..., 3) to float (...).

    b* = 0 gives +-90. Source: Chardon, Cretois and Hourseau, Int. J. Cosmetic Science 13 (1991) 191-208.
    """
    # arctan2 would turn a negative b* (no skin) into an angle beyond 90; the published angle is arctan.
    with np.errstate(divide="ignore", invalid="ignore"):
        angle: np.ndarray = np.degrees(np.arctan((lab[..., 0] - 50) / lab[..., 2]))
    return np.where(np.isnan(angle), 0.0, angle)


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """CIE 1976 colour difference, the Euclidean distance in Lab, over the last axis."""
    apart: np.ndarray = np.sqrt(((one - other) ** 2).sum(axis=-1))
    return apart
