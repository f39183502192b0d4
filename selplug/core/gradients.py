from .measures.gradients import *  # noqa: F403
