from .measures.similarity import *  # noqa: F403
