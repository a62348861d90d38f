"""A hundred thousand points against river, which reads them one by one: it has no call for an array."""

import numpy as np
import pytest
from river import drift
from river._river_rust.drift import AdaptiveWindowing

from studyguide.online.stream_drift import ADWIN, DDM, PageHinkley

POINTS = 100_000


@pytest.fixture(scope="module")
def streams():
    """Error bits, and the same with noise, whose rate rises twice."""
    rng = np.random.default_rng(0)
    errors = (rng.random(POINTS) < np.repeat([0.2, 0.3, 0.5, 0.5], POINTS // 4)) * 1.0
    return {"errors": errors, "noisy": errors + rng.normal(0, 0.1, POINTS)}


def one_by_one(detector, values):
    return [place for place, x in enumerate(values) if detector.update(x)]


def by_river(detector, values):
    alarms = []
    for place, x in enumerate(values):
        detector.update(x)
        if detector.drift_detected:
            alarms.append(place)
    return alarms


@pytest.mark.parametrize("library", ["studyguide", "river"])
@pytest.mark.parametrize("manner", ["update_many", "update"])
@pytest.mark.parametrize(
    ("name", "ours", "theirs", "stream"),
    [
        ("Page-Hinkley", PageHinkley, drift.PageHinkley, "noisy"),
        ("DDM", DDM, drift.binary.DDM, "errors"),
        ("ADWIN", ADWIN, None, "noisy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_points_read(benchmark, streams, name, ours, theirs, stream, manner, library):
    array = streams[stream]
    values = array.tolist()

    def us():
        return ours().update_many(array).tolist() if manner == "update_many" else one_by_one(ours(), values)

    def them():
        if theirs is None:  # the window without the class around it: it goes on after an alarm, as ours does
            return one_by_one(AdaptiveWindowing(0.002, 32, 5, 5, 10), values)
        return by_river(theirs(), values)

    assert us() == them() != []  # the same task
    benchmark.group = f"{name}, {manner}"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(us if library == "studyguide" else them, rounds=15 if theirs else 5)
