r"""The pairs in a text that is logfmt, or has `name=value` in it: `level=error took=250 msg="a \"b\""`.

A pair begins at the beginning of the text or after white space, `,`, `;`, `(`, `[` or `{`. Its name begins with a letter, `_`
or `@`, and goes on with letters, digits and `_ . - / @`, all ASCII. Its value is in quotes, with JSON's escapes in it (what is
none stays as it is, half a pair of surrogates becomes U+FFFD); or it goes to the next white space, less `, ; ) ] }` at its
end. An empty value is an empty text. All values are texts. A name that occurs more than once has all of its values.

The escapes are JSON's for signatures: they hold the words of a value with those resolved, and of no others.

Time is linear in the text.
"""

from __future__ import annotations

import re

_PAIR = re.compile(
    r"""(?:\A|(?<=[\s,;(\[{]))([A-Za-z_@][A-Za-z0-9_.@/-]*+)=(?:"((?:[^"\\]|\\.)*+)"|(\S*+))""",
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})(?:(?<=u[dD][89abAB]..)\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|(["\\/bfnrt]))')
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def pairs(value: bytes) -> dict[str, object]:
    """The pairs in a text: each name's value, or the list of its values."""
    found: dict[str, object] = {}
    for name, quoted, bare in _PAIR.findall(value.decode("utf-8", "replace")):
        text = bare.rstrip(",;)]}")
        if quoted:
            text = _ESCAPE.sub(_resolved, quoted)
        if name in found:
            known = found[name]
            if type(known) is list:
                known.append(text)
            else:
                found[name] = [known, text]
        else:
            found[name] = text
    return found


def _resolved(match: re.Match[str]) -> str:
    unit, low, short = match.groups()
    if unit is None:
        return _SHORT.get(short, short)
    code = int(unit, 16)
    if low is not None:
        code = 0x10000 + (code - 0xD800 << 10) + int(low, 16) - 0xDC00
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)
