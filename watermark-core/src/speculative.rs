//! WRITE: speculative decoding by rejection sampling, with a mark.
//!
//! A small model drafts tokens, each from its distribution q; the target model reads them all at once and keeps the
//! first of them that pass: a draft x with probability min(1, p(x) / q(x)). The first that fails is replaced by a token
//! drawn from the *residual* (p - q)+, and if none fails, one more token is drawn from p. Over the coins of this rule the
//! text has the distribution of p alone (Leviathan et al., arXiv 2211.17192; Chen et al., 2302.01318).
//!
//! How a mark goes with it depends on the scheme:
//!
//! | scheme | how |
//! |---|---|
//! | Gumbel with dual keys | drafts by key A on q, replacements and further tokens by key B: [`TokenRole`], [`settle`]. Every token carries the mark, and none is rejected more often |
//! | Gumbel with one key, tournament | [`settle`] as well, but drafts are left alone ([`SkipReason::Draft`](crate::sampler::SkipReason::Draft)): only what the target draws itself is marked |
//! | the same, at full strength | no rejection sampling: ask [`Session::step`] for the target's token at every position and keep the draft where it is the same token. The text is that of decoding without drafts, and more drafts are lost |
//! | green lists | [`Session::bias`] on the logits of both models, then [`keeps`] and [`Residual`] with ordinary draws: the text has the distribution of the target under the mark |
//!
//! Why one key cannot serve drafts and replacements: that a draft was rejected says which token won the race under this
//! key. A second race under it is no longer fair, and the text loses the target's distribution. Hu and Huang (2024)
//! show that no method keeps both the whole strength of a mark with one key and the whole speed of rejection sampling.

use rand_core::Rng;

use crate::candidates::{Candidates, NoCandidate, unit};
use crate::sampler::{Outcome, Session, TokenRole};

/// What became of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It stays.
    Kept,
    /// It and the drafts after it were taken back, and this token stands in its place.
    Replaced {
        /// The token.
        token: u32,
        /// How it came about.
        outcome: Outcome,
    },
}

/// Settles one draft: keeps it, or takes it back with those after it and accepts a token of the residual in its place.
///
/// The last `drafts` tokens of the session are drafts, drawn from their distributions and accepted with
/// [`TokenRole::Draft`]; the first of them is settled. `target` and `draft` are the candidates of both models at its
/// position, after temperature and truncation; of a draft without a distribution (the likeliest token of the small
/// model, a copy from the prompt) the token alone. `temperature` is that of the target. After the last draft was kept,
/// ask for one token with [`TokenRole::Bonus`].
///
/// The rule uses the model's distribution q although a key chose the draft: over random keys the draft has it.
///
/// # Panics
/// The session has fewer than `drafts` tokens, or `drafts` is 0.
pub fn settle(
    session: &mut Session<'_>,
    drafts: usize,
    target: &Candidates<'_>,
    draft: &Candidates<'_>,
    temperature: f32,
    residual: &mut Residual,
    coins: &mut dyn Rng,
) -> Settled {
    let token = session.tokens()[session.tokens().len() - drafts];
    let target = session.known(target).unwrap_or(*target);
    let draft = session.known(draft).unwrap_or(*draft);
    if keeps(&target, &draft, token, coins) {
        return Settled::Kept;
    }
    session.rollback(drafts);
    let left = residual.fill(&target, &draft).unwrap_or(target);
    let (token, outcome) = session.step_as(TokenRole::Recovered, &left, temperature, coins);
    session.accept(token, outcome);
    Settled::Replaced { token, outcome }
}

/// Whether a draft stays: with probability min(1, p / q) of a coin of the caller.
pub fn keeps(
    target: &Candidates<'_>,
    draft: &Candidates<'_>,
    token: u32,
    coins: &mut dyn Rng,
) -> bool {
    unit(coins) * probability(draft, token) < probability(target, token)
}

/// The probability of a token among candidates; each token is taken to be listed once.
fn probability(candidates: &Candidates<'_>, token: u32) -> f64 {
    let index = match candidates.tokens() {
        None => Some(token as usize).filter(|&index| index < candidates.len()),
        Some(tokens) => tokens.iter().position(|&listed| listed == token),
    };
    index.map_or(0.0, |index| {
        f64::from(candidates.get(index).1) / candidates.total()
    })
}

/// Reusable memory for the residual (p - q)+ of two distributions.
#[derive(Clone, Debug, Default)]
pub struct Residual {
    weights: Vec<f32>,
    /// The draft model's candidates by token, where they are listed.
    listed: Vec<(u32, f32)>,
}

impl Residual {
    /// The candidates of the target, in its order, each with weight p - q, or 0 where that is negative. Both
    /// distributions are normalised first.
    ///
    /// # Errors
    /// No probability of the target is above that of the draft: they are equal, and no draft is rejected.
    pub fn fill<'a>(
        &'a mut self,
        target: &Candidates<'a>,
        draft: &Candidates<'_>,
    ) -> Result<Candidates<'a>, NoCandidate> {
        self.listed.clear();
        if draft.tokens().is_some() {
            self.listed.extend(draft.iter());
            self.listed.sort_unstable_by_key(|&(token, _)| token);
        }
        let listed = &self.listed;
        let weight = |token: u32| match draft.tokens() {
            None if (token as usize) < draft.len() => draft.get(token as usize).1,
            None => 0.0,
            Some(_) => {
                let found = listed.binary_search_by_key(&token, |&(token, _)| token);
                found.map_or(0.0, |at| listed[at].1)
            }
        };
        let (p, q) = (target.total().recip(), draft.total().recip());
        self.weights.clear();
        let rest = target
            .iter()
            .map(|(token, one)| (f64::from(one) * p - f64::from(weight(token)) * q).max(0.0));
        self.weights.extend(rest.map(|rest| rest as f32));
        match target.tokens() {
            None => Candidates::dense(&self.weights),
            Some(tokens) => Candidates::pairs(tokens, &self.weights),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_residual_is_the_same_for_lists_and_whole_vocabularies() {
        let (p, q) = ([4.0, 1.0, 3.0, 2.0], [0.1, 0.5, 0.2, 0.2]);
        let ids = [2, 0, 3, 1];
        let by_ids = |weights: [f32; 4]| ids.map(|id: u32| weights[id as usize]);
        let (listed_p, listed_q) = (by_ids(p), by_ids(q));
        let target = [
            Candidates::dense(&p).unwrap(),
            Candidates::pairs(&ids, &listed_p).unwrap(),
        ];
        let draft = [
            Candidates::dense(&q).unwrap(),
            Candidates::pairs(&ids, &listed_q).unwrap(),
        ];
        let mut residual = Residual::default();
        for target in &target {
            for draft in &draft {
                let left = residual.fill(target, draft).unwrap();
                for (token, weight) in left.iter() {
                    let expected = [0.3, 0.0, 0.1, 0.0][token as usize];
                    assert!((weight - expected).abs() < 1e-7, "{token}: {weight}");
                }
            }
            assert!(residual.fill(target, target).is_err());
        }
        // A draft outside the target's candidates, and the reverse.
        let one = Candidates::pairs(&[9], &[1.0]).unwrap();
        let left = residual.fill(&target[0], &one).unwrap();
        assert!((left.get(0).1 - 0.4).abs() < 1e-7);
        assert!(residual.fill(&one, &target[0]).unwrap().get(0) == (9, 1.0));
        assert_eq!(probability(&target[1], 3), 0.2);
        assert_eq!(probability(&target[0], 9), 0.0);
    }
}
