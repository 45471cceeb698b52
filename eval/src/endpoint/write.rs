//! A request answered: prompt to tokens, tokens to a body.

use std::num::NonZeroUsize;

use serde_json::{Value, json};

use super::request::{Api, Prompt, Request};
use super::{Refusal, Service, logprobs, now};
use crate::generate::{Answer, Generation, generate};
use crate::model::ModelError;

/// Writes the answer to request `number`.
pub(super) fn write(service: &Service, request: &Request, number: u64) -> Result<Value, Refusal> {
    let model = &*service.model;
    let prompt = match &request.prompt {
        Prompt::Text(text) => service.tokenizer.encode(text),
        Prompt::Ids(ids) => ids.clone(),
    };
    let limit = model.context_length();
    if prompt.len() + 1 >= limit {
        return Err(Refusal {
            status: 400,
            code: "context_length_exceeded",
            message: format!(
                "the prompt has {} tokens; the model reads {limit}",
                prompt.len()
            ),
        });
    }
    let start = [&[service.documents.start], prompt.as_slice()].concat();
    let generation = Generation {
        max_tokens: request.max_tokens,
        sampling: request.sampling,
        end: Some(service.documents.end),
        seed: request.seed.unwrap_or(service.seed),
        // Texts of requests without a seed follow each other in one series.
        first: match request.seed {
            Some(_) => 0,
            None => number << 16,
        },
        batch: request.choices,
        threads: NonZeroUsize::MIN,
    };
    let starts = vec![start.clone(); request.choices];
    let failed = |error: ModelError| Refusal {
        status: match error {
            ModelError::UnknownToken { .. } => 400,
            _ => 500,
        },
        code: "model_error",
        message: error.to_string(),
    };
    let answers =
        generate(model, service.mark.as_ref(), &starts, &generation, &|_| ()).map_err(failed)?;
    let mut choices = Vec::new();
    for (index, answer) in answers.iter().enumerate() {
        choices.push(choice(service, request, index, &start, answer).map_err(failed)?);
    }
    let written: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    let (object, prefix) = match request.api {
        Api::Chat => ("chat.completion", "chatcmpl"),
        Api::Completions => ("text_completion", "cmpl"),
    };
    let mut body = json!({
        "id": format!("{prefix}-{number}"), "object": object, "created": now(), "model": service.name,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt.len(), "completion_tokens": written,
            "total_tokens": prompt.len() + written,
        },
    });
    if request.return_token_ids {
        body["prompt_token_ids"] = json!(prompt);
    }
    Ok(body)
}

fn choice(
    service: &Service,
    request: &Request,
    index: usize,
    start: &[u32],
    answer: &Answer,
) -> Result<Value, ModelError> {
    let text = service.tokenizer.decode(&answer.tokens);
    let full = answer.tokens.len() >= request.max_tokens
        || start.len() + answer.tokens.len() >= service.model.context_length();
    let mut choice = json!({
        "index": index, "finish_reason": if full { "length" } else { "stop" }, "logprobs": null,
    });
    match request.api {
        Api::Chat => choice["message"] = json!({"role": "assistant", "content": text}),
        Api::Completions => choice["text"] = json!(text),
    }
    if let Some(most) = request.logprobs {
        let whole = [start, answer.tokens.as_slice()].concat();
        let positions = logprobs::read(&*service.model, &whole, start.len(), most)?;
        choice["logprobs"] = logprobs::print(request.api, &positions, &*service.tokenizer);
    }
    if request.return_token_ids {
        choice["token_ids"] = json!(answer.tokens);
    }
    Ok(choice)
}
