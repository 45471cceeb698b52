"""Writes binomial.csv, gamma.csv and ks.csv: reference tails to 25 digits. Needs mpmath; `python generate.py`.

The sums run from the tail's first term outwards, each term an exact rational ratio of the one before, in integers
scaled by 2^SCALE; the first term comes from log-gamma at 70 digits. Only the far side of the mean is summed. Nothing
here resembles the method under test. A subset is then computed a second way, and must agree to 40 digits.
"""

import random
from fractions import Fraction
from math import comb
from pathlib import Path

from mpmath import betainc, exp, factorial, gammainc, log, log1p, loggamma, mp, mpf, nstr

mp.dps = 70
SCALE = 260
ONE = 1 << SCALE
HERE = Path(__file__).parent


def real(f):
    return mpf(f.numerator) / f.denominator


def ln_1m_exp(x):
    return log1p(-exp(x))


def line(*columns):
    return ",".join(c if isinstance(c, str) else nstr(c, 25) if isinstance(c, mpf) else repr(c) for c in columns)


def is_near(x, mean):
    return x > 0 and abs(x - mean) < 10 * mean**0.5


# Binomial.


def ln_binomial_far(k, n, p):
    """ln P(X >= k), k above the mean."""
    q = 1 - p
    odds = p / q
    term, total, j = ONE, 0, k
    while term and j <= n:
        total += term
        term = term * ((n - j) * odds.numerator) // ((j + 1) * odds.denominator)
        j += 1
    first = loggamma(n + 1) - loggamma(k + 1) - loggamma(n - k + 1) + k * log(real(p)) + (n - k) * log(real(q))
    return first + log(mpf(total) / ONE)


def ln_binomial_sf(k, n, p):
    if k == 0:
        return mpf(0)
    if k >= n * p:
        return ln_binomial_far(k, n, p)
    return ln_1m_exp(ln_binomial_far(n - k + 1, n, 1 - p))


def ln_binomial_cdf(k, n, p):
    return ln_binomial_sf(n - k, n, 1 - p)


def binomial_cases():
    # The last two are not multiples of a power of 1/2: p is the double nearest to the decimal, q = 1 - p exactly.
    for p in [0.5, 0.25, 0.0625, 3 / 256, 77 / 256, 1 / 65536, 0.9, 0.7]:
        for n in [1, 2, 3, 7, 20, 100, 1000, 10**4, 10**5, 10**6, 10**7, 10**8]:
            mean, sd = n * p, max(1.0, (n * p * (1 - p)) ** 0.5)
            ks = {0, 1, n - 1, n, round(mean), round(mean) + 1}
            ks |= {round(mean + z * sd) for z in (-300, -37, -9, -3, -1, 0.3, 1, 2, 3, 5, 9, 37, 300, 3000)}
            ks |= {round(mean / 2), round((mean + n) / 2)}
            yield from ((k, n, p) for k in sorted(ks) if 0 <= k <= n)
    # The published row of tests/tails.rs.
    yield (64239, 248201, 0.25)


def check_binomial(cases):
    small = [c for c in cases if c[1] <= 1000]
    for k, n, p in random.sample(small, 60):
        p = Fraction(p)
        exact = sum(comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1))
        assert abs(ln_binomial_sf(k, n, p) - log(real(exact))) < mpf(10) ** -40, (k, n, p)
    for k, n, p in [(523, 1000, 0.5), (5100, 10**4, 0.5), (200, 10**4, 3 / 256)]:
        second = log(betainc(k, n - k + 1, 0, mpf(p), regularized=True))
        assert abs(ln_binomial_sf(k, n, Fraction(p)) - second) < mpf(10) ** -40, (k, n, p)
    # Both tails summed, each from its own first term: they meet only if both are right.
    for k, n, p in random.sample([c for c in cases if is_near(c[0], c[1] * c[2])], 60):
        p = Fraction(p)
        both = exp(ln_binomial_far(k, n, p)) + exp(ln_binomial_far(n - k + 1, n, 1 - p))
        assert abs(both - 1) < mpf(10) ** -40, (k, n, p)


# Gamma.


def ln_gamma_first(a, x):
    """ln of x^a e^-x / Gamma(a + 1)."""
    return a * log(x) - x - loggamma(a + 1)


def ln_gamma_below(a, x):
    """ln P(a, x) for x < a + 1: x^a e^-x sum over j of x^j / Gamma(a + j + 1)."""
    term, total, j = ONE, 0, 1
    while term:
        total += term
        term = term * x.numerator * a.denominator // ((a.numerator + j * a.denominator) * x.denominator)
        j += 1
    return ln_gamma_first(real(a), real(x)) + log(mpf(total) / ONE)


def ln_gamma_above(a, x):
    """ln Q(a, x) for x >= a + 1 by the finite sum over j < a for integer a, else by mpmath."""
    if a.denominator > 1:
        return log(gammainc(real(a), real(x), regularized=True))
    term, total, j = ONE, 0, int(a) - 1
    while term:
        total += term
        term = term * j * x.denominator // x.numerator
        j -= 1
    return ln_gamma_first(mpf(int(a) - 1), real(x)) + log(mpf(total) / ONE)


