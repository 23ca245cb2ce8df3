"""Which calls count as the same one."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from django_celery_extensions import keys
from django_celery_extensions.exceptions import InvalidOption, TaskConfigurationError
from django_celery_extensions.task import default_unique_key_generator
from tests.project import tasks

if TYPE_CHECKING:
    from tests.unit.conftest import Declare


def key(task: Any, *args: Any, **kwargs: Any) -> str:
    return default_unique_key_generator(task, "prefix", args, kwargs)


def take(x: Any, y: Any = 3, *, z: Any = None) -> None: ...


def take_any(*args: Any, **kwargs: Any) -> None: ...


def take_options(x: Any, **options: Any) -> None: ...


class Text(str):
    __slots__ = ()


def test_subclass_of_text_is_the_text_that_the_message_carries(declare: Declare) -> None:
    """Naive: one of them goes through JSON and the other does not. Django's SafeString and TextChoices are such."""
    task = declare(take)
    assert key(task, Text("ü"), z=1) == key(task, "ü", z=1) == key(task, json.loads(json.dumps("ü")), z=1)


def test_key_is_the_same_in_every_python(declare: Declare) -> None:
    """What a Python can print, and shows as it is in a repr(), depends on its version."""
    task = declare(take)
    assert key(task, "ü \u1c89", y=1.5, z=None) == "prefix:declared.take:79b84e46516411a9715f6da98d8af04e"


def test_positional_keyword_and_default_are_one_call(declare: Declare) -> None:
    task = declare(take)
    same = {key(task, 5), key(task, x=5), key(task, 5, y=3), key(task, 5, 3), key(task, y=3, x=5, z=None)}
    assert len(same) == 1
    assert key(task, 5, 4) not in same


def test_key_says_prefix_and_task(declare: Declare) -> None:
    assert key(declare(take), 1).startswith("prefix:declared.take:")


def test_two_tasks_never_share_a_key(declare: Declare) -> None:
    assert key(declare(take), 1) != key(declare(take, name="declared.other"), 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": (1, {"d": 1, "c": 2})}, {"a": [1, {"c": 2, "d": 1}]}),
        (Decimal("1.10"), Decimal("1.10")),
    ],
)
def test_spelling_of_a_value_does_not_matter(declare: Declare, one: Any, other: Any) -> None:
    task = declare(take)
    assert key(task, one) == key(task, other)


def test_falsy_values_are_values(declare: Declare) -> None:
    task = declare(take)
    values: list[Any] = [0, 0.0, False, None, "", [], {}, "0", "None", "null", [None], [[]], Decimal(0), b""]
    assert len({key(task, value) for value in values}) == len(values)


def test_numbers_and_their_look_alikes_are_distinct(declare: Declare) -> None:
    task = declare(take)
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
    values: list[Any] = [1, 1.0, True, "1", Decimal(1), moment, moment.replace(tzinfo=None), moment.date()]
    values += [moment.isoformat(), uuid.UUID(int=1), str(uuid.UUID(int=1))]
    assert len({key(task, value) for value in values}) == len(values)


def test_parts_do_not_run_into_each_other(declare: Declare) -> None:
    task = declare(take)
    assert key(task, "a,b", "c") != key(task, "a", "b,c")
    assert key(task, '1","y":"2') != key(task, "1", "2")
    assert key(task, 1, 23) != key(task, 12, 3)


# What a message may carry as JSON.
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=st.none() | st.just(dt.timezone.utc))
    | st.dates()
    | st.binary(max_size=8)
)
names = st.text(max_size=5)


def trees(keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.dictionaries(keys, inner, max_size=4)
        ),
        max_leaves=10,
    )


once_per_example = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200
)


@once_per_example
@given(args=st.lists(trees(names), max_size=3), kwargs=st.dictionaries(names, trees(names), max_size=3))
def test_the_way_through_a_message_changes_no_key(
    declare: Declare, args: list[Any], kwargs: dict[str, Any]
) -> None:
    task = declare(take_any)
    there_args, there_kwargs = kombu_json.loads(kombu_json.dumps([args, kwargs]))
    shuffled = dict(reversed(list(there_kwargs.items())))
    assert default_unique_key_generator(task, "p", args, kwargs) == default_unique_key_generator(
        task, "p", there_args, shuffled
    )


@once_per_example
@given(value=st.dictionaries(st.integers() | st.none() | st.booleans(), st.integers(), max_size=4))
def test_keys_of_a_dict_that_are_no_strings_change_nothing(declare: Declare, value: dict[Any, Any]) -> None:
    task = declare(take)
    there = json.loads(json.dumps(value))
    if len(there) == len(value):  # 1 and "1" may be one key there
        assert key(task, value) == key(task, there)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (((1,), {}), ((), {"args": [1]})),
        (((), {"kwargs": {"a": 1}}), ((), {"a": 1})),
    ],
)
def test_names_of_star_arguments_are_no_arguments(declare: Declare, one: Any, other: Any) -> None:
    task = declare(take_any)
    assert key(task, *one[0], **one[1]) != key(task, *other[0], **other[1])


def test_positional_only_and_keyword_of_the_same_name_are_two(declare: Declare) -> None:
    def slashed(x: Any, /, **options: Any) -> None: ...

    task = declare(slashed)
    assert key(task, 1, x=9) != key(task, 2, x=9)


