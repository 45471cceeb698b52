//! Root-mean-square normalisation.

use candle_core::{Result, Tensor};

use super::lanes::{dot, wide};
use super::{AttentionShape, tensor, with_values};

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

/// [`rms_norm`] of each query head and each key head in rows of queries, keys and values: `[N, width]`
/// and two `[D]` to `[N, width]`. Values stay as they are.
pub(crate) fn rms_norm_heads(
    qkv: &Tensor,
    shape: AttentionShape,
    query: &Tensor,
    key: &Tensor,
    epsilon: f32,
) -> Result<Tensor> {
    let mut y: Vec<f32> = qkv.flatten_all()?.to_vec1()?;
    let dim = shape.head_dim;
    with_values(query, |query| {
        with_values(key, |key| {
            wide!({
                for row in y.chunks_exact_mut(shape.width()) {
                    let (queries, rest) = row.split_at_mut(shape.heads * dim);
                    let keys = &mut rest[..shape.kv_heads * dim];
                    for (heads, weight) in [(queries, query), (keys, key)] {
                        for head in heads.chunks_exact_mut(dim) {
                            let scale = scale(head, epsilon);
                            for (y, w) in head.iter_mut().zip(weight) {
                                *y *= scale * w;
                            }
                        }
                    }
                }
            });
            Ok(())
        })
    })?;
    tensor(y, qkv.shape())
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
    fn heads_are_normalised_one_by_one() {
        let shape = AttentionShape {
            heads: 2,
            kv_heads: 1,
            head_dim: 6,
        };
        let (x, query, key) = (wave(&[3, 24], 0.4), wave(&[6], 1.0), wave(&[6], 3.0));
        let y = rms_norm_heads(&x, shape, &query, &key, 1e-5).unwrap();
        let values = |x: Tensor| -> Vec<f32> { x.flatten_all().unwrap().to_vec1().unwrap() };
        for (head, weight) in [(0, &query), (1, &query), (2, &key)] {
            let part = |x: &Tensor| x.narrow(1, 6 * head, 6).unwrap().contiguous().unwrap();
            let expected = values(rms_norm(&part(&x), weight, 1e-5).unwrap());
            for (found, expected) in values(part(&y)).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6);
            }
        }
        let part = |x: &Tensor| values(x.narrow(1, 18, 6).unwrap());
        assert_eq!(part(&y), part(&x));
    }

    #[test]
    fn gradients_of_both_arguments() {
        let (x, w) = (wave(&[3, 20], 0.1), wave(&[20], 2.0));
        let backward = |g: &Tensor| rms_norm_backward(&x, &w, 1e-5, g);
        gradient(&x, |x| rms_norm(x, &w, 1e-5), |g| Ok(backward(g)?.0));
        gradient(&w, |w| rms_norm(&x, w, 1e-5), |g| Ok(backward(g)?.1));
    }
}
