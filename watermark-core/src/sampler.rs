//! WRITE: the state of one sequence, and the decision for its next token.

use std::collections::HashSet;

use rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::candidates::{CandidateBuffer, Candidates, NoCandidate, Sampling};
use crate::profile::{Mark, RepeatedContexts};
use crate::window::{fingerprint, window};

/// Why a position is left to ordinary sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Marking is switched off for this sequence.
    Disabled,
    /// Temperature 0: there is no choice to make.
    Greedy,
    /// Fewer than h tokens in the segment yet.
    PartialContext,
    /// The window stood earlier in the sequence.
    RepeatedContext,
    /// Less entropy than the profile's `min_entropy`.
    LowEntropy,
    /// The sequence has its number of marked tokens.
    Budget,
}

/// How a token came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By the mark.
    Marked,
    /// By the caller's own sampling.
    Skipped(SkipReason),
}

/// What [`Session::decide`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Take the candidate of this index.
    Marked(usize),
    /// Sample as if there were no mark.
    Skip(SkipReason),
}

impl Decision {
    /// What to tell [`Session::accept`].
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Marked(_) => Outcome::Marked,
            Self::Skip(reason) => Outcome::Skipped(reason),
        }
    }
}

#[derive(Clone, Debug)]
struct Step {
    outcome: Outcome,
    /// The fingerprint of the window, if this step was the first to meet it.
    first_met: Option<u64>,
}

/// The mark's view of one sequence: its tokens since the prompt, and the windows met.
///
/// [`decide`](Self::decide) changes nothing and may be asked any number of times;
/// [`accept`](Self::accept) appends. A clone is an independent continuation (beams, drafts).
#[derive(Clone, Debug)]
pub struct Session<'m> {
    mark: &'m Mark,
    enabled: bool,
    budget: Option<u64>,
    tokens: Vec<u32>,
    steps: Vec<Step>,
    /// Where segments start; the first is 0.
    segments: Vec<usize>,
    met: HashSet<u64>,
    marked: u64,
}

impl<'m> Session<'m> {
    /// An empty sequence. The prompt stays outside: it never enters a window.
    pub fn new(mark: &'m Mark) -> Self {
        Self {
            mark,
            enabled: true,
            budget: None,
            tokens: Vec::new(),
            steps: Vec::new(),
            segments: vec![0],
            met: HashSet::new(),
            marked: 0,
        }
    }

    /// Makes room for so many more tokens, so that accepting them does not allocate.
    pub fn reserve(&mut self, tokens: usize) {
        self.tokens.reserve(tokens);
        self.steps.reserve(tokens);
        self.met.reserve(tokens);
    }

    /// Switches marking on or off from here on.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Marks at most this many tokens of the sequence.
    pub fn set_budget(&mut self, marked_tokens: Option<u64>) {
        self.budget = marked_tokens;
    }

    /// Starts a segment (after hidden reasoning, a tool call): no window crosses this point.
    pub fn begin_segment(&mut self) {
        if self.segments.last() != Some(&self.tokens.len()) {
            self.segments.push(self.tokens.len());
        }
    }

    /// The tokens accepted so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The window of the next token.
    pub fn window(&self) -> Option<&[u32]> {
        let segment = &self.tokens[self.segments.last().copied().unwrap_or(0)..];
        window(segment, segment.len(), self.mark.scheme().context_width())
    }

    /// The next token's candidate, or the reason to sample ordinarily.
    ///
    /// `candidates` are what remains after temperature and truncation; `coins` is the caller's
    /// generator, which a green list, a tournament and the choice between dual keys draw from.
    pub fn decide(
        &self,
        candidates: &Candidates<'_>,
        temperature: f32,
        coins: &mut dyn Rng,
    ) -> Decision {
        if !self.enabled {
            return Decision::Skip(SkipReason::Disabled);
        }
        if temperature == 0.0 {
            return Decision::Skip(SkipReason::Greedy);
        }
        if self.budget.is_some_and(|budget| self.marked >= budget) {
            return Decision::Skip(SkipReason::Budget);
        }
        let Some(window) = self.window() else {
            return Decision::Skip(SkipReason::PartialContext);
        };
        let profile = self.mark.profile();
        if profile.repeated_contexts == RepeatedContexts::Skip
            && !window.is_empty()
            && self.met.contains(&fingerprint(window))
        {
            return Decision::Skip(SkipReason::RepeatedContext);
        }
        if profile.min_entropy > 0.0 && candidates.entropy() < profile.min_entropy {
            return Decision::Skip(SkipReason::LowEntropy);
        }
        let scheme = self.mark.scheme();
        Decision::Marked(scheme.choose(&scheme.row(window), candidates, coins))
    }

