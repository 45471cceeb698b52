//! For engines that draw themselves: a change of logits or probabilities instead of a token, and a session that follows
//! the sequence that it is shown.

use rand_core::Rng;

use super::{Decision, Outcome, Session, SkipReason, TokenRole};
use crate::candidates::Candidates;
use crate::scheme::Biaser;

impl Session<'_> {
    /// h, the tokens of a window.
    pub fn context_width(&self) -> usize {
        self.mark.scheme().context_width()
    }

    /// The scheme as a change of logits, if it is one.
    pub fn biaser(&self) -> Option<&dyn Biaser> {
        self.mark.scheme().as_biaser()
    }

    /// Adds a green list's bonus to the next token's logits, in place, where the position is to be marked; says so or
    /// why not. `None`, and no change, under a scheme that is no bias. Logits beyond the profile's vocabulary become
    /// minus infinity in any case.
    ///
    /// The logits are those before temperature. Greedy decoding is no reason to skip: the largest logit is looked for
    /// after the bonus. In speculative decoding bias the logits of draft and target model alike and then sample and
    /// reject ordinarily: the text has the distribution of the target under the mark.
    /// The entropy that `min_entropy` asks for is that of these logits at `temperature`, without truncation.
    pub fn bias(&self, logits: &mut [f32], temperature: f32) -> Option<Outcome> {
        let biaser = self.biaser()?;
        let (known, padding) = logits.split_at_mut(self.width(logits));
        padding.fill(f32::NEG_INFINITY);
        let window = match self.due() {
            Ok(window) => window,
            Err(reason) => return Some(Outcome::Skipped(reason)),
        };
        let least = self.mark.profile().min_entropy;
        if least > 0.0 && entropy(known, temperature) < least {
            return Some(Outcome::Skipped(SkipReason::LowEntropy));
        }
        biaser.bias(&biaser.row(window), known);
        Some(Outcome::Marked)
    }

    /// Leaves, of one weight for every token, only that of the mark's choice: the engine then draws this token. Where
    /// the mark skips, all weights stay but those outside the profile's vocabulary.
    ///
    /// For engines that let a closure change the probabilities before they draw. These must be after temperature; an
    /// engine that truncates afterwards finds nothing left to cut off, so truncate before.
    pub fn narrow(&self, weights: &mut [f32], temperature: f32, coins: &mut dyn Rng) -> Outcome {
        let width = self.width(weights);
        weights[width..].fill(0.0);
        let decision = match Candidates::dense(weights) {
            Ok(candidates) => self.decide_as(TokenRole::Ordinary, &candidates, temperature, coins),
            Err(_) => Decision::Skip(SkipReason::NoCandidate),
        };
        if let Decision::Marked(index) = decision {
            weights.fill(0.0);
            weights[index] = 1.0;
        }
        decision.outcome()
    }

    /// Makes the sequence that of an engine which shows all of it at every step: takes back what is not in `tokens`
    /// (without the prompt), and accepts what is new. `decided` is the token that the mark was last asked for, and how
    /// it came about. A new token that is another one was [replaced](SkipReason::Replaced).
    pub fn follow(&mut self, tokens: &[u32], decided: Option<(u32, Outcome)>) {
        let same = self
            .tokens
            .iter()
            .zip(tokens)
            .take_while(|(a, b)| a == b)
            .count();
        self.rollback(self.tokens.len() - same);
        let mut decided = decided;
        for &token in &tokens[same..] {
            let outcome = match decided.take() {
                Some((wanted, outcome)) if wanted == token => outcome,
                _ => Outcome::Skipped(SkipReason::Replaced),
            };
            self.accept(token, outcome);
        }
    }
}

