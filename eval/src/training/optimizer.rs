//! AdamW with a limit on the gradient's norm.

use std::collections::HashMap;

use candle_core::{Device, Tensor, Var};

use super::checkpoint::State;
use crate::model::{wide, with_values};

/// Decay of the running mean of gradients.
const BETA1: f64 = 0.9;
/// Decay of the running mean of squared gradients.
const BETA2: f64 = 0.95;
/// Keeps the step finite where gradients vanish.
const EPSILON: f32 = 1e-8;
/// Largest norm of all gradients together; larger ones are scaled down to it.
const MAX_NORM: f64 = 1.0;

/// One variable with its running means.
struct Slot {
    name: String,
    variable: Var,
    mean: Vec<f32>,
    square: Vec<f32>,
}

/// The optimiser of Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
pub(super) struct AdamW {
    slots: Vec<Slot>,
    decay: f64,
    steps: i32,
}

impl AdamW {
    pub(super) fn new(variables: Vec<(String, Var)>, decay: f64) -> Self {
        let slot = |(name, variable): (String, Var)| {
            let zeros = vec![0f32; variable.elem_count()];
            Slot {
                name,
                mean: zeros.clone(),
                square: zeros,
                variable,
            }
        };
        Self {
            slots: variables.into_iter().map(slot).collect(),
            decay,
            steps: 0,
        }
    }

    /// Moves every variable against its gradient; gradients come in the order of the variables.
    pub(super) fn step(&mut self, gradients: &[Tensor], rate: f64) -> candle_core::Result<()> {
        self.steps += 1;
        let mut squares = 0.0;
        for grad in gradients {
            squares += with_values(grad, |grad| Ok(wide!(sum_of_squares(grad))))?;
        }
        let clip = (MAX_NORM / squares.sqrt().max(MAX_NORM)) as f32;
        let first = (1.0 / (1.0 - BETA1.powi(self.steps))) as f32;
        let second = (1.0 / (1.0 - BETA2.powi(self.steps))) as f32;
        let (beta1, beta2, rate32) = (BETA1 as f32, BETA2 as f32, rate as f32);
        for (slot, grad) in self.slots.iter_mut().zip(gradients) {
            let Slot {
                variable,
                mean,
                square,
                ..
            } = slot;
            // Gains of normalisations are left alone: their natural value is one, not zero.
            let decay = if variable.rank() > 1 {
                (rate * self.decay) as f32
            } else {
                0.0
            };
            let mut weights: Vec<f32> = variable.flatten_all()?.to_vec1()?;
            with_values(grad, |grad| {
                wide!({
                    let state = mean.iter_mut().zip(square.iter_mut());
                    for ((w, g), (m, s)) in weights.iter_mut().zip(grad).zip(state) {
                        let g = g * clip;
                        *m = beta1 * *m + (1.0 - beta1) * g;
                        *s = beta2 * *s + (1.0 - beta2) * g * g;
                        *w -= decay * *w + rate32 * (*m * first) / ((*s * second).sqrt() + EPSILON);
                    }
                });
                Ok(())
            })?;
            variable.set(&Tensor::from_vec(weights, variable.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// Variables and running means by name, for a checkpoint.
    pub(super) fn tensors(&self) -> candle_core::Result<HashMap<String, Tensor>> {
        let mut tensors = HashMap::new();
        for Slot {
            name,
            variable,
            mean,
            square,
        } in &self.slots
        {
            let shaped =
                |values: &[f32]| Tensor::from_slice(values, variable.shape(), &Device::Cpu);
            tensors.insert(format!("mean.{name}"), shaped(mean)?);
            tensors.insert(format!("square.{name}"), shaped(square)?);
            tensors.insert(format!("weight.{name}"), variable.as_detached_tensor());
        }
        Ok(tensors)
    }

    /// Continues from a checkpoint; says what does not fit.
    pub(super) fn restore(&mut self, state: &State) -> Result<(), String> {
        for Slot {
            name,
            variable,
            mean,
            square,
        } in &mut self.slots
        {
            let get = |kind: &str| {
                let key = format!("{kind}.{name}");
                let tensor = state
                    .tensors
                    .get(&key)
                    .ok_or(format!("`{key}` is missing"))?;
                if tensor.shape() != variable.shape() {
                    return Err(format!("`{key}` has another shape"));
                }
                Ok(tensor)
            };
            let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
            *mean = values(get("mean")?).map_err(|e| e.to_string())?;
            *square = values(get("square")?).map_err(|e| e.to_string())?;
            variable.set(get("weight")?).map_err(|e| e.to_string())?;
        }
        self.steps = i32::try_from(state.losses.len()).map_err(|e| e.to_string())?;
        Ok(())
    }
}

/// `sum_i x_i^2`, added up in double precision per stretch.
#[inline(always)]
fn sum_of_squares(values: &[f32]) -> f64 {
    values
        .chunks(1024)
        .map(|x| f64::from(crate::model::dot(x, x)))
        .sum()
}
