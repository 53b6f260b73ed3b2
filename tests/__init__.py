"""The tests. Generated ones (hypothesis) judge answers, never time: the machine may be busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("chronik", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("chronik")
