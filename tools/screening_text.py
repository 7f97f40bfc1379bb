"""What `export_screening.py` says in words of a screening: ranked list, published candidates."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from ensemble_text import head, row_of

from raymat.errors import DataError
from raymat.reports.number_text import spread
from raymat.screening.probability import wilson_interval

PUBLISHED = "Xie thesis Table 2.4"  # in the column `source` of the published table
# Published property: our column, and the unit that both have.
_COLUMNS = {
    "chi_low_k": ("chi_low", "kJ/(mol nm)"),
    "chi_high_k": ("chi_high", "kJ/(mol nm)"),
    "lambda_crit": ("lambda_crit_nm", "nm"),
    "P_s_low_k": ("p_s_low", "-"),
    "P_s_high_k": ("p_s_high", "-"),
}
_ENDINGS = {"value": "", "mean": "", "standard deviation": "_std"}
_PUBLISHED_MEMBERS = 100
_KEPT = 0.05  # P_s at high k above which the published table lists a candidate
_SHOWN_REASONS = 8
_UNITS = (
    "χ is the stability parameter in kJ mol⁻¹ nm⁻¹ (negative: stable) at k = 10⁸ m⁻¹ (low) and"
    " 2π/nm (high), λ the critical wavelength in nm (∞: stable at every wavelength), P_s the share"
    " of members with a stable interface, with its 95 % Wilson interval."
)
_TOP_NOTE = (
    "K and G are means over the members in GPa, v is the molar volume ratio; ± is one standard"
    " deviation over the members. Candidates with DFT moduli (`dft`) need no members: they have no"
    " spread, and their moduli stand in the data. In brackets behind λ: members without bound,"
    " which are not in its mean."
)
_HOW_TO_READ = (
    "The published ensemble learned from other crystals, with other labels, splits and settings"
    " than ours, and structures and moduli of the database have changed since: a difference tells"
    " how far the answer depends on all this, not which is right."
)


# --- the ranked list -----------------------------------------------------------------------------


def describe_screening(header: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Say what was screened by what, and what came out.

    Args:
        header: `run.json` of the screening.
        metrics: its `metrics.json`.
    """
    data, reasons = header["data"], metrics["reasons"]
    listed = [f"{count:,} {reason}" for reason, count in list(reasons.items())[:_SHOWN_REASONS]]
    listed += [f"{len(reasons) - _SHOWN_REASONS} other reasons"] * (len(reasons) > _SHOWN_REASONS)
    why = f" ({'; '.join(listed)})" if listed else ""
    return (
        f"Criterion `{metrics['criterion']}`, {metrics['n_members']} members in each ensemble;"
        f" candidates `{data['name']}`, {data['n_rows']:,} crystals, SHA-256"
        f" {data['sha256'][:12]}: {metrics['ranked']:,} ranked, of them {metrics['known']:,} by"
        f" DFT moduli and {metrics['outside_domain']:,} outside the training domain;"
        f" {metrics['listed']:,} listed by the criterion; {metrics['excluded']:,} excluded{why}."
    )


def top_text(table: pd.DataFrame, description: str, n: int = 30) -> str:
    """Give the first candidates in Markdown.

    Args:
        table: `screening.parquet`.
        description: what was screened.
        n: how many.
    """
    first = table.sort_values("rank", kind="stable").head(n)
    heads = (
        *("rank", "id", "formula", "λ (nm)", "P_s high", "P_s low", "χ high", "χ low"),
        *("K (GPa)", "G (GPa)", "v", "source", "in domain"),
    )
    lines = [f"# The first {len(first)} of {len(table):,} candidates", "", description, "", _UNITS]
    lines += ["", _TOP_NOTE, "", *head(*heads)]
    lines += [row_of(*_top_cells(row)) for row in _records(first)]
    return "\n".join(lines) + "\n"


def _top_cells(row: Mapping[str, Any]) -> Iterator[str]:
    yield from (str(row["rank"]), row["material_id"], row["formula"])
    yield wavelength(row)
    yield from (share(row, name) for name in ("p_s_high", "p_s_low"))
    yield from (_mean(row, name) for name in ("chi_high", "chi_low"))
    # The moduli of such a candidate are rows of the data, which a report does not repeat.
    is_known = row["source"] != "ensemble"
    yield from ("-" if is_known else _mean(row, name) for name in ("bulk_gpa", "shear_gpa"))
    yield from (f"{row['molar_volume_ratio']:.3f}", row["source"], inside(row))


