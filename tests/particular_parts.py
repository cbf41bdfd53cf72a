"""Parts without a fault that start as some papers ask for, or that serve some tasks alone."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from sound_parts import Critic, Net, Sound
from torch import Tensor, nn

from ganzoo.api import CONDITIONAL, Component, Rule, Spec, hookimpl
from ganzoo.nn import Batch, CriticPass, Generator, Regularizer, Stream, Trainer


class ByLabel(Generator):
    """Scales features by labels, and starts with the same scales for all, as SNGAN and BigGAN do."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(spec, 6)
        assert spec.num_classes is not None
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, spec.numel)
        self.norm = nn.BatchNorm1d(8, affine=False)
        self.scale, self.offset = nn.Embedding(spec.num_classes, 8), nn.Embedding(spec.num_classes, 8)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.offset.weight)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.norm(self.first(z)) * self.scale(y) + self.offset(y)
        return torch.tanh(self.last(F.relu(h))).reshape(len(z), *self.spec.shape)


class Zero(Critic):
    """Starts with a last layer of zeros."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        last: Any = self.main[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


class Attending(Critic):
    """Attends, which torch computes in another way in evaluation, and in one that can be differentiated once."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.into, self.attention = nn.Linear(1, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.main = nn.Sequential(nn.Flatten(), nn.Linear(4 * spec.numel, 5), nn.Tanh(), nn.Linear(5, 1))

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.into(x.flatten(1)[..., None])
        return self.main[:-1](h + self.attention(h, h, h, need_weights=False)[0])

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.main[-1](self.features(x)).squeeze(1)


class Black(Net):
    """Serves one size alone, and cannot be asked for another."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z).reshape(len(z), 1, 28, 28)


class Shifted(Regularizer):
    """Likes critics that hardly see whether an image is shifted by a pixel."""

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        shifted = critic_pass.real.roll((1, 1), (-1, -2))
        return (critic_pass.critic(shifted, critic_pass.real_labels) - critic_pass.real_logits).square().mean()


class Sized(Sound):
    """Reads the sides of images."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        _, self.height, self.width = spec.shape


class Classes(Sound):
    """Also tells the classes apart."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        assert spec.num_classes is not None
        self.head = nn.Linear(spec.numel, spec.num_classes)

    def discriminator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        error = F.cross_entropy(self.head(critic_pass.real.flatten(1)), _known(critic_pass.real_labels))
        return super().discriminator_terms(critic_pass) | {"classes": error}

    def generator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        error = F.cross_entropy(self.head(critic_pass.fake.flatten(1)), _known(critic_pass.fake_labels))
        return super().generator_terms(critic_pass) | {"classes": error, "contrast": critic_pass.fake.square().mean()}


def _known(labels: Tensor | None) -> Tensor:
    assert labels is not None
    return labels


class Wide(Trainer):
    """One step of each, of images."""

    differentiates_once = True

    def step(self, stream: Stream) -> dict[str, Tensor]:
        bundle, real = self.bundle, stream.next()
        _, _height, _width = real.x.shape[1:]
        with torch.no_grad():
            fake = bundle.generate(len(real.x), real.y)
        critic_pass = bundle.critic_pass(real, Batch(fake.x, fake.y))
        loss_d = bundle.update_discriminator(bundle.discriminator_terms(critic_pass))
        fake = bundle.generate(len(real.x), real.y)
        paired = real if bundle.loss.uses_real else None
        loss_g = bundle.update_generator(bundle.loss.generator_terms(bundle.generator_pass(fake, paired)))
        return {"loss_d": loss_d, "loss_g": loss_g}


def _rule(broken_by: Any, wanted: str) -> tuple[Rule, ...]:
    return (
        Rule(broken_by, what="It cannot be used with {data}", why=f"it needs {wanted}", instead=f"choose {wanted}"),
    )


IMAGES = _rule(lambda plan: not plan.spec.is_image, "images")
LABELS = _rule(lambda plan: plan.spec.num_classes is None, "labels")
DIGITS = _rule(lambda plan: plan.spec.shape != (1, 28, 28), "images of 1x28x28")
NOTHING = _rule(lambda _: True, "what there is not")


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    def part(kind: Any, made: type, name: str = "", **more: Any) -> Component:
        return Component(
            kind, name or made.__name__.lower(), f"particular_parts:{made.__name__}", summary="A part.", **more
        )

    yield part("generator", ByLabel, traits=(CONDITIONAL,), recipe={"disc": "cgan"}, rules=LABELS)
    yield part("generator", Black, rules=DIGITS)
    yield part("discriminator", Attending)
    yield part("discriminator", Zero)
    yield part("regularizer", Shifted, rules=IMAGES)
    yield part("loss", Sized, rules=IMAGES)
    yield part("loss", Classes, rules=LABELS)
    yield part("loss", Sound, "never", rules=NOTHING)
    yield part("trainer", Wide, rules=IMAGES)
