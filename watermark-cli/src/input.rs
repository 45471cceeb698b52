//! Texts and token ids from files, directories and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use watermark_core::text::Tokenizer;

use crate::cli::InputForm;

/// A file above this is refused: split it. (Streaming detection comes with larger corpora.)
const MAX_BYTES: u64 = 1 << 30;

/// The fields that hold an answer's ids and text, and a prompt's, first match first.
const ANSWER_IDS: [&str; 2] = ["token_ids", "response_token_ids"];
const ANSWER_TEXT: [&str; 4] = ["text", "output", "response", "result"];
const PROMPT_IDS: &str = "prompt_token_ids";
const PROMPT_TEXT: &str = "prompt";

/// One answer or document.
pub(crate) struct Item {
    /// File, or file and line.
    pub(crate) name: String,
    /// The prompt's tokens; empty where none was given.
    pub(crate) prompt: Vec<u32>,
    /// The tokens to score.
    pub(crate) tokens: Vec<u32>,
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
    #[error("{} has no .txt or .jsonl file", .0.display())]
    EmptyDirectory(PathBuf),
    #[error("{}, line {line}: {message}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        message: String,
    },
}

/// Reads everything, in the order given; directories in the order of their paths.
pub(crate) fn read_all(
    inputs: &[PathBuf],
    form: InputForm,
    tokenizer: &dyn Tokenizer,
) -> Result<Vec<Item>, InputError> {
    let mut items = Vec::new();
    for input in inputs {
        if input.is_dir() {
            let mut files = Vec::new();
            list(input, &mut files)?;
            if files.is_empty() {
                return Err(InputError::EmptyDirectory(input.clone()));
            }
            files.sort_unstable();
            for file in files {
                read(&file, form, tokenizer, &mut items)?;
            }
        } else {
            read(input, form, tokenizer, &mut items)?;
        }
    }
    Ok(items)
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), InputError> {
    let io = |source| InputError::Io {
        path: directory.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "txt" || e == "jsonl") {
            files.push(path);
        }
    }
    Ok(())
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

fn read(
    path: &Path,
    form: InputForm,
    tokenizer: &dyn Tokenizer,
    items: &mut Vec<Item>,
) -> Result<(), InputError> {
    let text = read_text(path)?;
    let jsonl = match form {
        InputForm::Jsonl => true,
        InputForm::Text => false,
        InputForm::Auto => path.extension().is_some_and(|e| e == "jsonl"),
    };
    if !jsonl {
        items.push(Item {
            name: path.display().to_string(),
            prompt: Vec::new(),
            tokens: tokenizer.encode(&text),
        });
        return Ok(());
    }
    for (line, object) in objects(&text) {
        let error = |message| InputError::Line {
            path: path.to_owned(),
            line,
            message,
        };
        let object = object.map_err(error)?;
        let tokens = answer(&object, tokenizer).map_err(error)?;
        let prompt = prompt(&object, tokenizer)
            .map_err(error)?
            .unwrap_or_default();
        items.push(Item {
            name: format!("{}:{line}", path.display()),
            prompt,
            tokens,
        });
    }
    Ok(())
}

/// Prompts of a JSONL file, with their text where there is one.
pub(crate) fn read_prompts(
    path: &Path,
    tokenizer: &dyn Tokenizer,
) -> Result<Vec<(String, Vec<u32>)>, InputError> {
    let text = read_text(path)?;
    objects(&text)
        .map(|(line, object)| {
            let error = |message| InputError::Line {
                path: path.to_owned(),
                line,
                message,
            };
            let object = object.map_err(error)?;
            let tokens = prompt(&object, tokenizer)
                .map_err(error)?
                .ok_or_else(|| error(format!("no field `{PROMPT_TEXT}` or `{PROMPT_IDS}`")))?;
            let text = object.get(PROMPT_TEXT).and_then(Value::as_str);
            let text = text.map_or_else(|| tokenizer.decode(&tokens), str::to_owned);
            Ok((text, tokens))
        })
        .collect()
}

type Object = serde_json::Map<String, Value>;

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

fn answer(object: &Object, tokenizer: &dyn Tokenizer) -> Result<Vec<u32>, String> {
    for field in ANSWER_IDS {
        if let Some(value) = object.get(field) {
            return ids(field, value, tokenizer);
        }
    }
    for field in ANSWER_TEXT {
        if let Some(value) = object.get(field) {
            return Ok(tokenizer.encode(string(field, value)?));
        }
    }
    let known: Vec<&str> = ANSWER_IDS.into_iter().chain(ANSWER_TEXT).collect();
    Err(format!(
        "no known text field; give one of {}",
        known.join(", ")
    ))
}

fn prompt(object: &Object, tokenizer: &dyn Tokenizer) -> Result<Option<Vec<u32>>, String> {
    if let Some(value) = object.get(PROMPT_IDS) {
        return ids(PROMPT_IDS, value, tokenizer).map(Some);
    }
    match object.get(PROMPT_TEXT) {
        Some(value) => Ok(Some(tokenizer.encode(string(PROMPT_TEXT, value)?))),
        None => Ok(None),
    }
}

fn string<'v>(field: &str, value: &'v Value) -> Result<&'v str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("field `{field}` is not a string"))
}

fn ids(field: &str, value: &Value, tokenizer: &dyn Tokenizer) -> Result<Vec<u32>, String> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("field `{field}` is not a list of token ids"))?;
    let vocabulary = tokenizer.vocab_size();
    list.iter()
        .map(|id| match id.as_u64() {
            Some(id) if id < vocabulary as u64 => Ok(id as u32),
            _ => Err(format!(
                "field `{field}`: {id} is no id of this vocabulary of {vocabulary}; were the ids made with another tokenizer?"
            )),
        })
        .collect()
}
