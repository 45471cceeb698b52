//! Warnings, figures, controls, effect and parts.

use watermark_core::report::Report;
use watermark_core::report::contribution::Contribution;
use watermark_core::report::file::ReportFile;

use super::super::figure::{self, FigureError};
use super::Column::{Code, Number, Text};
use super::{Block, Section, Table, drawing};

/// Rows of a table of prompts.
const PROMPTS: usize = 20;

pub(super) fn warnings(report: &Report) -> Section {
    let mut blocks = Vec::new();
    if report.warnings.is_empty() {
        blocks.push(Block::Text(
            "None of the checks of this tool has anything to say about this sample.".into(),
        ));
    } else {
        let mut table = Table::new(
            "What must be known beside the numbers",
            &[("what it means for the result", Text), ("what to do", Text)],
        );
        for warning in &report.warnings {
            table.row([warning.meaning(), warning.remedy().to_owned()]);
        }
        blocks.push(Block::Table(table));
    }
    Section {
        title: "Warnings",
        blocks,
    }
}

pub(super) fn by_cells(file: &ReportFile) -> Result<Section, FigureError> {
    let mut blocks = Vec::new();
    let series = &file.series.suspect;
    match series.last() {
        None => blocks.push(Block::Text(
            "No cells of the suspect's text were scored, so there is no figure.".into(),
        )),
        Some(last) => {
            let band = last.decoys.map_or(String::new(), |band| {
                format!(
                    " Of the unused keys, nine in ten lie between {} and {}.",
                    band[0], band[4]
                )
            });
            let control = file.series.control.last().map_or(String::new(), |last| {
                format!(
                    " The control ends at {} after {} cells.",
                    last.p, last.cells
                )
            });
            let mut key = vec![("suspect", "dots", "the suspect's text".to_owned())];
            if !file.series.control.is_empty() {
                key.push(("control", "dashes", "the control's text".to_owned()));
            }
            if last.decoys.is_some() {
                key.push((
                    "band",
                    "area",
                    "nine in ten of the keys that nobody used; darker: one in two".to_owned(),
                ));
            }
            key.push((
                "muted",
                "dashes",
                format!("alpha, {:e}", file.configuration.policy.alpha),
            ));
            blocks.push(drawing(
                "by-cells",
                "p of the plain test as the text goes on".into(),
                format!(
                    "log10 p of closed-cells against the number of scored cells, both growing with the text; lower is stronger. The suspect's line ends at p = {} after {} cells.{band}{control}",
                    last.p, last.cells
                ),
                key,
                |size| figure::by_cells(file, size),
            )?);
            blocks.push(Block::Text(
                "A figure, and no test: every point has an exact p-value for itself, but nobody said beforehand at which point to look. The evidence is the end of the line, and the family of tests below.".into(),
            ));
        }
    }
    Ok(Section {
        title: "p against scored cells",
        blocks,
    })
}

pub(super) fn unused_keys(file: &ReportFile) -> Result<Section, FigureError> {
    let report = &file.report;
    let policy = &file.configuration.policy;
    let with = report
        .findings
        .iter()
        .filter(|finding| finding.decoys.is_some());
    let strongest = report.strongest(policy).filter(|f| f.decoys.is_some());
    let shown = strongest.or_else(|| with.clone().next());
    let mut blocks = Vec::new();
    if let Some((finding, decoys)) = shown.and_then(|f| Some((f, f.decoys.as_ref()?))) {
        blocks.push(Block::Text(format!(
            "{} keys of the same epoch that nobody used were scored on the same text. Under independence the key in question is one like these. Their rank is exact for text that is independent of all of them, relies on no formula, and can say no less than p = {}.",
            decoys.of - 1,
            watermark_core::stats::LnP::from_ln(-(decoys.of as f64).ln())
        )));
        blocks.push(drawing(
            "decoys",
            format!("Standard scores of the unused keys, {}", finding.id()),
            format!(
                "Histogram of the standard scores of {} unused keys, with the normal curve that chance gives: mean {:+.3}, standard deviation {:.3}. The key in question stands at z = {:+.2}, rank {} of {}.",
                decoys.of - 1, decoys.mean_z, decoys.sd_z, finding.test.z, decoys.rank, decoys.of
            ),
            vec![
                ("band", "area", "unused keys".to_owned()),
                ("muted", "line", "normal curve".to_owned()),
                ("suspect", "line", "the key in question".to_owned()),
            ],
            |size| figure::histogram(&decoys.z, Some(finding.test.z), "standard score z", "keys", size),
        )?);
        blocks.push(drawing(
            "quantiles",
            format!("Are their p-values uniform? {}", finding.id()),
            format!(
                "Quantiles of the unused keys' p-values against those of the uniform law, on logarithmic axes; on the diagonal they agree. Largest distance from uniform (Kolmogorov-Smirnov) {:.4}, p = {}.",
                decoys.ks.d, decoys.ks.p
            ),
            vec![
                ("band", "dots", "unused keys".to_owned()),
                ("muted", "line", "uniform".to_owned()),
            ],
            |size| figure::quantiles(&decoys.p, size),
        )?);
        let mut table = Table::new(
            "Unused keys by test",
            &[
                ("test", Text),
                ("rank", Number),
                ("p of the rank", Number),
                ("mean z", Number),
                ("s.d. of z", Number),
                ("uniform: p", Number),
            ],
        );
        for (finding, decoys) in with.filter_map(|f| Some((f, f.decoys.as_ref()?))) {
            table.row([
                finding.id().to_string(),
                format!("{} of {}", decoys.rank, decoys.of),
                decoys.rank_p.to_string(),
                format!("{:+.3}", decoys.mean_z),
                format!("{:.3}", decoys.sd_z),
                decoys.ks.p.to_string(),
            ]);
        }
        blocks.push(Block::Table(table));
    } else {
        blocks.push(Block::Text(
            "No unused keys were scored beside this one.".into(),
        ));
    }
    Ok(Section {
        title: "Keys that nobody used",
        blocks,
    })
}

