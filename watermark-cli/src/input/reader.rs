//! One pass over the inputs: every record to its form, then answers to their requests.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use watermark_core::text::Tokenizer;
use watermark_core::window;

use super::fields::Object;
use super::{
    Answer, Counts, InputError, Inputs, Item, Place, batch, error, harness, objects, read_jsonl,
    read_text, records, table,
};
use crate::cli::InputForm;

pub(super) struct Reader<'t> {
    tokenizer: &'t dyn Tokenizer,
    /// The profile's special tokens, ascending.
    special: &'t [u32],
    items: Vec<Item>,
    counts: Counts,
    /// In a file given with `--requests`.
    requests_only: bool,
    /// What the requests gave to read, by `custom_id`.
    requests: HashMap<String, Vec<Vec<u32>>>,
    /// Items that still need their request.
    waiting: Vec<(usize, String)>,
    /// The first failed request and why it failed.
    failed: Option<String>,
    /// Attempts of collections.
    attempts: batch::Attempts,
    /// Label and domain of the present record.
    label: Option<String>,
    domain: Option<String>,
    /// The filter under which each document of the present file was read.
    documents: HashMap<String, String>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(tokenizer: &'t dyn Tokenizer, special: &'t [u32]) -> Self {
        Self {
            tokenizer,
            special,
            items: Vec::new(),
            counts: Counts::default(),
            requests_only: false,
            requests: HashMap::new(),
            waiting: Vec::new(),
            failed: None,
            attempts: batch::Attempts::default(),
            label: None,
            domain: None,
            documents: HashMap::new(),
        }
    }

    /// Reads one file.
    pub(super) fn file(&mut self, path: &Path, form: InputForm) -> Result<(), InputError> {
        self.documents.clear();
        (self.label, self.domain) = (None, None);
        let by_name = || match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl") => InputForm::Jsonl,
            Some("parquet") => InputForm::Parquet,
            _ => InputForm::Text,
        };
        let form = match form {
            InputForm::Auto => by_name(),
            InputForm::Jsonl if by_name() == InputForm::Parquet => InputForm::Parquet,
            given => given,
        };
        match form {
            InputForm::Parquet => table::rows(path, &mut |number, row| {
                self.record(path, Place::Row(number), row)
            }),
            InputForm::Jsonl => {
                let text = read_jsonl(path)?;
                for (number, object) in objects(&text) {
                    let place = Place::Line(number);
                    let object = object.map_err(|message| error(path, place, message))?;
                    self.record(path, place, &object)?;
                }
                Ok(())
            }
            InputForm::Text | InputForm::Auto => {
                let answer = Answer {
                    contexts: Vec::new(),
                    segments: vec![self.tokenizer.encode(&read_text(path)?)],
                    from_ids: false,
                    name: None,
                };
                self.push(path.display().to_string(), answer);
                Ok(())
            }
        }
    }

    /// Reads files of requests only.
    pub(super) fn requests(&mut self, paths: &[PathBuf]) -> Result<(), InputError> {
        self.requests_only = true;
        for path in paths {
            self.file(path, InputForm::Jsonl)?;
        }
        self.requests_only = false;
        Ok(())
    }

    fn record(&mut self, path: &Path, place: Place, record: &Object) -> Result<(), InputError> {
        self.take(path, place, record)
            .map_err(|message| error(path, place, message))
    }

    fn take(&mut self, path: &Path, place: Place, record: &Object) -> Result<(), String> {
        let name = format!("{}:{}", path.display(), place.number());
        (self.label, self.domain) = (records::label(record), records::domain(record));
        if self.requests_only || batch::is_request(record) && !batch::is_response(record) {
            let contexts = batch::request(record, self.tokenizer)?;
            let id = batch::custom_id(record)?;
            let before = self.requests.insert(id.to_owned(), contexts);
            if before.is_some_and(|before| before != self.requests[id]) {
                return Err(format!("two requests have the custom_id `{id}`"));
            }
        } else if batch::is_response(record) {
            if self.attempts.take(record, &name) {
                return Ok(());
            }
            match batch::response(record, self.tokenizer)? {
                batch::Response::Answers(answers) => {
                    self.push_all(&name, answers, Some(batch::custom_id(record)?));
                }
                batch::Response::Failed(why) => {
                    self.counts.skipped += 1;
                    self.failed.get_or_insert_with(|| format!("{name}: {why}"));
                }
            }
        } else if batch::is_completion(record) {
            let answers = batch::completion(record, "", self.tokenizer)?;
            self.push_all(&name, answers, None);
        } else if harness::is_sample(record) {
            let (document, filter) = harness::document(record);
            if let Some(first) = self.documents.get(&document)
                && *first != filter
            {
                self.counts.repeated += 1;
                return Ok(());
            }
            self.documents.insert(document, filter);
            let answers = harness::read(record, self.tokenizer)?;
            self.push_all(&name, answers, None);
        } else {
            let answer = records::read(record, self.tokenizer)?;
            self.push(name, answer);
        }
        Ok(())
    }

    /// Takes the answers of one line in; those without context wait for the request.
    fn push_all(&mut self, name: &str, answers: Vec<Answer>, custom_id: Option<&str>) {
        let several = answers.len() > 1;
        for (index, answer) in answers.into_iter().enumerate() {
            if let Some(id) = custom_id.filter(|_| answer.contexts.is_empty()) {
                self.waiting.push((self.items.len(), id.to_owned()));
            }
            let name = match several {
                true => format!("{name}#{}", index + 1),
                false => name.to_owned(),
            };
            self.push(name, answer);
        }
    }

    fn push(&mut self, name: String, answer: Answer) {
        self.counts.answers += 1;
        match answer.from_ids {
            true => self.counts.answers_from_ids += 1,
            false => self.counts.answers_from_text += 1,
        }
        let length = |segments: &[Vec<u32>]| segments.iter().map(Vec::len).sum::<usize>() as u64;
        let before = length(&answer.segments);
        let mut segments = answer.segments;
        if !self.special.is_empty() {
            let parts = segments
                .iter()
                .flat_map(|one| window::segments(one, self.special));
            segments = parts.map(<[u32]>::to_vec).collect();
        }
        self.counts.special_tokens += before - length(&segments);
        if segments.is_empty() {
            segments.push(Vec::new());
        }
        self.items.push(Item {
            name,
            source: source(&answer.contexts).or(answer.name),
            contexts: answer.contexts,
            segments,
            label: self.label.clone(),
            domain: self.domain.clone(),
        });
    }

    /// Joins answers and requests, and says what is missing.
    pub(super) fn finish(mut self, must_join: bool) -> Result<Inputs, InputError> {
        let unanswered = self.attempts.unanswered();
        self.counts.skipped += unanswered.len() as u64;
        if let (None, Some(first)) = (&self.failed, unanswered.first()) {
            self.failed = Some(format!("{first}: no attempt was answered"));
        }
        let mut without = Vec::new();
        for (index, custom_id) in std::mem::take(&mut self.waiting) {
            let item = &mut self.items[index];
            if let Some(contexts) = self.requests.get(&custom_id) {
                item.contexts.clone_from(contexts);
                item.source = source(contexts).or(item.source.take());
            } else if must_join {
                let name = item.name.clone();
                return Err(InputError::NoRequest { name, custom_id });
            } else {
                item.source = Some(format!("custom_id:{custom_id}"));
                without.push(index);
            }
        }
        let Counts {
            skipped, repeated, ..
        } = self.counts;
        if let Some(failed) = &self.failed {
            eprintln!("warning: {skipped} failed requests skipped, the first at {failed}");
        }
        if repeated > 0 {
            eprintln!(
                "warning: {repeated} lines give an answer again under another filter; skipped"
            );
        }
        if let Some(&first) = without.first() {
            eprintln!(
                "warning: {} answers come without their prompts, the first at {}; what a model repeats from a prompt is then scored: give the requests with --requests",
                without.len(),
                self.items[first].name
            );
        }
        Ok(Inputs {
            items: self.items,
            counts: self.counts,
        })
    }
}

/// Equal contexts have equal names: 128 bits of SHA-256 over their lengths and ids.
pub(super) fn source(contexts: &[Vec<u32>]) -> Option<String> {
    if contexts.iter().all(Vec::is_empty) {
        return None;
    }
    let mut digest = Sha256::new();
    for context in contexts {
        digest.update((context.len() as u64).to_le_bytes());
        for id in context {
            digest.update(id.to_le_bytes());
        }
    }
    let digest = digest.finalize();
    Some(format!("prompt:{}", watermark_core::hex(&digest[..16])))
}
