//! For someone who pays by the query: test after every answer, and stop when decided.
//!
//! Every new cell is a bet at the odds of the null law, and what the bets have made of one unit is an
//! e-value: under H0 it reaches 1 / alpha with probability at most alpha, however often one looks
//! (Ville 1939). So sampling may stop at the first look that shows it, or when it has become
//! improbable, and the claim stands. After stopping E is reported, and 1 / E as p.
//!
//! Conditions (the clean regime): prompts and the order of the questions do not depend on the key; every
//! answer is taken in, in order, none left out after its scores were seen. The state remembers the cells,
//! so that a later session does not bet on a coin again.

use serde::{Deserialize, Serialize};

use crate::detect::Score;
use crate::profile::{Mark, Profile, Vocabulary};
use crate::stats::LnP;
use crate::stats::evalue::{LnE, Mixture};
use crate::window::Exhibit;

/// The value of a state's `schema` field.
pub const STATE_SCHEMA: &str = "watermark.anytime/2";

/// Everything that was asked so far, in a form that can be saved between sessions. It holds token
/// ids, and no key. A state belongs to one key, account, profile and vocabulary: the same answers mean other coins
/// under any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// [`STATE_SCHEMA`].
    #[cfg_attr(feature = "schema", schemars(extend("const" = STATE_SCHEMA)))]
    pub schema: String,
    /// The key's public name.
    pub key_id: String,
    /// The account of a leak slot; 0 in a provider slot.
    pub account: u32,
    /// The profile, all of it: an id alone would let its values change.
    pub profile: Profile,
    /// The vocabulary that the token ids refer to, if it is known.
    pub vocabulary: Option<Vocabulary>,
    /// What happened, in order: a prompt excludes windows from there on.
    pub events: Vec<Event>,
    /// Looks so far.
    pub looks: u64,
}

/// What a state remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase", try_from = "EventForm")]
pub enum Event {
    /// The token ids of a prompt.
    Prompt(Vec<u32>),
    /// The token ids of an answer.
    Answer(Vec<u32>),
}

/// An event as it is read: an object whose wrong field has a name.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend("oneOf" = [{"required": ["prompt"]}, {"required": ["answer"]}]))
)]
#[serde(deny_unknown_fields)]
struct EventForm {
    /// The token ids of a prompt.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<u32>"))]
    prompt: Option<Vec<u32>>,
    /// The token ids of an answer.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<u32>"))]
    answer: Option<Vec<u32>>,
}

impl TryFrom<EventForm> for Event {
    type Error = &'static str;

    fn try_from(form: EventForm) -> Result<Self, Self::Error> {
        match (form.prompt, form.answer) {
            (Some(ids), None) => Ok(Self::Prompt(ids)),
            (None, Some(ids)) => Ok(Self::Answer(ids)),
            _ => Err("an event of `events` has one of the fields `prompt` and `answer`"),
        }
    }
}

/// Why a state cannot be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not JSON of this form.
    #[error("{0}")]
    Json(String),
    /// Another schema.
    #[error("`schema` is `{0}`; this version reads `{STATE_SCHEMA}`")]
    Schema(String),
    /// Begun under another key, account or profile.
    #[error("it was begun under {field} {found}, not {given}; a bet cannot change its key midway")]
    Other {
        /// `key`, `account` or `profile`.
        field: &'static str,
        /// In the state.
        found: String,
        /// Now.
        given: String,
    },
    /// Begun under a profile of the same name with other values.
    #[error(
        "it was begun under profile {id} with another `{field}`: {found}, not {given}; a bet cannot change its rules midway"
    )]
    Profile {
        /// The id of both.
        id: String,
        /// The first field that differs.
        field: String,
        /// In the state, as JSON.
        found: String,
        /// Now.
        given: String,
    },
    /// Begun with another tokenizer.
    #[error(
        "its token ids are of another vocabulary: {found}, not {given}; use the tokenizer that it was begun with"
    )]
    Vocabulary {
        /// In the state.
        found: String,
        /// Now.
        given: String,
    },
}

/// What every form of a state has.
#[derive(Deserialize)]
struct Schema {
    schema: String,
}