/// Entropy of a softmax in nats; 0 at temperature 0, and where there is no finite logit.
fn entropy(logits: &[f32], temperature: f32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if temperature == 0.0 || !largest.is_finite() {
        return 0.0;
    }
    let scale = f64::from(temperature).recip();
    let (mut total, mut sum) = (0.0, 0.0);
    for &logit in logits {
        let height = f64::from(logit - largest) * scale;
        let weight = height.exp();
        if weight > 0.0 {
            total += weight;
            sum += weight * height;
        }
    }
    total.ln() - sum / total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::{CandidateBuffer, Sampling};
    use crate::key::{Epoch, SlotKey};
    use crate::profile::{Mark, Profile, Vocabulary};
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    fn mark(name: &str, change: impl FnOnce(&mut Profile)) -> Mark {
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        let mut profile = Profile::built_in(name).unwrap();
        change(&mut profile);
        profile.bind(&key).unwrap()
    }

    fn pinned(profile: &mut Profile) {
        let sha256 = String::new();
        profile.vocabulary = Some(Vocabulary { size: 40, sha256 });
    }

    fn started<'m>(mark: &'m Mark) -> Session<'m> {
        let mut session = Session::new(mark);
        session.follow(&[1, 2], None);
        session
    }

    #[test]
    fn a_bias_is_that_of_the_scheme_where_the_position_is_due() {
        let mark = mark("greenlist-h2", pinned);
        let plain: Vec<f32> = (0..48).map(|i| i as f32 * 0.1).collect();
        let mut logits = plain.clone();
        let fresh = Session::new(&mark).bias(&mut logits, 1.0);
        assert_eq!(fresh, Some(Outcome::Skipped(SkipReason::PartialContext)));
        assert_eq!(logits[..40], plain[..40]);
        assert!(logits[40..].iter().all(|&logit| logit == f32::NEG_INFINITY));
        let session = started(&mark);
        let mut expected = plain[..40].to_vec();
        let biaser = session.biaser().unwrap();
        biaser.bias(&biaser.row(&[1, 2]), &mut expected);
        assert_ne!(expected, plain[..40]);
        // At temperature 0 too: the argmax comes after the bonus.
        for temperature in [1.0, 0.0] {
            let mut logits = plain.clone();
            assert_eq!(
                session.bias(&mut logits, temperature),
                Some(Outcome::Marked)
            );
            assert_eq!(logits[..40], expected);
        }
    }

    #[test]
    fn a_bias_needs_entropy_where_the_profile_says_so() {
        let gated = mark("greenlist-h2", |profile| profile.min_entropy = 2.0);
        let session = started(&gated);
        let logits: Vec<f32> = (0..40).map(|i| i as f32 * 0.5).collect();
        let mut buffer = CandidateBuffer::default();
        let weights = buffer.fill(&logits, &Sampling::default()).unwrap();
        assert!((entropy(&logits, 1.0) - weights.entropy()).abs() < 1e-5);
        // 1.70 nats at temperature 1, and 2.39 at 2.
        let outcome = |temperature| session.bias(&mut logits.clone(), temperature);
        assert_eq!(outcome(1.0), Some(Outcome::Skipped(SkipReason::LowEntropy)));
        assert_eq!(outcome(2.0), Some(Outcome::Marked));
        assert_eq!(outcome(0.0), Some(Outcome::Skipped(SkipReason::LowEntropy)));
        let race = mark("gumbel-h2", |_| ());
        assert_eq!(started(&race).bias(&mut logits.clone(), 1.0), None);
    }

    #[test]
    fn what_narrow_leaves_is_what_decide_chooses() {
        for name in ["gumbel-dual-h2", "greenlist-h2", "tournament-h2"] {
            let mark = mark(name, pinned);
            let session = started(&mark);
            let plain = [1.0; 48];
            let (mut one, mut other) = (ChaCha8Rng::seed_from_u64(7), ChaCha8Rng::seed_from_u64(7));
            let mut weights = plain;
            assert_eq!(session.narrow(&mut weights, 1.0, &mut one), Outcome::Marked);
            let candidates = Candidates::dense(&plain).unwrap();
            let Decision::Marked(index) = session.decide(&candidates, 1.0, &mut other) else {
                panic!("{name} skipped");
            };
            let left: Vec<usize> = (0..48).filter(|&i| weights[i] > 0.0).collect();
            assert_eq!(left, [index], "{name}");
            assert!(index < 40);
            let mut weights = plain;
            let skipped = session.narrow(&mut weights, 0.0, &mut one);
            assert_eq!(skipped, Outcome::Skipped(SkipReason::Greedy));
            assert!(weights[..40] == plain[..40] && weights[40..] == [0.0; 8]);
            let nothing = session.narrow(&mut [0.0; 40], 1.0, &mut one);
            assert_eq!(nothing, Outcome::Skipped(SkipReason::NoCandidate));
        }
    }

    #[test]
    fn a_session_follows_the_sequence_that_it_is_shown() {
        let mark = mark("gumbel-h2", |_| ());
        let mut session = started(&mark);
        let marked = Outcome::Marked;
        session.follow(&[1, 2, 3], Some((3, marked)));
        session.follow(&[1, 2, 3], None);
        session.follow(&[1, 2, 3, 4], Some((9, marked)));
        assert_eq!(session.skips().marked, 1);
        assert_eq!(session.skips().replaced, 3);
        // A shorter sequence, then another continuation.
        session.follow(&[1, 2, 5], Some((5, marked)));
        let mut straight = started(&mark);
        straight.accept(5, marked);
        assert_eq!(session.record(), straight.record());
    }
}
