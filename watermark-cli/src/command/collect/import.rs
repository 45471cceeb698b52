//! `watermark collect import`: answers that others collected, in the same form.
//!
//! Every line keeps its exact bytes and its place, and says that it was imported: the chain then shows that nothing was changed
//! since, and nothing about what was before.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::budget::Caps;
use super::error::CollectError;
use super::folder::{Collection, Folder, ImportInfo, KIND, PromptsInfo, TOOL, View};
use super::status::Status;
use super::time::rfc3339;
use super::transcript::{Custody, FIELD, Origin, Outcome, Raw, Usage, sha256};
use crate::cli::{CollectImport, Format};
use crate::error::CliError;
use crate::input;
use crate::render::print_json;

pub(super) fn run(arguments: &CollectImport) -> Result<ExitCode, CliError> {
    let now = rfc3339(SystemTime::now());
    let mut requests: BTreeMap<String, String> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut imported = Vec::new();
    for path in &arguments.files {
        // A transcript is verified as it is read.
        let text = input::read_jsonl(path)?;
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        let mut count = 0;
        for (index, raw) in text.lines().enumerate() {
            if raw.trim().is_empty() {
                continue;
            }
            count += 1;
            let content = |message: String| CollectError::Content {
                path: path.clone(),
                message: format!("line {}: {message}", index + 1),
            };
            let Ok(Value::Object(line)) = serde_json::from_str(raw) else {
                return Err(content("not a JSON object".to_owned()).into());
            };
            if line.get("body").is_some_and(Value::is_object) && !line.contains_key("response") {
                let id = line.get("custom_id").and_then(Value::as_str);
                let id = id.ok_or_else(|| content("a request without `custom_id`".to_owned()))?;
                let before = requests.insert(id.to_owned(), raw.to_owned());
                if before.is_some_and(|before| before != raw) {
                    return Err(content(format!("two requests have the custom_id `{id}`")).into());
                }
                continue;
            }
            lines.push(record(line, raw, format!("{name}:{}", index + 1), &now));
        }
        imported.push(ImportInfo {
            file: name.into_owned(),
            sha256: sha256(text.as_bytes()),
            lines: count,
        });
    }
    if lines.is_empty() {
        return Err(CollectError::Content {
            path: arguments.files[0].clone(),
            message: "no answers in these files".to_owned(),
        }
        .into());
    }
    let prompts: String = requests.values().map(|line| format!("{line}\n")).collect();
    let collection = Collection {
        kind: KIND.to_owned(),
        schema: 1,
        tool: TOOL.to_owned(),
        created: now,
        origin: Origin::Imported,
        endpoint: None,
        api: None,
        model: None,
        parameters: Map::new(),
        prompts: PromptsInfo {
            source: "imported".to_owned(),
            source_sha256: None,
            count: requests.len() as u64,
            sha256: sha256(prompts.as_bytes()),
        },
        caps: Caps::default(),
        own_hosts: Vec::new(),
        plan: None,
        collector_held_key: false,
        until: None,
        imported,
    };
    let mut prev = sha256(&collection.to_bytes());
    let mut transcript = Vec::new();
    for (seq, mut line) in lines.into_iter().enumerate() {
        line[FIELD]["seq"] = seq.into();
        line[FIELD]["prev"] = prev.into();
        let bytes = line.to_string();
        prev = sha256(bytes.as_bytes());
        transcript.extend_from_slice(bytes.as_bytes());
        transcript.push(b'\n');
    }
    Folder::create(
        &arguments.out,
        &collection,
        prompts.as_bytes(),
        Some(&transcript),
    )?;
    let (view, head, rest) = View::look(&arguments.out)?;
    let status = Status::of(&view, &head, rest, false);
    match arguments.format {
        Format::Human => print!("{}", status.text()),
        Format::Json | Format::Jsonl => print_json(&status),
    }
    Ok(ExitCode::SUCCESS)
}

/// A line with its custody; `seq` and `prev` come when it is chained.
fn record(mut line: Map<String, Value>, raw: &str, source: String, now: &str) -> Value {
    let null = |field: &str| line.get(field).is_none_or(Value::is_null);
    let status = line
        .get("response")
        .and_then(|response| response.get("status_code"));
    let failed = line.contains_key("response")
        && line.contains_key("custom_id")
        && (!null("error") || null("response") || status.is_some_and(|status| status != 200));
    let usage = line
        .get("response")
        .and_then(|response| response.pointer("/body/usage"))
        .or_else(|| line.get("usage"));
    // Servers say more in it than this.
    let usage = usage.and_then(|usage| {
        let count = |field: &str| usage.get(field).and_then(Value::as_u64);
        Some(Usage {
            prompt_tokens: count("prompt_tokens")?,
            completion_tokens: count("completion_tokens")?,
        })
    });
    let custody = Custody {
        seq: 0,
        origin: Origin::Imported,
        outcome: match failed {
            true => Outcome::Failed,
            false => Outcome::Answered,
        },
        attempt: None,
        sent_at: None,
        recv_at: now.to_owned(),
        req_sha256: None,
        source: Some(source),
        raw: Raw::Text(raw.to_owned()),
        raw_sha256: sha256(raw.as_bytes()),
        usage,
        prev: String::new(),
    };
    line.insert(FIELD.to_owned(), json!(custody));
    Value::Object(line)
}
