//! Scores in fixed point, through an integer logarithm, so that a sum has the same bytes on
//! every machine, in any order of shards.

/// Fractional bits of a Gumbel score: a score of 1.0 is `1 << SCORE_BITS`.
pub const SCORE_BITS: u32 = 24;

/// `floor(ln 2 * 2^30)`.
const LN2_Q30: u64 = 744_261_117;

/// `-ln((r + 1) * 2^-32)` in Q24, rounded down: never above the true value.
///
/// Why r + 1 and not the midpoint that the writer races with: a uniform r gives
/// `P(-ln((r + 1) * 2^-32) >= t) <= e^-t` for every t, so a sum of scores is stochastically
/// below the gamma law that the p-value is read from. With the midpoint the smallest words
/// would come up to twice as often as that law allows.
///
/// With `x = r + 1`, `-ln = (32 - log2 x) * ln 2`. The 28 fractional bits of `log2 x` come
/// one a squaring of the mantissa, held in Q63. Truncation makes the computed log2 at most
/// `2^-28 + 2^-62` too small; two units are therefore added before the difference is taken,
/// which keeps the score on the safe side (at most `2^-23` below the true value).
pub fn neg_ln_q24(r: u32) -> u64 {
    let x = u64::from(r) + 1;
    let whole = 63 - x.leading_zeros();
    let mut mantissa = x << (63 - whole);
    let mut log2 = u64::from(whole);
    for _ in 0..28 {
        // In [1, 4) in Q126: the bit of the logarithm is whether it reached 2. The squarings are a
        // chain, so no branch on a random bit and no shift of 128 bits stands in it.
        let square = u128::from(mantissa) * u128::from(mantissa);
        let (high, low) = ((square >> 64) as u64, square as u64);
        let bit = high >> 63;
        let below = bit ^ 1;
        mantissa = (high << below) | ((low >> 63) & below);
        log2 = (log2 << 1) | bit;
    }
    from_log2(log2)
}

/// The score of a logarithm in Q28.
#[inline(always)]
pub(crate) fn from_log2(log2: u64) -> u64 {
    ((32u64 << 28).saturating_sub(log2.wrapping_add(2)) * LN2_Q30) >> 34
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_above_the_logarithm_and_close_below_it() {
        let edges = (0..=70).chain(u32::MAX - 70..=u32::MAX);
        let spread =
            (0..1_000_000u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32);
        for r in edges.chain(spread) {
            // ln_1p near w = 1, where the difference would cancel.
            let w = (f64::from(r) + 1.0) / 4_294_967_296.0;
            let exact = if r > u32::MAX / 2 {
                -(-f64::from(u32::MAX - r) / 4_294_967_296.0).ln_1p()
            } else {
                -w.ln()
            };
            let scaled = exact * f64::from(1u32 << SCORE_BITS);
            let got = neg_ln_q24(r) as f64;
            assert!(got <= scaled + 1e-6, "r {r}: {got} above {scaled}");
            assert!(got >= scaled - 2.0, "r {r}: {got} far below {scaled}");
        }
    }

    #[test]
    fn is_monotone_at_powers_of_two() {
        for shift in 0..32 {
            let r = 1u32 << shift;
            assert!(neg_ln_q24(r - 1) >= neg_ln_q24(r));
        }
        assert_eq!(neg_ln_q24(u32::MAX), 0);
    }
}