    /// Appends the token that the engine took.
    pub fn accept(&mut self, token: u32, outcome: Outcome) {
        let window = self.window().map(fingerprint);
        let first_met = window.filter(|&window| self.met.insert(window));
        self.tokens.push(token);
        self.steps.push(Step { outcome, first_met });
        self.marked += u64::from(outcome == Outcome::Marked);
    }

    /// Takes back the last `tokens` accepted (all, if there are fewer).
    pub fn rollback(&mut self, tokens: usize) {
        for _ in 0..tokens {
            let Some(step) = self.steps.pop() else { break };
            self.tokens.pop();
            self.marked -= u64::from(step.outcome == Outcome::Marked);
            if let Some(window) = step.first_met {
                self.met.remove(&window);
            }
        }
        let len = self.tokens.len();
        self.segments.retain(|&start| start == 0 || start <= len);
    }

    /// Back to an empty sequence; switch and budget stay.
    pub fn reset(&mut self) {
        self.rollback(self.tokens.len());
        self.segments.truncate(1);
    }

    /// The next token and how it came about: by the mark, or by ordinary sampling where
    /// [`decide`](Self::decide) skips. Changes nothing.
    pub fn step(
        &self,
        candidates: &Candidates<'_>,
        temperature: f32,
        coins: &mut dyn Rng,
    ) -> (u32, Outcome) {
        let decision = self.decide(candidates, temperature, coins);
        let index = match decision {
            Decision::Marked(index) => index,
            Decision::Skip(_) => candidates.sample(coins),
        };
        (candidates.get(index).0, decision.outcome())
    }

    /// A whole step: logits to token, marked or sampled ordinarily, and accepted.
    pub fn sample(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        buffer: &mut CandidateBuffer,
        coins: &mut dyn Rng,
    ) -> Result<u32, NoCandidate> {
        let candidates = buffer.fill(logits, sampling)?;
        let (token, outcome) = self.step(&candidates, sampling.temperature, coins);
        self.accept(token, outcome);
        Ok(token)
    }

    /// What was written, in the form that a ledger reads.
    pub fn record(&self) -> SessionRecord {
        let mut skips: Vec<Skip> = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            let Outcome::Skipped(reason) = step.outcome else {
                continue;
            };
            match skips.last_mut() {
                Some(last) if last.reason == reason && last.at + last.len == at => last.len += 1,
                _ => skips.push(Skip { at, len: 1, reason }),
            }
        }
        SessionRecord {
            kind: RecordKind::Session,
            schema: 1,
            profile: self.mark.profile().id.clone(),
            key_id: self.mark.key_id().to_string(),
            epoch: self.mark.label().epoch.to_string(),
            slot: self.mark.label().index,
            tokens: self.tokens.clone(),
            segments: self.segments.clone(),
            marked: self.marked,
            skips,
        }
    }
}

/// The `type` of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RecordKind {
    /// One sequence.
    #[serde(rename = "watermark.session")]
    Session,
}

/// One sequence as written: ids, slot and skips. No text and no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionRecord {
    /// Says what this object is.
    #[serde(rename = "type")]
    pub kind: RecordKind,
    /// Version of this form.
    #[cfg_attr(feature = "schema", schemars(extend("const" = 1)))]
    pub schema: u32,
    /// The profile's id.
    pub profile: String,
    /// The public name of the slot's key.
    pub key_id: String,
    /// The slot's epoch.
    pub epoch: String,
    /// The slot's index.
    pub slot: u32,
    /// Token ids, without the prompt.
    pub tokens: Vec<u32>,
    /// Positions where segments start.
    pub segments: Vec<usize>,
    /// How many tokens the mark chose.
    pub marked: u64,
    /// The others, as runs.
    pub skips: Vec<Skip>,
}

