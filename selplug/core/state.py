from .model.state import *  # noqa: F403
