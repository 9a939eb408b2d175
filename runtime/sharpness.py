"""How much detail a crop holds, whatever took it away: few pixels, blur, strong compression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SCALES, FINE = 4, 2  # halvings, and how many of them count as detail
FLOOR = 1e-6


def sharpness(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """[N] for crops uint8 [N, S, S, 3]: log of the share of a Laplacian pyramid's energy in its two finest bands.

    Contrast and brightness cancel out. A face of many pixels has about -1.7, one of 16 pixels, enlarged, -2.5.
    """
    picture = crops[..., 1].astype(np.float32)  # green: near enough to luminance
    energies: list[npt.NDArray[np.float32]] = []
    for _ in range(SCALES):
        height, width = picture.shape[1] // 2, picture.shape[2] // 2
        whole = picture[:, : 2 * height, : 2 * width].reshape(len(picture), height, 2, width, 2)
        picture = whole.mean((2, 4))
        energies.append(np.square(whole - picture[:, :, None, :, None]).mean((1, 2, 3, 4)))
    share = sum(energies[:FINE]) / (sum(energies) + FLOOR)
    return np.log(share + FLOOR).astype(np.float64)
