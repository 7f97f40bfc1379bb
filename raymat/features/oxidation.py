"""Which elements are commonly cations, and which anions."""

from functools import cache


@cache
def oxidation_signs(z: int) -> tuple[bool, bool]:
    """Give whether an element's common oxidation states have a positive and a negative one.

    The states are pymatgen's; an element without any, such as helium, is neither.
    """
    from pymatgen.core import Element

    states = Element.from_Z(z).common_oxidation_states
    return any(state > 0 for state in states), any(state < 0 for state in states)
