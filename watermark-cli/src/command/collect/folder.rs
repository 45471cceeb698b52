//! A collection's directory: what is fixed at the start, what was sent, what came back.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use watermark_core::profile::{Profile, Vocabulary};

use super::budget::{Caps, Charge, Spent};
use super::error::CollectError;
use super::prompts::{Ask, asks};
use super::time::{from_rfc3339, rfc3339};
use super::transcript::{self, Custody, FIELD, Origin, Outcome, Torn, Transcript, sha256};
use crate::cli::Api;
use crate::error::CliError;

/// What a collection is. Written once; the transcript's chain begins with its digest.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Collection {
    /// `watermark.collection`.
    #[serde(rename = "type")]
    #[schemars(extend("const" = KIND))]
    pub(super) kind: String,
    #[schemars(extend("const" = 1))]
    pub(super) schema: u32,
    /// Name and version of the tool that made it.
    pub(super) tool: String,
    pub(super) created: String,
    pub(super) origin: Origin,
    /// The URL that is asked; it holds no credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) api: Option<Api>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    /// Fields that the requests share.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) parameters: Map<String, Value>,
    pub(super) prompts: PromptsInfo,
    #[serde(default)]
    pub(super) caps: Caps,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) own_hosts: Vec<String>,
    /// The sealed plan that it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) plan: Option<PlanInfo>,
    /// Whether the collector held the key: where it did not, it could not have chosen answers by it.
    pub(super) collector_held_key: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<UntilInfo>,
    /// The files that an imported collection comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) imported: Vec<ImportInfo>,
}

impl Collection {
    /// The bytes of `collection.json`.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let json = serde_json::to_string_pretty(self).expect("a collection is plain data");
        format!("{json}\n").into_bytes()
    }
}

/// Where the prompts come from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PromptsInfo {
    /// A packaged set or a file's name.
    pub(super) source: String,
    /// SHA-256 of the set or file as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source_sha256: Option<String>,
    /// Requests.
    pub(super) count: u64,
    /// SHA-256 of `prompts.jsonl`.
    pub(super) sha256: String,
}

/// The sealed plan that a collection follows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PlanInfo {
    pub(super) id: String,
    pub(super) digest: String,
    pub(super) sealed_at: String,
}

/// The any-time test that runs beside.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UntilInfo {
    pub(super) alpha: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) planned_cells: Option<u64>,
    pub(super) key_id: String,
    pub(super) profile: Profile,
    pub(super) vocabulary: Vocabulary,
}

/// A file that was imported.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ImportInfo {
    pub(super) file: String,
    pub(super) sha256: String,
    pub(super) lines: u64,
}

pub(super) const KIND: &str = "watermark.collection";
pub(super) const TOOL: &str = concat!("watermark ", env!("CARGO_PKG_VERSION"));

/// A line of `events.log`. Not evidence: it tells requests that were never answered, and what ran when.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Event {
    Run {
        at: String,
        tool: String,
        caps: Caps,
    },
    /// Written before the request is sent.
    Sent {
        at: String,
        custom_id: String,
        attempt: u32,
    },
    /// A torn last line of the transcript was cut off.
    Torn {
        at: String,
        raw: transcript::Raw,
    },
    End {
        at: String,
        why: String,
    },
}

/// What the records of a collection add up to.
#[derive(Debug, Default)]
pub(super) struct Book {
    answered: HashSet<String>,
    refused: HashSet<String>,
    /// The highest attempt, by id.
    attempts: HashMap<String, u32>,
    /// Attempts that were sent and have no record.
    open: HashSet<(String, u32)>,
    pub(super) spent: Spent,
    pub(super) lines: u64,
    pub(super) failed_attempts: u64,
    pub(super) imported: u64,
    /// Answers whose ids are no request of this collection.
    pub(super) foreign: u64,
    /// Digest of an answer's text and of its prompt, with the numbers of such answers.
    texts: HashMap<String, HashMap<String, u64>>,
    /// When answers came.
    pub(super) times: Vec<SystemTime>,
}

/// Answers that say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Repeats {
    /// Answers that another one to the same prompt equals.
    pub(super) same_prompt: u64,
    /// Answers that one to another prompt equals.
    pub(super) other_prompt: u64,
}

impl Book {
    pub(super) fn is_done(&self, id: &str) -> bool {
        self.answered.contains(id) || self.refused.contains(id)
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.len() as u64
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.len() as u64
    }

