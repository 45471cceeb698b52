//! `report.json`: a report with everything that its readers are shown.
//!
//! A [`ReportFile`] holds the [`Report`] (numbers that anyone with key and text can recompute, to the byte) and
//! beside it what was read, when, and the figures. It is read strictly: an unknown field, a missing one or another
//! version is an error that names the line and the field. [`ReportFile::from_json`] also checks what needs no
//! key: that the numbers agree with each other. A file whose verdict does not follow from its numbers is not shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::contribution::Contribution;
use super::json::field_at;
use super::series::Point;
use super::{Report, Tool};
use crate::detect::{Test, TestId};
use crate::distill::{Decoys, Finding};
use crate::effect::{DoseCurve, Exposure};
use crate::profile::{Function, Mark, Profile, Vocabulary};
use crate::scheme::{Null, Scheme};
use crate::stats::LnP;
use crate::stats::combine::holm;
use crate::stats::power::power;
use crate::verdict::{Policy, Verdict};

/// The value of a report file's `schema` field.
pub const REPORT_SCHEMA: &str = "watermark.report/1";

/// `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportFile {
    /// [`REPORT_SCHEMA`].
    #[cfg_attr(feature = "schema", schemars(extend("const" = REPORT_SCHEMA)))]
    pub schema: String,
    /// The program that wrote the file.
    pub tool: Tool,
    /// What the policy says of the numbers.
    pub verdict: Verdict,
    /// How the test was set up.
    pub configuration: Configuration,
    /// What was read.
    pub materials: Materials,
    /// When it came about, as far as records say.
    pub custody: Custody,
    /// The numbers.
    pub report: Report,
    /// For the figure of p by cells.
    pub series: Series,
    /// What single prompts and domains add to the plain test.
    pub contributions: Contributions,
    /// What the effect says of the training data, by a calibration model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dose: Option<Dose>,
}

/// The options that numbers and verdict depend on, defaults included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    /// When a result counts as a rejection.
    pub policy: Policy,
    /// Keys that nobody used, scored beside this one.
    pub decoys: u64,
    /// Cells of the supervised test, as fixed beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervised_cells: Option<u64>,
    /// Entries that every position of a reading was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_top: Option<u64>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Materials {
    /// The files, by what they are.
    pub files: Vec<Material>,
    /// The vocabulary that token ids belong to.
    pub tokenizer: Vocabulary,
    /// What was found in them: for each kind of input numbers with their names.
    pub read: BTreeMap<String, BTreeMap<String, u64>>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Material {
    /// What it was given as: `suspect`, `control`, `logs` and so on.
    pub role: String,
    /// Its name as it was given.
    pub name: String,
    /// Size and SHA-256 in hexadecimal; absent for what came through standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
}

/// A file's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Content {
    /// Their number.
    pub bytes: u64,
    /// Their SHA-256 in hexadecimal.
    pub sha256: String,
}

/// When things came about. Times are those that the records state, RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Custody {
    /// Collections that the answers come from.
    pub collections: Vec<Collection>,
    /// When the file was made, by the clock of the machine that made it.
    pub made_at: String,
}

/// The record of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Collection {
    /// The file of answers.
    pub name: String,
    /// Responses with a record, failed attempts too.
    pub records: u64,
    /// Those of them that others received, and that were imported.
    pub imported: u64,
    /// When the first request was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_sent_at: Option<String>,
    /// When the last response arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_received_at: Option<String>,
    /// The last link of the records' hash chain: SHA-256 of the last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_head: Option<String>,
}

/// p of growing parts of the texts: a figure, and no test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Series {
    /// The suspect's text in its order, with the band of the decoys.
    pub suspect: Vec<Point>,
    /// The control's.
    pub control: Vec<Point>,
}

/// What parts add to the plain test of the suspect's text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contributions {
    /// By prompt.
    pub prompts: Vec<Contribution>,
    /// By domain, where records name one.
    pub domains: Vec<Contribution>,
    /// Names of the prompts by their number in the report.
    pub names: BTreeMap<u32, String>,
}

/// The calibration model's estimates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dose {
    /// Effects of students of known training.
    pub curve: DoseCurve,
    /// The share of marked training data that the suspect's effect speaks for.
    pub exposure: Exposure,
    /// The smallest share that this sample would have shown, with a probability of 0.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectable_share: Option<f64>,
}

/// With which probability [`Dose::detectable_share`] would have been found.
pub const DETECTION_POWER: f64 = 0.9;

