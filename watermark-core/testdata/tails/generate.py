"""Writes binomial.csv, gamma.csv, weighted.csv and ks.csv: reference tails to 25 digits. Needs mpmath;
`python generate.py`, or with the names of some, `python generate.py weighted`.

The sums run from the tail's first term outwards, each term an exact rational ratio of the one before, in integers
scaled by 2^SCALE; the first term comes from log-gamma at 70 digits. Only the far side of the mean is summed. Nothing
here resembles the method under test. A subset is then computed a second way, and must agree to 40 digits. Weighted
sums are convolved in whole numbers, or for gamma scores split into partial fractions in exact fractions.
"""

import random
import sys
from fractions import Fraction
from math import comb, gcd
from pathlib import Path

from mpmath import exp, factorial, gammainc, hyp2f1, log, log1p, loggamma, mp, mpf, nstr, quad

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
        # I_p(a, b) by Gauss's series in the form without cancellation; mpmath's betainc does not end here.
        a, b = k, n - k + 1
        front = a * log(mpf(p)) + b * log1p(-mpf(p)) + loggamma(a + b) - loggamma(a + 1) - loggamma(b)
        second = front + log(hyp2f1(a + b, 1, a + 1, mpf(p)))
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


# Weighted sums.


def convolved(classes, trials, numerator, bits):
    """Least value of T = sum of w s, and 2^(bits coins) P(T = least + i) as integers."""
    least, pmf = 0, [1]
    p, q = numerator, 2**bits - numerator
    for weight, cells in classes:
        n, size = cells * trials, abs(weight)
        least += min(weight, 0) * n
        one = [comb(n, k) * p**k * q ** (n - k) for k in range(n + 1)]
        if weight < 0:
            one.reverse()
        following = [0] * (len(pmf) + size * n)
        for k, factor in enumerate(one):
            for i, x in enumerate(pmf):
                following[size * k + i] += factor * x
        pmf = following
    return least, pmf


def weighted_binomial_cases():
    """Classes, trials, numerator, bits."""
    yield [(1, 3), (2, 2)], 1, 1, 2
    yield [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1)], 1, 3, 3
    yield [(8, 40), (11, 20), (13, 10), (16, 6), (25, 2), (57, 1)], 1, 1, 2
    yield [(2, 200), (3, 1)], 1, 300, 16
    yield [(-3, 20), (-1, 50), (1, 40), (2, 30), (5, 10)], 1, 1, 1
    yield [(6, 10), (10, 10), (15, 10)], 3, 77, 8
    yield [(8, 20), (11, 9), (19, 3)], 30, 1, 1
    yield [(1, 200), (2, 200), (3, 200), (4, 200)], 1, 1, 2
    yield [(1, 400), (2, 400), (5, 400)], 1, 1, 16


