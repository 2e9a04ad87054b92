"""The table of the built-in analyst: what each cause needs, what speaks for and against it, what follows from it.

Weights are small integers, not probabilities. Signatures as measured on faults injected into small trainings: a bad
batch shows in loss and grad norm at the same step and is over at once; after a jump of the learning rate the grad norm
follows in 1 to 3 rows and the loss later; damaged data keeps both up; a change of mixture moves the loss and hardly the
grad norm; a starved loader moves the wait for data, a slow node the step time alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from detectors.types import Role
from monitor.analysis.hypothesis import Cause, Experiment, Relation
from monitor.analysis.signs import Sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cause. needs: any of these must be seen. predictions: (role, relation, rows, probability), its own first."""

    cause: Cause
    summary: str
    needs: frozenset[Sign]
    weights: Mapping[Sign, int]
    experiment: Experiment
    prior: int = 0
    excluded_by: Sign | None = None
    predictions: tuple[tuple[Role, Relation, int, float], ...] = ()
    urgency: str = ""


def _experiment(what: str, control: str, success: str) -> Experiment:
    return Experiment(what=what, control=control, gpu_hours=None, success=success)


TABLE: tuple[Row, ...] = (
    Row(
        cause=Cause.BAD_BATCH,
        summary="One or a few batches hurt the model, the rest of the training is as it was.",
        needs=frozenset({Sign.LOSS_JUMPED}),
        prior=1,  # by far the most frequent of the causes of a jump
        weights={
            Sign.GRAD_WITH: 2,
            Sign.LOSS_RETURNED: 3,
            Sign.LOSS_FALLING: 2,
            Sign.LR_STEADY: 1,
            Sign.LOSS_JUMPED: 1,
            Sign.LOSS_LASTS: -3,
            Sign.GRAD_FIRST: -2,
            Sign.LR_JUMPED: -4,
            Sign.NEW_ATTEMPT: -3,
            Sign.LOSS_NONFINITE: -3,
        },
        experiment=_experiment(
            "Replay from the last checkpoint before the event with the batches of the event left out.",
            "The same replay with the batches as they were.",
            "The loss jumps at the same batch in the control and in no row of the replay.",
        ),
        predictions=((Role.LOSS, Relation.BACK_IN_BAND, 60, 0.85), (Role.GRAD_NORM, Relation.STAYS_IN_BAND, 60, 0.8)),
        urgency="Usually recovers by itself; waiting costs little unless it comes again.",
    ),
    Row(
        cause=Cause.LR_TOO_HIGH,
        summary="The learning rate is higher than the model bears at this point.",
        needs=frozenset({Sign.LR_JUMPED, Sign.LR_RISING}),
        weights={
            Sign.LR_JUMPED: 5,
            Sign.LR_RISING: 2,
            Sign.GRAD_FIRST: 1,
            Sign.LOSS_RAMPED: 1,
            Sign.LOSS_LASTS: 1,
            Sign.LOSS_STEADY: -1,
            Sign.NEW_ATTEMPT: -3,
            Sign.LOSS_RETURNED: -2,
        },
        excluded_by=Sign.LR_STEADY,
        experiment=_experiment(
            "Resume from the last checkpoint before the change with the learning rate of before it.",
            "The same resume with the schedule as it is.",
            "The loss stays in its band in the first and leaves it in the control.",
        ),
        predictions=((Role.LOSS, Relation.STAYS_OUT, 100, 0.8), (Role.GRAD_NORM, Relation.STAYS_OUT, 100, 0.6)),
        urgency="Every further step moves the weights away; a rollback gets dearer with time.",
    ),
    Row(
        cause=Cause.GRADIENT_INSTABILITY,
        summary="The gradients grew first, the loss followed or has not moved yet.",
        needs=frozenset({Sign.GRAD_FIRST, Sign.GRAD_ALONE}),
        weights={
            Sign.GRAD_FIRST: 3,
            Sign.GRAD_ALONE: 3,
            Sign.LOSS_RAMPED: 2,
            Sign.LOSS_LASTS: 1,
            Sign.LR_STEADY: 1,
            Sign.LR_JUMPED: -4,
            Sign.NEW_ATTEMPT: -3,
        },
        excluded_by=Sign.GRAD_STEADY,
        experiment=_experiment(
            "Resume from the last checkpoint before the grad norm left its band with tighter clipping.",
            "The same resume with the clipping as it is.",
            "The grad norm stays in its band in the first and leaves it again in the control.",
        ),
        predictions=((Role.GRAD_NORM, Relation.STAYS_OUT, 60, 0.7), (Role.LOSS, Relation.STAYS_OUT, 100, 0.65)),
        urgency="Tends to grow; check that a checkpoint from before the onset exists.",
    ),
    Row(
        cause=Cause.NUMERICAL_OVERFLOW,
        summary="A number left the range of its format.",
        needs=frozenset({Sign.LOSS_NONFINITE, Sign.GRAD_NONFINITE, Sign.SCALE_FELL}),
        weights={
            Sign.GRAD_NONFINITE: 3,
            Sign.SCALE_FELL: 4,
            Sign.LOSS_NONFINITE: 4,
            Sign.LR_JUMPED: -1,
        },
        experiment=_experiment(
            "Repeat the step from the last checkpoint in a wider format (fp32) with the same batch.",
            "The same step in the format as it is.",
            "The values are finite in the first and not in the control.",
        ),
        predictions=((Role.LOSS, Relation.STAYS_OUT, 60, 0.75), (Role.GRAD_NORM, Relation.STAYS_OUT, 60, 0.7)),
        urgency="Weights that are not finite do not heal; later checkpoints may be lost too.",
    ),
    Row(
        cause=Cause.RESUME_FAULT,
        summary="The run does not continue where it stopped: weights, optimizer, schedule or data position differ.",
        needs=frozenset({Sign.NEW_ATTEMPT}),
        weights={
            Sign.RESUMED_HIGH: 4,
            Sign.LR_RESTARTED: 3,
            Sign.LOSS_LASTS: 1,
            Sign.LOSS_JUMPED: 1,
            Sign.LOSS_STEADY: -2,
        },
        experiment=_experiment(
            "Load the checkpoint of the resume and evaluate it on the batches of the last rows before the stop.",
            "The losses logged for those rows.",
            "Both agree within the noise of the loss; if they do not, the checkpoint or its loading is at fault.",
        ),
        predictions=((Role.LOSS, Relation.STAYS_OUT, 100, 0.7),),
        urgency="The work since the resume may have to be repeated.",
    ),
    Row(
        cause=Cause.DATA_MIXTURE_CHANGE,
        summary="The data became harder: the loss moved to a new level, the gradients hardly.",
        needs=frozenset({Sign.LOSS_JUMPED, Sign.LOSS_RAMPED}),
        weights={
            Sign.GRAD_STEADY: 3,
            Sign.LOSS_LASTS: 2,
            Sign.LR_STEADY: 1,
            Sign.GRAD_WITH: -2,
            Sign.GRAD_FIRST: -3,
            Sign.LOSS_RETURNED: -4,
            Sign.LR_JUMPED: -4,
            Sign.NEW_ATTEMPT: -3,
            Sign.LOSS_NONFINITE: -3,
        },
        experiment=_experiment(
            "Evaluate the checkpoints before and after the event on a fixed set.",
            "The training losses of the same steps.",
            "The fixed set shows no jump while the training loss does.",
        ),
        predictions=((Role.LOSS, Relation.STAYS_OUT, 100, 0.75), (Role.GRAD_NORM, Relation.STAYS_IN_BAND, 100, 0.8)),
        urgency="Harmless if it was planned; ask who changed the data.",
    ),
    Row(
        cause=Cause.DATA_CORRUPTION,
        summary="From some point on the data no longer fit the task (labels, tokens, order).",
        needs=frozenset({Sign.LOSS_JUMPED}),
        weights={
            Sign.GRAD_WITH: 2,
            Sign.LOSS_LASTS: 3,
            Sign.LR_STEADY: 1,
            Sign.LOSS_RETURNED: -4,
            Sign.LOSS_FALLING: -2,
            Sign.GRAD_FIRST: -2,
            Sign.GRAD_STEADY: -2,
            Sign.LR_JUMPED: -4,
            Sign.NEW_ATTEMPT: -3,
            Sign.LOSS_NONFINITE: -2,
        },
        experiment=_experiment(
            "Decode and read the batches of the first bad rows, and train a few rows on data from before the event.",
            "The same rows on the data as they are.",
            "The loss is in its band on the old data only.",
        ),
        predictions=((Role.LOSS, Relation.STAYS_OUT, 100, 0.85), (Role.GRAD_NORM, Relation.STAYS_OUT, 60, 0.5)),
        urgency="The model learns from damaged data with every step.",
    ),
    Row(
        cause=Cause.LOADER_STARVATION,
        summary="The steps wait for data.",
        needs=frozenset({Sign.DATA_SLOWER, Sign.DATA_UNKNOWN}),
        weights={Sign.DATA_SLOWER: 5, Sign.SLOWER: 1, Sign.LOSS_STEADY: 1, Sign.DATA_UNKNOWN: 1},
        excluded_by=Sign.DATA_STEADY,
        experiment=_experiment(
            "Run a few steps on one batch that is held in memory.",
            "A few steps with the loader as it is.",
            "The steps are as fast as before in the first and slow in the control.",
        ),
        predictions=((Role.DATA_TIME, Relation.STAYS_OUT, 60, 0.7), (Role.STEP_TIME, Relation.STAYS_OUT, 60, 0.65)),
        urgency="Costs time, not quality.",
    ),
    Row(
        cause=Cause.STORAGE_STALL,
        summary="One read took very long; the loader itself is fast enough.",
        needs=frozenset({Sign.DATA_PAUSED}),
        weights={Sign.DATA_PAUSED: 4, Sign.PAUSED: 1, Sign.LOSS_STEADY: 1},
        experiment=_experiment(
            "Read the files of the slow row again from the same node.",
            "The same read from another node.",
            "The first is slow again and the control is not.",
        ),
        predictions=((Role.DATA_TIME, Relation.STAYS_IN_BAND, 60, 0.75),),
        urgency="Over; costs time only if it comes again.",
    ),
    Row(
        cause=Cause.SLOW_HARDWARE,
        summary="Compute or network became slower by a fixed amount; data and loss are as before.",
        needs=frozenset({Sign.SLOWER}),
        weights={
            Sign.SLOWER: 1,
            Sign.SLOWER_EVENLY: 2,
            Sign.DATA_STEADY: 2,
            Sign.LOSS_STEADY: 1,
            Sign.DATA_SLOWER: -5,
            Sign.DATA_UNKNOWN: -1,
        },
        excluded_by=Sign.PACE_STEADY,
        experiment=_experiment(
            "Run the same short benchmark on each node and leave out the slowest.",
            "The same benchmark on a node that is known to be healthy.",
            "One node is slower than the control by as much as the steps became.",
        ),
        predictions=((Role.STEP_TIME, Relation.STAYS_OUT, 100, 0.8), (Role.LOSS, Relation.STAYS_IN_BAND, 100, 0.95)),
        urgency="Costs time at a fixed rate, not quality.",
    ),
    Row(
        cause=Cause.CONTENTION,
        summary="Something else uses the same machines or network now and then.",
        needs=frozenset({Sign.SLOWER}),
        weights={
            Sign.SLOWER: 1,
            Sign.SLOWER_UNEVENLY: 3,
            Sign.DATA_STEADY: 1,
            Sign.LOSS_STEADY: 1,
            Sign.DATA_SLOWER: -5,
            Sign.SLOWER_EVENLY: -2,
            Sign.DATA_UNKNOWN: -2,
        },
        excluded_by=Sign.PACE_STEADY,
        experiment=_experiment(
            "List the processes and jobs on the nodes of the run while steps are slow.",
            "The same list from a time at normal speed.",
            "A load is there in the first and not in the control.",
        ),
        predictions=((Role.STEP_TIME, Relation.BACK_IN_BAND, 200, 0.6), (Role.LOSS, Relation.STAYS_IN_BAND, 100, 0.95)),
        urgency="Costs time, not quality; may pass by itself.",
    ),
    Row(
        cause=Cause.BENIGN_PAUSE,
        summary="A pause as evaluation and checkpoints make it.",
        needs=frozenset({Sign.PAUSED, Sign.GAPS_BEFORE}),
        weights={Sign.PAUSED: 3, Sign.GAPS_BEFORE: 4, Sign.LOSS_STEADY: 1, Sign.DATA_PAUSED: -3},
        experiment=_experiment(
            "Compare the time of the pause with the evaluations and checkpoints in the log.",
            "Their times earlier in the run.",
            "The pause falls on one of them.",
        ),
        predictions=((Role.STEP_TIME, Relation.STAYS_IN_BAND, 30, 0.9),),
        urgency="None, if an evaluation or checkpoint was due.",
    ),
    Row(
        cause=Cause.HANG,
        summary="The run stopped making steps and does not say why.",
        needs=frozenset({Sign.SILENT}),
        weights={Sign.SILENT: 4, Sign.GAPS_BEFORE: -1},
        experiment=_experiment(
            "Take the stacks of all ranks (py-spy dump) before anything is restarted.",
            "The same of a healthy run.",
            "One rank stands elsewhere than the others.",
        ),
        urgency="The machines do no work until someone acts.",
    ),
    Row(
        cause=Cause.MONITOR_FAULT,
        summary="The source cannot be read; nothing is known about the run itself.",
        needs=frozenset({Sign.SOURCE_GONE}),
        weights={Sign.SOURCE_GONE: 4},
        experiment=_experiment(
            "Read the source by hand from the host of the monitor.",
            "The same read from the host of the run.",
            "The first fails and the control does not.",
        ),
        urgency="The run is unwatched meanwhile.",
    ),
)
