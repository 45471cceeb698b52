//! What logged answers carry: figures about text that the key's owner wrote himself.

use std::collections::{BTreeMap, HashMap, HashSet};

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::detect::Test;
use watermark_core::profile::{Mark, RepeatedContexts};
use watermark_core::sampler::{SessionRecord, SkipReason};
use watermark_core::scheme::NOT_KEYED;
use watermark_core::stats::LnP;
use watermark_core::window::{Counts, Exhibit, window};
use watermark_eval::measure::distinct;

use crate::input::Item;

/// How strongly a body of text shows the mark.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Strength {
    pub(crate) counts: Counts,
    /// Distinct cells over tokens.
    pub(crate) scored_share: f64,
    /// Mean excess of a distinct cell's score over chance, in natural units.
    pub(crate) excess: f64,
    /// The same of a counted position, repeats included: what an effect is compared with.
    pub(crate) position_excess: f64,
    pub(crate) null_mean: f64,
    #[serde(rename = "pLog10")]
    pub(crate) p: LnP,
}

impl Strength {
    pub(crate) fn of(mark: &Mark, exhibit: &Exhibit) -> Self {
        let test = Test::of(mark, exhibit);
        let counts = *exhibit.counts();
        Self {
            counts,
            scored_share: test.n_scored as f64 / counts.tokens.max(1) as f64,
            excess: test.mean - test.null_mean,
            position_excess: watermark_core::effect::written_excess(mark, exhibit),
            null_mean: test.null_mean,
            p: test.p,
        }
    }
}

/// Tokens that the writer left to ordinary sampling.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Skips {
    /// `sessions`, or `estimated` from the text by the profile's rules, which cannot see the entropy gate, a
    /// budget or a switch.
    pub(crate) source: &'static str,
    /// Answers that it is from.
    pub(crate) answers: usize,
    pub(crate) tokens: u64,
    /// Skipped tokens over tokens.
    pub(crate) rate: f64,
    /// Skipped tokens by reason, over tokens.
    pub(crate) reasons: BTreeMap<SkipReason, f64>,
}

impl Skips {
    /// From what the writer recorded.
    pub(crate) fn recorded(sessions: &[SessionRecord]) -> Self {
        let mut reasons = BTreeMap::new();
        let mut tokens = 0;
        for session in sessions {
            tokens += session.tokens.len() as u64;
            for skip in &session.skips {
                *reasons.entry(skip.reason).or_insert(0) += skip.len as u64;
            }
        }
        Self::new("sessions", sessions.len(), tokens, reasons)
    }

    /// From the text: the first h of a segment, and windows met before where the profile skips those.
    pub(crate) fn estimated(mark: &Mark, items: &[Item]) -> Self {
        let width = mark.profile().context_width();
        let skips_repeats = mark.profile().repeated_contexts == RepeatedContexts::Skip;
        let mut reasons = BTreeMap::new();
        let mut tokens = 0;
        for item in items {
            let mut met = HashSet::new();
            for segment in &item.segments {
                tokens += segment.len() as u64;
                for at in 0..segment.len() {
                    let reason = match window(segment, at, width) {
                        None => SkipReason::PartialContext,
                        Some(window) if !met.insert(window) && skips_repeats => {
                            SkipReason::RepeatedContext
                        }
                        Some(_) => continue,
                    };
                    *reasons.entry(reason).or_insert(0) += 1;
                }
            }
        }
        Self::new("estimated", items.len(), tokens, reasons)
    }

    fn new(
        source: &'static str,
        answers: usize,
        tokens: u64,
        reasons: BTreeMap<SkipReason, u64>,
    ) -> Self {
        let share = |count: u64| count as f64 / tokens.max(1) as f64;
        Self {
            source,
            answers,
            tokens,
            rate: share(reasons.values().sum()),
            reasons: reasons.into_iter().map(|(r, n)| (r, share(n))).collect(),
        }
    }
}