impl Dose {
    /// What a calibration curve says of a report.
    ///
    /// The detectable share is that of the plain test at the report's number of cells, at alpha over the number of
    /// tests (the first step of Holm), if each cell has the excess of the curve; none if not even the whole
    /// would be found.
    pub fn of(curve: DoseCurve, report: &Report, policy: &Policy) -> Self {
        let test = &report.suspect.test;
        let alpha = policy.alpha / report.findings.len().max(1) as f64;
        let found = |share: f64| {
            let mean = test.null.mean() + curve.excess_at(share);
            let possible = mean > test.null.mean() && test.null.max().is_none_or(|max| mean < max);
            possible && power(test.null, test.n_scored, mean, alpha) >= DETECTION_POWER
        };
        let detectable_share = (test.n_scored >= policy.min_cells && found(1.0)).then(|| {
            let (mut low, mut high) = (0.0, 1.0);
            for _ in 0..20 {
                let middle = (low + high) / 2.0;
                if found(middle) {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            high
        });
        Self {
            exposure: curve.exposure(&report.effect),
            curve,
            detectable_share,
        }
    }
}

/// Why a report file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportFileError {
    /// Not JSON of this form.
    #[error("line {line}, column {column}{}: {message}", Field(field))]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The field; empty at the top.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// Another version, or another kind of file.
    #[error(
        "field `schema` is {found}; this version reads `{REPORT_SCHEMA}`, which `watermark distill --out` writes"
    )]
    Schema {
        /// As given; `missing` if it is not there.
        found: String,
    },
    /// Numbers that do not agree with each other.
    #[error("the report contradicts itself: field `{field}`: {message}")]
    Contradiction {
        /// The field.
        field: String,
        /// What it says and what follows from the others.
        message: String,
    },
}

struct Field<'a>(&'a str);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            field => write!(f, ", field `{field}`"),
        }
    }
}

impl ReportFile {
    /// Parses and checks a report file.
    ///
    /// # Errors
    /// It is of another form or version, or its numbers do not agree with each other.
    pub fn from_json(json: &str) -> Result<Self, ReportFileError> {
        #[derive(Deserialize)]
        struct Head {
            schema: Option<serde_json::Value>,
        }
        let wrap = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            let message = error.to_string();
            // The place stands in the message once more.
            let place = format!(" at line {line} column {column}");
            ReportFileError::Json {
                line,
                column,
                field: field_at(json, line, column),
                message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
            }
        };
        let head: Head = serde_json::from_str(json).map_err(wrap)?;
        match head.schema {
            Some(serde_json::Value::String(schema)) if schema == REPORT_SCHEMA => {}
            Some(other) => {
                return Err(ReportFileError::Schema {
                    found: format!("`{}`", other.to_string().trim_matches('"')),
                });
            }
            None => {
                return Err(ReportFileError::Schema {
                    found: "missing".to_owned(),
                });
            }
        }
        let file: Self = serde_json::from_str(json).map_err(wrap)?;
        file.check()?;
        Ok(file)
    }

    /// The normal form: two spaces, fields in their order, one newline at the end. Reading and writing it again
    /// changes nothing.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a report is plain data");
        json.push('\n');
        json
    }

    /// The name of a prompt of a number.
    pub fn prompt(&self, source: u32) -> Option<&str> {
        self.contributions.names.get(&source).map(String::as_str)
    }

    /// Checks what needs neither key nor text: p-values of unweighted sums, ranks, Holm's adjustment, sums
    /// over parts, and the verdict.
    ///
    /// # Errors
    /// The first field that does not follow from the others.
    pub fn check(&self) -> Result<(), ReportFileError> {
        let report = &self.report;
        if (report.kind.as_str(), report.schema) != ("watermark.report", 1) {
            return Err(contradiction(
                "report.type",
                format!(
                    "{} {} is no report of this version",
                    report.kind, report.schema
                ),
            ));
        }
        let counts = &report.suspect.counts;
        let parts = counts.partial + counts.excluded + counts.repeated + counts.cells;
        same("report.suspect.counts", counts.tokens, parts)?;
        let law = KnownLaw::of(&report.profile);
        law.unweighted("report.suspect.test", &report.suspect.test)?;
        law.family("report.findings", &report.findings)?;
        law.family("report.exploratory", &report.exploratory)?;
        for (name, parts) in [
            ("contributions.prompts", &self.contributions.prompts),
            ("contributions.domains", &self.contributions.domains),
        ] {
            if !parts.is_empty() {
                let test = &report.suspect.test;
                let cells = parts.iter().map(|part| part.cells).sum::<u64>();
                same(name, cells, test.n_scored)?;
                same(name, parts.iter().map(|part| part.sum).sum(), test.sum)?;
            }
        }
        let verdict = Verdict::of_report(report, &self.configuration.policy);
        if verdict != self.verdict {
            return Err(contradiction(
                "verdict",
                format!(
                    "it is `{}`, and `{verdict}` follows from the numbers",
                    self.verdict
                ),
            ));
        }
        Ok(())
    }
}

