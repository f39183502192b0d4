from .measures.metrics import *  # noqa: F403
