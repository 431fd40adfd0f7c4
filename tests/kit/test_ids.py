import re
import uuid
from concurrent.futures import ThreadPoolExecutor

from remora.kit.ids import new_uuid, random_hex


def test_a_uuid_is_random_and_in_lower_case() -> None:
    text = new_uuid()
    assert uuid.UUID(text).version == 4
    assert text == str(uuid.UUID(text))
    assert text != new_uuid()


def test_random_hex_has_exactly_as_many_digits_as_asked_for() -> None:
    for digits in (1, 7, 8, 33):
        assert re.fullmatch(rf"[0-9a-f]{{{digits}}}", random_hex(digits))


def test_identifiers_are_given_out_once_whoever_asks() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = [*threads.map(lambda _: new_uuid(), range(5_000)), *(new_uuid() for _ in range(1_000))]
    assert len(set(made)) == len(made)


def test_every_uuid_is_of_version_4() -> None:
    for _ in range(200):
        made = uuid.UUID(new_uuid())
        assert (made.version, made.variant) == (4, uuid.RFC_4122)
