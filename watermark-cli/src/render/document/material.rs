//! What was read, how it was set up, and when it came about.

use watermark_core::report::CommitmentCheck;
use watermark_core::report::file::ReportFile;

use super::Column::{Code, Number, Text};
use super::{Block, Section, Table};

pub(super) fn materials(file: &ReportFile) -> Section {
    let materials = &file.materials;
    let mut files = Table::new(
        "Files",
        &[
            ("as", Text),
            ("name", Code),
            ("bytes", Number),
            ("SHA-256", Code),
        ],
    );
    for material in &materials.files {
        let (bytes, sha256) = match &material.content {
            Some(content) => (content.bytes.to_string(), content.sha256.clone()),
            None => ("".to_owned(), "not known: read from a stream".to_owned()),
        };
        files.row([material.role.clone(), material.name.clone(), bytes, sha256]);
    }
    let mut read = Table::new("What was found in them", &[("input", Text), ("what", Text)]);
    for (input, numbers) in &materials.read {
        let numbers = numbers.iter();
        let numbers: Vec<_> = numbers
            .map(|(what, n)| format!("{}: {n}", words(what)))
            .collect();
        read.row([words(input), numbers.join(", ")]);
    }
    let configuration = &file.configuration;
    let report = &file.report;
    let mut setting = Table::new("Configuration", &[("setting", Text), ("value", Code)]);
    setting.row([
        "alpha".to_owned(),
        format!("{:e}", configuration.policy.alpha),
    ]);
    setting.row([
        "least scored cells".to_owned(),
        configuration.policy.min_cells.to_string(),
    ]);
    setting.row(["unused keys".to_owned(), configuration.decoys.to_string()]);
    setting.row([
        "two-sided".to_owned(),
        if report.two_sided { "yes" } else { "no" }.to_owned(),
    ]);
    if let Some(cells) = configuration.supervised_cells {
        setting.row(["cells of the supervised test".to_owned(), cells.to_string()]);
    }
    if let Some(top) = configuration.reading_top {
        setting.row(["entries of a reading".to_owned(), top.to_string()]);
    }
    setting.row([
        "tokenizer".to_owned(),
        format!(
            "{} ids, digest {}",
            materials.tokenizer.size, materials.tokenizer.sha256
        ),
    ]);
    setting.row(["profile".to_owned(), report.profile.to_json()]);
    setting.row([
        "cells of the suspect".to_owned(),
        report.suspect.cells_digest.clone(),
    ]);
    setting.row([
        "made by".to_owned(),
        format!(
            "{} {}, {} {}",
            file.tool.name, file.tool.version, report.tool.name, report.tool.version
        ),
    ]);
    let mut blocks = vec![Block::Table(files)];
    if !read.rows.is_empty() {
        blocks.push(Block::Table(read));
    }
    blocks.push(Block::Table(setting));
    Section {
        title: "Materials and configuration",
        blocks,
    }
}

/// `answersFromIds` as words.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

pub(super) fn custody(file: &ReportFile) -> Section {
    let mut events: Vec<(String, String)> = Vec::new();
    let report = &file.report;
    if let Some(plan) = &report.plan {
        events.push((
            plan.sealed_at.clone(),
            format!(
                "The plan {} is sealed, by the sealer's clock; its digest is {}. It names {} tests and {} answers; {} were given.",
                plan.id, plan.digest, plan.tests.len(), plan.planned_answers, plan.answers
            ),
        ));
    }
    for collection in &file.custody.collections {
        if let Some(at) = &collection.first_sent_at {
            events.push((
                at.clone(),
                format!("The first request of {} is sent.", collection.name),
            ));
        }
        if let Some(at) = &collection.last_received_at {
            let head = collection
                .chain_head
                .as_ref()
                .map_or(String::new(), |head| {
                    format!(" The hash chain of the records ends in {head}.")
                });
            let imported = match collection.imported {
                0 => String::new(),
                some => format!(" {some} of them were imported from files of others."),
            };
            events.push((
                at.clone(),
                format!(
                    "The last of {} responses of {} arrives.{imported}{head}",
                    collection.records, collection.name
                ),
            ));
        }
    }
    events.sort();
    events.push((
        file.custody.made_at.clone(),
        format!(
            "This report is made by {} {}.",
            file.tool.name, file.tool.version
        ),
    ));
    let mut blocks = vec![Block::Timeline(events)];
    if file.custody.collections.is_empty() {
        blocks.push(Block::Text(
            "The answers carry no record of their collection: nothing here says when, how and by whom they were obtained.".into(),
        ));
    }
    blocks.push(Block::Text(match report.commitment.as_ref().map(|c| c.checked) {
        Some(CommitmentCheck::Root) => {
            "The key and the unused keys belong to the commitment: its root was computed again from the master key.".into()
        }
        Some(CommitmentCheck::KeyId) => {
            "The key's id stands in the commitment; the commitment's root was not computed again.".into()
        }
        None => "No commitment to the key was given: nothing here says that the key is older than the suspect's text.".into(),
    }));
    blocks.push(Block::Text(
        "Times are those that the records state. They are worth what their clocks and keepers are worth; a timestamp by others says more.".into(),
    ));
    Section {
        title: "Custody",
        blocks,
    }
}

pub(super) fn reading() -> Section {
    Section {
        title: "How to read this report",
        blocks: vec![
            Block::Text("p is the probability that text which is independent of the key scores as high. It is uniform over keys, not over texts under one key, and says nothing about how likely it is that anyone did anything. p-values are exact, or upper bounds where the table says so; none is rounded to nothing, however small.".into()),
            Block::Text("An e-value is at most 1 on average under independence; a large one speaks against it. The rank among unused keys stands beside the tail and is no substitute for it.".into()),
            Block::Text("What is shown is a path from the key to the suspect's output. Which path it is, controls and other evidence must tell. Whoever has the key and the materials named above can compute all numbers again.".into()),
        ],
    }
}
