//! Root-mean-square normalisation.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::lanes::{dot, wide};
use super::{values, with_values};

/// `y_i = w_i x_i / sqrt(mean(x^2) + epsilon)` on each row: `[N, D]` and `[D]` to `[N, D]`.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    x.apply_op2(weight, RmsNorm { epsilon })
}

struct RmsNorm {
    epsilon: f32,
}

impl RmsNorm {
    /// `1 / sqrt(mean(x^2) + epsilon)`.
    #[inline(always)]
    fn scale(&self, row: &[f32]) -> f32 {
        1.0 / (dot(row, row) / row.len() as f32 + self.epsilon).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values(x, x_layout, self.name())?;
        let weight = values(weight, weight_layout, self.name())?;
        let mut y = vec![0f32; x.len()];
        wide(|| {
            for (y, x) in y
                .chunks_exact_mut(weight.len())
                .zip(x.chunks_exact(weight.len()))
            {
                let scale = self.scale(x);
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * scale * w;
                }
            }
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    /// With `s` the scale of a row, `u = s x` and `v = g w`:
    /// `dx = s (v - u mean(u v))` and `dw = sum over rows of g u`.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = weight.elem_count();
        let mut dx = vec![0f32; x.elem_count()];
        let mut dw = vec![0f32; width];
        with_values(x, |x| {
            with_values(weight, |w| {
                with_values(grad, |grad| {
                    wide(|| {
                        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
                        for (dx, (x, g)) in dx.chunks_exact_mut(width).zip(rows) {
                            let scale = self.scale(x);
                            for i in 0..width {
                                dx[i] = g[i] * w[i];
                                dw[i] += g[i] * x[i] * scale;
                            }
                            let mean = dot(dx, x) * scale / width as f32;
                            for (dx, x) in dx.iter_mut().zip(x) {
                                *dx = scale * (*dx - x * scale * mean);
                            }
                        }
                    });
                    Ok(())
                })
            })
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dw = Tensor::from_vec(dw, weight.shape(), weight.device())?;
        Ok((Some(dx), Some(dw)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{gradient, wave};
    use super::*;

    #[test]
    fn gradients_of_both_arguments() {
        let (x, w) = (wave(&[3, 20], 0.1), wave(&[20], 2.0));
        gradient(&x, |x| rms_norm(x, &w, 1e-5));
        gradient(&w, |w| rms_norm(&x, w, 1e-5));
    }
}
