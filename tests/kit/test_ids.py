import re
import uuid

from remora.kit.ids import new_uuid, random_hex


def test_a_uuid_is_random_and_in_lower_case() -> None:
    text = new_uuid()
    assert uuid.UUID(text).version == 4
    assert text == str(uuid.UUID(text))
    assert text != new_uuid()


def test_random_hex_has_exactly_as_many_digits_as_asked_for() -> None:
    for digits in (1, 7, 8, 33):
        assert re.fullmatch(rf"[0-9a-f]{{{digits}}}", random_hex(digits))
