//! Exact tails of the two laws that a keyed score follows under the null hypothesis.
//!
//! Every tail is a point mass times a continued fraction, in logarithms. The point mass is Loader's
//! saddle-point form (C. Loader, "Fast and accurate computation of binomial probabilities", 2000): three
//! Stirling errors and two deviances, none of which cancel. The fractions have positive terms, so they
//! lose no digits; they are computed on the far side of the mean, and the near side is the complement.
//!
//! Error in ln p: below 1e-11, or 1e-13 of |ln p| beyond 1000, for n and shape up to 1e8 (`tests/tails.rs`,
//! against 70-digit arithmetic). Cost: a fraction of a microsecond in the tail; at the mean the number of
//! terms grows as the square root of n. Nothing is capped.

use std::f64::consts::{LN_2, PI};

use super::LnP;

/// Upper tail ln P(X >= k) of X ~ Binomial(n, p), where `q` = 1 - p.
///
/// `q` comes separately so that neither of the two is lost to rounding when it is small; both lie
/// strictly between 0 and 1. No trials, n = 0, are p = 1.
/// More successes than trials are a bug of the caller: debug builds panic, release builds take k = n.
pub fn ln_binomial_sf(k: u64, n: u64, p: f64, q: f64) -> LnP {
    debug_assert!(
        p > 0.0 && q > 0.0 && (p + q - 1.0).abs() < 1e-9,
        "p = {p}, q = {q}"
    );
    debug_assert!(k <= n, "{k} successes in {n} trials");
    if k == 0 || n == 0 {
        return LnP::ONE;
    }
    let (k, n) = (k.min(n) as f64, n as f64);
    let ln = if k >= (n + 1.0) * p {
        ln_binomial_far(k, n, p, q)
    } else {
        ln_1m_exp(ln_binomial_far(n - k + 1.0, n, q, p))
    };
    LnP::from_ln(ln)
}

/// Lower tail ln P(X <= k) of X ~ Binomial(n, p), where `q` = 1 - p: the upper tail of the failures.
/// As in [`ln_binomial_sf`], k > n is a bug of the caller, and n = 0 is p = 1.
pub fn ln_binomial_cdf(k: u64, n: u64, p: f64, q: f64) -> LnP {
    debug_assert!(k <= n, "{k} successes in {n} trials");
    ln_binomial_sf(n - k.min(n), n, q, p)
}

/// Upper tail ln P(X >= x) = ln Q(shape, x) of X ~ Gamma(shape, rate 1).
///
/// `shape` is the number of cells, where 0 is p = 1; below 1/2 the stated accuracy does not hold.
/// `x` is finite and not negative.
pub fn ln_gamma_sf(shape: f64, x: f64) -> LnP {
    assert_gamma(shape, x);
    if shape == 0.0 || x <= 0.0 {
        return LnP::ONE;
    }
    LnP::from_ln(if x >= shape + 1.0 {
        ln_gamma_above(shape, x)
    } else {
        ln_1m_exp(ln_gamma_below(shape, x))
    })
}

/// Lower tail ln P(X <= x) = ln P(shape, x) of X ~ Gamma(shape, rate 1); the arguments as in
/// [`ln_gamma_sf`]. Its probability 0 at x = 0, which no data reach, is read at the smallest positive x.
pub fn ln_gamma_cdf(shape: f64, x: f64) -> LnP {
    assert_gamma(shape, x);
    if shape == 0.0 {
        return LnP::ONE;
    }
    let x = x.max(f64::MIN_POSITIVE);
    LnP::from_ln(if x < shape + 1.0 {
        ln_gamma_below(shape, x)
    } else {
        ln_1m_exp(ln_gamma_above(shape, x))
    })
}

fn assert_gamma(shape: f64, x: f64) {
    debug_assert!(shape >= 0.0 && shape.is_finite(), "shape = {shape}");
    debug_assert!(x >= 0.0 && x.is_finite(), "x = {x}");
}

/// ln(1 - e^x) for x <= 0, to full precision at both ends (M. Mächler, "Accurately computing
/// log(1 - exp(-|a|))", 2012).
pub fn ln_1m_exp(x: f64) -> f64 {
    debug_assert!(x <= 0.0, "1 - e^{x} is negative");
    if x > -LN_2 {
        (-x.exp_m1()).ln()
    } else {
        (-x.exp()).ln_1p()
    }
}

/// ln(e^x + e^y) without overflow; minus infinity stands for an empty sum.
pub fn ln_add_exp(x: f64, y: f64) -> f64 {
    let (low, high) = if x < y { (x, y) } else { (y, x) };
    if low == f64::NEG_INFINITY {
        high
    } else {
        high + (low - high).exp().ln_1p()
    }
}

/// ln P(X = k) of X ~ Binomial(n, p), 0 <= k <= n, after Loader:
/// ln sqrt(n / (2 pi k (n - k))) + e(n) - e(k) - e(n - k) - D(k, np) - D(n - k, nq),
/// with e the [`stirling_error`] and D the [`deviance`].
pub(super) fn ln_binomial_pmf(k: f64, n: f64, p: f64, q: f64) -> f64 {
    let rest = n - k;
    // p^n from the smaller of p and q: ln p loses digits of q as p approaches 1.
    let ln_power = |p: f64, q: f64| n * if q < 0.5 { (-q).ln_1p() } else { p.ln() };
    if rest == 0.0 {
        return ln_power(p, q);
    }
    if k == 0.0 {
        return ln_power(q, p);
    }
    let surplus = surplus(k, n, p, q);
    let errors = stirling_error(n) - stirling_error(k) - stirling_error(rest);
    let deviances = deviance(k, n * p, surplus) + deviance(rest, n * q, -surplus);
    0.5 * (n / (2.0 * PI * k * rest)).ln() + errors - deviances
}

