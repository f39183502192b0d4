from .measures.alignment import *  # noqa: F403
