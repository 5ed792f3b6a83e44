"""Settings of all tests: generated examples are the same in every run, and a busy machine does not fail them."""

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")
