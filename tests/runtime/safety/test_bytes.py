"""Whatever chunks a policy gives, the bytes on the bus are within the limits."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .helpers_rig import HOME, TICK, Rig

EXAMPLES = int(os.environ.get("SMOLPILOT_BYTES_EXAMPLES", "20"))

numbers = st.one_of(
    st.floats(-120, 120), st.sampled_from([np.nan, np.inf, -np.inf, 1e9, -1e9, 1e300, 0.0, 110.0, -110.0])
)
actions = st.one_of(
    st.none(),
    st.lists(st.floats(-120, 120), min_size=6, max_size=6),
    st.lists(numbers, min_size=0, max_size=8),
    st.sampled_from(["go", [[0.0] * 6], [None] * 6, [10**400] * 6]),
)
chunks = st.lists(
    st.tuples(actions, st.integers(1, 12), st.floats(-40, 40), st.sampled_from([0.0, 0.1, 5.0, -5.0, np.nan])),
    min_size=1,
    max_size=6,
)


@settings(
    deadline=None,
    max_examples=int(os.environ.get("SMOLPILOT_BYTES_EXAMPLES", "20")),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(chunks, st.booleans())
def test_bytes_on_the_bus_stay_within_the_limits(chunks: list[tuple[Any, int, float, float]], rearm: bool) -> None:
    with Rig() as rig:
        for action, length, drift, age in chunks:
            for step in range(length):
                asked = action
                if isinstance(action, list) and len(action) == 6 and all(isinstance(one, float) for one in action):
                    asked = np.array(action) + drift * step
                rig.tick(asked, asked_at=rig.now - age)
            if rearm and rig.robot.governor.stop is not None:
                rig.run(None, 12)
                rig.robot.rearm()
        rig.run(HOME, 5)
        rig.check_bytes()
        assert len(rig.sent) * TICK <= rig.now
