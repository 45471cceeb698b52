//! What a reader of a report must know beside its numbers: a closed list.

use serde::Serialize;

use crate::detect::Sample;
use crate::distill::Decoys;

/// A fact about the sample, with what it means for the result and what to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(
    tag = "warning",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
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
        /// log10 p of the control.
        p_log10: f64,
    },
}

/// A diagnostic speaks up below this.
const DIAGNOSTIC_LOG10: f64 = -5.0;

impl Warning {
    /// The warnings that the parts of a report give rise to.
    pub fn of(suspect: &Sample, control: Option<&Sample>, decoys: Option<&Decoys>) -> Vec<Self> {
        let mut warnings = Vec::new();
        let counts = &suspect.counts;
        let share = |part: u64| part as f64 / counts.tokens.max(1) as f64;
        if suspect.test.n_scored == 0 {
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
        match decoys {
            None => warnings.push(Self::NoDecoys),
            Some(decoys) if decoys.ks.p.log10() < DIAGNOSTIC_LOG10 => {
                warnings.push(Self::DecoysNotUniform {
                    p_log10: decoys.ks.p.log10(),
                });
            }
            Some(_) => {}
        }
        if let Some(control) = control
            && control.test.p.log10() < DIAGNOSTIC_LOG10
        {
            warnings.push(Self::ControlFires {
                p_log10: control.test.p.log10(),
            });
        }
        warnings
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
            Self::ControlFires { p_log10 } => format!(
                "the control shows the mark as well (p = 10^{p_log10:.1}): it is no control, or the text of both comes from elsewhere"
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
        }
    }
}
