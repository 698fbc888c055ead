"""The licence that follows from the base's and the data's. This is what their texts say in the main, and no legal advice; what is not known is refused."""

from typing import NamedTuple

from lorikeet.errors import RefusedError

FREE = {
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "unlicense",
    "cc0-1.0",
    "pddl",
    "odc-by",
    "cdla-permissive-2.0",
    "cc-by-2.0",
    "cc-by-3.0",
    "cc-by-4.0",
}
"""What asks for no more than to be named, if that."""
SHARE_ALIKE = {"cc-by-sa-3.0", "cc-by-sa-4.0", "odbl", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "cdla-sharing-1.0"}
"""What asks that what is made of it is given under the same terms."""
NOT_COMMERCIAL = {"cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"}
NO_CHANGES = {"cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"}
"""What may be passed on as it is, and a tuned model is not that."""
OF_A_MAKER = {
    **{f"llama{version}": f"Llama {version}" for version in ("2", "3", "3.1", "3.2", "3.3", "4")},
    **{"gemma": "Gemma", "openrail": "", "bigscience-openrail-m": "", "creativeml-openrail-m": ""},
}
"""Licences of a base that hold on for whatever is made of it, and the name that has to be given."""


class Licence(NamedTuple):
    """id: as the Hub knows it ("other" where none of its names fits); name: in words; why: the sentences by which it follows, and what it asks for."""

    id: str
    name: str
    why: tuple[str, ...]


def follows(base: str, data: str) -> Licence:
    """The licence of a model made from `base` and `data`, by the Hub's ids. RefusedError where one forbids it or is not known; it names the field."""
    base, data = base.strip().lower(), data.strip().lower()
    _require("the base's licence", "base", base, {*FREE, *SHARE_ALIKE, *NOT_COMMERCIAL, *OF_A_MAKER})
    _require("data.licence", "data.licence", data, {*FREE, *SHARE_ALIKE, *NOT_COMMERCIAL})
    why = [f"The base is under {base}, the rows are under {data}."]
    asked = [name for name in (base, data) if name not in FREE]
    if base in OF_A_MAKER:
        why.append(f"What is made of a base under {base} stays under {base}, with its use policy passed on.")
        if OF_A_MAKER[base].startswith("Llama"):
            why.append(f"Built with {OF_A_MAKER[base]}: that has to be shown, and the model's name has to begin with Llama.")
    if any(name in NOT_COMMERCIAL for name in asked):
        why.append("It is for no commercial use.")
    if any(name in SHARE_ALIKE or "-sa-" in name for name in asked):
        why.append("What is made of it has to be given under the same terms.")
    if data.startswith(("cc-by", "odc")):
        why.append("Whoever made the rows has to be named.")
    if not asked:
        return Licence(base, base, tuple(why))
    one = dict.fromkeys(asked)
    return Licence(asked[0], asked[0], tuple(why)) if len(one) == 1 else Licence("other", " and ".join(one), tuple(why))


def may_give_rows(data: str) -> None:
    """RefusedError where rows under `data` may not be passed on, or it is not known whether."""
    _require("data.licence", "data.licence", data.strip().lower(), {*FREE, *SHARE_ALIKE, *NOT_COMMERCIAL, *NO_CHANGES})


def _require(what: str, field: str, licence: str, known: set[str]) -> None:
    if licence in NO_CHANGES and licence not in known:
        raise RefusedError(
            f"{what} is {licence}, which forbids that what is made of it is published", f"take other rows or another base ({field}), or ask who owns it"
        )
    if licence not in known:
        told = licence or "not said"
        raise RefusedError(f"{what} is {told}, and whether it may be published is not known",
                           f"say which licence it is under in {field}, by the Hub's id, such as cc-by-4.0" if field != "base" else
                           "name the base's licence with --base-licence, by the Hub's id, such as apache-2.0")  # fmt: skip
