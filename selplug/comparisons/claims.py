"""The claims of three papers, each with the statistics over networks that speak for or against it.

What the papers say is cited from their abstracts unless a row says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .correlations import correlation, explained, required, robustness, robustness_to_each_type
from .differences import robust_less_standard
from .evidence import MIN_CORRELATED, MIN_EACH, Evidence
from .matched import DIFFERENCE, GAIN
from .within import MONOTONIC, attacks_above_corruptions, monotonic, overfitting

LM21, CB22, JZH20 = "arXiv 2010.07693", "arXiv 2206.09868", "arXiv 2007.02047"


@dataclass(frozen=True)
class Claim:
    """``statistic`` is what is computed, in words, ``side`` where it has to lie; ``needs`` says which networks decide,
    ``caveat`` where we do not measure what the paper did."""

    id: str
    text: str
    source: str
    statistic: str = field(repr=False)
    side: str = field(repr=False)
    needs: str = field(repr=False)
    caveat: str = field(default="", repr=False)


@dataclass(frozen=True)
class Row:
    """A claim, and what is computed for it."""

    claim: Claim
    evidence: Evidence


_SAME = f"at least {MIN_CORRELATED} configurations of standard networks that differ in the regularizer alone"
_EACH = f"at least {MIN_EACH} robust and {MIN_EACH} standard networks"
_STANDARD = "standard networks, of any training"
_BEYOND = "by itself, given clean accuracy, and as a share of clean accuracy"
_WHOLE = (
    "the paper takes whole maps of every Conv, BatchNorm, ReLU, pool and Linear, an audit averages the maps of "
    "activations over positions (selplug similarity --flatten does not)"
)
_LOCAL = "the paper trains by local errors"
_MATCHED = "matched by the accuracy that they cost, else by L2 size"

ROWS = (
    Row(
        Claim(
            "selectivity-corruptions",
            "Networks of lower class selectivity are more robust to corruptions",
            f"{LM21}, abstract",
            f"rank correlation of class selectivity and mean corruption accuracy, {_BEYOND}",
            "all < 0",
            _SAME,
        ),
        robustness("selectivity", "corruption_accuracy", -1),
    ),
    Row(
        Claim(
            "selectivity-attacks",
            "Networks of higher class selectivity are more robust to gradient-based attacks",
            f"{LM21}, abstract",
            f"rank correlation of class selectivity and accuracy under each type of attack, {_BEYOND}",
            "all > 0",
            _SAME,
        ),
        robustness_to_each_type("selectivity", 1),
    ),
    Row(
        Claim(
            "selectivity-dimensionality",
            "The dimensionality of early layers is inversely related to class selectivity",
            f"{LM21}, abstract",
            "rank correlation of class selectivity and the dimensionality of early layers, as a share of their units",
            "< 0",
            _SAME,
        ),
        correlation("selectivity", "dimensionality_early", -1),
    ),
    Row(
        Claim(
            "dimensionality-gain",
            "Attacks increase the dimensionality of early layers more than corruptions do",
            f"{LM21}, abstract",
            f"gain under each type of attack less that under corruptions, {_MATCHED}, as participation ratio and as "
            "components for 90 and 95 % of the variance; mean over configurations",
            "all > 0",
            _STANDARD,
        ),
        attacks_above_corruptions(GAIN),
    ),
    Row(
        Claim(
            "dimensionality-difference",
            "Attacks change early layers in more dimensions than corruptions do",
            "arXiv 2007.04440, abstract (first version of arXiv 2010.07693)",
            f"dimensionality of the difference that each type of attack makes less that of corruptions, {_MATCHED}, as "
            "participation ratio and as components for 90 and 95 %; mean over configurations",
            "all > 0",
            _STANDARD,
        ),
        attacks_above_corruptions(DIFFERENCE),
    ),
    Row(
        Claim(
            "dimensionality-explains",
            "Dimensionality explains why class selectivity goes with robustness to attacks",
            f"{LM21}, abstract",
            "rank correlations of class selectivity and early dimensionality, and of early dimensionality and accuracy "
            "under each type of attack given class selectivity",
            "all < 0",
            _SAME,
        ),
        explained("selectivity", "dimensionality_early"),
    ),
    Row(
        Claim(
            "selectivity-gradients-samples",
            "Input-unit gradients vary more over samples in networks of higher class selectivity",
            f"{LM21}, abstract",
            "rank correlation of class selectivity and the gradients' coefficient of variation over samples",
            "> 0",
            _SAME,
        ),
        correlation("selectivity", "cv_samples"),
    ),
    Row(
        Claim(
            "selectivity-gradients-units",
            "Input-unit gradients vary more over units in networks of higher class selectivity",
            f"{LM21}, abstract",
            "rank correlation of class selectivity and the gradients' coefficient of variation over units",
            "> 0",
            _SAME,
        ),
        correlation("selectivity", "cv_units"),
    ),
    Row(
        Claim(
            "robust-blocks",
            "Block structure disappears in robust networks",
            f"{CB22}, abstract",
            "block-structure score, robust less standard networks",
            "< 0",
            _EACH,
            _WHOLE,
        ),
        robust_less_standard("block_score", -1),
    ),
    Row(
        Claim(
            "robust-specialization",
            "Robust networks lack specialization: their layers are more like each other",
            f"{CB22}, abstract",
            "mean CKA between different layers, clean images, robust less standard networks",
            "> 0",
            _EACH,
            _WHOLE,
        ),
        robust_less_standard("cka_between", 1),
    ),
    Row(
        Claim(
            "robust-closeness",
            "Clean and adversarial representations are closer to each other in robust networks",
            f"{CB22} (not in the abstract; section not confirmed)",
            "CKA of clean and attacked responses, mean over layers and common attacks, robust less standard networks",
            "> 0",
            _EACH,
            _WHOLE,
        ),
        robust_less_standard("cka_attack", 1),
    ),
    Row(
        Claim(
            "robust-overfitting",
            "Overfitting in robust training shows in deeper layers",
            f"{CB22}, abstract",
            "growth, from the best epoch to the last, of the gap between training and test images in the CKA of clean "
            "and attacked responses: in late layers, and in late less early layers; mean over robust runs",
            "all > 0",
            f"at least {MIN_EACH} robust runs, two epochs of each on training and on test images",
            _WHOLE,
        ),
        overfitting,
    ),
    Row(
        Claim(
            "exponent-accuracy",
            "Higher accuracy goes with a faster decay of the eigenspectrum",
            f"{JZH20}, abstract",
            "rank correlation of the exponent of the last hidden layer and clean accuracy",
            "> 0",
            _SAME,
            _LOCAL,
        ),
        correlation("exponent_last", "clean_accuracy"),
    ),
    Row(
        Claim(
            "exponent-required",
            "High accuracy requires a fast decay of the eigenspectrum",
            f"{JZH20}, abstract",
            "empty corner of slow decay and high accuracy, as a share of both ranges (necessary condition analysis)",
            "more than by chance",
            _SAME,
            _LOCAL,
        ),
        required("exponent_last", "clean_accuracy"),
    ),
    Row(
        Claim(
            "exponent-noise",
            "Under Gaussian noise, accuracy is monotonic in the exponent",
            f"{JZH20}, abstract",
            "share of the variance of accuracy over the strengths that no monotonic function of the exponent explains; "
            "mean over configurations",
            f"< {MONOTONIC:g}, errors included",
            "standard networks with a sweep of noise",
            _LOCAL,
        ),
        monotonic("noise", -1),
    ),
    Row(
        Claim(
            "exponent-fgsm",
            "Under FGSM, accuracy is not monotonic in the exponent",
            f"{JZH20}, abstract",
            "share of the variance of accuracy over the strengths that no monotonic function of the exponent explains; "
            "mean over configurations",
            f"> {MONOTONIC:g} beyond errors",
            "standard networks with a sweep of fgsm over eps",
            _LOCAL,
        ),
        monotonic("fgsm", 1),
    ),
)
CLAIMS = tuple(row.claim for row in ROWS)
