"""Pages as the daemon builds them: an open spike with its hypothesis, the same one resolved, and a bare notice."""

from __future__ import annotations

from dataclasses import replace

from monitor.page import Claim, HypothesisView, Note, Page, PredictionView

HYPOTHESIS = HypothesisView(
    author="built-in",
    cause="bad_batch",
    summary=(
        "One batch pushed the gradient out of its band just before the loss; learning rate and data wait did not move."
    ),
    claims=(
        Claim(
            text="grad_norm left its band before the loss did",
            verdict="supported",
            found="grad_norm at step 4117, loss at step 4118",
        ),
        Claim(
            text="the learning rate changed near step 4118",
            verdict="contradicted",
            found="3.0e-4 on all 64 rows around it",
        ),
        Claim(
            text="the batch at step 4117 holds documents of one source only",
            verdict="unverifiable",
            found="no such metric is stored",
        ),
    ),
    rivals=(
        "learning rate too high: the loss would not return to its band on its own",
        "data mixture change: a new level, not a spike",
    ),
    predictions=(
        PredictionView(text="loss is back in its band within 200 rows", probability=0.7, outcome="open"),
        PredictionView(text="grad_norm stays in its band for the next 100 rows", probability=0.6, outcome="open"),
    ),
    experiment=(
        "Replay steps 4100 to 4130 from checkpoint 4000 with batch 4117 left out. Control: the same replay with it. "
        "Cost: about 0.5 GPU-hours. It was the batch if the spike is gone without it and there with it."
    ),
    note="Claude did not answer within 60 s; its answer will be edited in.",
)

OPEN = Page(
    id="page-1",
    thread="7c1f09aa/1",
    incident="7c1f09aa",
    run="llama-7b/seed3",
    state="open",
    severity="page",
    headline="llama-7b/seed3: loss spike at step 4118, 9.70 where 2.30 was expected (41 sigma), still out of its band",
    facts=(
        ("Since", "step 4118, 2026-11-20 03:12:40 UTC"),
        ("Loss", "9.70, expected 2.30 (41 sigma above)"),
        ("Also", "grad_norm 55.1, expected 0.92 (60 times)"),
        ("Learning rate", "3.0e-4, unchanged"),
        ("Waiting costs", "about 64 GPU-hours for each hour that it runs on"),
    ),
    hypothesis=HYPOTHESIS,
    chart_alt="Chart of llama-7b/seed3 around step 4118.",
    links=(("Dashboard", "https://grafana.example.org/d/train?var-run=llama-7b"),),
)

WORSE = replace(
    OPEN,
    id="page-2",
    facts=(OPEN.facts[0], ("Loss", "11.2, expected 2.30 (47 sigma above)"), *OPEN.facts[2:]),
    notes=(Note(id="n1", text="03:14 UTC: grad_norm joined"),),
)

RESOLVED = replace(
    WORSE,
    id="page-3",
    state="resolved",
    headline="llama-7b/seed3: loss spike at step 4118 is over, back in its band since step 4161",
    hypothesis=replace(
        HYPOTHESIS,
        note="",
        predictions=(
            replace(HYPOTHESIS.predictions[0], outcome="confirmed", found="in its band from step 4161 on"),
            replace(HYPOTHESIS.predictions[1], outcome="refuted", found="1.9 at step 4170"),
        ),
    ),
    notes=(*WORSE.notes, Note(id="n2", text="03:31 UTC: confirmed: loss is back in its band within 200 rows")),
)

NOTICE = Page(
    id="page-4",
    thread="b0b0b0b0/1",
    incident="b0b0b0b0",
    run="r9",
    state="open",
    severity="notice",
    headline="r9: val_loss has not improved for 12 evaluations",
    facts=(("Since", "step 60000"),),
)

PAGES = {"open_spike": OPEN, "worse": WORSE, "resolved_spike": RESOLVED, "bare_notice": NOTICE}

NASTY = (
    "<!channel>",
    "<!here> look",
    "<!everyone>",
    "<!subteam^S123|ops>",
    "<@U012345>",
    "<#C012345|general>",
    "<https://evil.example/x|Acknowledge>",
    "https://evil.example/login",
    "mailto:evil@example.org <mailto:a@b.c|x>",
    "@channel @here @everyone",
    "&lt;!channel&gt; and &amp;lt;",
    "*bold* _italics_ ~gone~ `code` ```block```",
    ":rotating_light::tada:",
    "> quoted\n> twice",
    "line one\nline two\r\nline three",
    "tab\tand\vvertical\ffeed",
    "\x1b[31mred\x1b[0m",
    "\x1b[2J\x1b[Hcleared",
    "\x1b]0;title\x07 after",
    "\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x9b31mc1",
    "\x1bPq#0;2;0;0;0\x1b\\",
    "\x00null\x07bell\x08\x08back\x7f",
    "\u202eesrever\u202c",
    "\u2066isolated\u2069 \u200eltr\u200f",
    "zero\u200bwidth\u200cjoin\u200der\u2060\ufeff",
    "soft\u00adhyphen",
    "\u2028line separator\u2029paragraph",
    "\U000e0041\U000e0042tagged",
    "Z\u0351\u0352\u0353\u0354\u0355\u0356\u0357\u0358a\u0359\u035a\u035b\u035c\u035d\u035e\u035f\u0360lgo",
    "\ufe0f\ufe0f✓ supported\ufe0f",
    "full width \uff1c!channel\uff1e \uff20here",
    "訓練損失が急上昇しました" * 20,
    "عربي עברית",
    "🔥🧨👩‍👩‍👧‍👦",
    "\u3164\u115f\u1160\uffa0\u2800",
    "\ud800 lone surrogate \udfff",
    "\ue000 private \U000f0000 \uffff",
    "A" * 50_000,
    "long words " * 5_000,
    '"quotes" \\ back\\slash {"json": [1]}',
    "' OR 1=1; -- $(reboot) `reboot`",
    "",
    "   ",
    "%s %d {} {0} %(x)s",
)
"""Strings that someone may have put into a run name, a metric name, a log line or a model's mouth."""


def hostile(text: str) -> Page:
    """A page that says `text` wherever a stranger's text can stand."""
    return replace(
        OPEN,
        run=text,
        headline=text,
        facts=((text, text), ("Loss", text)),
        hypothesis=HypothesisView(
            author=text,
            cause=text,
            summary=text,
            claims=(Claim(text=text, verdict="contradicted", found=text), Claim(text=text, verdict=text, found=text)),
            rivals=(text,),
            predictions=(PredictionView(text=text, probability=0.5, outcome=text, found=text),),
            experiment=text,
            note=text,
        ),
        notes=(Note(id="n1", text=text),),
        chart_alt=text,
        links=((text, "https://ok.example/x"), (text, "https://ok.example/" + "x" * 100)),
    )
