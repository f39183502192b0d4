from .model.settings import *  # noqa: F403
from .model.state import *  # noqa: F403
