from __future__ import annotations

import pytest

from bench.errors import ConfigError
from bench.settings.protocol import PROTOCOLS, Protocol, make_protocol


def test_the_default_protocol_scores_the_last_epoch_of_square_images_without_crop() -> None:
    standard = PROTOCOLS["standard"]
    assert (standard.resize, standard.crop, standard.epoch) == ((256, 256), None, "last")
    assert not standard.is_oracle


def test_a_protocol_survives_being_written_as_json_values() -> None:
    for protocol in PROTOCOLS.values():
        assert make_protocol(protocol.name, protocol.identity()) == protocol


def test_the_name_is_not_part_of_the_identity() -> None:
    assert Protocol("a").identity() == Protocol("b").identity()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resize": [256]}, "resize"),
        ({"resize": "large"}, "resize"),
        ({"crop": -1}, "crop"),
        ({"mask_size": "output"}, "mask_size"),
        ({"published": "aupro_cflow"}, "published"),
        ({"resample": "cubic"}, "known: bicubic, bilinear, lanczos, nearest, opencv"),
        ({"crops": 3}, "did you mean 'crop'"),
    ],
)
def test_a_wrong_field_is_an_error_that_names_it(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_protocol("mine", values)
