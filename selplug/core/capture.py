from .model.capture import *  # noqa: F403
