"""The handwritten digits that ship with ganzoo; ``digits.txt`` beside says whose they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ganzoo.api import Spec
from ganzoo.data import ArrayDataset, resize
from ganzoo_datasets import DigitsConfig


class Digits(ArrayDataset):
    """1,797 images ``[1, size, size]`` in ten classes (Optical Recognition of Handwritten Digits, UCI, CC BY 4.0)."""

    def __init__(self, config: DigitsConfig, spec: Spec) -> None:
        with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as arrays:
            images = torch.from_numpy(arrays["images"])[:, None]
            labels = torch.from_numpy(arrays["labels"]).long()
        super().__init__(resize(images, config.size), labels, spec)
