//! What a token is chosen from: weights after temperature and truncation.

use rand_core::Rng;

use crate::kernel;

/// Candidate tokens with unnormalised probabilities, at least one of them positive.
///
/// Negative and NaN weights count as zero. A borrowed view: building one reads the weights once.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    weights: &'a [f32],
    /// `None`: the candidates are all tokens, in order.
    tokens: Option<&'a [u32]>,
    favourite: usize,
    /// The weight of a token from here on counts as zero.
    limit: u64,
}

/// No candidate has a positive, finite weight; there is nothing to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no candidate has a positive, finite weight")]
pub struct NoCandidate;

impl<'a> Candidates<'a> {
    /// One weight for every token of the vocabulary, in order.
    pub fn dense(weights: &'a [f32]) -> Result<Self, NoCandidate> {
        Self::new(weights, None)
    }

    /// Some tokens with their weights, in any order; the longer slice is cut.
    pub fn pairs(tokens: &'a [u32], weights: &'a [f32]) -> Result<Self, NoCandidate> {
        let len = tokens.len().min(weights.len());
        Self::new(&weights[..len], Some(&tokens[..len]))
    }

    fn new(weights: &'a [f32], tokens: Option<&'a [u32]>) -> Result<Self, NoCandidate> {
        let largest = kernel::largest(weights);
        if largest > 0.0 && largest.is_finite() {
            let favourite = weights.iter().position(|&weight| weight == largest);
            let favourite = favourite.expect("the largest is one of them");
            Ok(Self {
                weights,
                tokens,
                favourite,
                limit: u64::MAX,
            })
        } else {
            Err(NoCandidate)
        }
    }

    /// The same candidates, where the weight of a token that is no id of a vocabulary of `size` counts as zero. Models
    /// often have more logits than tokens: the rows of the embedding are padded to a round number.
    ///
    /// An index means the same candidate as before. Cheap: the weights are read again only where the most probable
    /// candidate is dismissed.
    pub fn within(&self, size: u32) -> Result<Self, NoCandidate> {
        let mut known = *self;
        match self.tokens {
            None if self.favourite < size as usize => {
                known.weights = &self.weights[..self.weights.len().min(size as usize)];
            }
            None => return Self::new(&self.weights[..size as usize], None),
            Some(tokens) => {
                known.limit = known.limit.min(u64::from(size));
                if u64::from(tokens[known.favourite]) >= known.limit {
                    let (limited, mut largest) = (known, 0.0);
                    for (index, (_, weight)) in limited.iter().enumerate() {
                        if weight > largest {
                            (known.favourite, largest) = (index, weight);
                        }
                    }
                    if largest == 0.0 {
                        return Err(NoCandidate);
                    }
                }
            }
        }
        Ok(known)
    }

    /// Number of candidates.
    #[allow(clippy::len_without_is_empty, reason = "never empty by construction")]
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// The tokens; `None` where the candidates are the whole vocabulary in order.
    pub fn tokens(&self) -> Option<&'a [u32]> {
        self.tokens
    }

    /// The weights as they were given: those that are not positive count as zero, and so do those of tokens outside the
    /// vocabulary where the tokens are listed.
    pub(crate) fn weights(&self) -> &'a [f32] {
        self.weights
    }

    /// Token and weight of a candidate.
    pub fn get(&self, index: usize) -> (u32, f32) {
        let token = self.tokens.map_or(index as u32, |tokens| tokens[index]);
        let known = u64::from(token) < self.limit;
        let weight = if known { self.weights[index] } else { 0.0 };
        (token, weight.max(0.0))
    }

    /// All candidates: token and weight.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f32)> + use<'_, 'a> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// The sum of the weights.
    pub(crate) fn total(&self) -> f64 {
        self.iter().map(|(_, weight)| f64::from(weight)).sum()
    }

    /// Index of the first candidate of the largest weight.
    pub fn favourite(&self) -> usize {
        self.favourite
    }

    /// Shannon entropy of the normalised weights, in nats.
    pub fn entropy(&self) -> f64 {
        let (mut total, mut sum) = (0.0, 0.0);
        for (_, weight) in self.iter().filter(|(_, weight)| *weight > 0.0) {
            let weight = f64::from(weight);
            total += weight;
            sum += weight * weight.ln();
        }
        (total.ln() - sum / total).max(0.0)
    }

    /// Ordinary sampling: a candidate drawn by weight, with one number of the caller's generator.
    pub fn sample(&self, coins: &mut dyn Rng) -> usize {
        self.draw(coins, |_| ())
    }

    /// As [`sample`](Self::sample), with weights changed by `reweight`, which keeps zeros.
    pub(crate) fn draw(&self, coins: &mut dyn Rng, reweight: impl FnOnce(&mut [f64])) -> usize {
        kernel::scratch(self.len(), |weights: &mut [f64]| {
            for (to, &from) in weights.iter_mut().zip(self.weights) {
                *to = f64::from(if from > 0.0 { from } else { 0.0 });
            }
            if self.limit != u64::MAX {
                for (to, &token) in weights.iter_mut().zip(self.tokens.unwrap_or_default()) {
                    if u64::from(token) >= self.limit {
                        *to = 0.0;
                    }
                }
            }
            reweight(weights);
            draw_index(weights, unit(coins)).unwrap_or(self.favourite)
        })
    }
}

