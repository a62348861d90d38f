"""What an import costs: nothing heavy comes in before it is needed."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "sentence_transformers", "torchvision", "faiss", "sklearn", "matplotlib", "scipy"}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("studyguide", set()),
        ("studyguide.datasets.tinyworld", set()),
        ("studyguide.models", set()),
        ("studyguide.probability.divergences", {"torch"}),
        ("studyguide.statistics.classification", {"torch"}),
        ("studyguide.statistics.hypothesis", {"torch", "scipy"}),
        ("studyguide.course", {"torch", "matplotlib"}),
    ],
)
def test_an_import_brings_in_nothing_heavy(module, allowed):
    code = f"import sys, {module}; print(*{HEAVY} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= allowed