    /// Requests without a record: on their way, or lost when a run was killed.
    pub(super) fn open(&self) -> u64 {
        self.open.len() as u64
    }

    pub(super) fn attempt(&self, id: &str) -> u32 {
        self.attempts.get(id).copied().unwrap_or(0)
    }

    pub(super) fn forget_refusals(&mut self) {
        self.refused.clear();
    }

    pub(super) fn sent(&mut self, id: &str, attempt: u32) {
        let last = self.attempts.entry(id.to_owned()).or_default();
        *last = attempt.max(*last);
        self.open.insert((id.to_owned(), attempt));
    }

    /// Takes a line of the transcript in.
    pub(super) fn record(&mut self, line: &Value, asks: &HashMap<&str, &Ask>) {
        let Some(custody) = line.get(FIELD).and_then(|c| Custody::deserialize(c).ok()) else {
            return;
        };
        self.lines += 1;
        self.imported += u64::from(custody.origin == Origin::Imported);
        let id = line.get("custom_id").and_then(Value::as_str).unwrap_or("");
        let ask = asks.get(id);
        let attempt = custody.attempt.unwrap_or(1);
        if custody.origin == Origin::Observed {
            let last = self.attempts.entry(id.to_owned()).or_default();
            *last = attempt.max(*last);
            self.open.remove(&(id.to_owned(), attempt));
            self.spent.requests += 1;
            self.foreign += u64::from(ask.is_none());
        }
        let worst = ask.map(|ask| ask.worst).unwrap_or_default();
        self.spent.add(worst, charge(&custody, line));
        match custody.outcome {
            Outcome::Answered => {
                self.spent.answers += 1;
                self.refused.remove(id);
                let id = match custody.source {
                    Some(source) => source,
                    None => id.to_owned(),
                };
                self.answered.insert(id);
                self.times.extend(from_rfc3339(&custody.recv_at));
                // Greedy answers to one prompt are equal by right.
                let drawn = ask.is_none_or(|ask| ask.drawn);
                if let (Some(text), true) = (text_of(line), drawn) {
                    let prompt = ask.map_or(String::new(), |ask| ask.prompt.clone());
                    let by_prompt = self.texts.entry(text).or_default();
                    *by_prompt.entry(prompt).or_default() += 1;
                }
            }
            Outcome::Refused => {
                self.refused.insert(id.to_owned());
            }
            Outcome::Failed => self.failed_attempts += 1,
        }
    }

    /// Requests that were sent by runs that ended without their records count at their worst.
    fn charge_lost(&mut self, asks: &HashMap<&str, &Ask>) {
        for (id, _) in &self.open {
            let worst = asks.get(id.as_str()).map(|ask| ask.worst);
            self.spent.requests += 1;
            self.spent.add(worst.unwrap_or_default(), Charge::Worst);
        }
    }

    pub(super) fn repeats(&self) -> Repeats {
        let mut repeats = Repeats::default();
        for by_prompt in self.texts.values() {
            let all: u64 = by_prompt.values().sum();
            if by_prompt.len() > 1 {
                repeats.other_prompt += all;
            }
            repeats.same_prompt += by_prompt.values().filter(|&&n| n > 1).sum::<u64>();
        }
        repeats
    }
}

/// What a line says about its tokens.
fn charge(custody: &Custody, line: &Value) -> Charge {
    if custody.origin == Origin::Imported {
        return custody.usage.map_or(Charge::Nothing, Charge::Told);
    }
    match (custody.usage, custody.outcome) {
        (Some(usage), _) => Charge::Told(usage),
        (None, Outcome::Answered) => Charge::Worst,
        (None, _) if line.pointer("/error/maybe_charged") == Some(&Value::Bool(true)) => {
            Charge::Worst
        }
        (None, _) => Charge::Nothing,
    }
}

/// A digest of everything that an answer says; none where it says nothing.
fn text_of(line: &Value) -> Option<String> {
    let body = line.pointer("/response/body").unwrap_or(line);
    let Some(choices) = body.get("choices").and_then(Value::as_array) else {
        let text = body.get("text").and_then(Value::as_str)?;
        return (!text.is_empty()).then(|| sha256(text.as_bytes()));
    };
    let part = |choice: &Value| {
        let message = choice.get("message").unwrap_or(choice);
        ["reasoning_content", "reasoning", "content", "text"]
            .iter()
            .filter_map(|&field| message.get(field).filter(|text| !text.is_null()))
            .map(ToString::to_string)
            .collect::<String>()
    };
    let text: String = choices.iter().map(part).collect();
    (!text.is_empty() && text != "\"\"").then(|| sha256(text.as_bytes()))
}

