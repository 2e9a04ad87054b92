"""The picture on a page: the metrics of an incident one above the other, the event marked in all of them.

Read on a phone in the night: few panels, large letters, one colour for data and one for the event (Okabe-Ito, told
apart without colour vision too). Rows run along the horizontal axis, so that restarts cannot fold it; its labels are
steps. Pure: the same window and incident give the same bytes with the same Pillow. Bounds: at most PANELS panels, and
of each series what one pixel column can show.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detectors.types import Role
from monitor.roles import role_of
from monitor.scale import Axis, short, thin, ticks, value_axis

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from monitor.incident import Incident
    from monitor.window import Series, Window

PANELS = 4
SCALE = 2  # drawn this much larger than asked for, for screens with fine pixels
NAME = 36
_ORDER = (Role.LOSS, Role.GRAD_NORM, Role.LEARNING_RATE, Role.STEP_TIME, Role.DATA_TIME, Role.THROUGHPUT)
_PACE_ORDER = (Role.STEP_TIME, Role.DATA_TIME, Role.THROUGHPUT, Role.LOSS, Role.GRAD_NORM, Role.LEARNING_RATE)
_PACE = frozenset({Role.STEP_TIME, Role.DATA_TIME, Role.THROUGHPUT})
_LOG = frozenset({Role.LOSS, Role.EVAL_LOSS, Role.GRAD_NORM, Role.STEP_TIME, Role.DATA_TIME, Role.LOSS_SCALE})
_INK, _FAINT, _FRAME, _PAPER = "#1a1a1a", "#595959", "#c8c8c8", "#ffffff"
_DATA, _EVENT, _FOUND, _BROKEN = "#0072b2", "#fbe9c6", "#d55e00", "#d55e00"


def pick(window: Window, incident: Incident) -> tuple[Series, ...]:
    """The series worth a panel: the one that opened the incident, then those that usually tell why; at most PANELS."""
    chosen = [s for s in window.series if s.metric == incident.metric]
    order = _PACE_ORDER if role_of(incident.metric or "").role in _PACE else _ORDER
    chosen += [s for role in order if (s := window.of(role)) is not None and s.metric != incident.metric]
    return tuple(s for s in chosen if len(s.row))[:PANELS]


def draw(window: Window, incident: Incident, size: tuple[int, int] = (800, 450)) -> bytes | None:
    """A PNG of SCALE times `size` pixels; None if the window has no value to draw."""
    from PIL import Image, ImageDraw  # noqa: PLC0415  (loaded on first use)

    chosen = pick(window, incident)
    if not chosen:
        return None
    image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), _PAPER)
    _Picture(ImageDraw.Draw(image), window, incident, chosen).paint(size[0] * SCALE, size[1] * SCALE)
    out = io.BytesIO()
    image.save(out, format="PNG", compress_level=6)
    return out.getvalue()


def alt_text(window: Window, incident: Incident) -> str:
    """The picture in words, for those who cannot see it."""
    told = []
    for series in pick(window, incident):
        before = series.values[(series.row < incident.first_row) & np.isfinite(series.values)]
        during = series.values[series.row >= incident.first_row]
        finite = during[np.isfinite(during)]
        parts = [f"median {short(float(np.quantile(before, 0.5, method='lower')))} before"] if len(before) else []
        if len(finite):
            parts.append(f"{short(float(finite.min()))} to {short(float(finite.max()))} since")
        if len(finite) < len(during):
            parts.append(f"{len(during) - len(finite)} not finite")
        told.append(f"{_name(series.metric)}: {', '.join(parts) or 'no value'}")
    where = f"step {incident.first_step}" if incident.first_step >= 0 else f"row {incident.first_row}"
    return f"Chart of {_name(incident.run)} around {where}. " + "; ".join(told) + "."


def _name(text: str) -> str:
    """A stranger's name in letters that the built-in font has, cut."""
    text = "".join(c if " " <= c <= "~" else "?" for c in text[: NAME + 1])
    return text if len(text) <= NAME else text[: NAME - 3] + "..."


