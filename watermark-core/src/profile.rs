//! A profile: everything about a mark but the key, as data. One JSON form, for built-in ones and
//! for files.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::key::{EngineKey, EngineKeyError, Epoch, KeyId, SlotKey, SlotLabel};
use crate::prf::{Binding, MAX_CONTEXT, Prf, Rounds, Slot};
use crate::scheme::compat::{bricks, kgw, sglang, synthid, textseal, vllm};
use crate::scheme::{
    GreenList, GreenListKey, GreenShare, Gumbel, GumbelKey, Scheme, SelfHash, Tournament,
    TournamentKey,
};

mod function;

pub use function::{COMPATIBLE, EngineParameters, Function};

/// The value of a profile's `schema` field.
pub const PROFILE_SCHEMA: &str = "watermark.profile/1";

/// Scheme, parameters and the writer's rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`PROFILE_SCHEMA`].
    #[cfg_attr(feature = "schema", schemars(extend("const" = PROFILE_SCHEMA)))]
    pub schema: String,
    /// A name for people.
    pub id: String,
    /// The keyed function: `wmk1` or another engine's.
    #[serde(default)]
    pub function: Function,
    /// Provider or leak slot.
    #[serde(default = "provider")]
    pub slot: Slot,
    /// The scheme and its parameters.
    pub scheme: SchemeSpec,
    /// Rounds of ChaCha, 8 or 20.
    #[serde(default)]
    pub rounds: Rounds,
    /// What the writer does where a window comes again in a sequence.
    #[serde(default)]
    pub repeated_contexts: RepeatedContexts,
    /// The writer leaves positions of less entropy (nats) alone; 0 marks all.
    #[serde(default)]
    pub min_entropy: f64,
    /// Whether the mark must not be switched off or rationed for a sequence: what a server sets, whose requests come
    /// from strangers. See [`Session::set_enabled`](crate::sampler::Session::set_enabled).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub enforced: bool,
    /// Token ids that are no text of an answer, ascending: the end of the text, markers of turns, of reasoning and of
    /// tool calls. A segment ends at each ([`segments`](crate::window::segments)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special_tokens: Vec<u32>,
    /// The vocabulary that token ids refer to; without it any is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Vocabulary>,
    /// Parameters of another engine's function.
    #[serde(default, skip_serializing_if = "EngineParameters::is_empty")]
    pub engine: EngineParameters,
}

fn provider() -> Slot {
    Slot::Provider
}

/// The writer's rule for a window that stood earlier in the sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RepeatedContexts {
    /// Ordinary sampling: else a scheme that fixes the token for its window makes text loop.
    #[default]
    Skip,
    /// Mark again: harmless for a green list, which only tilts the odds.
    Mark,
}

/// A vocabulary pinned by size and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Vocabulary {
    /// Number of token ids. A model may have more logits: the further ones are no candidates.
    pub size: u32,
    /// [`Tokenizer::digest`](crate::text::Tokenizer::digest) in hexadecimal.
    pub sha256: String,
}

impl Vocabulary {
    /// The vocabulary of a tokenizer.
    pub fn of(tokenizer: &dyn crate::text::Tokenizer) -> Self {
        Self {
            size: tokenizer.vocab_size() as u32,
            sha256: crate::hex(&tokenizer.digest()),
        }
    }
}

/// A scheme with its parameters; `context_width` is h, the preceding tokens that seed a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SchemeSpec {
    /// Bernoulli green list; h from 0.
    Greenlist {
        /// h.
        context_width: u8,
        /// Share of green tokens, above 0 and below 1.
        gamma: f64,
        /// Bonus on green logits, nats, at least 0.
        delta: f32,
    },
    /// Green list whose coin depends on one context token; h from 1.
    GreenlistSelfhash {
        /// h.
        context_width: u8,
        /// Share of green tokens, above 0 and below 1.
        gamma: f64,
        /// Bonus on green logits, nats, at least 0.
        delta: f32,
    },
    /// Gumbel-max under one key; h from 1.
    Gumbel {
        /// h.
        context_width: u8,
    },
    /// Gumbel-max under two keys; h from 1.
    GumbelDual {
        /// h.
        context_width: u8,
    },
    /// Tournament sampling; h from 1.
    Tournament {
        /// h.
        context_width: u8,
        /// Layers, 1 to 255.
        depth: u8,
        /// Competitors a match, from 2.
        #[serde(default = "two")]
        leaves: u8,
    },
}

