//! Next-token distributions from JSONL, one text a line.
//!
//! Every line is recognised by its fields; the envelope of a batch's response is taken off first.
//! Logarithms are natural.
//!
//! Our own form, which [`ScoredText::to_line`] writes. One list a token, `null` before the first
//! distribution and, later, where one is missing:
//! ```text
//! {"type":"watermark.logprobs","schema":1,"token_ids":[464,1181,286],
//!  "logprobs":[null,[[1181,-2.31],[995,-2.9]],[[286,-0.02]]]}
//! ```
//! `RequestOutput` of vLLM as plain data, with `prompt_logprobs` set (and `logprobs` for what was
//! generated); one map a token from the id to its entry, `null` for the first:
//! ```text
//! {"request_id":"0","prompt":"The state of","prompt_token_ids":[464,1181,286],
//!  "prompt_logprobs":[null,{"1181":{"logprob":-2.31,"rank":4,"decoded_token":" state"}},
//!                     {"286":{"logprob":-0.02,"rank":1,"decoded_token":" of"}}],
//!  "outputs":[{"index":0,"text":" the","token_ids":[262],
//!              "logprobs":[{"262":{"logprob":-0.4,"rank":1,"decoded_token":" the"}}]}]}
//! ```
//! Responses of vLLM's server with `prompt_logprobs` and `return_token_ids`: the same maps in
//! `choices[i]` (completions) or beside `choices` (chat), with `prompt_token_ids` there:
//! ```text
//! {"object":"text_completion","choices":[{"index":0,"text":"","prompt_token_ids":[464,1181],
//!  "prompt_logprobs":[null,{"1181":{"logprob":-2.31,"rank":4,"decoded_token":" state"}}]}]}
//! ```
//! Responses of chat completions with `logprobs` and `top_logprobs`, whose tokens are texts:
//! ```text
//! {"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},
//!  "logprobs":{"content":[{"token":"Hi","logprob":-0.1,"bytes":[72,105],
//!   "top_logprobs":[{"token":"Hi","logprob":-0.1,"bytes":[72,105]}]}]}}]}
//! ```
//! Responses of completions with `logprobs`:
//! ```text
//! {"object":"text_completion","choices":[{"index":0,"text":" the","logprobs":
//!  {"tokens":[" the"],"token_logprobs":[-0.4],"top_logprobs":[{" the":-0.4," a":-1.9}],
//!   "text_offset":[12]}}]}
//! ```
//! A printed token is mapped to the id that stands for exactly its bytes. An entry without such
//! an id is dropped and counted: an absent entry takes no part in a test. A *text's* token without
//! one ends the text there, and a new one starts behind it, so that no context has a gap. Where
//! the server can give ids (`return_token_ids`, `return_tokens_as_token_ids`), ask for them: with
//! SentencePiece vocabularies servers print ` the` and `the` alike.

use std::path::Path;

use serde_json::Value;
use watermark_core::openweights::ScoredText;
use watermark_core::text::Tokenizer;

use super::fields::{Object, array, get, ids, object};
use super::vocabulary::Vocabulary;
use super::{InputError, Place, batch, error, objects, read_jsonl};

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct LogProbs {
    /// File and line, and the text.
    pub(crate) texts: Vec<(String, ScoredText)>,
    /// Entries dropped, for no id stands for their token.
    pub(crate) dropped: u64,
    /// Tokens of texts without an id: each ends a text.
    pub(crate) unknown: u64,
    /// Failed requests of a batch.
    pub(crate) skipped: u64,
}

mod printed;

use printed::{Printed, chat, completion};

/// Ids and natural logarithms of probabilities.
type Entries = Vec<(u32, f64)>;

/// Reads a file of distributions; `-` is standard input.
pub(crate) fn read(path: &Path, tokenizer: &dyn Tokenizer) -> Result<LogProbs, InputError> {
    let text = read_jsonl(path)?;
    let mut parser = Parser {
        tokenizer,
        vocabulary: None,
        found: LogProbs::default(),
        name: String::new(),
        attempts: batch::Attempts::default(),
    };
    for (number, line) in objects(&text) {
        parser.name = format!("{}:{number}", path.display());
        line.and_then(|line| parser.line(&line))
            .map_err(|message| error(path, Place::Line(number), message))?;
    }
    let unanswered = parser.attempts.unanswered().len() as u64;
    parser.found.skipped += unanswered;
    Ok(parser.found)
}

struct Parser<'t> {
    tokenizer: &'t dyn Tokenizer,
    /// Made when the first printed token is met.
    vocabulary: Option<Vocabulary>,
    found: LogProbs,
    name: String,
    attempts: batch::Attempts,
}