/// What a profile says of its tests, whatever the key.
struct KnownLaw {
    /// Bits of key, where they are few.
    key_bits: Option<u32>,
    /// Whether the law depends on the cells, which a report does not hold.
    of_cells: bool,
}

impl KnownLaw {
    fn of(profile: &Profile) -> Self {
        // The profile under any key.
        let mark = match profile.function {
            Function::Wmk1 => None,
            _ => profile.engine_decoys(1).ok().and_then(|mut m| m.pop()),
        };
        let scheme = mark.as_ref().map(Mark::scheme);
        Self {
            key_bits: scheme.and_then(Scheme::key_bits),
            of_cells: scheme.is_some_and(Scheme::cells_depend),
        }
    }

    /// Of an unweighted test the law is known from here.
    fn unweighted(&self, field: &str, test: &Test) -> Result<(), ReportFileError> {
        if test.key_bits != self.key_bits {
            let bits = |bits: Option<u32>| bits.map_or("none".to_owned(), |bits| bits.to_string());
            same(
                &format!("{field}.keyBits"),
                bits(test.key_bits),
                bits(self.key_bits),
            )?;
        }
        let least = LnP::from_ln(f64::MIN).of_key_bits(self.key_bits);
        if test.p < least {
            return Err(contradiction(
                field,
                format!(
                    "p is {}, and {least} is the least under this profile",
                    test.p
                ),
            ));
        }
        if !matches!(test.id, TestId::ClosedCells | TestId::Supervised) {
            return Ok(());
        }
        match u64::try_from(test.sum) {
            Ok(_) if self.of_cells => Ok(()),
            Ok(sum) if fits(test.null, test.n_scored, sum) => {
                let p = test.null.upper_tail(test.n_scored, sum);
                close(field, test.p, p.of_key_bits(self.key_bits))
            }
            _ => Err(contradiction(
                field,
                format!("{} cells cannot have the sum {}", test.n_scored, test.sum),
            )),
        }
    }

    /// Holm over one family, and each test with its decoys.
    fn family(&self, name: &str, findings: &[Finding]) -> Result<(), ReportFileError> {
        let family: Vec<LnP> = findings.iter().map(|finding| finding.p).collect();
        for (finding, adjusted) in findings.iter().zip(holm(&family)) {
            let field = format!("{name}, {}", finding.id());
            self.unweighted(&field, &finding.test)?;
            close(&format!("{field}, adjusted"), finding.adjusted, adjusted)?;
            if let Some(decoys) = &finding.decoys {
                decoys_agree(&format!("{field}, decoys"), decoys)?;
            }
        }
        Ok(())
    }
}

/// Whether a sum is possible at all.
fn fits(null: Null, cells: u64, sum: u64) -> bool {
    null.max()
        .is_none_or(|max| null.natural(sum) <= max * cells as f64)
}

fn decoys_agree(field: &str, decoys: &Decoys) -> Result<(), ReportFileError> {
    let count = decoys.of.saturating_sub(1);
    same(&format!("{field}.pLog10"), decoys.p.len() as u64, count)?;
    same(&format!("{field}.z"), decoys.z.len() as u64, count)?;
    if decoys.rank == 0 || decoys.rank > decoys.of {
        return Err(contradiction(
            &format!("{field}.rank"),
            format!("{} of {}", decoys.rank, decoys.of),
        ));
    }
    let rank_p = LnP::from_ln((decoys.rank as f64 / decoys.of as f64).ln());
    close(&format!("{field}.rankPLog10"), decoys.rank_p, rank_p)
}

fn contradiction(field: &str, message: String) -> ReportFileError {
    ReportFileError::Contradiction {
        field: field.to_owned(),
        message,
    }
}

fn same<T: PartialEq + fmt::Display>(
    field: &str,
    found: T,
    expected: T,
) -> Result<(), ReportFileError> {
    if found == expected {
        return Ok(());
    }
    let message = format!("it says {found}, and {expected} follows from the others");
    Err(contradiction(field, message))
}

/// p-values agree to the accuracy of the tails.
fn close(field: &str, found: LnP, expected: LnP) -> Result<(), ReportFileError> {
    if (found.ln() - expected.ln()).abs() <= 1e-9 * expected.ln().abs().max(1.0) {
        return Ok(());
    }
    let message = format!("p is {found}, and {expected} follows from the others");
    Err(contradiction(field, message))
}

#[cfg(test)]
mod tests;