/// The index at which the running sum of the weights passes `part` of all; `None` where all are zero.
///
/// Sums are taken by blocks, so that a large vocabulary costs no chain of additions.
fn draw_index(weights: &[f64], part: f64) -> Option<usize> {
    const BLOCK: usize = 512;
    let sum_of = |block: &[f64]| {
        let mut lanes = [0.0; 8];
        let (whole, rest) = block.as_chunks::<8>();
        for eight in whole {
            for (lane, weight) in lanes.iter_mut().zip(eight) {
                *lane += weight;
            }
        }
        let rest: f64 = rest.iter().sum();
        lanes.iter().sum::<f64>() + rest
    };
    let total: f64 = weights.chunks(BLOCK).map(sum_of).sum();
    let target = part * total;
    let (mut before, mut last) = (0.0, None);
    for (start, block) in (0..).step_by(BLOCK).zip(weights.chunks(BLOCK)) {
        let sum = sum_of(block);
        if sum > 0.0 {
            // Rounding may leave the target beyond the last one.
            last = Some((start, block, before));
            if target < before + sum {
                break;
            }
        }
        before += sum;
    }
    let (start, block, before) = last?;
    let mut sum = before;
    let mut last = None;
    for (at, &weight) in block.iter().enumerate() {
        if weight > 0.0 {
            sum += weight;
            last = Some(start + at);
            if target < sum {
                break;
            }
        }
    }
    last
}

/// Uniform on [0, 1) in steps of 2^-53.
pub(crate) fn unit(coins: &mut dyn Rng) -> f64 {
    (coins.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// How logits become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 is greedy decoding.
    pub temperature: f32,
    /// Keep the fewest most probable tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep this many of the most probable tokens; 0 keeps all.
    pub top_k: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
        }
    }
}

/// Why sampling parameters are refused.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// Negative, infinite or NaN.
    #[error("temperature is {0}; it must be 0 (greedy) or a positive number")]
    Temperature(f32),
    /// Outside (0, 1].
    #[error("top-p is {0}; it must be above 0 and at most 1")]
    TopP(f32),
}

impl Sampling {
    /// The parameters, or what is wrong with them.
    pub fn checked(self) -> Result<Self, SamplingError> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(SamplingError::Temperature(self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(SamplingError::TopP(self.top_p));
        }
        Ok(self)
    }
}

/// Reusable memory that turns a row of logits into [`Candidates`].
#[derive(Default, Debug)]
pub struct CandidateBuffer {
    tokens: Vec<u32>,
    weights: Vec<f32>,
    /// The weights of the tokens that are kept, where not all are.
    kept: Vec<f32>,
}

