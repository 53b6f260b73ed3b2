"""Random queries, made by the constructors: of any field and text, or over the fields and words of `tests.search.records`."""

from __future__ import annotations

from hypothesis import strategies as st

from chronik.search import query as q

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda name: name not in ("_id", "_exists_")
)


def patterns(texts):
    """Wildcard patterns whose literal parts are of these texts."""
    parts = st.one_of(st.sampled_from(["*", "?"]), texts.map(q.literal_pattern))
    return (
        st.lists(parts, min_size=1, max_size=4)
        .map("".join)
        .filter(lambda pattern: "*" in q.wildcard("f", pattern).__struct_fields__ or _is_wild(pattern))
    )


def _is_wild(pattern):
    made = q.wildcard("f", pattern)
    return isinstance(made, q.Exists) or any(part in ("*", "?") for part in q._PATTERN_PARTS.findall(made.pattern))


def leaves(fields, texts, regexps, bounds):
    """Queries without others in them."""
    optional = st.none() | bounds
    return st.one_of(
        st.sampled_from([q.ALL, q.NOTHING]),
        st.builds(q.Term, fields, texts, st.integers(0, 3), st.booleans()),
        st.builds(q.Term, fields, texts),
        st.builds(q.any_term, fields, st.lists(texts, max_size=3)),
        st.builds(q.wildcard, fields, patterns(texts)),
        st.builds(q.regexp, fields, regexps),
        st.builds(q.between, fields, optional, optional, st.booleans(), st.booleans()),
        st.builds(q.Exists, fields),
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=3, unique=True).map(
            lambda places: q.Ids(tuple(sorted(places)))
        ),
    )


def compounds(parts):
    """Queries made of others."""
    lists = st.lists(parts, max_size=4)
    return st.one_of(
        st.builds(q.all_of, lists),
        st.builds(q.any_of, lists),
        st.builds(q.any_of, lists, st.integers(0, 3)),
        st.builds(q.negated, parts),
        st.builds(q.boosted, parts, st.sampled_from([0.0, 0.5, 2.0, 1e-7, 1e30])),
    )


def trees(leaf, max_leaves=8):
    return st.recursive(leaf, compounds, max_leaves=max_leaves)


ANY_QUERY = trees(leaves(NAMES, TEXTS, TEXTS.filter(lambda text: not text.endswith("\\")), TEXTS))
