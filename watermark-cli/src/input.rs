//! Answers and their prompts from files, directories and standard input.
//!
//! Every form is recognised by its fields; JSONL and Parquet rows are read alike. A field that
//! is `null` counts as absent.
//!
//! | form | recognised by | answer | context, whose windows are excluded |
//! |---|---|---|---|
//! | plain text | the file's name, or `--input text` | the file | none |
//! | record | none of those below | ids: `token_ids`, `response_token_ids`, `output_token_ids`; or text: `text`, `output`, `response`, `result`, `generation`, `completion`, with `reasoning` or `reasoning_content` as a stretch before it and the arguments of `tool_calls` as stretches behind it; or the assistant's last turn in `messages` | `prompt_token_ids` or `prompt` (text, ids, messages); `system`; all else in `messages` |
//! | transcript of `generate` | a record with `session` | its `token_ids`, split at `session.segments` | as a record |
//! | batch response: OpenAI, `vllm run-batch` | `custom_id` and an object `response` | every choice: `message` (reasoning, content with its parts, refusal, arguments of `tool_calls`) or `text`, or its `token_ids`; or the items of `output` | `prompt_token_ids`, or the request with the same `custom_id` |
//! | batch request | `custom_id` and an object `body`; or the file is given as `--requests` | none | `body.messages`, `body.tools`, `body.prompt`, `body.instructions`, `body.input` |
//! | bare response | a list `choices` or `output` | as a batch response | `prompt_token_ids` |
//! | lm-evaluation-harness sample | `doc_id` and `resps` | every text of `resps`, else of `filtered_resps` | `arg_0` of every instance in `arguments` |
//!
//! A transcript of `collect` is a batch's response with custody (`x_wmk`): its chain is verified before it is read, and
//! its failed attempts count only where no attempt was answered.
//!
//! Where an answer has ids and text, the ids are taken: tokenising a text again need not give the
//! tokens that were sampled. Failed requests of a batch, and a sample that stands again under
//! another filter, are counted and skipped.
//!
//! Every stretch is a segment: its first h tokens have no window. The profile's special tokens part segments further, and
//! are counted and left out, wherever they come from: ids that a server gave, or their names in a text.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use watermark_core::text::Tokenizer;
use watermark_eval::files;

use crate::cli::FormArgs;
use crate::command::collect::transcript::{self, Broken};

pub(crate) mod aligned;
mod batch;
mod fields;
mod harness;
pub(crate) mod logprobs;
mod messages;
mod reader;
mod records;
mod table;
mod vocabulary;

use fields::Object;
use reader::Reader;

/// A file above this is refused: split it. (Streaming detection comes with larger corpora.)
const MAX_BYTES: u64 = 1 << 30;

/// The files that are looked for in directories.
pub(crate) const EXTENSIONS: [&str; 3] = ["jsonl", "parquet", "txt"];

/// One answer, or the last turn of a conversation.
#[derive(Debug)]
pub(crate) struct Item {
    /// File, or file and line or row; with `#2` for the second of several answers there.
    pub(crate) name: String,
    /// Token sequences that the model read: system prompt, turns, prompt. Empty where none was
    /// given.
    pub(crate) contexts: Vec<Vec<u32>>,
    /// The stretches of tokens to score. An empty answer is one empty stretch.
    pub(crate) segments: Vec<Vec<u32>>,
    /// Which prompt this answers: equal for answers to equal prompts. A digest of the contexts,
    /// else the `custom_id` or `doc_id`.
    pub(crate) source: Option<String>,
    /// What the record calls itself or its prompt: `custom_id`, `id` or `doc_id`.
    pub(crate) label: Option<String>,
    /// The kind of prompt: the field `domain` or `set`, else the part of the id before a number
    /// (`prose` of `prose-012`).
    pub(crate) domain: Option<String>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The answers, in the order given.
    pub(crate) items: Vec<Item>,
    /// How many of them.
    pub(crate) counts: Counts,
}