pub(super) fn controls(file: &ReportFile) -> Section {
    let report = &file.report;
    let mut table = Table::new(
        "Controls",
        &[("control", Text), ("what it asks", Text), ("result", Text)],
    );
    let test = |test: &watermark_core::detect::Test| {
        format!("p = {}, z {:+.2}, {} cells", test.p, test.z, test.n_scored)
    };
    let absent = || "not given".to_owned();
    table.row([
        "clean model".to_owned(),
        "does a model known to be innocent show the mark?".to_owned(),
        report
            .control
            .as_ref()
            .map_or_else(absent, |sample| test(&sample.test)),
    ]);
    table.row([
        "never-emitted windows".to_owned(),
        "do cells fire that the logs never emitted? Exact even for a model trained on the logs; a relay fires, training does not".to_owned(),
        report.never_emitted.as_ref().map_or_else(absent, test),
    ]);
    table.row([
        "neutral text".to_owned(),
        "is the text that open weights are read on itself free of the mark?".to_owned(),
        report.neutral.as_ref().map_or_else(absent, test),
    ]);
    let decoys = report.findings.iter().filter_map(|f| f.decoys.as_ref());
    let worst = decoys.map(|decoys| decoys.ks.p).min();
    table.row([
        "unused keys".to_owned(),
        "are their p-values uniform on this text?".to_owned(),
        worst.map_or_else(absent, |p| format!("p = {p}, the smallest of all tests")),
    ]);
    table.row([
        "other direction".to_owned(),
        "is the score far below chance? A mark that is being avoided".to_owned(),
        format!(
            "p = {} (lower tail of closed-cells)",
            report.suspect.test.lower_p
        ),
    ]);
    let counts = &report.suspect.counts;
    table.row([
        "scored fraction".to_owned(),
        "which share of the tokens are distinct cells that count?".to_owned(),
        format!(
            "{:.2} ({} repeated, {} in a prompt's windows, {} without a whole window, of {})",
            counts.cells as f64 / counts.tokens.max(1) as f64,
            counts.repeated,
            counts.excluded,
            counts.partial,
            counts.tokens
        ),
    ]);
    if let Some(without) = report.influence.largest.first() {
        table.row([
            "leave one prompt out".to_owned(),
            format!(
                "does one prompt carry the result, by {}?",
                report.influence.id
            ),
            format!(
                "p = {} without {}, which carries most of {}",
                without.p,
                prompt(file, without.source),
                report.influence.sources
            ),
        ]);
    }
    Section {
        title: "Controls",
        blocks: vec![Block::Table(table)],
    }
}

fn prompt(file: &ReportFile, source: u32) -> String {
    let name = file.prompt(source);
    name.map_or_else(|| format!("prompt {source}"), str::to_owned)
}

