"""A checked hypothesis as a person reads it: ids become the writer's names again, every text is bounded.

A first cause that the rows spoke against (a claim that the check contradicts, a prediction that failed) does not stay
on top silently: the best rival still standing comes first, and the view says what fell and by what. The texts may come
from a model that read a stranger's telemetry: they are cut and stripped of links here, and sinks escape them like any
other untrusted text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detectors.types import Role
from monitor.analysis.hypothesis import ABSTENTIONS, Cause
from monitor.analysis.predictions import EVEN, Outcome, Registered, told
from monitor.analysis.predictions import Verdict as Standing
from monitor.analysis.verify import Verdict
from monitor.page import Claim, HypothesisView, PredictionView

if TYPE_CHECKING:
    from monitor.analysis.hypothesis import Experiment, RankedCause
    from monitor.analysis.verify import Checked, Verified

MAX_CLAIMS = 4
MAX_RIVALS = 3
MAX_CHARS = 300

_ROLES = "|".join(role.value for role in Role if "_" in role.value)
_ID = re.compile(rf"(?<![\w/.-])(?:[MR]\d{{1,3}}|{_ROLES})(?![\w/-])")
# In a claim these two are ids as well; in prose they are words, and so in a claim before a word that they qualify.
_CLAIM_ID = re.compile(rf"{_ID.pattern}|(?<![\w/.-])(?:loss|throughput)(?![\w/-]| (?:spike|scale|curve|function))")
_LINK = re.compile(r"(?i)\b(?:[a-z][a-z0-9+.-]{1,20}://|www\.)\S+")

_Checked = tuple["RankedCause", tuple["Checked", ...]]


@dataclass(frozen=True, slots=True)
class _Words:
    """Texts without links and with real names, at most `MAX_CHARS` long. names: as in `Evidence`."""

    names: Mapping[str, str]

    def prose(self, text: str) -> str:
        return self._plain(text, _ID)

    def claim(self, text: str) -> str:
        return self._plain(text, _CLAIM_ID)

    def _plain(self, text: str, ids: re.Pattern[str]) -> str:
        text = ids.sub(lambda found: self.names.get(found.group(), found.group()), _LINK.sub("[link]", text))
        return cut(text)


def cut(text: str) -> str:
    """At most `MAX_CHARS` characters."""
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"


def view(
    verified: Verified,
    names: Mapping[str, str],
    author: str,
    predictions: Sequence[tuple[Registered, Outcome]] = (),
    note: str = "",
    first: Cause | None = None,
) -> HypothesisView:
    """What a page shows of a verified hypothesis. first: the cause that its author named first."""
    words = _Words(names)
    causes = list(zip(verified.hypothesis.causes, verified.verdicts, strict=True))
    first = first or causes[0][0].cause
    fallen = _fallen(first, causes, predictions, words)
    standing = [pair for pair in causes if pair[0].cause is not first and _stands(*pair)]
    if fallen and causes[0][0].cause is first and standing:
        causes = [standing[0], *(pair for pair in causes if pair is not standing[0])]
    (top, _), *others = causes
    rivals = [cause for cause, _ in others if not (fallen and cause.cause is first)]
    urgency = "" if fallen else verified.hypothesis.urgency  # it was said of the first cause
    return HypothesisView(
        author=author,
        cause=top.cause.value,
        summary=" ".join(words.prose(said) for said in (top.summary, urgency) if said),
        # Where no cause stands out, what is known of the candidates is what there is to say.
        claims=_claims(causes if top.cause in ABSTENTIONS else causes[:1], words),
        rivals=tuple(f"{r.cause.replace('_', ' ')}: {words.prose(r.summary)}" for r in rivals[:MAX_RIVALS]),
        predictions=tuple(_prediction(r, o) for r, o in predictions if not _repeats(r, predictions)),
        experiment=_experiment(verified.hypothesis.experiment, words),
        note=note,
        fallen=fallen,
        stands=not fallen or (top.cause is not first and top.cause not in ABSTENTIONS),
    )


def _claims(causes: Sequence[_Checked], words: _Words) -> tuple[Claim, ...]:
    made = (
        Claim(text=words.claim(claim.text), verdict=found.verdict.value, found=words.claim(found.found))
        for cause, checked in causes
        for claim, found in zip(cause.claims, checked, strict=True)
    )
    return tuple(dict.fromkeys(made))[:MAX_CLAIMS]


def _fallen(
    first: Cause, causes: Sequence[_Checked], predictions: Sequence[tuple[Registered, Outcome]], words: _Words
) -> str:
    """What speaks against the author's first cause, "" if nothing does."""
    if first in ABSTENTIONS:
        return ""
    name = first.replace("_", " ")
    for cause, checked in causes:
        if cause.cause is first:
            for claim, found in zip(cause.claims, checked, strict=True):
                if found.verdict is Verdict.CONTRADICTED:
                    return cut(f"{name}: it rests on “{words.claim(claim.text)}”; found {words.claim(found.found)}")
    for registered, outcome in predictions:
        text, _, verdict = told(registered, outcome)
        if verdict is Standing.REFUTED and registered.cause in ("", first.value):
            return cut(f"{name}: it predicted “{text}”; found {outcome.found}")
    return ""


def _stands(cause: RankedCause, checked: Sequence[Checked]) -> bool:
    return cause.cause not in ABSTENTIONS and all(c.verdict is not Verdict.CONTRADICTED for c in checked)


def _repeats(registered: Registered, predictions: Sequence[tuple[Registered, Outcome]]) -> bool:
    """Whether it is the contrary of a rival's prediction on a metric of which more is expected already."""
    others = [r for r, _ in predictions if r.metric == registered.metric and r is not registered]
    return registered.probability < EVEN and any(r.probability >= EVEN for r in others)


def _prediction(registered: Registered, outcome: Outcome) -> PredictionView:
    text, probability, verdict = told(registered, outcome)
    return PredictionView(
        text=cut(_LINK.sub("[link]", text)), probability=probability, outcome=verdict.value, found=outcome.found
    )


def _experiment(experiment: Experiment | None, words: _Words) -> str:
    if experiment is None:
        return ""
    cost = "" if experiment.gpu_hours is None else f" Cost: {experiment.gpu_hours:.3g} GPU-hours."
    plain = words.prose
    return f"{plain(experiment.what)} Control: {plain(experiment.control)} Success: {plain(experiment.success)}{cost}"
