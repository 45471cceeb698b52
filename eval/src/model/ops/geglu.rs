//! The gated nonlinearity of the feed-forward layer of Gemma.

use candle_core::{Result, Tensor};

use super::lanes::{exp, wide};
use super::{tensor, with_values};

/// `y = gelu(a) b` where a row is `[a, b]`: `[N, 2 H]` to `[N, H]`.
///
/// `gelu(a) = a (1 + tanh z) / 2` with `z = sqrt(2 / pi) (a + 0.044715 a^3)`, the approximation that
/// Gemma was trained with. As `(1 + tanh z) / 2 = sigmoid(2 z)`, one exponential is enough.
pub(crate) fn geglu(gate_and_up: &Tensor) -> Result<Tensor> {
    let (rows, width) = gate_and_up.dims2()?;
    let half = width / 2;
    let mut y = vec![0f32; rows * half];
    with_values(gate_and_up, |x| {
        wide!({
            for (y, x) in y.chunks_exact_mut(half).zip(x.chunks_exact(width)) {
                let (gate, up) = x.split_at(half);
                for ((y, a), b) in y.iter_mut().zip(gate).zip(up) {
                    *y = gelu(*a) * b;
                }
            }
        });
        Ok(())
    })?;
    tensor(y, (rows, half))
}

#[inline(always)]
fn gelu(a: f32) -> f32 {
    // 2 sqrt(2 / pi).
    const DOUBLE_RATE: f32 = 1.595_769;
    a / (1.0 + exp(-DOUBLE_RATE * (a + 0.044_715 * a * a * a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_matches_its_definition() {
        // The largest inputs leave the range of `exp`: there the result is `a` or almost zero.
        for i in -4000..4000 {
            let a = i as f32 / 100.0;
            let x = f64::from(a);
            let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let expected = 0.5 * x * (1.0 + z.tanh());
            let error = (f64::from(gelu(a)) - expected).abs();
            assert!(error < 1e-6 * expected.abs().max(0.1), "{a}: {error:e}");
        }
    }

    #[test]
    fn the_gate_is_the_first_half() {
        let x = tensor(vec![1.0, 0.0, 3.0, 5.0], (1, 4)).unwrap();
        let y: Vec<f32> = geglu(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(y, [3.0 * gelu(1.0), 0.0]);
    }
}
