//! The study's tables: tokens of the suspect to p < 1e-5, test by test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::study::{Calibration, Findings, Point};

/// The level that a test has to reach.
const LOG10_ALPHA: f64 = -5.0;

/// Published practice: the test that the others are compared with.
pub const BASELINE: &str = "closed-cells";

/// Tests that need the suspect's answers alone, or answers and unmarked text.
const CLOSED: [&str; 4] = [
    "closed-sqrt",
    "closed-inverse-variance",
    "closed-corpus",
    "closed-reference",
];

/// The study in a few numbers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The closed test with the smallest [`ratios`](Self::ratios), over all marks at share 1.
    pub best_closed: String,
    /// Its tokens to p < 1e-5 over those of published de-duplication: the median over marks and
    /// seeds at share 1 where it got there. Where published de-duplication did not, all tokens that were
    /// looked at stand for what it needs, which makes the ratio an upper bound.
    pub best_closed_over_dedup: Option<f64>,
    /// The same ratio for every test and share.
    pub ratios: Vec<Ratio>,
    /// Tokens to p < 1e-5.
    pub tokens: Vec<Tokens>,
    /// Keys that nobody used.
    pub calibrations: Vec<Calibration>,
}

/// Tokens of a test over those of published de-duplication.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ratio {
    /// The test.
    pub test: String,
    /// Share of marked training data.
    pub share: f64,
    /// Median over marks and seeds.
    pub median: f64,
    /// Smallest and largest.
    pub range: [f64; 2],
    /// Pairs of mark and seed where the test reached the level.
    pub pairs: usize,
}

/// Tokens to p < 1e-5 of one test on one mark and share.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// The mark.
    pub profile: String,
    /// Share of marked training data.
    pub share: f64,
    /// The test.
    pub test: String,
    /// One a seed: the median over orders of the answers, `None` if most did not get there.
    pub by_seed: Vec<(u64, Option<f64>)>,
    /// log10 p of every seed with all tokens, in the first order.
    pub final_p_log10: Vec<f64>,
    /// Most tokens that were looked at.
    pub most_tokens: f64,
}

type Key = (String, u64, String, u64);

/// Points by (profile, share in thousandths, test, seed).
fn grouped(findings: &Findings) -> BTreeMap<Key, Vec<&Point>> {
    let mut groups: BTreeMap<Key, Vec<&Point>> = BTreeMap::new();
    for point in &findings.points {
        let share = (point.share * 1000.0).round() as u64;
        let key = (point.profile.clone(), share, point.test.clone(), point.seed);
        groups.entry(key).or_default().push(point);
    }
    groups
}

/// Tokens at which log10 p falls through the level and stays below it, by interpolation in the
/// logarithm of tokens; the median over rotations, `None` if most do not get there.
fn tokens_needed(points: &[&Point]) -> Option<f64> {
    let mut rotations: BTreeMap<usize, Vec<&Point>> = BTreeMap::new();
    for point in points {
        rotations.entry(point.rotation).or_default().push(point);
    }
    let mut needed: Vec<f64> = rotations
        .values()
        .map(|curve| {
            let above = curve.iter().rposition(|point| point.p_log10 > LOG10_ALPHA);
            let Some(above) = above else {
                return curve[0].tokens as f64;
            };
            let Some(next) = curve.get(above + 1) else {
                return f64::INFINITY;
            };
            let (a, b) = (curve[above], next);
            let part = (LOG10_ALPHA - a.p_log10) / (b.p_log10 - a.p_log10);
            let ln = |point: &Point| (point.tokens.max(1) as f64).ln();
            (ln(a) + part * (ln(b) - ln(a))).exp()
        })
        .collect();
    median(&mut needed).filter(|tokens| tokens.is_finite())
}

