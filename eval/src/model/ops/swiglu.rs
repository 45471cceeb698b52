//! The gated nonlinearity of the feed-forward layer.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::lanes::{exp, wide};
use super::{apply, values, with_values};

/// `y = a sigmoid(a) b` where a row is `[a, b]`: `[N, 2 H]` to `[N, H]`.
pub(crate) fn swiglu(gate_and_up: &Tensor) -> Result<Tensor> {
    apply(gate_and_up, SwiGlu)
}

struct SwiGlu;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let x = values(storage, layout, self.name())?;
        let half = width / 2;
        let mut y = vec![0f32; rows * half];
        wide(|| {
            for (y, x) in y.chunks_exact_mut(half).zip(x.chunks_exact(width)) {
                let (gate, up) = x.split_at(half);
                for ((y, a), b) in y.iter_mut().zip(gate).zip(up) {
                    *y = a * sigmoid(*a) * b;
                }
            }
        });
        Ok((CpuStorage::F32(y), (rows, half).into()))
    }

    /// With `s = sigmoid(a)`: `da = g b s (1 + a (1 - s))` and `db = g a s`.
    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = x.dims2()?;
        let half = width / 2;
        let mut dx = vec![0f32; x.elem_count()];
        with_values(x, |x| {
            with_values(grad, |grad| {
                wide(|| {
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
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{gradient, wave};
    use super::*;

    #[test]
    fn gradient_of_both_halves() {
        gradient(&wave(&[3, 38], 0.3), swiglu);
    }
}
