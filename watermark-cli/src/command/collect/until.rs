//! The any-time test beside a collection: every answer is taken in, in the order of the transcript.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use watermark_core::anytime::{Advice, Event, Look, Stopping, Watch};
use watermark_core::profile::{Mark, Profile, Vocabulary};
use watermark_core::text::HfTokenizer;

use super::error::CollectError;
use super::folder::UntilInfo;
use crate::cli::{KeyArgs, KeySource, UntilKeyArgs};
use crate::error::CliError;
use crate::input;

const STATE: &str = "watch.json";

/// Between looks the answers grow by a fiftieth at least: a look reads every cell.
const GROWTH: u64 = 50;

/// The key and the vocabulary of the test.
pub(super) struct Opened {
    mark: Mark,
    tokenizer: HfTokenizer,
}

impl Opened {
    pub(super) fn new(profile: &Profile, arguments: &UntilKeyArgs) -> Result<Self, CliError> {
        let wrap = |source| CliError::Profile {
            name: profile.id.clone(),
            source,
        };
        let tokenizer = crate::mark::tokenizer(arguments.tokenizer.as_deref())?;
        profile.check_tokenizer(&tokenizer).map_err(wrap)?;
        if !arguments.is_given() {
            return Err(CliError::Usage(
                "the any-time test needs its key: give --key-file or --key-command".into(),
            ));
        }
        let key = KeyArgs {
            source: KeySource {
                key_file: arguments.key_file.clone(),
                key_command: arguments.key_command.clone(),
                allow_insecure_key_perms: false,
            },
            epoch: arguments.epoch.clone(),
            slot: arguments.slot,
        };
        let mark = key.read_any()?.bind(profile, &profile.id)?;
        Ok(Self { mark, tokenizer })
    }

    pub(super) fn mark(&self) -> &Mark {
        &self.mark
    }

    pub(super) fn info(&self, alpha: f64, planned_cells: Option<u64>) -> UntilInfo {
        UntilInfo {
            alpha,
            planned_cells,
            key_id: self.mark.key_id().to_string(),
            profile: self.mark.profile().clone(),
            vocabulary: Vocabulary::of(&self.tokenizer),
        }
    }
}

/// A running test.
pub(super) struct Until<'o> {
    opened: &'o Opened,
    watch: Watch<'o>,
    stopping: Stopping,
    state: PathBuf,
    /// Answers of the state that the transcript has not shown yet.
    known: std::vec::IntoIter<Vec<u32>>,
    /// Answers that the transcript has shown.
    shown: usize,
    /// Tokens, and tokens at the last look.
    tokens: u64,
    looked: u64,
    last: Option<Look>,
}

impl<'o> Until<'o> {
    /// Begins a test, or goes on with the state in the directory. `requests` is the text of `prompts.jsonl`: all of
    /// it is excluded before the first answer.
    pub(super) fn open(
        opened: &'o Opened,
        info: &UntilInfo,
        dir: &Path,
        requests: &str,
    ) -> Result<Self, CliError> {
        let (key, now) = (opened.mark.key_id().to_string(), &info.key_id);
        if key != *now {
            return Err(CliError::Usage(format!(
                "--key-file: key {key}, and the collection is watched under key {now}"
            )));
        }
        let vocabulary = Vocabulary::of(&opened.tokenizer);
        if vocabulary != info.vocabulary {
            return Err(CliError::Usage(
                "--tokenizer: not the one that the collection was begun with".into(),
            ));
        }
        let state = dir.join(STATE);
        let mut watch = match state.exists() {
            false => Watch::new(&opened.mark, Some(vocabulary)),
            true => {
                let json = input::read_text(&state)?;
                Watch::resume(&opened.mark, Some(vocabulary), &json).map_err(|source| {
                    CliError::State {
                        path: state.clone(),
                        source,
                    }
                })?
            }
        };
        let mut excluded = HashSet::new();
        for line in requests.lines() {
            let contexts = input::request_of(line, &opened.tokenizer);
            for context in contexts.map_err(|message| CollectError::Content {
                path: dir.join("prompts.jsonl"),
                message,
            })? {
                if excluded.insert(context.clone()) {
                    watch.exclude(&context);
                }
            }
        }
        let known: Vec<Vec<u32>> = watch.state().events.iter().filter_map(answer).collect();
        Ok(Self {
            opened,
            watch,
            stopping: Stopping {
                alpha: info.alpha,
                planned: info.planned_cells,
            },
            state,
            known: known.into_iter(),
            shown: 0,
            tokens: 0,
            looked: 0,
            last: None,
        })
    }

    /// Takes a line of the transcript in without a look.
    fn push(&mut self, line: &Value) -> Result<(), CliError> {
        let segments = input::answer_of(line, &self.opened.tokenizer);
        let segments = segments.map_err(|message| CollectError::Content {
            path: self.state.with_file_name("transcript.jsonl"),
            message: format!("answer {}: {message}", self.shown + 1),
        })?;
        for segment in segments {
            self.shown += 1;
            self.tokens += segment.len() as u64;
            match self.known.next() {
                None => self.watch.push(&segment),
                Some(known) if known == segment => {}
                Some(_) => {
                    return Err(CliError::StateAnswers {
                        path: self.state.clone(),
                        answer: self.shown,
                    });
                }
            }
        }
        Ok(())
    }

    /// Takes in what earlier runs collected, and looks.
    pub(super) fn catch_up(&mut self, lines: &[Value]) -> Result<(), CliError> {
        lines.iter().try_for_each(|line| self.push(line))?;
        if let Some(known) = self.known.next() {
            // Answers that the transcript lost cannot be taken back out of a bet.
            return Err(CollectError::Content {
                path: self.state.clone(),
                message: format!(
                    "it holds an answer of {} tokens behind those of the transcript",
                    known.len()
                ),
            }
            .into());
        }
        match self.shown {
            0 => Ok(()),
            _ => self.look(),
        }
    }

    /// Takes the next answer in; whether to stop.
    pub(super) fn take(&mut self, line: &Value) -> Result<bool, CliError> {
        self.push(line)?;
        if self.tokens - self.looked > self.looked / GROWTH {
            self.look()?;
        }
        Ok(self.is_over())
    }

    fn look(&mut self) -> Result<(), CliError> {
        self.looked = self.tokens;
        self.last = Some(self.watch.look(&self.stopping));
        let json = serde_json::to_string(self.watch.state()).expect("a state is plain data");
        crate::render::write_file(&self.state, json.as_bytes())
    }

    /// A last look at everything that was taken in.
    pub(super) fn finish(&mut self) -> Result<Option<Look>, CliError> {
        if self.tokens > self.looked {
            self.look()?;
        }
        Ok(self.last)
    }

    /// Decided, or futile.
    pub(super) fn is_over(&self) -> bool {
        self.last.is_some_and(|look| look.advice != Advice::GoOn)
    }
}

fn answer(event: &Event) -> Option<Vec<u32>> {
    match event {
        Event::Answer(answer) => Some(answer.clone()),
        Event::Prompt(_) => None,
    }
}
