"""A node takes as many descriptors as it may have, and says when they are too few for the sessions that it may get."""

import logging
import resource

import pytest

from switch import daemon


@pytest.mark.parametrize(("sessions_max", "told"), [(1_792, ""), (1_793, "limits.sessions_max to 1792")])
def test_too_few_descriptors_are_told_with_what_to_do(monkeypatch, caplog, sessions_max, told):
    taken = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: taken.append(limits))
    with caplog.at_level(logging.WARNING):
        daemon.descriptors(sessions_max)
    assert taken == [(4_096, 4_096)]
    assert bool(caplog.records) == bool(told)
    assert all("descriptors.few" in str(record.__dict__) and told in str(record.__dict__) for record in caplog.records)
