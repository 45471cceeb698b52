//! Caps that are kept before anything is sent: what is on its way counts as the most it can become.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::CollectError;
use super::transcript::Usage;
use crate::cli::CapArgs;

/// The most tokens that a request can cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Worst {
    /// Read: no tokenizer makes more tokens of a text than it has bytes; a chat template adds a few.
    pub(super) input: u64,
    /// Written; unknown where the request sets no limit.
    pub(super) output: Option<u64>,
}

/// What was used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spent {
    /// Requests sent, repeated attempts included.
    pub(super) requests: u64,
    /// Answers.
    pub(super) answers: u64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    /// Requests whose tokens nobody told: they are in the sums at their worst case.
    pub(super) estimated: u64,
}

/// What a request that has come back used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charge {
    /// As the server says.
    Told(Usage),
    /// It may have written everything that it was allowed to.
    Worst,
    /// The endpoint did nothing.
    Nothing,
}

impl Spent {
    pub(super) fn add(&mut self, worst: Worst, charge: Charge) {
        match charge {
            Charge::Told(usage) => {
                self.input_tokens += usage.prompt_tokens;
                self.output_tokens += usage.completion_tokens;
            }
            Charge::Worst => {
                self.input_tokens += worst.input;
                self.output_tokens += worst.output.unwrap_or(0);
                self.estimated += 1;
            }
            Charge::Nothing => {}
        }
    }
}

/// The caps. Those of a sealed plan are `answers` and `output_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Caps {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prices: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_tokens: Option<u64>,
}

impl Caps {
    pub(super) fn new(arguments: &CapArgs) -> Result<Self, CollectError> {
        let prices = match (
            arguments.price_per_million_input,
            arguments.price_per_million_output,
        ) {
            (Some(input), Some(output)) => Some([input, output]),
            _ => None,
        };
        let fine = |x: f64| x >= 0.0 && x.is_finite();
        let [input, output] = prices.unwrap_or_default();
        for (option, value) in [
            ("--max-cost", arguments.max_cost.unwrap_or(0.0)),
            ("--price-per-million-input", input),
            ("--price-per-million-output", output),
        ] {
            if !fine(value) {
                return Err(CollectError::Usage(format!(
                    "{option} {value}: it must be at least 0"
                )));
            }
        }
        Ok(Self {
            requests: arguments.max_requests,
            tokens: arguments.max_tokens_total,
            cost: arguments.max_cost,
            prices,
            ..Self::default()
        })
    }

    /// These caps, with those that `other` gives in their place.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            requests: other.requests.or(self.requests),
            tokens: other.tokens.or(self.tokens),
            cost: other.cost.or(self.cost),
            prices: other.prices.or(self.prices),
            // Sealed.
            answers: self.answers,
            output_tokens: self.output_tokens,
        }
    }

    /// Money for some tokens, where prices are known.
    pub(super) fn cost_of(&self, input: u64, output: u64) -> Option<f64> {
        let [read, written] = self.prices?;
        Some((input as f64 * read + output as f64 * written) / 1e6)
    }

    /// Whether a request without a limit of its own cannot be held to these caps.
    pub(super) fn need_limits(&self) -> bool {
        self.tokens.is_some() || self.cost.is_some() || self.output_tokens.is_some()
    }
}

/// A cap that the next request would break.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cap {
    Requests(u64),
    Tokens(u64),
    Cost(f64),
    /// The plan's answers or tokens are collected.
    Planned,
}

impl std::fmt::Display for Cap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Requests(cap) => write!(f, "--max-requests {cap} is reached"),
            Self::Tokens(cap) => write!(f, "the next request could break --max-tokens-total {cap}"),
            Self::Cost(cap) => write!(f, "the next request could break --max-cost {cap}"),
            Self::Planned => write!(f, "the plan's budget is collected"),
        }
    }
}

/// Spent, and reserved for what is on its way.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) caps: Caps,
    pub(super) spent: Spent,
    in_flight: u64,
    input: u64,
    output: u64,
}

impl Budget {
    pub(super) fn new(caps: Caps, spent: Spent) -> Self {
        Self {
            caps,
            spent,
            in_flight: 0,
            input: 0,
            output: 0,
        }
    }

