from .training.adversarial import *  # noqa: F403
