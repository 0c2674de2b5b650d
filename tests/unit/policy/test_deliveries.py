"""When a message that was not taken is sent again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.deliveries import DELAYS, next_try

HOUR = 3_600.0


def walked(chances):
    """The moments of all tries, the first at 0."""
    at, moments = 0.0, [0.0]
    for tries, chance in enumerate(chances, 1):
        again = next_try(tries, at, chance)
        if again is None:
            return moments
        at = again
        moments.append(at)
    return moments


@given(st.lists(st.floats(0, 1), min_size=20, max_size=20))
def test_a_message_is_tried_soon_then_ever_less_often_for_a_day_and_then_no_more(chances):
    moments = walked(chances)

    assert len(moments) == len(DELAYS) + 1
    assert 5 <= moments[1] <= 6
    assert 24 * HOUR <= moments[-1] <= 36 * HOUR
    assert any(HOUR < at < 3.2 * HOUR for at in moments), "who was away for an hour hears soon after"


def test_what_failed_together_is_not_sent_again_together():
    assert next_try(3, 0.0, 0.0) != next_try(3, 0.0, 1.0)
