"""The picture on a page: what it shows, that it never fails, and that it is the same each time."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detectors.types import Kind, Role, Severity
from monitor.chart import PANELS, SCALE, alt_text, draw, pick
from monitor.incident import Incident, Life, Reason
from monitor.scale import Axis, short, thin, ticks, value_axis
from monitor.window import Series, Window

INCIDENT = Incident(
    id="7c1f09aa", run="llama-7b/seed3", attempt=1, episode=1, revision=1, kind=Kind.LOSS_SPIKE, metric="loss",
    role=Role.LOSS, metrics=("loss",), severity=Severity.PAGE, withheld=Severity.PAGE, state=Life.OPEN,
    reason=Reason.OPENED, opened_t=1.7e9, updated_t=1.7e9, resolved_t=math.nan, first_row=4118, first_step=4118,
    detected_row=4118, detected_step=4118, paged_row=4121, paged_step=4121, last_row=4150, last_step=4150,
    observed=9.7, expected=2.3, score=41.0, unit="sigma", direction="up", late=False, findings=(), open=("loss",),
)  # fmt: skip

FOUND, EVENT, DATA = (213, 94, 0), (251, 233, 198), (0, 114, 178)


def series(metric: str, role: Role, values: npt.ArrayLike, first_row: int = 4000) -> Series:
    v = np.asarray(values, dtype=np.float64)
    row = np.arange(first_row, first_row + len(v))
    return Series(
        metric=metric, role=role, primary=True, row=row, step=row, t=1.7e9 + row, values=v, attempt=np.ones_like(row)
    )  # fmt: skip


def window(*parts: Series) -> Window:
    rows = np.concatenate([s.row for s in parts]) if parts else np.array([0])
    return Window(
        run="llama-7b/seed3", first_row=int(rows.min(initial=0)), last_row=int(rows.max(initial=0)), series=parts
    )


def spike() -> npt.NDArray[np.float64]:
    values = 2.3 + 0.02 * np.sin(np.arange(160))
    values[118:] += 7.0
    return values


FOUR = window(
    series("lr", Role.LEARNING_RATE, np.full(160, 3e-4)),
    series("data_time", Role.DATA_TIME, np.full(160, 0.05)),
    series("step_time", Role.STEP_TIME, np.full(160, 1.2)),
    series("grad_norm", Role.GRAD_NORM, np.exp(np.sin(np.arange(160)))),
    series("loss", Role.LOSS, spike()),
)


def picture(png: bytes | None) -> Image.Image:
    assert png is not None
    return Image.open(io.BytesIO(png)).convert("RGB")


def colours(image: Image.Image) -> set[tuple[int, int, int]]:
    return set(image.get_flattened_data())


def test_the_metric_that_opened_the_incident_comes_first_and_four_are_enough() -> None:
    assert [s.metric for s in pick(FOUR, INCIDENT)] == ["loss", "grad_norm", "lr", "step_time"]
    opened_by_data = replace(INCIDENT, metric="data_time")
    assert [s.metric for s in pick(FOUR, opened_by_data)] == ["data_time", "step_time", "loss", "grad_norm"]
    assert len(pick(FOUR, INCIDENT)) == PANELS


def test_the_picture_has_the_size_asked_for_at_double_resolution() -> None:
    assert picture(draw(FOUR, INCIDENT)).size == (800 * SCALE, 450 * SCALE)
    assert picture(draw(FOUR, INCIDENT, size=(600, 300))).size == (600 * SCALE, 300 * SCALE)


def test_the_event_and_its_detection_are_marked_where_they_are() -> None:
    image = picture(draw(window(series("loss", Role.LOSS, spike())), INCIDENT))
    line = [image.getpixel((x, 800)) for x in range(image.width)]
    shaded = [x for x, colour in enumerate(line) if colour == EVENT]
    found = [x for x, colour in enumerate(line) if colour == FOUND]
    left, right = 64 * SCALE, image.width - 14 * SCALE
    at = {row: left + (row - 4000 + 1.59) / (159 * 1.02) * (right - left) for row in (4118, 4121, 4150)}
    assert min(shaded) == pytest.approx(at[4118], abs=6)
    assert max(shaded) == pytest.approx(at[4150], abs=6)
    assert found
    assert np.mean(found) == pytest.approx(at[4121], abs=3)


def test_an_incident_that_was_never_detected_has_no_line() -> None:
    quiet = replace(INCIDENT, paged_row=-1, detected_row=-1)
    assert FOUND not in colours(picture(draw(window(series("loss", Role.LOSS, spike())), quiet)))


def test_values_that_are_not_finite_are_marked() -> None:
    values = np.full(160, 2.3)
    quiet = replace(INCIDENT, paged_row=-1, detected_row=-1)
    assert FOUND not in colours(picture(draw(window(series("loss", Role.LOSS, values)), quiet)))
    values[118:] = np.nan
    assert FOUND in colours(picture(draw(window(series("loss", Role.LOSS, values)), quiet)))


def test_a_single_point_can_be_seen() -> None:
    assert DATA in colours(picture(draw(window(series("loss", Role.LOSS, [2.3], first_row=4118)), INCIDENT)))


def test_a_window_without_values_has_no_picture() -> None:
    assert draw(window(), INCIDENT) is None
    assert draw(window(series("loss", Role.LOSS, [])), INCIDENT) is None


def test_the_same_window_gives_the_same_bytes() -> None:
    assert draw(FOUR, INCIDENT) == draw(FOUR, INCIDENT)


def test_the_words_for_the_picture_say_what_it_shows() -> None:
    values = spike()
    values[150:] = np.nan
    said = alt_text(window(series("loss", Role.LOSS, values)), INCIDENT)
    assert (
        said == "Chart of llama-7b/seed3 around step 4118. loss: median 2.3 before, 9.28 to 9.32 since, 10 not finite."
    )


def test_names_of_strangers_are_cut_and_kept_to_letters_that_the_font_has() -> None:
    odd = replace(INCIDENT, metric="訓練\n\x1b[31m" + "x" * 500, run="\u202e" + "r" * 500)
    said = alt_text(window(series(str(odd.metric), Role.OTHER, [1.0, 2.0])), odd)
    assert said.isascii()
    assert said.isprintable()
    assert len(said) < 200
    assert draw(window(series(str(odd.metric), Role.OTHER, [1.0, 2.0])), odd) is not None


VALUE = st.floats(width=64) | st.sampled_from([0.0, 1e-308, -1e308, 1e308, math.inf, math.nan, 5e-324])


@settings(deadline=None, max_examples=25)
@given(
    values=st.lists(VALUE, min_size=1, max_size=30),
    expected=VALUE,
    first_row=st.integers(-10, 5000),
    last_row=st.integers(-10, 5000),
    role=st.sampled_from([Role.LOSS, Role.LEARNING_RATE]),
)
def test_any_values_can_be_drawn(
    values: list[float], expected: float, first_row: int, last_row: int, role: Role
) -> None:
    incident = replace(INCIDENT, expected=expected, first_row=first_row, last_row=last_row, paged_row=first_row)
    shown = window(series("loss", role, values))
    assert picture(draw(shown, incident, size=(300, 150))).size == (600, 300)
    assert alt_text(shown, incident)


@settings(deadline=None, max_examples=200)
@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12), st.integers(2, 6), st.booleans())
def test_ticks_are_on_the_axis_ascending_and_few(lo: float, width: float, most: int, log: bool) -> None:
    axis = value_axis(np.array([lo, lo + width]), 0.0, 100.0, log=log)
    found = ticks(axis, most)
    slack = 1e-9 * (axis.hi - axis.lo)
    assert all(axis.lo - slack <= tick <= axis.hi + slack for tick in found)
    assert len({short(tick) for tick in found}) == len(found)
    assert found == sorted(found)
    assert len(found) <= 2 * most + 1


def test_a_spiking_loss_gets_a_log_axis_and_a_flat_one_does_not() -> None:
    assert value_axis(np.array([2.0, 60.0]), 0, 1, log=True).log
    assert not value_axis(np.array([2.0, 2.4]), 0, 1, log=True).log
    assert not value_axis(np.array([0.0, 60.0]), 0, 1, log=True).log


@pytest.mark.parametrize(
    ("value", "said"),
    [(2.3, "2.3"), (0.0, "0"), (3e-4, "3e-4"), (1e5, "1e5"), (52_260.0, "5.226e4"), (-0.5, "-0.5"), (math.nan, "NaN"),
     (-math.inf, "-Inf"), (9999.0, "9999")],
)  # fmt: skip
def test_numbers_are_short(value: float, said: str) -> None:
    assert short(value) == said


def test_thinning_keeps_the_extremes_of_every_pixel() -> None:
    x = np.linspace(0, 99, 50_000)
    y = np.sin(np.arange(50_000))
    y[31_415] = 50.0
    points = thin(x, y)
    assert len(points) <= 400
    assert max(value for _, value in points) == 50.0
    assert min(value for _, value in points) == y.min()


def test_a_log_axis_puts_a_decade_where_it_belongs() -> None:
    axis = Axis(lo=1.0, hi=100.0, first=0.0, last=200.0, log=True)
    assert axis.at(10.0) == pytest.approx(100.0)
    assert axis.at(0.0) == 0.0
    assert axis.at(1e9) == 200.0
