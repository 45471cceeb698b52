//! The keyed functions, our own and other engines', and what a profile says of the latter.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Profile, ProfileError, RepeatedContexts, SchemeSpec};
use crate::prf::{MAX_CONTEXT, Rounds, Slot};
use crate::scheme::compat::kgw::Sizes;
use crate::scheme::compat::textseal;

/// A keyed function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    /// Our own: SPEC.md.
    #[default]
    Wmk1,
    /// vLLM's Philox: [`vllm`](crate::scheme::compat::vllm).
    Vllm,
    /// SGLang's MurmurHash3: [`sglang`](crate::scheme::compat::sglang).
    Sglang,
    /// transformers' green lists on a CPU: [`kgw`](crate::scheme::compat::kgw).
    HfKgw,
    /// transformers' SynthID, which is also that of PyPI: [`synthid`](crate::scheme::compat::synthid).
    HfSynthid,
    /// The SynthID of the repository synthid-text: [`synthid`](crate::scheme::compat::synthid).
    SynthidText,
    /// three_bricks and radioactive-watermark: [`bricks`](crate::scheme::compat::bricks).
    ThreeBricks,
    /// TextSeal: [`textseal`](crate::scheme::compat::textseal).
    Textseal,
}

impl Function {
    /// Those of other engines.
    pub const FOREIGN: [Self; 7] = [
        Self::Vllm,
        Self::Sglang,
        Self::HfKgw,
        Self::HfSynthid,
        Self::SynthidText,
        Self::ThreeBricks,
        Self::Textseal,
    ];

    /// Its name in profiles and key files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wmk1 => "wmk1",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::HfKgw => "hf-kgw",
            Self::HfSynthid => "hf-synthid",
            Self::SynthidText => "synthid-text",
            Self::ThreeBricks => "three-bricks",
            Self::Textseal => "textseal",
        }
    }

    /// What a reader of results has to know of it.
    pub(super) fn weakness(self) -> Option<&'static str> {
        Some(match self {
            Self::Wmk1 => return None,
            Self::Vllm => {
                "vLLM's function is Philox4x32-10 under a key of 64 bits: fast, not made to resist recovery of the key from text; uniforms have 24 bits, so tokens rarer than 6e-8 starve"
            }
            Self::Sglang => {
                "SGLang folds a key of 64 bits into 32, all of which can be tried on a text; windows are folded into 32 bits too; MurmurHash3 does not resist recovery of the key; past 4,096 marked windows of one request the engine writes without a mark"
            }
            Self::HfKgw => {
                "transformers' lists come from 32 bits of key and token, all of which can be tried on a text; lists of CPU and CUDA generators differ, and these are the CPU's; what follows token id 0 is not keyed"
            }
            Self::HfSynthid => {
                "transformers' SynthID keys have 16 bits a layer and its inputs 16 bits altogether: an exhibit has at most 65,536 cells, the unweighted test loses its power as it fills them (take a part of the text, some 20,000 tokens, fixed beforehand), and a text of some length gives the keys away; the linear hash does not resist recovery of the keys"
            }
            Self::SynthidText => {
                "SynthID's hash is a linear congruential generator, shifted twelve times: it was not made to resist recovery of the keys"
            }
            Self::ThreeBricks => {
                "three_bricks' seeds keep 32 bits of key and window; with seed 0 the first token of a window is not keyed, nor any with h = 1; MT19937 does not resist recovery of its seed; lists and uniforms are a CPU's"
            }
            Self::Textseal => {
                "TextSeal's uniforms have 8,191 values, the largest of which many tokens share; key and input enter one linear sum, so the same shift of either gives the same draws; it does not resist recovery of the key"
            }
        })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Parameters that only some functions have; a field that the profile's function does not have is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EngineParameters {
    /// Number V of tokens that lists are drawn from: `hf-kgw` and green lists of `three-bricks`. It is the number
    /// that the writer was configured with, the model's, and not always the tokenizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary_size: Option<u32>,
    /// `vllm` with two keys: the probability of key B, 0 to 1; 0.1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// `sglang` with two keys: the probability of key A, between 0 and 1; 0.5 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixing_probability: Option<f64>,
    /// `hf-synthid`: the seed of the table; 0 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_table_seed: Option<u64>,
}

impl EngineParameters {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Profile {
    /// What a reader of results has to know of the profile's function; `None` for our own.
    pub fn weakness(&self) -> Option<&'static str> {
        self.function.weakness()
    }

    /// Integers of the engine's key; 0 for our own function.
    pub fn engine_key_count(&self) -> usize {
        match (self.function, &self.scheme) {
            (Function::Wmk1, _) => 0,
            (Function::Sglang, SchemeSpec::GumbelDual { .. }) | (Function::ThreeBricks, _) => 2,
            (_, &SchemeSpec::Tournament { depth, .. }) => usize::from(depth),
            _ => 1,
        }
    }

