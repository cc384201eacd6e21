"""What all tests share: generated examples may take as long as a busy machine needs."""

from hypothesis import settings

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
