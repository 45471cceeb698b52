//! Transcripts: one line a response, with its exact bytes, each chained to the line before it.
//!
//! A line is one of a batch's output file (`custom_id`, `response`, `error`) with `x_wmk`. `x_wmk.prev` is the SHA-256 of the
//! previous line's bytes without its end; that of the first line is the SHA-256 of `collection.json`, so that the
//! parameters are part of the chain. `x_wmk.seq` counts lines from 0. Every attempt has its line,
//! failed ones too: `error` is set, so that readers skip them.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::CollectError;

/// The field that makes a line one of a transcript.
pub(crate) const FIELD: &str = "x_wmk";

/// The SHA-256 of some bytes, in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    watermark_core::hex(&Sha256::digest(bytes))
}

/// One response, in the form of a line of a batch's output.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record<Body = Value, Own = Custody> {
    pub(crate) custom_id: String,
    pub(crate) response: Option<Response<Body>>,
    pub(crate) error: Option<Failure>,
    pub(crate) x_wmk: Own,
}

/// The schema of a line of a transcript: a [`Record`] of the tool's own, or a line of others, which keeps its fields and
/// has custody besides.
#[cfg(test)]
pub(crate) struct Line;

#[cfg(test)]
impl JsonSchema for Line {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TranscriptLine".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let custody = generator.subschema_for::<Custody>();
        schemars::json_schema!({
            "description": "One line of a collection's `transcript.jsonl`: a response that the tool received itself, or a line of others, which keeps its own fields",
            "anyOf": [
                generator.subschema_for::<Record>(),
                {
                    "type": "object",
                    "properties": {
                        "x_wmk": {
                            "allOf": [custody, {
                                "properties": {"origin": {"const": "imported"}},
                                "additionalProperties": true,
                            }],
                        },
                    },
                    "required": ["x_wmk"],
                    "additionalProperties": true,
                },
            ],
        })
    }
}

/// What came back, as JSON.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Response<Body = Value> {
    pub(crate) status_code: u16,
    /// The server's name for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// `null` where the bytes are no JSON.
    pub(crate) body: Body,
}

/// Why this is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    /// The endpoint may have written, and counted, all that it was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) maybe_charged: bool,
}

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// The tool itself received it.
    Observed,
    /// Others did.
    Imported,
}

/// What a response is to the collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// An answer: never asked again.
    Answered,
    /// A refusal that another attempt would not change.
    Refused,
    /// A failed attempt.
    Failed,
}

/// Bytes: as text where they are UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Raw {
    Text(String),
    /// Standard base64 of bytes that are not.
    Bytes {
        base64: String,
    },
}

impl Raw {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(
            |error| Self::Bytes {
                base64: base64::engine::general_purpose::STANDARD.encode(error.as_bytes()),
            },
            Self::Text,
        )
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Bytes { base64 } => base64::engine::general_purpose::STANDARD
                .decode(base64)
                .ok(),
        }
    }
}

/// Tokens as the server counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

/// The custody of one line.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Custody {
    pub(crate) seq: u64,
    pub(crate) origin: Origin,
    pub(crate) outcome: Outcome,
    /// From 1; a number that is missing was in flight when a run was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sent_at: Option<String>,
    /// When the last byte came; of an imported line, when it was imported.
    pub(crate) recv_at: String,
    /// Of the request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) req_sha256: Option<String>,
    /// File and line that an imported line comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) raw: Raw,
    pub(crate) raw_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
    pub(crate) prev: String,
}

/// Where and how a chain is broken.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct Broken {
    pub(crate) line: u64,
    pub(crate) what: String,
}

/// Follows a chain line by line.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The next `prev`; unknown before the first line where there is no `collection.json`.
    prev: Option<String>,
    seq: u64,
}

impl Chain {
    /// A chain whose first `prev` is `start`, where that is known.
    pub(crate) fn new(start: Option<String>) -> Self {
        Self {
            prev: start,
            seq: 0,
        }
    }

    /// The digest of the last line.
    pub(crate) fn head(&self) -> Option<&str> {
        self.prev.as_deref()
    }

