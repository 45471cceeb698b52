//! What is asked: prompts of a packaged set or a file, made into requests in the form of a batch's input file.

use std::collections::HashSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::budget::Worst;
use super::error::CollectError;
use super::transcript::sha256;
use crate::cli::{Api, ShapeArgs};
use crate::error::CliError;

/// Tokens that a chat template may add to a request's text.
const TEMPLATE: u64 = 64;

/// What every request has in common.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) api: Api,
    pub(super) model: String,
    pub(super) system: Option<String>,
    pub(super) max_tokens: u64,
    pub(super) max_tokens_field: String,
    pub(super) temperature: f64,
    pub(super) top_p: Option<f64>,
    pub(super) seed: Option<u64>,
    pub(super) logprobs: Option<u32>,
    pub(super) extra: Map<String, Value>,
    pub(super) limit: Option<usize>,
    pub(super) repeat: u32,
}

impl Shape {
    pub(super) fn new(
        api: Api,
        model: String,
        arguments: &ShapeArgs,
    ) -> Result<Self, CollectError> {
        let usage = |message: String| Err(CollectError::Usage(message));
        let extra = match arguments.extra.as_deref().map(serde_json::from_str) {
            None => Map::new(),
            Some(Ok(Value::Object(extra))) => extra,
            Some(_) => return usage("--extra: a JSON object is needed".into()),
        };
        let temperature = arguments.temperature.unwrap_or(1.0);
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return usage(format!(
                "--temperature {temperature}: it must be at least 0"
            ));
        }
        if let Some(p) = arguments.top_p.filter(|&p| !(p > 0.0 && p <= 1.0)) {
            return usage(format!("--top-p {p}: it must be above 0 and at most 1"));
        }
        Ok(Self {
            api,
            model,
            system: arguments.system.clone(),
            max_tokens: arguments.max_tokens.unwrap_or(512),
            max_tokens_field: arguments
                .max_tokens_field
                .clone()
                .unwrap_or_else(|| "max_tokens".to_owned()),
            temperature,
            top_p: arguments.top_p,
            seed: arguments.seed,
            logprobs: arguments.logprobs,
            extra,
            limit: arguments.limit,
            repeat: arguments.repeat.unwrap_or(1),
        })
    }

    /// The fields that all requests share, for the record.
    pub(super) fn parameters(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("temperature".into(), self.temperature.into());
        body.insert(self.max_tokens_field.clone(), self.max_tokens.into());
        if let Some(p) = self.top_p {
            body.insert("top_p".into(), p.into());
        }
        match (self.logprobs, self.api) {
            (Some(top), Api::Chat) => {
                body.insert("logprobs".into(), true.into());
                body.insert("top_logprobs".into(), top.into());
            }
            (Some(top), Api::Completions) => {
                body.insert("logprobs".into(), top.into());
            }
            (None, _) => {}
        }
        body
    }

    /// The body for a prompt. A whole request keeps what stands in it.
    fn body(&self, given: Given, index: u64) -> Result<Map<String, Value>, String> {
        let mut body = match given {
            Given::Whole(body) => body,
            Given::Text(text) => Map::from_iter([("prompt".to_owned(), text.into())]),
            Given::Messages(list) => Map::from_iter([("messages".to_owned(), list)]),
        };
        if self.api == Api::Chat
            && let Some(text) = body.remove("prompt")
        {
            if !text.is_string() {
                return Err("a prompt for chat is a text".to_owned());
            }
            body.insert(
                "messages".to_owned(),
                json!([{"role": "user", "content": text}]),
            );
        }
        match self.api {
            Api::Chat => {
                let messages = body.get_mut("messages").and_then(Value::as_array_mut);
                let messages = messages.filter(|list| !list.is_empty());
                let messages = messages.ok_or("no messages: give `prompt` or `messages`")?;
                if let Some(system) = &self.system {
                    messages.insert(0, json!({"role": "system", "content": system}));
                }
            }
            Api::Completions => {
                if body.contains_key("messages") || !body.contains_key("prompt") {
                    return Err(
                        "completions take a `prompt`, no messages; ask with --api chat".into(),
                    );
                }
                if self.system.is_some() {
                    return Err("completions have no system message (--system)".into());
                }
            }
        }
        if body.get("stream").is_some_and(|stream| stream != false) {
            return Err(
                "`stream` is set: a stream of events is no response that can be kept".into(),
            );
        }
        let mut absent = |field: &str, value: Value| {
            body.entry(field).or_insert(value);
        };
        absent("model", self.model.clone().into());
        let parameters = self.parameters();
        let limits = ["max_tokens", "max_completion_tokens"];
        for (field, value) in parameters {
            absent(&field, value);
        }
        if let Some(seed) = self.seed {
            absent("seed", (seed + index).into());
        }
        for (field, value) in &self.extra {
            if limits.contains(&field.as_str()) || body.contains_key(field) {
                return Err(format!(
                    "--extra: `{field}` is set already, by an option or by the request"
                ));
            }
            body.insert(field.clone(), value.clone());
        }
        Ok(body)
    }
}

