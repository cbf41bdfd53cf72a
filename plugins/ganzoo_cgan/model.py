"""Networks with one-hot conditioning."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.api import Spec, UsageError
from ganzoo.nn import Discriminator, Generator, conv_decoder, conv_encoder, initialise, mlp, one_hot
from ganzoo_cgan import CganConfig, CganDiscriminatorConfig, CganGeneratorConfig


class CganGenerator(Generator):
    """``[B, latent_dim]`` and labels ``[B]`` -> ``[B, *spec.shape]``; the input of the stack is ``[z ; one-hot(y)]``.

    Raises:
        UsageError: there are no classes, or the sides of the images are not 4 to 7 times a power of two.
    """

    def __init__(self, config: CganGeneratorConfig, spec: Spec) -> None:
        super().__init__(spec, config.latent_dim, config.prior)
        self.num_classes = _num_classes(spec)
        inputs, norm = config.latent_dim + self.num_classes, config.norm_for(spec)
        if spec.is_image:
            stack = conv_decoder(inputs, spec, width=config.width, norm=norm, upsample=config.upsample)
        else:
            stack = mlp(_sizes(config, inputs, spec.numel), nn.LeakyReLU(config.slope), norm=norm)
        self.main = initialise(stack, config.init_for(spec))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Samples ``[B, *spec.shape]`` of the classes ``y [B]`` int64.

        Raises:
            UsageError: ``y`` is None.
        """
        joint = torch.cat([z, one_hot(y, self.num_classes, like=z)], 1)
        samples: Tensor = self.main(joint[:, :, None, None] if self.spec.is_image else joint)
        return samples


class CganDiscriminator(Discriminator):
    """``[B, *spec.shape]`` and labels ``[B]`` -> logits ``[B]``.

    The one-hot label joins the sample as that many constant channels (images) or coordinates (points).

    Raises:
        UsageError: there are no classes, or the sides of the images are not 4 to 7 times a power of two.
    """

    def __init__(self, config: CganDiscriminatorConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.num_classes = _num_classes(spec)
        inputs, norm = spec.shape[0] + self.num_classes, config.norm_for(spec)
        slope, dropout = config.slope, config.dropout
        if spec.is_image:
            stack = conv_encoder(inputs, spec, width=config.width, norm=norm, slope=slope, dropout=dropout)
        else:
            stack = mlp(_sizes(config, inputs, 1), nn.LeakyReLU(slope), norm=norm, dropout=dropout)
        self.main = initialise(stack, config.init_for(spec))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits ``[B]`` for samples with labels ``y [B]`` int64.

        Raises:
            UsageError: ``y`` is None.
        """
        logits: Tensor = self.main[-1](self._hidden(x, y))
        return logits.flatten()

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The last activations, ``[B, F]``."""
        return self._hidden(x, y).flatten(1)

    def _hidden(self, x: Tensor, y: Tensor | None) -> Tensor:
        """What the last layer reads."""
        first: Any
        first, *others = list(self.main)[:-1]
        label = one_hot(y, self.num_classes, like=x)
        maps = isinstance(first, nn.Conv2d)
        hidden: Tensor = convolve_beside(first, x, label) if maps else first(torch.cat([x, label], 1))
        for layer in others:
            hidden = layer(hidden)
        return hidden


def convolve_beside(layer: nn.Conv2d, x: Tensor, constants: Tensor) -> Tensor:
    """What a convolution makes of ``x [B, C, H, W]`` followed by the channels of ``constants [B, K]``, each constant.

    It is linear, and of a constant channel it sees only which places of its kernel lie within the image. So its kernels
    are first weighted by the constants, which leaves one for each sample, and the ``K`` channels are never made.

    Args:
        layer: of ``C + K`` channels, padded with zeros, with one group and no dilation.
        x: maps.
        constants: values of the further channels.
    """
    image, constant = torch.split(layer.weight, [x.shape[1], constants.shape[1]], 1)
    how: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}
    y = F.conv2d(x, image, layer.bias, **how)
    within = F.unfold(x.new_ones(1, 1, *x.shape[2:]), layer.kernel_size, **how)[0]  # [a b, h w]
    kernels = constants @ constant.permute(1, 2, 3, 0).flatten(1)  # [B, a b O]
    maps = within.t() @ kernels.view(len(x), len(within), len(image))  # [B, h w, O], as channels-last has it
    joint: Tensor = y + maps.view(len(x), *y.shape[2:], len(image)).permute(0, 3, 1, 2)
    return joint


def _num_classes(spec: Spec) -> int:
    if spec.num_classes is None:
        raise UsageError("A cgan network needs labelled data; its Spec must say num_classes.")
    return spec.num_classes


def _sizes(config: CganConfig, inputs: int, outputs: int) -> list[int]:
    return [inputs, *[config.width] * config.depth, outputs]
