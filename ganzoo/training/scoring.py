"""Scores while a run trains: a curve, the best checkpoint, and an end when nothing gets better."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ganzoo.api import Spec, UsageError
from ganzoo.config import RunConfig
from ganzoo.errors import GanzooError
from ganzoo.evaluation.cache import FeatureCache
from ganzoo.evaluation.evaluate import MODE_SAMPLES, build_extractor, suitable
from ganzoo.evaluation.judge import Judge
from ganzoo.evaluation.metrics import INCEPTION, Evidence
from ganzoo.evaluation.reference import reference_of
from ganzoo.evaluation.result import Score, plain
from ganzoo.evaluation.shards import Shards
from ganzoo.evaluation.subjects import Network, uses_labels
from ganzoo.files import json_digest
from ganzoo.training import checkpoint

if TYPE_CHECKING:
    from ganzoo.training.loop import Session

AUTO: Final = {True: ("fid", "kid"), False: ("modes", "high_quality")}
"""Scores that tell the best generator of images and of points; the next one counts where the one before is equal."""
GIVEN_UP: Final = "The score is given up, because a signal came."
"""What is raised then, in all processes."""
_SEED: Final = 0
_FAKE: Final = 2000
_REAL: Final = 10_000
"""Real samples that are looked at: enough for a curve."""


class Scoring:
    """Scores the generator of a session, by one protocol all along. Several processes divide the samples between them.

    Attributes:
        seconds: how long it has taken so far, which is no time of training.
        state: what a checkpoint keeps: the best scores so far, their step, how often nothing was better since, and
            the step of the last ones.

    Raises:
        UsageError: nothing can be scored, or the metric that tells the best is not computed.
        MissingError: the feature network's weights are not here.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.seconds = 0.0
        settings, spec = session.settings, session.run.spec
        self._count = settings.eval_samples or (MODE_SAMPLES if not spec.is_image else _FAKE)
        self._wanted = AUTO[spec.is_image] if settings.eval_metric == "auto" else (settings.eval_metric,)
        config = session.run.config
        self._subject = Network(session.averaged, spec, {}, conditional=uses_labels(config.plan(spec)))
        self._judge = _judge(config, spec, session)
        judged = [self._wanted, self._count, self._judge.name, self._judge.protocol()["extractor_digest"]]
        self.state: dict[str, Any] = {
            "step": None,
            "values": None,
            "waited": 0,
            "last": None,
            "by": json_digest(judged),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept, unless that was scored otherwise: then nothing is the best so far."""
        if state.get("by", self.state["by"]) == self.state["by"]:
            self.state = {**self.state, **state}
        elif state.get("values") is not None:
            self._session.say(
                "Scores are computed in another way now than before, so the best generator is looked for anew."
            )

    def look(self) -> bool:
        """Score, add a line to the metrics, and say whether this is the best generator so far.

        Once a signal has come, nothing is scored: the run is to save and leave soon.
        """
        begun = time.monotonic()
        gen = self._session.averaged
        was_training = gen.training
        self._subject.gen = gen.eval()
        try:
            evidence = self._judge.look(self._subject, self._count, _SEED)
        except GanzooError as err:
            if str(err) != GIVEN_UP:
                raise
            return False
        finally:
            gen.train(was_training)
        self.state = json.loads(self._session.together.from_first(lambda: self._scored(evidence)))
        self.seconds += time.monotonic() - begun
        return self._is_best

    @property
    def _is_best(self) -> bool:
        return bool(self.state["waited"] == 0)

    def _scored(self, evidence: Evidence) -> str:
        """Score, and return the state that follows as JSON."""
        session = self._session
        scores, _ = self._judge.score(evidence)
        values = {score.name: plain(score.value) for score in scores}
        session.keeper.line({"step": session.step, "scores": values})
        session.observers.call("eval_end", run=session.run, metrics=values)
        self.state = self._compared(scores)
        session.say(
            f"Step {session.step}: "
            + ", ".join(f"{score.label} {score.value:.5g}" for score in scores)
            + "."
            + (" The best so far." if self._is_best else "")
        )
        return json.dumps(self.state)

    def mark(self) -> None:
        """Let the run's best checkpoint be the one of the present step."""
        session = self._session
        scores = dict(zip(self._wanted, self.state["values"], strict=False))
        session.keeper.tried(
            "The best checkpoint", lambda: checkpoint.mark_best(session.run.checkpoints, session.step, scores=scores)
        )

    @property
    def is_due(self) -> bool:
        """Whether the present generator has not been scored yet; the end of a run may be reached more than once."""
        return bool(self.state["last"] != self._session.step)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing has become better for as long as the run is to be patient."""
        patience = self._session.settings.eval_patience
        return bool(patience) and self.state["waited"] >= patience

    def _compared(self, scores: tuple[Score, ...]) -> dict[str, Any]:
        """The state after these scores."""
        found, step = {score.name: score for score in scores}, self._session.step
        missing = [name for name in self._wanted[:1] if name not in found]
        if missing:
            raise UsageError(
                f"The best generator cannot be told by {missing[0]!r}; the scores here are {', '.join(found)}: set "
                "--eval-metric."
            )
        names = [name for name in self._wanted if name in found]
        values = [found[name].value for name in names]
        signs = [-1 if found[name].better == "lower" else 1 for name in names]
        best = self.state["values"]
        better = best is None or [s * v for s, v in zip(signs, values, strict=True)] > [
            s * v for s, v in zip(signs, best, strict=True)
        ]
        if better:
            return {**self.state, "step": step, "values": values, "waited": 0, "last": step}
        return {**self.state, "waited": self.state["waited"] + 1, "last": step}


def _judge(config: RunConfig, spec: Spec, session: Session) -> Judge:
    reference = reference_of(config.data, session.dataset)
    settings = config.run
    name = extractor = None
    if spec.is_image:
        name = reference.extractor or INCEPTION if settings.eval_features == "auto" else settings.eval_features
        with session.together.first_ahead():
            extractor = build_extractor(name, {}, spec, reference).to(session.device)

    def give_up() -> None:
        if session.stop.received:
            raise GanzooError(GIVEN_UP)

    subject = Network(session.bundle.gen, spec, {}, conditional=uses_labels(config.plan(spec)))
    metrics = suitable(subject, reference, extractor, name, statistics=False)
    return Judge(
        metrics,
        extractor=extractor,
        name=name or "",
        reference=reference,
        real_samples=min(_REAL, reference.count) if reference.count is not None else _REAL,
        device=session.device,
        cache=FeatureCache(),
        shards=Shards(session.together if session.together.world > 1 else None, give_up),
    )
