//! What a request asks for; what cannot be done is refused and not left out.

use serde_json::{Map, Value};
use watermark_core::candidates::Sampling;

use super::Refusal;

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
}

/// A request for text.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) api: Api,
    pub(super) model: String,
    pub(super) prompt: Prompt,
    pub(super) max_tokens: usize,
    pub(super) sampling: Sampling,
    pub(super) choices: usize,
    pub(super) seed: Option<u64>,
    /// Most probable tokens to tell of at each position.
    pub(super) logprobs: Option<usize>,
    pub(super) return_token_ids: bool,
}

/// What is gone on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// Fields that would change the answer and are not understood here.
const UNSUPPORTED: [&str; 10] = [
    "stop",
    "logit_bias",
    "tools",
    "functions",
    "response_format",
    "frequency_penalty",
    "presence_penalty",
    "echo",
    "suffix",
    "best_of",
];

/// Tokens where a request does not say.
const DEFAULT_TOKENS: usize = 128;
/// Most probable tokens at most.
const MOST_LOGPROBS: u64 = 20;

impl Request {
    pub(super) fn parse(api: Api, body: &[u8], most_tokens: usize) -> Result<Self, Refusal> {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            return Err(Refusal::invalid("the body is no JSON object"));
        };
        let neutral =
            |value: &Value| value.is_null() || *value == false || *value == 0 || *value == 0.0;
        for field in UNSUPPORTED {
            if body.get(field).is_some_and(|value| !neutral(value)) {
                return Err(Refusal::invalid(format!("`{field}` is not supported")));
            }
        }
        if body.get("stream").is_some_and(|value| !neutral(value)) {
            return Err(Refusal::invalid("`stream` is not supported"));
        }
        let model = body.get("model").and_then(Value::as_str);
        let model = model.ok_or_else(|| Refusal::invalid("`model` is missing"))?;
        let max_tokens = whole(&body, "max_tokens")?.or(whole(&body, "max_completion_tokens")?);
        let max_tokens = max_tokens.map_or(DEFAULT_TOKENS, |n| n as usize);
        let choices = whole(&body, "n")?.unwrap_or(1) as usize;
        if max_tokens == 0 || choices == 0 || max_tokens.saturating_mul(choices) > most_tokens {
            return Err(Refusal::invalid(format!(
                "`max_tokens` times `n` must be from 1 to {most_tokens}"
            )));
        }
        let number = |field: &str| match body.get(field).filter(|value| !value.is_null()) {
            None => Ok(1.0),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| Refusal::invalid(format!("`{field}` is no number"))),
        };
        let sampling = Sampling {
            temperature: number("temperature")? as f32,
            top_p: number("top_p")? as f32,
            top_k: whole(&body, "top_k")?.unwrap_or(0) as usize,
        };
        let sampling = sampling
            .checked()
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        Ok(Self {
            api,
            model: model.to_owned(),
            prompt: prompt(api, &body)?,
            max_tokens,
            sampling,
            choices,
            seed: whole(&body, "seed")?,
            logprobs: logprobs(api, &body)?,
            return_token_ids: body.get("return_token_ids") == Some(&Value::Bool(true)),
        })
    }
}

fn whole(body: &Map<String, Value>, field: &str) -> Result<Option<u64>, Refusal> {
    match body.get(field).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| Refusal::invalid(format!("`{field}` is no whole number"))),
    }
}

fn logprobs(api: Api, body: &Map<String, Value>) -> Result<Option<usize>, Refusal> {
    let asked = match api {
        Api::Completions => whole(body, "logprobs")?,
        Api::Chat => match body.get("logprobs") {
            Some(Value::Bool(true)) => Some(whole(body, "top_logprobs")?.unwrap_or(0)),
            None | Some(Value::Null | Value::Bool(false)) => None,
            Some(_) => return Err(Refusal::invalid("`logprobs` is true or false in a chat")),
        },
    };
    match asked {
        Some(top) if top > MOST_LOGPROBS => Err(Refusal::invalid(format!(
            "log-probabilities of {MOST_LOGPROBS} tokens at most"
        ))),
        asked => Ok(asked.map(|top| top as usize)),
    }
}

