//! What a reader of a report must know beside its numbers: a closed list.

use serde::{Deserialize, Serialize};

use crate::detect::{Test, TestId};
use crate::distill::Finding;
use crate::key::Exposure;
use crate::profile::{Function, Mark};
use crate::report::Parts;
use crate::stats::LnP;
use crate::stats::weighted::TailMethod;
use crate::window::{Counts, Exhibit};

/// A fact about the sample, with what it means for the result and what to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    tag = "warning",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Warning {
    /// No token could be scored.
    NothingScored,
    /// Most positions repeat cells met before.
    MostlyRepeated {
        /// Share of the tokens.
        share: f64,
    },
    /// Most positions stand in windows of a prompt.
    MostlyExcluded {
        /// Share of the tokens.
        share: f64,
    },
    /// The score is far below what chance gives.
    FarBelowChance {
        /// log10 of the lower tail.
        p_log10: f64,
    },
    /// No keys nobody used were scored.
    NoDecoys,
    /// The decoys' p-values are not uniform.
    DecoysNotUniform {
        /// log10 p of the Kolmogorov-Smirnov test.
        p_log10: f64,
    },
    /// The control model shows the mark too.
    ControlFires {
        /// The test.
        test: TestId,
        /// log10 p of the control.
        p_log10: f64,
    },
    /// Cells fire whose windows were never emitted under the key.
    NeverEmittedFires {
        /// log10 p of those cells.
        p_log10: f64,
    },
    /// The effect is half the marked text's own, or more.
    StrongTransfer {
        /// The effect as a share of the marked text's.
        share: f64,
    },
    /// What the suspect was given to read shows the mark.
    PromptsHoldMarkedText {
        /// log10 p of the prompts' own cells.
        p_log10: f64,
    },
    /// Answers came as text and were tokenised here.
    Retokenised {
        /// Answers that came as text.
        answers: u64,
        /// Answers.
        of: u64,
        /// Share of the tokens that were scored.
        scored: f64,
    },
    /// The neutral text shows the mark itself.
    NeutralTextFires {
        /// log10 p of the text.
        p_log10: f64,
    },
    /// The supervised test's number of cells is no sealed one.
    PlanNotSealed,
    /// The mark is another engine's, and its function weak.
    WeakFunction {
        /// The function.
        function: Function,
        /// Bits of key in effect.
        key_bits: u32,
        /// What a reader has to know of it.
        weakness: std::borrow::Cow<'static, str>,
    },
    /// Without one prompt the result changes sides.
    OnePromptDecides {
        /// The prompt's number.
        source: u32,
        /// log10 p of the rest.
        p_log10: f64,
    },
    /// A p-value is below the chance of guessing the key.
    BelowGuessingTheKey {
        /// log10 of the smallest p.
        p_log10: f64,
    },
    /// Others than the owner could read the key file, and it was read all the same, as asked.
    KeyFileExposed {
        /// Its permission bits in octal, or `other owner`.
        access: String,
    },
    /// Fewer answers than the sealed plan has a budget for.
    FewerAnswersThanPlanned {
        /// Answers.
        answers: u64,
        /// As planned.
        planned: u64,
    },
    /// Answers whose prompt is not known to be one of the sealed plan's.
    PromptsNotCompared {
        /// Such answers.
        answers: u64,
        /// Answers.
        of: u64,
    },
}

/// ln of the chance of guessing a key of 256 bits.
const LN_GUESS: f64 = -256.0 * core::f64::consts::LN_2;

/// A diagnostic speaks up below this.
const DIAGNOSTIC_LOG10: f64 = -5.0;