impl State {
    /// Whether a watch that begins as `given` may go on from this.
    fn check(&self, given: &Self) -> Result<(), StateError> {
        let profiles = (&self.profile.id, &given.profile.id);
        for (field, found, given) in [
            ("key", self.key_id.clone(), given.key_id.clone()),
            (
                "account",
                self.account.to_string(),
                given.account.to_string(),
            ),
            ("profile", profiles.0.clone(), profiles.1.clone()),
        ] {
            if found != given {
                return Err(StateError::Other {
                    field,
                    found,
                    given,
                });
            }
        }
        if self.profile != given.profile {
            return Err(other_values(&self.profile, &given.profile));
        }
        if self.vocabulary != given.vocabulary {
            let name = |vocabulary: &Option<Vocabulary>| match vocabulary {
                Some(known) => format!("{} ids with digest {}", known.size, known.sha256),
                None => "an unknown one".to_owned(),
            };
            return Err(StateError::Vocabulary {
                found: name(&self.vocabulary),
                given: name(&given.vocabulary),
            });
        }
        Ok(())
    }
}

/// The first difference of two profiles, as their JSON shows it.
fn other_values(found: &Profile, given: &Profile) -> StateError {
    let json = |profile| serde_json::to_value(profile).unwrap_or_default();
    let (ours, theirs) = (json(found), json(given));
    let names =
        [&ours, &theirs].map(|json| json.as_object().into_iter().flat_map(|map| map.keys()));
    let differs = |name: &&String| ours.get(name.as_str()) != theirs.get(name.as_str());
    let field = names
        .into_iter()
        .flatten()
        .find(differs)
        .cloned()
        .unwrap_or_default();
    let value = |json: &serde_json::Value| {
        json.get(&field)
            .map_or_else(|| "none".to_owned(), ToString::to_string)
    };
    StateError::Profile {
        id: found.id.clone(),
        found: value(&ours),
        given: value(&theirs),
        field,
    }
}

/// A running test.
#[derive(Debug)]
pub struct Watch<'m> {
    mark: &'m Mark,
    state: State,
    exhibit: Exhibit,
}