fn prompt(api: Api, body: &Map<String, Value>) -> Result<Prompt, Refusal> {
    if api == Api::Chat {
        let messages = body.get("messages").and_then(Value::as_array);
        let messages = messages.filter(|list| !list.is_empty());
        let messages = messages.ok_or_else(|| Refusal::invalid("`messages` is missing"))?;
        let texts: Option<Vec<String>> = messages
            .iter()
            .map(|message| message.get("content").and_then(content))
            .collect();
        let texts = texts.ok_or_else(|| {
            Refusal::invalid("the `content` of a message is a text or parts of it")
        })?;
        return Ok(Prompt::Text(texts.join("\n")));
    }
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let prompt = match body.get("prompt") {
        Some(Value::String(text)) => Some(Prompt::Text(text.clone())),
        Some(Value::Array(list)) => {
            let ids: Option<Vec<u32>> = list.iter().map(id).collect();
            ids.map(Prompt::Ids)
        }
        _ => None,
    };
    prompt.ok_or_else(|| Refusal::invalid("`prompt` is one text or one list of token ids"))
}

/// A text, or a list of parts that are texts.
fn content(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let part = |part: &Value| part.get("text")?.as_str().map(str::to_owned);
            parts.iter().map(part).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(api: Api, body: &Value) -> Result<Request, Refusal> {
        Request::parse(api, body.to_string().as_bytes(), 1000)
    }

    #[test]
    fn both_forms() {
        let chat = json!({
            "model": "m", "max_tokens": 9, "seed": 4, "logprobs": true, "top_logprobs": 3, "stream": false,
            "messages": [{"role": "system", "content": "a"},
                         {"role": "user", "content": [{"type": "text", "text": "b"}]}],
        });
        let chat = parse(Api::Chat, &chat).unwrap();
        assert_eq!(chat.prompt, Prompt::Text("a\nb".into()));
        assert_eq!(
            (chat.max_tokens, chat.seed, chat.logprobs),
            (9, Some(4), Some(3))
        );
        let ids = json!({"model": "m", "prompt": [1, 2], "temperature": 0, "logprobs": 0});
        let ids = parse(Api::Completions, &ids).unwrap();
        assert_eq!(ids.prompt, Prompt::Ids(vec![1, 2]));
        assert_eq!((ids.max_tokens, ids.logprobs), (128, Some(0)));
        assert_eq!(ids.sampling.temperature, 0.0);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (body, words) in [
            (json!([]), "no JSON object"),
            (json!({"prompt": "x"}), "`model`"),
            (json!({"model": "m"}), "`prompt`"),
            (json!({"model": "m", "prompt": ["a", "b"]}), "`prompt`"),
            (
                json!({"model": "m", "prompt": "x", "stream": true}),
                "`stream`",
            ),
            (
                json!({"model": "m", "prompt": "x", "stop": ["."]}),
                "`stop`",
            ),
            (
                json!({"model": "m", "prompt": "x", "max_tokens": 0}),
                "1000",
            ),
            (
                json!({"model": "m", "prompt": "x", "max_tokens": 600, "n": 2}),
                "1000",
            ),
            (
                json!({"model": "m", "prompt": "x", "temperature": -1}),
                "temperature",
            ),
            (json!({"model": "m", "prompt": "x", "seed": -1}), "`seed`"),
            (json!({"model": "m", "prompt": "x", "logprobs": 50}), "20"),
        ] {
            let refusal = parse(Api::Completions, &body).unwrap_err();
            assert!(refusal.message.contains(words), "{}", refusal.message);
            assert_eq!(refusal.status, 400);
        }
    }
}