    /// Whether scheme and parameters fit the function.
    pub(super) fn check_function(&self) -> Result<(), ProfileError> {
        use Function as F;
        use SchemeSpec as S;
        let function = self.function;
        self.check_engine_fields()?;
        if function == F::Wmk1 {
            return Ok(());
        }
        let known = matches!(
            (function, &self.scheme),
            (F::Vllm | F::Sglang, S::Gumbel { .. } | S::GumbelDual { .. })
                | (F::HfKgw, S::Greenlist { .. } | S::GreenlistSelfhash { .. })
                | (F::HfSynthid | F::SynthidText, S::Tournament { .. })
                | (F::ThreeBricks, S::Greenlist { .. } | S::Gumbel { .. })
                | (F::Textseal, S::Gumbel { .. })
        );
        if !known {
            return Err(ProfileError::SchemeOfFunction {
                scheme: self.scheme.name(),
                function,
            });
        }
        let given = self.scheme.context_width();
        let most = match (function, &self.scheme) {
            (F::HfKgw, S::Greenlist { .. }) => 1,
            (F::Textseal, _) => textseal::MAX_WIDTH as u8,
            _ => MAX_CONTEXT as u8,
        };
        if given < 1 || given > most {
            return Err(ProfileError::WidthOfFunction {
                given,
                most,
                function,
            });
        }
        let field = |field| Err(ProfileError::FieldOfFunction { field, function });
        match self.scheme {
            S::Tournament { leaves, .. } if function == F::HfSynthid && leaves != 2 => {
                return field("leaves");
            }
            _ if self.slot != Slot::Provider => return field("slot"),
            _ if self.rounds != Rounds::Eight => return field("rounds"),
            _ => {}
        }
        let alpha = self.engine.alpha.unwrap_or(0.1);
        if !(0.0..=1.0).contains(&alpha) {
            return Err(ProfileError::Probability {
                field: "alpha",
                given: alpha,
            });
        }
        let mixing = self.engine.mixing_probability.unwrap_or(0.5);
        if !(mixing > 0.0 && mixing < 1.0) {
            return Err(ProfileError::Probability {
                field: "mixing_probability",
                given: mixing,
            });
        }
        if self.engine.vocabulary_size.is_some() {
            self.list_sizes()?;
        }
        Ok(())
    }

    fn check_engine_fields(&self) -> Result<(), ProfileError> {
        use Function as F;
        use SchemeSpec as S;
        let (function, dual) = (self.function, matches!(self.scheme, S::GumbelDual { .. }));
        let lists = function == F::HfKgw
            || function == F::ThreeBricks && matches!(self.scheme, S::Greenlist { .. });
        let engine = &self.engine;
        for (field, given, fits) in [
            ("vocabulary_size", engine.vocabulary_size.is_some(), lists),
            ("alpha", engine.alpha.is_some(), function == F::Vllm && dual),
            (
                "mixing_probability",
                engine.mixing_probability.is_some(),
                function == F::Sglang && dual,
            ),
            (
                "sampling_table_seed",
                engine.sampling_table_seed.is_some(),
                function == F::HfSynthid,
            ),
        ] {
            if given && !fits {
                return Err(ProfileError::EngineField {
                    field,
                    scheme: self.scheme.name(),
                    function,
                });
            }
        }
        Ok(())
    }

    /// Sizes of the lists of a profile that has them.
    pub(super) fn list_sizes(&self) -> Result<Sizes, ProfileError> {
        use SchemeSpec as S;
        let (S::Greenlist { gamma, .. } | S::GreenlistSelfhash { gamma, .. }) = self.scheme else {
            return Err(ProfileError::SchemeOfFunction {
                scheme: self.scheme.name(),
                function: self.function,
            });
        };
        let Some(vocabulary) = self.engine.vocabulary_size else {
            return Err(ProfileError::NoVocabularySize {
                id: self.id.clone(),
            });
        };
        Sizes::new(vocabulary, gamma).ok_or(ProfileError::ListSize { vocabulary, gamma })
    }
}

/// The names of the built-in profiles of other engines. Those of green lists take the vocabulary's size after a
/// colon: `hf-kgw-lefthash:50257`.
pub const COMPATIBLE: [&str; 11] = [
    "vllm-gumbel",
    "vllm-dual-key-gumbel",
    "sglang-gumbel",
    "sglang-dual-key-gumbel",
    "hf-kgw-lefthash",
    "hf-kgw-selfhash",
    "hf-synthid",
    "synthid-text",
    "three-bricks-greenlist",
    "three-bricks-gumbel",
    "textseal-gumbel",
];

/// A built-in profile of another engine, with the engine's own defaults.
pub(super) fn compatible(name: &str) -> Option<Profile> {
    let (base, size) = match name.split_once(':') {
        Some((base, size)) => (base, Some(size.parse().ok()?)),
        None => (name, None),
    };
    let gumbel = SchemeSpec::Gumbel { context_width: 4 };
    let dual = SchemeSpec::GumbelDual { context_width: 4 };
    let tournament = SchemeSpec::Tournament {
        context_width: 4,
        depth: 30,
        leaves: 2,
    };
    let (function, scheme) = match base {
        "vllm-gumbel" => (Function::Vllm, gumbel),
        "vllm-dual-key-gumbel" => (Function::Vllm, dual),
        "sglang-gumbel" => (Function::Sglang, gumbel),
        "sglang-dual-key-gumbel" => (Function::Sglang, dual),
        "hf-kgw-lefthash" => (
            Function::HfKgw,
            SchemeSpec::Greenlist {
                context_width: 1,
                gamma: 0.25,
                delta: 2.0,
            },
        ),
        "hf-kgw-selfhash" => (
            Function::HfKgw,
            SchemeSpec::GreenlistSelfhash {
                context_width: 3,
                gamma: 0.25,
                delta: 2.0,
            },
        ),
        "hf-synthid" => (Function::HfSynthid, tournament),
        "synthid-text" => (Function::SynthidText, tournament),
        "three-bricks-greenlist" => (
            Function::ThreeBricks,
            SchemeSpec::Greenlist {
                context_width: 4,
                gamma: 0.25,
                delta: 2.0,
            },
        ),
        "three-bricks-gumbel" => (Function::ThreeBricks, gumbel),
        "textseal-gumbel" => (Function::Textseal, SchemeSpec::Gumbel { context_width: 4 }),
        _ => return None,
    };
    let mut profile = Profile::new(name, scheme);
    profile.function = function;
    profile.engine.vocabulary_size = size;
    let tilts = profile.repeated_contexts == RepeatedContexts::Mark;
    (size.is_none() || tilts).then_some(profile)
}
