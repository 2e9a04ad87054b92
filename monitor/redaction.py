"""Takes what must not leave the host out of free text: keys, tokens, addresses, paths, anything that looks random.

Patterns are the second line of defence; the first is that evidence sends numbers and aliases, and log text only where
the operator opted in. What is taken out leaves a mark that says what it was. Every pattern is linear in the length of
the text, and the text is cut to a bound before any of them runs.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter

MAX_CHARS = 500

_PEM = re.compile(r"-----BEGIN [A-Z ]{1,40}-----.*", re.DOTALL)
_AUTHORIZATION = re.compile(r"(?i)\b(authorization|cookie|set-cookie|bearer|basic)\b\s*[:=]?\s+?(?!\[)\S.*")
# The name of a secret, then anything: to the end of the word, quoted or not.
_ASSIGNED = re.compile(
    r"(?i)([\w.-]{0,40}(?:api[_-]?key|access[_-]?key|apikey|passw(?:or)?d|passphrase|pwd|secret|token(?!s)|credential|auth)"
    r"[\w.-]{0,40}[\"']?\s{0,4}[:=]\s{0,4})(\"[^\"]*\"|'[^']*'|[^\s,;}\])]+)"
)
_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,20}://\S+")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_JWT = re.compile(r"\beyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*)?")
_PREFIXED = re.compile(
    r"\b(?:sk|pk|rk|ghp|gho|ghs|ghu|github_pat|glpat|hf|xox[a-z]|xapp|npm|pypi|dckr_pat|wandb_v1|r8|AKIA|ASIA|AIza)"
    r"[-_]?[A-Za-z0-9_-]{10,}"
)
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])(?::\d{1,5})?")
_IPV6 = re.compile(r"(?i)(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}(?![\w:])|(?<![\w:])[0-9a-f]{0,4}::[0-9a-f:]+")
_WINDOWS_PATH = re.compile(r"(?i)\b[a-z]:\\[^\s\"']+|\\\\[^\s\"']+")
_PATH = re.compile(
    r"(?<![\w/])(?:~|\.{1,2})?/[^\s\"'<>|:,;()\[\]]*[^\s\"'<>|:,;()\[\].]|(?:[\w.-]{1,80}/){2,20}[\w.-]{1,80}"
)
_HOST = re.compile(r"(?i)\b(?:[a-z0-9-]{1,63}\.){1,8}(?:com|org|net|io|ai|dev|cloud|local|internal|lan|corp|edu|gov)\b")
_WORD = re.compile(r"[A-Za-z0-9+=_-]{16,}")

_PATTERNS = (
    (_PEM, "[key]"),
    (_URL, "[url]"),
    (_AUTHORIZATION, r"\1 [secret]"),
    (_JWT, "[token]"),
    (_ASSIGNED, r"\1[secret]"),
    (_PREFIXED, "[token]"),
    (_EMAIL, "[email]"),
    (_IPV4, "[ip]"),
    (_IPV6, "[ip]"),
    (_WINDOWS_PATH, "[path]"),
    (_PATH, "[path]"),
    (_HOST, "[host]"),
)


def redact(text: str) -> str:
    """One line of at most `MAX_CHARS` characters without control characters, secrets, addresses and paths."""
    cut = max(0, len(text) - MAX_CHARS)
    text = "".join(" " if c.isspace() else c for c in text[:MAX_CHARS] if c.isspace() or _visible(c))
    for pattern, mark in _PATTERNS:
        text = pattern.sub(mark, text)
    text = _WORD.sub(lambda word: "[random]" if _random(word.group()) else word.group(), text)
    return text + (f" (cut: {cut} characters)" if cut else "")


def _visible(char: str) -> bool:
    # Control, format (bidi, zero width), surrogate, private use.
    return unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co"}


def _random(word: str) -> bool:
    """Whether a long word looks drawn rather than written: hexadecimal, or mixed kinds at high entropy."""
    digits = sum(c.isdigit() for c in word)
    if digits and all(c in "0123456789abcdefABCDEF-" for c in word):
        return digits < len(word) or len(word) > 20  # a long plain number is not a secret
    counts = Counter(word)
    bits = -sum(n / len(word) * math.log2(n / len(word)) for n in counts.values())
    return bits >= (3.3 if digits else 4.3)  # without a digit it is likely a long name