    /// Lines so far.
    pub(crate) fn lines(&self) -> u64 {
        self.seq
    }

    /// Checks the next line, given without its end, and gives what it holds.
    pub(crate) fn follow(&mut self, line: &[u8]) -> Result<Value, Broken> {
        let number = self.seq + 1;
        let broken = |what: String| Broken { line: number, what };
        let value: Value =
            serde_json::from_slice(line).map_err(|error| broken(format!("not JSON: {error}")))?;
        let custody = value.get(FIELD).ok_or_else(|| {
            broken(format!(
                "no `{FIELD}` among lines that have it: the line was put in, or its custody record taken out"
            ))
        })?;
        let custody =
            Custody::deserialize(custody).map_err(|error| broken(format!("`{FIELD}`: {error}")))?;
        if custody.origin == Origin::Observed {
            Record::<IgnoredAny, IgnoredAny>::deserialize(&value)
                .map_err(|error| broken(error.to_string()))?;
        }
        if custody.seq != self.seq {
            return Err(broken(format!(
                "`seq` is {}, where {} comes next: lines were taken out, put in or exchanged",
                custody.seq, self.seq
            )));
        }
        match &self.prev {
            Some(prev) if custody.prev != *prev => {
                let before = match self.seq {
                    0 => "collection.json".to_owned(),
                    line => format!("line {line}"),
                };
                return Err(broken(format!(
                    "`prev` is not the digest of {before}, which was changed after this line was written"
                )));
            }
            None if custody.prev.len() != 64 => {
                return Err(broken("`prev` is no SHA-256".to_owned()));
            }
            _ => {}
        }
        let raw = custody.raw.bytes();
        let raw = raw.ok_or_else(|| broken("`raw` is no base64".to_owned()))?;
        if sha256(&raw) != custody.raw_sha256 {
            return Err(broken("`raw_sha256` is not that of `raw`".to_owned()));
        }
        if !holds(&value, &custody, &raw) {
            return Err(broken("its fields are not what `raw` says".to_owned()));
        }
        self.prev = Some(sha256(line));
        self.seq += 1;
        Ok(value)
    }
}

/// Whether the parsed part of a line is what its bytes say.
fn holds(value: &Value, custody: &Custody, raw: &[u8]) -> bool {
    let parsed = serde_json::from_slice::<Value>(raw).ok();
    match custody.origin {
        Origin::Observed => {
            let Some(response) = value.get("response").filter(|value| !value.is_null()) else {
                return custody.outcome == Outcome::Failed;
            };
            let body = response.get("body").unwrap_or(&Value::Null);
            match parsed {
                Some(parsed) => *body == parsed,
                None => body.is_null(),
            }
        }
        Origin::Imported => {
            // An imported transcript's own custody stays in its bytes.
            let without = |mut line: Value| {
                if let Some(object) = line.as_object_mut() {
                    object.remove(FIELD);
                }
                line
            };
            parsed.map(without) == Some(without(value.clone()))
        }
    }
}

/// Checks a whole transcript, where the text is one; other texts pass. `start` is the digest of its
/// `collection.json`, where that is known.
pub(crate) fn verify(text: &str, start: Option<String>) -> Result<(), Broken> {
    let mark = format!("\"{FIELD}\"");
    if !text.contains(&mark) {
        return Ok(());
    }
    let is_line = |line: &&str| !line.trim().is_empty();
    let parsed = text.lines().filter(is_line).any(|line| {
        let value = serde_json::from_str::<Value>(line).ok();
        value.is_some_and(|value| value.get(FIELD).is_some())
    });
    if !parsed {
        return Ok(());
    }
    let Some(whole) = text.strip_suffix('\n') else {
        return Err(Broken {
            line: text.lines().count() as u64,
            what: "the last line has no end: the collector is at work, or was killed; `watermark collect resume` drops or completes it".to_owned(),
        });
    };
    let mut chain = Chain::new(start);
    whole
        .split('\n')
        .try_for_each(|line| chain.follow(line.as_bytes()).map(drop))
}

/// A line that was not written to its end.
#[derive(Debug)]
pub(crate) struct Torn {
    pub(crate) bytes: Vec<u8>,
}