/// A prompt as it was given.
enum Given {
    Text(String),
    Messages(Value),
    Whole(Map<String, Value>),
}

/// The bytes of a packaged set or a file.
pub(super) fn bytes(source: &str) -> Result<Vec<u8>, CliError> {
    if let Some(set) = watermark_corpora::prompt_set(source) {
        return Ok(set.as_bytes().to_vec());
    }
    let path = Path::new(source);
    if !path.exists() {
        return Err(CollectError::Usage(format!(
            "--prompts {source}: neither a file nor a packaged set; sets are {}",
            watermark_corpora::PROMPT_SETS.join(", ")
        ))
        .into());
    }
    Ok(crate::input::read_text(path)?.into_bytes())
}

/// Whether a source has an object a line, and not a text a line.
pub(super) fn is_jsonl(source: &str) -> bool {
    watermark_corpora::prompt_set(source).is_some() || source.ends_with(".jsonl")
}

/// The lines of `prompts.jsonl`.
pub(super) fn requests(
    source: &str,
    bytes: &[u8],
    jsonl: bool,
    shape: &Shape,
) -> Result<Vec<Value>, CollectError> {
    let error = |line: usize, message: String| CollectError::Content {
        path: source.into(),
        message: match line {
            0 => message,
            line => format!("line {line}: {message}"),
        },
    };
    let text = std::str::from_utf8(bytes).map_err(|_| error(0, "not UTF-8".to_owned()))?;
    let lines = text.lines().enumerate();
    let mut given = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        let (id, prompt) = match jsonl {
            false => (None, Given::Text(line.trim().to_owned())),
            true => read(line).map_err(|message| error(number, message))?,
        };
        given.push((
            number,
            id.unwrap_or_else(|| format!("p{number:05}")),
            prompt,
        ));
    }
    given.truncate(shape.limit.unwrap_or(usize::MAX));
    if given.is_empty() {
        return Err(error(0, "no prompts".to_owned()));
    }
    let bodies = given
        .into_iter()
        .enumerate()
        .map(|(index, (number, id, prompt))| {
            let body = shape.body(prompt, index as u64);
            Ok((id, body.map_err(|message| error(number, message))?))
        });
    let bodies = bodies.collect::<Result<Vec<_>, CollectError>>()?;
    let url = match shape.api {
        Api::Chat => "/v1/chat/completions",
        Api::Completions => "/v1/completions",
    };
    let mut seen = HashSet::new();
    let mut requests = Vec::new();
    for round in 0..shape.repeat {
        for (id, body) in &bodies {
            let mut body = body.clone();
            if let (Some(seed), true) = (shape.seed, round > 0) {
                body.insert("seed".into(), (seed + requests.len() as u64).into());
            }
            let id = match shape.repeat {
                1 => id.clone(),
                _ => format!("{id}.{}", round + 1),
            };
            if !seen.insert(id.clone()) {
                return Err(error(0, format!("the id `{id}` stands twice")));
            }
            requests.push(json!(RequestLine {
                custom_id: id,
                method: "POST",
                url,
                body,
            }));
        }
    }
    Ok(requests)
}

/// A line of a collection's `prompts.jsonl`, in the form of a batch's input.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RequestLine {
    custom_id: String,
    #[schemars(extend("const" = "POST"))]
    method: &'static str,
    /// Path of the form that is asked.
    url: &'static str,
    /// Exactly what is sent.
    body: Map<String, Value>,
}

/// A line of JSON, with the prompt's name where it has one.
fn read(line: &str) -> Result<(Option<String>, Given), String> {
    let Ok(Value::Object(mut object)) = serde_json::from_str(line) else {
        return Err("not a JSON object".to_owned());
    };
    let id = ["custom_id", "id"]
        .iter()
        .find_map(|&field| object.get(field))
        .map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
    let given = match (
        object.remove("body"),
        object.remove("messages"),
        object.remove("prompt"),
    ) {
        (Some(Value::Object(body)), None, None) => Given::Whole(body),
        (None, Some(messages @ Value::Array(_)), None) => Given::Messages(messages),
        (None, None, Some(Value::String(text))) => Given::Text(text),
        _ => return Err("one of `prompt` (a text), `messages` and `body` is needed".to_owned()),
    };
    Ok((id, given))
}

/// A request of a collection.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) id: String,
    /// Exactly what is sent.
    pub(super) body: Vec<u8>,
    pub(super) worst: Worst,
    /// Equal for requests that give the model the same to read.
    pub(super) prompt: String,
    /// Whether answers to it are drawn at random.
    pub(super) drawn: bool,
}

