//! `distill --out`: the report file.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;
use sha2::{Digest, Sha256};
use watermark_core::evidence::time::rfc3339;
use watermark_core::profile::{Mark, Profile, Vocabulary};
use watermark_core::report::contribution::contributions;
use watermark_core::report::file::{
    Collection, Configuration, Content, Contributions, Custody, Dose, Material, Materials,
    REPORT_SCHEMA, ReportFile, Series,
};
use watermark_core::report::series::series;
use watermark_core::report::{Report, Tool};
use watermark_core::verdict::Verdict;
use watermark_eval::files;

use super::asked::Asked;
use super::evidence::Evidence;
use crate::cli::Distill;
use crate::error::CliError;
use crate::input::{EXTENSIONS, InputError};
use crate::mark::Context;

/// The file of a report that was just made.
pub(super) fn build(
    arguments: &Distill,
    asked: &Asked,
    context: &Context,
    evidence: &Evidence,
    decoys: &[Mark],
    dose: Option<Dose>,
    report: Report,
) -> Result<ReportFile, CliError> {
    let (mark, policy) = (&context.mark, asked.policy);
    let suspect = &evidence.suspect;
    let scores = suspect.cells().scores(mark);
    let name = |source: u32| {
        let name = evidence.prompt(source);
        name.map_or_else(|| source.to_string(), str::to_owned)
    };
    let domain = |source: u32| evidence.domain(source).unwrap_or("none").to_owned();
    let domains = match evidence.has_domains() {
        true => contributions(mark, suspect, &scores, &domain),
        false => Vec::new(),
    };
    let line = |exhibit| series(mark, exhibit, &[], arguments.threads);
    let left_out = report
        .influence
        .largest
        .iter()
        .map(|without| without.source);
    let names = left_out.map(|source| (source, name(source))).collect();
    Ok(ReportFile {
        schema: REPORT_SCHEMA.to_owned(),
        tool: Tool {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        verdict: Verdict::of_report(&report, &policy),
        configuration: Configuration {
            policy,
            decoys: decoys.len() as u64,
            supervised_cells: asked.supervised_cells,
            reading_top: arguments.logs.reading_top.map(|top| top as u64),
        },
        materials: Materials {
            files: materials(arguments)?,
            tokenizer: Vocabulary::of(&context.tokenizer),
            read: read(evidence),
        },
        custody: Custody {
            collections: collections(&arguments.suspect)?,
            made_at: rfc3339(SystemTime::now()),
        },
        series: Series {
            suspect: series(mark, suspect, decoys, arguments.threads),
            control: evidence.control.as_ref().map(line).unwrap_or_default(),
        },
        contributions: Contributions {
            prompts: contributions(mark, suspect, &scores, &name),
            domains,
            names,
        },
        dose,
        report,
    })
}

/// Every file that is named, by what it is given as.
pub(super) fn given(arguments: &Distill) -> Vec<(&'static str, Vec<PathBuf>)> {
    let one = |path: &Option<PathBuf>| path.iter().cloned().collect::<Vec<_>>();
    let profile = PathBuf::from(&arguments.mark.profile);
    let profile = Profile::built_in(&arguments.mark.profile)
        .is_none()
        .then_some(profile);
    let open = &arguments.open;
    vec![
        ("suspect", arguments.suspect.clone()),
        ("requests", arguments.form.requests.clone()),
        ("control", arguments.control.clone()),
        ("reference", one(&arguments.reference)),
        ("corpus", arguments.corpus.clone()),
        ("open-suspect", one(&open.open_suspect)),
        ("open-reference", open.open_reference.clone()),
        ("open-control", one(&open.open_control)),
        ("neutral", one(&open.neutral)),
        ("logs", arguments.logs.logs.clone()),
        ("reading", one(&arguments.logs.reading)),
        ("dose-curve", one(&arguments.dose_curve)),
        ("tokenizer", one(&arguments.mark.tokenizer)),
        ("plan", one(&arguments.sealed.plan)),
        ("prompts", one(&arguments.sealed.prompts)),
        ("commitment", one(&arguments.sealed.commitment)),
        ("profile", one(&profile)),
    ]
}

/// Every file that was read, with its digest.
fn materials(arguments: &Distill) -> Result<Vec<Material>, CliError> {
    let mut materials = Vec::new();
    for (role, paths) in given(arguments) {
        for path in all_files(&paths)? {
            materials.push(Material {
                role: role.to_owned(),
                name: path.display().to_string(),
                content: content(&path)?,
            });
        }
    }
    Ok(materials)
}

/// Directories as the files that are read of them.
fn all_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut all = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => all.extend(files::below(path, &EXTENSIONS).map_err(InputError::from)?),
            false => all.push(path.clone()),
        }
    }
    Ok(all)
}

