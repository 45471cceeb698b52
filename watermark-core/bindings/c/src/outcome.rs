//! How tokens came about, and how many.

use watermark_core::sampler as core;
use watermark_core::sampler::SkipReason;

use crate::memory::versioned;
use crate::status::{Failure, Status};

/// How a token came about: by the mark, or by ordinary sampling for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Outcome {
    /// There is no decision: the row has no candidate.
    None = -1,
    /// By the mark.
    Marked = 0,
    /// Marking is switched off for this sequence.
    Disabled = 1,
    /// Temperature 0: there is no choice to make.
    Greedy = 2,
    /// Fewer than h tokens in the segment yet.
    PartialContext = 3,
    /// The window stood earlier in the sequence.
    RepeatedContext = 4,
    /// Less entropy than the profile's min_entropy.
    LowEntropy = 5,
    /// The sequence has its number of marked tokens.
    Budget = 6,
    /// A draft of speculative decoding, under a mark with one key.
    Draft = 7,
    /// No candidate is a token of the profile's vocabulary.
    NoCandidate = 8,
    /// The engine took another token than the mark's: a grammar, a stop rule, a token forced by the caller.
    Replaced = 9,
}

impl Outcome {
    const ALL: [Self; 10] = [
        Self::Marked,
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
}

/// Outcomes that wmk_counts has room for.
pub const WMK_OUTCOMES: usize = 16;

impl From<core::Outcome> for Outcome {
    fn from(outcome: core::Outcome) -> Self {
        match outcome {
            core::Outcome::Marked => Self::Marked,
            core::Outcome::Skipped(reason) => match reason {
                SkipReason::Disabled => Self::Disabled,
                SkipReason::Greedy => Self::Greedy,
                SkipReason::PartialContext => Self::PartialContext,
                SkipReason::RepeatedContext => Self::RepeatedContext,
                SkipReason::LowEntropy => Self::LowEntropy,
                SkipReason::Budget => Self::Budget,
                SkipReason::Draft => Self::Draft,
                SkipReason::NoCandidate => Self::NoCandidate,
                SkipReason::Replaced => Self::Replaced,
            },
        }
    }
}

/// The outcome of a code.
pub(crate) fn outcome(code: i32) -> Result<core::Outcome, Failure> {
    let skips = SkipReason::ALL.map(core::Outcome::Skipped);
    let mut all = [core::Outcome::Marked].into_iter().chain(skips);
    all.find(|&outcome| Outcome::from(outcome) as i32 == code)
        .ok_or_else(|| {
            let last = Outcome::ALL.len() - 1;
            let message = format!(
                "outcome is {code}; pass on that of the decision (a wmk_outcome from 0 to {last})"
            );
            Failure::new(Status::Argument, message)
        })
}

/// What wmk_session_decide says. An element of arrays, so without struct_size: it will not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Decision {
    /// Place of the token among the candidates; -1 where the mark leaves the choice to ordinary sampling.
    pub index: i64,
    /// The token; -1 where index is.
    pub token: i32,
    /// A wmk_outcome.
    pub outcome: i32,
}

impl Decision {
    /// No decision.
    pub(crate) const NONE: Self = Self {
        index: -1,
        token: -1,
        outcome: Outcome::None as i32,
    };

    /// What to tell the core's session, of a decision that was made.
    pub(crate) fn core_outcome(&self) -> core::Outcome {
        outcome(self.outcome).unwrap_or(core::Outcome::Skipped(SkipReason::Replaced))
    }
}

/// How the tokens of a session came about.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Counts {
    /// sizeof(wmk_counts).
    pub struct_size: usize,
    /// Tokens accepted.
    pub tokens: u64,
    /// Segments.
    pub segments: u64,
    /// Tokens of every wmk_outcome, with its code as the index.
    pub outcomes: [u64; WMK_OUTCOMES],
}
versioned!(Counts, "wmk_counts");

pub(crate) fn count(session: &core::Session<'_>) -> Counts {
    let skips = session.skips();
    let mut outcomes = [0; WMK_OUTCOMES];
    outcomes[Outcome::Marked as usize] = skips.marked;
    for reason in SkipReason::ALL {
        outcomes[Outcome::from(core::Outcome::Skipped(reason)) as usize] = skips.skipped(reason);
    }
    Counts {
        struct_size: 0,
        tokens: skips.tokens(),
        segments: session.record().segments.len() as u64,
        outcomes,
    }
}
