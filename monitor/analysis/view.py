"""A checked hypothesis as a person reads it: aliases become the writer's names again, every text is bounded.

The texts may come from a model that read a stranger's telemetry: they are cut and stripped of links here, and sinks
escape them like any other untrusted text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from monitor.analysis.predictions import EVEN, Outcome, Registered, told
from monitor.page import Claim, HypothesisView, PredictionView

if TYPE_CHECKING:
    from monitor.analysis.hypothesis import Experiment
    from monitor.analysis.verify import Verified

MAX_CLAIMS = 4
MAX_RIVALS = 3
MAX_CHARS = 300

_ALIAS = re.compile(r"\b[MR]\d{1,3}\b")
_LINK = re.compile(r"(?i)\b(?:[a-z][a-z0-9+.-]{1,20}://|www\.)\S+")


def view(
    verified: Verified,
    names: Mapping[str, str],
    author: str,
    predictions: Sequence[tuple[Registered, Outcome]] = (),
    note: str = "",
) -> HypothesisView:
    """What a page shows of a verified hypothesis. names: as in `Evidence`."""

    def plain(text: str) -> str:
        """Without links, with real names, at most `MAX_CHARS` long."""
        text = _ALIAS.sub(lambda alias: names.get(alias.group(), alias.group()), _LINK.sub("[link]", text))
        return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"

    top, *rivals = verified.hypothesis.causes
    return HypothesisView(
        author=author,
        cause=top.cause.value,
        summary=" ".join(plain(said) for said in (top.summary, verified.hypothesis.urgency) if said),
        claims=tuple(
            Claim(text=plain(claim.text), verdict=checked.verdict.value, found=plain(checked.found))
            for claim, checked in list(zip(top.claims, verified.verdicts[0], strict=True))[:MAX_CLAIMS]
        ),
        rivals=tuple(f"{r.cause.replace('_', ' ')}: {plain(r.summary)}" for r in rivals[:MAX_RIVALS]),
        predictions=tuple(_prediction(r, o, plain) for r, o in predictions if not _repeats(r, predictions)),
        experiment=_experiment(verified.hypothesis.experiment, plain),
        note=note,
    )


def _repeats(registered: Registered, predictions: Sequence[tuple[Registered, Outcome]]) -> bool:
    """Whether it is the contrary of a rival's prediction on a metric of which more is expected already."""
    others = [r for r, _ in predictions if r.metric == registered.metric and r is not registered]
    return registered.probability < EVEN and any(r.probability >= EVEN for r in others)


def _prediction(registered: Registered, outcome: Outcome, plain: Callable[[str], str]) -> PredictionView:
    text, probability, verdict = told(registered, outcome)
    return PredictionView(text=plain(text), probability=probability, outcome=verdict.value, found=outcome.found)


def _experiment(experiment: Experiment | None, plain: Callable[[str], str]) -> str:
    if experiment is None:
        return ""
    cost = "" if experiment.gpu_hours is None else f" Cost: {experiment.gpu_hours:.3g} GPU-hours."
    return f"{plain(experiment.what)} Control: {plain(experiment.control)} Success: {plain(experiment.success)}{cost}"
