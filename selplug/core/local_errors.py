from .training.local_errors import *  # noqa: F403
