"""The grammar ``name:key=value,key=value``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitlab.config.errors import ConfigurationError
from logitlab.config.specification import Specification, parse_specification


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("softmax", Specification("softmax")),
        (" softmax ", Specification("softmax")),
        ("cosine:kappa=20", Specification("cosine", {"kappa": 20})),
        ("cosine:kappa=2e1,bias=False", Specification("cosine", {"kappa": 20.0, "bias": False})),
        ("a:x=none,y=null,z=word", Specification("a", {"x": None, "y": None, "z": "word"})),
        ("a:x=-3,y=+.5,z=1e-3", Specification("a", {"x": -3, "y": 0.5, "z": 0.001})),
        ("a:x=[1, 2.5, 10],y=1", Specification("a", {"x": [1, 2.5, 10], "y": 1})),
        ('a:x=["p,q", "r]", "s["],y=1', Specification("a", {"x": ["p,q", "r]", "s["], "y": 1})),
        ('a:x="20",y="p, q"', Specification("a", {"x": "20", "y": "p, q"})),
        ('a:x={"p": [1, 2]} , y=1', Specification("a", {"x": {"p": [1, 2]}, "y": 1})),
        ("a: x = 1 , y = b ", Specification("a", {"x": 1, "y": "b"})),
        ("hub:path=C=D", Specification("hub", {"path": "C=D"})),
        ("resnet.a1_in1k:x=1", Specification("resnet.a1_in1k", {"x": 1})),
    ],
)
def test_reads(text, expected):
    found = parse_specification(text)
    assert found == expected
    assert [type(value) for value in found.parameters.values()] == [
        type(value) for value in expected.parameters.values()
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no name"),
        (":kappa=1", "has no name"),
        ("cosine:", "Nothing follows the colon"),
        ("cosine:kappa", "Cannot read 'kappa'"),
        ("cosine:kappa=", "Cannot read 'kappa' of the head 'cosine:kappa=': it has no value"),
        ("cosine:kappa=,bias=true", "it has no value"),
        ("cosine:=3", "Cannot read '=3'"),
        ("cosine:kappa=1,,bias=true", "Cannot read ''"),
        ("cosine:kappa=1,", "Cannot read ''"),
        ("cosine:1k=1", "Cannot read '1k=1'"),
        ("cosine:kappa=1,kappa=2", "sets 'kappa' twice"),
        ("cosine:kappa=[1,", "'[1,' is not JSON"),
        ("cosine:kappa=[1]2", "a comma must follow '[1]'"),
        ("cosine:kappa=nan", "'nan' is not a finite number"),
        ("cosine:kappa=-Infinity", "'-Infinity' is not a finite number"),
        ("cosine:kappa=1e999", "'1e999' is not a finite number"),
        ("cosine:kappa=[1, NaN]", "'NaN' is not a finite number"),
        ("cosine:kappa=[1e999]", "'1e999' is not a finite number"),
    ],
)
def test_refuses_in_one_line(text, complaint):
    with pytest.raises(ConfigurationError, match="head") as fault:
        parse_specification(text)
    assert complaint in str(fault.value)
    assert "\n" not in str(fault.value)


def test_the_error_names_the_kind():
    with pytest.raises(ConfigurationError, match="The backbone '' has no name"):
        parse_specification("", kind="backbone")


def test_a_timm_model_goes_by_its_plain_name():
    with pytest.raises(ConfigurationError, match=r"timm's models go by their plain name: 'resnet18'\."):
        parse_specification("timm:resnet18", kind="backbone")


words = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
plain = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
    | st.text()
    | st.sampled_from(["20", "true", "None", "nan", " padded ", "a=b", "[", "1e5"])
)
values = plain | st.lists(plain, max_size=4) | st.dictionaries(st.text(), plain, max_size=2)


@given(name=words, parameters=st.dictionaries(words, values, max_size=4))
def test_what_is_written_is_read_back(name, parameters):
    specification = Specification(name, parameters)
    assert parse_specification(str(specification)) == specification