impl Warning {
    /// The warnings that the parts of a report give rise to.
    pub(crate) fn of(parts: &Parts) -> Vec<Self> {
        let mut warnings = Vec::new();
        let suspect = &parts.suspect;
        let counts = &suspect.counts;
        let share = |part: u64| part as f64 / counts.tokens.max(1) as f64;
        if counts.segments > 0 && suspect.test.n_scored == 0 {
            warnings.push(Self::NothingScored);
        }
        if share(counts.repeated) > 0.5 {
            warnings.push(Self::MostlyRepeated {
                share: share(counts.repeated),
            });
        }
        if share(counts.excluded) > 0.5 {
            warnings.push(Self::MostlyExcluded {
                share: share(counts.excluded),
            });
        }
        if suspect.test.lower_p.log10() < DIAGNOSTIC_LOG10 {
            warnings.push(Self::FarBelowChance {
                p_log10: suspect.test.lower_p.log10(),
            });
        }
        let decoys = || {
            let exact = |f: &&Finding| f.test.method == TailMethod::Exact;
            let exact = parts.findings.iter().filter(exact);
            exact.filter_map(|f| f.decoys.as_ref())
        };
        let tests = decoys().count() as u64;
        let smallest = decoys().map(|decoys| decoys.ks.p).min();
        match smallest.map(|p| p.bonferroni(tests)) {
            None => warnings.push(Self::NoDecoys),
            Some(p) if p.log10() < DIAGNOSTIC_LOG10 => {
                warnings.push(Self::DecoysNotUniform { p_log10: p.log10() });
            }
            Some(_) => {}
        }
        let controls = parts.findings.iter().filter_map(|f| f.control.as_ref());
        if let Some(control) = controls.min_by_key(|test| test.p)
            && control.p.log10() < DIAGNOSTIC_LOG10
        {
            warnings.push(Self::ControlFires {
                test: control.id,
                p_log10: control.p.log10(),
            });
        }
        if let Some(never) = &parts.never_emitted
            && never.p.log10() < DIAGNOSTIC_LOG10
        {
            warnings.push(Self::NeverEmittedFires {
                p_log10: never.p.log10(),
            });
        }
        if let Some(neutral) = &parts.neutral
            && neutral.p.log10() < DIAGNOSTIC_LOG10
        {
            warnings.push(Self::NeutralTextFires {
                p_log10: neutral.p.log10(),
            });
        }
        if let Some(share) = parts.effect.transfer.filter(|&share| share >= 0.5) {
            warnings.push(Self::StrongTransfer { share });
        }
        if parts.findings.iter().any(|f| f.id() == TestId::Supervised) {
            warnings.push(Self::PlanNotSealed);
        }
        let strong = parts
            .findings
            .iter()
            .any(|f| f.id() == parts.influence.id && f.test.p.log10() < DIAGNOSTIC_LOG10);
        if let Some(without) = parts.influence.largest.first()
            && strong
            && without.p.log10() > DIAGNOSTIC_LOG10
        {
            warnings.push(Self::OnePromptDecides {
                source: without.source,
                p_log10: without.p.log10(),
            });
        }
        let smallest = parts.findings.iter().map(|f| f.test.p).min();
        warnings.extend(smallest.and_then(Self::of_p));
        warnings
    }

    /// [`WeakFunction`](Self::WeakFunction), if the mark's function is not our own.
    pub fn of_function(mark: &Mark) -> Option<Self> {
        Some(Self::WeakFunction {
            function: mark.profile().function,
            key_bits: mark.scheme().key_bits()?,
            weakness: mark.profile().weakness()?.into(),
        })
    }

    /// [`BelowGuessingTheKey`](Self::BelowGuessingTheKey), if p is below 2^-256.
    pub fn of_p(p: LnP) -> Option<Self> {
        (p.ln() < LN_GUESS).then(|| Self::BelowGuessingTheKey { p_log10: p.log10() })
    }

    /// [`KeyFileExposed`](Self::KeyFileExposed).
    pub fn of_exposure(exposure: Exposure) -> Self {
        Self::KeyFileExposed {
            access: match exposure {
                Exposure::Mode(mode) => format!("{mode:03o}"),
                Exposure::OtherOwner => "other owner".into(),
            },
        }
    }

    /// [`PromptsHoldMarkedText`](Self::PromptsHoldMarkedText), if the prompts' own cells have p below
    /// 1e-5 under the key.
    pub fn of_prompts(mark: &Mark, prompts: &Exhibit) -> Option<Self> {
        let p_log10 = Test::of(mark, prompts).p.log10();
        (p_log10 < DIAGNOSTIC_LOG10).then_some(Self::PromptsHoldMarkedText { p_log10 })
    }

    /// [`Retokenised`](Self::Retokenised), if some of the answers came as text.
    pub fn of_text_form(from_text: u64, answers: u64, counts: &Counts) -> Option<Self> {
        (from_text > 0).then(|| Self::Retokenised {
            answers: from_text,
            of: answers,
            scored: counts.cells as f64 / counts.tokens.max(1) as f64,
        })
    }

