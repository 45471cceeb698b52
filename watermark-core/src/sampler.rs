//! WRITE: the state of one sequence, and the decision for its next token.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;

use rand_core::Rng;

use crate::candidates::{CandidateBuffer, Candidates, NoCandidate, Sampling};
use crate::profile::{Mark, RepeatedContexts};
use crate::window::{fingerprint, window};

mod engine;
mod record;
mod skips;

pub use crate::scheme::TokenRole;
pub use record::{RecordKind, SessionRecord, Skip};
pub use skips::{SkipCounts, SkipReason};

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

/// The mark of a session: borrowed, or kept alive by the session itself.
#[derive(Clone, Debug)]
enum Held<'m> {
    Borrowed(&'m Mark),
    Shared(Arc<Mark>),
}

impl Deref for Held<'_> {
    type Target = Mark;
    fn deref(&self) -> &Mark {
        match self {
            Self::Borrowed(mark) => mark,
            Self::Shared(mark) => mark,
        }
    }
}

/// An enforced profile was to be switched off or rationed for one sequence; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the profile is enforced: its mark cannot be switched off or given a budget for one sequence; bind a profile without `enforced` where that is meant to be possible"
)]
pub struct Enforced;

/// The mark's view of one sequence: its tokens since the prompt, and the windows met.
///
/// [`decide`](Self::decide) changes nothing and may be asked any number of times;
/// [`accept`](Self::accept) appends. A clone is an independent continuation (beams, drafts).
///
/// Key, profile and account are those of the [`Mark`] that the session was made with: nothing here takes another, so a
/// request has no way to bring a key of its own.
#[derive(Clone, Debug)]
pub struct Session<'m> {
    mark: Held<'m>,
    enabled: bool,
    budget: Option<u64>,
    tokens: Vec<u32>,
    steps: Vec<Step>,
    /// Where segments start; the first is 0.
    segments: Vec<usize>,
    met: HashSet<u64>,
    marked: u64,
}

impl Session<'static> {
    /// An empty sequence that keeps its mark alive, where no lifetime can be named: behind a C handle or in an
    /// engine's table of requests.
    pub fn shared(mark: Arc<Mark>) -> Self {
        Self::with(Held::Shared(mark))
    }
}

impl<'m> Session<'m> {
    /// An empty sequence. The prompt stays outside: it never enters a window.
    pub fn new(mark: &'m Mark) -> Self {
        Self::with(Held::Borrowed(mark))
    }

