//! Batches of an OpenAI-compatible server: files of requests, and files of what came back. Bodies are those of chat
//! completions, completions, or responses.
//!
//! The same form is written by OpenAI's batch service, by `vllm run-batch` and by others.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use watermark_core::text::Tokenizer;

use super::Answer;
use super::fields::{Object, array, get, ids, object, sequences, string};
use super::messages::{arguments, stretches};
use super::records::{PROMPT_IDS, encode};

/// The fields of both files, and of a bare response.
pub(super) const FIELDS: [&str; 6] = [
    "body",
    "response",
    "error",
    "choices",
    "output",
    "custom_id",
];

/// What a line of a file of responses holds.
pub(super) enum Response {
    /// One answer a choice.
    Answers(Vec<Answer>),
    /// Why there is none.
    Failed(String),
}

/// A line of the file of responses: `custom_id`, and a `response` that is an object or null.
pub(super) fn is_response(line: &Object) -> bool {
    let response = line.get("response");
    line.contains_key("custom_id")
        && response.is_some_and(|value| value.is_object() || value.is_null())
}

/// A line of the file of requests: `custom_id` and `body`.
pub(super) fn is_request(line: &Object) -> bool {
    line.contains_key("custom_id") && line.get("body").is_some_and(Value::is_object)
}

/// A response without the envelope of a batch.
pub(super) fn is_completion(line: &Object) -> bool {
    ["choices", "output"]
        .iter()
        .any(|&field| line.get(field).is_some_and(Value::is_array))
}

/// Requests of transcripts that `collect` wrote: a failed attempt is no failed request where another attempt was
/// answered.
#[derive(Default)]
pub(super) struct Attempts {
    failed: BTreeMap<String, String>,
    answered: HashSet<String>,
}

impl Attempts {
    /// Takes a response in; whether it is a failed attempt, which does not count yet. `name` is where it stands.
    pub(super) fn take(&mut self, line: &Object, name: &str) -> bool {
        let outcome = line.get("x_wmk").and_then(|custody| custody.get("outcome"));
        let Some(id) = line.get("custom_id").and_then(Value::as_str) else {
            return false;
        };
        match outcome.and_then(Value::as_str) {
            Some("answered") => {
                self.answered.insert(id.to_owned());
                false
            }
            Some("failed") => {
                let failed = self.failed.entry(id.to_owned());
                failed.or_insert_with(|| name.to_owned());
                true
            }
            _ => false,
        }
    }

    /// Where the requests stand that no attempt answered.
    pub(super) fn unanswered(&self) -> Vec<&str> {
        let open = |(id, _): &(&String, &String)| !self.answered.contains(*id);
        let names = self.failed.iter().filter(open);
        names.map(|(_, name)| name.as_str()).collect()
    }
}

pub(super) fn custom_id(line: &Object) -> Result<&str, String> {
    let value = get(line, "custom_id").ok_or("no field `custom_id`")?;
    string("custom_id", value)
}

/// The answers of a line of the file of responses.
pub(super) fn response(line: &Object, tokenizer: &dyn Tokenizer) -> Result<Response, String> {
    if let Some(error) = get(line, "error") {
        return Ok(Response::Failed(
            error.to_string().chars().take(200).collect(),
        ));
    }
    let Some(response) = get(line, "response") else {
        return Ok(Response::Failed("no response".to_owned()));
    };
    let response = object("response", response)?;
    if let Some(status) = get(response, "status_code").filter(|&status| status != 200) {
        return Ok(Response::Failed(format!("status {status}")));
    }
    let Some(body) = get(response, "body") else {
        return Ok(Response::Failed("a response without body".to_owned()));
    };
    let body = object("response.body", body)?;
    if let Some(error) = get(body, "error") {
        return Ok(Response::Failed(
            error.to_string().chars().take(200).collect(),
        ));
    }
    completion(body, "response.body.", tokenizer).map(Response::Answers)
}

