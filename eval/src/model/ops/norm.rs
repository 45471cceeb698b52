//! Root-mean-square normalisation.

use candle_core::{Result, Tensor};

use super::lanes::{dot, wide};
use super::{tensor, with_values};

/// `y_i = w_i x_i / sqrt(mean(x^2) + epsilon)` on each row: `[N, D]` and `[D]` to `[N, D]`.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    let width = weight.elem_count();
    let mut y = vec![0f32; x.elem_count()];
    with_values(x, |x| {
        with_values(weight, |weight| {
            wide!({
                for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let scale = scale(x, epsilon);
                    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                        *y = x * scale * w;
                    }
                }
            });
            Ok(())
        })
    })?;
    tensor(y, x.shape())
}

/// Gradients of `x` and of the weight, from that of the result.
///
/// With `s` the scale of a row, `u = s x` and `v = g w`: `dx = s (v - u mean(u v))` and `dw = sum over
/// rows of g u`.
pub(crate) fn rms_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    epsilon: f32,
    grad: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let width = weight.elem_count();
    let mut dx = vec![0f32; x.elem_count()];
    let mut dw = vec![0f32; width];
    with_values(x, |x| {
        with_values(weight, |w| {
            with_values(grad, |grad| {
                wide!({
                    let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
                    for (dx, (x, g)) in dx.chunks_exact_mut(width).zip(rows) {
                        let scale = scale(x, epsilon);
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
    Ok((tensor(dx, x.shape())?, tensor(dw, weight.shape())?))
}

/// `1 / sqrt(mean(x^2) + epsilon)`.
#[inline(always)]
fn scale(row: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + epsilon).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::check::{gradient, wave};
    use super::*;

    #[test]
    fn gradients_of_both_arguments() {
        let (x, w) = (wave(&[3, 20], 0.1), wave(&[20], 2.0));
        let backward = |g: &Tensor| rms_norm_backward(&x, &w, 1e-5, g);
        gradient(&x, |x| rms_norm(x, &w, 1e-5), |g| Ok(backward(g)?.0));
        gradient(&w, |w| rms_norm(&x, w, 1e-5), |g| Ok(backward(g)?.1));
    }
}