/// How varied a body of text is. All of it depends on the size: compare equal numbers of tokens only.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Diversity {
    pub(crate) tokens: u64,
    pub(crate) answers: usize,
    /// Distinct runs of n tokens over all of them.
    pub(crate) distinct1: f64,
    pub(crate) distinct2: f64,
    pub(crate) distinct4: f64,
    /// Empirical entropy of a token after the token before it, nats: a proxy for the model's own, far below it
    /// for small texts.
    pub(crate) bigram_entropy: f64,
    /// Share of an answer's runs of four tokens that another answer has too.
    pub(crate) self_overlap4: f64,
}

impl Diversity {
    /// Of the first `tokens` tokens of the answers.
    pub(crate) fn of(items: &[Item], tokens: u64) -> Self {
        let mut left = tokens as usize;
        let mut texts: Vec<Vec<&[u32]>> = Vec::new();
        for item in items {
            let mut segments = Vec::new();
            for segment in &item.segments {
                let taken = segment.len().min(left);
                left -= taken;
                segments.push(&segment[..taken]);
            }
            texts.push(segments);
            if left == 0 {
                break;
            }
        }
        let all = || texts.iter().flatten().copied();
        Self {
            tokens: all().map(|segment| segment.len() as u64).sum(),
            answers: texts.len(),
            distinct1: distinct(all(), 1),
            distinct2: distinct(all(), 2),
            distinct4: distinct(all(), 4),
            bigram_entropy: bigram_entropy(all()),
            self_overlap4: self_overlap(&texts, 4),
        }
    }
}

/// `-sum n(a, b) ln(n(a, b) / n(a)) / sum n(a, b)` over neighbours (a, b).
fn bigram_entropy<'t>(texts: impl Iterator<Item = &'t [u32]>) -> f64 {
    let mut pairs: HashMap<(u32, u32), f64> = HashMap::new();
    let mut firsts: HashMap<u32, f64> = HashMap::new();
    for pair in texts.flat_map(|text| text.windows(2)) {
        *pairs.entry((pair[0], pair[1])).or_default() += 1.0;
        *firsts.entry(pair[0]).or_default() += 1.0;
    }
    let total: f64 = firsts.values().sum();
    // In the order of the counts, so that the sum is the same in every run.
    let mut terms: Vec<f64> = pairs
        .iter()
        .map(|((first, _), n)| -n * (n / firsts[first]).ln())
        .collect();
    terms.sort_unstable_by(f64::total_cmp);
    terms.iter().sum::<f64>() / total.max(1.0)
}

fn self_overlap(texts: &[Vec<&[u32]>], n: usize) -> f64 {
    let runs = |text: &'_ Vec<&[u32]>| {
        let runs = text.iter().flat_map(move |segment| segment.windows(n));
        runs.map(<[u32]>::to_vec).collect::<HashSet<_>>()
    };
    let mut answers: HashMap<Vec<u32>, u32> = HashMap::new();
    for text in texts {
        for run in runs(text) {
            *answers.entry(run).or_default() += 1;
        }
    }
    let (mut shared, mut all) = (0u64, 0u64);
    for segment in texts.iter().flatten() {
        for run in segment.windows(n) {
            all += 1;
            shared += u64::from(answers[run] > 1);
        }
    }
    shared as f64 / all.max(1) as f64
}

/// How many distinct cells so many tokens have: as in the logs, in their order.
#[derive(Debug)]
pub(crate) struct Growth(Vec<(u64, u64)>);

impl Growth {
    pub(crate) fn of(mark: &Mark, items: &[Item]) -> Self {
        let mut exhibit = Exhibit::new(mark.profile().context_width());
        let contexts = items.iter().flat_map(|item| &item.contexts);
        contexts.for_each(|context| exhibit.exclude(context));
        let points = items.iter().map(|item| {
            item.segments.iter().for_each(|one| exhibit.push(one));
            (exhibit.counts().tokens, exhibit.counts().cells)
        });
        Self([(0, 0)].into_iter().chain(points).collect())
    }

