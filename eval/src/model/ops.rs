//! Fused operations with gradients, for what the tensor engine lacks or does slowly.
//!
//! All work on contiguous `f32` tensors on the CPU. Token rows are flattened: a batch of `B`
//! sequences of `T` tokens is a matrix of `N = B T` rows.

mod attention;
pub(crate) mod lanes;
mod loss;
mod norm;
mod rope;
mod swiglu;

use std::sync::Arc;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

pub(crate) use attention::{AttentionShape, attention};
pub(crate) use loss::{cross_entropy, cross_entropy_values};
pub(crate) use norm::rms_norm;
pub(crate) use rope::Rope;
pub(crate) use swiglu::swiglu;

/// The values of an operand, which must be contiguous `f32`.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout, op: &'static str) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(all), Some((start, end))) => Ok(&all[start..end]),
        _ => bail!("{op} needs contiguous f32 values"),
    }
}

/// Calls `read` with the values of a tensor, copied only if they are not contiguous.
pub(crate) fn with_values<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(values(storage, layout, "with_values")?),
        _ => bail!("only tensors on the CPU are supported"),
    }
}

/// Applies an operation of one argument, keeping it for the backward pass if one can follow.
fn apply<C>(argument: &Tensor, op: C) -> Result<Tensor>
where
    C: candle_core::CustomOp1 + Send + Sync + 'static,
{
    argument.apply_op1_arc(Arc::new(Box::new(op)))
}

#[cfg(test)]
mod check {
    //! Gradients against finite differences.

    use candle_core::{Device, Result, Tensor, Var};

    /// A tensor of reproducible values in `[-1, 1]`.
    pub(super) fn wave(shape: &[usize], phase: f32) -> Tensor {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * 1.37 + phase).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Compares the gradient of `sum(weights * f(x))` with central differences, entry by entry.
    pub(super) fn gradient(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) {
        let shape = x.dims().to_vec();
        let objective = |x: &Tensor| {
            let y = f(x).unwrap();
            let weights = wave(y.dims(), 0.5);
            (y * weights).unwrap().sum_all().unwrap()
        };
        let var = Var::from_tensor(x).unwrap();
        let grads = objective(var.as_tensor()).backward().unwrap();
        let found: Vec<f32> = grads
            .get(&var)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let at: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        let step = 1e-2;
        for i in 0..at.len() {
            let shifted = |by: f32| {
                let mut moved = at.clone();
                moved[i] += by;
                let moved = Tensor::from_vec(moved, shape.as_slice(), &Device::Cpu).unwrap();
                objective(&moved).to_scalar::<f32>().unwrap()
            };
            let expected = (shifted(step) - shifted(-step)) / (2.0 * step);
            assert!(
                (found[i] - expected).abs() < 2e-3 + 2e-2 * expected.abs(),
                "entry {i}: gradient {}, finite difference {expected}",
                found[i]
            );
        }
    }
}