fn two() -> u8 {
    2
}

/// Why a profile cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// Not JSON, an unknown field, a missing one, a value of the wrong type.
    #[error("line {line}, column {column}: {message}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// Another schema.
    #[error("field `schema` is `{0}`; this version reads `{PROFILE_SCHEMA}`")]
    Schema(String),
    /// h out of range.
    #[error(
        "field `context_width` is {given}; this scheme takes {least} to {MAX_CONTEXT} context tokens"
    )]
    ContextWidth {
        /// As given.
        given: u8,
        /// The least that this scheme takes.
        least: u8,
    },
    /// gamma out of range.
    #[error(
        "field `gamma` is {0}; the share of green tokens must be above 0 and below 1 (in steps of 1/65536)"
    )]
    Gamma(f64),
    /// delta out of range.
    #[error("field `delta` is {0}; the bonus must be a number from 0 to 50 nats")]
    Delta(f32),
    /// Depth zero.
    #[error("field `depth` is 0; a tournament has at least one layer")]
    Depth,
    /// Fewer than two leaves.
    #[error("field `leaves` is {0}; a match has at least two competitors")]
    Leaves(u8),
    /// Entropy gate out of range.
    #[error("field `min_entropy` is {0}; it must be a number of nats, at least 0")]
    MinEntropy(f64),
    /// A gate on a scheme that fixes tokens would loop.
    #[error(
        "field `repeated_contexts` is `mark`: a Gumbel or tournament mark would make text loop; use `skip`"
    )]
    RepeatedContexts,
    /// Special tokens out of order, or outside the vocabulary.
    #[error(
        "field `special_tokens`: {token} comes after {before}; list every id once, in ascending order"
    )]
    SpecialOrder {
        /// The id.
        token: u32,
        /// The one before it.
        before: u32,
    },
    /// An id that the vocabulary does not have.
    #[error(
        "{what}: token id {token} is outside the vocabulary of {size} ids of profile `{id}`; was it made with another tokenizer, or is it a padding row of the model's logits?"
    )]
    TokenId {
        /// The field, or the text and position.
        what: String,
        /// The id.
        token: u32,
        /// Ids of the vocabulary.
        size: u32,
        /// The profile's id.
        id: String,
    },
    /// A leak slot without an account, or the reverse.
    #[error(
        "a leak slot marks for one account, numbered from 1, and a provider slot for none: account {account} does not fit slot `{slot:?}`"
    )]
    Account {
        /// The account; 0 is none.
        account: u32,
        /// The profile's slot.
        slot: Slot,
    },
    /// The function has no such scheme.
    #[error("function `{function}` has no scheme `{scheme}`")]
    SchemeOfFunction {
        /// The scheme's type.
        scheme: &'static str,
        /// The function.
        function: Function,
    },
    /// h out of the function's range.
    #[error(
        "field `context_width` is {given}; function `{function}` takes 1 to {most} preceding tokens with this scheme"
    )]
    WidthOfFunction {
        /// As given.
        given: u8,
        /// The most that is taken.
        most: u8,
        /// The function.
        function: Function,
    },
    /// A field of our own function.
    #[error("field `{field}`: function `{function}` has no choice there; leave the field out")]
    FieldOfFunction {
        /// The field.
        field: &'static str,
        /// The function.
        function: Function,
    },
    /// A parameter of another function or scheme.
    #[error(
        "field `engine.{field}` is not a parameter of scheme `{scheme}` of function `{function}`; leave it out"
    )]
    EngineField {
        /// The field.
        field: &'static str,
        /// The scheme's type.
        scheme: &'static str,
        /// The function.
        function: Function,
    },
    /// A probability out of range.
    #[error("field `engine.{field}` is {given}; it is a probability")]
    Probability {
        /// The field.
        field: &'static str,
        /// As given.
        given: f64,
    },
    /// Lists of an unknown vocabulary.
    #[error(
        "profile `{id}`: lists depend on the number of tokens that they are drawn from, and field `engine.vocabulary_size` is missing; give the writer's own (`vocab_size` of the model's configuration, for three_bricks the tokenizer's), in a profile file or after the built-in name: {id}:50257"
    )]
    NoVocabularySize {
        /// The profile's id.
        id: String,
    },
    /// Lists that hold nothing or everything.
    #[error(
        "fields `engine.vocabulary_size` and `gamma`: {gamma} of {vocabulary} tokens, rounded down, are none or all"
    )]
    ListSize {
        /// Tokens.
        vocabulary: u32,
        /// Share.
        gamma: f64,
    },
    /// The key is one of another function.
    #[error(
        "the key file is one of function `{held}`, and profile `{id}` has function `{wanted}`; give the key and the profile of the same engine"
    )]
    FunctionOfKey {
        /// The key's function.
        held: Function,
        /// The profile's id.
        id: String,
        /// Its function.
        wanted: Function,
    },
    /// The key has too few integers, or too many.
    #[error("the key holds {held} integers, and profile `{id}` takes {wanted}")]
    CountOfKey {
        /// The key's integers.
        held: usize,
        /// The profile's id.
        id: String,
        /// Its integers.
        wanted: usize,
    },
    /// Two layers with one key.
    #[error(
        "the keys of layers {first} and {second} are the same in the 16 bits that the function takes: the two layers are one; give other keys, or a profile and a key without one of the layers"
    )]
    SameLayer {
        /// A layer, from 1.
        first: usize,
        /// Another.
        second: usize,
    },
    /// A key that cannot be derived.
    #[error(transparent)]
    Key(#[from] EngineKeyError),
    /// The tokenizer is another one.
    #[error(
        "the tokenizer is not the profile's: it has {size} ids and digest {digest}, profile `{id}` wants {wanted_size} and {wanted}; use the tokenizer that the mark was written with"
    )]
    Vocabulary {
        /// The profile's id.
        id: String,
        /// Ids of the tokenizer at hand.
        size: usize,
        /// Its digest.
        digest: String,
        /// Ids that the profile wants.
        wanted_size: u32,
        /// The digest that it wants.
        wanted: String,
    },
}