def ln_gamma_tails(a, x):
    a, x = Fraction(a), Fraction(x)
    if x < a + 1:
        below = ln_gamma_below(a, x)
        return ln_1m_exp(below), below
    above = ln_gamma_above(a, x)
    return above, ln_1m_exp(above)


def gamma_cases():
    for a in [0.5, 1.0, 1.5, 2.0, 3.0, 7.0, 17.5, 20.0, 50.0, 100.0, 1e3, 1e4, 5e4, 1e5, 1e6, 3e6, 1e7, 3e7, 1e8, 248_200.0, 99_999_999.0]:
        sd = a**0.5
        xs = {a, a + 0.5, a + 1, 0.001 * a, 0.1 * a, 0.5 * a, 0.8 * a, 1.2 * a, 2 * a, 10 * a}
        if a == int(a):
            xs.add(100 * a)
        xs |= {a + z * sd for z in (-300, -37, -9, -5, -3, -2, -1, -0.1, 0.1, 0.7, 1, 2, 3, 5, 9, 37, 300)}
        # Two decimals, so that the file stays legible; the double nearest to them is what both sides read.
        yield from ((a, x) for x in sorted({round(x, 2) for x in xs}) if x > 0)
        yield from ((a, z * 0.001) for z in (1, 10))


def check_gamma(cases):
    for a, x in random.sample([c for c in cases if c[0] <= 100 and is_near(c[1], c[0])], 20):
        tails = ln_gamma_tails(a, x)
        second = log(gammainc(a, x, regularized=True)), log(gammainc(a, 0, x, regularized=True))
        assert all(abs(t - s) < mpf(10) ** -40 for t, s in zip(tails, second)), (a, x)
    for a, x in random.sample([c for c in cases if c[0] == int(c[0]) and is_near(c[1], c[0])], 60):
        a, x = Fraction(a), Fraction(x)
        assert abs(exp(ln_gamma_above(a, x)) + exp(ln_gamma_below(a, x)) - 1) < mpf(10) ** -40, (a, x)


# Kolmogorov-Smirnov.


def ks_p(n, d):
    """P(D_n >= d) by Steck's determinant (Ann. Math. Statist. 42, 1, 1971), expanded along its Hessenberg shape.

    The expansion cancels about a quarter of n digits.
    """
    d = Fraction(d)
    upper = [min(Fraction(1), Fraction(i, n) + d) for i in range(n)]
    lower = [max(Fraction(0), Fraction(i + 1, n) - d) for i in range(n)]
    with mp.workdps(60 + n // 3):
        upper, lower = [real(u) for u in upper], [real(v) for v in lower]
        minors = [mpf(1)]
        for k in range(n):
            total, sign, fact = mpf(0), 1, mpf(1)
            for i in range(k, -1, -1):
                gap = upper[i] - lower[k]
                if gap <= 0:
                    break
                fact *= k - i + 1
                total += sign * gap ** (k - i + 1) / fact * minors[i]
                sign = -sign
            minors.append(total)
        return 1 - factorial(n) * minors[n]


def ks_cases():
    for n in [1, 2, 3, 5, 10, 20, 50, 100, 200, 1000, 1001]:
        for z in [0.4, 0.6, 0.8, 1.0, 1.36, 1.63, 1.9, 1.99, 2.01, 2.5, 5.0] if n < 1000 else [0.4, 0.6, 1.0, 1.9, 2.1]:
            d = round(z / n**0.5, 4)
            if 0.5 / n < d < 1:
                yield n, d


def write(name, head, columns, rows):
    (HERE / name).write_text("".join(f"{row}\n" for row in [f"# {head} Written by generate.py.", columns, *rows]))
    print(name, len(rows), "cases")


if __name__ == "__main__":
    random.seed(1)
    cases = list(binomial_cases())
    check_binomial(cases)
    rows = [line(k, n, p, 1 - p, *(t(k, n, Fraction(p)) for t in (ln_binomial_sf, ln_binomial_cdf))) for k, n, p in cases]
    write("binomial.csv", "ln P(X >= k) and ln P(X <= k), X ~ Binomial(n, p), q = 1 - p.", "k,n,p,q,ln_sf,ln_cdf", rows)

    cases = list(gamma_cases())
    check_gamma(cases)
    rows = [line(a, x, *ln_gamma_tails(a, x)) for a, x in cases]
    write("gamma.csv", "ln P(X >= x) and ln P(X <= x), X ~ Gamma(shape, 1).", "shape,x,ln_sf,ln_cdf", rows)

    rows = [line(n, d, ks_p(n, d)) for n, d in ks_cases()]
    write("ks.csv", "P(D_n >= d), two-sided one-sample Kolmogorov-Smirnov.", "n,d,p", rows)
