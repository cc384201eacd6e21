"""What is read from a results folder is what is written in one, or nothing."""

import json

import pytest

from experiments.records.files import from_json
from experiments.records.shapes import DAMAGED, Record, parsed

RECORD = {
    **{"experiment": "e", "run": "r", "scale": "laptop", "role": "evaluate", "group": "g", "synthetic": False},
    **{"status": "completed", "history": [], "final": {}, "timing": {"wall_seconds": 1.0}, "environment": {}},
    "config": {
        **{"method": "train", "norm": "layer", "seed": 0, "batch_size": 1, "model": {"name": "m"}},
        **{"data": {"name": "d", "path": "\udcff.txt"}, "optim": {"learning_rate": 0.1}},
    },
}


def test_a_record_is_read_also_with_a_path_that_is_no_utf_8() -> None:
    assert parsed(Record, json.dumps(RECORD)) == RECORD


@pytest.mark.parametrize("key, value", [("code", [1]), ("final", {"loss": "low"}), ("history", [{}]), ("role", "both")])
def test_a_record_of_another_shape_is_none(key: str, value: object) -> None:
    with pytest.raises(DAMAGED):
        parsed(Record, json.dumps(RECORD | {key: value}))


def test_a_number_that_no_float_comes_near_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^999999999\.\.\. is too large a number$"):
        from_json('{"config": {"anything": ' + "9" * 400 + "}}")
    assert from_json(f"[{2**63}, 1e999]") == [2**63, float("inf")]