/// A transcript open for writing: what is in it was verified.
#[derive(Debug)]
pub(crate) struct Transcript {
    file: File,
    path: PathBuf,
    chain: Chain,
    /// Bytes of whole lines.
    length: u64,
}

impl Transcript {
    /// Opens a transcript, verifies its chain from `start` and shows every line. A last line that is whole but
    /// for its end gets it; any other torn last line is cut off and given back.
    pub(crate) fn open(
        path: &Path,
        start: &str,
        visit: &mut dyn FnMut(Value),
    ) -> Result<(Self, Option<Torn>), CollectError> {
        let io = |source| CollectError::io(path, source);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        let mut chain = Chain::new(Some(start.to_owned()));
        let (length, rest) = read(path, &mut BufReader::new(&file), &mut chain, visit)?;
        let mut transcript = |chain, length| -> Result<_, CollectError> {
            file.set_len(length).map_err(io)?;
            file.seek(SeekFrom::Start(length)).map_err(io)?;
            let file = file.try_clone().map_err(io)?;
            let path = path.to_owned();
            Ok(Self {
                file,
                path,
                chain,
                length,
            })
        };
        if rest.is_empty() {
            return Ok((transcript(chain, length)?, None));
        }
        if let Ok(value) = chain.follow(&rest) {
            visit(value);
            let whole = length + rest.len() as u64;
            let mut transcript = transcript(chain, whole)?;
            transcript.write(b"\n")?;
            transcript.length = whole + 1;
            return Ok((transcript, None));
        }
        let transcript = transcript(chain, length)?;
        transcript.file.sync_all().map_err(io)?;
        Ok((transcript, Some(Torn { bytes: rest })))
    }

    /// The digest of the last line.
    pub(crate) fn head(&self) -> &str {
        self.chain.head().unwrap_or_default()
    }

