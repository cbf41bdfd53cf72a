"""Fully connected networks."""

from __future__ import annotations

from torch import Tensor, nn

from ganzoo.api import Spec
from ganzoo.nn import Discriminator, Generator, initialise, mlp
from ganzoo_gan import Activation, MlpConfig, MlpDiscriminatorConfig, MlpGeneratorConfig


class MlpGenerator(Generator):
    """``[B, latent_dim]`` -> ``[B, *spec.shape]``: through tanh for images, linear for points."""

    def __init__(self, config: MlpGeneratorConfig, spec: Spec) -> None:
        super().__init__(spec, config.latent_dim, config.prior)
        self.main = _hidden_and_output(config, config.activation, config.latent_dim, spec.numel)
        if spec.is_image:
            self.main.append(nn.Tanh())

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Samples ``[B, *spec.shape]``; labels are not used."""
        out: Tensor = self.main(z)
        return out.reshape(len(z), *self.spec.shape)


class MlpDiscriminator(Discriminator):
    """``[B, *spec.shape]`` -> logits ``[B]``."""

    def __init__(self, config: MlpDiscriminatorConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.main = _hidden_and_output(config, config.activation, spec.numel, 1, dropout=config.dropout)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits ``[B]``; labels are not used."""
        out: Tensor = self.main(x.flatten(1))
        return out.squeeze(1)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The last hidden layer, ``[B, width]``."""
        out: Tensor = self.main[:-1](x.flatten(1))
        return out


def _hidden_and_output(
    config: MlpConfig, activation: Activation, inputs: int, outputs: int, *, dropout: float = 0.0
) -> nn.Sequential:
    sizes = [inputs, *[config.width] * config.depth, outputs]
    layers = mlp(sizes, _activation(activation, config.slope), norm=config.norm_used, dropout=dropout)
    return initialise(layers, config.init, config.init_gain)


def _activation(name: Activation, slope: float) -> nn.Module:
    match name:
        case "relu":
            return nn.ReLU()
        case "leaky-relu":
            return nn.LeakyReLU(slope)
        case "tanh":
            return nn.Tanh()