/// The middle value, the upper of two.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Draws the numbers together.
#[must_use]
pub fn summary(findings: &Findings) -> Summary {
    let groups = grouped(findings);
    let mut tokens: BTreeMap<(String, u64, String), Tokens> = BTreeMap::new();
    for ((profile, share, test, seed), points) in &groups {
        let key = (profile.clone(), *share, test.clone());
        let entry = tokens.entry(key).or_insert_with(|| Tokens {
            profile: profile.clone(),
            share: *share as f64 / 1000.0,
            test: test.clone(),
            by_seed: Vec::new(),
            final_p_log10: Vec::new(),
            most_tokens: 0.0,
        });
        let most = points.iter().map(|point| point.tokens as f64);
        entry.most_tokens = most.fold(entry.most_tokens, f64::max);
        entry.by_seed.push((*seed, tokens_needed(points)));
        let last = points
            .iter()
            .filter(|point| point.rotation == 0)
            .max_by_key(|point| point.tokens);
        entry
            .final_p_log10
            .extend(last.map(|point| (point.p_log10 * 100.0).round() / 100.0));
    }
    let mut ratios: BTreeMap<(String, u64), Vec<f64>> = BTreeMap::new();
    for ((profile, share, test), entry) in &tokens {
        let baseline = &tokens[&(profile.clone(), *share, BASELINE.to_owned())];
        for ((_, needed), (_, dedup)) in entry.by_seed.iter().zip(&baseline.by_seed) {
            // Where published de-duplication does not get there, all tokens are the least it needs, and
            // the ratio an upper bound.
            if let Some(needed) = needed {
                let key = (test.clone(), *share);
                let dedup = dedup.unwrap_or(baseline.most_tokens);
                ratios.entry(key).or_default().push(needed / dedup);
            }
        }
    }
    let ratios: Vec<Ratio> = ratios
        .into_iter()
        .filter_map(|((test, share), mut values)| {
            Some(Ratio {
                test,
                share: share as f64 / 1000.0,
                median: median(&mut values)?,
                range: [*values.first()?, *values.last()?],
                pairs: values.len(),
            })
        })
        .collect();
    let best = ratios
        .iter()
        .filter(|ratio| ratio.share == 1.0 && CLOSED.contains(&ratio.test.as_str()))
        .min_by(|a, b| a.median.total_cmp(&b.median));
    Summary {
        best_closed: best.map_or_else(String::new, |ratio| ratio.test.clone()),
        best_closed_over_dedup: best.map(|ratio| ratio.median),
        ratios,
        tokens: tokens.into_values().collect(),
        calibrations: findings.calibrations.clone(),
    }
}

/// The tables as Markdown.
#[must_use]
pub fn markdown(findings: &Findings, summary: &Summary) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "## Texture of the marked texts\n");
    let _ = writeln!(
        out,
        "| mark | seed | entropy, nats a token | distinct-4 | of the unmarked text's |"
    );
    let _ = writeln!(out, "|---|---|---|---|---|");
    for (profile, seed, marked, plain) in &findings.textures {
        let share = marked.distinct4 / plain.distinct4;
        let note = if share < 0.7 { " (collapsed)" } else { "" };
        let _ = writeln!(
            out,
            "| {profile} | {seed} | {:.2} | {:.3} | {share:.2}{note} |",
            marked.entropy, marked.distinct4
        );
    }
    let mut shares: Vec<f64> = summary.tokens.iter().map(|entry| entry.share).collect();
    shares.sort_unstable_by(f64::total_cmp);
    shares.dedup();
    for &share in shares.iter().rev() {
        tokens_table(&mut out, summary, share);
    }
    let _ = writeln!(
        out,
        "\n## Tokens over those of published de-duplication (per cell)\n"
    );
    let _ = writeln!(
        out,
        "| test | share | median | range | pairs |\n|---|---|---|---|---|"
    );
    for ratio in &summary.ratios {
        let _ = writeln!(
            out,
            "| {} | {} | {:.2} | {:.2} to {:.2} | {} |",
            ratio.test, ratio.share, ratio.median, ratio.range[0], ratio.range[1], ratio.pairs
        );
    }
    let _ = writeln!(
        out,
        "\n## Keys that nobody used, on the text of the marked students\n"
    );
    let _ = writeln!(
        out,
        "| mark | seed | test | mean z | s.d. z | uniform: log10 p | rank |"
    );
    let _ = writeln!(out, "|---|---|---|---|---|---|---|");
    for c in &summary.calibrations {
        let uniform = if c.test.starts_with("invalid") {
            "-".to_owned()
        } else {
            format!("{:.2}", c.ks_p_log10)
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:+.3} | {:.3} | {uniform} | {} of {} |",
            c.profile,
            c.seed,
            c.test,
            c.z[0],
            c.z[1],
            c.rank,
            c.of + 1
        );
    }
    out
}

