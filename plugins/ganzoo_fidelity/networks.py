"""torch-fidelity's networks with weights that are found, checked and read by ganzoo.

torch-fidelity reads a weights file as a pickle that may run code. Here tensors are read without that, and its modules
are filled with them; the computation, from the resize on, is its own.
"""

from __future__ import annotations

import importlib
import io
import warnings
from abc import abstractmethod
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from ganzoo.api import GanzooError, Spec, UsageError
from ganzoo.data import (
    Found,
    Published,
    find_weights,
    read_weights,
    torch_fidelity_module,
    torchvision_module,
    weights_digest,
)
from ganzoo.nn import Extractor, Features
from ganzoo_fidelity import WeightsConfig

_VERSION: Final = "torch-fidelity preprocessing 1; grey repeated"
"""Goes into every digest: raise the number when the same weights begin to give other features."""
_OFFLINE: Final = "score offline with --features digit-cnn (digits) or --features discriminator (any run)"
_CLIP: Final = {
    "clip-rn50": ("RN50", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "clip-rn101": ("RN101", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    "clip-rn50x4": ("RN50x4", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    "clip-rn50x16": ("RN50x16", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    "clip-rn50x64": ("RN50x64", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    "clip-vit-b-32": ("ViT-B-32", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "clip-vit-b-16": ("ViT-B-16", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "clip-vit-l-14": ("ViT-L-14", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "clip-vit-l-14-336px": ("ViT-L-14-336px", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
}
_CLIP_HOST: Final = "https://openaipublic.azureedge.net/clip/models"


class FidelityExtractor(Extractor):
    """Images of 1 or 3 channels and any size -> what a network of torch-fidelity sees; grey is repeated to 3 channels.

    Raises:
        UsageError: a sample is no image of 1 or 3 channels.
        MissingError: the weights are not here and cannot be had.
        GanzooError: they are damaged, or those of another network.
    """

    published: ClassVar[Published]

    def __init__(self, config: WeightsConfig, spec: Spec) -> None:
        super().__init__(spec)
        if not spec.is_image or spec.shape[0] not in (1, 3):
            raise UsageError(
                f"{self.published.name} sees grey or coloured images, not samples of the shape {spec.shape}."
            )
        found = find_weights(self.published, config.weights, fetch=config.download, instead=_OFFLINE)
        state = self.read(found)
        self.digest = weights_digest(state, self.published.name, _VERSION)
        if not found.published:
            self.caveat = f"its weights are {found.path.name}, not the published file"
        torch_fidelity_module()
        try:
            self.network = self.fill(state)
        except (RuntimeError, KeyError, ValueError, AttributeError, TypeError, IndexError) as err:
            reason = " ".join(str(err).split())[:300]
            raise GanzooError(f"{found.path} has no weights of {self.published.name}: {reason}") from None
        self.requires_grad_(False)
        self.eval()

    def read(self, found: Found) -> dict[str, Tensor]:
        """The tensors of the file."""
        return read_weights(found.path)

    @abstractmethod
    def fill(self, state: dict[str, Tensor]) -> nn.Module:
        """torch-fidelity's network with these weights; sets ``dim`` and ``num_classes``."""

    def train(self, mode: bool = True) -> FidelityExtractor:
        """Stay in evaluation mode, as the network was trained once and for all."""
        return super().train(False)

    def forward(self, images: Tensor) -> Features:
        """Features of ``images [B, 1 or 3, H, W]`` uint8."""
        rgb = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        found = self.network(rgb)
        return Features(found[0], found[1] if len(found) > 1 else None)


class Inception(FidelityExtractor):
    """Images -> 2,048 features and 1,008 logits without bias, of the Inception-v3 that FID was defined with."""

    dim = 2048
    num_classes = 1008
    published = Published(
        "inception",
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "6726825d",
    )

    def fill(self, state: dict[str, Tensor]) -> nn.Module:
        """The network; it insists on reading a file, and gets one in memory that was just written from the tensors."""
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        made: nn.Module = _part("feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=file
        )
        return made


class Vgg16(FidelityExtractor):
    """Images -> 4,096 features of VGG-16, after the ReLU of its second fully connected layer."""

    dim = 4096
    published = Published(
        "vgg16", "vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth", "397923af"
    )

    def fill(self, state: dict[str, Tensor]) -> nn.Module:
        """The network, its weights used as they are instead of copied: they are half a gigabyte."""
        base = _part("feature_extractor_vgg16").FeatureExtractorVGG16
        with torch.device("meta"):
            model = torchvision_module().models.vgg16(weights=None)
        model.load_state_dict(state, assign=True)
        del model.classifier[4:]
        made = _bare(base, "vgg16", ["fc2_relu"])
        made.model = model.float()
        filled: nn.Module = made
        return filled


class Clip(FidelityExtractor):
    """Images -> the embedding of CLIP's image network."""

    def read(self, found: Found) -> dict[str, Tensor]:
        """The published file is a TorchScript archive, which is opened only if its hash is right."""
        if not found.published:
            return read_weights(found.path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            opener: Any = torch.jit.load
            archive = opener(str(found.path), map_location="cpu")
        state: dict[str, Tensor] = archive.state_dict()
        return state

    def fill(self, state: dict[str, Tensor]) -> nn.Module:
        """The network, whose sizes follow from the weights."""
        part = _part("feature_extractor_clip")
        self.dim = int(state["text_projection"].shape[1])
        made = _bare(part.FeatureExtractorCLIP, self.published.name, ["clip"])
        made.model = part.build_model(dict(state), torch.float32)
        made.resolution = made.model.visual.input_resolution
        filled: nn.Module = made
        return filled


def _clip(name: str) -> Published:
    file, digest = _CLIP[name]
    return Published(name, f"{name}-{digest}.pt", f"{_CLIP_HOST}/{digest}/{file}.pt", digest)


def _part(name: str) -> Any:
    return importlib.import_module(f"torch_fidelity.{name}")


def _bare(kind: type[Any], name: str, features: list[str]) -> Any:
    """One of torch-fidelity's extractors without the weights that its constructor would read."""
    made: Any = object.__new__(kind)
    _part("feature_extractor_base").FeatureExtractorBase.__init__(made, name, features)
    made.feature_extractor_internal_dtype = torch.float32
    return made


class ClipRn50(Clip):
    """CLIP's RN50."""

    published = _clip("clip-rn50")


class ClipRn101(Clip):
    """CLIP's RN101."""

    published = _clip("clip-rn101")


class ClipRn50x4(Clip):
    """CLIP's RN50x4."""

    published = _clip("clip-rn50x4")


class ClipRn50x16(Clip):
    """CLIP's RN50x16."""

    published = _clip("clip-rn50x16")


class ClipRn50x64(Clip):
    """CLIP's RN50x64."""

    published = _clip("clip-rn50x64")


class ClipVitb32(Clip):
    """CLIP's ViT-B/32."""

    published = _clip("clip-vit-b-32")


class ClipVitb16(Clip):
    """CLIP's ViT-B/16."""

    published = _clip("clip-vit-b-16")


class ClipVitl14(Clip):
    """CLIP's ViT-L/14."""

    published = _clip("clip-vit-l-14")


class ClipVitl14336px(Clip):
    """CLIP's ViT-L/14 for images of 336 pixels."""

    published = _clip("clip-vit-l-14-336px")
