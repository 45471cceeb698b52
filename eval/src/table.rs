//! The study's tables: tokens of the suspect to p < 1e-5, test by test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::study::{Calibration, Findings, Point, REPEATS, Suspect};

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
    /// seeds at share 1 where either got there. Where published de-duplication did not, all tokens that were
    /// looked at stand for what it needs, which makes the ratio an upper bound; where only it did, the ratio is
    /// infinite.
    pub best_closed_over_dedup: Option<f64>,
    /// The same over those marks and seeds where published de-duplication needs at least a thousand tokens.
    pub best_closed_over_dedup_hard: Option<f64>,
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
    /// Smallest and largest; null is infinite.
    pub range: [f64; 2],
    /// Pairs of mark and seed where this test or de-duplication reached the level.
    pub pairs: usize,
    /// Median over those pairs where de-duplication needs at least a thousand tokens.
    pub hard_median: Option<f64>,
    /// Their number.
    pub hard_pairs: usize,
    /// Pairs of mark and seed where this test reached the level, of [`all`](Self::all).
    pub found: usize,
    /// All pairs of mark and seed.
    pub all: usize,
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
    // By test and share: pairs of needed tokens and the baseline's, `None` where the level was not reached.
    let mut pairs: BTreeMap<(String, u64), Vec<Pair>> = BTreeMap::new();
    for ((profile, share, test), entry) in &tokens {
        let baseline = &tokens[&(profile.clone(), *share, BASELINE.to_owned())];
        for (&(seed, needed), &(same, dedup)) in entry.by_seed.iter().zip(&baseline.by_seed) {
            debug_assert_eq!(seed, same);
            pairs.entry((test.clone(), *share)).or_default().push(Pair {
                needed,
                dedup,
                most: baseline.most_tokens,
            });
        }
    }
    let ratios: Vec<Ratio> = pairs
        .into_iter()
        .map(|((test, share), pairs)| Ratio::of(test, share as f64 / 1000.0, &pairs))
        .collect();
    let best = ratios
        .iter()
        .filter(|ratio| ratio.share == 1.0 && CLOSED.contains(&ratio.test.as_str()))
        .filter(|ratio| ratio.pairs > 0)
        .min_by(|a, b| a.median.total_cmp(&b.median));
    Summary {
        best_closed: best.map_or_else(String::new, |ratio| ratio.test.clone()),
        best_closed_over_dedup: best.map(|ratio| ratio.median),
        best_closed_over_dedup_hard: best.and_then(|ratio| ratio.hard_median),
        ratios,
        tokens: tokens.into_values().collect(),
        calibrations: findings
            .calibrations
            .iter()
            .map(|calibration| Calibration {
                p_log10: Vec::new(),
                ..calibration.clone()
            })
            .collect(),
    }
}

/// Tokens that a test and published de-duplication need, of one mark and seed.
struct Pair {
    needed: Option<f64>,
    dedup: Option<f64>,
    most: f64,
}

/// From here on published de-duplication counts as costly.
const COSTLY: f64 = 1000.0;