/// A collection's directory as it stands.
#[derive(Debug)]
pub(super) struct View {
    pub(super) dir: PathBuf,
    pub(super) collection: Collection,
    /// SHA-256 of `collection.json`.
    pub(super) digest: String,
    pub(super) asks: Vec<Ask>,
    pub(super) book: Book,
    /// Bytes of `events.log` that are whole lines.
    events: u64,
}

pub(super) fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}

const COLLECTION: &str = "collection.json";
const PROMPTS: &str = "prompts.jsonl";
pub(super) const TRANSCRIPT: &str = "transcript.jsonl";
const EVENTS: &str = "events.log";

impl View {
    /// Reads all but the transcript.
    pub(super) fn of(dir: &Path) -> Result<Self, CliError> {
        let file = path(dir, COLLECTION);
        let json = match std::fs::read_to_string(&file) {
            Ok(json) => json,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(CollectError::NoCollection(dir.to_owned()).into());
            }
            Err(source) => return Err(CollectError::io(&file, source).into()),
        };
        let content = |message: String| CollectError::Content {
            path: file.clone(),
            message,
        };
        let collection: Collection =
            serde_json::from_str(&json).map_err(|error| content(error.to_string()))?;
        if collection.kind != KIND || collection.schema != 1 {
            return Err(content(format!("not a {KIND} of schema 1")).into());
        }
        let prompts = path(dir, PROMPTS);
        let text = crate::input::read_text(&prompts)?;
        let found = sha256(text.as_bytes());
        if found != collection.prompts.sha256 {
            return Err(CollectError::Changed {
                path: prompts,
                wanted: collection.prompts.sha256,
                found,
            }
            .into());
        }
        let mut view = Self {
            dir: dir.to_owned(),
            digest: sha256(json.as_bytes()),
            asks: asks(&prompts, &text)?,
            collection,
            book: Book::default(),
            events: 0,
        };
        view.read_events()?;
        Ok(view)
    }

    fn read_events(&mut self) -> Result<(), CollectError> {
        let file = path(&self.dir, EVENTS);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(CollectError::io(&file, source)),
        };
        let whole = bytes.iter().rposition(|&byte| byte == b'\n');
        let whole = whole.map_or(0, |at| at + 1);
        self.events = whole as u64;
        for (index, line) in bytes[..whole].split(|&byte| byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(Event::Sent {
                    custom_id, attempt, ..
                }) => self.book.sent(&custom_id, attempt),
                Ok(_) => {}
                Err(error) => {
                    return Err(CollectError::Content {
                        path: file,
                        message: format!("line {}: {error}", index + 1),
                    });
                }
            }
        }
        Ok(())
    }

    /// Reads and verifies a collection without writing. Gives the digest of the transcript's last line and the
    /// bytes of an unfinished one.
    pub(super) fn look(dir: &Path) -> Result<(Self, String, usize), CliError> {
        let mut view = Self::of(dir)?;
        let asks = by_id(&view.asks);
        let mut book = std::mem::take(&mut view.book);
        let file = path(dir, TRANSCRIPT);
        let (chain, rest) = transcript::look(&file, &view.digest, &mut |line| {
            book.record(&line, &asks);
        })?;
        book.charge_lost(&asks);
        drop(asks);
        view.book = book;
        let head = chain.head().unwrap_or_default().to_owned();
        Ok((view, head, rest))
    }
}

fn by_id(asks: &[Ask]) -> HashMap<&str, &Ask> {
    asks.iter().map(|ask| (ask.id.as_str(), ask)).collect()
}

/// A collection open for writing, by one process at a time.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) view: View,
    pub(super) transcript: Transcript,
    events: File,
    /// Held until this is dropped or the process ends.
    _lock: File,
}

/// Takes the directory's lock. `status` may hold it for an instant.
fn lock(dir: &Path) -> Result<File, CollectError> {
    let file = path(dir, "lock");
    let io = |source| CollectError::io(&file, source);
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .map_err(io)?;
    let patience = Instant::now() + Duration::from_secs(1);
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(CollectError::Locked(dir.to_owned()));
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
    }
}

/// Whether a collector is at work.
pub(super) fn is_locked(dir: &Path) -> bool {
    let Ok(file) = File::open(path(dir, "lock")) else {
        return false;
    };
    matches!(
        file.try_lock_shared(),
        Err(std::fs::TryLockError::WouldBlock)
    )
}

