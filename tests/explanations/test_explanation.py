"""Overlays, files and the page of ``selplug explain``."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sample_report import sample_report

from selplug.core.errors import InputError, ReportError
from selplug.explanations import overlays
from selplug.explanations.explanation import LINK, Explanation, check_fits
from selplug.explanations.page import render, summary_table
from selplug.explanations.run import ADVERSARIAL, CLEAN, ExplainedImage, Map
from selplug.report.png import difference, png

EVIL = "<script>alert(1)</script>|\x1b[31m"


def image(name: str = "cat/1.png", seed: int = 0, label: int | None = 0, maps: tuple[Map, ...] = ()) -> ExplainedImage:
    rng = np.random.default_rng(seed)
    clean = rng.random((3, 8, 12)).astype(np.float32)
    pairs = [("saliency", None, (8, 12)), (EVIL, "layer.1", (4, 6))]
    drawn = tuple(Map(m, x, {c: rng.standard_normal(s) for c in (CLEAN, ADVERSARIAL)}) for m, x, s in pairs)
    return ExplainedImage(
        name=name,
        label=label,
        target=1,
        attacked=0,
        images={CLEAN: clean, ADVERSARIAL: (clean + 2 / 255).clip(0, 1)},
        probabilities={CLEAN: np.array([0.7, 0.2, 0.1]), ADVERSARIAL: np.array([0.1, 0.3, 0.6])},
        l2=0.1,
        linf=2 / 255,
        maps=maps or drawn,
    )


def explanation(*images: ExplainedImage, **subject: object) -> Explanation:
    facts = {"model": "net", "class_names": ["cat", EVIL, "cow"], "checkpoint": None, **subject}
    settings = {"perturbation": "pgd:eps=2/255", "target": "predicted", "seed": 0, "command": ["selplug", EVIL]}
    return Explanation(facts, settings, {"selplug": "0"}, images or (image(), image("x/2.png", 1, None)))


def test_an_overlay_by_hand():
    grey = np.full((3, 1, 4), 0.5)
    values = np.array([[-2.0, 0.0, 1.0, 9.0]])
    painted = overlays.overlay(grey, values, 2.0)
    base = 255 * (0.35 + 0.6 * 0.5)
    expected = [
        0.1 * base + 0.9 * overlays.AGAINST,
        np.full(3, base),
        0.55 * base + 0.45 * overlays.FOR,
        0.1 * base + 0.9 * overlays.FOR,
    ]
    np.testing.assert_array_equal(painted[0], np.rint(expected))
    assert (overlays.overlay(grey, np.zeros((1, 4)), 0.0) == round(base)).all()


def test_the_scale_is_one_for_both_maps():
    assert overlays.scale([np.array([[1.0, -2.0]]), np.zeros((1, 1))]) == pytest.approx(np.quantile([1, 2, 0], 0.99))
    sparse = np.zeros((20, 20))
    sparse[3, 3] = -5
    assert overlays.scale([sparse, 0 * sparse]) == 5
    assert overlays.scale([0 * sparse]) == 0


def test_maps_are_enlarged_without_a_shift():
    ramp = np.arange(4.0)[None].repeat(4, 0)
    large = overlays.resized(ramp, (8, 8))
    assert large.mean() == pytest.approx(ramp.mean())
    np.testing.assert_allclose(large[0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    np.testing.assert_array_equal(large, large[::-1])


def test_the_difference_is_amplified_around_grey():
    clean = np.full((3, 2, 2), 100 / 255)
    changed = clean.copy()
    changed[0, 0, 0] += 2 / 255
    pixels, factor = difference(clean, changed)
    assert factor == 50
    assert pixels[0, 0].tolist() == [228, 128, 128]
    assert difference(clean, clean) == (pytest.approx(np.full((2, 2, 3), 128)), 0)


def test_files_hold_what_was_computed(tmp_path):
    explained = explanation()
    (tmp_path / "notes.txt").write_text("mine")
    assert explained.save(tmp_path) == tmp_path
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"explain", "explain.html", "explain.json", "explain.npz", "notes.txt"}
    data = json.loads((tmp_path / "explain.json").read_text())
    arrays = np.load(tmp_path / "explain.npz")
    for number, (record, image) in enumerate(zip(data["images"], explained.images, strict=True), 1):
        np.testing.assert_array_equal(arrays[f"{number}|adversarial"], image.images[ADVERSARIAL])
        assert [p["class"] for p in record["predictions"]["adversarial"]] == [2, 1, 0]
        assert record["predictions"]["clean"][0] == {"class": 0, "name": "cat", "probability": 0.7}
        for told, one in zip(record["maps"], image.maps, strict=True):
            for condition in (CLEAN, ADVERSARIAL):
                stored = arrays[f"{number}|{one.method}|{one.layer or 'input'}|{condition}"]
                np.testing.assert_array_equal(stored, one.values[condition])
                assert told[condition]["sum"] == pytest.approx(stored.sum())
                assert told[condition]["max"] == stored.max()
            assert told["similarity"] == pytest.approx(one.similarity)
            assert (tmp_path / told["png"]).read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "explain").iterdir())) == 4
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in (tmp_path / "explain").iterdir())


def test_a_strip_shows_image_overlay_adversarial_overlay_difference(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    explained = explanation(image())
    explained.save(tmp_path)
    path = tmp_path / explained.strip_file(0, 0)
    shown = np.asarray(pil.open(path))
    assert shown.shape == (128, 5 * 192 + 4 * 8, 3)  # 16 times 8 x 12, white between
    one = explained.images[0]
    for condition, start in ((CLEAN, 0), (ADVERSARIAL, 400)):
        part = shown[::16, start : start + 192 : 16]
        np.testing.assert_array_equal(part, np.rint(255 * one.images[condition]).transpose(1, 2, 0))
    largest = overlays.scale(list(one.maps[0].values.values()))
    for condition, start in ((CLEAN, 200), (ADVERSARIAL, 600)):
        part = shown[::16, start : start + 192 : 16]
        expected = overlays.overlay(one.images[condition], one.maps[0].values[condition], largest)
        np.testing.assert_array_equal(part, expected)


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_page_escapes_every_name_and_reaches_for_nothing():
    page = render(explanation(image(EVIL)))
    reader = Reader()
    reader.feed(page)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert "\x1b" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5
    sources = [attributes["src"] for tag, attributes in reader.tags if tag == "img"]
    assert len(sources) == 3 + 2 * 2  # image, adversarial, difference; two overlays per map
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?://|url\(|@import", page)
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")


def test_the_page_says_what_it_shows():
    page = render(explanation())
    for text in (
        "cat/1.png",
        "70.0 %",
        "prediction changed",
        "pgd:eps=2/255",
        "difference × 50",
        "True class: not known",
    ):
        assert text in page, text
    assert ">2 of 2<" in page  # predictions changed
    assert ">1 of 1<" in page  # right, of those whose class is known
    assert "negative <i>" in page
    ones = {condition: np.ones((2, 2)) for condition in (CLEAN, ADVERSARIAL)}
    positive = render(explanation(image(maps=(Map("m", None, ones),))))
    assert "negative <i>" not in positive
    assert "report.html" not in page
    assert 'href="report.html"' in render(explanation(), beside_report=True)


def test_the_overlays_of_the_page_are_the_pictures():
    pil = pytest.importorskip("PIL.Image")
    explained = image()
    page = render(explanation(explained))
    shown = [np.asarray(pil.open(io.BytesIO(base64.b64decode(m)))) for m in re.findall(r"base64,([^\"]+)", page)]
    largest = overlays.scale(list(explained.maps[0].values.values()))
    expected = overlays.overlay(explained.images[CLEAN], explained.maps[0].values[CLEAN], largest)
    np.testing.assert_array_equal(shown[1], expected)


def test_the_table_of_the_terminal():
    rows = summary_table(explanation()).rows
    assert rows[0][:3] == ("cat/1.png", "saliency", "input")
    assert rows[0][4] == "cat → cow"
    assert all("\x1b" not in cell for row in rows for cell in row)


def test_the_page_of_an_audit_gets_one_link(tmp_path):
    sample_report().save(tmp_path)
    before = (tmp_path / "report.html").read_text(encoding="utf-8")
    for _ in range(2):
        explanation().save(tmp_path)
    after = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert after.count(LINK) == 1
    assert after.replace(LINK + "\n", "") == before
    assert after.index(LINK) < after.index("</nav>")
    assert 'href="report.html"' in (tmp_path / "explain.html").read_text(encoding="utf-8")
    (tmp_path / "report.html").write_text("no page of ours", encoding="utf-8")
    explanation().save(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "no page of ours"


def test_the_report_of_another_model_is_told(tmp_path):
    check_fits(tmp_path, {"model": "net", "checkpoint": None})
    report = {"subject": {"model": "net", "checkpoint": {"file": "a.pth", "sha256": "0"}}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    check_fits(tmp_path, report["subject"])
    check_fits(tmp_path, {"model": "net"})
    with pytest.raises(InputError, match=r"another model \(net, not other\).*--output"):
        check_fits(tmp_path, {**report["subject"], "model": "other"})
    with pytest.raises(InputError, match=r"another checkpoint \(a.pth, not None\)"):
        check_fits(tmp_path, {"model": "net", "checkpoint": None})
    for content in ("{", "[]", "{}"):
        (tmp_path / "report.json").write_text(content)
        check_fits(tmp_path, {"model": "net"})


@pytest.mark.parametrize("breaks", ["render", "replace"])
def test_half_written_output_never_replaces_a_good_one(tmp_path, monkeypatch, breaks):
    sample_report().save(tmp_path)
    explanation().save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "selplug.explanations.page.render" if breaks == "render" else "selplug.report.saving.os.replace", fail
    )
    with pytest.raises((ReportError, OSError), match="No space left"):
        explanation(image(seed=5), image(seed=6), image(seed=7)).save(tmp_path)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.glob(".unfinished*"))


def test_what_json_cannot_hold_is_told(tmp_path):
    with pytest.raises(ReportError, match=r"explain\.json: expected numbers"):
        explanation(weird=object()).save(tmp_path / "new")
    assert not Path(tmp_path / "new").exists()


def test_png_of_grey_and_colour_read_back():
    pil = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(pil.open(io.BytesIO(png(pixels)))), pixels)


def test_a_row_per_image_method_and_layer():
    pytest.importorskip("pandas")
    report = explanation()
    frame = report.frame()
    content = [(entry, one) for entry in report.to_dict()["images"] for one in entry["maps"]]
    assert len(frame) == len(content)
    for row, (entry, one) in zip(frame.to_dict("records"), content, strict=True):
        for key in ("file", "target", "attacked", "l2", "linf"):
            assert row[key] == entry[key]
        assert row["label"] == entry["label"] or (entry["label"] is None and np.isnan(row["label"]))
        assert row["predicted.clean"] == entry["predictions"]["clean"][0]["class"]
        assert (row["method"], row["layer"]) == (one["method"], one["layer"] or "input")
        np.testing.assert_equal(row["similarity"], np.nan if one["similarity"] is None else one["similarity"])