/// A run of positions that were sampled ordinarily for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// First position.
    pub at: usize,
    /// Number of positions.
    pub len: usize,
    /// The reason.
    pub reason: SkipReason,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::Profile;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    fn mark(name: &str) -> Mark {
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        Profile::built_in(name).unwrap().bind(&key).unwrap()
    }

    const FLAT: [f32; 8] = [1.0; 8];

    #[test]
    fn every_reason_to_skip_is_reached() {
        let mark = mark("gumbel-h2");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let flat = Candidates::dense(&FLAT).unwrap();
        let mut session = Session::new(&mark);
        let mut skip =
            |session: &Session<'_>, temperature| match session.decide(&flat, temperature, &mut rng)
            {
                Decision::Skip(reason) => Some(reason),
                Decision::Marked(_) => None,
            };
        assert_eq!(skip(&session, 1.0), Some(SkipReason::PartialContext));
        for token in [1, 2, 3] {
            session.accept(token, Outcome::Marked);
        }
        assert_eq!(skip(&session, 1.0), None);
        assert_eq!(skip(&session, 0.0), Some(SkipReason::Greedy));
        session.accept(1, Outcome::Marked);
        session.accept(2, Outcome::Marked);
        assert_eq!(skip(&session, 1.0), Some(SkipReason::RepeatedContext));
        session.begin_segment();
        assert_eq!(skip(&session, 1.0), Some(SkipReason::PartialContext));
        session.rollback(1);
        assert_eq!(skip(&session, 1.0), None);
        session.set_budget(Some(4));
        assert_eq!(skip(&session, 1.0), Some(SkipReason::Budget));
        session.set_enabled(false);
        assert_eq!(skip(&session, 1.0), Some(SkipReason::Disabled));

        let mut gated = Profile::built_in("gumbel-h2").unwrap();
        gated.min_entropy = 3.0;
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        let gated = gated.bind(&key).unwrap();
        let mut session = Session::new(&gated);
        session.accept(1, Outcome::Marked);
        session.accept(2, Outcome::Marked);
        assert_eq!(skip(&session, 1.0), Some(SkipReason::LowEntropy));
    }

    #[test]
    fn rollback_restores_every_decision() {
        for name in ["gumbel-h2", "greenlist-h1", "selfhash-h4", "tournament-h2"] {
            let mark = mark(name);
            let mut session = Session::new(&mark);
            let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.37).sin()).collect();
            let mut buffer = CandidateBuffer::default();
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let sampling = Sampling::default();
            let mut trail = Vec::new();
            for _ in 0..60 {
                trail.push((session.record(), rng.clone()));
                session
                    .sample(&logits, &sampling, &mut buffer, &mut rng)
                    .unwrap();
            }
            let whole = session.record();
            session.rollback(35);
            let (record, mut rng) = trail.swap_remove(25);
            assert_eq!(session.record(), record);
            for _ in 0..35 {
                session
                    .sample(&logits, &sampling, &mut buffer, &mut rng)
                    .unwrap();
            }
            assert_eq!(session.record(), whole, "{name}");
            session.reset();
            assert_eq!(session.record(), Session::new(&mark).record());
        }
    }

    #[test]
    fn a_record_reads_back() {
        let mark = mark("greenlist-h1");
        let mut session = Session::new(&mark);
        session.accept(4, Outcome::Skipped(SkipReason::PartialContext));
        session.accept(5, Outcome::Skipped(SkipReason::PartialContext));
        session.accept(6, Outcome::Marked);
        let record = session.record();
        let run = Skip {
            at: 0,
            len: 2,
            reason: SkipReason::PartialContext,
        };
        assert_eq!(record.skips, [run]);
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(
            serde_json::from_str::<SessionRecord>(&json).unwrap(),
            record
        );
    }
}