    /// What it means for the result.
    pub fn meaning(&self) -> String {
        match self {
            Self::NothingScored => "no token could be scored".into(),
            Self::MostlyRepeated { share } => format!(
                "{:.0} in 100 tokens repeat cells met before and add no evidence",
                100.0 * share
            ),
            Self::MostlyExcluded { share } => format!(
                "{:.0} in 100 tokens follow a window that stands in a prompt and were left out",
                100.0 * share
            ),
            Self::FarBelowChance { p_log10 } => format!(
                "the score is far below chance (lower tail 10^{p_log10:.1}): the mark may be being avoided, or the text was chosen under this key"
            ),
            Self::NoDecoys => "no keys that nobody used were scored beside this one".into(),
            Self::DecoysNotUniform { p_log10 } => format!(
                "p-values under keys that nobody used are not uniform (10^{p_log10:.1}): the p-value cannot be relied on"
            ),
            Self::ControlFires { test, p_log10 } => format!(
                "the control shows the mark as well ({test}, p = 10^{p_log10:.1}): it is no control, or the text of both comes from elsewhere"
            ),
            Self::NeverEmittedFires { p_log10 } => format!(
                "cells fire that the logs never emitted (p = 10^{p_log10:.1}): the logs are not all that was drawn under the key, or the suspect's answers are written under it now: consistent with relaying our service; test that first"
            ),
            Self::StrongTransfer { share } => format!(
                "the effect is {share:.2} of the marked text's own: consistent with relaying our service; test that first"
            ),
            Self::PromptsHoldMarkedText { p_log10 } => format!(
                "what the suspect was given to read shows the mark itself (p = 10^{p_log10:.1}): prompts are not independent of the key, and answers may carry on from them"
            ),
            Self::Retokenised {
                answers,
                of,
                scored,
            } => format!(
                "token ids were not given for {answers} of {of} answers, which were tokenised here: where that differs from what was sampled the mark is lost; scored fraction {scored:.2}"
            ),
            Self::NeutralTextFires { p_log10 } => format!(
                "the neutral text shows the mark itself (p = 10^{p_log10:.1}): it is not independent of the key, and no test on it holds"
            ),
            Self::PlanNotSealed => {
                "the supervised test holds only if its number of cells was fixed before the logs were read; nothing here shows that".into()
            }
            Self::WeakFunction {
                key_bits, weakness, ..
            } => format!(
                "{weakness}; with {key_bits} bits of key no p-value is given below 10^{:.1}",
                -f64::from(*key_bits) * core::f64::consts::LOG10_2
            ),
            Self::OnePromptDecides { source, p_log10 } => format!(
                "without the answers to prompt {source} p is 10^{p_log10:.1}: one prompt carries the result"
            ),
            Self::BelowGuessingTheKey { p_log10 } => format!(
                "10^{p_log10:.1} is smaller than the chance of guessing the key, 10^{:.1}: it no longer is a probability of anything",
                LN_GUESS / core::f64::consts::LN_10
            ),
            Self::KeyFileExposed { access } => format!(
                "others could read the key file ({access}), and so could have forged what is tested"
            ),
            Self::FewerAnswersThanPlanned { answers, planned } => format!(
                "{answers} of {planned} planned answers were given: the rest may have been left out for what they show"
            ),
            Self::PromptsNotCompared { answers, of } => format!(
                "{answers} of {of} answers have no prompt that could be compared with the plan's"
            ),
        }
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NothingScored => "give more or longer text, made with the profile's tokenizer",
            Self::MostlyRepeated { .. } => {
                "ask for longer or more varied answers; more of the same adds nothing"
            }
            Self::MostlyExcluded { .. } => "use shorter prompts, or fewer",
            Self::FarBelowChance { .. } => "read it as a diagnostic; it is not a rejection",
            Self::NoDecoys => "give the master key file: decoys are unused slots of its epoch",
            Self::DecoysNotUniform { .. } => {
                "do not use this result; report the exhibit as a defect"
            }
            Self::ControlFires { .. } => "find out how the control was trained before concluding",
            Self::NeverEmittedFires { .. } => {
                "check that the logs are complete, and ask the suspect through another route"
            }
            Self::StrongTransfer { .. } => {
                "compare with students of known training, and ask the suspect through another route"
            }
            Self::PromptsHoldMarkedText { .. } => {
                "ask with prompts that no marked text went into; of conversations, use the first turn"
            }
            Self::Retokenised { .. } => "ask the server for token ids",
            Self::NeutralTextFires { .. } => {
                "take text that was fixed before the key's first use, and not chosen by a detector"
            }
            Self::PlanNotSealed => "rely on the supervised e-value, which needs no such number",
            Self::WeakFunction { .. } => {
                "whoever has text under this key may have the key: consider who could have written such text on purpose"
            }
            Self::BelowGuessingTheKey { .. } => "read it as an index of strength",
            Self::KeyFileExposed { .. } => {
                "run chmod 600 on it if nobody used that, or rotate the key and say when it may have leaked"
            }
            Self::FewerAnswersThanPlanned { .. } => {
                "collect them, or say which are missing and why"
            }
            Self::PromptsNotCompared { .. } => {
                "keep the prompts with the answers, as text or as messages"
            }
            Self::OnePromptDecides { .. } => "look at that prompt's answers; collect more prompts",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_chance_of_guessing_the_key() {
        assert_eq!(Warning::of_p(LnP::from_ln(-177.4)), None);
        let warning = Warning::of_p(LnP::from_ln(-177.5)).unwrap();
        assert!(
            warning
                .meaning()
                .starts_with("10^-77.1 is smaller than the chance of guessing the key, 10^-77.1")
        );
        assert!(warning.remedy().contains("index of strength"));
    }
}