/// The answers of a response of chat or text completions, one a choice. Where the server gave
/// token ids (`return_token_ids` of vLLM) they are taken, and the prompt's too.
pub(super) fn completion(
    body: &Object,
    path: &str,
    tokenizer: &dyn Tokenizer,
) -> Result<Vec<Answer>, String> {
    if let Some(output) = get(body, "output") {
        return responses(body, &format!("{path}output"), output, tokenizer)
            .map(|answer| vec![answer]);
    }
    let field = format!("{path}choices");
    let choices = get(body, "choices").ok_or_else(|| {
        format!("no field `{field}`, nor `{path}output`: bodies of chat completions, completions and responses are read")
    })?;
    let mut answers = Vec::new();
    for (index, choice) in array(&field, choices)?.iter().enumerate() {
        let path = format!("{field}[{index}]");
        let choice = object(&path, choice)?;
        let mut contexts = Vec::new();
        if let Some(value) = get(choice, PROMPT_IDS).or_else(|| get(body, PROMPT_IDS)) {
            contexts.push(ids(PROMPT_IDS, value, tokenizer)?);
        }
        let token_ids = get(choice, "token_ids");
        let segments = if let Some(value) = token_ids {
            vec![ids(&format!("{path}.token_ids"), value, tokenizer)?]
        } else if let Some(message) = get(choice, "message") {
            let path = format!("{path}.message");
            encode(&stretches(&path, object(&path, message)?)?, tokenizer)
        } else if let Some(text) = get(choice, "text") {
            encode(&[string(&format!("{path}.text"), text)?], tokenizer)
        } else {
            return Err(format!("field `{path}` has neither `message` nor `text`"));
        };
        answers.push(Answer {
            contexts,
            segments,
            from_ids: token_ids.is_some(),
            name: None,
        });
    }
    Ok(answers)
}

/// The answer of a body of OpenAI's responses: its reasoning, messages and calls of functions, in order. Summaries of
/// reasoning are not what was sampled.
fn responses(
    body: &Object,
    path: &str,
    output: &Value,
    tokenizer: &dyn Tokenizer,
) -> Result<Answer, String> {
    let mut found = Vec::new();
    for (index, item) in array(path, output)?.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let object = object(&path, item)?;
        match get(object, "type").and_then(Value::as_str) {
            Some("message" | "reasoning") => found.extend(stretches(&path, object)?),
            Some("function_call") => found.extend(arguments(item)),
            _ => {}
        }
    }
    let prompt = get(body, PROMPT_IDS).map(|value| ids(PROMPT_IDS, value, tokenizer));
    Ok(Answer {
        contexts: prompt.transpose()?.into_iter().collect(),
        segments: encode(&found, tokenizer),
        from_ids: false,
        name: None,
    })
}