/// `answers = answers_from_ids + answers_from_text`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AnswerCounts")]
pub(crate) struct Counts {
    /// Answers, empty ones included.
    pub(crate) answers: u64,
    /// Taken as token ids, as they were sampled.
    pub(crate) answers_from_ids: u64,
    /// Tokenised from text here.
    pub(crate) answers_from_text: u64,
    /// Special tokens of the profile, left out of the answers.
    #[serde(skip_serializing_if = "none")]
    pub(crate) special_tokens: u64,
    /// Failed requests.
    pub(crate) skipped: u64,
    /// Lines that give an answer again, under another filter.
    pub(crate) repeated: u64,
}

fn none(count: &u64) -> bool {
    *count == 0
}

/// An answer before it has its name.
struct Answer {
    contexts: Vec<Vec<u32>>,
    segments: Vec<Vec<u32>>,
    from_ids: bool,
    /// The prompt's name, where the contexts do not tell.
    name: Option<String>,
}

/// A line or a row, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Line(usize),
    Row(usize),
}

impl Place {
    fn number(self) -> usize {
        let (Self::Line(number) | Self::Row(number)) = self;
        number
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Row(number) => write!(f, "row {number}"),
        }
    }
}

/// Why an input could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} has more than {limit} MiB; split it", .0.display(), limit = MAX_BYTES >> 20)]
    TooLarge(PathBuf),
    #[error("{} is no text: byte {offset} is not UTF-8; convert it, or give token ids as JSONL", path.display())]
    NotUtf8 { path: PathBuf, offset: usize },
    #[error("{} is binary (a NUL at byte {offset}); give text, or token ids as JSONL", path.display())]
    Binary { path: PathBuf, offset: usize },
    #[error("{} has no .txt or .jsonl or .parquet file", .0.display())]
    EmptyDirectory(PathBuf),
    #[error("{}, {place}: {message}", path.display())]
    Record {
        path: PathBuf,
        place: Place,
        message: String,
    },
    #[error("{}: {message}", path.display())]
    Table { path: PathBuf, message: String },
    #[error("{}: a transcript with a broken chain: {source}", path.display())]
    Chain { path: PathBuf, source: Broken },
    #[error("{name}: no request has the custom_id `{custom_id}`")]
    NoRequest { name: String, custom_id: String },
}

impl From<files::ListError> for InputError {
    fn from(error: files::ListError) -> Self {
        Self::Io {
            path: error.path,
            source: error.source,
        }
    }
}

/// Reads everything, in the order given; directories in the order of their paths. What was
/// skipped is said on standard error. `special` are the profile's special tokens.
pub(crate) fn read_all(
    inputs: &[PathBuf],
    form: &FormArgs,
    tokenizer: &dyn Tokenizer,
    special: &[u32],
) -> Result<Inputs, InputError> {
    let mut reader = Reader::new(tokenizer, special);
    reader.requests(&form.requests)?;
    for input in inputs {
        if input.is_dir() {
            let files = files::below(input, &EXTENSIONS)?;
            if files.is_empty() {
                return Err(InputError::EmptyDirectory(input.clone()));
            }
            for file in files {
                reader.file(&file, form.input)?;
            }
        } else {
            reader.file(input, form.input)?;
        }
    }
    reader.finish(!form.requests.is_empty())
}

fn error(path: &Path, place: Place, message: String) -> InputError {
    InputError::Record {
        path: path.to_owned(),
        place,
        message,
    }
}

/// The names that answers to the prompts of a file have: of every line's `prompt` or `messages`.
pub(crate) fn prompt_sources(
    path: &Path,
    tokenizer: &dyn Tokenizer,
) -> Result<BTreeSet<String>, InputError> {
    let text = read_text(path)?;
    let mut found = BTreeSet::new();
    for (number, object) in objects(&text) {
        let error = |message| error(path, Place::Line(number), message);
        let object = object.map_err(error)?;
        for field in ["messages", "prompt"] {
            if let Some(value) = fields::get(&object, field) {
                let contexts = fields::sequences(field, value, tokenizer).map_err(error)?;
                found.extend(reader::source(&contexts));
            }
        }
    }
    Ok(found)
}

