//! The output layer fused with its softmax cross-entropy.

use candle_core::{Result, Tensor};

use super::lanes::{add_scaled, softmax, wide};
use super::{tensor, with_values};

/// Rows whose logits are held at once: enough to keep matrix products efficient, few enough that the
/// logits of a large vocabulary stay in the cache.
const ROWS: usize = 256;

/// A loss with its gradients.
pub(crate) struct Loss {
    /// Mean over rows, in nats.
    pub(crate) mean: f32,
    /// Gradient of `x`, `[N, D]`.
    pub(crate) dx: Tensor,
    /// Gradient of the output layer, `[V, D]`.
    pub(crate) d_head: Tensor,
}

/// Mean over rows of `-ln softmax(x W^T)[target]`, with its gradients: `[N, D]` and `[V, D]`.
///
/// The logits are never stored whole: loss and gradients are computed a few rows at a time.
/// `targets` holds `N` ids below `V`.
pub(crate) fn cross_entropy(x: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Loss> {
    let weight = 1.0 / targets.len() as f32;
    let mut total = 0.0;
    let mut dx = Vec::new();
    let mut d_head = vec![0f32; head.elem_count()];
    for (start, targets) in (0..).step_by(ROWS).zip(targets.chunks(ROWS)) {
        let x = x.narrow(0, start, targets.len())?;
        let logits = x.matmul(&head.t()?)?;
        let shape = logits.shape().clone();
        let mut logits: Vec<f32> = logits.flatten_all()?.to_vec1()?;
        total += to_errors(&mut logits, targets, weight).iter().sum::<f64>();
        let error = tensor(logits, shape)?;
        dx.push(error.matmul(head)?);
        with_values(&error.t()?.matmul(&x)?, |part| {
            wide!(add_scaled(&mut d_head, 1.0, part));
            Ok(())
        })?;
    }
    Ok(Loss {
        mean: (total / targets.len() as f64) as f32,
        dx: Tensor::cat(&dx, 0)?,
        d_head: tensor(d_head, head.shape())?,
    })
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
    let mut losses = Vec::with_capacity(targets.len());
    wide!({
        for (row, &target) in logits.chunks_exact_mut(width).zip(targets) {
            let logit = row[target as usize];
            let total = softmax(row);
            for p in row.iter_mut() {
                *p *= weight;
            }
            row[target as usize] -= weight;
            losses.push(f64::from(total - logit));
        }
    });
    losses
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::check::{gradient, wave};
    use super::*;

    #[test]
    fn gradients_of_both_arguments() {
        let (x, head) = (wave(&[5, 6], 0.1), wave(&[7, 6], 1.0));
        let targets = [0, 6, 3, 3, 1];
        let mean = |loss: Loss| Tensor::new(&[loss.mean], &Device::Cpu);
        let scaled = |tensor: &Tensor, by: &Tensor| tensor.broadcast_mul(by);
        let known = cross_entropy(&x, &head, &targets).unwrap();
        gradient(
            &x,
            |x| mean(cross_entropy(x, &head, &targets)?),
            |g| scaled(&known.dx, g),
        );
        gradient(
            &head,
            |head| mean(cross_entropy(&x, head, &targets)?),
            |g| scaled(&known.d_head, g),
        );
    }

    #[test]
    fn mean_of_the_values() {
        let (x, head) = (wave(&[600, 4], 0.1), wave(&[9, 4], 1.0));
        let targets: Vec<u32> = (0..600).map(|i| i % 9).collect();
        let loss = cross_entropy(&x, &head, &targets).unwrap().mean;
        let each = cross_entropy_values(&x, &head, &targets).unwrap();
        let mean = each.iter().sum::<f64>() / 600.0;
        assert!((f64::from(loss) - mean).abs() < 1e-6);
    }
}