fn sync(dir: &Path) -> Result<(), CollectError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| CollectError::io(dir, source))
}

impl Folder {
    /// Makes a collection. `collection.json` comes last: without it there is none, and `run` may begin again.
    pub(super) fn create(
        dir: &Path,
        collection: &Collection,
        prompts: &[u8],
        transcript: Option<&[u8]>,
    ) -> Result<(), CliError> {
        std::fs::create_dir_all(dir).map_err(CliError::io(dir))?;
        let _lock = lock(dir)?;
        Self::check_new(dir)?;
        let files = [
            (PROMPTS, Some(prompts)),
            (TRANSCRIPT, transcript),
            (COLLECTION, Some(&*collection.to_bytes())),
        ];
        for (name, bytes) in files {
            if let Some(bytes) = bytes {
                crate::render::write_file(&path(dir, name), bytes)?;
                sync(dir)?;
            }
        }
        Ok(())
    }

    /// Whether a collection can begin here.
    pub(super) fn check_new(dir: &Path) -> Result<(), CollectError> {
        if path(dir, COLLECTION).exists() {
            return Err(CollectError::Exists(dir.to_owned()));
        }
        if path(dir, TRANSCRIPT).exists() {
            return Err(CollectError::Content {
                path: path(dir, TRANSCRIPT),
                message: "a transcript without its collection.json; choose another directory"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// Opens a collection to go on with it: its chain is verified, a torn last line is cut off, and said on
    /// standard error. `answers` is shown every line of the transcript.
    pub(super) fn open(dir: &Path, answers: &mut dyn FnMut(&Value)) -> Result<Self, CliError> {
        if !path(dir, COLLECTION).exists() {
            return Err(CollectError::NoCollection(dir.to_owned()).into());
        }
        let lock = lock(dir)?;
        let mut view = View::of(dir)?;
        let asks = by_id(&view.asks);
        let mut book = std::mem::take(&mut view.book);
        let file = path(dir, TRANSCRIPT);
        let (transcript, torn) = Transcript::open(&file, &view.digest, &mut |line| {
            book.record(&line, &asks);
            answers(&line);
        })?;
        sync(dir)?;
        book.charge_lost(&asks);
        drop(asks);
        view.book = book;
        let file = path(dir, EVENTS);
        let io = |source| CollectError::io(&file, source);
        let mut events = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(io)?;
        events
            .set_len(view.events)
            .and_then(|()| events.seek(SeekFrom::Start(view.events)).map(drop))
            .map_err(io)?;
        let mut folder = Self {
            view,
            transcript,
            events,
            _lock: lock,
        };
        if let Some(Torn { bytes }) = torn {
            eprintln!(
                "warning: {}: the last line was not written to its end ({} bytes); it is cut off, kept in {EVENTS}, and its request is asked again",
                path(dir, TRANSCRIPT).display(),
                bytes.len()
            );
            folder.note(&Event::Torn {
                at: rfc3339(SystemTime::now()),
                raw: transcript::Raw::new(bytes),
            })?;
        }
        Ok(folder)
    }

    /// Appends to `events.log`.
    pub(super) fn note(&mut self, event: &Event) -> Result<(), CollectError> {
        let mut line = serde_json::to_vec(event).expect("an event is plain data");
        line.push(b'\n');
        self.events
            .write_all(&line)
            .map_err(|source| CollectError::io(&path(&self.view.dir, EVENTS), source))
    }

    /// Notes that a request is about to be sent; gives the attempt's number.
    pub(super) fn sending(&mut self, index: usize) -> Result<u32, CollectError> {
        let id = self.view.asks[index].id.clone();
        let attempt = self.view.book.attempt(&id) + 1;
        self.view.book.sent(&id, attempt);
        self.note(&Event::Sent {
            at: rfc3339(SystemTime::now()),
            custom_id: id,
            attempt,
        })?;
        Ok(attempt)
    }

    /// Writes a line of the transcript; it counts once it is on disk.
    pub(super) fn keep(&mut self, index: usize, line: &Value) -> Result<(), CollectError> {
        self.transcript.append(line.clone())?;
        // What was spent is counted by the budget of the run.
        let spent = self.view.book.spent;
        let ask = &self.view.asks[index];
        let asks = HashMap::from([(ask.id.as_str(), ask)]);
        self.view.book.record(line, &asks);
        self.view.book.spent = spent;
        Ok(())
    }
}