fn tokens_table(out: &mut String, summary: &Summary, share: f64) {
    let title = if share == 0.0 {
        "The trained control, under the same keys".to_owned()
    } else {
        format!("Tokens of the suspect to p < 1e-5, share {share}")
    };
    let _ = writeln!(out, "\n## {title}\n");
    let entries = || summary.tokens.iter().filter(|entry| entry.share == share);
    let mut profiles: Vec<&str> = entries().map(|entry| entry.profile.as_str()).collect();
    profiles.dedup();
    let mut tests: Vec<&str> = entries().map(|entry| entry.test.as_str()).collect();
    tests.sort_unstable();
    tests.dedup();
    let _ = writeln!(
        out,
        "One entry a seed; in brackets log10 p with all tokens.\n"
    );
    let _ = writeln!(out, "| test | {} |", profiles.join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(profiles.len()));
    for test in tests {
        let cells: Vec<String> = profiles
            .iter()
            .map(|profile| {
                entries()
                    .find(|entry| entry.profile == *profile && entry.test == test)
                    .map_or_else(|| "-".to_owned(), cell)
            })
            .collect();
        let _ = writeln!(out, "| {test} | {} |", cells.join(" | "));
    }
}

fn cell(entry: &Tokens) -> String {
    let parts = entry.by_seed.iter().zip(&entry.final_p_log10);
    let parts: Vec<String> = parts
        .map(|((_, needed), p)| {
            let needed = needed.map_or_else(|| "-".to_owned(), |n| format!("{n:.0}"));
            format!("{needed} ({p:.1})")
        })
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rotation: usize, tokens: u64, p_log10: f64) -> Point {
        Point {
            profile: "m".into(),
            share: 1.0,
            seed: 1,
            test: BASELINE.into(),
            rotation,
            tokens,
            cells: tokens,
            p_log10,
            z: 0.0,
        }
    }

    #[test]
    fn the_level_must_be_passed_for_good() {
        let curve = [
            point(0, 10, -6.0),
            point(0, 100, -3.0),
            point(0, 1000, -7.0),
        ];
        let needed = tokens_needed(&curve.iter().collect::<Vec<_>>()).unwrap();
        assert!((needed - 100.0 * 10f64.sqrt()).abs() < 1e-6, "{needed}");
        let never = [point(0, 10, -1.0), point(0, 100, -4.0)];
        assert_eq!(tokens_needed(&never.iter().collect::<Vec<_>>()), None);
    }

    #[test]
    fn ratios_compare_the_same_mark_and_seed() {
        let mut findings = Findings::default();
        for (test, at) in [(BASELINE, 1000), ("closed-sqrt", 250)] {
            for (tokens, p) in [(1, 0.0), (at, -5.0), (10_000, -9.0)] {
                findings.points.push(Point {
                    test: test.into(),
                    ..point(0, tokens, p)
                });
            }
        }
        let summary = summary(&findings);
        assert_eq!(summary.best_closed, "closed-sqrt");
        assert!((summary.best_closed_over_dedup.unwrap() - 0.25).abs() < 1e-9);
        assert!(markdown(&findings, &summary).contains("| closed-sqrt | 250 (-9.0) |"));
    }
}
