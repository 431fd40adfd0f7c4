"""Filter patterns of CloudWatch Logs."""

import pytest

from remora.telemetry.log_patterns import PatternError, compile_pattern

JSON = '{"level":"ERROR","ms":120,"ok":true,"none":null,"at":{"ip":"10.0.0.7"},"tags":["a","b"],"a-b":"c"}'


@pytest.mark.parametrize(
    ("pattern", "line", "matches"),
    [
        ("", "anything", True),
        ("ERROR", "[ERROR] x", True),
        ("ERROR", "[error] x", False),
        ("one two", "two one", True),
        ("one two", "one", False),
        ('"one two"', "one two", True),
        ('"one two"', "two one", False),
        (r'"say \"hi\""', 'say "hi"', True),
        ("?one ?two", "two", True),
        ("?one ?two", "three", False),
        ("-one", "two", True),
        ("-one", "one", False),
        ('two -"one x"', "two one", True),
        ("one ?two", "one", True),
        ('?"a b" ?c', "a b", True),
        ("a.b/c", "x a.b/c", True),
    ],
)
def test_terms(pattern, line, matches):
    assert compile_pattern(pattern)(line) is matches


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ('{ $.level = "ERROR" }', True),
        ("{$.level=ERROR}", True),
        ('{ $.level != "ERROR" }', False),
        ('{ $.level = "ERR*" }', True),
        ('{ $.at.ip = "10.*.7" }', True),
        ("{ $.at.ip = 10.0.* }", True),
        ("{ $.ms > 100 }", True),
        ("{ $.ms <= 100 }", False),
        ("{ $.ms = 1.2e2 }", True),
        ("{ $.ms > 100 && $.ok IS TRUE }", True),
        ('{ $.ms > 100 && ($.level = "x" || $.ok IS FALSE) }', False),
        ("{ $.none IS NULL }", True),
        ("{ $.gone NOT EXISTS }", True),
        ("{ $.ms NOT EXISTS }", False),
        ('{ $.tags[1] = "b" }', True),
        ('{ $.tags[2] = "b" }', False),
        ('{ $.tags[*] = "b" }', None),
        ('{ $.["a-b"] = "c" }', None),
        ('{ $["a-b"] = "c" }', True),
        ('{ $.a-b = "c" }', True),
        ("{ $.gone = 1 }", False),
        ('{ $.gone != "x" }', False),
    ],
)
def test_json_members(pattern, matches):
    if matches is None:
        with pytest.raises(PatternError):
            compile_pattern(pattern)
    else:
        assert compile_pattern(pattern)(JSON) is matches


@pytest.mark.parametrize("line", ["no json", "[1]", "{", '{"level":"INFO"}', "{" * 100_000, ""])
def test_other_lines_are_not_matched_by_json_patterns(line):
    assert not compile_pattern('{ $.level = "ERROR" }')(line)


@pytest.mark.parametrize(
    "pattern",
    [
        *("{", "{}", "{ }", "{ $.a }", "{ $.a = }", "{ $.a = 1 && }", "{ ($.a = 1 }", "{ 1 = 1 }"),
        *("{ $.a = 1 ) }", "{ $.a NOT 1 }", "{ $.a IS 1 }", '{ $.a < "b" }'),
        "{ " + "(" * 5000 + "$.a = 1 }",
        *("[a, b]", "%x%", '"open'),
    ],
)
def test_what_is_no_pattern(pattern):
    with pytest.raises(PatternError):
        compile_pattern(pattern)