    /// Tokens with so many cells. More than the logs have are put at the rate of their last tenth; since the rate
    /// goes on falling, that is a lower bound, which the flag says.
    pub(crate) fn tokens(&self, cells: u64) -> Option<(u64, bool)> {
        let between = |(t, c): (u64, u64), (u, d): (u64, u64)| {
            let rate = (d - c) as f64 / (u - t) as f64;
            (rate > 0.0).then(|| t + ((cells - c) as f64 / rate).ceil() as u64)
        };
        let after = self.0.partition_point(|&(_, c)| c < cells);
        match self.0.get(after) {
            Some(&next) if after > 0 => Some((between(self.0[after - 1], next)?, false)),
            Some(_) => Some((0, false)),
            None => {
                let last = *self.0.last()?;
                let from = self.0.partition_point(|&(t, _)| t * 10 < last.0 * 9);
                let from = self.0[from.saturating_sub(1)];
                Some((between(from, last)?, true))
            }
        }
    }
}

/// How far single answers carry.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Single {
    pub(crate) answers: usize,
    /// Answers that are rejected at alpha when each is tested alone.
    pub(crate) rejected: usize,
    /// Tokens after which half of the answers have first had p at most alpha; absent where fewer than half ever
    /// have. A figure: the p of an answer is looked at after every token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) median_tokens: Option<u64>,
    /// Median length of an answer.
    pub(crate) median_length: u64,
}

impl Single {
    pub(crate) fn of(mark: &Mark, items: &[Item], alpha: f64) -> Self {
        let mut crossings = Vec::new();
        let mut lengths = Vec::new();
        let mut rejected = 0;
        for item in items {
            let exhibit = crate::command::exhibit(mark, std::slice::from_ref(item));
            let length = exhibit.counts().tokens;
            lengths.push(length);
            rejected += usize::from(Test::of(mark, &exhibit).p.ln() <= alpha.ln());
            crossings.push(crossing(mark, item, alpha).unwrap_or(u64::MAX));
        }
        let median = |mut values: Vec<u64>| {
            values.sort_unstable();
            values.get(values.len().saturating_sub(1) / 2).copied()
        };
        Self {
            answers: items.len(),
            rejected,
            median_tokens: median(crossings).filter(|&tokens| tokens < u64::MAX),
            median_length: median(lengths).unwrap_or(0),
        }
    }
}