/// Size and digest; none of standard input, which has been read.
fn content(path: &Path) -> Result<Option<Content>, CliError> {
    if path == Path::new("-") {
        return Ok(None);
    }
    let mut file = std::fs::File::open(path).map_err(CliError::io(path))?;
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(CliError::io(path))? {
            0 => break,
            read => {
                digest.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok(Some(Content {
        bytes,
        sha256: watermark_core::hex(&digest.finalize()),
    }))
}

/// The counts of the inputs, by the names that they have in JSON.
fn read(evidence: &Evidence) -> BTreeMap<String, BTreeMap<String, u64>> {
    let numbers = |counts| match serde_json::to_value(counts) {
        Ok(Value::Object(fields)) => fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_u64()?)))
            .collect(),
        _ => BTreeMap::new(),
    };
    let counts = evidence.counts.iter();
    counts
        .map(|(&name, counts)| (name.to_owned(), numbers(counts)))
        .collect()
}

/// The records that a collection left in the suspect's files (`x_wmk`).
fn collections(paths: &[PathBuf]) -> Result<Vec<Collection>, CliError> {
    let mut collections = Vec::new();
    for path in all_files(paths)? {
        if path
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            continue;
        }
        let text = crate::input::read_text(&path)?;
        collections.extend(collection(&path.display().to_string(), &text));
    }
    Ok(collections)
}

fn collection(name: &str, text: &str) -> Option<Collection> {
    let mut found = Collection {
        name: name.to_owned(),
        records: 0,
        imported: 0,
        first_sent_at: None,
        last_received_at: None,
        chain_head: None,
    };
    for line in text.lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let Some(record) = value.get("x_wmk") else {
            continue;
        };
        let time = |field: &str| record.get(field).and_then(Value::as_str).map(str::to_owned);
        found.records += 1;
        found.imported += u64::from(
            record
                .get("origin")
                .is_some_and(|origin| origin == "imported"),
        );
        // Times of one form are ordered as texts.
        found.first_sent_at = match (found.first_sent_at.take(), time("sent_at")) {
            (Some(first), Some(at)) => Some(first.min(at)),
            (first, at) => first.or(at),
        };
        found.last_received_at = found.last_received_at.take().max(time("recv_at"));
        found.chain_head = Some(watermark_core::hex(&Sha256::digest(line)));
    }
    (found.records > 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_a_collection() {
        let lines = concat!(
            "{\"custom_id\":\"a\",\"x_wmk\":{\"sent_at\":\"2026-01-02T00:00:05Z\",\"recv_at\":\"2026-01-02T00:00:09Z\"}}\n",
            "{\"custom_id\":\"b\",\"x_wmk\":{\"sent_at\":\"2026-01-02T00:00:01Z\",\"recv_at\":\"2026-01-02T00:00:03Z\"}}\n",
            "{\"custom_id\":\"c\",\"x_wmk\":{\"origin\":\"imported\",\"recv_at\":\"2026-01-01T00:00:00Z\"}}\n",
        );
        let found = collection("t.jsonl", lines).unwrap();
        assert_eq!((found.records, found.imported), (3, 1));
        assert_eq!(found.first_sent_at.unwrap(), "2026-01-02T00:00:01Z");
        assert_eq!(found.last_received_at.unwrap(), "2026-01-02T00:00:09Z");
        let last = lines.lines().last().unwrap();
        assert_eq!(
            found.chain_head.unwrap(),
            watermark_core::hex(&Sha256::digest(last))
        );
        assert_eq!(collection("t.jsonl", "{\"text\": \"a\"}\nnot json\n"), None);
    }
}
