//! The output layer fused with its softmax cross-entropy.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::lanes::{softmax, wide};
use super::with_values;

/// Rows whose logits are held at once: enough to keep matrix products efficient, few enough that the
/// logits of a large vocabulary stay in the cache.
const ROWS: usize = 256;

/// Mean over rows of `-ln softmax(x W^T)[target]`, in nats: `[N, D]`, `[V, D]` to a scalar.
///
/// The logits are never stored whole: gradients of both arguments are computed along with the loss, a
/// few rows at a time, and handed out in the backward pass. `targets` holds `N` ids below `V`.
pub(crate) fn cross_entropy(x: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, _) = x.dims2()?;
    let (x_detached, head_detached) = (x.detach(), head.detach());
    let mut losses = Vec::with_capacity(rows);
    let mut dx = Vec::new();
    let mut d_head: Option<Tensor> = None;
    for (start, targets) in (0..).step_by(ROWS).zip(targets.chunks(ROWS)) {
        let x = x_detached.narrow(0, start, targets.len())?;
        let logits = x.matmul(&head_detached.t()?)?;
        let mut error: Vec<f32> = Vec::with_capacity(logits.elem_count());
        with_values(&logits, |logits| {
            error.extend_from_slice(logits);
            Ok(())
        })?;
        losses.extend(to_errors(&mut error, targets, 1.0 / rows as f32));
        let error = Tensor::from_vec(error, logits.shape(), x.device())?;
        dx.push(error.matmul(&head_detached)?);
        let part = error.t()?.matmul(&x)?;
        d_head = Some(match d_head {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    let known = Known {
        loss: (losses.iter().sum::<f64>() / rows as f64) as f32,
        dx: Tensor::cat(&dx, 0)?,
        d_head: match d_head {
            Some(sum) => sum,
            None => head_detached.zeros_like()?,
        },
    };
    x.apply_op2(head, known)
}

/// `-ln softmax(x W^T)[target]` of every row in nats, without gradients.
pub(crate) fn cross_entropy_values(x: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Vec<f64>> {
    let mut losses = Vec::with_capacity(targets.len());
    for (start, targets) in (0..).step_by(ROWS).zip(targets.chunks(ROWS)) {
        let logits = x.narrow(0, start, targets.len())?.matmul(&head.t()?)?;
        let mut logits: Vec<f32> = logits.flatten_all()?.to_vec1()?;
        losses.extend(to_errors(&mut logits, targets, 1.0));
    }
    Ok(losses)
}

/// Turns rows of logits into gradients of the loss, `weight (softmax - onehot)`; returns the losses.
fn to_errors(logits: &mut [f32], targets: &[u32], weight: f32) -> Vec<f64> {
    let width = logits.len() / targets.len();
    wide(|| {
        let rows = logits.chunks_exact_mut(width).zip(targets);
        rows.map(|(row, &target)| {
            let logit = row[target as usize];
            let total = softmax(row);
            for p in row.iter_mut() {
                *p *= weight;
            }
            row[target as usize] -= weight;
            f64::from(total - logit)
        })
        .collect()
    })
}

/// A loss whose gradients are already known.
struct Known {
    loss: f32,
    dx: Tensor,
    d_head: Tensor,
}

impl CustomOp2 for Known {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(
        &self,
        _x: &CpuStorage,
        _x_layout: &Layout,
        _head: &CpuStorage,
        _head_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.loss]), Shape::from(())))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _head: &Tensor,
        _loss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = f64::from(grad.to_scalar::<f32>()?);
        Ok((Some((&self.dx * grad)?), Some((&self.d_head * grad)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{gradient, wave};
    use super::*;

    #[test]
    fn gradients_of_both_arguments() {
        let (x, head) = (wave(&[5, 6], 0.1), wave(&[7, 6], 1.0));
        let targets = [0, 6, 3, 3, 1];
        gradient(&x, |x| cross_entropy(x, &head, &targets));
        gradient(&head, |head| cross_entropy(&x, head, &targets));
    }

    #[test]
    fn mean_of_the_values() {
        let (x, head) = (wave(&[600, 4], 0.1), wave(&[9, 4], 1.0));
        let targets: Vec<u32> = (0..600).map(|i| i % 9).collect();
        let loss = cross_entropy(&x, &head, &targets)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        let each = cross_entropy_values(&x, &head, &targets).unwrap();
        let mean = each.iter().sum::<f64>() / 600.0;
        assert!((f64::from(loss) - mean).abs() < 1e-6);
    }
}
