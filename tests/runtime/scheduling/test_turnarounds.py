"""What a turnaround is reckoned to take."""

from __future__ import annotations

from smolpilot.runtime.scheduling import Turnarounds


def test_a_high_quantile_of_the_last_twenty() -> None:
    made = Turnarounds(cold=0)
    assert made.seconds is None
    for _ in range(30):
        made.add(0.5)
    for i in range(20):
        made.add(0.1 + 0.001 * i)
    assert len(made) == 20
    assert made.seconds == 0.1 + 0.001 * 17, "the 18th of 20; the slow ones of before are forgotten"


def test_one_pause_does_not_make_every_request_early() -> None:
    """The maximum of all time would, as elsewhere."""
    made = Turnarounds(cold=0)
    for _ in range(19):
        made.add(0.1)
    made.add(5.0)
    assert made.seconds == 0.1


def test_the_cold_start_is_left_out_also_after_a_restart() -> None:
    made = Turnarounds()
    made.add(8.0)
    assert made.seconds is None
    made.add(0.2)
    assert made.seconds == 0.2
    made.restart()
    assert made.seconds is None
    made.add(9.0)
    made.add(0.3)
    assert made.seconds == 0.3
