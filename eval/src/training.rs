//! Training a [`Transformer`] from scratch: deterministic from its seed, and safe to interrupt.

mod checkpoint;
mod optimizer;
mod windows;

use std::path::{Path, PathBuf};

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

pub use self::windows::Windows;

use self::checkpoint::State;
use self::optimizer::AdamW;
use crate::model::{ModelError, Transformer, worker};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Passes over the text; a fraction is allowed.
    pub epochs: f64,
    /// Windows in a step.
    pub batch: usize,
    /// Peak learning rate: reached by a linear rise over the first twentieth of the steps, then
    /// lowered along a cosine to zero.
    pub learning_rate: f64,
    /// Decay of matrices toward zero, per unit of learning rate.
    pub weight_decay: f64,
    /// Decides the order of the windows.
    pub seed: u64,
}

/// Where a training saves its state, and how often.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The file, replaced at every save.
    pub path: PathBuf,
    /// Steps between saves; an interruption loses at most these.
    pub every: usize,
}

/// One finished step.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Steps done, this one included.
    pub step: usize,
    /// Steps of the whole training.
    pub steps: usize,
    /// Tokens seen so far.
    pub tokens: usize,
    /// Mean loss of this step in nats a token, before its update.
    pub loss: f32,
    /// The model after this step.
    pub model: &'a Transformer,
}

/// What a training yields.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The model after the last step.
    pub model: Transformer,
    /// The loss of every step in nats a token.
    pub losses: Vec<f32>,
}

/// Why a training could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// Fewer than two tokens.
    #[error("the training text has fewer than two tokens; nothing can be predicted from it")]
    NoText,
    /// A batch of no windows, or no epochs, or a learning rate that is not positive.
    #[error("`{name}` is {value}; it must be positive")]
    NotPositive {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A window does not fit the model.
    #[error(
        "training windows have {window} tokens and the model a context of {context}; make the context at least as long"
    )]
    Window {
        /// Tokens of a window.
        window: usize,
        /// Tokens of the model's context.
        context: usize,
    },
    /// The loss is no longer a number.
    #[error("the loss became {loss} at step {step}; lower the learning rate")]
    Diverged {
        /// The step.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// The checkpoint was written by a training with other settings or text.
    #[error(
        "{} belongs to a training with other settings or text; delete it to start over, or \
         repeat the settings it was started with", path.display()
    )]
    OtherTraining {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The checkpoint cannot be read back.
    #[error("{} is not a usable checkpoint ({reason}); delete it to start over", path.display())]
    BadCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint cannot be read or written.
    #[error("cannot access the checkpoint {}: {source}", path.display())]
    Io {
        /// The checkpoint.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<candle_core::Error> for TrainingError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

impl TrainingConfig {
    fn check(&self) -> Result<(), TrainingError> {
        let settings = [
            ("epochs", self.epochs),
            ("batch", self.batch as f64),
            ("learning_rate", self.learning_rate),
        ];
        match settings
            .into_iter()
            .find(|(_, value)| !(*value > 0.0 && value.is_finite()))
        {
            Some((name, value)) => Err(TrainingError::NotPositive { name, value }),
            None => Ok(()),
        }
    }

    /// Steps of a training on `windows`.
    #[must_use]
    pub fn steps(&self, windows: &Windows) -> usize {
        let total = windows.per_epoch() as f64 * self.epochs;
        ((total / self.batch as f64).ceil() as usize).max(1)
    }

    /// The learning rate of a step, counted from zero.
    fn rate(&self, step: usize, steps: usize) -> f64 {
        let warmup = (steps / 20).max(1);
        if step < warmup {
            return self.learning_rate * (step + 1) as f64 / warmup as f64;
        }
        let done = (step - warmup) as f64 / (steps - warmup).max(1) as f64;
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

/// Trains `model` on `windows`; resumes from the checkpoint if it exists.
///
/// The result is the same to the bit whether or not the training was interrupted, and on any number
/// of threads around it: it runs on one.
///
/// # Errors
/// A setting is not positive, the model's architecture has no gradients here, the checkpoint belongs
/// to another training or cannot be accessed, or the loss diverges.
pub fn train(
    model: &Transformer,
    windows: &Windows,
    config: &TrainingConfig,
    checkpoint: Option<&Checkpoint>,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Trained, TrainingError> {
    config.check()?;
    model.config().check_trainable()?;
    let (window, context) = (windows.length(), model.config().context);
    if window > context {
        return Err(TrainingError::Window { window, context });
    }
    worker::alone(|| run(model, windows, config, checkpoint, progress))
}

fn run(
    model: &Transformer,
    windows: &Windows,
    config: &TrainingConfig,
    checkpoint: Option<&Checkpoint>,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Trained, TrainingError> {
    let mut variables: Vec<(String, Var)> = Vec::new();
    // Shares the variables' memory: each step changes it in place.
    let current = model.map_weights(|name, weight| {
        let variable = Var::from_tensor(&weight.contiguous()?)?;
        let shared = variable.as_detached_tensor();
        variables.push((name.to_owned(), variable));
        Ok::<Tensor, candle_core::Error>(shared)
    })?;
    let mut optimizer = AdamW::new(variables, config.weight_decay);
    let mut losses: Vec<f32> = Vec::new();
    let identity = checkpoint::identity(model, windows, config)?;
    if let Some(Checkpoint { path, .. }) = checkpoint
        && let Some(state) = checkpoint::load(path, &identity)?
    {
        optimizer
            .restore(&state)
            .map_err(|reason| bad(path, reason))?;
        losses = state.losses;
    }
    let steps = config.steps(windows);
    for step in losses.len()..steps {
        let (inputs, targets) = windows.batch(config.seed, step, config.batch);
        let (loss, gradients) = current.gradients(&inputs, &targets, windows.length())?;
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { step, loss });
        }
        optimizer.step(&gradients, config.rate(step, steps))?;
        losses.push(loss);
        if let Some(Checkpoint { path, every }) = checkpoint
            && ((step + 1) % every.max(&1) == 0 || step + 1 == steps)
        {
            let state = State {
                tensors: optimizer.tensors()?,
                losses: losses.clone(),
            };
            checkpoint::save(path, &identity, &state)?;
        }
        progress(Progress {
            step: step + 1,
            steps,
            tokens: (step + 1) * config.batch * windows.length(),
            loss,
            model: &current,
        });
    }
    Ok(Trained {
        model: current,
        losses,
    })
}

fn bad(path: &Path, reason: String) -> TrainingError {
    TrainingError::BadCheckpoint {
        path: path.to_owned(),
        reason,
    }
}
