"""Makes plugins/ganzoo_datasets/digits.npz from the copy of the UCI handwritten digits in scikit-learn's wheel.

Run with scikit-learn installed: ``python tools/make_digits.py``. The result is the same to the byte each time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TARGET = Path(__file__).parents[1] / "plugins" / "ganzoo_datasets" / "digits.npz"


def main() -> None:
    """Scale the images' values from 0 .. 16 to 0 .. 255 and store them with their labels."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    np.savez_compressed(TARGET, images=images, labels=digits.target.astype(np.uint8))


if __name__ == "__main__":
    main()
