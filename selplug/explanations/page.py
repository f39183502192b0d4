"""``explain.html``: attribution maps over their images, in one file that loads nothing from the internet."""

from __future__ import annotations

import html
from dataclasses import dataclass

from ..core.clean import CLEAN
from ..report.page import command_line, flat, resource, template
from ..report.png import difference, png_uri
from ..report.style import percent, plural, printable, short_number
from ..report.tables import Table
from . import overlays
from .record import ExplanationRecord, pictures
from .run import ADVERSARIAL, ExplainedImage

#: Image width in CSS pixels.
WIDTH = 168
#: How many images a notebook shows, and the pixels of their longer side.
NOTEBOOK_IMAGES, NOTEBOOK_SIZE = 3, 64


@dataclass(frozen=True)
class Row:
    """One map of one image. ``similarity`` and ``scale`` are text; the overlays are data URIs."""

    method: str
    layer: str
    size: str
    overlay: str
    adversarial_overlay: str
    similarity: str
    scale: str


@dataclass(frozen=True)
class Card:
    """One image with its maps."""

    id: str
    name: str
    label: str
    target: str
    attacked: str
    predictions: dict[str, list[tuple[str, str]]]
    changed: bool
    size: str
    factor: str
    image: str
    adversarial: str
    difference: str
    rows: list[Row]


def render(explanation: ExplanationRecord, beside_report: bool = False) -> str:
    """The page as text; ``beside_report`` adds a link to the page of the audit in the same folder."""
    cards = [_card(explanation, place, image) for place, image in enumerate(explanation.images)]
    return template("selplug.explanations", "explain.html.jinja").render(
        title=title(explanation),
        headline=headline(explanation),
        cards=cards,
        settings=explanation.settings,
        signed=any((v < 0).any() for image in explanation.images for one in image.maps for v in one.values.values()),
        width=WIDTH,
        quantile=percent(overlays.QUANTILE),
        beside_report=beside_report,
        facts={
            "Subject": list(flat(explanation.subject)),
            "Settings": list(flat(explanation.settings)),
            "Environment": list(flat(explanation.environment)),
        },
        command=command_line(explanation.settings),
        style=resource("web/report.css") + resource("explain.css", "selplug.explanations"),
    )


def title(explanation: ExplanationRecord) -> str:
    """Model and number of images in one line."""
    count = len(explanation.images)
    return f"{printable(explanation.subject.get('model', 'model'))} explained on {plural(count, 'image')}"


def headline(explanation: ExplanationRecord) -> list[tuple[str, str, str]]:
    """``(title, value, detail)`` of the most important numbers."""
    images = explanation.images
    flipped = sum(image.predicted(CLEAN) != image.predicted(ADVERSARIAL) for image in images)
    similarities = [one.similarity for image in images for one in image.maps if one.similarity is not None]
    mean = sum(similarities) / len(similarities) if similarities else None
    largest = max(image.linf for image in images)
    known = [image for image in images if image.label is not None]
    found = [
        ("Images", str(len(images)), f"{plural(len(images[0].maps), 'map')} each"),
        ("Prediction changed", f"{flipped} of {len(images)}", f"by {printable(explanation.settings['perturbation'])}"),
        ("Similarity of maps", short_number(mean, spec=".3f"), "mean cosine, clean and adversarial; 1: the same"),
        ("Size, max Linf", short_number(largest, spec="#.3g"), f"pixels in [0, 1]; {255 * largest:.3g} of 255 levels"),
    ]
    if known:
        right = [
            sum(image.predicted(condition) == image.label for image in known) for condition in (CLEAN, ADVERSARIAL)
        ]
        found.insert(1, ("Correct, clean", f"{right[0]} of {len(known)}", f"adversarial: {right[1]} of {len(known)}"))
    return found


def summary_table(explanation: ExplanationRecord) -> Table:
    """A row per map."""
    rows = []
    for image in explanation.images:
        for one in image.maps:
            rows.append(
                (
                    printable(image.name),
                    printable(one.method),
                    printable(one.layer or "input"),
                    explanation.class_name(image.target),
                    " → ".join(_top(explanation, image, condition, 1)[0][0] for condition in (CLEAN, ADVERSARIAL)),
                    short_number(one.similarity, spec=".3f"),
                )
            )
    return Table(
        title="Attribution maps, and cosine between the clean and the adversarial map",
        columns=("image", "method", "layer", "explained class", "predicted", "cosine"),
        numeric=(False, False, False, False, False, True),
        rows=tuple(rows),
    )


def notebook_pictures(explanation: ExplanationRecord) -> str:
    """Of the first few images the five pictures of their first map, small: some 60 kB each at most."""
    parts = []
    for image in explanation.images[:NOTEBOOK_IMAGES]:
        one = image.maps[0]
        step = max(1, -(-max(image.images[CLEAN].shape[1:]) // NOTEBOOK_SIZE))
        small = [picture[::step, ::step] for picture in pictures(image, one)]
        text = f"{printable(image.name)}, {printable(one.method)}, {printable(one.layer or 'input')}"
        parts.append(
            f"<p>{html.escape(text)}: image and map, adversarial image and map, difference<br>"
            f'<img alt="{html.escape(text)}" src="{png_uri(overlays.strip(small, NOTEBOOK_SIZE // 2))}"></p>'
        )
    return "".join(parts)


def _card(explanation: ExplanationRecord, place: int, image: ExplainedImage) -> Card:
    rows = []
    for one in image.maps:
        clean, overlay, adversarial, adversarial_overlay, _ = map(png_uri, pictures(image, one))
        rows.append(
            Row(
                method=printable(one.method),
                layer=printable(one.layer or "input"),
                size=" × ".join(map(str, one.values[CLEAN].shape)),
                overlay=overlay,
                adversarial_overlay=adversarial_overlay,
                similarity=short_number(one.similarity, spec=".3f"),
                scale=short_number(overlays.scale(list(one.values.values())), spec=".3g"),
            )
        )
    pixels, factor = difference(image.images[CLEAN], image.images[ADVERSARIAL])
    return Card(
        id=f"image-{place + 1}",
        name=printable(image.name),
        label=explanation.class_name(image.label),
        target=explanation.class_name(image.target),
        attacked=explanation.class_name(image.attacked),
        predictions={condition: _top(explanation, image, condition, 3) for condition in (CLEAN, ADVERSARIAL)},
        changed=image.predicted(CLEAN) != image.predicted(ADVERSARIAL),
        size=f"L2 {short_number(image.l2, spec='.3g')}, Linf {short_number(image.linf, spec='.3g')}",
        factor=f"{factor:g}" if factor else "",
        image=clean,
        adversarial=adversarial,
        difference=png_uri(pixels),
        rows=rows,
    )


def _top(explanation: ExplanationRecord, image: ExplainedImage, condition: str, count: int) -> list[tuple[str, str]]:
    """``(class, probability)`` of the most likely classes."""
    values = image.probabilities[condition]
    best = (-values).argsort(kind="stable")[:count]
    return [(explanation.class_name(int(k)), percent(float(values[k]))) for k in best]