def wavelength(row: Mapping[str, Any]) -> str:
    """Give the mean critical wavelength, and how many members have none."""
    mean = row.get("lambda_crit_nm", math.nan)
    text = "∞" if math.isinf(mean) else _mean(row, "lambda_crit_nm")
    n_unbounded, n_members = (row.get(name, math.nan) for name in ("n_unbounded", "n_members"))
    is_part = n_unbounded > 0 and math.isfinite(mean)
    return f"{text} ({n_unbounded:.0f} of {n_members:.0f} ∞)" if is_part else text


def share(row: Mapping[str, Any], name: str) -> str:
    """Give a pass probability, with its interval where there is one."""
    value, low, high = (row.get(key, math.nan) for key in (name, f"{name}_lo", f"{name}_hi"))
    if math.isnan(value):
        return "-"
    text = f"{value:.2f}" if value not in (0, 1) else f"{value:.0f}"
    return text if math.isnan(low) else f"{text} ({low:.2f} to {high:.2f})"


def inside(row: Mapping[str, Any]) -> str:
    """Say whether a candidate lies in the training domain; - where nobody asked."""
    value = row.get("in_domain")
    return "-" if value is None or pd.isna(value) else "yes" if value else "no"


def _mean(row: Mapping[str, Any], name: str) -> str:
    mean, std = row.get(name, math.nan), row.get(f"{name}_std", math.nan)
    if row["source"] != PUBLISHED or math.isnan(mean):
        return spread(mean, std)
    return f"{mean:g}" if math.isnan(std) else f"{mean:g} ± {std:g}"  # as it was printed


# --- published candidates ------------------------------------------------------------------------


def published_candidates(published: pd.DataFrame) -> pd.DataFrame:
    """Give the published candidates, one row each, under the names of our columns.

    Args:
        published: columns ``model, dataset, property, unit, n_train, metric, value, source``; of
            the candidates, the data set is formula and id.

    Raises:
        DataError: a value has another unit than ours, or there is no candidate.
    """
    found: dict[str, dict[str, Any]] = {}
    for line in _records(published[published["source"] == PUBLISHED]):
        formula, _, material_id = str(line["dataset"]).rpartition(" ")
        facts = {"formula": formula, "by": line["model"], "source": line["source"]}
        row = found.setdefault(material_id, {"material_id": material_id, **facts})
        if line["property"] in _COLUMNS and line["metric"] in _ENDINGS:
            name, unit = _COLUMNS[line["property"]]
            if line["unit"] != unit:
                raise DataError(
                    f"{material_id}: the published {line['property']} is in '{line['unit']}', ours"
                    f" in '{unit}'"
                )
            row[name + _ENDINGS[line["metric"]]] = float(line["value"])
    if not found:
        raise DataError(f"no published candidate: no row has the source '{PUBLISHED}'")
    return pd.DataFrame(found.values())


