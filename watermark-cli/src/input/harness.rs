//! Samples that lm-evaluation-harness logs (`--log_samples`, `samples_TASK_DATE.jsonl`).
//!
//! A line is one document under one filter: `doc_id`, `arguments` (an object `gen_args_0`,
//! `gen_args_1`, .. of `arg_0`, `arg_1`, ..; a list of lists before version 0.4.3), `resps` (one
//! list an instance, in it one text a repetition), `filtered_resps` and `filter`. `arg_0` is the
//! prompt, or the messages as JSON in a string. `arg_1` tells the kinds of request apart: the
//! settings of a generation, or the text whose likelihood was asked.

use serde_json::Value;
use watermark_core::text::Tokenizer;

use super::Answer;
use super::fields::{Object, array, first, get, sequences};
use super::records::encode;

/// The fields of a sample.
pub(super) const FIELDS: [&str; 6] = [
    "doc_id",
    "arguments",
    "args",
    "resps",
    "filtered_resps",
    "filter",
];

/// Answers of the model, before filters if they were kept.
const ANSWERS: [&str; 2] = ["resps", "filtered_resps"];
const NO_TEXT: &str = "likelihoods were asked here, and the model wrote no text; give the samples of a generation task (generate_until)";

pub(super) fn is_sample(line: &Object) -> bool {
    line.contains_key("doc_id") && ANSWERS.iter().any(|&field| line.contains_key(field))
}

/// The document and the filter of a line: the same answers stand once under every filter.
pub(super) fn document(line: &Object) -> (String, String) {
    let text = |field| get(line, field).map_or_else(String::new, Value::to_string);
    (text("doc_id"), text("filter"))
}

/// The answers of a line, one a repetition.
pub(super) fn read(line: &Object, tokenizer: &dyn Tokenizer) -> Result<Vec<Answer>, String> {
    let arguments = match first(line, &["arguments", "args"]) {
        Some((field, value)) => arguments(field, value)?,
        None => Vec::new(),
    };
    if arguments
        .iter()
        .any(|one| matches!(one.get(1), Some(Value::String(_))))
    {
        return Err(format!("field `arguments`: {NO_TEXT}"));
    }
    let mut contexts = Vec::new();
    for one in arguments.iter().filter_map(|one| one.first()) {
        contexts.extend(prompt(one, tokenizer)?);
    }
    let (field, value) = first(line, &ANSWERS).ok_or("field `resps` is null")?;
    let mut texts = Vec::new();
    for instance in array(field, value)? {
        match instance {
            Value::String(text) => texts.push(text.as_str()),
            Value::Array(repeats) => {
                for text in repeats {
                    let text = text.as_str();
                    texts.push(text.ok_or_else(|| format!("field `{field}`: {NO_TEXT}"))?);
                }
            }
            _ => return Err(format!("field `{field}`: {NO_TEXT}")),
        }
    }
    // A rolling likelihood has one argument and a number, which is logged as a string.
    let settings = arguments.iter().any(|one| one.len() > 1);
    if !settings && !texts.is_empty() && texts.iter().all(|text| text.parse::<f64>().is_ok()) {
        return Err(format!("field `{field}`: {NO_TEXT}"));
    }
    let name = get(line, "doc_id").map(|id| format!("doc_id:{id}"));
    let answer = |text| Answer {
        contexts: contexts.clone(),
        segments: encode(&[text], tokenizer),
        from_ids: false,
        name: name.clone(),
    };
    Ok(texts.into_iter().map(answer).collect())
}

/// The arguments of every instance, in either layout.
fn arguments<'v>(field: &str, value: &'v Value) -> Result<Vec<Vec<&'v Value>>, String> {
    let inner = |value: &'v Value| -> Result<Vec<&'v Value>, String> {
        match value {
            Value::Object(object) => Ok((0..)
                .map_while(|index| object.get(&format!("arg_{index}")))
                .collect()),
            Value::Array(list) => Ok(list.iter().collect()),
            _ => Err(format!("field `{field}` is not a list of lists")),
        }
    };
    match value {
        Value::Object(object) => object.values().map(inner).collect(),
        Value::Array(list) => list.iter().map(inner).collect(),
        _ => Err(format!("field `{field}` is neither an object nor a list")),
    }
}