impl Ratio {
    fn of(test: String, share: f64, pairs: &[Pair]) -> Self {
        let ratio = |pair: &&Pair| match (pair.needed, pair.dedup) {
            (None, None) => None,
            (None, Some(_)) => Some(f64::INFINITY),
            (Some(needed), dedup) => Some(needed / dedup.unwrap_or(pair.most)),
        };
        let costly = |pair: &&Pair| pair.dedup.is_none_or(|dedup| dedup >= COSTLY);
        let mut ratios: Vec<f64> = pairs.iter().filter_map(|pair| ratio(&pair)).collect();
        let hard = pairs.iter().filter(costly);
        let mut hard: Vec<f64> = hard.filter_map(|pair| ratio(&pair)).collect();
        let middle = median(&mut ratios);
        Self {
            test,
            share,
            median: middle.unwrap_or(f64::NAN),
            range: [
                ratios.first().copied().unwrap_or(f64::NAN),
                ratios.last().copied().unwrap_or(f64::NAN),
            ],
            pairs: ratios.len(),
            hard_median: median(&mut hard),
            hard_pairs: hard.len(),
            found: pairs.iter().filter(|pair| pair.needed.is_some()).count(),
            all: pairs.len(),
        }
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
    ratio_table(&mut out, summary);
    alarm_table(&mut out, &findings.calibrations);
    out
}

fn ratio_table(out: &mut String, summary: &Summary) {
    let _ = writeln!(
        out,
        "\n## Tokens over those of published de-duplication (per cell)\n\n\
         *Costly*: marks and seeds where de-duplication needs at least a thousand tokens, or more than there are (then all \
         of them, an upper bound of the ratio). Infinite where de-duplication gets there and the test does not.\n\n\
         | test | share | finds | median | range | costly: median | costly: pairs |\n|---|---|---|---|---|---|---|"
    );
    let show = |ratio: f64| match ratio {
        ratio if ratio.is_infinite() => "infinite".to_owned(),
        ratio if ratio.is_nan() => "-".to_owned(),
        ratio => format!("{ratio:.2}"),
    };
    for ratio in summary.ratios.iter().filter(|ratio| ratio.share > 0.0) {
        let _ = writeln!(
            out,
            "| {} | {} | {} of {} | {} | {} to {} | {} | {} |",
            ratio.test,
            ratio.share,
            ratio.found,
            ratio.all,
            show(ratio.median),
            show(ratio.range[0]),
            show(ratio.range[1]),
            show(ratio.hard_median.unwrap_or(f64::NAN)),
            ratio.hard_pairs
        );
    }
}

/// False alarms under keys that nobody used, all marks and seeds together.
fn alarm_table(out: &mut String, calibrations: &[Calibration]) {
    let _ = writeln!(
        out,
        "\n## Keys that nobody used\n\n\
         All marks and seeds together. Expected alarms are 0.01, 0.001 and 0.00001 of the keys (at most, where p is \
         discrete). *KS*: the smallest of the Kolmogorov-Smirnov p-values, times their number.\n\n\
         | text of | test | keys | p <= 0.01 | p <= 0.001 | p <= 0.00001 | s.d. of z | KS |\n|---|---|---|---|---|---|---|---|"
    );
    for suspect in [Suspect::Clean, Suspect::Control, Suspect::Marked] {
        let of_suspect = || calibrations.iter().filter(|c| c.suspect == suspect);
        let mut tests: Vec<&str> = Vec::new();
        for calibration in of_suspect() {
            if !tests.contains(&calibration.test.as_str()) {
                tests.push(&calibration.test);
            }
        }
        for test in tests {
            let rows: Vec<&Calibration> = of_suspect().filter(|c| c.test == test).collect();
            let keys: usize = rows.iter().map(|c| c.of).sum();
            let alarms = |i: usize| rows.iter().map(|c| c.alarms[i]).sum::<usize>();
            let part = |n: usize| n as f64 / keys as f64;
            let squares = |c: &&Calibration| c.of as f64 * (c.z[0].powi(2) + c.z[1].powi(2));
            let variance = rows.iter().map(squares).sum::<f64>() / keys as f64;
            let least = rows.iter().map(|c| c.ks_p_log10).fold(0.0, f64::min);
            let adjusted = (least + (rows.len() as f64).log10()).min(0.0);
            let ks = match 10f64.powf(adjusted) {
                _ if test == REPEATS => "-".to_owned(),
                p if p < 1e-4 => format!("1e{adjusted:.0}"),
                p => format!("{p:.3}"),
            };
            let _ = writeln!(
                out,
                "| {} | {test} | {keys} | {:.4} | {:.5} | {} keys | {:.3} | {ks} |",
                suspect.name(),
                part(alarms(0)),
                part(alarms(1)),
                alarms(2),
                variance.sqrt(),
            );
        }
    }
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
        "Median over seeds, [range]; in brackets log10 p with all tokens, the median.\n"
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

/// Median over seeds, with the range where there are several.
fn cell(entry: &Tokens) -> String {
    let tokens = |needed: f64| match needed {
        needed if needed.is_infinite() => "-".to_owned(),
        needed => format!("{needed:.0}"),
    };
    let needed = entry.by_seed.iter().map(|(_, needed)| *needed);
    let mut needed: Vec<f64> = needed.map(|n| n.unwrap_or(f64::INFINITY)).collect();
    let mut p = entry.final_p_log10.clone();
    let (Some(middle), Some(p)) = (median(&mut needed), median(&mut p)) else {
        return "-".to_owned();
    };
    let (least, most) = (needed[0], needed[needed.len() - 1]);
    let range = if needed.len() == 1 || tokens(least) == tokens(most) {
        String::new()
    } else {
        format!(" [{} to {}]", tokens(least), tokens(most))
    };
    format!("{}{range} ({p:.1})", tokens(middle))
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
        for (test, at) in [(BASELINE, 2000), ("closed-sqrt", 500)] {
            for (tokens, p) in [(1, 0.0), (at, -5.0), (10_000, -9.0)] {
                findings.points.push(Point {
                    test: test.into(),
                    ..point(0, tokens, p)
                });
            }
        }
        // A test that fails where de-duplication gets there is infinitely worse.
        for (tokens, p) in [(1, 0.0), (10_000, -4.0)] {
            findings.points.push(Point {
                test: "closed-corpus".into(),
                ..point(0, tokens, p)
            });
        }
        let summary = summary(&findings);
        let corpus = summary.ratios.iter().find(|r| r.test == "closed-corpus");
        let corpus = corpus.unwrap();
        assert!(corpus.median.is_infinite());
        assert_eq!((corpus.found, corpus.all, corpus.pairs), (0, 1, 1));
        let hard = summary.best_closed_over_dedup_hard.unwrap();
        assert!((hard - 0.25).abs() < 1e-9, "{hard}");
        assert_eq!(summary.best_closed, "closed-sqrt");
        assert!((summary.best_closed_over_dedup.unwrap() - 0.25).abs() < 1e-9);
        assert!(markdown(&findings, &summary).contains("| closed-sqrt | 500 (-9.0) |"));
    }
}