impl Parser<'_> {
    fn line(&mut self, line: &Object) -> Result<(), String> {
        if !batch::is_response(line) {
            return self.response(line, "");
        }
        if self.attempts.take(line, &self.name) {
            return Ok(());
        }
        let failed = get(line, "error").is_some();
        let response = get(line, "response").and_then(Value::as_object);
        let body = response
            .filter(|response| get(response, "status_code").is_none_or(|status| status == 200))
            .and_then(|response| get(response, "body"));
        match body.filter(|_| !failed) {
            Some(body) => self.response(object("response.body", body)?, "response.body."),
            None => {
                self.found.skipped += 1;
                Ok(())
            }
        }
    }

    fn response(&mut self, line: &Object, path: &str) -> Result<(), String> {
        let field = |name: &str| format!("{path}{name}");
        if let Some(choices) = get(line, "choices") {
            let choices = array(&field("choices"), choices)?;
            let mut any = self.prompt(line, path)?;
            for (index, choice) in choices.iter().enumerate() {
                let path = format!("{path}choices[{index}]");
                let choice = object(&path, choice)?;
                any |= self.prompt(choice, &format!("{path}."))?;
                if let Some(value) = get(choice, "logprobs") {
                    let given = get(choice, "token_ids");
                    let before = get(choice, PROMPT_IDS).or_else(|| get(line, PROMPT_IDS));
                    let path = format!("{path}.logprobs");
                    any |= self.printed(object(&path, value)?, &path, given, before)?;
                }
            }
            return match any {
                true => Ok(()),
                false => Err(format!(
                    "no `prompt_logprobs` and no `logprobs` in `{}`; ask the server for them",
                    field("choices")
                )),
            };
        }
        if get(line, PROMPT_LOGPROBS).is_some() || get(line, "outputs").is_some() {
            let any = self.prompt(line, path)?;
            return match self.outputs(line)? || any {
                true => Ok(()),
                false => Err(format!(
                    "neither `{PROMPT_LOGPROBS}` nor `outputs[].logprobs`"
                )),
            };
        }
        let (Some(tokens), Some(lists)) = (get(line, "token_ids"), get(line, "logprobs")) else {
            return Err(
                "no distributions: give `token_ids` and `logprobs`, a vLLM output with `prompt_logprobs`, or a response with `choices[].logprobs`"
                    .to_owned(),
            );
        };
        let tokens = ids("token_ids", tokens, self.tokenizer)?;
        let lists = array("logprobs", lists)?;
        self.push_nullable("logprobs", tokens, lists, 0, pairs)
    }

    /// `prompt_logprobs` with `prompt_token_ids`; false where there are none.
    fn prompt(&mut self, holder: &Object, path: &str) -> Result<bool, String> {
        let Some(lists) = get(holder, PROMPT_LOGPROBS) else {
            return Ok(false);
        };
        let field = format!("{path}{PROMPT_LOGPROBS}");
        let tokens = get(holder, PROMPT_IDS).ok_or_else(|| {
            format!(
                "field `{field}` without `{path}{PROMPT_IDS}`: ask the server with return_token_ids"
            )
        })?;
        let tokens = ids(&format!("{path}{PROMPT_IDS}"), tokens, self.tokenizer)?;
        let lists = array(&field, lists)?;
        self.push_nullable(&field, tokens, lists, 0, map)?;
        Ok(true)
    }

    /// `outputs` of vLLM's `RequestOutput`: what was generated after the prompt.
    fn outputs(&mut self, line: &Object) -> Result<bool, String> {
        let mut any = false;
        let Some(outputs) = get(line, "outputs") else {
            return Ok(any);
        };
        for (index, output) in array("outputs", outputs)?.iter().enumerate() {
            let path = format!("outputs[{index}]");
            let output = object(&path, output)?;
            let Some(lists) = get(output, "logprobs") else {
                continue;
            };
            let generated = get(output, "token_ids")
                .ok_or_else(|| format!("field `{path}.logprobs` without `{path}.token_ids`"))?;
            let generated = ids(&format!("{path}.token_ids"), generated, self.tokenizer)?;
            let mut tokens = match get(line, PROMPT_IDS) {
                Some(prompt) => ids(PROMPT_IDS, prompt, self.tokenizer)?,
                None => Vec::new(),
            };
            let first = tokens.len();
            tokens.extend(generated);
            let field = format!("{path}.logprobs");
            self.push_nullable(&field, tokens, array(&field, lists)?, first, map)?;
            any = true;
        }
        Ok(any)
    }

    /// Lists of entries from token `offset` on, the leading ones of which may be null.
    fn push_nullable(
        &mut self,
        field: &str,
        tokens: Vec<u32>,
        lists: &[Value],
        offset: usize,
        entries: fn(&Value) -> Option<Entries>,
    ) -> Result<(), String> {
        let nulls = lists.iter().take_while(|list| list.is_null()).count();
        let mut positions = Vec::with_capacity(lists.len() - nulls);
        for (index, list) in lists.iter().enumerate().skip(nulls) {
            let read = if list.is_null() {
                Some(Vec::new())
            } else {
                entries(list)
            };
            positions.push(read.ok_or_else(|| {
                format!(
                    "field `{field}`, position {index}: not a list of ids with log-probabilities"
                )
            })?);
        }
        self.push(field, tokens, offset + nulls, positions)
    }

    /// Distributions whose tokens are texts; false where there is none.
    fn printed(
        &mut self,
        logprobs: &Object,
        path: &str,
        given: Option<&Value>,
        before: Option<&Value>,
    ) -> Result<bool, String> {
        let steps = match (get(logprobs, "content"), get(logprobs, "tokens")) {
            (Some(content), _) => chat(content, &format!("{path}.content"))?,
            (None, Some(tokens)) => completion(logprobs, tokens, path)?,
            (None, None) => return Ok(false),
        };
        let given = given
            .map(|value| ids("token_ids", value, self.tokenizer))
            .transpose()?
            .filter(|given| given.len() == steps.len());
        let mut tokens = match before {
            Some(value) => ids(PROMPT_IDS, value, self.tokenizer)?,
            None => Vec::new(),
        };
        let vocabulary = self
            .vocabulary
            .take()
            .unwrap_or_else(|| Vocabulary::new(self.tokenizer));
        let mut first = tokens.len();
        let mut positions: Vec<Entries> = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let id = |token: &Printed<'_>| vocabulary.id(token.text, token.bytes.as_deref());
            let own = match &given {
                Some(given) => Some(given[index]),
                None => id(&step.token),
            };
            let Some(own) = own else {
                self.found.unknown += 1;
                self.found.dropped += step.top.len() as u64;
                let tokens = std::mem::take(&mut tokens);
                self.push(path, tokens, first, std::mem::take(&mut positions))?;
                first = 0;
                continue;
            };
            let mut entries = Entries::new();
            for token in &step.top {
                // Two texts can be one id where a server strips spaces: the first is kept.
                let new = |id: &u32| entries.iter().all(|(known, _)| known != id);
                match id(token).filter(new) {
                    Some(id) => entries.push((id, token.ln)),
                    None => self.found.dropped += 1,
                }
            }
            // Most servers leave the token itself out where it is not among the most probable.
            if step.has_own && entries.iter().all(|&(id, _)| id != own) {
                entries.push((own, step.token.ln));
            }
            tokens.push(own);
            positions.push(entries);
        }
        self.vocabulary = Some(vocabulary);
        self.push(path, tokens, first, positions)?;
        Ok(true)
    }

    fn push(
        &mut self,
        field: &str,
        tokens: Vec<u32>,
        first: usize,
        positions: Vec<Entries>,
    ) -> Result<(), String> {
        if positions.is_empty() && first == tokens.len() {
            return Ok(());
        }
        let text = ScoredText::from_ln(self.tokenizer.vocab_size(), tokens, first, positions)
            .map_err(|error| format!("field `{field}`, {error}"))?;
        self.found.texts.push((self.name.clone(), text));
        Ok(())
    }
}

const PROMPT_IDS: &str = "prompt_token_ids";
const PROMPT_LOGPROBS: &str = "prompt_logprobs";

/// `[[id, ln p], ..]`.
fn pairs(list: &Value) -> Option<Entries> {
    let pair = |pair: &Value| match pair.as_array()?.as_slice() {
        [id, ln] => Some((u32::try_from(id.as_u64()?).ok()?, ln.as_f64()?)),
        _ => None,
    };
    list.as_array()?.iter().map(pair).collect()
}

/// `{"id": {"logprob": ln p, ..}, ..}`, or the bare number.
fn map(list: &Value) -> Option<Entries> {
    let entry = |(id, entry): (&String, &Value)| {
        let ln = entry.get("logprob").unwrap_or(entry).as_f64()?;
        Some((id.parse().ok()?, ln))
    };
    list.as_object()?.iter().map(entry).collect()
}

#[cfg(test)]
mod tests;