def weighted_binomial_rows():
    for classes, trials, numerator, bits in weighted_binomial_cases():
        least, pmf = convolved(classes, trials, numerator, bits)
        whole = sum(pmf)
        assert whole == 2 ** (bits * trials * sum(cells for _, cells in classes))
        mean = Fraction(sum(i * x for i, x in enumerate(pmf)), whole)
        assert mean + least == Fraction(trials * numerator, 2**bits) * sum(w * n for w, n in classes)
        above = pmf[:]
        for i in reversed(range(len(pmf) - 1)):
            above[i] += above[i + 1]
        sd = float(sum((i - mean) ** 2 * x for i, x in enumerate(pmf)) / whole) ** 0.5 if len(pmf) < 5000 else None
        sd = sd or float(Fraction(trials * numerator * (2**bits - numerator), 4**bits) * sum(w * w * n for w, n in classes)) ** 0.5
        end = len(pmf) - 1
        places = {round(mean + z * sd) for z in (-8, -4, -2, -1, -0.3, 0, 0.3, 1, 2, 3, 5, 8, 12, 20, 40)}
        places |= {1, end // 4, end // 2, end - end // 4, end - end // 10, end - 1, end}
        for i in sorted(places):
            # What no value attains has the tail of the next attained one, as it should.
            if 0 < i <= end:
                yield classes, f"{trials}:{numerator}:{bits}", least + i, log(mpf(above[i])) - log(mpf(whole))


def partial_fractions(classes):
    """A[i, k] with prod (1 - w_i s)^-n_i = sum A[i, k] (1 - w_i s)^-k, in fractions."""
    parts = {}
    for i, (w, n) in enumerate(classes):
        # In y = 1 - w s the others are ((1 - r) + r y)^-m with r = v / w: a series in y, up to y^(n - 1).
        series = [Fraction(1)] + [Fraction(0)] * (n - 1)
        for j, (v, m) in enumerate(classes):
            if j == i:
                continue
            r = Fraction(v, w)
            factor = [(1 - r) ** -m * comb(m + e - 1, e) * (-r / (1 - r)) ** e for e in range(n)]
            series = [sum(series[a] * factor[e - a] for a in range(e + 1)) for e in range(n)]
        for e in range(n):
            parts[w, n - e] = series[e]
    assert sum(parts.values()) == 1
    return parts


def ln_weighted_gamma(parts, x):
    """ln P(sum of w times Gamma(n, 1) >= x): 400 digits, since the parts cancel."""
    with mp.workdps(400):
        x, total = real(x), mpf(0)
        for (w, k), part in parts.items():
            z = x / w
            term, sum_ = mpf(1), mpf(0)
            for j in range(k):
                sum_ += term
                term = term * z / (j + 1)
            total += real(part) * exp(-z) * sum_
        assert total > mpf(10) ** -300 * max(abs(real(p)) for p in parts.values()) * exp(-x / max(w for w, _ in parts))
        return log(total)


def weighted_gamma_cases():
    """Classes and exponentials a cell."""
    yield [(1, 6), (2, 3)], 1
    yield [(1, 2), (3, 2), (4, 5)], 1
    yield [(2, 20), (3, 20)], 1
    yield [(8, 40), (11, 20), (13, 10)], 1
    yield [(8, 40), (11, 20), (13, 10)], 2
    yield [(6, 30), (10, 15), (15, 5)], 1


def weighted_gamma_rows():
    for classes, shape in weighted_gamma_cases():
        parts = partial_fractions([(w, n * shape) for w, n in classes])
        mean, sd = (float(shape * sum(w**e * n for w, n in classes)) ** (1 / e) for e in (1, 2))
        divisor = gcd(*(w for w, _ in classes))
        for x in [mean + z * sd for z in (-3, -1.5, -0.5, 0, 0.3, 1, 2, 3, 5, 8, 15, 30)] + [20 * mean]:
            units = round(x * 2**24 / divisor) * divisor
            if units > 0:
                yield classes, shape, units, ln_weighted_gamma(parts, Fraction(units, 2**24))


def check_weighted():
    # Two classes by their convolution integral.
    for (v, m), (w, n), x in [((1, 6), (2, 3), 20), ((2, 20), (3, 20), 130), ((2, 20), (3, 20), 700)]:
        def density(t):
            return exp((m - 1) * log(t / v) - t / v - loggamma(m)) / v * gammainc(n, (x - t) / mpf(w), regularized=True)

        first = ln_weighted_gamma(partial_fractions([(v, m), (w, n)]), Fraction(x))
        # A tail of 1e-100 is the sum of parts that mpmath knows to an absolute error.
        with mp.workdps(140):
            second = quad(density, [mpf(x) * i / 64 for i in range(65)]) + gammainc(m, mpf(x) / v, regularized=True)
            assert abs(first - log(second)) < mpf(10) ** -40, (v, w, x)
    # Equal weights that are given as two classes by turns: the plain tails.
    for k, n, p in [(9, 20, 1), (60, 100, 2)]:
        _, pmf = convolved([(1, n // 2), (1, n - n // 2)], 1, p, 2)
        assert abs(log(mpf(sum(pmf[k:]))) - log(mpf(4)) * n - ln_binomial_sf(k, n, Fraction(p, 4))) < mpf(10) ** -40


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


def write_binomial():
    cases = list(binomial_cases())
    check_binomial(cases)
    rows = [line(k, n, p, 1 - p, *(t(k, n, Fraction(p)) for t in (ln_binomial_sf, ln_binomial_cdf))) for k, n, p in cases]
    write("binomial.csv", "ln P(X >= k) and ln P(X <= k), X ~ Binomial(n, p), q = 1 - p.", "k,n,p,q,ln_sf,ln_cdf", rows)


def write_gamma():
    cases = list(gamma_cases())
    check_gamma(cases)
    rows = [line(a, x, *ln_gamma_tails(a, x)) for a, x in cases]
    write("gamma.csv", "ln P(X >= x) and ln P(X <= x), X ~ Gamma(shape, 1).", "shape,x,ln_sf,ln_cdf", rows)


def write_weighted():
    check_weighted()
    rows = [
        line(" ".join(f"{w}:{n}" for w, n in classes), str(law), units, tail)
        for classes, law, units, tail in [*weighted_binomial_rows(), *weighted_gamma_rows()]
    ]
    head = "ln P(T >= sum), T = sum of weight times score; classes weight:cells; law trials:numerator:bits, or shape of a gamma law with sums in 2^-24."
    write("weighted.csv", head, "classes,law,sum,ln_sf", rows)


def write_ks():
    rows = [line(n, d, ks_p(n, d)) for n, d in ks_cases()]
    write("ks.csv", "P(D_n >= d), two-sided one-sample Kolmogorov-Smirnov.", "n,d,p", rows)


if __name__ == "__main__":
    tables = {"binomial": write_binomial, "gamma": write_gamma, "weighted": write_weighted, "ks": write_ks}
    for name in sys.argv[1:] or tables:
        random.seed(1)
        tables[name]()
