"""Of all tests: hypothesis judges what a property says, and not how fast this machine is at the moment."""

from hypothesis import HealthCheck, settings

# on what is there already: hypothesis has a profile of its own where it sees that it runs in CI
settings.register_profile("any-speed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")
