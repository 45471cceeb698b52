//! Why positions are not marked, and how many for which reason: what a server exports.

use serde::{Deserialize, Serialize};

use super::Outcome;

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
    /// A draft of speculative decoding, under a mark with one key.
    Draft,
    /// No candidate of positive weight is a token of the profile's vocabulary.
    NoCandidate,
    /// The engine took another token than the mark's: a grammar, a stop rule, a token forced by the caller.
    Replaced,
}

impl SkipReason {
    /// Every reason, in the order of [`SkipCounts`].
    pub const ALL: [Self; 9] = [
        Self::Disabled,
        Self::Greedy,
        Self::PartialContext,
        Self::RepeatedContext,
        Self::LowEntropy,
        Self::Budget,
        Self::Draft,
        Self::NoCandidate,
        Self::Replaced,
    ];

    /// Its name in records, counts and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Greedy => "greedy",
            Self::PartialContext => "partial_context",
            Self::RepeatedContext => "repeated_context",
            Self::LowEntropy => "low_entropy",
            Self::Budget => "budget",
            Self::Draft => "draft",
            Self::NoCandidate => "no_candidate",
            Self::Replaced => "replaced",
        }
    }
}

/// How tokens came about: by the mark, or not and why. `tokens = marked + the sum of all reasons`.
///
/// The counts of several sequences add up ([`merge`](Self::merge)); an engine that rolls back counts at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct SkipCounts {
    /// Chosen by the mark.
    pub marked: u64,
    /// [`SkipReason::Disabled`].
    pub disabled: u64,
    /// [`SkipReason::Greedy`].
    pub greedy: u64,
    /// [`SkipReason::PartialContext`]: lost to the starts of segments.
    pub partial_context: u64,
    /// [`SkipReason::RepeatedContext`].
    pub repeated_context: u64,
    /// [`SkipReason::LowEntropy`].
    pub low_entropy: u64,
    /// [`SkipReason::Budget`].
    pub budget: u64,
    /// [`SkipReason::Draft`].
    pub draft: u64,
    /// [`SkipReason::NoCandidate`].
    pub no_candidate: u64,
    /// [`SkipReason::Replaced`].
    pub replaced: u64,
}

impl SkipCounts {
    /// Counts one token.
    pub fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Marked => self.marked += 1,
            Outcome::Skipped(reason) => *self.of(reason) += 1,
        }
    }

    /// Adds the counts of other sequences.
    pub fn merge(&mut self, other: &Self) {
        self.marked += other.marked;
        for reason in SkipReason::ALL {
            *self.of(reason) += other.skipped(reason);
        }
    }

    /// Tokens skipped for one reason.
    pub fn skipped(&self, reason: SkipReason) -> u64 {
        *self.clone().of(reason)
    }

    /// All tokens.
    pub fn tokens(&self) -> u64 {
        let skipped = SkipReason::ALL.map(|reason| self.skipped(reason));
        self.marked + skipped.iter().sum::<u64>()
    }

    /// The counts as a counter `watermark_tokens_total` in Prometheus' text format, every outcome on a line; outcomes
    /// without a token as well, so that no series appears late. `labels` go before the outcome, as in `model="a"`:
    /// names and values as the format wants them, without a key.
    pub fn prometheus(&self, labels: &str) -> String {
        let comma = if labels.is_empty() { "" } else { "," };
        let line = |outcome: &str, count: u64| {
            format!("watermark_tokens_total{{{labels}{comma}outcome=\"{outcome}\"}} {count}\n")
        };
        let skipped = SkipReason::ALL.map(|reason| line(reason.name(), self.skipped(reason)));
        format!(
            "# HELP watermark_tokens_total Tokens written, by how they came about.\n\
             # TYPE watermark_tokens_total counter\n{}{}",
            line("marked", self.marked),
            skipped.concat()
        )
    }

    fn of(&mut self, reason: SkipReason) -> &mut u64 {
        match reason {
            SkipReason::Disabled => &mut self.disabled,
            SkipReason::Greedy => &mut self.greedy,
            SkipReason::PartialContext => &mut self.partial_context,
            SkipReason::RepeatedContext => &mut self.repeated_context,
            SkipReason::LowEntropy => &mut self.low_entropy,
            SkipReason::Budget => &mut self.budget,
            SkipReason::Draft => &mut self.draft,
            SkipReason::NoCandidate => &mut self.no_candidate,
            SkipReason::Replaced => &mut self.replaced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts that differ for every outcome.
    fn counts() -> SkipCounts {
        let mut counts = SkipCounts::default();
        counts.count(Outcome::Marked);
        for (index, reason) in SkipReason::ALL.into_iter().enumerate() {
            (0..index + 2).for_each(|_| counts.count(Outcome::Skipped(reason)));
        }
        counts
    }

    #[test]
    fn counts_add_up_and_read_back() {
        let mut twice = counts();
        twice.merge(&counts());
        assert_eq!(twice.tokens(), 2 * counts().tokens());
        assert_eq!(counts().tokens(), (1..=10).sum::<u64>());
        for (index, reason) in SkipReason::ALL.into_iter().enumerate() {
            assert_eq!(twice.skipped(reason), 2 * (index as u64 + 2));
            // One name in records, counts and metrics.
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
            let json = serde_json::to_value(counts()).unwrap();
            assert_eq!(json[reason.name()], index + 2);
        }
        let json = serde_json::to_string(&twice).unwrap();
        assert_eq!(serde_json::from_str::<SkipCounts>(&json).unwrap(), twice);
    }

    #[test]
    fn the_text_format_has_a_line_an_outcome() {
        let text = counts().prometheus(r#"model="a",slot="0""#);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.len(), 10);
        assert_eq!(
            samples[0],
            r#"watermark_tokens_total{model="a",slot="0",outcome="marked"} 1"#
        );
        assert_eq!(
            SkipCounts::default().prometheus("").lines().nth(6),
            Some(r#"watermark_tokens_total{outcome="repeated_context"} 0"#)
        );
        assert!(text.ends_with('\n'));
    }
}
