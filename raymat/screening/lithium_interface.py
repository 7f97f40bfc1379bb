r"""Is the interface between lithium metal and a solid electrolyte stable against dendrites?

A sinusoidal bump of wavenumber k on the lithium surface changes the electrochemical potential of
an electron there. The stability parameter chi(k) is that change per height of the bump: negative
where the bump is plated more slowly than its surroundings, so that it levels out (**stable**), and
positive where it grows. Both sides are isotropic elastic solids.

.. math:: \chi(k) = \underbrace{-\frac{\gamma V_M (1+v)}{2z} k^2}_\text{surface tension}
          + \underbrace{\frac{2 G_e G_s V_M (1+v) Q}{z D} k}_\text{deviatoric stress}
          + \underbrace{\frac{V_M (1-v) P}{2 z D} k}_\text{hydrostatic stress}

with, for lithium (index e, the electrode) and the electrolyte (index s, the candidate),

.. math:: D &= G_e (\nu_e - 1)(4\nu_s - 3) + G_s (4\nu_e - 3)(\nu_s - 1) > 0 \\
          Q &= \nu_e (4\nu_s - 3) - 3\nu_s + 2 \\
          P &= G_e^2 (4\nu_s - 3) + G_s^2 (3 - 4\nu_e)

==========  ===========  ==========================================================================
symbol      unit         meaning
==========  ===========  ==========================================================================
k           1/m          wavenumber of the bump, 2 pi over its wavelength
G_e, G_s    GPa          shear moduli of lithium and of the electrolyte
nu_e, nu_s  1            their Poisson ratios
v           1            partial molar volume of Li+ in the electrolyte over that of lithium metal
V_M         m3/mol       molar volume of lithium metal
gamma       J/m2         surface tension of lithium
z           1            charge of Li+
chi         kJ/(mol nm)  the stability parameter
==========  ===========  ==========================================================================

Sources: Ahmad & Viswanathan, Phys. Rev. Lett. 2017, 119, 056003 (chi and its three terms); Ahmad,
Xie, Maheshwari, Grossman & Viswanathan, ACS Cent. Sci. 2018, 4, 996, doi:10.1021/acscentsci.8b00229
(v from the coordination of Li, constants, screening).

Everything is linear algebra on arrays: moduli (n_members, n_candidates) go with volume ratios
(n_candidates,), and every function gives what its inputs broadcast to. chi is not linear in the
moduli: average chi over the members of an ensemble, never give it the average moduli. Where a
modulus or a ratio is missing or impossible, so is the result: nan, without a warning.
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Numbers = float | Values

# Lithium metal, as in Ahmad et al. 2018.
LITHIUM_SHEAR_GPA = 3.4  # G_e
LITHIUM_POISSON_RATIO = 0.42  # nu_e
LITHIUM_MOLAR_VOLUME = 1.3e-5  # V_M, m3/mol
LITHIUM_SURFACE_TENSION = 0.556  # gamma, J/m2
LITHIUM_ION_CHARGE = 1  # z

AVOGADRO = 6.022e23  # 1/mol, with the digits behind the published volume ratios
SHANNON_RADII = {4: 0.59, 6: 0.76, 8: 0.92}  # Å, Li+ by coordination; Acta Cryst. A 1976, 32, 751
RADIUS_SLOPE = 0.0825  # Å; the least-squares line through the three radii
RADIUS_INTERCEPT = 2.27 / 3 - 6 * RADIUS_SLOPE  # Å, 0.26167

LOW_WAVENUMBER = 1e8  # 1/m, a wavelength of 63 nm
HIGH_WAVENUMBER = 2 * np.pi / 1e-9  # 1/m, a wavelength of 1 nm

_PA_PER_GPA = 1e9
_NM_PER_M = 1e9
_KJ_PER_MOL_NM = 1e-12  # of 1 J/(mol m)
_LARGEST_MODULUS = 1e100  # GPa; the square of a modulus in Pa must stay a number


def poisson_ratio(bulk: Numbers, shear: Numbers) -> Values:
    r"""Give the Poisson ratio of an isotropic solid, between -1 and 0.5.

    .. math:: \nu = \frac{3K - 2G}{2 (3K + G)}

    Args:
        bulk: bulk modulus K, in any unit.
        shear: shear modulus G, in the same unit.
    """
    K, G = _moduli(bulk), _moduli(shear)  # noqa: N806 (the paper's letters)
    ratio: Values = (3 * K - 2 * G) / (2 * (3 * K + G))
    return ratio


def lithium_radius(coordination: Numbers) -> Values:
    """Give the radius of Li+ in Å from its coordination number.

    The least-squares straight line through Shannon's radii for coordination 4, 6 and 8, also
    beyond them: r = 0.26167 Å + 0.0825 Å * coordination. As in Ahmad et al. 2018 it is one line
    and not an interpolation: coordination 6 gives 0.75667 Å, not 0.76 Å.
    """
    return RADIUS_INTERCEPT + RADIUS_SLOPE * np.asarray(coordination, dtype=np.float64)


def molar_volume_ratio(coordination: Numbers) -> Values:
    r"""Give v, the molar volume of Li+ in the electrolyte over that of lithium metal.

    .. math:: v = \frac{4}{3} \pi r^3 N_A / V_M, \quad r = r(\text{coordination})

    Args:
        coordination: mean coordination number of the Li sites, weighted by solid angle.
    """
    radius_m = lithium_radius(coordination) * 1e-10
    ratio: Values = 4 / 3 * np.pi * radius_m**3 * AVOGADRO / LITHIUM_MOLAR_VOLUME
    return ratio


def stability_parameter(
    bulk_gpa: Numbers, shear_gpa: Numbers, volume_ratio: Numbers, wavenumber: Numbers
) -> Values:
    """Give chi(k) in kJ/(mol nm); below zero the interface is stable against bumps of that k.

    The sum of `surface_term`, `deviatoric_term` and `hydrostatic_term`.

    Args:
        bulk_gpa: bulk modulus K of the electrolyte, GPa.
        shear_gpa: shear modulus G_s of the electrolyte, GPa.
        volume_ratio: v, see `molar_volume_ratio`.
        wavenumber: k, 1/m.
    """
    poisson = poisson_ratio(bulk_gpa, shear_gpa)
    return (
        surface_term(volume_ratio, wavenumber)
        + deviatoric_term(shear_gpa, poisson, volume_ratio, wavenumber)
        + hydrostatic_term(shear_gpa, poisson, volume_ratio, wavenumber)
    )


def surface_term(volume_ratio: Numbers, wavenumber: Numbers) -> Values:
    r"""Give what surface tension adds to chi, kJ/(mol nm): always stabilising.

    .. math:: -\gamma V_M (1+v) k^2 / (2z)
    """
    v, k = _ratio(volume_ratio), np.asarray(wavenumber, dtype=np.float64)
    gamma, V_M, z = LITHIUM_SURFACE_TENSION, LITHIUM_MOLAR_VOLUME, LITHIUM_ION_CHARGE  # noqa: N806
    return -gamma * V_M * (1 + v) * k**2 / (2 * z) * _KJ_PER_MOL_NM


def deviatoric_term(
    shear_gpa: Numbers, poisson: Numbers, volume_ratio: Numbers, wavenumber: Numbers
) -> Values:
    r"""Give what deviatoric stress adds to chi, kJ/(mol nm): always destabilising.

    .. math:: 2 G_e G_s V_M (1+v) Q k / (z D)
    """
    v, k = _ratio(volume_ratio), np.asarray(wavenumber, dtype=np.float64)
    G_e, G_s = _shear_moduli_pa(shear_gpa)  # noqa: N806
    V_M, z = LITHIUM_MOLAR_VOLUME, LITHIUM_ION_CHARGE  # noqa: N806
    Q, D = _q(poisson), _d(G_s, poisson)  # noqa: N806
    return 2 * G_e * G_s * V_M * (1 + v) * Q * k / (z * D) * _KJ_PER_MOL_NM


def hydrostatic_term(
    shear_gpa: Numbers, poisson: Numbers, volume_ratio: Numbers, wavenumber: Numbers
) -> Values:
    r"""Give what hydrostatic stress adds to chi, kJ/(mol nm): stabilising for a soft electrolyte.

    .. math:: V_M (1-v) P k / (2 z D)
    """
    v, k = _ratio(volume_ratio), np.asarray(wavenumber, dtype=np.float64)
    _, G_s = _shear_moduli_pa(shear_gpa)  # noqa: N806
    V_M, z = LITHIUM_MOLAR_VOLUME, LITHIUM_ION_CHARGE  # noqa: N806
    P, D = _p(G_s, poisson), _d(G_s, poisson)  # noqa: N806
    return V_M * (1 - v) * P * k / (2 * z * D) * _KJ_PER_MOL_NM


def critical_wavenumber(bulk_gpa: Numbers, shear_gpa: Numbers, volume_ratio: Numbers) -> Values:
    r"""Give k_crit in 1/m, above which surface tension makes the interface stable.

    The root of chi(k) = A k (k_crit - k) with A = gamma V_M (1+v) / (2z), free of V_M and z:

    .. math:: k_\text{crit} = \frac{4 G_e G_s (1+v) Q + (1-v) P}{\gamma (1+v) D}

    At or below zero the interface is stable at every k.

    Args:
        bulk_gpa: bulk modulus K of the electrolyte, GPa.
        shear_gpa: shear modulus G_s of the electrolyte, GPa.
        volume_ratio: v.
    """
    v, poisson = _ratio(volume_ratio), poisson_ratio(bulk_gpa, shear_gpa)
    G_e, G_s = _shear_moduli_pa(shear_gpa)  # noqa: N806
    Q, P, D = _q(poisson), _p(G_s, poisson), _d(G_s, poisson)  # noqa: N806
    stress = 4 * G_e * G_s * (1 + v) * Q + (1 - v) * P
    root: Values = stress / (LITHIUM_SURFACE_TENSION * (1 + v) * D)
    return root


def critical_wavelength_nm(bulk_gpa: Numbers, shear_gpa: Numbers, volume_ratio: Numbers) -> Values:
    """Give lambda_crit = 2 pi / k_crit in nm: bumps of a longer wavelength grow.

    Infinite where the interface is stable at every k (k_crit <= 0), never negative. Leave the
    infinite values out of a mean over members, and say how many they were.

    Args:
        bulk_gpa: bulk modulus K of the electrolyte, GPa.
        shear_gpa: shear modulus G_s of the electrolyte, GPa.
        volume_ratio: v.
    """
    k_crit = critical_wavenumber(bulk_gpa, shear_gpa, volume_ratio)
    wavelength = 2 * np.pi / np.where(k_crit > 0, k_crit, 1.0) * _NM_PER_M
    return np.select([k_crit > 0, k_crit <= 0], [wavelength, np.inf], np.nan)


def stability_boundary(volume_ratio: Numbers, poisson: Numbers) -> Values:
    r"""Give g = G_s/G_e below which stress alone keeps the interface stable, at every k.

    The positive root of B = 0, where chi = B k - A k^2:

    .. math:: (1-v)(3-4\nu_e) g^2 + 4(1+v) Q g - (1-v)(3-4\nu_s) = 0

    Args:
        volume_ratio: v from 0 to 1; nan beyond, where the sign of the hydrostatic term turns and
            the soft electrolytes are the unstable ones.
        poisson: nu_s of the electrolyte, from -1 to 0.5.
    """
    v, nu_s = _ratio(volume_ratio), _poisson(poisson)
    v = np.where(v <= 1, v, np.nan)
    a = (1 - v) * (3 - 4 * LITHIUM_POISSON_RATIO)
    b = 4 * (1 + v) * _q(nu_s)
    c = (1 - v) * (3 - 4 * nu_s)
    # b > 0: this form of the root neither cancels nor divides by a = 0 at v = 1.
    root: Values = 2 * c / (b + np.sqrt(b**2 + 4 * a * c))
    return root


def _d(G_s: Values, poisson: Numbers) -> Values:  # noqa: N803
    """D in Pa; above zero for every possible Poisson ratio."""
    nu_e, nu_s = LITHIUM_POISSON_RATIO, _poisson(poisson)
    G_e = LITHIUM_SHEAR_GPA * _PA_PER_GPA  # noqa: N806
    return G_e * (nu_e - 1) * (4 * nu_s - 3) + G_s * (4 * nu_e - 3) * (nu_s - 1)


def _q(poisson: Numbers) -> Values:
    """Q; above zero for every possible Poisson ratio."""
    nu_e, nu_s = LITHIUM_POISSON_RATIO, _poisson(poisson)
    return nu_e * (4 * nu_s - 3) - 3 * nu_s + 2


def _p(G_s: Values, poisson: Numbers) -> Values:  # noqa: N803
    """P in Pa2; its sign decides whether hydrostatic stress stabilises."""
    nu_e, nu_s = LITHIUM_POISSON_RATIO, _poisson(poisson)
    G_e = LITHIUM_SHEAR_GPA * _PA_PER_GPA  # noqa: N806
    return G_e**2 * (4 * nu_s - 3) + G_s**2 * (3 - 4 * nu_e)


def _shear_moduli_pa(shear_gpa: Numbers) -> tuple[float, Values]:
    """(G_e, G_s) in Pa."""
    return LITHIUM_SHEAR_GPA * _PA_PER_GPA, _moduli(shear_gpa) * _PA_PER_GPA


def _moduli(values: Numbers) -> Values:
    moduli = np.asarray(values, dtype=np.float64)
    return np.where((moduli > 0) & (moduli < _LARGEST_MODULUS), moduli, np.nan)


def _poisson(values: Numbers) -> Values:
    ratios = np.asarray(values, dtype=np.float64)
    return np.where((ratios >= -1) & (ratios <= 0.5), ratios, np.nan)


def _ratio(values: Numbers) -> Values:
    ratios = np.asarray(values, dtype=np.float64)
    return np.where((ratios >= 0) & np.isfinite(ratios), ratios, np.nan)