/// A prompt; messages stand in a string as JSON, by itself or alone in a list.
fn prompt(value: &Value, tokenizer: &dyn Tokenizer) -> Result<Vec<Vec<u32>>, String> {
    let text = match value {
        Value::Array(list) if list.len() == 1 => &list[0],
        other => other,
    };
    if let Some(Ok(messages @ Value::Array(_))) = text
        .as_str()
        .filter(|text| text.starts_with("[{"))
        .map(serde_json::from_str)
    {
        return sequences("arguments", &messages, tokenizer);
    }
    sequences("arguments", value, tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use watermark_core::text::ByteTokenizer;

    fn sample(line: &Value) -> Result<Vec<Answer>, String> {
        let line = line.as_object().unwrap();
        assert!(is_sample(line));
        read(line, &ByteTokenizer)
    }

    fn text(tokens: &[u32]) -> String {
        ByteTokenizer.decode(tokens)
    }

    #[test]
    fn generations_in_both_layouts() {
        // lm-evaluation-harness 0.4.9 (arguments as an object), gsm8k with two repetitions.
        let new = json!({"doc_id": 3, "doc": {"question": "2+2?"}, "target": "4",
            "arguments": {"gen_args_0": {"arg_0": "Q: 2+2?\nA:",
                "arg_1": {"until": ["Q:"], "do_sample": true, "temperature": 1.0}}},
            "resps": [["It is 4.", "Four."]], "filtered_resps": ["4"],
            "filter": "strict-match", "metrics": ["exact_match"], "doc_hash": "d",
            "prompt_hash": "p", "target_hash": "t", "exact_match": 1.0});
        // The layout of 0.4.0 to 0.4.2.
        let mut old = new.clone();
        old["arguments"] = json!([["Q: 2+2?\nA:", {"until": ["Q:"]}]]);
        for line in [new, old] {
            let answers = sample(&line).unwrap();
            assert_eq!(answers.len(), 2);
            assert_eq!(text(&answers[1].segments[0]), "Four.");
            assert_eq!(text(&answers[0].contexts[0]), "Q: 2+2?\nA:");
            assert_eq!(answers[0].name.as_deref(), Some("doc_id:3"));
            let document = document(line.as_object().unwrap());
            assert_eq!(document, ("3".to_owned(), "\"strict-match\"".to_owned()));
        }
    }

    #[test]
    fn messages_stand_in_the_arguments_as_json() {
        // With `--apply_chat_template` and a chat server: a list of one string of JSON.
        let messages = json!([{"role": "user", "content": "Hi"}]).to_string();
        let line = json!({"doc_id": 0, "resps": [["5"]], "arguments":
            {"gen_args_0": {"arg_0": [messages], "arg_1": {"until": []}}}});
        let answers = sample(&line).unwrap();
        assert_eq!(text(&answers[0].contexts[0]), "Hi");
        assert_eq!(text(&answers[0].segments[0]), "5");
    }

    #[test]
    fn likelihoods_are_refused() {
        // Multiple choice, multiple choice as logged by 0.4.2 with numbers, and a rolling one.
        for (arguments, resps) in [
            (
                json!({"gen_args_0": {"arg_0": "Q", "arg_1": " yes"},
                       "gen_args_1": {"arg_0": "Q", "arg_1": " no"}}),
                json!([[["-1.5", "False"]], [["-3.0", "False"]]]),
            ),
            (json!([]), json!([[[-1.5, false]], [[-3.0, false]]])),
            (
                json!({"gen_args_0": {"arg_0": "text"}}),
                json!([["-310.25"]]),
            ),
        ] {
            let line = json!({"doc_id": 1, "arguments": arguments, "resps": resps});
            let error = sample(&line).err().unwrap();
            assert!(error.contains("generate_until"), "{error}");
        }
    }
}
