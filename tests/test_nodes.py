"""Configuration nodes become objects, and constructors get what they ask for by name."""

from functools import partial
from typing import Any

import pytest
from omegaconf import OmegaConf

from swahr.nodes import instantiate, locate

HERE = f"{__name__}."


class Part:
    """Asks for a fact, and has settings."""

    def __init__(self, strides: tuple[int, ...], size: Any = 1, inner: Any = None) -> None:
        self.strides, self.size, self.inner = strides, size, inner


def free(**values: Any) -> dict[str, Any]:
    """Takes anything."""
    return values


def node(target: str, **values: Any) -> dict[str, Any]:
    return {"_target_": HERE + target, **values}


def test_a_fact_is_given_by_the_name_of_a_parameter_and_no_other_is() -> None:
    part = instantiate(node("Part", size=3), strides=(4, 2), skeleton="not asked for")
    assert (part.strides, part.size) == ((4, 2), 3)


def test_a_value_of_the_node_takes_precedence_over_a_fact_also_null() -> None:
    assert instantiate(node("Part", strides=[8]), strides=(4, 2)).strides == (8,)
    assert instantiate(node("Part", strides=None), strides=(4, 2)).strides is None


def test_nested_nodes_get_facts_too_also_in_lists_and_mappings() -> None:
    inner = node("Part")
    part = instantiate(node("Part", inner={"a": [inner, {"b": inner}]}), strides=(2,))
    first, second = part.inner["a"]
    assert first.strides == second["b"].strides == (2,)


def test_a_partial_node_is_called_later() -> None:
    later = instantiate(node("Part", _partial_=True, inner=node("Part")), strides=(2,))
    assert isinstance(later, partial)
    assert later.keywords.keys() == {"strides", "inner"}
    assert later.keywords["inner"].strides == (2,)
    assert later(size=5).size == 5
    assert instantiate(node("Part", _partial_=False), strides=(2,)).strides == (2,)


def test_lists_arrive_as_tuples_nested_ones_too() -> None:
    assert instantiate(node("Part", size=[[1, 2], [3]]), strides=()).size == ((1, 2), (3,))


def test_interpolations_are_resolved_and_the_node_stays_as_it_was() -> None:
    config = OmegaConf.create({"side": 7, "part": node("Part", size="${side}")})
    assert instantiate(config.part, strides=()).size == 7
    assert OmegaConf.to_container(config.part, resolve=False) == node("Part", size="${side}")
    plain = node("Part", inner=node("Part"))
    instantiate(plain, strides=())
    assert plain == node("Part", inner=node("Part"))


def test_a_constructor_with_kwargs_is_given_the_node_but_no_facts() -> None:
    assert instantiate(node("free", a=1, b=None), strides=(4,)) == {"a": 1, "b": None}


def test_unknown_parameters_are_named_beside_the_expected_ones() -> None:
    expected = r"Part has no colour, depth; expected some of strides, size, inner\. These keys are"
    with pytest.raises(ValueError, match=expected):
        instantiate(node("Part", colour=1, depth=2), strides=())


@pytest.mark.parametrize("name", ["swahr.decode.Dork", "swahr.nothing.Dark", "no_such_package.Dark", "Dark"])
def test_a_class_that_there_is_not(name: str) -> None:
    with pytest.raises(ValueError, match=rf"_target_: {name}: no such class"):
        instantiate({"_target_": name})


def test_of_this_package_only_its_own_classes() -> None:
    assert locate("swahr.decode.Dark").__module__ == "swahr.decode.subpixel"
    for name in ("swahr.files.Path", "swahr.nodes.locate", "swahr.nodes.inspect", "swahr.kernels.accept"):
        with pytest.raises(ValueError, match=rf"{name}: expected a class of swahr"):
            locate(name)
    assert locate("collections.OrderedDict") is not None
