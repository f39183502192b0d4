from __future__ import annotations

import functools

import pytest

from selplug.catalog.docstrings import docstring, meanings, plain, summary

OURS = """Covers a square.

More about it, with a colon: here.

Args:
    size: of the square, in ``pixels``,
        at least 1; see :func:`~selplug.core.noise.gaussian_noise`.

        Another paragraph.
    first, last: ranks.
    kwargs: for :class:`torchmetrics.Metric`.

Raises:
    InputError: a size is wrong.
"""
TORCHATTACKS = r"""
    PGD in the paper
    [https://arxiv.org/abs/1706.06083]

    Arguments:
        model (nn.Module): model to attack.
        eps (float): maximum perturbation. (Default: 8/255)
        norm (str) : Lp-norm. ['Linf', 'L2'] (Default: 'Linf')

    Shape:
        - images: :math:`(N, C, H, W)`.
    """
CAPTUM = """
        Args:

            inputs (Tensor or tuple[Tensor, ...]): Input for which
                        attributions are computed.
            baselines (scalar, Tensor, tuple of scalar, or Tensor, optional):
                        Baselines define the start
                        and can be provided as:

                        - a single tensor
                        Default: None
            n_steps (int, optional): The number of steps used. Default: 50.

        Returns:
            **attributions**: of something
"""


def test_ours():
    found = meanings(docstring(type("T", (), {"__doc__": OURS})))
    assert found == {
        "size": ("of the square, in pixels, at least 1; see gaussian_noise.", None),
        "first": ("ranks.", None),
        "last": ("ranks.", None),
        "kwargs": ("for Metric.", None),
    }
    assert summary(OURS) == "Covers a square."


def test_torchattacks_and_captum():
    found = meanings(docstring(type("T", (), {"__doc__": TORCHATTACKS})))
    assert found["eps"] == ("maximum perturbation.", "8/255")
    assert found["norm"] == ("Lp-norm. ['Linf', 'L2']", "'Linf'")
    assert set(found) == {"model", "eps", "norm"}
    found = meanings(docstring(type("T", (), {"__doc__": CAPTUM})))
    assert found["inputs"][0] == "Input for which attributions are computed."
    assert found["baselines"] == ("Baselines define the start and can be provided as:", None)
    assert found["n_steps"] == ("The number of steps used.", "50")
    assert set(found) == {"inputs", "baselines", "n_steps"}


@pytest.mark.parametrize(
    "doc", ["", "One line.", "Args:", "Args:\n    - a list\n    no entry", "Args:\nx: not indented"]
)
def test_docstrings_without_entries(doc):
    assert meanings(doc) == {}


def test_whose_docstring():
    class Base:
        """Of the base."""

    class Own(Base):
        pass

    assert docstring(Own) == ""
    assert docstring(functools.partial(Base)) == "Of the base."
    assert summary("") == ""
    assert plain("``eps`` of :class:`~a.b.C`\n  and `x`") == "eps of C and x"
