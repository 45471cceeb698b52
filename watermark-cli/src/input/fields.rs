//! The fields of a JSON object, with errors that name them.

use serde_json::Value;
use watermark_core::text::Tokenizer;

pub(super) type Object = serde_json::Map<String, Value>;

/// A field that has a value: `null` is as good as absent, which tables with optional columns
/// need.
pub(super) fn get<'o>(object: &'o Object, field: &str) -> Option<&'o Value> {
    object.get(field).filter(|value| !value.is_null())
}

/// The first of `fields` that has a value.
pub(super) fn first<'o, 'f>(
    object: &'o Object,
    fields: &[&'f str],
) -> Option<(&'f str, &'o Value)> {
    let found = |&field: &&'f str| Some((field, get(object, field)?));
    fields.iter().find_map(found)
}

pub(super) fn string<'v>(field: &str, value: &'v Value) -> Result<&'v str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("field `{field}` is not a string"))
}

pub(super) fn array<'v>(field: &str, value: &'v Value) -> Result<&'v [Value], String> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| format!("field `{field}` is not a list"))
}

pub(super) fn object<'v>(field: &str, value: &'v Value) -> Result<&'v Object, String> {
    value
        .as_object()
        .ok_or_else(|| format!("field `{field}` is not an object"))
}

/// Token ids, each of this vocabulary.
pub(super) fn ids(
    field: &str,
    value: &Value,
    tokenizer: &dyn Tokenizer,
) -> Result<Vec<u32>, String> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("field `{field}` is not a list of token ids"))?;
    let vocabulary = tokenizer.vocab_size();
    list.iter()
        .map(|id| match id.as_u64() {
            Some(id) if id < vocabulary as u64 => Ok(id as u32),
            _ => Err(format!(
                "field `{field}`: {id} is no id of this vocabulary of {vocabulary}; were the ids made with another tokenizer, or drawn from padding rows of the model's logits?"
            )),
        })
        .collect()
}

/// The token sequences of a prompt: a text, token ids, a list of either, or messages.
pub(super) fn sequences(
    field: &str,
    value: &Value,
    tokenizer: &dyn Tokenizer,
) -> Result<Vec<Vec<u32>>, String> {
    if let Value::Array(list) = value {
        let is_ids = |value: &Value| {
            let list = value.as_array();
            list.is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_number))
        };
        if is_ids(value) {
            return Ok(vec![ids(field, value, tokenizer)?]);
        }
        if !list.is_empty() && list.iter().all(is_ids) {
            return list.iter().map(|one| ids(field, one, tokenizer)).collect();
        }
    } else if !value.is_string() {
        return Err(format!(
            "field `{field}` is neither a text nor a list of token ids or messages"
        ));
    }
    let mut found = Vec::new();
    texts(value, &mut found);
    Ok(found.iter().map(|text| tokenizer.encode(text)).collect())
}

/// Keys whose values no model reads as text: they would exclude single common tokens.
const NO_TEXT: [&str; 8] = [
    "role",
    "type",
    "id",
    "tool_call_id",
    "image_url",
    "input_audio",
    "file",
    "signature",
];

/// Every text inside a value: what a model may have read there and can repeat.
pub(super) fn texts<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(list) => list.iter().for_each(|one| texts(one, found)),
        Value::Object(object) => object
            .iter()
            .filter(|(key, _)| !NO_TEXT.contains(&key.as_str()))
            .for_each(|(_, one)| texts(one, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
