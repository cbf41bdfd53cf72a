"""Networks of scripts under the contracts of ganzoo."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from ganzoo.api import Spec
from ganzoo.nn import Discriminator, Generator
from tutorials import networks


class ScriptGenerator(Generator):
    """``[B, 100]`` -> images."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(spec, networks.MlpGenerator.latent_dim, "normal")
        self.inner = networks.MlpGenerator(cast("networks.Shape", spec.shape))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images; labels are not used."""
        images: Tensor = self.inner(z)
        return images


class ScriptDiscriminator(Discriminator):
    """Images -> logits ``[B]``."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(spec)
        self.inner = networks.MlpDiscriminator(cast("networks.Shape", spec.shape))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits; labels are not used."""
        logits: Tensor = self.inner(x)
        return logits

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The last hidden layer, ``[B, 256]``."""
        out: Tensor = self.inner.main[:-1](x.flatten(1))
        return out
