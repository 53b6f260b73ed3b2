"""Random regular expressions, and texts that they fit."""

from __future__ import annotations

from hypothesis import strategies as st

CHARS = "abs \u212akK.-é"
SPECIAL = {
    ".": "a -é\n",
    "\\d": "017",
    "\\w": "aZ_9",
    "[a-c]": "abc",
    "[^x]": "a -",
    "\\s": " \n",
    "[]a]": "]a",
    "[[:alpha:]-]": "aB-",
}
KINDS = ["char", "char", "char", "word", "special", "group", "either", "anchor"]
REPEATS = [*[("", 1)] * 6, ("*", 0), ("*", 2), ("+", 1), ("+?", 2), ("?", 0), ("{0,2}", 0), ("{2}", 2), ("{1,}", 3)]


@st.composite
def sequences(draw, depth=2):
    """An expression, and a text that it fits (unless it has anchors in its midst)."""
    pattern, text = "", ""
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(KINDS if depth else ["char", "word"]))
        if kind == "char":
            char = draw(st.sampled_from(CHARS))
            one, fits = ("\\" + char if char in ".-" else char), char
        elif kind == "word":
            one = fits = draw(st.sampled_from(["error", "kiss", " db ", "17", "-", "a_b"]))
            one = f"(?:{one})"
        elif kind == "special":
            one = draw(st.sampled_from(sorted(SPECIAL)))
            fits = draw(st.sampled_from(SPECIAL[one]))
        elif kind == "anchor":
            one, fits = draw(
                st.sampled_from([("\\b", ""), ("^", ""), ("$", ""), ("(?i)", ""), ("\\x41", "A"), ("\\t", "\t")])
            )
            pattern, text = pattern + one, text + fits
            continue
        elif kind == "group":
            one, fits = draw(sequences(depth - 1))
            one = draw(st.sampled_from(["(", "(?:", "(?i:", "(?P<n>"])) + one + ")"
        else:
            branches = draw(st.lists(sequences(depth - 1), min_size=2, max_size=3))
            one, fits = "(" + "|".join(branch for branch, _ in branches) + ")", draw(st.sampled_from(branches))[1]
        repeat, times = draw(st.sampled_from(REPEATS))
        pattern, text = pattern + one + repeat, text + fits * times
    return pattern, text


@st.composite
def expressions(draw):
    """The same, with more text around it and in another case."""
    pattern, text = draw(sequences())
    before, after = draw(
        st.tuples(st.sampled_from(["", "", " ", "x", "é"]), st.sampled_from(["", "", "-", "k", "\u0301"]))
    )
    text = draw(st.sampled_from([text, text.upper(), text.replace("s", "\u017f")]))
    return draw(st.sampled_from(["", "", "(?i)", "^"])) + pattern, before + text + after