/// Reads `prompts.jsonl`.
pub(super) fn asks(path: &Path, text: &str) -> Result<Vec<Ask>, CollectError> {
    let ask = |(index, line): (usize, &str)| {
        let error = || CollectError::Content {
            path: path.to_owned(),
            message: format!("line {}: no request with `custom_id` and `body`", index + 1),
        };
        let line: Value = serde_json::from_str(line).map_err(|_| error())?;
        let id = line.get("custom_id").and_then(Value::as_str);
        let body = line.get("body").filter(|body| body.is_object());
        let (id, body) = id.zip(body).ok_or_else(error)?;
        let number = |field: &str| body.get(field).and_then(Value::as_u64);
        let each = number("max_tokens").or_else(|| number("max_completion_tokens"));
        let read = ["messages", "prompt", "tools"].map(|field| body.get(field));
        let bytes = body.to_string().into_bytes();
        Ok(Ask {
            id: id.to_owned(),
            worst: Worst {
                input: bytes.len() as u64 + TEMPLATE,
                output: each.map(|each| each.saturating_mul(number("n").unwrap_or(1).max(1))),
            },
            prompt: sha256(json!(read).to_string().as_bytes()),
            drawn: body.get("temperature") != Some(&json!(0.0)),
            body: bytes,
        })
    };
    text.lines().enumerate().map(ask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(api: Api) -> Shape {
        Shape {
            api,
            model: "m".into(),
            system: None,
            max_tokens: 9,
            max_tokens_field: "max_tokens".into(),
            temperature: 1.0,
            top_p: None,
            seed: None,
            logprobs: None,
            extra: Map::new(),
            limit: None,
            repeat: 1,
        }
    }

    #[test]
    fn every_form_of_a_prompt_becomes_a_request() {
        let text = r#"{"id": "a", "prompt": "Hi"}
{"messages": [{"role": "user", "content": "Hi"}]}
{"custom_id": "c", "body": {"model": "own", "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]}}
"#;
        let wide = Shape {
            system: Some("S".into()),
            seed: Some(40),
            logprobs: Some(2),
            repeat: 2,
            ..shape(Api::Chat)
        };
        let lines = requests("p.jsonl", text.as_bytes(), true, &wide).unwrap();
        let ids: Vec<_> = lines.iter().map(|line| line["custom_id"].clone()).collect();
        assert_eq!(ids, ["a.1", "p00002.1", "c.1", "a.2", "p00002.2", "c.2"]);
        for (index, line) in lines.iter().enumerate() {
            let body = &line["body"];
            assert_eq!(body["messages"][0]["role"], "system");
            assert_eq!(body["messages"][1]["content"], "Hi");
            assert_eq!(body["seed"], 40 + index);
            assert_eq!(body["top_logprobs"], 2);
        }
        assert_eq!(
            (&lines[2]["body"]["model"], &lines[2]["body"]["max_tokens"]),
            (&json!("own"), &json!(3))
        );
        let written = lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>();
        let asks = asks(Path::new("x"), &written).unwrap();
        assert_eq!(asks[2].worst.output, Some(3));
        assert!(asks.iter().all(|ask| ask.prompt == asks[0].prompt));
        assert_eq!(asks[0].body, lines[0]["body"].to_string().into_bytes());

        let plain = requests("p.txt", b"One\n\nTwo\n", false, &shape(Api::Completions)).unwrap();
        assert_eq!(plain[1]["custom_id"], "p00003");
        assert_eq!(
            plain[1]["body"],
            json!({"prompt": "Two", "model": "m", "temperature": 1.0, "max_tokens": 9})
        );
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_its_line() {
        let refused = |text: &str, shape: &Shape| {
            requests("p.jsonl", text.as_bytes(), true, shape)
                .unwrap_err()
                .to_string()
        };
        let chat = shape(Api::Chat);
        for (text, words) in [
            ("", "no prompts"),
            ("\n[]", "line 2"),
            ("{\"prompt\": \"a\", \"messages\": []}", "line 1"),
            ("{\"messages\": []}", "no messages"),
            (
                "{\"body\": {\"prompt\": \"a\", \"stream\": true}}",
                "stream",
            ),
            (
                "{\"id\": 1, \"prompt\": \"a\"}\n{\"id\": 1, \"prompt\": \"b\"}",
                "`1` stands twice",
            ),
        ] {
            let error = refused(text, &chat);
            assert!(error.contains(words), "{error}");
        }
        let error = refused("{\"messages\": [{}]}", &shape(Api::Completions));
        assert!(error.contains("--api chat"), "{error}");
        let extra = Shape {
            extra: Map::from_iter([("temperature".to_owned(), json!(0))]),
            ..shape(Api::Chat)
        };
        assert!(refused("{\"prompt\": \"a\"}", &extra).contains("`temperature`"));
    }

    #[test]
    fn packaged_sets_are_prompts_of_a_plan_too() {
        for set in watermark_corpora::PROMPT_SETS {
            let bytes = bytes(set).unwrap();
            let lines = requests(set, &bytes, is_jsonl(set), &shape(Api::Chat)).unwrap();
            let known = watermark_core::evidence::plan::Prompts::of(set, &bytes).unwrap();
            assert_eq!(known.count, lines.len() as u64);
        }
    }
}
