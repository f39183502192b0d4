from .measures.functional import *  # noqa: F403
