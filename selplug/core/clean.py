#: Name and kind of the condition of clean images; no perturbation can have this name.
CLEAN = "clean"