    /// Appends a line: one write, on disk when this returns. `line` gets `seq` and `prev` here.
    pub(crate) fn append(&mut self, mut line: Value) -> Result<(), CollectError> {
        let custody = line.get_mut(FIELD).and_then(Value::as_object_mut);
        if let Some(custody) = custody {
            custody.insert("seq".to_owned(), self.chain.lines().into());
            custody.insert("prev".to_owned(), self.head().into());
        }
        let mut bytes = line.to_string().into_bytes();
        let digest = sha256(&bytes);
        bytes.push(b'\n');
        self.write(&bytes)?;
        self.length += bytes.len() as u64;
        self.chain = Chain {
            prev: Some(digest),
            seq: self.chain.lines() + 1,
        };
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CollectError> {
        let written = self
            .file
            .write_all(bytes)
            .and_then(|()| self.file.sync_data());
        written.map_err(|source| {
            // A full disk must not leave half a line before the next one.
            let _ = self.file.set_len(self.length);
            CollectError::io(&self.path, source)
        })
    }
}

/// Reads and verifies a transcript without writing; gives the chain and what follows the last whole line.
pub(crate) fn look(
    path: &Path,
    start: &str,
    visit: &mut dyn FnMut(Value),
) -> Result<(Chain, usize), CollectError> {
    let mut chain = Chain::new(Some(start.to_owned()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((chain, 0)),
        Err(source) => return Err(CollectError::io(path, source)),
    };
    let (_, rest) = read(path, &mut BufReader::new(file), &mut chain, visit)?;
    Ok((chain, rest.len()))
}

/// All whole lines; the bytes of those, and what comes after them.
fn read(
    path: &Path,
    from: &mut dyn BufRead,
    chain: &mut Chain,
    visit: &mut dyn FnMut(Value),
) -> Result<(u64, Vec<u8>), CollectError> {
    let mut length = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = from.read_until(b'\n', &mut line);
        read.map_err(|source| CollectError::io(path, source))?;
        if line.last() != Some(&b'\n') {
            return Ok((length, line));
        }
        length += line.len() as u64;
        line.pop();
        let value = chain.follow(&line).map_err(|source| CollectError::Chain {
            path: path.to_owned(),
            source,
        })?;
        visit(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(id: &str, raw: &str) -> Value {
        let body: Value = serde_json::from_str(raw).unwrap();
        json!({
            "custom_id": id, "response": {"status_code": 200, "body": body}, "error": null,
            "x_wmk": {
                "seq": 0, "origin": "observed", "outcome": "answered", "attempt": 1,
                "sent_at": "2026-01-01T00:00:00.000Z", "recv_at": "2026-01-01T00:00:01.000Z",
                "req_sha256": sha256(b""), "raw": raw, "raw_sha256": sha256(raw.as_bytes()),
                "prev": "",
            },
        })
    }

    fn open(path: &Path) -> (Transcript, Option<Torn>, usize) {
        let mut lines = 0;
        let (transcript, torn) =
            Transcript::open(path, &sha256(b"start"), &mut |_| lines += 1).unwrap();
        (transcript, torn, lines)
    }

    #[test]
    fn a_transcript_cut_anywhere_goes_on_with_its_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        let (mut transcript, ..) = open(&path);
        for id in ["a", "b", "c"] {
            let raw = format!("{{\"x\":  1.50, \"id\": \"{id}\"}}");
            transcript.append(line(id, &raw)).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let ends: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'\n').collect();
        // Around the ends of lines everywhere, else in steps: every cut costs a few syncs.
        let near = |cut: usize| ends.iter().any(|&end| cut + 2 > end && cut < end + 4);
        for cut in (0..=bytes.len()).filter(|&cut| cut % 41 == 0 || near(cut)) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let (mut transcript, torn, lines) = open(&path);
            // A line that lacks only its end is whole.
            let whole = ends.iter().filter(|&&end| cut >= end).count();
            assert_eq!(lines, whole, "cut at {cut}");
            let at_end = cut == 0 || ends.iter().any(|&end| cut == end || cut == end + 1);
            assert_eq!(torn.is_none(), at_end, "cut at {cut}");
            transcript.append(line("d", "{}")).unwrap();
            drop(transcript);
            let text = std::fs::read_to_string(&path).unwrap();
            verify(&text, Some(sha256(b"start"))).unwrap();
            assert_eq!(text.lines().count(), whole + 1);
        }
    }

    #[test]
    fn every_change_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        let (mut transcript, ..) = open(&path);
        for id in ["a", "b", "c"] {
            transcript.append(line(id, "{\"text\": \"word\"}")).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let start = || Some(sha256(b"start"));
        verify(&text, start()).unwrap();
        verify(&text, None).unwrap();
        let join = |lines: &[&str]| format!("{}\n", lines.join("\n"));
        let broken = |text: &str| verify(text, start()).unwrap_err();
        assert_eq!(broken(&join(&[lines[0], lines[2]])).line, 2);
        assert_eq!(broken(&join(&[lines[1], lines[0], lines[2]])).line, 1);
        assert_eq!(
            broken(&join(&[lines[0], lines[0], lines[1], lines[2]])).line,
            2
        );
        assert_eq!(
            broken(&join(&[lines[0], "{\"text\": \"x\"}", lines[1]])).line,
            2
        );
        // A changed word: in the bytes, in the parsed part, in both.
        let first = lines[0];
        assert!(first.matches("word").count() == 2);
        for (text, words) in [
            (first.replacen("word", "work", 1), "raw"),
            (first.replace("word", "work"), "raw_sha256"),
        ] {
            let error = broken(&join(&[&text, lines[1], lines[2]]));
            assert!(error.line == 1 && error.what.contains(words), "{error}");
        }
        let last = text.trim_end();
        assert!(broken(last).what.contains("no end"));
        assert_eq!(verify(&text, Some(sha256(b"other"))).unwrap_err().line, 1);
        // Ordinary texts are none of its business.
        verify("{\"text\": \"\\\"x_wmk\\\"\"}\n", None).unwrap();
        verify("plain", None).unwrap();
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let raw = Raw::new(vec![0xff, 0x00, b'a']);
        assert!(matches!(raw, Raw::Bytes { .. }));
        let json = serde_json::to_string(&raw).unwrap();
        let back: Raw = serde_json::from_str(&json).unwrap();
        assert_eq!(back.bytes().unwrap(), [0xff, 0x00, b'a']);
    }
}