@dataclass(frozen=True, slots=True)
class _Picture:
    """One drawing in progress. Lengths in real pixels, given as `_px(n)` of asked-for ones."""

    pen: ImageDraw
    window: Window
    incident: Incident
    chosen: tuple[Series, ...]

    def paint(self, width: int, height: int) -> None:
        left, right, head, foot, gap = _px(64), width - _px(14), _px(32), height - _px(36), _px(8)
        begin, end = min(int(s.row[0]) for s in self.chosen), self.window.last_row
        air = max(end - begin, 1) * 0.01  # so that the last point does not sit on the frame
        rows = Axis(lo=begin - air, hi=end + air, first=left, last=right)
        shares = [1.5] + [1.0] * (len(self.chosen) - 1)  # the metric that opened the incident has the most room
        unit = (foot - head - gap * (len(self.chosen) - 1)) / sum(shares)
        top = float(head)
        for series, share in zip(self.chosen, shares, strict=True):
            self._panel(series, rows, top, top + unit * share)
            top += unit * share + gap
        self._legend(rows, head)
        self._row_labels(rows, foot)

    def _panel(self, series: Series, rows: Axis, top: float, bottom: float) -> None:
        expected = self._expected(series)
        shown = np.append(series.values, expected)
        axis = value_axis(shown, bottom - _px(4), top + _px(26), log=series.role in _LOG)
        begin, end = rows.at(self.incident.first_row), rows.at(max(self.incident.last_row, self.incident.first_row))
        self.pen.rectangle((max(begin - _px(2), rows.first), top, min(end + _px(2), rows.last), bottom), fill=_EVENT)
        for tick in ticks(axis, 3 if bottom - top > _px(110) else 2):
            y = axis.at(tick)
            self.pen.line((rows.first, y, rows.last, y), fill=_FRAME, width=_px(1) // 2)
            self._write((rows.first - _px(6), y), short(tick), 15, anchor="rm", fill=_FAINT)
        for boundary in series.row[1:][np.diff(series.attempt) != 0].tolist():
            x = rows.at(boundary)
            self._dashed((x, top), (x, bottom), _FAINT)
            self._write((x + _px(4), bottom - _px(4)), "restart", 14, anchor="ls", fill=_FAINT)
        if (found := self._found()) is not None:
            self.pen.line((rows.at(found), top, rows.at(found), bottom), fill=_FOUND, width=_px(2))
        if math.isfinite(expected):
            self._dashed((rows.first, axis.at(expected)), (rows.last, axis.at(expected)), _INK)
        self._curve(series, rows, axis, top + _px(34))
        self.pen.rectangle((rows.first, top, rows.last, bottom), outline=_FAINT, width=_px(1))
        self._title(series, expected, axis, (rows.first + _px(8), top + _px(3)))

    def _title(self, series: Series, expected: float, axis: Axis, at: tuple[float, float]) -> None:
        unit = role_of(series.metric).unit
        title = _name(series.metric) + (f" [{unit}]" if unit else "") + (", log scale" if axis.log else "")
        if math.isfinite(expected):
            title += f"   - - expected {short(expected)}"
        broken = int(np.count_nonzero(~np.isfinite(series.values)))
        if broken:
            title += f"   x {broken} not finite"
        box = self.pen.textbbox(at, title, font=_font(17))
        self.pen.rectangle((box[0] - _px(3), box[1] - _px(1), box[2] + _px(3), box[3] + _px(1)), fill=_PAPER)
        self._write(at, title, 17, anchor="la")

    def _curve(self, series: Series, rows: Axis, axis: Axis, broken_at: float) -> None:
        finite = np.isfinite(series.values)
        x, y = rows.every(series.row.astype(np.float64)), axis.every(np.where(finite, series.values, axis.lo))
        breaks = np.flatnonzero(~finite | (np.diff(series.attempt, prepend=series.attempt[:1]) != 0))
        for part in np.split(np.arange(len(x)), breaks):
            kept = part[finite[part]]
            if len(kept) > 1:
                self.pen.line(thin(x[kept], y[kept]), fill=_DATA, width=_px(2), joint="curve")
            elif len(kept):
                self._dot(float(x[kept[0]]), float(y[kept[0]]))
        if np.count_nonzero(finite) <= 60:
            for i in np.flatnonzero(finite):
                self._dot(float(x[i]), float(y[i]))
        drawn = -math.inf
        for at in x[~finite].tolist():
            if at - drawn >= _px(14):
                self._cross(at, broken_at)
                drawn = at

    def _legend(self, rows: Axis, head: int) -> None:
        """The run at the left, what the colours of the event mean at the right."""
        y = head - _px(9)
        self._write((rows.first, y), _name(self.incident.run), 17, anchor="ls")
        x = rows.last
        if self._found() is not None:
            x -= self._write((x, y), "detected", 17, anchor="rs", fill=_FOUND) + _px(6)
            self.pen.line((x, y - _px(14), x, y + _px(3)), fill=_FOUND, width=_px(2))
            x -= _px(14)
        step = self.incident.first_step
        text = f"since step {step:,}" if step >= 0 else f"since row {self.incident.first_row:,}"
        x -= self._write((x, y), text, 17, anchor="rs") + _px(6)
        self.pen.rectangle((x - _px(16), y - _px(13), x, y + _px(2)), fill=_EVENT, outline=_FRAME)

    def _row_labels(self, rows: Axis, foot: int) -> None:
        """Steps where the opening series has them in ascending order, else rows."""
        series = self.chosen[0]
        values, at, label = series.row.astype(np.float64), series.row.astype(np.float64), "row"
        if len(series.step) > 1 and series.step[0] >= 0 and bool(np.all(np.diff(series.step) > 0)):
            values, label = series.step.astype(np.float64), "step"
        y = foot + _px(20)
        edge = rows.last - self._write((rows.last, y), label, 16, anchor="rm", fill=_FAINT) - _px(8)
        span = Axis(lo=float(values[0]), hi=max(float(values[-1]), float(values[0]) + 1), first=0, last=1)
        for tick in (t for t in ticks(span, 5) if t == int(t)):
            x, text = rows.at(float(np.interp(tick, values, at))), f"{int(tick):,}"
            half = self.pen.textlength(text, font=_font(16)) / 2
            self.pen.line((x, foot, x, foot + _px(5)), fill=_FAINT, width=_px(1))
            if x + half < edge:
                self._write((max(x, half + _px(2)), y), text, 16, anchor="mm")

    # --- where things are

    def _found(self) -> int | None:
        row = self.incident.paged_row if self.incident.paged_row >= 0 else self.incident.detected_row
        return row if row >= 0 else None

    def _expected(self, series: Series) -> float:
        if series.metric == self.incident.metric:
            return self.incident.expected
        return next((f.expected for f in self.incident.findings if f.metric == series.metric), math.nan)

    # --- strokes

    def _write(self, at: tuple[float, float], text: str, points: int, *, anchor: str, fill: str = _INK) -> float:
        """Write, and say how wide it was."""
        self.pen.text(at, text, font=_font(points), anchor=anchor, fill=fill)
        return self.pen.textlength(text, font=_font(points))

    def _dot(self, x: float, y: float) -> None:
        r = _px(3)
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=_DATA)

    def _cross(self, x: float, y: float) -> None:
        r = _px(5)
        self.pen.line((x - r, y - r, x + r, y + r), fill=_BROKEN, width=_px(2))
        self.pen.line((x - r, y + r, x + r, y - r), fill=_BROKEN, width=_px(2))

    def _dashed(self, begin: tuple[float, float], end: tuple[float, float], fill: str) -> None:
        length = math.dist(begin, end)
        for k in range(0, int(length), _px(12)):
            a, b = k / length, min(k + _px(7), length) / length
            ends = [(begin[0] + (end[0] - begin[0]) * s, begin[1] + (end[1] - begin[1]) * s) for s in (a, b)]
            self.pen.line(ends, fill=fill, width=_px(1))


def _px(n: int) -> int:
    return n * SCALE


def _font(points: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont  # noqa: PLC0415  (loaded on first use)

    return ImageFont.load_default(points * SCALE)
