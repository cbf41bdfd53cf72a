"""Alternating gradient steps."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.nn import Batch, Stream, Trainer
from ganzoo_gan import AlternatingConfig


class Alternating(Trainer):
    """Some discriminator steps, each on a fresh batch, then one generator step (arXiv:1406.2661, algorithm 1).

    Fakes take the labels of the reals of their batch. The fakes of the last discriminator step serve the generator
    step too, one generator forward for both; a loss that pairs fakes with reals gets a fresh batch of each.
    """

    config: AlternatingConfig
    differentiates_once = True

    def step(self, stream: Stream) -> dict[str, Tensor]:
        """One iteration. Metrics, all detached scalars: ``loss_d`` and ``loss_g`` (totals), ``d_real`` and ``d_fake``
        (mean logits of the last discriminator step before its update), and each further term by its name; if both
        sides have one of that name, the discriminator's.
        """
        bundle = self.bundle
        paired = bundle.loss.uses_real
        metrics: dict[str, Tensor] = {}
        fake: Batch | None = None
        for left in reversed(range(bundle.critic_steps(self.config.critic_steps))):
            real = stream.next()
            with torch.set_grad_enabled(left == 0 and not paired):
                fake = bundle.generate(len(real.x), real.y)
            critic_pass = bundle.critic_pass(real, Batch(fake.x.detach(), fake.y))
            terms = bundle.discriminator_terms(critic_pass)
            metrics["loss_d"] = bundle.update_discriminator(terms)
            if left == 0:
                metrics["d_real"] = critic_pass.real_logits.detach().mean()
                metrics["d_fake"] = critic_pass.fake_logits.detach().mean()
                metrics |= {name: term.detach() for name, term in terms.items() if name != "loss"}
        paired_with: Batch | None = None
        if paired or fake is None:
            fresh = stream.next()
            fake = bundle.generate(len(fresh.x), fresh.y)
            paired_with = fresh if paired else None
        of_generator = bundle.loss.generator_terms(bundle.generator_pass(fake, paired_with))
        metrics["loss_g"] = bundle.update_generator(of_generator)
        further = of_generator.keys() - metrics.keys() - {"loss"}
        return metrics | {name: term.detach() for name, term in of_generator.items() if name in further}
