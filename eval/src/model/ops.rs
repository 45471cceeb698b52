//! The arithmetic of the transformer between matrix products, forward and backward.
//!
//! All work on contiguous `f32` tensors on the CPU and on the calling thread: the engine's own
//! elementwise operations hand anything large to a pool of spinning threads that all callers share.
//! For the same reason gradients are computed by these functions and not by the engine's tape, which
//! adds them up with such operations.
//!
//! Token rows are flattened: a batch of `B` sequences of `T` tokens is a matrix of `N = B T` rows.

mod attention;
mod geglu;
pub(crate) mod lanes;
mod loss;
mod norm;
mod rope;
mod swiglu;

use candle_core::{Device, Result, Storage, Tensor, bail};

pub(crate) use attention::{Attended, Attention, AttentionShape};
pub(crate) use geglu::geglu;
pub(crate) use loss::{cross_entropy, cross_entropy_values};
pub(crate) use norm::{rms_norm, rms_norm_backward, rms_norm_heads};
pub(crate) use rope::Rope;
pub(crate) use swiglu::{swiglu, swiglu_backward};

use lanes::{add_scaled, wide};

/// Calls `read` with the values of a tensor, copied only if they are not contiguous.
pub(crate) fn with_values<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((start, end))) => {
            read(&storage.as_slice::<f32>()?[start..end])
        }
        _ => bail!("only contiguous tensors on the CPU are supported"),
    }
}

/// A tensor of the given values.
fn tensor(values: Vec<f32>, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// `a + b` of tensors of one shape.
pub(crate) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut sum: Vec<f32> = a.flatten_all()?.to_vec1()?;
    with_values(b, |b| {
        wide!(add_scaled(&mut sum, 1.0, b));
        Ok(())
    })?;
    tensor(sum, a.shape())
}

/// `factor a`.
pub(crate) fn scaled(a: &Tensor, factor: f32) -> Result<Tensor> {
    let mut product: Vec<f32> = a.flatten_all()?.to_vec1()?;
    wide!({
        for value in &mut product {
            *value *= factor;
        }
    });
    tensor(product, a.shape())
}

#[cfg(test)]
mod check {
    //! Gradients against finite differences.

    use candle_core::{Device, Result, Tensor};

    /// A tensor of reproducible values in `[-1, 1]`.
    pub(super) fn wave(shape: &[usize], phase: f32) -> Tensor {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * 1.37 + phase).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Compares a gradient of `sum(weights * f(x))` with central differences, entry by entry;
    /// `backward` maps the weights, which are the gradient of the result, to the gradient of `x`.
    pub(super) fn gradient(
        x: &Tensor,
        f: impl Fn(&Tensor) -> Result<Tensor>,
        backward: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) {
        let values = |x: &Tensor| -> Vec<f32> { x.flatten_all().unwrap().to_vec1().unwrap() };
        let weights = wave(f(x).unwrap().dims(), 0.5);
        let found = values(&backward(&weights).unwrap());
        let objective = |x: &Tensor| -> f64 {
            let terms = values(&f(x).unwrap()).into_iter().zip(values(&weights));
            terms.map(|(y, w)| f64::from(y) * f64::from(w)).sum()
        };
        let at = values(x);
        assert_eq!(found.len(), at.len());
        let step = 1e-2;
        for i in 0..at.len() {
            let shifted = |by: f32| {
                let mut moved = at.clone();
                moved[i] += by;
                objective(&Tensor::from_vec(moved, x.shape(), &Device::Cpu).unwrap())
            };
            let expected = (shifted(step) - shifted(-step)) / (2.0 * f64::from(step));
            let error = (f64::from(found[i]) - expected).abs();
            assert!(
                error < 2e-3 + 2e-2 * expected.abs(),
                "entry {i}: gradient {}, finite difference {expected}",
                found[i]
            );
        }
    }
}
