from .training.regularizer import *  # noqa: F403
