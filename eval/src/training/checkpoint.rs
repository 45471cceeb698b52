//! The state of a training in one file, replaced atomically.
//!
//! A safetensors file: weights and the optimiser's running means as tensors; the losses so far and
//! the identity of the training in the header. One rename replaces all of it, so a kill at any moment
//! leaves the last complete state.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::{TrainingConfig, TrainingError, Windows, bad};
use crate::model::{ModelError, Transformer, TransformerConfig};

/// What a training needs to continue.
pub(super) struct State {
    pub(super) tensors: HashMap<String, Tensor>,
    /// Loss of every step done: their number is the step.
    pub(super) losses: Vec<f32>,
}

/// Digest of all that decides a training's result: first weights, settings and text.
pub(super) fn identity(
    model: &Transformer,
    windows: &Windows,
    config: &TrainingConfig,
) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    let shape = described(model.config());
    hash.update(format!("{shape}|{config:?}|{}|", windows.length()));
    for token in windows.stream() {
        hash.update(token.to_le_bytes());
    }
    model.map_weights(|_, weight| {
        for value in weight.flatten_all()?.to_vec1::<f32>()? {
            hash.update(value.to_le_bytes());
        }
        Ok::<_, candle_core::Error>(weight.clone())
    })?;
    Ok(watermark_core::hex(&hash.finalize()))
}

/// A shape in the words of the first checkpoints, which knew one architecture and did not name it.
fn described(shape: &TransformerConfig) -> String {
    let shown = format!("{shape:?}");
    match shown.split_once(", architecture: Llama") {
        Some((before, after)) => format!("{before}{after}"),
        None => shown,
    }
}

/// Reads a checkpoint; `None` if there is none yet.
pub(super) fn load(path: &Path, identity: &str) -> Result<Option<State>, TrainingError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(TrainingError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let bad = |reason: String| bad(path, reason);
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
    let entry = |key: &str| {
        header
            .metadata()
            .as_ref()
            .and_then(|map| map.get(key))
            .ok_or(bad(format!("no `{key}`")))
    };
    if entry("identity")? != identity {
        return Err(TrainingError::OtherTraining {
            path: path.to_owned(),
        });
    }
    let losses: Vec<f32> =
        serde_json::from_str(entry("losses")?).map_err(|e| bad(e.to_string()))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|e| bad(e.to_string()))?;
    Ok(Some(State { tensors, losses }))
}

/// Replaces the checkpoint.
pub(super) fn save(path: &Path, identity: &str, state: &State) -> Result<(), TrainingError> {
    let losses = serde_json::to_string(&state.losses).map_err(|e| bad(path, e.to_string()))?;
    let metadata = HashMap::from([
        ("identity".to_owned(), identity.to_owned()),
        ("losses".to_owned(), losses),
    ]);
    let bytes = safetensors::serialize(&state.tensors, Some(metadata))
        .map_err(|e| bad(path, e.to_string()))?;
    let write = || {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| TrainingError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;

    #[test]
    fn checkpoints_from_before_architectures_are_still_known() {
        let shape = TransformerConfig {
            vocab: 50,
            dim: 16,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            hidden: 24,
            context: 40,
            rope_base: 10_000.0,
            epsilon: 1e-5,
            tied: true,
            architecture: Architecture::Llama,
        };
        assert_eq!(
            described(&shape),
            "TransformerConfig { vocab: 50, dim: 16, layers: 2, heads: 4, kv_heads: 2, hidden: 24, \
             context: 40, rope_base: 10000.0, epsilon: 1e-5, tied: true }"
        );
    }
}