impl SchemeSpec {
    /// h.
    pub fn context_width(&self) -> u8 {
        match *self {
            Self::Greenlist { context_width, .. }
            | Self::GreenlistSelfhash { context_width, .. }
            | Self::Gumbel { context_width }
            | Self::GumbelDual { context_width }
            | Self::Tournament { context_width, .. } => context_width,
        }
    }

    /// Its `type`.
    fn name(&self) -> &'static str {
        match self {
            Self::Greenlist { .. } => "greenlist",
            Self::GreenlistSelfhash { .. } => "greenlist-selfhash",
            Self::Gumbel { .. } => "gumbel",
            Self::GumbelDual { .. } => "gumbel-dual",
            Self::Tournament { .. } => "tournament",
        }
    }

    /// The scheme's number in the scheme key (SPEC.md, table of schemes).
    fn number(&self) -> u8 {
        match self {
            Self::Greenlist { .. } => 1,
            Self::Gumbel { .. } => 2,
            Self::GumbelDual { .. } => 3,
            Self::Tournament { .. } => 4,
            Self::GreenlistSelfhash { .. } => 5,
        }
    }

    fn check(&self) -> Result<(), ProfileError> {
        let least = u8::from(!matches!(self, Self::Greenlist { .. }));
        let given = self.context_width();
        if given < least || usize::from(given) > MAX_CONTEXT {
            return Err(ProfileError::ContextWidth { given, least });
        }
        match *self {
            Self::Greenlist { gamma, delta, .. } | Self::GreenlistSelfhash { gamma, delta, .. } => {
                GreenShare::nearest(gamma).ok_or(ProfileError::Gamma(gamma))?;
                if !(0.0..=50.0).contains(&delta) {
                    return Err(ProfileError::Delta(delta));
                }
            }
            Self::Tournament { depth: 0, .. } => return Err(ProfileError::Depth),
            Self::Tournament { leaves, .. } if leaves < 2 => {
                return Err(ProfileError::Leaves(leaves));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Profile {
    /// A profile with the defaults of its scheme.
    pub fn new(id: &str, scheme: SchemeSpec) -> Self {
        let tilts = matches!(
            scheme,
            SchemeSpec::Greenlist { .. } | SchemeSpec::GreenlistSelfhash { .. }
        );
        Self {
            schema: PROFILE_SCHEMA.to_owned(),
            id: id.to_owned(),
            function: Function::Wmk1,
            slot: Slot::Provider,
            scheme,
            rounds: Rounds::Eight,
            repeated_contexts: if tilts {
                RepeatedContexts::Mark
            } else {
                RepeatedContexts::Skip
            },
            min_entropy: 0.0,
            enforced: false,
            special_tokens: Vec::new(),
            vocabulary: None,
            engine: EngineParameters::default(),
        }
    }

    /// Parses and checks the JSON form.
    pub fn from_json(json: &str) -> Result<Self, ProfileError> {
        let profile: Self = serde_json::from_str(json).map_err(|error| {
            let (line, column, message) = crate::json::place_and_message(&error);
            ProfileError::Json {
                line,
                column,
                message,
            }
        })?;
        profile.check()?;
        Ok(profile)
    }

    /// The JSON form, one line a field.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a profile is plain data")
    }

    /// h.
    pub fn context_width(&self) -> usize {
        usize::from(self.scheme.context_width())
    }

    fn check(&self) -> Result<(), ProfileError> {
        if self.schema != PROFILE_SCHEMA {
            return Err(ProfileError::Schema(self.schema.clone()));
        }
        self.scheme.check()?;
        self.check_function()?;
        if !(self.min_entropy >= 0.0 && self.min_entropy.is_finite()) {
            return Err(ProfileError::MinEntropy(self.min_entropy));
        }
        let tilts = matches!(
            self.scheme,
            SchemeSpec::Greenlist { .. } | SchemeSpec::GreenlistSelfhash { .. }
        );
        if self.repeated_contexts == RepeatedContexts::Mark && !tilts {
            return Err(ProfileError::RepeatedContexts);
        }
        let pairs = self
            .special_tokens
            .iter()
            .zip(self.special_tokens.iter().skip(1));
        if let Some((&before, &token)) = pairs.into_iter().find(|(before, token)| before >= token) {
            return Err(ProfileError::SpecialOrder { token, before });
        }
        self.check_ids("field `special_tokens`", &self.special_tokens)
    }

    /// Whether every id is one of the vocabulary, where the profile pins one. `what` names the ids in the error: a
    /// reader who meets the id of a padding row has other ids than the writer's.
    pub fn check_ids(&self, what: &str, tokens: &[u32]) -> Result<(), ProfileError> {
        let Some(vocabulary) = &self.vocabulary else {
            return Ok(());
        };
        let size = vocabulary.size;
        match tokens.iter().position(|&token| token >= size) {
            None => Ok(()),
            Some(at) => Err(ProfileError::TokenId {
                what: format!("{what}, position {at}"),
                token: tokens[at],
                size,
                id: self.id.clone(),
            }),
        }
    }

    /// Whether a token is one of [`special_tokens`](Self::special_tokens).
    pub fn is_special(&self, token: u32) -> bool {
        self.special_tokens.binary_search(&token).is_ok()
    }

    /// The segments of an answer's ids: [`segments`](crate::window::segments) between the profile's special tokens.
    pub fn segments<'t>(&'t self, tokens: &'t [u32]) -> impl Iterator<Item = &'t [u32]> {
        crate::window::segments(tokens, &self.special_tokens)
    }

    /// Whether a tokenizer is the one that the profile's ids refer to.
    pub fn check_tokenizer(
        &self,
        tokenizer: &dyn crate::text::Tokenizer,
    ) -> Result<(), ProfileError> {
        let Some(wanted) = &self.vocabulary else {
            return Ok(());
        };
        let digest = crate::hex(&tokenizer.digest());
        if wanted.sha256 == digest {
            return Ok(());
        }
        Err(ProfileError::Vocabulary {
            id: self.id.clone(),
            size: tokenizer.vocab_size(),
            digest,
            wanted_size: wanted.size,
            wanted: wanted.sha256.clone(),
        })
    }

    /// The mark of a provider slot.
    pub fn bind(&self, slot_key: &SlotKey) -> Result<Mark, ProfileError> {
        self.bind_account(slot_key, 0)
    }

    /// The mark of a leak slot for one account, from 1.
    pub fn bind_account(&self, slot_key: &SlotKey, account: u32) -> Result<Mark, ProfileError> {
        self.check()?;
        if (account == 0) != (self.slot == Slot::Provider) {
            return Err(ProfileError::Account {
                account,
                slot: self.slot,
            });
        }
        let scheme = match self.engine_key_count() {
            0 => self.scheme(slot_key, account)?,
            _ => self.foreign_scheme(&self.engine_key(slot_key)?)?,
        };
        Ok(Mark {
            scheme,
            profile: self.clone(),
            account,
            key_id: slot_key.id(),
            label: slot_key.label().clone(),
        })
    }

    /// What a slot's key is in the engine's configuration ([`EngineKey::of_slot`]): a mark bound to the slot reads
    /// what the engine writes under it.
    ///
    /// # Errors
    /// The profile's function is our own, or the profile is not valid.
    pub fn engine_key(&self, slot_key: &SlotKey) -> Result<EngineKey, ProfileError> {
        self.check()?;
        let count = self.engine_key_count();
        Ok(EngineKey::of_slot(self.function, count, slot_key)?)
    }

    /// The mark under an engine's own key.
    ///
    /// # Errors
    /// The key is not one of this profile, or the profile is not valid.
    pub fn bind_engine(&self, key: &EngineKey) -> Result<Mark, ProfileError> {
        self.bind_foreign(key, key.id())
    }

    /// Marks under decoy keys, [`EngineKey::decoy`], from the first; for keys that come from no slot.
    ///
    /// # Errors
    /// As [`bind_engine`](Self::bind_engine).
    pub fn engine_decoys(&self, count: usize) -> Result<Vec<Mark>, ProfileError> {
        (0..count as u32)
            .map(|index| {
                let key = EngineKey::decoy(self.function, self.engine_key_count(), index)?;
                // The slow id of every decoy would cost more than the test.
                self.bind_foreign(&key, KeyId::of_decoy(index))
            })
            .collect()
    }

    fn bind_foreign(&self, key: &EngineKey, key_id: KeyId) -> Result<Mark, ProfileError> {
        self.check()?;
        Ok(Mark {
            scheme: self.foreign_scheme(key)?,
            profile: self.clone(),
            account: 0,
            key_id,
            label: SlotLabel {
                epoch: Epoch::new("engine").expect("a label"),
                index: 0,
            },
        })
    }

    /// The scheme of another engine's function.
    fn foreign_scheme(&self, key: &EngineKey) -> Result<Arc<dyn Scheme>, ProfileError> {
        if key.function() != self.function {
            return Err(ProfileError::FunctionOfKey {
                held: key.function(),
                id: self.id.clone(),
                wanted: self.function,
            });
        }
        let (held, wanted) = (key.count(), self.engine_key_count());
        if held != wanted {
            return Err(ProfileError::CountOfKey {
                held,
                id: self.id.clone(),
                wanted,
            });
        }
        let (keys, width, engine) = (key.integers(), self.context_width(), &self.engine);
        let first = keys[0];
        let none = || ProfileError::SchemeOfFunction {
            scheme: self.scheme.name(),
            function: self.function,
        };
        Ok(match (self.function, &self.scheme) {
            (Function::Vllm, SchemeSpec::Gumbel { .. }) => {
                Arc::new(vllm::Vllm::new(width, first, None))
            }
            (Function::Vllm, SchemeSpec::GumbelDual { .. }) => {
                let alpha = engine.alpha.unwrap_or(0.1);
                Arc::new(vllm::Vllm::new(width, first, Some(alpha)))
            }
            (Function::Sglang, SchemeSpec::Gumbel { .. }) => {
                Arc::new(sglang::Sglang::new(width, first, None))
            }
            (Function::Sglang, SchemeSpec::GumbelDual { .. }) => {
                let mixing = engine.mixing_probability.unwrap_or(0.5);
                Arc::new(sglang::Sglang::new(width, first, Some((keys[1], mixing))))
            }
            (Function::HfKgw, &SchemeSpec::Greenlist { delta, .. }) => {
                Arc::new(kgw::LeftHash::new(first, self.list_sizes()?, delta))
            }
            (Function::HfKgw, &SchemeSpec::GreenlistSelfhash { delta, .. }) => Arc::new(
                kgw::HfSelfHash::new(width, first, self.list_sizes()?, delta),
            ),
            (Function::HfSynthid, SchemeSpec::Tournament { .. }) => {
                for (second, key) in keys.iter().enumerate() {
                    let same = |other: &u64| *other as u16 == *key as u16;
                    if let Some(first) = keys[..second].iter().position(same) {
                        return Err(ProfileError::SameLayer {
                            first: first + 1,
                            second: second + 1,
                        });
                    }
                }
                let seed = engine.sampling_table_seed.unwrap_or(0);
                Arc::new(synthid::HfSynthId::new(width, keys, seed))
            }
            (Function::SynthidText, &SchemeSpec::Tournament { leaves, .. }) => {
                Arc::new(synthid::SynthIdText::new(width, keys, leaves.into()))
            }
            (Function::ThreeBricks, &SchemeSpec::Greenlist { delta, .. }) => Arc::new(
                bricks::BricksList::new(width, [first, keys[1]], self.list_sizes()?, delta),
            ),
            (Function::ThreeBricks, SchemeSpec::Gumbel { .. }) => {
                Arc::new(bricks::BricksGumbel::new(width, [first, keys[1]]))
            }
            (Function::Textseal, SchemeSpec::Gumbel { .. }) => {
                Arc::new(textseal::TextSeal::new(width, first as i64))
            }
            _ => return Err(none()),
        })
    }

    fn scheme(&self, slot_key: &SlotKey, account: u32) -> Result<Arc<dyn Scheme>, ProfileError> {
        let share = match self.scheme {
            SchemeSpec::Greenlist { gamma, .. } | SchemeSpec::GreenlistSelfhash { gamma, .. } => {
                Some(GreenShare::nearest(gamma).ok_or(ProfileError::Gamma(gamma))?)
            }
            _ => None,
        };
        let (bits, parameter) = match (&self.scheme, share) {
            (SchemeSpec::Tournament { depth, leaves, .. }, _) => {
                (32, u32::from(*depth) | u32::from(*leaves) << 16)
            }
            (_, Some(share)) => (share.bits() as u8, share.threshold()),
            (_, None) => (32, 0),
        };
        let binding = Binding {
            scheme: self.scheme.number(),
            context_width: self.scheme.context_width(),
            bits,
            parameter,
            slot: self.slot,
            rounds: self.rounds,
        };
        let prf = Prf::new(slot_key, &binding);
        let green = |prf, delta| GreenListKey {
            prf,
            binding,
            account,
            share: share.expect("a green list has a share"),
            delta,
        };
        Ok(match self.scheme {
            SchemeSpec::Greenlist { delta, .. } => Arc::new(GreenList::new(green(prf, delta))),
            SchemeSpec::GreenlistSelfhash { delta, .. } => {
                Arc::new(SelfHash::new(green(prf, delta)))
            }
            SchemeSpec::Gumbel { .. } | SchemeSpec::GumbelDual { .. } => {
                Arc::new(Gumbel::new(GumbelKey {
                    prf,
                    binding,
                    account,
                    dual_key: matches!(self.scheme, SchemeSpec::GumbelDual { .. }),
                }))
            }
            SchemeSpec::Tournament { depth, leaves, .. } => {
                Arc::new(Tournament::new(TournamentKey {
                    prf,
                    binding,
                    account,
                    depth: u32::from(depth),
                    leaves: u32::from(leaves),
                }))
            }
        })
    }
}

/// The names of the built-in profiles of our own function; the first is the default.
pub const BUILT_IN: [&str; 8] = [
    "greenlist-h1",
    "greenlist-h2",
    "gumbel-dual-h2",
    "gumbel-h2",
    "tournament-h2",
    "selfhash-h4",
    "greenlist-h4",
    "gumbel-dual-h4",
];

impl Profile {
    /// A built-in profile by name: one of [`BUILT_IN`] or [`COMPATIBLE`].
    pub fn built_in(name: &str) -> Option<Self> {
        let greenlist = |context_width| SchemeSpec::Greenlist {
            context_width,
            gamma: 0.25,
            delta: 3.0,
        };
        let scheme = match name {
            "greenlist-h1" => greenlist(1),
            "greenlist-h2" => greenlist(2),
            "greenlist-h4" => greenlist(4),
            "selfhash-h4" => SchemeSpec::GreenlistSelfhash {
                context_width: 4,
                gamma: 0.25,
                delta: 3.0,
            },
            "gumbel-h2" => SchemeSpec::Gumbel { context_width: 2 },
            "gumbel-dual-h2" => SchemeSpec::GumbelDual { context_width: 2 },
            "gumbel-dual-h4" => SchemeSpec::GumbelDual { context_width: 4 },
            "tournament-h2" => SchemeSpec::Tournament {
                context_width: 2,
                depth: 30,
                leaves: 2,
            },
            _ => return function::compatible(name),
        };
        Some(Self::new(name, scheme))
    }
}

/// A profile under a key: what writer and reader share.
#[derive(Clone, Debug)]
pub struct Mark {
    scheme: Arc<dyn Scheme>,
    profile: Profile,
    account: u32,
    key_id: KeyId,
    label: SlotLabel,
}

impl Mark {
    /// The scheme, keyed.
    pub fn scheme(&self) -> &dyn Scheme {
        &*self.scheme
    }

    /// The profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The account of a leak slot; 0 in a provider slot.
    pub fn account(&self) -> u32 {
        self.account
    }

    /// The public name of the slot's key.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Epoch and index of the slot.
    pub fn label(&self) -> &SlotLabel {
        &self.label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_profiles_survive_a_round_trip() {
        for name in BUILT_IN {
            let profile = Profile::built_in(name).unwrap();
            assert_eq!(Profile::from_json(&profile.to_json()), Ok(profile));
        }
        assert_eq!(Profile::built_in("nothing"), None);
    }

    #[test]
    fn bad_profiles_are_named_by_field() {
        let with = |scheme: &str, rest: &str| {
            let json =
                format!(r#"{{"schema":"watermark.profile/1","id":"x","scheme":{scheme}{rest}}}"#);
            Profile::from_json(&json).unwrap_err().to_string()
        };
        let green = |gamma: &str, delta: &str| {
            format!(r#"{{"type":"greenlist","context_width":1,"gamma":{gamma},"delta":{delta}}}"#)
        };
        let gumbel = r#"{"type":"gumbel","context_width":2}"#;
        for (message, field) in [
            (with(&green("0", "2"), ""), "gamma"),
            (with(&green("1", "2"), ""), "gamma"),
            (with(&green("0.5", "-1"), ""), "delta"),
            (
                with(r#"{"type":"gumbel","context_width":0}"#, ""),
                "context_width",
            ),
            (
                with(r#"{"type":"gumbel","context_width":12}"#, ""),
                "context_width",
            ),
            (
                with(r#"{"type":"tournament","context_width":2,"depth":0}"#, ""),
                "depth",
            ),
            (
                with(
                    r#"{"type":"tournament","context_width":2,"depth":3,"leaves":1}"#,
                    "",
                ),
                "leaves",
            ),
            (
                with(gumbel, r#","repeated_contexts":"mark""#),
                "repeated_contexts",
            ),
            (with(gumbel, r#","min_entropy":-1"#), "min_entropy"),
            (with(gumbel, r#","colour":"red""#), "colour"),
            (with(gumbel, r#","enforced":1"#), "boolean"),
            (with(gumbel, r#","special_tokens":[7,7]"#), "special_tokens"),
            (
                with(
                    gumbel,
                    r#","special_tokens":[5,9],"vocabulary":{"size":9,"sha256":"00"}"#,
                ),
                "token id 9",
            ),
            (with(gumbel, r#","rounds":12"#), "rounds"),
            (with(r#"{"type":"magic"}"#, ""), "magic"),
        ] {
            assert!(message.contains(field), "{message} should name {field}");
        }
    }

    #[test]
    fn accounts_fit_the_slot() {
        let key = crate::key::SlotKey::from_parts([1; 32], crate::key::Epoch::new("e").unwrap(), 0);
        let provider = Profile::built_in("gumbel-h2").unwrap();
        let leak = Profile {
            slot: Slot::Leak,
            ..provider.clone()
        };
        assert!(provider.bind(&key).is_ok() && leak.bind_account(&key, 1).is_ok());
        assert!(provider.bind_account(&key, 1).is_err() && leak.bind(&key).is_err());
    }
}
