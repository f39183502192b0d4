from .attributions import attribution
from .budgets import worst_case_attacks
from .language import LEVEL, parse_spec, parse_value, spec_name, split_specs, sweep
from .options import check_options
from .perturbing import perturbation, perturbations

__all__ = [
    "LEVEL",
    "attribution",
    "check_options",
    "parse_spec",
    "parse_value",
    "perturbation",
    "perturbations",
    "spec_name",
    "split_specs",
    "sweep",
    "worst_case_attacks",
]