    /// Reserves the worst case of one more request, where all caps hold even then.
    pub(super) fn reserve(&mut self, worst: Worst) -> Result<(), Cap> {
        let (caps, spent) = (&self.caps, &self.spent);
        let written = worst.output.unwrap_or(0);
        let input = spent.input_tokens + self.input + worst.input;
        let output = spent.output_tokens + self.output + written;
        let breaks = |cap: Option<u64>, value: u64| cap.filter(|&cap| value > cap);
        if let Some(cap) = breaks(caps.requests, spent.requests + 1) {
            return Err(Cap::Requests(cap));
        }
        if breaks(caps.answers, spent.answers + self.in_flight + 1).is_some()
            || breaks(caps.output_tokens, output).is_some()
        {
            return Err(Cap::Planned);
        }
        if let Some(cap) = breaks(caps.tokens, input.saturating_add(output)) {
            return Err(Cap::Tokens(cap));
        }
        if let (Some(cap), Some(cost)) = (caps.cost, caps.cost_of(input, output))
            && cost > cap
        {
            return Err(Cap::Cost(cap));
        }
        self.spent.requests += 1;
        self.in_flight += 1;
        self.input += worst.input;
        self.output += written;
        Ok(())
    }

    /// One has come back.
    pub(super) fn settle(&mut self, worst: Worst, charge: Charge, answered: bool) {
        self.in_flight -= 1;
        self.input -= worst.input;
        self.output -= worst.output.unwrap_or(0);
        self.spent.answers += u64::from(answered);
        self.spent.add(worst, charge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORST: Worst = Worst {
        input: 100,
        output: Some(50),
    };

    fn told(prompt_tokens: u64, completion_tokens: u64) -> Charge {
        Charge::Told(Usage {
            prompt_tokens,
            completion_tokens,
        })
    }

    #[test]
    fn what_is_on_its_way_counts_at_its_worst() {
        let caps = Caps {
            tokens: Some(400),
            ..Caps::default()
        };
        let mut budget = Budget::new(caps, Spent::default());
        assert_eq!(budget.reserve(WORST), Ok(()));
        assert_eq!(budget.reserve(WORST), Ok(()));
        assert_eq!(budget.reserve(WORST), Err(Cap::Tokens(400)));
        // Less was used than reserved: there is room again.
        budget.settle(WORST, told(20, 10), true);
        assert_eq!(budget.reserve(WORST), Ok(()));
        budget.settle(WORST, Charge::Worst, false);
        budget.settle(WORST, Charge::Nothing, false);
        assert_eq!(budget.spent.requests, 3);
        assert_eq!(
            (budget.spent.input_tokens, budget.spent.output_tokens),
            (120, 60)
        );
        assert_eq!((budget.spent.estimated, budget.spent.answers), (1, 1));
    }

    #[test]
    fn money_requests_and_the_plan() {
        let caps = Caps {
            cost: Some(3.0),
            prices: Some([1e4, 2e4]),
            ..Caps::default()
        };
        let mut budget = Budget::new(caps, Spent::default());
        // 100 at 0.01 and 50 at 0.02: 2 each.
        assert_eq!(caps.cost_of(100, 50), Some(2.0));
        assert_eq!(budget.reserve(WORST), Ok(()));
        assert_eq!(budget.reserve(WORST), Err(Cap::Cost(3.0)));
        let spent = Spent {
            requests: 7,
            answers: 4,
            ..Spent::default()
        };
        let caps = |requests, answers| Caps {
            requests,
            answers,
            ..Caps::default()
        };
        let mut budget = Budget::new(caps(Some(8), None), spent);
        assert_eq!(budget.reserve(WORST), Ok(()));
        assert_eq!(budget.reserve(WORST), Err(Cap::Requests(8)));
        let mut budget = Budget::new(caps(None, Some(5)), spent);
        assert_eq!(budget.reserve(WORST), Ok(()));
        assert_eq!(budget.reserve(WORST), Err(Cap::Planned));
        budget.settle(WORST, Charge::Nothing, false);
        assert_eq!(budget.reserve(WORST), Ok(()));
    }
}
