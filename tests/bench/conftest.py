"""Benchmarks whose figures no test looks at: the warm-up and the measurement of the machine's peak are shorter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from numclip.bench import contest, peaks


@pytest.fixture(scope="module", autouse=True)
def short_measurements(request: pytest.FixtureRequest) -> Iterator[None]:
    """Warm up for half a second at most, except where the warm-up itself is tested, with a clock that the test sets; measure each
    peak for 0.2 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peaks, "PEAK_SECONDS", 0.2)
        if request.path.name != "test_bench_contest.py":
            patch.setattr(contest, "WINDOW_S", 0.1)
            patch.setattr(contest, "WARM_UP_LIMIT_S", 0.5)
        yield
