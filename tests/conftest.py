"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail: no test here measures time.
settings.register_profile("ganzoo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ganzoo")
