"""The torch side of the contracts, and the blocks that networks are built from. Importing this imports torch."""

from ganzoo.nn.bundle import Batch, Bundle, Noise, Side, Stream
from ganzoo.nn.communication import Solo
from ganzoo.nn.contracts import Discriminator, Generator, Prior
from ganzoo.nn.critic_pass import CriticPass
from ganzoo.nn.ema import EMA
from ganzoo.nn.extractor import Extractor, Features
from ganzoo.nn.init import Init, initialise
from ganzoo.nn.norms import Norm, Norm1dName, NormName, norm_layer, spectral
from ganzoo.nn.objectives import Loss, Regularizer
from ganzoo.nn.optim import build_optimizer
from ganzoo.nn.penalties import dragan_penalty, gradient_penalty, r1_penalty, r2_penalty, sample_norms
from ganzoo.nn.precision import Precision
from ganzoo.nn.stacks import conv_decoder, conv_encoder, mlp, one_hot
from ganzoo.nn.trainer import Trainer

__all__ = [
    "EMA",
    "Batch",
    "Bundle",
    "CriticPass",
    "Discriminator",
    "Extractor",
    "Features",
    "Generator",
    "Init",
    "Loss",
    "Noise",
    "Norm",
    "Norm1dName",
    "NormName",
    "Precision",
    "Prior",
    "Regularizer",
    "Side",
    "Solo",
    "Stream",
    "Trainer",
    "build_optimizer",
    "conv_decoder",
    "conv_encoder",
    "dragan_penalty",
    "gradient_penalty",
    "initialise",
    "mlp",
    "norm_layer",
    "one_hot",
    "r1_penalty",
    "r2_penalty",
    "sample_norms",
    "spectral",
]
