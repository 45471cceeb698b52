//! Every test that was run.

use watermark_core::detect::Test;
use watermark_core::distill::{BettingId, Finding};
use watermark_core::report::Report;
use watermark_core::stats::weighted::TailMethod;

use super::Column::{Number, Text};
use super::{Block, Section, Table};

pub(super) fn all(report: &Report) -> Section {
    let asked = report.asked.as_ref().map_or(String::new(), |tests| {
        let names: Vec<_> = tests.iter().map(|id| id.name()).collect();
        format!(
            " Only {} were asked for: a family if it was chosen before any result was seen.",
            names.join(", ")
        )
    });
    let sides = match report.two_sided {
        true => " p is twice the smaller tail.",
        false => " p is the upper tail.",
    };
    let mut blocks = vec![Block::Text(format!(
        "All tests that were run, those that found nothing too. Each asks whether the suspect's output is independent of the key. The adjusted p-values (Holm) keep their error rate for the whole family, whatever the dependence between its tests; the verdict rests on these.{sides}{asked}"
    ))];
    blocks.push(findings("The family of the verdict", &report.findings));
    if !report.exploratory.is_empty() {
        blocks.push(Block::Text(
            "Beyond the sealed plan: a family of its own, which no verdict reads.".into(),
        ));
        blocks.push(findings("Exploratory tests", &report.exploratory));
    }
    blocks.extend(bets(report));
    Section {
        title: "All tests that were run",
        blocks,
    }
}

fn findings(caption: &str, findings: &[Finding]) -> Block {
    let mut table = Table::new(
        caption,
        &[
            ("test", Text),
            ("p", Number),
            ("adjusted p", Number),
            ("z", Number),
            ("cells", Number),
            ("mean score", Number),
            ("by chance", Number),
            ("rank among unused keys", Number),
            ("control p", Number),
            ("p is", Text),
        ],
    );
    for finding in findings {
        let test = &finding.test;
        let none = || "none".to_owned();
        let rank = finding.decoys.as_ref();
        let rank = rank.map_or_else(none, |d| format!("{} of {}", d.rank, d.of));
        let control = finding.control.as_ref();
        table.row([
            test.id.to_string(),
            finding.p.to_string(),
            finding.adjusted.to_string(),
            format!("{:+.2}", test.z),
            test.n_scored.to_string(),
            format!("{:.4}", test.mean),
            format!("{:.4}", test.null_mean),
            rank,
            control.map_or_else(none, |test| test.p.to_string()),
            method(test).to_owned(),
        ]);
    }
    Block::Table(table)
}

fn method(test: &Test) -> &'static str {
    match test.method {
        TailMethod::Exact => "exact",
        TailMethod::Chernoff => "an upper bound",
    }
}

fn bets(report: &Report) -> Vec<Block> {
    if report.bets.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(
        "E-values: 1 on average at most under independence",
        &[("of", Text), ("e-value", Number), ("cells", Number)],
    );
    for bet in &report.bets {
        let of = match bet.id {
            BettingId::Closed => "the suspect's cells in order of appearance",
            BettingId::Supervised => "cells whose windows the logs emitted",
            BettingId::Reading => "the suspect's reading of the logs",
        };
        table.row([of.to_owned(), bet.e.to_string(), bet.cells.to_string()]);
    }
    vec![Block::Table(table)]
}
