"""What the figures have in common; that they are drawn is tested with the report."""

from experiments.plotting import HUES, arm_styles


def test_a_norm_has_one_hue_everywhere() -> None:
    styles = arm_styles(["none", "layer_b4", "other/layer_b128", "rms_batch_size_8", "mystery", "Layer"])
    assert (styles["none"][0], styles["layer_b4"][0]) == (HUES["none"], HUES["layer"])
    assert styles["rms_batch_size_8"][0] == HUES["rms"]
    assert styles["mystery"][0] not in HUES.values()
    assert len(set(map(str, styles.values()))) == 6  # and no two arms look the same
