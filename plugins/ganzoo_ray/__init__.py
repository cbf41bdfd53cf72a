"""The launcher ``ray``: the runs of a sweep as tasks of a Ray cluster. Needs ``pip install 'ganzoo[ray]'``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ganzoo.api import Component, hookimpl, option


@dataclass(frozen=True)
class RayConfig:
    """Options of the launcher ``ray``."""

    address: str = option("", help="The cluster: host:port, 'auto', or empty for one on this machine alone.")
    num_cpus: float = option(1.0, above=0, help="Cores that a run reserves.")
    num_gpus: float = option(0.0, min=0, help="GPUs that a run reserves; a part of one lets several runs share it.")
    jobs: int = option(0, min=0, help="Runs handed to the cluster at a time; 0: as many as it has cores for.")


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The launcher."""
    yield Component(
        "launcher",
        "ray",
        target="ganzoo_ray.launcher:RayLauncher",
        config=RayConfig,
        summary="Tasks of a Ray cluster, whose machines share the sweep's folder.",
        facts={"needs": "pip install 'ganzoo[ray]'"},
    )