/// The text of a file; `-` is standard input.
pub(crate) fn read_text(path: &Path) -> Result<String, InputError> {
    let io = |source| InputError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(io)?)
    };
    source
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(InputError::TooLarge(path.to_owned()));
    }
    if let Some(offset) = bytes.iter().position(|&byte| byte == 0) {
        return Err(InputError::Binary {
            path: path.to_owned(),
            offset,
        });
    }
    String::from_utf8(bytes).map_err(|error| InputError::NotUtf8 {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}

/// The text of a JSONL file; a transcript of `collect` has its chain verified, together with the
/// `collection.json` beside it where there is one.
pub(crate) fn read_jsonl(path: &Path) -> Result<String, InputError> {
    let text = read_text(path)?;
    let beside = path.with_file_name("collection.json");
    let start = match path == Path::new("-") {
        true => None,
        false => std::fs::read(beside)
            .ok()
            .map(|json| transcript::sha256(&json)),
    };
    transcript::verify(&text, start).map_err(|source| InputError::Chain {
        path: path.to_owned(),
        source,
    })?;
    Ok(text)
}

/// The stretches of all answers of a batch's response, as readers of whole files take them; none where it
/// failed.
pub(crate) fn answer_of(line: &Value, tokenizer: &dyn Tokenizer) -> Result<Vec<Vec<u32>>, String> {
    let line = fields::object("line", line)?;
    Ok(match batch::response(line, tokenizer)? {
        batch::Response::Failed(_) => Vec::new(),
        batch::Response::Answers(answers) => {
            let stretches = |answer: Answer| match answer.segments.is_empty() {
                true => vec![Vec::new()],
                false => answer.segments,
            };
            answers.into_iter().flat_map(stretches).collect()
        }
    })
}

/// What a line of a batch's requests gives to read.
pub(crate) fn request_of(line: &str, tokenizer: &dyn Tokenizer) -> Result<Vec<Vec<u32>>, String> {
    let line: Object = serde_json::from_str(line).map_err(|error| error.to_string())?;
    batch::request(&line, tokenizer)
}

/// Prompts of a JSONL file, with their text where there is one.
pub(crate) fn read_prompts(
    path: &Path,
    tokenizer: &dyn Tokenizer,
) -> Result<Vec<(String, Vec<u32>)>, InputError> {
    use records::{PROMPT_IDS, PROMPT_TEXT};
    let text = read_text(path)?;
    objects(&text)
        .map(|(line, object)| {
            let error = |message| error(path, Place::Line(line), message);
            let object = object.map_err(error)?;
            let tokens = records::prompt(&object, tokenizer)
                .map_err(error)?
                .ok_or_else(|| error(format!("no field `{PROMPT_TEXT}` or `{PROMPT_IDS}`")))?;
            let text = object.get(PROMPT_TEXT).and_then(Value::as_str);
            let text = text.map_or_else(|| tokenizer.decode(&tokens), str::to_owned);
            Ok((text, tokens))
        })
        .collect()
}

/// What the writer of the mark recorded in a JSONL file; lines without a session have none.
pub(crate) fn read_sessions(
    path: &Path,
) -> Result<Vec<watermark_core::sampler::SessionRecord>, InputError> {
    let text = read_text(path)?;
    let mut sessions = Vec::new();
    for (line, object) in objects(&text) {
        let error = |message| error(path, Place::Line(line), message);
        let object = object.map_err(error)?;
        if let Some(session) = fields::get(&object, records::SESSION) {
            let session = serde::Deserialize::deserialize(session)
                .map_err(|e: serde_json::Error| error(format!("field `session`: {e}")))?;
            sessions.push(session);
        }
    }
    Ok(sessions)
}

/// The objects of the lines that are not blank, with their numbers.
fn objects(text: &str) -> impl Iterator<Item = (usize, Result<Object, String>)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let object = match serde_json::from_str(line) {
                Ok(Value::Object(object)) => Ok(object),
                Ok(_) => Err("not a JSON object".to_owned()),
                Err(error) if error.is_eof() => Err("the JSON object is cut off".to_owned()),
                Err(error) => Err(format!("not JSON: {error}")),
            };
            (index + 1, object)
        })
}

#[cfg(test)]
mod tests;