impl CandidateBuffer {
    /// `exp((logit - max) / temperature)`, truncated; NaN counts as minus infinity, and a token
    /// of logit plus infinity as certain. Greedy decoding gives its one token.
    pub fn fill(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
    ) -> Result<Candidates<'_>, NoCandidate> {
        let mut favourite = 0;
        let mut max = f32::NEG_INFINITY;
        for (index, &logit) in logits.iter().enumerate() {
            if logit > max {
                (favourite, max) = (index, logit);
            }
        }
        if max == f32::NEG_INFINITY {
            return Err(NoCandidate);
        }
        self.weights.clear();
        self.tokens.clear();
        if sampling.temperature == 0.0 {
            self.tokens.push(favourite as u32);
            self.weights.push(1.0);
            return Candidates::pairs(&self.tokens, &self.weights);
        }
        if max == f32::INFINITY {
            let certain = |&logit: &f32| f32::from(u8::from(logit == f32::INFINITY));
            self.weights.extend(logits.iter().map(certain));
        } else {
            let scale = 1.0 / sampling.temperature;
            // `max` turns NaN into zero: comparisons with NaN are false.
            let weight = |&logit: &f32| ((logit - max) * scale).exp().max(0.0);
            self.weights.extend(logits.iter().map(weight));
        }
        let all = sampling.top_k == 0 || sampling.top_k >= logits.len();
        if all && sampling.top_p >= 1.0 {
            return Candidates::dense(&self.weights);
        }
        self.truncate(sampling, all);
        Candidates::pairs(&self.tokens, &self.kept)
    }

    fn truncate(&mut self, sampling: &Sampling, all: bool) {
        let weights = &self.weights;
        let positive = (0..weights.len() as u32).filter(|&token| weights[token as usize] > 0.0);
        self.tokens.extend(positive);
        // Ties by token id, so that what is kept does not depend on the sort.
        let order = |a: &u32, b: &u32| {
            let by_weight = weights[*b as usize].total_cmp(&weights[*a as usize]);
            by_weight.then(a.cmp(b))
        };
        if !all && sampling.top_k < self.tokens.len() {
            self.tokens
                .select_nth_unstable_by(sampling.top_k - 1, order);
            self.tokens.truncate(sampling.top_k);
        }
        self.tokens.sort_unstable_by(order);
        if sampling.top_p < 1.0 {
            let weight = |&token: &u32| f64::from(weights[token as usize]);
            let goal = f64::from(sampling.top_p) * self.tokens.iter().map(weight).sum::<f64>();
            let mut sum = 0.0;
            let below = |token: &&u32| {
                let before = sum;
                sum += weight(token);
                before < goal
            };
            let kept = self.tokens.iter().take_while(below).count();
            self.tokens.truncate(kept.max(1));
        }
        self.kept.clear();
        let kept = self.tokens.iter().map(|&token| weights[token as usize]);
        self.kept.extend(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    fn filled(logits: &[f32], sampling: Sampling) -> Vec<(u32, f32)> {
        let mut buffer = CandidateBuffer::default();
        let candidates = buffer.fill(logits, &sampling).unwrap();
        candidates.iter().filter(|(_, w)| *w > 0.0).collect()
    }

    #[test]
    fn truncation_keeps_the_most_probable() {
        let logits = [0.0, 2.0, f32::NAN, 1.0, f32::NEG_INFINITY, 2.0];
        let ids =
            |sampling| -> Vec<u32> { filled(&logits, sampling).iter().map(|(t, _)| *t).collect() };
        let base = Sampling::default();
        assert_eq!(ids(base), [0, 1, 3, 5]);
        assert_eq!(ids(Sampling { top_k: 2, ..base }), [1, 5]);
        assert_eq!(ids(Sampling { top_p: 0.7, ..base }), [1, 5]);
        assert_eq!(
            ids(Sampling {
                top_p: 1e-6,
                ..base
            }),
            [1]
        );
        assert_eq!(
            ids(Sampling {
                temperature: 0.0,
                ..base
            }),
            [1]
        );
    }

    #[test]
    fn infinities_and_nothing() {
        assert_eq!(
            filled(&[0.0, f32::INFINITY], Sampling::default()),
            [(1, 1.0)]
        );
        let mut buffer = CandidateBuffer::default();
        for none in [&[][..], &[f32::NAN, f32::NEG_INFINITY]] {
            assert_eq!(
                buffer.fill(none, &Sampling::default()).unwrap_err(),
                NoCandidate
            );
        }
        assert!(Candidates::dense(&[0.0, -1.0, f32::NAN]).is_err());
        assert!(Candidates::dense(&[f32::INFINITY]).is_err());
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_no_candidates() {
        let weights = [0.1, 0.3, 0.2, 9.0];
        let mut coins = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let dense = Candidates::dense(&weights).unwrap().within(3).unwrap();
        let tokens = [7, 0, 1, 3];
        let pairs = Candidates::pairs(&tokens, &weights).unwrap();
        for (known, expected) in [
            (dense, [0.1, 0.3, 0.2, 0.0]),
            (pairs.within(3).unwrap(), [0.0, 0.3, 0.2, 0.0]),
        ] {
            let mut seen = [0.0; 4];
            seen[..known.len()].copy_from_slice(&known.iter().map(|(_, w)| w).collect::<Vec<_>>());
            assert_eq!(seen, expected);
            assert_eq!(known.favourite(), 1);
            for _ in 0..200 {
                assert!(expected[known.sample(&mut coins)] > 0.0);
            }
        }
        // The entropy is that of what is left.
        let few = Candidates::pairs(&tokens[1..3], &weights[1..3]).unwrap();
        assert_eq!(pairs.within(3).unwrap().entropy(), few.entropy());
        // All are known, or none is.
        assert_eq!(pairs.within(8).unwrap().favourite(), 3);
        assert_eq!(
            Candidates::dense(&weights)
                .unwrap()
                .within(90)
                .unwrap()
                .len(),
            4
        );
        assert_eq!(pairs.within(0).unwrap_err(), NoCandidate);
        assert_eq!(
            Candidates::dense(&[0.0, 1.0])
                .unwrap()
                .within(1)
                .unwrap_err(),
            NoCandidate
        );
    }

    #[test]
    fn bad_parameters_are_named() {
        let base = Sampling::default();
        for bad in [
            Sampling {
                temperature: -1.0,
                ..base
            },
            Sampling {
                temperature: f32::NAN,
                ..base
            },
            Sampling { top_p: 0.0, ..base },
            Sampling { top_p: 1.1, ..base },
        ] {
            assert!(bad.checked().is_err(), "{bad:?}");
        }
    }
}
