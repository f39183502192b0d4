from .hook import TrainingContext, TrainingHook

__all__ = ["TrainingContext", "TrainingHook"]
