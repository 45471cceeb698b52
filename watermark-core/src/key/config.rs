//! The configuration with which an engine writes under a key. It holds the key: write it to a file of mode 0600
//! ([`write_key_file`](super::write_key_file)), and hand over the file.

use zeroize::Zeroizing;

use super::EngineKey;
use crate::profile::{Function, Profile, ProfileError, SchemeSpec};

impl Profile {
    /// The engine's native configuration for this profile under a key, as text: what the engine is given so that
    /// [`bind_engine`](Self::bind_engine) reads what it writes.
    ///
    /// | function | text | goes to |
    /// |---|---|---|
    /// | `vllm` | one JSON object | `--watermark-config` or `watermark_config` of `LLM(..)` |
    /// | `sglang` | one JSON object | the file that `--watermark-config` names |
    /// | `hf-kgw`, `hf-synthid` | one JSON object | the arguments of `WatermarkingConfig` and `SynthIDTextWatermarkingConfig` |
    /// | `synthid-text` | one JSON object | arguments of `SynthIDLogitsProcessor` |
    /// | `three-bricks` | one JSON object | arguments of `WmGenerator` |
    /// | `textseal` | one JSON object | arguments of `WatermarkConfig` |
    ///
    /// vLLM takes its configuration as an argument, which other users of the machine can see: its own
    /// `--config FILE`, in which the object stands under `watermark-config`, keeps it in a file.
    /// Vocabulary sizes are not in it: engines take them from the model.
    ///
    /// # Errors
    /// As [`bind_engine`](Self::bind_engine).
    pub fn engine_config(&self, key: &EngineKey) -> Result<Zeroizing<String>, ProfileError> {
        // Whatever is wrong with profile or key is found there.
        self.bind_engine(key)?;
        let digits: Vec<Zeroizing<String>> = key.decimals().collect();
        let mut text = Zeroizing::new(String::with_capacity(512 + 24 * digits.len()));
        text.push('{');
        let mut field = |name: &str, value: &str| {
            let separator = if text.len() > 1 { ", " } else { "" };
            for part in [separator, "\"", name, "\": ", value] {
                text.push_str(part);
            }
        };
        let width = self.context_width();
        let dual = matches!(self.scheme, SchemeSpec::GumbelDual { .. });
        match self.function {
            Function::Wmk1 => {}
            Function::Vllm => {
                field("key", &digits[0]);
                let algorithm = if dual { "dual_key_gumbel" } else { "gumbel" };
                field("algorithm", &format!("\"{algorithm}\""));
                if dual {
                    field("alpha", &self.engine.alpha.unwrap_or(0.1).to_string());
                }
                field("context_width", &width.to_string());
                field("deduplicate_contexts", "\"single_turn\"");
                field("prf", "\"philox\"");
            }
            Function::Sglang => {
                let hexadecimal =
                    |at: usize| Zeroizing::new(format!("\"{:x}\"", key.integers()[at]));
                field("key", &hexadecimal(0));
                if dual {
                    field("key_b", &hexadecimal(1));
                    let mixing = self.engine.mixing_probability.unwrap_or(0.5);
                    field("mixing_probability", &mixing.to_string());
                }
                field("context_window", &width.to_string());
                field("enforce_all", "true");
            }
            Function::HfKgw => {
                let (SchemeSpec::Greenlist { gamma, delta, .. }
                | SchemeSpec::GreenlistSelfhash { gamma, delta, .. }) = self.scheme
                else {
                    return Ok(text);
                };
                let own = matches!(self.scheme, SchemeSpec::GreenlistSelfhash { .. });
                field("greenlist_ratio", &gamma.to_string());
                field("bias", &delta.to_string());
                field("hashing_key", &digits[0]);
                let seeding = if own { "selfhash" } else { "lefthash" };
                field("seeding_scheme", &format!("\"{seeding}\""));
                // The engine counts the candidate.
                field("context_width", &(width + usize::from(own)).to_string());
            }
            Function::HfSynthid | Function::SynthidText => {
                field("ngram_len", &(width + 1).to_string());
                let mut list = Zeroizing::new(String::with_capacity(24 * digits.len()));
                list.push('[');
                for (at, digits) in digits.iter().enumerate() {
                    list.push_str(if at > 0 { ", " } else { "" });
                    list.push_str(digits);
                }
                list.push(']');
                field("keys", &list);
                if self.function == Function::HfSynthid {
                    let seed = self.engine.sampling_table_seed.unwrap_or(0);
                    field("sampling_table_seed", &seed.to_string());
                    field("sampling_table_size", "65536");
                }
                field("context_history_size", "1024");
                if let SchemeSpec::Tournament { leaves, .. } = self.scheme
                    && self.function == Function::SynthidText
                {
                    field("num_leaves", &leaves.to_string());
                }
            }
            Function::ThreeBricks => {
                field("ngram", &width.to_string());
                field("seed", &digits[0]);
                field("seeding", "\"hash\"");
                field("salt_key", &digits[1]);
                if let SchemeSpec::Greenlist { gamma, delta, .. } = self.scheme {
                    field("gamma", &gamma.to_string());
                    field("delta", &delta.to_string());
                }
            }
            Function::Textseal => {
                field("secret_key", &digits[0]);
                field("ngram", &width.to_string());
                field("watermark_type", "\"gumbelmax\"");
                field("method", "\"uniform\"");
            }
        }
        text.push('}');
        Ok(text)
    }
}