    fn with(mark: Held<'m>) -> Self {
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
    ///
    /// # Errors
    /// The profile is [`enforced`](crate::profile::Profile::enforced) and marking was to be switched off.
    pub fn set_enabled(&mut self, enabled: bool) -> Result<(), Enforced> {
        if !enabled && self.mark.profile().enforced {
            return Err(Enforced);
        }
        self.enabled = enabled;
        Ok(())
    }

    /// Marks at most this many tokens of the sequence; `None` is no limit.
    ///
    /// # Errors
    /// The profile is [`enforced`](crate::profile::Profile::enforced) and a limit was given.
    pub fn set_budget(&mut self, marked_tokens: Option<u64>) -> Result<(), Enforced> {
        if marked_tokens.is_some() && self.mark.profile().enforced {
            return Err(Enforced);
        }
        self.budget = marked_tokens;
        Ok(())
    }

    /// Starts a segment (after hidden reasoning, a tool call): no window crosses this point.
    ///
    /// After a [special token](crate::profile::Profile::special_tokens) one starts by itself.
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

    /// The window of the next token where it is to be marked, or the reason why it is not. Temperature and candidates
    /// may give further reasons.
    pub fn due(&self) -> Result<&[u32], SkipReason> {
        if !self.enabled {
            return Err(SkipReason::Disabled);
        }
        if self.budget.is_some_and(|budget| self.marked >= budget) {
            return Err(SkipReason::Budget);
        }
        let window = self.window().ok_or(SkipReason::PartialContext)?;
        if self.mark.profile().repeated_contexts == RepeatedContexts::Skip
            && !window.is_empty()
            && self.met.contains(&fingerprint(window))
        {
            return Err(SkipReason::RepeatedContext);
        }
        Ok(window)
    }

    /// The next token's candidate, or the reason to sample ordinarily.
    ///
    /// `candidates` are what remains after temperature and truncation; `coins` is the caller's
    /// generator, which a green list, a tournament and the choice between dual keys draw from.
    /// Where the profile pins a vocabulary, tokens outside it are no candidates.
    pub fn decide(
        &self,
        candidates: &Candidates<'_>,
        temperature: f32,
        coins: &mut dyn Rng,
    ) -> Decision {
        self.decide_as(TokenRole::Ordinary, candidates, temperature, coins)
    }

    /// [`decide`](Self::decide) for a token of speculative decoding; [`speculative`](crate::speculative) has the
    /// rejection step. Drafts are accepted one after the other as they are made, and [taken back](Self::rollback) from
    /// the first rejected one on.
    ///
    /// Under a mark with one key a draft is [left alone](SkipReason::Draft), and the tokens of the target are marked.
    pub fn decide_as(
        &self,
        role: TokenRole,
        candidates: &Candidates<'_>,
        temperature: f32,
        coins: &mut dyn Rng,
    ) -> Decision {
        match self.choose(role, candidates, temperature, coins) {
            Ok(index) => Decision::Marked(index),
            Err(reason) => Decision::Skip(reason),
        }
    }

    fn choose(
        &self,
        role: TokenRole,
        candidates: &Candidates<'_>,
        temperature: f32,
        coins: &mut dyn Rng,
    ) -> Result<usize, SkipReason> {
        let due = self.due();
        if due == Err(SkipReason::Disabled) {
            return Err(SkipReason::Disabled);
        }
        if temperature == 0.0 {
            return Err(SkipReason::Greedy);
        }
        let scheme = self.mark.scheme();
        if role == TokenRole::Draft && !scheme.marks_drafts() {
            return Err(SkipReason::Draft);
        }
        let window = due?;
        let candidates = self
            .known(candidates)
            .map_err(|_| SkipReason::NoCandidate)?;
        let least = self.mark.profile().min_entropy;
        if least > 0.0 && candidates.entropy() < least {
            return Err(SkipReason::LowEntropy);
        }
        Ok(scheme.choose_as(role, &scheme.row(window), &candidates, coins))
    }

    /// The candidates that are tokens of the profile's vocabulary.
    pub(crate) fn known<'c>(
        &self,
        candidates: &Candidates<'c>,
    ) -> Result<Candidates<'c>, NoCandidate> {
        match &self.mark.profile().vocabulary {
            Some(vocabulary) => candidates.within(vocabulary.size),
            None => Ok(*candidates),
        }
    }

    /// How many of a row of logits are tokens of the profile's vocabulary.
    fn width(&self, logits: &[f32]) -> usize {
        let size = self
            .mark
            .profile()
            .vocabulary
            .as_ref()
            .map(|known| known.size as usize);
        size.map_or(logits.len(), |size| size.min(logits.len()))
    }

    /// Appends the token that the engine took.
    pub fn accept(&mut self, token: u32, outcome: Outcome) {
        let window = self.window().map(fingerprint);
        let first_met = window.filter(|&window| self.met.insert(window));
        self.tokens.push(token);
        self.steps.push(Step { outcome, first_met });
        self.marked += u64::from(outcome == Outcome::Marked);
        if self.mark.profile().is_special(token) {
            self.begin_segment();
        }
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
        self.step_as(TokenRole::Ordinary, candidates, temperature, coins)
    }

    /// [`step`](Self::step) for a token of speculative decoding.
    pub fn step_as(
        &self,
        role: TokenRole,
        candidates: &Candidates<'_>,
        temperature: f32,
        coins: &mut dyn Rng,
    ) -> (u32, Outcome) {
        let decision = self.decide_as(role, candidates, temperature, coins);
        let index = match decision {
            Decision::Marked(index) => index,
            Decision::Skip(_) => self.known(candidates).unwrap_or(*candidates).sample(coins),
        };
        (candidates.get(index).0, decision.outcome())
    }

    /// A whole step: logits to token, marked or sampled ordinarily, and accepted. Logits beyond the profile's
    /// vocabulary are left out before temperature and truncation.
    ///
    /// # Errors
    /// No token of the vocabulary has a finite logit.
    pub fn sample(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        buffer: &mut CandidateBuffer,
        coins: &mut dyn Rng,
    ) -> Result<u32, NoCandidate> {
        let candidates = buffer.fill(&logits[..self.width(logits)], sampling)?;
        let (token, outcome) = self.step(&candidates, sampling.temperature, coins);
        self.accept(token, outcome);
        Ok(token)
    }

    /// How the tokens of the sequence came about.
    pub fn skips(&self) -> SkipCounts {
        let mut counts = SkipCounts::default();
        self.steps
            .iter()
            .for_each(|step| counts.count(step.outcome));
        counts
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
        session.set_budget(Some(4)).unwrap();
        assert_eq!(skip(&session, 1.0), Some(SkipReason::Budget));
        session.set_enabled(false).unwrap();
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
    fn an_enforced_mark_cannot_be_switched_off() {
        let mut profile = Profile::built_in("gumbel-h2").unwrap();
        profile.enforced = true;
        let profile = Profile::from_json(&profile.to_json()).unwrap();
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        let mark = profile.bind(&key).unwrap();
        let mut session = Session::new(&mark);
        session.accept(1, Outcome::Marked);
        session.accept(2, Outcome::Marked);
        assert_eq!(session.set_enabled(false), Err(Enforced));
        assert_eq!(session.set_budget(Some(1)), Err(Enforced));
        assert_eq!(session.set_enabled(true), Ok(()));
        assert_eq!(session.set_budget(None), Ok(()));
        let flat = Candidates::dense(&FLAT).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert!(matches!(
            session.decide(&flat, 1.0, &mut rng),
            Decision::Marked(_)
        ));
    }

    /// Three quarters of the weight lie on ids that the vocabulary does not have.
    #[test]
    fn padding_of_the_logits_is_never_chosen() {
        for name in ["gumbel-h2", "greenlist-h2", "selfhash-h4", "tournament-h2"] {
            let mut profile = Profile::built_in(name).unwrap();
            profile.vocabulary = Some(crate::profile::Vocabulary {
                size: 50,
                sha256: String::new(),
            });
            let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
            let mark = profile.bind(&key).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(2);
            let mut buffer = CandidateBuffer::default();
            let (dense, ids) = ([1.0; 200], Vec::from_iter((0..200).rev()));
            let mut session = Session::new(&mark);
            for step in 0..300 {
                let candidates = match step % 2 {
                    0 => Candidates::dense(&dense).unwrap(),
                    _ => Candidates::pairs(&ids, &dense).unwrap(),
                };
                let (token, outcome) = session.step(&candidates, 1.0, &mut rng);
                assert!(token < 50, "{name}: {token} {outcome:?}");
                session.accept(token, outcome);
                // Without the limit the 60 most probable would all be outside.
                let top = Sampling {
                    top_k: 60,
                    ..Sampling::default()
                };
                let mut logits = [5.0; 200];
                logits[..50].fill(1.0);
                let token = session.sample(&logits, &top, &mut buffer, &mut rng);
                assert!(token.unwrap() < 50, "{name}");
            }
            assert!(session.skips().marked > 400, "{name}");
            let outside = Candidates::pairs(&ids[..100], &dense[..100]).unwrap();
            let decision = session.decide(&outside, 1.0, &mut rng);
            assert_eq!(decision, Decision::Skip(SkipReason::NoCandidate));
            let mut logits = [f32::NEG_INFINITY; 200];
            logits[60] = 1.0;
            let nothing = session.sample(&logits, &Sampling::default(), &mut buffer, &mut rng);
            assert_eq!(nothing, Err(NoCandidate));
            assert!(profile.check_ids("answer", session.tokens()).is_ok());
            let error = profile.check_ids("answer 3", &[1, 60]).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("answer 3, position 1: token id 60")
            );
        }
    }

    /// The writer's cells, less those of special tokens, are the cells that a reader finds, with the markers or without.
    #[test]
    fn special_tokens_part_segments_for_writer_and_reader_alike() {
        let mut profile = Profile::built_in("greenlist-h2").unwrap();
        profile.special_tokens = vec![3, 9];
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        let mark = profile.bind(&key).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut session = Session::new(&mark);
        let flat = [1.0; 12];
        let mut written = Vec::new();
        for _ in 0..500 {
            let window = session.window().map(<[u32]>::to_vec);
            let (token, outcome) = session.step(&Candidates::dense(&flat).unwrap(), 1.0, &mut rng);
            session.accept(token, outcome);
            if let Some(window) = window
                && !profile.is_special(token)
            {
                assert!(window.iter().all(|&token| !profile.is_special(token)));
                written.push((window, token));
            }
        }
        let mut read = Vec::new();
        for segment in profile.segments(session.tokens()) {
            for at in 0..segment.len() {
                let window = window(segment, at, 2).map(<[u32]>::to_vec);
                read.extend(window.map(|window| (window, segment[at])));
            }
        }
        assert!(read.len() > 250, "{}", read.len());
        assert_eq!(read, written);
        // A rollback over a marker takes its segment back.
        let mut session = Session::new(&mark);
        session.follow(&[1, 2, 9, 4], None);
        assert_eq!(session.record().segments, [0, 3]);
        session.rollback(2);
        assert_eq!(session.window(), Some(&[1, 2][..]));
        assert_eq!(session.record().segments, [0]);
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
    fn a_shared_session_outlives_the_callers_mark() {
        let mark = Arc::new(mark("gumbel-h2"));
        let mut session = Session::shared(mark.clone());
        session.accept(1, Outcome::Marked);
        session.accept(2, Outcome::Marked);
        let decide = |session: &Session<'_>| {
            let flat = Candidates::dense(&FLAT).unwrap();
            session.decide(&flat, 1.0, &mut ChaCha8Rng::seed_from_u64(1))
        };
        let mut borrowed = Session::new(&mark);
        borrowed.accept(1, Outcome::Marked);
        borrowed.accept(2, Outcome::Marked);
        let expected = decide(&borrowed);
        assert!(matches!(expected, Decision::Marked(_)));
        drop(mark);
        assert_eq!(decide(&session.clone()), expected);
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
