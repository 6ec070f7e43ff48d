"""Training, evaluation and decoding give today what they gave when fingerprints.json was recorded.

On the machine it was recorded on (same CPU and versions) everything is equal, bit for bit. On any other the last bits
of a float differ: there every log p agrees within 1e-3 (relative where it exceeds 1), and most of what is decoded or
counted is equal. Where training itself makes choices that a last bit can turn (the codes of images, the best weights
by accuracy), means of log p agree within 5 %.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fingerprints import GOLDEN, Fingerprints, cases, signature

RECORDED = json.loads(GOLDEN.read_text())
TOLERANCE = 1e-3
"""Of each log p on another machine."""
CHOOSING = ("classify", "classify-images", "tag", "codes", "draw")
TOLERANCE_OF_MEANS = 0.05
"""Of the mean log p on another machine, for tasks whose training makes choices."""
COUNTED = 0.1
"""Of sums of whole-number losses (errors, matching n-grams) on another machine, as a share of the sum."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Fingerprints:
    return Fingerprints(tmp_path_factory.mktemp("fingerprints"))


def test_every_model_type_of_every_task_has_a_fingerprint() -> None:
    assert sorted(case.name for case in cases()) == sorted(RECORDED["runs"])


@pytest.mark.parametrize("name", list(RECORDED["runs"]))
def test_fingerprint(name: str, made: Fingerprints) -> None:
    compare(name, made[name], RECORDED["runs"][name], same_machine=signature() == RECORDED["signature"])


def compare(name: str, found: dict[str, Any], recorded: dict[str, Any], *, same_machine: bool) -> None:
    """Raises AssertionError where they differ: at all, or beyond the tolerance where they were made on different
    machines.
    """
    if same_machine:
        differing = [key for key in recorded if found[key] != recorded[key]]
        assert not differing, f"{', '.join(differing)} differ; log p by up to {gap(found, recorded):.3g}"
        return
    for key in ("losses", "sizes", "log_p", "outputs"):
        assert len(found[key]) == len(recorded[key]), f"{len(found[key])} {key}, recorded were {len(recorded[key])}"
    losses, before = np.array(found["losses"]), np.array(recorded["losses"])
    if (before % 1 == 0).all():
        assert abs(losses.sum() - before.sum()) <= COUNTED * np.abs(before).sum() + 2
    else:
        close(name, losses, before)
    if name.startswith("draw"):  # how to draw is settled by a choice too
        return
    pairs = list(zip(found["outputs"], recorded["outputs"]))
    equal = sum(a == b for a, b in pairs)
    assert 2 * equal >= len(pairs), f"{equal} of {len(pairs)} outputs are as recorded"
    if equal == len(pairs):
        close(name, np.array(found["log_p"]), np.array(recorded["log_p"]))


def close(name: str, found: np.ndarray, recorded: np.ndarray) -> None:
    """Log-probabilities are equal but for the tolerance of this task."""
    if name.split("/")[0] not in CHOOSING:
        np.testing.assert_allclose(found, recorded, TOLERANCE, TOLERANCE)
    elif len(recorded):
        np.testing.assert_allclose(found.mean(), recorded.mean(), TOLERANCE_OF_MEANS, TOLERANCE_OF_MEANS)


def gap(found: dict[str, Any], recorded: dict[str, Any]) -> float:
    """The largest difference between losses and log-probabilities; infinite where there are more or fewer."""
    gaps = [0.0]
    for key in ("losses", "log_p"):
        a, b = np.array(found[key]), np.array(recorded[key])
        gaps.append(float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else np.inf)
    return max(gaps)


def test_another_hash_fails_on_the_same_machine_only() -> None:
    recorded = RECORDED["runs"]["generate/lstm"]
    other = {**recorded, "weights": "0" * 64}
    compare("generate/lstm", other, recorded, same_machine=False)
    with pytest.raises(AssertionError, match=r"weights differ; log p by up to 0"):
        compare("generate/lstm", other, recorded, same_machine=True)


@pytest.mark.parametrize(
    ("name", "key", "allowed", "refused"),
    [
        ("generate/lstm", "losses", 1.0005, 1.004),
        ("generate/lstm", "log_p", 1.0005, 1.004),
        ("series/gru", "losses", 1.0005, 1.004),
        ("translate/gru", "log_p", 1.0005, 1.004),
        ("fill/bert", "log_p", 1.0005, 1.004),
        ("codes/vq", "losses", 1.04, 1.07),
        ("draw/gru", "losses", 1.04, 1.07),
        ("tag/lstm", "log_p", 1.04, 1.15),
        ("classify/lstm", "log_p", 1.04, 1.15),
    ],
)
def test_another_log_p_fails_on_any_machine(name: str, key: str, allowed: float, refused: float) -> None:
    recorded = RECORDED["runs"][name]
    compare(name, {**recorded, key: [x * allowed for x in recorded[key]]}, recorded, same_machine=False)
    with pytest.raises(AssertionError):
        compare(name, {**recorded, key: [x * refused for x in recorded[key]]}, recorded, same_machine=False)


@pytest.mark.parametrize("name", ["generate/gru", "translate/lstm", "tag/hmm"])
def test_other_outputs_fail_on_any_machine(name: str) -> None:
    recorded = RECORDED["runs"][name]
    with pytest.raises(AssertionError, match=r"0 of \d+ outputs are as recorded"):
        compare(name, {**recorded, "outputs": ["other" for _ in recorded["outputs"]]}, recorded, same_machine=False)