pub(super) fn effect(file: &ReportFile) -> Result<Section, FigureError> {
    let effect = &file.report.effect;
    let mut blocks = Vec::new();
    if effect.sources == 0 {
        blocks.push(Block::Text(
            "There is no text that an effect could be read from.".into(),
        ));
    } else {
        let interval = effect.interval.map_or(
            " No interval: there are fewer than two prompts.".to_owned(),
            |[low, high]| {
                format!(
                    " Approximate 95 % interval: {low:+.4} to {high:+.4}, by a bootstrap over {} prompts, widened by the spread over keys.",
                    effect.sources
                )
            },
        );
        let transfer = effect.transfer.map_or(String::new(), |share| {
            format!(" That is {share:.3} of the marked text's own effect.")
        });
        let description = format!(
            "Mean excess of a token's score over chance: {:+.4}.{interval} By chance alone it is 0 with a standard deviation of {:.4} over keys.{transfer}",
            effect.excess, effect.null_sd
        );
        let mut key = vec![
            (
                "suspect",
                "dots",
                "the suspect, with its interval".to_owned(),
            ),
            (
                "band",
                "area",
                "chance: two standard deviations over keys".to_owned(),
            ),
        ];
        if file.dose.is_some() {
            key.push(("control", "dashes", "calibration students".to_owned()));
        }
        let title = match &file.dose {
            Some(_) => "Effect, and the share of marked training data that it speaks for",
            None => "Effect a token",
        };
        blocks.push(drawing(
            "effect",
            title.into(),
            description.clone(),
            key,
            |size| figure::effect(file, size),
        )?);
        blocks.push(Block::Text(description));
        if let Some(dose) = &file.dose {
            let interval = dose.exposure.interval.map_or(String::new(), |[low, high]| {
                format!(" ({low:.3} to {high:.3} at the ends of the effect's interval)")
            });
            let least = if dose.exposure.at_least {
                "at least "
            } else {
                ""
            };
            blocks.push(Block::Text(format!(
                "Exposure: {least}{:.3} of the training data{interval}. This is the estimate of the calibration model ({}), and not a measurement of the suspect's training data.",
                dose.exposure.share, dose.curve.source
            )));
        }
    }
    blocks.push(Block::Text(
        "Estimates, and no tests: effect and exposure answer how much, and lean on how calibration students were made.".into(),
    ));
    Ok(Section {
        title: "Effect and dose",
        blocks,
    })
}

pub(super) fn parts(file: &ReportFile) -> Result<Section, FigureError> {
    let contributions = &file.contributions;
    let mut blocks = vec![Block::Text(
        "The plain test (closed-cells) taken apart: a cell belongs to the part in which it is met first, so the parts add up to the test. \"p without\" is the exact p of all the others together. Of many parts some stand out by chance.".into(),
    )];
    if contributions.prompts.len() >= 2 {
        let scores: Vec<f64> = contributions.prompts.iter().map(|part| part.z).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let above = scores.iter().filter(|&&z| z > 0.0).count();
        if scores.len() >= 10 {
            blocks.push(drawing(
                "prompts",
                "Standard scores of the prompts".into(),
                format!(
                    "Histogram of the standard scores of {} prompts, with the normal curve that chance gives. Mean {mean:+.2}; {above} are above 0.",
                    scores.len()
                ),
                vec![
                    ("band", "area", "prompts".to_owned()),
                    ("muted", "line", "normal curve".to_owned()),
                ],
                |size| figure::histogram(&scores, None, "standard score z", "prompts", size),
            )?);
        }
        let mut prompts: Vec<&Contribution> = contributions.prompts.iter().collect();
        prompts.sort_by(|a, b| b.p_without.cmp(&a.p_without).then(a.name.cmp(&b.name)));
        let shown = prompts.len().min(PROMPTS);
        let caption = match prompts.len() {
            all if all > PROMPTS => {
                format!(
                    "By prompt: the {PROMPTS} without which p is largest, of {all}; the file has all"
                )
            }
            all => format!("By prompt: all {all}"),
        };
        blocks.push(Block::Table(table(caption, &prompts[..shown])));
    } else {
        blocks.push(Block::Text(
            "There are fewer than two prompts, so none can be left out.".into(),
        ));
    }
    if contributions.domains.len() >= 2 {
        let domains: Vec<&Contribution> = contributions.domains.iter().collect();
        blocks.push(Block::Table(table("By domain".into(), &domains)));
    } else {
        blocks.push(Block::Text("The records name no two domains.".into()));
    }
    Ok(Section {
        title: "Prompts and domains",
        blocks,
    })
}

fn table(caption: String, parts: &[&Contribution]) -> Table {
    let mut table = Table::new(
        caption,
        &[
            ("part", Code),
            ("tokens", Number),
            ("cells", Number),
            ("score", Number),
            ("expected", Number),
            ("z", Number),
            ("p without", Number),
        ],
    );
    for part in parts {
        table.row([
            part.name.clone(),
            part.positions.to_string(),
            part.cells.to_string(),
            format!("{:.1}", part.score),
            format!("{:.1}", part.expected),
            format!("{:+.2}", part.z),
            part.p_without.to_string(),
        ]);
    }
    table
}
