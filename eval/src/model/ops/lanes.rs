//! Arithmetic on slices of `f32` in a form that compilers turn into vector instructions.
//!
//! Everything here is `inline(always)` so that it is compiled for the widest vectors of the machine
//! when called inside [`wide!`].

/// Evaluates an expression compiled for the widest vector instructions that this machine has.
///
/// A macro, because the compiler must see the expression once for each kind of instructions: a closure
/// shared by the kinds is compiled once, for the oldest machine.
macro_rules! wide {
    ($work:expr) => {{
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(machine) = pulp::x86::V4::try_new() {
                machine.vectorize(|| $work)
            } else if let Some(machine) = pulp::x86::V3::try_new() {
                machine.vectorize(|| $work)
            } else {
                $work
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            $work
        }
    }};
}
pub(crate) use wide;

/// Partial sums kept apart, so that additions need not wait for each other.
const LANES: usize = 16;

/// `sum_i a_i b_i`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `sum_i a_i`.
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// `max_i a_i`; `-inf` if there are none.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let greater = |x: f32, y: f32| if x > y { x } else { y };
    let mut tops = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            tops[lane] = greater(chunk[lane], tops[lane]);
        }
    }
    tops.iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |top, &x| greater(x, top))
}

/// `y += factor x`.
#[inline(always)]
pub(crate) fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// `y_t = sum_i x_i M_it` for `M` of rows `stride` apart, sums kept in registers.
#[inline(always)]
pub(crate) fn combine(y: &mut [f32], x: &[f32], matrix: &[f32], stride: usize) {
    const WIDE: usize = 4 * LANES;
    let (wide, rest) = y.as_chunks_mut::<WIDE>();
    let done = wide.len() * WIDE;
    for (chunk, y) in wide.iter_mut().enumerate() {
        stretch(y, x, matrix, stride, chunk * WIDE);
    }
    let (narrow, rest) = rest.as_chunks_mut::<LANES>();
    let finished = done + narrow.len() * LANES;
    for (chunk, y) in narrow.iter_mut().enumerate() {
        stretch(y, x, matrix, stride, done + chunk * LANES);
    }
    rest.fill(0.0);
    for (x, row) in x.iter().zip(matrix.chunks(stride)) {
        add_scaled(rest, *x, &row[finished..]);
    }
}

/// The `N` sums of [`combine`] from `from` on.
#[inline(always)]
fn stretch<const N: usize>(
    y: &mut [f32; N],
    x: &[f32],
    matrix: &[f32],
    stride: usize,
    from: usize,
) {
    let mut sums = [0f32; N];
    for (x, row) in x.iter().zip(matrix.chunks(stride)) {
        for (sum, m) in sums.iter_mut().zip(&row[from..from + N]) {
            *sum += x * m;
        }
    }
    *y = sums;
}

/// `e^x` to a relative error below 3e-7 for `x` in `[-87, 88]`; clamped to that range outside.
///
/// `e^x = 2^n e^r` with `n = round(x / ln 2)` and `|r| <= ln 2 / 2`: the power of two is set in the
/// exponent bits, the rest is a polynomial. No table and no branch, so it runs in vector lanes.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the product of `n` and the first is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut tail = 1.987_569_1e-4;
    tail = tail * r + 1.398_2e-3;
    tail = tail * r + 8.333_452e-3;
    tail = tail * r + 4.166_579_6e-2;
    tail = tail * r + 1.666_666_6e-1;
    tail = tail * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    (tail * r * r + r + 1.0) * power
}

/// Turns logits into probabilities in place; returns `ln sum_i e^(x_i)`.
#[inline(always)]
pub(crate) fn softmax(x: &mut [f32]) -> f32 {
    let top = max(x);
    for x in x.iter_mut() {
        *x = exp(*x - top);
    }
    let total = sum(x);
    let scale = 1.0 / total;
    for x in x.iter_mut() {
        *x *= scale;
    }
    top + total.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        let worst = wide!({
            (-87_000..88_000)
                .map(|i| i as f32 / 1000.0)
                .map(|x| (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs())
                .fold(0.0, f64::max)
        });
        assert!(worst < 3e-7, "relative error {worst:e}");
    }

    #[test]
    fn combinations_match_their_definition_at_any_width() {
        for width in [1, 15, 16, 40, 64, 65, 150] {
            let stride = width + 3;
            let x = [0.5, -1.0, 2.0];
            let matrix: Vec<f32> = (0..3 * stride).map(|i| (i as f32).sin()).collect();
            let mut y = vec![7.0; width];
            wide!(combine(&mut y, &x, &matrix, stride));
            for (t, y) in y.iter().enumerate() {
                let expected: f32 = (0..3).map(|i| x[i] * matrix[i * stride + t]).sum();
                assert!((y - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn reductions_match_their_definitions_at_any_length() {
        for n in 0..70 {
            let a: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..n).map(|i| (i as f32 * 0.3).cos()).collect();
            let expected: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert!((wide!(dot(&a, &b)) - expected).abs() < 1e-5);
            assert!((wide!(sum(&a)) - a.iter().sum::<f32>()).abs() < 1e-5);
            assert_eq!(
                wide!(max(&a)),
                a.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
        }
    }
}
