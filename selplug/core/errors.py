"""Errors for users: each message says what was expected, what came, and what to do."""


class SelplugError(Exception):
    """Base of all errors that selplug raises on purpose. The command line prints its text and exits with 2."""


class InputError(SelplugError, ValueError):
    """An argument, an option, a file or a batch is wrong."""


class CaptureError(SelplugError):
    """The units of a model cannot be recorded."""


class PerturbationError(SelplugError):
    """A perturbation returned images of another shape or dtype, or values that are not finite and in [0, 1]."""


class PluginError(SelplugError):
    """A plugin is missing, cannot be loaded, clashes with another, breaks its contract, or fails while it runs."""


class PluginFailedError(PluginError):
    """A plugin raised an error that is none of ours, when it was loaded or while it ran; that error is the cause."""


class ReportError(SelplugError):
    """A report cannot be written or read."""
