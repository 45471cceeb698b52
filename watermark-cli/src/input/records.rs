//! Plain records: an answer and its prompt under the names that people give them.

use serde_json::Value;
use watermark_core::text::Tokenizer;

use super::Answer;
use super::fields::{Object, array, first, get, ids, object, sequences, string};
use super::messages;

/// The fields that hold an answer, first match first; ids before text.
pub(super) const ANSWER_IDS: [&str; 3] = ["token_ids", "response_token_ids", "output_token_ids"];
pub(super) const ANSWER_TEXT: [&str; 6] = [
    "text",
    "output",
    "response",
    "result",
    "generation",
    "completion",
];
pub(super) const REASONING: [&str; 2] = ["reasoning_content", "reasoning"];
pub(super) const TOOL_CALLS: &str = "tool_calls";
/// The fields that hold what the model read.
pub(super) const PROMPT_IDS: &str = "prompt_token_ids";
pub(super) const PROMPT_TEXT: &str = "prompt";
pub(super) const SYSTEM: &str = "system";
pub(super) const MESSAGES: &str = "messages";
/// What the writer of the mark noted.
pub(super) const SESSION: &str = "session";
/// The fields that name a prompt.
pub(super) const NAMES: [&str; 2] = ["custom_id", "doc_id"];

/// The fields that name a record.
const LABELS: [&str; 3] = ["custom_id", "id", "doc_id"];
/// The fields that name a prompt's kind.
const DOMAINS: [&str; 2] = ["domain", "set"];
/// The fields whose values may start with it.
const IDS: [&str; 2] = ["custom_id", "id"];

/// One record.
pub(super) fn read(record: &Object, tokenizer: &dyn Tokenizer) -> Result<Answer, String> {
    let conversation = get(record, MESSAGES)
        .map(|value| messages::take_apart(MESSAGES, value))
        .transpose()?;
    let text = first(record, &ANSWER_TEXT);
    let (segments, from_ids) = if let Some((field, value)) = first(record, &ANSWER_IDS) {
        (split(ids(field, value, tokenizer)?, record)?, true)
    } else if let Some((field, value)) = text {
        let mut stretches = Vec::new();
        if let Some((field, value)) = first(record, &REASONING) {
            stretches.push(string(field, value)?);
        }
        stretches.push(string(field, value)?);
        let calls = get(record, TOOL_CALLS).map(|calls| array(TOOL_CALLS, calls));
        for call in calls.transpose()?.into_iter().flatten() {
            stretches.extend(call.get("function").and_then(messages::arguments));
        }
        (encode(&stretches, tokenizer), false)
    } else if let Some(conversation) = &conversation {
        if !conversation.answered {
            return Err(format!(
                "field `{MESSAGES}`: the last message is not the assistant's, and no other field holds the answer"
            ));
        }
        (encode(&conversation.answer, tokenizer), false)
    } else {
        let known: Vec<&str> = ANSWER_IDS.into_iter().chain(ANSWER_TEXT).collect();
        return Err(format!(
            "no known text field; give one of {}, or {MESSAGES}",
            known.join(", ")
        ));
    };

    let mut contexts = Vec::new();
    if let Some(value) = get(record, PROMPT_IDS) {
        contexts.push(ids(PROMPT_IDS, value, tokenizer)?);
    } else if let Some(value) = get(record, PROMPT_TEXT) {
        contexts = sequences(PROMPT_TEXT, value, tokenizer)?;
    }
    if let Some(value) = get(record, SYSTEM) {
        contexts.extend(sequences(SYSTEM, value, tokenizer)?);
    }
    if let Some(conversation) = &conversation {
        contexts.extend(encode(&conversation.context, tokenizer));
        if first(record, &ANSWER_IDS).is_some() || text.is_some() {
            // The last turn is what the model was given to continue, unless it is the answer
            // itself, written down twice.
            let answer = text.and_then(|(_, value)| value.as_str());
            let given = conversation
                .answer
                .iter()
                .filter(|&&one| answer != Some(one));
            contexts.extend(given.map(|one| tokenizer.encode(one)));
        }
    }
    let name = first(record, &NAMES).map(|(field, value)| match value {
        Value::String(text) => format!("{field}:{text}"),
        other => format!("{field}:{other}"),
    });
    Ok(Answer {
        contexts,
        segments,
        from_ids,
        name,
    })
}

