"""Image files given one by one are prepared as the loader prepares its samples."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image, ImageFile
from selplug_timm.subject import imagenet_names, load

from selplug.audits.api import audit_subject
from selplug.core.errors import InputError


@pytest.mark.parametrize("options", [{}, {"in_chans": 1}, {"crop_mode": "border", "crop_pct": 0.7}])
def test_a_file_is_read_as_the_loader_reads_it(make_folder, open_tiny, tiny, options):
    if "in_chans" in options:
        pytest.importorskip("timm")
        tiny = "resnet10t"
        options = {**options, "pretrained": False, "num_classes": 3}
    root = make_folder({"ant": 2, "bee": 1, "cat": 1})
    options = {"img_size": 20, "workers": 0, **options}
    subject = load(tiny, {"data_dir": str(root), **options})
    images = torch.cat([images for images, _ in subject.loader])
    alone = load(tiny, {"optional_data": True, **options})
    for place, name in enumerate(["ant/00.jpg", "ant/01.png", "bee/00.jpg", "cat/00.jpg"]):
        for one in (subject, alone):
            assert torch.equal(one.read_image(str(root / "validation" / name)), images[place])


def test_without_data_there_are_no_samples_and_no_class_names(tiny, tmp_path):
    subject = load(tiny, {"optional_data": True, "img_size": 20})
    assert list(subject.loader) == []
    assert subject.class_names is None
    assert subject.info["data"] == {}
    with pytest.raises(InputError, match="at least two images"):
        audit_subject(subject, progress=False)
    (tmp_path / "names.txt").write_text("one\ntwo\nthree\n")
    named = load(tiny, {"optional_data": True, "img_size": 20, "class_map": str(tmp_path / "names.txt")})
    assert named.class_names == ["one", "two", "three"]


def test_pretrained_weights_without_data_have_the_names_of_imagenet():
    names = imagenet_names(1000)
    assert names is not None
    assert len(names) == 1000
    assert names[0].startswith("tench")
    assert imagenet_names(10) is None
    options = {"optional_data": True, "workers": 0}
    assert load("resnet10t", {**options, "pretrained": False}).class_names is None  # random weights know no class


def test_files_that_cannot_be_read_are_told(tiny, tmp_path):
    read = load(tiny, {"optional_data": True, "img_size": 20}).read_image
    with pytest.raises(InputError, match=r"no image file .*missing.png"):
        read(str(tmp_path / "missing.png"))
    whole = tmp_path / "whole.png"
    Image.effect_noise((40, 30), 50).convert("RGB").save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:500])
    with pytest.raises(InputError, match=r"cut.png cannot be read: "):
        read(str(tmp_path / "cut.png"))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match=r"text.png cannot be read: not an image"):
        read(str(tmp_path / "text.png"))
    with pytest.raises(InputError, match="cannot be read"):
        read(str(tmp_path))
    Image.open(whole).convert("P").save(tmp_path / "palette.gif")
    assert read(str(tmp_path / "palette.gif")).shape == (3, 20, 20)


def test_threads_read_strictly_and_leave_the_switch_as_it_was(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    subject = load(tiny, {"optional_data": True, "img_size": 20})
    whole, cut = tmp_path / "whole.png", tmp_path / "cut.png"
    Image.effect_noise((40, 30), 50).convert("RGB").save(whole)
    cut.write_bytes(whole.read_bytes()[:900])

    def outcome(number):
        try:
            return tuple(subject.read_pixels(str(cut if number % 2 else whole)).shape)
        except InputError:
            return None

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, range(400))) == [(3, 30, 40), None] * 200
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
