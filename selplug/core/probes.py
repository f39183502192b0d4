from .measures.unit_gradients import *  # noqa: F403