/// What a record calls itself.
pub(super) fn label(record: &Object) -> Option<String> {
    let (_, id) = first(record, &LABELS)?;
    Some(match id {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

/// The kind of prompt that a record answers: as it says, or by its id.
pub(super) fn domain(record: &Object) -> Option<String> {
    if let Some((_, Value::String(domain))) = first(record, &DOMAINS) {
        return Some(domain.clone());
    }
    let (_, id) = first(record, &IDS)?;
    let (domain, number) = id.as_str()?.rsplit_once('-')?;
    let numbered = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    let named = domain.starts_with(|letter: char| letter.is_alphabetic());
    (numbered && named).then(|| domain.to_owned())
}

/// The prompt of a record, where there is one.
pub(super) fn prompt(
    record: &Object,
    tokenizer: &dyn Tokenizer,
) -> Result<Option<Vec<u32>>, String> {
    if let Some(value) = get(record, PROMPT_IDS) {
        return ids(PROMPT_IDS, value, tokenizer).map(Some);
    }
    match get(record, PROMPT_TEXT) {
        Some(value) => Ok(Some(tokenizer.encode(string(PROMPT_TEXT, value)?))),
        None => Ok(None),
    }
}

pub(super) fn encode(stretches: &[&str], tokenizer: &dyn Tokenizer) -> Vec<Vec<u32>> {
    stretches.iter().map(|one| tokenizer.encode(one)).collect()
}

/// Splits an answer's ids where the writer's session started segments.
fn split(tokens: Vec<u32>, record: &Object) -> Result<Vec<Vec<u32>>, String> {
    let Some(session) = get(record, SESSION) else {
        return Ok(vec![tokens]);
    };
    const FIELD: &str = "session.segments";
    let Some(starts) = get(object(SESSION, session)?, "segments") else {
        return Ok(vec![tokens]);
    };
    let mut segments = Vec::new();
    let mut from = 0;
    for start in array(FIELD, starts)? {
        let start = start
            .as_u64()
            .and_then(|start| usize::try_from(start).ok())
            .filter(|start| (from..=tokens.len()).contains(start))
            .ok_or_else(|| {
                format!(
                    "field `{FIELD}`: {start} is no position, in ascending order, of the answer's {} tokens",
                    tokens.len()
                )
            })?;
        if start > from {
            segments.push(tokens[from..start].to_vec());
        }
        from = start;
    }
    if from < tokens.len() || segments.is_empty() {
        segments.push(tokens[from..].to_vec());
    }
    Ok(segments)
}

/// The columns that any of the forms reads.
pub(super) fn known_columns() -> impl Iterator<Item = &'static str> {
    let plain = [
        PROMPT_IDS,
        PROMPT_TEXT,
        SYSTEM,
        MESSAGES,
        SESSION,
        TOOL_CALLS,
    ];
    let others = super::batch::FIELDS
        .into_iter()
        .chain(super::harness::FIELDS);
    ANSWER_IDS
        .into_iter()
        .chain(ANSWER_TEXT)
        .chain(REASONING)
        .chain(plain)
        .chain(NAMES)
        .chain(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use watermark_core::text::ByteTokenizer;

    fn record(value: Value) -> Result<Answer, String> {
        read(value.as_object().unwrap(), &ByteTokenizer)
    }

    fn bytes(texts: &[&str]) -> Vec<Vec<u32>> {
        encode(texts, &ByteTokenizer)
    }

    #[test]
    fn ids_come_before_text_and_nulls_are_absent() {
        let both = record(json!({"text": "abc", "token_ids": [1, 2]})).unwrap();
        assert!(both.from_ids);
        assert_eq!(both.segments, [[1, 2]]);
        let text = record(json!({"text": "abc", "token_ids": null, "prompt": null})).unwrap();
        assert!(!text.from_ids && text.contexts.is_empty());
        assert_eq!(text.segments, bytes(&["abc"]));
    }

    #[test]
    fn domains_are_named_or_begin_ids() {
        for (record, expected) in [
            (
                json!({"domain": "law", "custom_id": "prose-012"}),
                Some("law"),
            ),
            (json!({"set": "code", "text": "a"}), Some("code")),
            (json!({"custom_id": "prose-012"}), Some("prose")),
            (json!({"id": "short-story-7"}), Some("short-story")),
            (json!({"id": "7"}), None),
            (json!({"custom_id": "7-7"}), None),
            (json!({"custom_id": "prose-x1"}), None),
            (json!({"text": "a"}), None),
        ] {
            let found = domain(record.as_object().unwrap());
            assert_eq!(found.as_deref(), expected, "{record}");
        }
    }

    #[test]
    fn every_form_of_a_prompt_is_context() {
        for (prompt, expected) in [
            (json!("ab"), bytes(&["ab"])),
            (json!([97, 98]), bytes(&["ab"])),
            (json!([[97], [98]]), bytes(&["a", "b"])),
            (json!([{"role": "user", "content": "ab"}]), bytes(&["ab"])),
        ] {
            let read = record(json!({"text": "x", "prompt": prompt, "system": "s"})).unwrap();
            assert_eq!(read.contexts[..read.contexts.len() - 1], expected);
            assert_eq!(read.contexts.last(), bytes(&["s"]).last());
        }
        assert!(record(json!({"text": "x", "prompt": 7})).is_err());
    }

    #[test]
    fn segments_of_a_session_split_the_ids() {
        let split = |starts: Value| {
            let session = json!({"type": "watermark.session", "segments": starts});
            record(json!({"token_ids": [1, 2, 3, 4], "session": session}))
        };
        let segments = |starts| split(starts).unwrap().segments;
        assert_eq!(segments(json!([0])), [vec![1, 2, 3, 4]]);
        assert_eq!(segments(json!([0, 1, 4])), [vec![1], vec![2, 3, 4]]);
        for bad in [json!([0, 5]), json!([3, 2]), json!([-1]), json!(["0"])] {
            let error = split(bad).err().unwrap();
            assert!(error.contains("session.segments"), "{error}");
        }
    }

    #[test]
    fn an_answer_field_leaves_the_messages_as_context() {
        let messages = json!([
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "Sure: "},
        ]);
        let read = record(json!({"messages": messages, "completion": "a", "reasoning": "r"}));
        let read = read.unwrap();
        assert_eq!(read.segments, bytes(&["r", "a"]));
        assert_eq!(read.contexts, bytes(&["q", "Sure: "]));
        let calls = json!([{"function": {"name": "f", "arguments": "{}"}}]);
        let called = record(json!({"completion": "a", "tool_calls": calls})).unwrap();
        assert_eq!(called.segments, bytes(&["a", "{}"]));
        // The same answer in both places is no context of its own.
        let twice = record(json!({"messages": messages, "completion": "Sure: "})).unwrap();
        assert_eq!(twice.contexts, bytes(&["q"]));
        let asked = json!([{"role": "user", "content": "q"}]);
        let error = record(json!({ "messages": asked })).err().unwrap();
        assert!(error.contains("last message"), "{error}");
    }
}
