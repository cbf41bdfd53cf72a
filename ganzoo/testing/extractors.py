"""Promises of extractors."""

from __future__ import annotations

import re
from typing import Any, Final

import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.errors import UsageError
from ganzoo.nn import Extractor
from ganzoo.testing.subject import Subject

IMAGES: Final = (Spec((1, 28, 28), 10), Spec((3, 32, 32)), Spec((3, 64, 48)))
"""The tasks that are tried: grey and coloured, small and not square."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_BATCH: Final = 3
_CLOSE: Final = 1e-3
"""Share of the largest feature by which one image's may move with its company: convolutions sum in another order."""


def _images(spec: Spec, n: int = _BATCH, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, (n, *spec.shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def _served(subject: Subject) -> list[tuple[Spec, Extractor]]:
    """The tasks that it serves, and itself built for each, in evaluation mode."""
    found = []
    reasons = []
    for spec in subject.specs or IMAGES:
        try:
            found.append((spec, subject.build(spec).eval()))
        except UsageError as err:
            reasons.append(str(err))
    subject.expect(found, f"refuses every task that is tried ({' '.join(reasons[:1])})", "say specs= to checks_for()")
    return found


def _first(subject: Subject) -> tuple[Spec, Extractor]:
    return _served(subject)[0]


def _see(extractor: Extractor, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        seen = extractor(images)
    return {word: tensor for word, tensor in seen._asdict().items() if tensor is not None}


def gives_the_features_that_it_states(subject: Subject) -> None:
    """uint8 in; float32 ``[B, dim]`` out, and ``[B, num_classes]`` where it has classes, of grey and colour."""
    for spec, extractor in _served(subject):
        for n in (1, 2):
            seen = _see(extractor, _images(spec, n))
            wanted: dict[str, Any] = {"features": (n, extractor.dim)}
            if extractor.num_classes is not None:
                wanted["logits"] = (n, extractor.num_classes)
            got = {word: tuple(tensor.shape) for word, tensor in seen.items()}
            subject.expect(
                got == wanted, f"gives {got} for {n} images of {spec}, not {wanted}", "set dim and num_classes"
            )
            for word, tensor in seen.items():
                subject.expect(
                    tensor.dtype == torch.float32, f"gives {word} of {tensor.dtype}", "end forward() in .float()"
                )
                subject.expect(
                    torch.isfinite(tensor).all(), f"gives {word} with NaN or infinity for {spec}", "look at its weights"
                )


def sees_each_image_by_itself(subject: Subject) -> None:
    """The features of an image do not depend on the others of its batch, nor on their order."""
    spec, extractor = _first(subject)
    images = _images(spec)
    together, alone, turned = _see(extractor, images), _see(extractor, images[1:2]), _see(extractor, images.flip(0))
    for word, tensor in together.items():
        scale = float(tensor.abs().max()) or 1.0
        for other in (alone[word], turned[word][1:2]):
            apart = float((tensor[1:2] - other).abs().max()) / scale
            subject.expect(
                apart < _CLOSE,
                f"gives an image other {word} in other company (by {apart:.2g} of the largest)",
                "use no statistics of the batch",
            )


def is_the_same_every_time(subject: Subject) -> None:
    """Equal images give equal bits, from one build to the next, and no buffer changes."""
    spec, extractor = _first(subject)
    images = _images(spec)
    before = {name: value.clone() for name, value in extractor.state_dict().items()}
    seen, again = _see(extractor, images), _see(extractor, images)
    built = _see(subject.build(spec, seed=9).eval(), images)
    for word, tensor in seen.items():
        subject.expect(
            torch.equal(tensor, again[word]), f"gives other {word} the second time", "draw nothing at random"
        )
        subject.expect(
            torch.equal(tensor, built[word]),
            f"gives other {word} when it is built again",
            "take its weights from a file or from a fixed seed of its own",
        )
    after = extractor.state_dict()
    same = all(torch.equal(value, after[name]) for name, value in before.items())
    subject.expect(same, "changes its buffers in evaluation mode", "update nothing in forward()")


def is_frozen(subject: Subject) -> None:
    """Its parameters ask for no gradients."""
    _, extractor = _first(subject)
    free = [name for name, parameter in extractor.named_parameters() if parameter.requires_grad]
    subject.expect(not free, f"trains {', '.join(free[:3])}", "end __init__ in self.requires_grad_(False)")


def looks_at_the_image(subject: Subject) -> None:
    """Other images give other features, and the image stays as it is."""
    spec, extractor = _first(subject)
    images = _images(spec)
    before = images.clone()
    features = _see(extractor, images)["features"]
    subject.expect(torch.equal(images, before), "changes its input in place", "make a copy of the images first")
    subject.expect(
        not torch.equal(features[0], features[1]), "gives two images the same features", "look at its weights"
    )


def says_by_a_digest_what_it_is(subject: Subject) -> None:
    """The digest is a SHA-256 in hexadecimal, the same every time that it is built."""
    spec, extractor = _first(subject)
    digest = getattr(extractor, "digest", None)
    subject.expect(
        isinstance(digest, str) and _DIGEST.fullmatch(digest),
        f"has the digest {digest!r}",
        "set self.digest to 64 hexadecimal digits: the SHA-256 of its weights and of the version of its preprocessing",
    )
    subject.expect(
        subject.build(spec, seed=9).digest == digest, "has another digest when it is built again", "hash no randomness"
    )
    if list(extractor.state_dict()):
        held = all(value.device.type == "cpu" for value in extractor.state_dict().values())
        subject.expect(held, "chooses a device by itself", "build it on the CPU; whoever uses it moves it")


def refuses_points_in_words(subject: Subject) -> None:
    """What is no image is refused when it is built, in a sentence."""
    try:
        subject.build(Spec((2,)))
    except UsageError:
        return
    subject.expect(False, "takes points for images", "raise a UsageError unless spec.is_image")


OF_EXTRACTORS: Final = (
    gives_the_features_that_it_states,
    sees_each_image_by_itself,
    is_the_same_every_time,
    is_frozen,
    looks_at_the_image,
    says_by_a_digest_what_it_is,
    refuses_points_in_words,
)
