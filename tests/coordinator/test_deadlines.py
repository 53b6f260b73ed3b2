"""Deadlines against the plain dictionary that they stand for."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chronik.coordinator.deadlines import Deadlines

_steps = st.lists(
    st.tuples(st.sampled_from(["set", "cancel", "pop"]), st.sampled_from("abcd"), st.integers(0, 20)), max_size=60
)


class DeadlinesTests(SynchronousTestCase):
    @given(_steps)
    def test_like_a_dictionary(self, steps: list[tuple[str, str, int]]) -> None:
        deadlines: Deadlines[str] = Deadlines()
        model: dict[str, int] = {}
        for what, key, at in steps:
            if what == "set":
                deadlines.set(key, at)
                model[key] = at
            elif what == "cancel":
                deadlines.cancel(key)
                model.pop(key, None)
            else:
                popped = deadlines.pop(at)
                if popped is None:
                    self.assertTrue(all(due > at for due in model.values()))
                else:
                    due = model.pop(popped)
                    self.assertLessEqual(due, min([at, *model.values()]))
            self.assertEqual(deadlines.next(), min(model.values(), default=None))

    def test_moving_later_does_not_grow_the_heap(self) -> None:
        deadlines: Deadlines[str] = Deadlines()
        for at in range(10_000):
            deadlines.set("a", at)
        self.assertEqual(len(deadlines._heap), 1)
        self.assertEqual(deadlines.next(), 9_999)
