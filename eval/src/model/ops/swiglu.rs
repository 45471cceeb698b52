//! The gated nonlinearity of the feed-forward layer.

use candle_core::{Result, Tensor};

use super::lanes::{exp, wide};
use super::{tensor, with_values};

/// `y = a sigmoid(a) b` where a row is `[a, b]`: `[N, 2 H]` to `[N, H]`.
pub(crate) fn swiglu(gate_and_up: &Tensor) -> Result<Tensor> {
    let (rows, width) = gate_and_up.dims2()?;
    let half = width / 2;
    let mut y = vec![0f32; rows * half];
    with_values(gate_and_up, |x| {
        wide!({
            for (y, x) in y.chunks_exact_mut(half).zip(x.chunks_exact(width)) {
                let (gate, up) = x.split_at(half);
                for ((y, a), b) in y.iter_mut().zip(gate).zip(up) {
                    *y = a * sigmoid(*a) * b;
                }
            }
        });
        Ok(())
    })?;
    tensor(y, (rows, half))
}

/// Gradient of the argument from that of the result.
///
/// With `s = sigmoid(a)`: `da = g b s (1 + a (1 - s))` and `db = g a s`.
pub(crate) fn swiglu_backward(gate_and_up: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (_, width) = gate_and_up.dims2()?;
    let half = width / 2;
    let mut dx = vec![0f32; gate_and_up.elem_count()];
    with_values(gate_and_up, |x| {
        with_values(grad, |grad| {
            wide!({
                let rows = x.chunks_exact(width).zip(grad.chunks_exact(half));
                for (dx, (x, g)) in dx.chunks_exact_mut(width).zip(rows) {
                    let (gate, up) = x.split_at(half);
                    let (d_gate, d_up) = dx.split_at_mut(half);
                    for i in 0..half {
                        let s = sigmoid(gate[i]);
                        d_gate[i] = g[i] * up[i] * s * (1.0 + gate[i] * (1.0 - s));
                        d_up[i] = g[i] * gate[i] * s;
                    }
                }
            });
            Ok(())
        })
    })?;
    tensor(dx, gate_and_up.shape())
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::super::check::{gradient, wave};
    use super::*;

    #[test]
    fn gradient_of_both_halves() {
        let x = wave(&[3, 38], 0.3);
        gradient(&x, swiglu, |g| swiglu_backward(&x, g));
    }
}