/// The number of tokens of an answer after which p is first at most alpha.
fn crossing(mark: &Mark, item: &Item, alpha: f64) -> Option<u64> {
    let scheme = mark.scheme();
    let null = scheme.null();
    let width = scheme.context_width();
    let mut read = Exhibit::new(width);
    item.contexts.iter().for_each(|one| read.exclude(one));
    let mut met = HashSet::new();
    let (mut tokens, mut cells, mut sum) = (0, 0, 0);
    for segment in &item.segments {
        for (at, &token) in segment.iter().enumerate() {
            tokens += 1;
            let Some(window) = window(segment, at, width) else {
                continue;
            };
            let excluded = match width {
                0 => read.excludes(&[token]),
                _ => read.excludes(window),
            };
            let row = scheme.row(window);
            let cell = scheme.cell(&row, token);
            if excluded || cell == NOT_KEYED || !met.insert(cell) {
                continue;
            }
            cells += 1;
            sum += scheme.score(&row, token);
            if null.upper_tail(cells, sum).ln() <= alpha.ln() {
                return Some(tokens);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use watermark_core::key::{Epoch, SlotKey};
    use watermark_core::profile::Profile;

    fn item(segments: &[&[u32]]) -> Item {
        Item {
            name: "t".into(),
            contexts: Vec::new(),
            segments: segments.iter().map(|segment| segment.to_vec()).collect(),
            source: None,
            label: None,
            domain: None,
        }
    }

    fn mark(profile: &str) -> Mark {
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        Profile::built_in(profile).unwrap().bind(&key).unwrap()
    }

    #[test]
    fn diversity_by_hand() {
        let items = [
            item(&[&[1, 2, 3, 4, 1]]),
            item(&[&[1, 2, 3, 4]]),
            item(&[&[5]]),
        ];
        let all = Diversity::of(&items, 100);
        assert_eq!((all.tokens, all.answers), (10, 3));
        assert_eq!(all.distinct1, 5.0 / 10.0);
        assert_eq!(all.distinct2, 4.0 / 7.0);
        // Runs of four: 1234, 2341 and 1234 again, in another answer.
        assert_eq!(all.distinct4, 2.0 / 3.0);
        assert_eq!(all.self_overlap4, 2.0 / 3.0);
        assert_eq!(all.bigram_entropy, 0.0);
        let cut = Diversity::of(&items, 6);
        assert_eq!((cut.tokens, cut.answers), (6, 2));
        // After 1 comes 2 or 3, evenly.
        let fork = Diversity::of(&[item(&[&[1, 2], &[1, 3]])], 9);
        assert!((fork.bigram_entropy - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn cells_grow_as_in_the_logs() {
        // Of h = 1: 3 cells in 4 tokens, then 2 in 3, then none in 4.
        let items = [
            item(&[&[1, 2, 3, 4]]),
            item(&[&[5, 6, 7]]),
            item(&[&[1, 2, 3, 4]]),
        ];
        let mark = mark("greenlist-h1");
        let growth = Growth::of(&mark, &items[..2]);
        assert_eq!(growth.tokens(0), Some((0, false)));
        assert_eq!(growth.tokens(3), Some((4, false)));
        assert_eq!(growth.tokens(4), Some((6, false)));
        assert_eq!(growth.tokens(5), Some((7, false)));
        assert_eq!(growth.tokens(9), Some((13, true)));
        // Nothing new comes any more.
        assert_eq!(Growth::of(&mark, &items).tokens(6), None);
        assert_eq!(Growth::of(&mark, &[]).tokens(1), None);
    }

    #[test]
    fn skips_by_the_profiles_rules() {
        // h = 2: two partial contexts a segment; the window (1, 2) comes again in the second.
        let items = [item(&[&[1, 2, 3, 4], &[1, 2, 9]])];
        let skips = Skips::estimated(&mark("gumbel-h2"), &items);
        assert_eq!(skips.reasons[&SkipReason::PartialContext], 4.0 / 7.0);
        assert_eq!(skips.reasons[&SkipReason::RepeatedContext], 1.0 / 7.0);
        assert_eq!(skips.rate, 5.0 / 7.0);
        // A green list marks repeats.
        let skips = Skips::estimated(&mark("greenlist-h2"), &items);
        assert_eq!(skips.rate, 4.0 / 7.0);
    }

    #[test]
    fn a_text_is_found_after_its_first_green_cells() {
        let mark = mark("greenlist-h1");
        let mut text = vec![1u32];
        while text.len() < 40 {
            let row = mark.scheme().row(&text[text.len() - 1..]);
            let from = text.len() as u32 * 29;
            text.push(
                (from..)
                    .find(|&t| mark.scheme().score(&row, t) == 1)
                    .unwrap(),
            );
        }
        // (1/4)^9 is the first power below 1e-5, after one token without a window.
        assert_eq!(crossing(&mark, &item(&[&text]), 1e-5), Some(10));
        assert_eq!(crossing(&mark, &item(&[&text[..9]]), 1e-5), None);
        let single = Single::of(&mark, &[item(&[&text]), item(&[&text[..9]])], 1e-5);
        assert_eq!((single.rejected, single.median_tokens), (1, Some(10)));
        let single = Single::of(&mark, &[item(&[&text[..9]])], 1e-5);
        assert_eq!((single.rejected, single.median_tokens), (0, None));
    }
}