def test_free_keywords_count_in_any_order(declare: Declare) -> None:
    task = declare(take_options)
    assert key(task, 1, a=1, b=2) == key(task, b=2, a=1, x=1)
    assert key(task, 1, a=1) != key(task, 1, b=1)
    assert key(task, 1) != key(task, 1, a=None)


def test_self_of_a_bound_task_is_no_argument(declare: Declare) -> None:
    def bound(self: Any, x: Any = 1) -> None: ...

    task = declare(bound, bind=True)
    assert key(task) == key(task, 1) == key(task, x=1)


@pytest.mark.parametrize("bind", [True, False])
def test_autoretry_hides_no_argument(declare: Declare, *, bind: bool) -> None:
    def bound(self: Any, x: Any = 1) -> None: ...

    def plain(x: Any = 1) -> None: ...

    task = declare(
        bound if bind else plain, bind=bind, unique=True, unique_keys=["x"], autoretry_for=(ValueError,)
    )
    assert key(task) == key(task, 1) == key(task, x=1)


def test_wrong_arguments_of_an_untyped_task_have_keys_of_their_own(declare: Declare) -> None:
    task = declare(take, typing=False)
    right = key(task, 5)
    wrong = [key(task), key(task, 1, 2, 3), key(task, nope=1), key(task, 1, 2, 4)]
    assert len({right, *wrong}) == 5
    assert key(task, nope=1) == wrong[2]


def test_arguments_are_counted_from_none(declare: Declare) -> None:
    def nothing() -> None: ...

    task = declare(nothing)
    assert default_unique_key_generator(task, "p", None, None) == default_unique_key_generator(
        task, "p", [], {}
    )


def nothing() -> None: ...


def take_two(x: Any, y: Any) -> None: ...


def take_defaults(x: Any, y: Any = None, z: Any = ()) -> None: ...


def take_names(x: Any = 1, *, y: Any) -> None: ...


def take_places(x: Any, /, y: Any = 2) -> None: ...


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=st.sampled_from([nothing, take_two, take_defaults, take_names, take_places, take_any, take_options]),
    args=st.lists(st.integers() | st.none(), max_size=4),
    kwargs=st.dictionaries(st.sampled_from("xyzw"), st.integers() | st.none(), max_size=3),
)
def test_arguments_are_bound_as_python_binds_them(
    declare: Declare, monkeypatch: pytest.MonkeyPatch, body: Any, args: list[Any], kwargs: dict[str, Any]
) -> None:
    task = declare(body)

    def outcome() -> Any:
        try:
            return list(keys.call_arguments(task, args, kwargs).items())
        except TypeError as exc:
            return str(exc)

    ours = outcome()
    with monkeypatch.context() as patched:
        patched.setattr(keys, "_bind_plainly", lambda *_: None)
        assert outcome() == ours


# unique_keys


def test_unique_keys_choose_the_arguments(declare: Declare) -> None:
    task = declare(take, unique=True, unique_keys=("x",))
    assert key(task, 1, 2) == key(task, 1, 3, z=object()) == key(task, x=1)
    assert key(task, 1) != key(task, 2)


def test_unique_keys_may_name_a_default(declare: Declare) -> None:
    task = declare(take, unique=True, unique_keys=["y"])
    assert key(task, 1) == key(task, 2, y=3) != key(task, 1, y=4)


def test_no_unique_keys_at_all_make_one_key(declare: Declare) -> None:
    task = declare(take, unique=True, unique_keys=())
    assert key(task, 1, 2) == key(task, 3, 4, z=5)


def test_unique_keys_may_name_free_keywords(declare: Declare) -> None:
    task = declare(take_options, unique=True, unique_keys=("user",))
    assert key(task, 1, user=5) == key(task, 2, user=5, other=1) != key(task, 1, user=6)


@pytest.mark.parametrize(
    ("unique_keys", "says"),
    [
        ("x", "is 'x'; give a list or tuple"),
        (("x", "nope"), "names 'nope', but the task takes x, y, z"),
        (("self",), "'self'"),
    ],
)
def test_bad_unique_keys_are_refused_at_the_declaration(
    declare: Declare, unique_keys: Any, says: str
) -> None:
    with pytest.raises(TaskConfigurationError, match=says) as caught:
        declare(take, unique=True, unique_keys=unique_keys)
    assert "declared.take" in str(caught.value)


@pytest.mark.parametrize("unique_keys", [5, True, {"x": 1, "nope": 2}, ("x", 5)])
def test_unique_keys_of_a_wrong_type_are_a_clear_error(declare: Declare, unique_keys: Any) -> None:
    with pytest.raises(TaskConfigurationError, match="unique_keys"):
        declare(take, unique=True, unique_keys=unique_keys)


# what has no key


@pytest.mark.parametrize("value", [object(), {1, 2}, [object()], {"a": lambda: None}])
def test_value_without_a_json_form_is_refused_by_name_of_the_task(declare: Declare, value: Any) -> None:
    with pytest.raises(InvalidOption, match=r"declared\.take.*unique_keys.*unique_key_generator"):
        key(declare(take), value)


def test_circular_value_is_refused(declare: Declare) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidOption, match=r"declared\.take"):
        key(declare(take), value)


def test_wrong_arguments_of_a_typed_task_are_a_type_error() -> None:
    with pytest.raises(TypeError):
        tasks.unique.is_processing((1, 2, 3, 4, 5))
