//! What sets the families of models apart, as data.

use serde::{Deserialize, Serialize};

/// The kind of block that a [`Transformer`](super::Transformer) consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Two normalisations a block, SiLU in the feed-forward layer, and every layer sees all that came
    /// before. The one that can be trained here.
    #[default]
    Llama,
    /// Gemma 3, text only: run, not trained.
    Gemma3(Gemma3),
}

/// What a Gemma 3 model has besides the sizes of a llama model.
///
/// The embedding is multiplied by `sqrt(dim)`; queries and keys are normalised head by head; what
/// attention and feed-forward layer add to the residual stream is normalised first; the feed-forward
/// layer uses GELU. Source: "Gemma 3 Technical Report", arXiv:2503.19786.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gemma3 {
    /// Entries of a head, an even number; independent of width and number of heads.
    pub head_dim: usize,
    /// Tokens that a position of a local layer sees, itself included.
    pub window: usize,
    /// Of so many layers the last is global and sees all that came before; the others are local.
    pub global_every: usize,
    /// Base of the rotary frequencies in local layers.
    pub local_rope_base: f32,
}

impl Architecture {
    /// The name in `general.architecture` of a GGUF file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Gemma3(_) => "gemma3",
        }
    }

    /// Tokens that a position of a layer sees, itself included; `None` is all of them.
    pub(super) fn window(&self, layer: usize) -> Option<usize> {
        match self {
            Self::Gemma3(gemma) if !(layer + 1).is_multiple_of(gemma.global_every) => {
                Some(gemma.window)
            }
            _ => None,
        }
    }
}

/// The tokens between which a model expects a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DocumentTokens {
    /// Stands before the first token of a document.
    pub start: u32,
    /// Ends it.
    pub end: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TransformerConfig;

    #[test]
    fn every_sixth_layer_is_global() {
        let gemma = Architecture::Gemma3(Gemma3 {
            head_dim: 256,
            window: 512,
            global_every: 6,
            local_rope_base: 10_000.0,
        });
        let global: Vec<usize> = (0..18).filter(|&i| gemma.window(i).is_none()).collect();
        assert_eq!(global, [5, 11, 17]);
        assert_eq!(gemma.window(0), Some(512));
        assert_eq!(Architecture::Llama.window(0), None);
    }

    #[test]
    fn a_shape_without_an_architecture_is_a_llama() {
        let json = r#"{"vocab":9,"dim":8,"layers":1,"heads":2,"kv_heads":1,"hidden":8,"context":4,
            "rope_base":10000.0,"epsilon":1e-5,"tied":true}"#;
        let config: TransformerConfig = serde_json::from_str(json).unwrap();
        assert_eq!(config.architecture, Architecture::Llama);
        let again = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<TransformerConfig>(&again).unwrap(),
            config
        );
    }
}
