"""The networks. At (3, 64, 64) and default options their parameters have the names and shapes of pytorch/examples."""

from __future__ import annotations

from torch import Tensor

from ganzoo.api import Spec
from ganzoo.nn import Discriminator, Generator, conv_decoder, conv_encoder, initialise
from ganzoo_dcgan import DcganDiscriminatorConfig, DcganGeneratorConfig


class DcganGenerator(Generator):
    """``[B, latent_dim]`` -> images ``[B, C, H, W]`` in (-1, 1).

    Raises:
        UsageError: a sample is no image, or its sides are not 4 to 7 times a power of two.
    """

    def __init__(self, config: DcganGeneratorConfig, spec: Spec) -> None:
        super().__init__(spec, config.latent_dim, config.prior)
        stack = conv_decoder(
            config.latent_dim, spec, width=config.width, norm=config.norm_used, upsample=config.upsample
        )
        self.main = initialise(stack, config.init_used)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images ``[B, C, H, W]``; labels are not used."""
        images: Tensor = self.main(z[:, :, None, None])
        return images


class DcganDiscriminator(Discriminator):
    """Images ``[B, C, H, W]`` -> logits ``[B]``.

    Raises:
        UsageError: a sample is no image, or its sides are not 4 to 7 times a power of two.
    """

    def __init__(self, config: DcganDiscriminatorConfig, spec: Spec) -> None:
        super().__init__(spec)
        stack = conv_encoder(
            spec.shape[0],
            spec,
            width=config.width,
            norm=config.norm_used,
            slope=config.slope,
            dropout=config.dropout,
        )
        self.main = initialise(stack, config.init_used)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits ``[B]``; labels are not used."""
        logits: Tensor = self.main(x)
        return logits.flatten()

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The last activations, ``[B, channels * h * w]``."""
        maps: Tensor = self.main[:-1](x)
        return maps.flatten(1)