/// k - n p: from the smaller of p and q, because the larger is rounded to 1e-16, which n trials magnify; and
/// fused, because the product is rounded too.
fn surplus(k: f64, n: f64, p: f64, q: f64) -> f64 {
    if p < q {
        n.mul_add(-p, k)
    } else {
        n.mul_add(q, k - n)
    }
}

/// ln P(X = a) of X ~ Poisson(x), continued to real a > 0 as ln(x^a e^-x / Gamma(a + 1)).
fn ln_poisson_pmf(a: f64, x: f64) -> f64 {
    -0.5 * (2.0 * PI * a).ln() - stirling_error(a) - deviance(a, x, a - x)
}

/// ln P(X >= k) of X ~ Binomial(n, p) for 1 <= k <= n and k >= (n + 1) p, about: the incomplete beta
/// function I_p(a, b), a = k, b = n - k + 1, as k q P(X = k) over the fraction of Didonato and Morris
/// (ACM TOMS 18, 360, 1992). Its terms are positive, since b is an integer: it ends at m = b.
fn ln_binomial_far(k: f64, n: f64, p: f64, q: f64) -> f64 {
    let (a, b) = (k, n - k + 1.0);
    let excess = surplus(k, n + 1.0, p, q);
    let fraction = continued_fraction(a / (a + 1.0) * (excess + 1.0), |m| {
        let (here, next) = (a + 2.0 * m - 1.0, a + 2.0 * m + 1.0);
        let step = m * (b - m) * p / here;
        let numerator = (a + m - 1.0) * (n + m) * p / here * step;
        let denominator = m + step + (a + m) / next * (excess + 1.0 + m * (1.0 + q));
        (numerator, denominator)
    });
    ln_binomial_pmf(k, n, p, q) + (k * q).ln() - fraction.ln()
}

/// ln P(X <= x) of X ~ Gamma(a, 1), for x < a + 1: the limit of the fraction of [`ln_binomial_far`] as n
/// grows and n p stays x, because the a-th point of a Poisson process comes before x if at least a do.
fn ln_gamma_below(a: f64, x: f64) -> f64 {
    let excess = a - x;
    let fraction = continued_fraction(a / (a + 1.0) * (excess + 1.0), |m| {
        let (here, next) = (a + 2.0 * m - 1.0, a + 2.0 * m + 1.0);
        let step = m * x / here;
        let numerator = (a + m - 1.0) * x / here * step;
        let denominator = m + step + (a + m) / next * (excess + 1.0 + 2.0 * m);
        (numerator, denominator)
    });
    ln_poisson_pmf(a, x) + a.ln() - fraction.ln()
}

/// ln P(X >= x) of X ~ Gamma(a, 1), for x >= a + 1: Legendre's fraction (DLMF 8.9.2, contracted).
fn ln_gamma_above(a: f64, x: f64) -> f64 {
    let excess = x - a;
    let fraction = continued_fraction(excess + 1.0, |m| (m * (a - m), excess + 1.0 + 2.0 * m));
    ln_poisson_pmf(a, x) + a.ln() - fraction.ln()
}

/// The continued fraction first + n(1) / (d(1) + n(2) / (d(2) + ...)), where `term(m)` = (n(m), d(m)), by
/// Lentz's method: c and d are the ratios of successive numerators and denominators of the convergents,
/// and their product is the factor from one convergent to the next.
fn continued_fraction(first: f64, term: impl Fn(f64) -> (f64, f64)) -> f64 {
    let mut value = first;
    let (mut c, mut d) = (first, 0.0);
    let (mut m, mut change) = (0.0, f64::INFINITY);
    while (change - 1.0).abs() > f64::EPSILON {
        m += 1.0;
        let (numerator, denominator) = term(m);
        c = denominator + numerator / c;
        d = 1.0 / (denominator + numerator * d);
        change = c * d;
        value *= change;
    }
    value
}

/// Error of Stirling's formula, ln Gamma(x + 1) - ln(sqrt(2 pi x) (x / e)^x), for x > 0.
/// Asymptotic series from 16 on, where the first term left out is 1e-16; below, Gamma's recurrence.
fn stirling_error(x: f64) -> f64 {
    if x >= 16.0 {
        let y = 1.0 / (x * x);
        let series = 1.0 / 1680.0 - y / 1188.0;
        return (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * series))) / x;
    }
    let stirling = |x: f64| 0.5 * (2.0 * PI * x).ln() + x * x.ln() - x;
    let (mut up, mut product) = (x, 1.0);
    while up < 16.0 {
        up += 1.0;
        product *= up;
    }
    stirling_error(up) + stirling(up) - product.ln() - stirling(x)
}

/// Deviance D(x, m) = x ln(x / m) + m - x >= 0 of an observation x > 0 from its mean m, with
/// `difference` = x - m from the caller, who knows it more exactly. Relative error a few ulps: near the
/// mean by the series in v = (x - m) / (x + m), where ln(x / m) = 2 artanh v.
pub(super) fn deviance(x: f64, m: f64, difference: f64) -> f64 {
    let v = difference / (x + m);
    if v.abs() >= 0.1 {
        return x * (x / m).ln() - difference;
    }
    let mut sum = difference * v;
    let (mut power, mut odd) = (2.0 * x * v * v * v, 3.0);
    while power.abs() > f64::EPSILON * sum {
        sum += power / odd;
        power *= v * v;
        odd += 2.0;
    }
    sum
}