/// What a look shows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// Tokens so far.
    pub tokens: u64,
    /// Cells bet on.
    pub cells: u64,
    /// log10 E.
    #[serde(rename = "eLog10")]
    pub e: LnE,
    /// log10 of 1 / E: valid at any look.
    #[serde(rename = "pLog10")]
    pub p: LnP,
    /// What to do.
    pub advice: Advice,
    /// Probability of reaching 1 / alpha within the planned cells if the effect is as large as a
    /// 95 % confidence limit still allows; absent without a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<f64>,
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Advice {
    /// E has reached 1 / alpha.
    Decided,
    /// Reaching it within the plan has become improbable.
    Futile,
    /// Neither.
    GoOn,
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopping {
    /// Decided when E is at least 1 / alpha.
    pub alpha: f64,
    /// Cells that one is willing to pay for; without it nothing is futile.
    pub planned: Option<u64>,
}

/// Below this probability of still succeeding it is futile.
const CHANCE: f64 = 0.05;

impl<'m> Watch<'m> {
    /// Nothing asked yet. `vocabulary` is that of the token ids; where it is not given it is the one that the
    /// profile pins, or unknown.
    pub fn new(mark: &'m Mark, vocabulary: Option<Vocabulary>) -> Self {
        let state = State {
            schema: STATE_SCHEMA.to_owned(),
            key_id: mark.key_id().to_string(),
            account: mark.account(),
            profile: mark.profile().clone(),
            vocabulary: vocabulary.or_else(|| mark.profile().vocabulary.clone()),
            events: Vec::new(),
            looks: 0,
        };
        Self {
            mark,
            state,
            exhibit: Exhibit::new(mark.scheme().context_width()),
        }
    }

    /// Goes on from a saved state, with the vocabulary of the new answers as in [`new`](Self::new).
    ///
    /// # Errors
    /// It is not of this form, or belongs to another key, account, profile or vocabulary. One whose vocabulary is
    /// unknown is not that of a known one.
    pub fn resume(
        mark: &'m Mark,
        vocabulary: Option<Vocabulary>,
        json: &str,
    ) -> Result<Self, StateError> {
        let invalid = |error: serde_json::Error| StateError::Json(crate::json::message(&error));
        // Another schema has other fields: it is told by its name, before they are read.
        let named: Schema = serde_json::from_str(json).map_err(invalid)?;
        if named.schema != STATE_SCHEMA {
            return Err(StateError::Schema(named.schema));
        }
        let state: State = serde_json::from_str(json).map_err(invalid)?;
        let mut watch = Self::new(mark, vocabulary);
        state.check(&watch.state)?;
        for event in &state.events {
            match event {
                Event::Prompt(prompt) => watch.exhibit.exclude(prompt),
                Event::Answer(answer) => watch.exhibit.push(answer),
            }
        }
        watch.state = state;
        Ok(watch)
    }

    /// The state, to be saved.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The answers taken in so far.
    pub fn answers(&self) -> usize {
        let is_answer = |event: &&Event| matches!(event, Event::Answer(_));
        self.state.events.iter().filter(is_answer).count()
    }

    /// A prompt that will be asked: its windows do not count from here on. Declare all prompts before the
    /// first answer where that is possible.
    pub fn exclude(&mut self, prompt: &[u32]) {
        let known = |event: &Event| matches!(event, Event::Prompt(known) if known == prompt);
        if !self.state.events.iter().any(known) {
            self.exhibit.exclude(prompt);
            self.state.events.push(Event::Prompt(prompt.to_vec()));
        }
    }

    /// The next answer.
    pub fn push(&mut self, answer: &[u32]) {
        self.exhibit.push(answer);
        self.state.events.push(Event::Answer(answer.to_vec()));
    }

    /// Looks at the bets so far.
    pub fn look(&mut self, stopping: &Stopping) -> Look {
        self.state.looks += 1;
        let Score { cells, sum } = Score::of(&self.exhibit.cells().scores(self.mark));
        let mixture = Mixture::standard(self.mark.scheme().null());
        let key_bits = self.mark.scheme().key_bits();
        let e = mixture.ln_e(cells, sum).of_key_bits(key_bits);
        let futility = stopping
            .planned
            .map(|planned| mixture.futility(cells, sum, planned, stopping.alpha, CHANCE));
        let advice = if e.ln() >= -stopping.alpha.ln() {
            Advice::Decided
        } else if futility.is_some_and(|futility| futility.futile) {
            Advice::Futile
        } else {
            Advice::GoOn
        };
        Look {
            tokens: self.exhibit.counts().tokens,
            cells,
            e,
            p: e.to_p(),
            advice,
            reach: futility.map(|futility| futility.reach.ln().exp()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::Profile;

    fn mark(byte: u8) -> Mark {
        let key = SlotKey::from_parts([byte; 32], Epoch::new("t").unwrap(), 0);
        Profile::built_in("greenlist-h1")
            .unwrap()
            .bind(&key)
            .unwrap()
    }

    fn answer(mark: &Mark, start: u32) -> Vec<u32> {
        let scheme = mark.scheme();
        let mut text = vec![start];
        for step in 0..40 {
            let row = scheme.row(&text[text.len() - 1..]);
            let from = (start * 31 + step * 17) % 900;
            let next = (from..).find(|&token| scheme.score(&row, token) == 1 || token % 3 == 0);
            text.push(next.unwrap());
        }
        text
    }

    #[test]
    fn a_saved_watch_goes_on_as_if_never_stopped() {
        let mark = mark(3);
        let stopping = Stopping {
            alpha: 1e-5,
            planned: Some(5000),
        };
        let mut whole = Watch::new(&mark, None);
        let mut parts = Watch::new(&mark, None);
        let mut decided = None;
        for start in 0..30 {
            for watch in [&mut whole, &mut parts] {
                watch.exclude(&[start, start + 1]);
                watch.push(&answer(&mark, start));
            }
            let look = whole.look(&stopping);
            assert_eq!(look, parts.look(&stopping));
            if look.advice == Advice::Decided {
                decided.get_or_insert(start);
            }
            let json = serde_json::to_string(parts.state()).unwrap();
            parts = Watch::resume(&mark, None, &json).unwrap();
        }
        assert!(decided.is_some_and(|start| start < 25), "{decided:?}");
        // The same answers again bet on no coin twice.
        let before = whole.look(&stopping);
        whole.push(&answer(&mark, 3));
        assert_eq!(whole.look(&stopping).cells, before.cells);
    }

    #[test]
    fn text_without_the_mark_is_given_up() {
        let mark = mark(3);
        let mut watch = Watch::new(&mark, None);
        let stopping = Stopping {
            alpha: 1e-5,
            planned: Some(3000),
        };
        let mut given_up = None;
        for start in 0..80 {
            let text: Vec<u32> = (0..40u32)
                .map(|i| (i * (start + 7) + start * 13) % 997)
                .collect();
            watch.push(&text);
            let look = watch.look(&stopping);
            assert!(look.p.log10() > -5.0);
            if look.advice == Advice::Futile {
                given_up.get_or_insert(look.cells);
            }
        }
        assert!(given_up.is_some_and(|cells| cells < 3000), "{given_up:?}");
    }

    #[test]
    fn a_state_of_another_key_is_refused() {
        let first = mark(3);
        let other = mark(4);
        let json = serde_json::to_string(Watch::new(&first, None).state()).unwrap();
        let error = Watch::resume(&other, None, &json).unwrap_err();
        assert!(matches!(error, StateError::Other { field: "key", .. }));
        assert!(Watch::resume(&first, None, "{}").is_err());
        // Another schema is named although its fields are others.
        let older =
            r#"{"schema":"watermark.anytime/1","keyId":"0","profile":"x","events":[],"looks":0}"#;
        for other in [&json.replace("anytime/2", "anytime/3"), older] {
            let error = Watch::resume(&first, None, other).unwrap_err();
            assert!(matches!(error, StateError::Schema(_)), "{error}");
        }
    }

    #[test]
    fn a_state_of_another_profile_account_or_tokenizer_is_refused() {
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        let bytes = Some(Vocabulary::of(&crate::text::ByteTokenizer));
        let green = Profile::built_in("greenlist-h1").unwrap();
        let leak = Profile {
            slot: crate::prf::Slot::Leak,
            ..green.clone()
        };
        let first = leak.bind_account(&key, 7).unwrap();
        let json = serde_json::to_string(Watch::new(&first, bytes.clone()).state()).unwrap();
        assert!(Watch::resume(&first, bytes.clone(), &json).is_ok());
        let refused = |mark: &Mark, vocabulary: Option<Vocabulary>| {
            Watch::resume(mark, vocabulary, &json)
                .unwrap_err()
                .to_string()
        };

        let error = refused(&leak.bind_account(&key, 8).unwrap(), bytes.clone());
        assert!(error.contains("account 7, not 8"), "{error}");

        // Same key, same id, same width: gamma alone.
        let mut values = leak.clone();
        values.scheme = crate::profile::SchemeSpec::Greenlist {
            context_width: 1,
            gamma: 0.5,
            delta: 3.0,
        };
        let error = refused(&values.bind_account(&key, 7).unwrap(), bytes.clone());
        for words in ["greenlist-h1", "`scheme`", "0.25", "0.5"] {
            assert!(error.contains(words), "{error}");
        }
        let rounds = Profile {
            rounds: crate::prf::Rounds::Twenty,
            ..leak.clone()
        };
        let error = refused(&rounds.bind_account(&key, 7).unwrap(), bytes.clone());
        assert!(error.contains("`rounds`"), "{error}");
        let renamed = Profile {
            id: "mine".to_owned(),
            ..leak.clone()
        };
        let error = refused(&renamed.bind_account(&key, 7).unwrap(), bytes.clone());
        assert!(error.contains("profile greenlist-h1, not mine"), "{error}");

        let other = bytes.map(|known| Vocabulary {
            sha256: "00".repeat(32),
            ..known
        });
        let error = refused(&first, other.clone());
        assert!(
            error.contains("tokenizer") && error.contains(&"00".repeat(32)),
            "{error}"
        );
        let error = refused(&first, None);
        assert!(error.contains("an unknown one"), "{error}");
        // What the profile pins need not be said.
        let pinned = Profile {
            vocabulary: other,
            ..green
        };
        let pinned = pinned.bind(&key).unwrap();
        let known = Watch::new(&pinned, None).state().vocabulary.clone();
        assert_eq!(known, pinned.profile().vocabulary);
    }
}