def published_beside(
    published: pd.DataFrame,
    table: pd.DataFrame,
    excluded: pd.DataFrame,
    *,
    ensemble_only: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Set what we find of each published candidate below what was published.

    Args:
        published: as `published_candidates` gives it.
        table: `screening.parquet`.
        excluded: `excluded.csv`.
        ensemble_only: the table of a screening in which members speak for every candidate.

    Returns:
        Per candidate a published row, ours, and, where ours has DFT moduli or is missing, that of
        `ensemble_only`. Columns of `published_candidates` and of the table, ``of`` (candidates
        ranked), ``screening`` (which of the two) and ``reason`` (why ours is missing; or empty).
    """
    rows = list[dict[str, Any]]()
    reasons = dict(zip(excluded["material_id"], excluded["reason"], strict=True))
    ours = _by_id(table)
    members = {} if ensemble_only is None else _by_id(ensemble_only)
    for candidate in _records(published):
        key = candidate["material_id"]
        rows.append({**candidate, "reason": ""})
        own = ours.get(key)
        if own is None:
            reason = f"excluded: {reasons[key]}" if key in reasons else "not among the candidates"
            names = {"material_id": key, "formula": candidate["formula"], "by": "ours"}
            rows.append({**names, "source": "this study", "reason": reason})
        else:
            rows.append(_own_row(own, len(table)))
        if key in members and (own is None or own["source"] != "ensemble"):
            rows.append({**_own_row(members[key], len(members)), "screening": "ensemble only"})
    return pd.DataFrame(rows)


def _by_id(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["material_id"]: row for row in _records(table)}


def _own_row(row: Mapping[str, Any], n: int) -> dict[str, Any]:
    is_known = row["source"] != "ensemble"
    by = "ours, DFT moduli" if is_known else f"ours, ensemble of {row['n_members']:.0f}"
    kept = ("rank", "n_members", "n_unbounded", "in_domain", "domain_distance", "unseen_elements")
    values = {name: row.get(name) for name in kept}
    for name, _ in _COLUMNS.values():
        values |= {
            name + end: row[name + end] for end in ("", "_std", "_lo", "_hi") if name + end in row
        }
    names = {"material_id": row["material_id"], "formula": row["formula"], "by": by}
    told = {"of": n, "screening": "main", "source": "this study", "reason": ""}
    return {**names, **values, **told}


def published_text(beside: pd.DataFrame) -> str:
    """Give what `published_beside` found in Markdown."""
    heads = ("candidate", "by", "χ low", "χ high", "λ (nm)", "P_s low", "P_s high")
    lines = ["# The published candidates beside ours", "", _HOW_TO_READ, "", _UNITS, ""]
    lines += [compare_in_words(beside), ""]
    lines += head(*heads, "our rank", "in domain", "source")
    lines += [row_of(*_published_cells(row)) for row in _records(beside)]
    return "\n".join(lines) + "\n"


def _published_cells(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"{row['formula']} {row['material_id']}"
    yield row["by"] if not row["reason"] else f"{row['by']}: {row['reason']}"
    yield from (_mean(row, name) for name in ("chi_low", "chi_high"))
    yield wavelength(row)
    yield from (share(row, name) for name in ("p_s_low", "p_s_high"))
    rank, of = row.get("rank"), row.get("of")
    yield "-" if rank is None or pd.isna(rank) else f"{rank:.0f} of {of:,.0f}"
    yield from (inside(row), row["source"])


def compare_in_words(beside: pd.DataFrame) -> str:
    """Say how many of the published candidates we rank, and how far the two ensembles agree."""
    is_ours = beside["by"].str.startswith("ours")
    published, ours = beside[~is_ours], beside[is_ours & (beside["reason"] == "")]
    first = ours.reindex(columns=[*ours, "screening"]) if "screening" not in ours else ours
    first = first[first["screening"] == "main"]
    said = f"Of {len(published)} published candidates, {len(first)} are ranked by us"
    if len(first):
        n_kept = int((first["p_s_high"] > _KEPT).sum())
        ranks = first["rank"]
        said += (
            f", at {ranks.min():.0f} to {ranks.max():.0f} (median {ranks.median():.0f}) of"
            f" {first['of'].iloc[0]:,.0f}; {n_kept} of them have P_s above {_KEPT} at high k"
        )
    theirs = published[published["by"].str.contains("ensemble")]
    pairs = theirs.merge(
        ours[ours["by"].str.contains("ensemble")], on="material_id", suffixes=("_theirs", "")
    )
    if not len(pairs):
        return f"{said}."
    counts = [
        f"{_n_within(pairs, name)} ({symbol})"
        for name, symbol in (("chi_low", "χ low"), ("chi_high", "χ high"), ("lambda_crit_nm", "λ"))
    ]
    return (
        f"{said}. For {len(pairs)} candidates both have ensembles. The published mean lies within"
        f" one of our standard deviations of our mean for {', '.join(counts)} of them. The two P_s"
        f" at high k differ by no more than the draw of so few members explains for"
        f" {_n_same_share(pairs)}."
    )


def _n_same_share(pairs: pd.DataFrame) -> int:
    """Count the candidates whose two P_s have 0 in the 95 % interval of their difference.

    Newcombe, Stat. Med. 1998, 17, 873, method 10: Wilson's interval of each.
    """
    theirs, ours = pairs["p_s_high_theirs"].to_numpy(), pairs["p_s_high"].to_numpy()
    low, high = wilson_interval(theirs * _PUBLISHED_MEMBERS, _PUBLISHED_MEMBERS)
    own_low, own_high = pairs["p_s_high_lo"].to_numpy(), pairs["p_s_high_hi"].to_numpy()
    difference = theirs - ours
    down = np.hypot(theirs - low, own_high - ours)
    up = np.hypot(high - theirs, ours - own_low)
    return int(((difference - down <= 0) & (difference + up >= 0)).sum())


def _n_within(pairs: pd.DataFrame, name: str) -> int:
    """Count the candidates whose published mean is at most one of our deviations from ours."""
    difference = (pairs[f"{name}_theirs"] - pairs[name]).abs()
    return int((difference <= pairs[f"{name}_std"]).sum())


# --- JSON ----------------------------------------------------------------------------------------


def jsonable(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Give rows as JSON has them: what is missing is left out, infinity is the word inf."""
    found = []
    for row in _records(rows):
        kept = {key: value for key, value in row.items() if not _is_missing(value)}
        found.append({key: _plain(value) for key, value in kept.items()})
    return found


def _is_missing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
