//! The looks as tables for people.

use std::fmt::Write as _;

use super::look::{Claim, Count, Looks, Mean, Subject};

/// The parts, with what is pooled in a row of their tables.
const PARTS: [(&str, &str); 5] = [
    ("clean", "Clean regime"),
    ("chosen", "Cells chosen by logs under the key"),
    ("reading", "Innocent models read logs under the key"),
    ("anytime", "A look after every answer"),
    ("repeats", "Repeats counted, and not"),
];

/// One Markdown table a part. A row pools profiles of one scheme, or of all where nothing depends
/// on it, and adds up what was rejected and what was expected; whether the numbers hold is decided
/// look by look.
pub fn markdown(looks: &Looks) -> String {
    let mut text = String::new();
    for (part, title) in PARTS {
        let counts: Vec<&Count> = (looks.counts.iter())
            .filter(|count| count.subject.part == part)
            .collect();
        let mut alphas: Vec<f64> = counts.iter().map(|count| count.alpha).collect();
        alphas.sort_by(|a, b| b.total_cmp(a));
        alphas.dedup();
        let _ = write!(text, "\n## {title}\n\n| test | text | marks | law |");
        let columns = alphas.iter().map(|alpha| format!(" {alpha:e} |"));
        let columns: String = columns.collect();
        let _ = writeln!(text, "{columns} mean | most of a band | |");
        let _ = writeln!(
            text,
            "|---|---|---|---|{}---|---|---|",
            "---|".repeat(alphas.len())
        );
        let mut rows: Vec<[String; 3]> = Vec::new();
        for count in &counts {
            let row = row_of(&count.subject, count.claim);
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        rows.sort();
        for row in rows {
            let counts: Vec<&&Count> = (counts.iter())
                .filter(|count| row_of(&count.subject, count.claim) == row)
                .collect();
            let means: Vec<&Mean> = (looks.means.iter())
                .filter(|mean| mean.subject.part == part)
                .filter(|mean| row_of(&mean.subject, mean.claim) == row)
                .collect();
            let _ = writeln!(text, "{}", line(&row, &alphas, &counts, &means));
        }
    }
    text
}

/// Test, text and marks of the row that a subject belongs to.
fn row_of(subject: &Subject, claim: Claim) -> [String; 3] {
    let scheme = (subject.profile.rsplit_once("-h")).map_or("all", |(scheme, _)| scheme);
    let (text, marks) = match (subject.part, claim) {
        ("clean", _) => ("both", scheme),
        ("repeats", _) | (_, Claim::Invalid) => (subject.text, subject.profile.as_str()),
        _ => (subject.text, scheme),
    };
    [subject.test.clone(), text.to_owned(), marks.to_owned()]
}

fn line(row: &[String; 3], alphas: &[f64], counts: &[&&Count], means: &[&Mean]) -> String {
    let claim = |claim| counts.iter().any(|count| count.claim == claim);
    let law = if claim(Claim::Invalid) {
        "none"
    } else if claim(Claim::AtMost) {
        "at most"
    } else {
        "exact"
    };
    let [test, text, marks] = row;
    let mut line = format!("| {test} | {text} | {marks} | {law} |");
    for alpha in alphas {
        let here = counts.iter().filter(|count| count.alpha == *alpha);
        let (mut rejected, mut expected, mut trials) = (0, 0.0, 0);
        for count in here {
            rejected += count.rejected;
            expected += count.size * count.trials as f64;
            trials += count.trials;
        }
        let _ = match (trials, law) {
            (0, _) => write!(line, " |"),
            (_, "none") => write!(
                line,
                " {:.2} % of {trials} |",
                100.0 * rejected as f64 / trials as f64
            ),
            _ => write!(line, " {rejected} of {expected:.1} |"),
        };
    }
    let mut quantities: Vec<&str> = means.iter().map(|mean| mean.quantity).collect();
    quantities.dedup();
    let ranges = ["z", "z^2", "e"].into_iter().filter_map(|quantity| {
        let values = means.iter().filter(|mean| mean.quantity == quantity);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for mean in values {
            low = low.min(mean.mean);
            high = high.max(mean.mean);
        }
        (low <= high).then(|| format!("{quantity} {low:.3} to {high:.3}"))
    });
    let ranges: Vec<String> = ranges.collect();
    let most = counts
        .iter()
        .map(|count| count.rejected as f64 / count.band.1.max(1) as f64)
        .fold(0.0, f64::max);
    let holds = if law == "none" {
        "invalid"
    } else if counts.iter().all(|count| count.holds) && means.iter().all(|mean| mean.holds) {
        "holds"
    } else {
        "FAILS"
    };
    let _ = write!(line, " {} | {most:.2} | {holds} |", ranges.join(", "));
    line
}
