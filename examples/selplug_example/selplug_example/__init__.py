"""An example of a plugin: the measure ``sparsity`` and the perturbation ``occlusion``."""
