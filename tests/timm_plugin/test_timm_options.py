"""Options are checked and converted at the door."""

from __future__ import annotations

from typing import Any

import pytest
from selplug_timm.options import Options, parse_options
from selplug_timm.paths import listed, shown, shown_after

from selplug.core.errors import InputError


def test_none_and_empty_text_are_the_default() -> None:
    assert parse_options({"checkpoint": None, "interpolation": "", "num_samples": None}) == Options()


def test_values_are_converted() -> None:
    options = parse_options({"input_size": [1, 28, 28], "mean": [0.5], "std": 0.25, "crop_pct": 1})
    assert options.input_size == (1, 28, 28)
    assert options.channels == 1
    assert (options.mean, options.std, options.crop_pct) == ((0.5,), (0.25,), 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_sample": 5}, "unknown option 'num_sample'.*did you mean num_samples"),
        ({"zzz": 5}, "unknown option 'zzz'.*there are: data_dir"),
        ({"num_samples": 0}, "num_samples: expected a whole number of at least 1, got 0"),
        ({"num_samples": True}, "num_samples: expected a whole number"),
        ({"workers": -1}, "workers: expected a whole number of at least 0"),
        ({"batch_size": 2.5}, "batch_size: expected a whole number"),
        ({"input_size": [3, 32]}, "input_size: expected channels, height and width"),
        ({"input_size": [3, 0, 32]}, "input_size: expected a whole number of at least 1"),
        ({"mean": [0.5, float("nan"), 0.5]}, "mean: expected finite numbers"),
        ({"mean": [0.5, 0.5]}, "mean: expected 1 or 3 numbers, got 2"),
        ({"std": [0.5, 0.0, 0.5]}, "std: expected a number above 0, got 0.0"),
        ({"std": []}, "std: expected 1 or 3 numbers, got none"),
        ({"mean": [0.5] * 3, "in_chans": 1}, "mean: expected 1 or 1 numbers, got 3"),
        ({"crop_pct": 0}, "crop_pct: expected a number above 0"),
        ({"crop_mode": "middle"}, "crop_mode: expected one of center, squash, border, got 'middle'"),
        ({"interpolation": "random"}, "interpolation: expected one of bicubic"),
        ({"model_kwargs": ["a=1"]}, "model_kwargs: expected name=value pairs"),
        ({"pretrained": "yes"}, "pretrained: expected true or false, got 'yes'"),
        ({"split": 3}, "split: expected text, got 3"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_options(options)


def test_paths_leave_the_machine_out() -> None:
    assert shown("/one/two/three/w.pth") == "three/w.pth"
    assert shown("runs/a/b/w.pth") == "runs/a/b/w.pth"
    assert shown_after("/", "hfds//one/two/three") == "hfds/two/three"
    assert shown_after("/", "hfds/some/Set") == "hfds/some/Set"
    assert listed(list("abcdefg"), 3) == "a, b, c and 4 more"
    assert listed(["a"]) == "a"