/// What a request gave the model to read: messages and tools, or the prompt.
pub(super) fn request(line: &Object, tokenizer: &dyn Tokenizer) -> Result<Vec<Vec<u32>>, String> {
    let body = get(line, "body").ok_or("no field `body`: not a line of a batch's input file")?;
    let body = object("body", body)?;
    let mut contexts = Vec::new();
    for field in ["messages", "prompt", "instructions", "input", "tools"] {
        if let Some(value) = get(body, field) {
            contexts.extend(sequences(&format!("body.{field}"), value, tokenizer)?);
        }
    }
    let asked = ["messages", "prompt", "input"];
    if asked.iter().all(|&field| get(body, field).is_none()) {
        return Err("none of `body.messages`, `body.prompt` and `body.input`".to_owned());
    }
    Ok(contexts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use watermark_core::text::ByteTokenizer;

    fn answers(line: &Value) -> Vec<Answer> {
        let line = line.as_object().unwrap();
        assert!(is_response(line) && !is_request(line) && !is_completion(line));
        match response(line, &ByteTokenizer).unwrap() {
            Response::Answers(answers) => answers,
            Response::Failed(why) => panic!("{why}"),
        }
    }

    fn texts(segments: &[Vec<u32>]) -> Vec<String> {
        let text = |segment: &Vec<u32>| ByteTokenizer.decode(segment);
        segments.iter().map(text).collect()
    }

    #[test]
    fn chat_completions_of_openai() {
        // The form of OpenAI's batch output file, as its guide showed it in 2026.
        let line = json!({"id": "batch_req_123", "custom_id": "request-2", "response":
            {"status_code": 200, "request_id": "req_123", "body":
                {"id": "chatcmpl-123", "object": "chat.completion", "created": 1711652795,
                 "model": "gpt-x", "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "Hello."},
                     "logprobs": null, "finish_reason": "stop"},
                    {"index": 1, "message": {"role": "assistant", "content": null, "refusal": "No."},
                     "logprobs": null, "finish_reason": "stop"},
                    {"index": 2, "message": {"role": "assistant", "content": null},
                     "finish_reason": "tool_calls"}],
                 "usage": {"prompt_tokens": 22, "completion_tokens": 2, "total_tokens": 24}}},
            "error": null});
        let answers = answers(&line);
        assert_eq!(texts(&answers[0].segments), ["Hello."]);
        assert_eq!(texts(&answers[1].segments), ["No."]);
        assert!(answers[2].segments.is_empty());
        assert!(answers.iter().all(|a| a.contexts.is_empty() && !a.from_ids));
    }

    #[test]
    fn bodies_of_responses() {
        // The form of OpenAI's responses, as its reference showed it in 2026.
        let body = json!({"id": "resp_1", "object": "response", "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "no"}],
             "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "message", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "ok", "annotations": []}]}]});
        let line = json!({"custom_id": "a", "error": null,
            "response": {"status_code": 200, "body": body}});
        assert_eq!(texts(&answers(&line)[0].segments), ["hm", "{}", "ok"]);
        assert!(is_completion(body.as_object().unwrap()));
        let asked = json!({"custom_id": "a", "body":
            {"instructions": "s", "input": [{"role": "user", "content": "q"}]}});
        let contexts = request(asked.as_object().unwrap(), &ByteTokenizer).unwrap();
        assert_eq!(texts(&contexts), ["s", "q"]);
        let failed = json!({"custom_id": "a", "error": null, "response": {"status_code": 200,
            "body": {"status": "failed", "error": {"code": "server_error"}, "output": []}}});
        let failed = response(failed.as_object().unwrap(), &ByteTokenizer).unwrap();
        assert!(matches!(failed, Response::Failed(why) if why.contains("server_error")));
        // A record whose `output` is a text is none of these.
        assert!(!is_completion(json!({"output": "x"}).as_object().unwrap()));
    }

    #[test]
    fn responses_of_vllm_with_reasoning_and_ids() {
        // vLLM 0.15: `reasoning` in the message; with `return_token_ids`, ids of the choice, and
        // those of the prompt in the body (chat) or in the choice (completions).
        let chat = json!({"id": "vllm-1", "custom_id": "a", "response":
            {"status_code": 200, "request_id": "r", "body": {"choices": [
                {"index": 0, "message": {"role": "assistant", "reasoning": "hm", "content": "ok",
                 "refusal": null, "tool_calls": []}, "finish_reason": "stop", "token_ids": null}],
             "prompt_token_ids": null}}, "error": null});
        assert_eq!(texts(&answers(&chat)[0].segments), ["hm", "ok"]);
        let text = json!({"id": "vllm-2", "custom_id": "b", "response":
            {"status_code": 200, "request_id": "r", "body": {"object": "text_completion",
             "choices": [{"index": 0, "text": "ab", "token_ids": [97, 98, 0],
                          "prompt_token_ids": [1, 2], "prompt_logprobs": null}]}}, "error": null});
        let answer = &answers(&text)[0];
        assert!(answer.from_ids);
        assert_eq!(answer.segments, [[97, 98, 0]]);
        assert_eq!(answer.contexts, [[1, 2]]);
    }

    #[test]
    fn failures_are_no_answers() {
        for (line, words) in [
            (
                json!({"id": "batch_req_1", "custom_id": "a", "response": null,
                       "error": {"code": "batch_expired", "message": "too late"}}),
                "batch_expired",
            ),
            (
                json!({"custom_id": "a", "response": {"status_code": 429, "body": {}}, "error": null}),
                "429",
            ),
            (
                json!({"custom_id": "a", "response": null, "error": null}),
                "no response",
            ),
        ] {
            let line = line.as_object().unwrap();
            assert!(is_response(line));
            match response(line, &ByteTokenizer).unwrap() {
                Response::Failed(why) => assert!(why.contains(words), "{why}"),
                Response::Answers(_) => panic!("an answer"),
            }
        }
    }

    #[test]
    fn requests_give_messages_tools_and_prompts() {
        let read = |line: &Value| request(line.as_object().unwrap(), &ByteTokenizer);
        let chat = json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": [{"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "u"}]}],
                "tools": [{"type": "function", "function": {"name": "f", "description": "d"}}]}});
        assert!(is_request(chat.as_object().unwrap()));
        assert_eq!(texts(&read(&chat).unwrap()), ["s", "u", "d", "f"]);
        let ids = json!({"custom_id": "a", "method": "POST", "url": "/v1/completions",
            "body": {"model": "m", "prompt": [104, 105]}});
        assert_eq!(texts(&read(&ids).unwrap()), ["hi"]);
        let none = json!({"custom_id": "a", "body": {"inputs": "x"}});
        assert!(read(&none).unwrap_err().contains("body.messages"));
    }
}
