//! Conversations: which texts the assistant wrote last, and which it only read.

use serde_json::Value;

use super::fields::{self, Object, array, object, string};

/// A conversation, taken apart.
pub(super) struct Conversation<'v> {
    /// The stretches of the assistant's last turn: reasoning, text and arguments of tool calls of each of its messages
    /// after the last message of the user.
    pub(super) answer: Vec<&'v str>,
    /// Every other text: system, users, tools, earlier turns.
    pub(super) context: Vec<&'v str>,
    /// Whether the assistant had the last word.
    pub(super) answered: bool,
}

/// Takes a list of messages (role, content) apart.
///
/// The arguments of a tool call are a stretch of their own, as long as they are a text. A server may have printed them
/// anew, and then some tokens are not those that were sampled: that costs evidence and adds none. Arguments that are an
/// object have no text. What a tool answered is context.
pub(super) fn take_apart<'v>(field: &str, value: &'v Value) -> Result<Conversation<'v>, String> {
    let mut messages = Vec::new();
    for (index, message) in array(field, value)?.iter().enumerate() {
        let path = format!("{field}[{index}]");
        let message = object(&path, message)?;
        let role = fields::get(message, "role")
            .ok_or_else(|| format!("field `{path}` has no `role`"))
            .and_then(|role| string(&format!("{path}.role"), role))?;
        messages.push((path, role, message));
    }
    let answered = messages
        .last()
        .is_some_and(|(_, role, _)| *role == "assistant");
    let is_read = |role: &str| !matches!(role, "assistant" | "tool" | "function");
    let turn = messages
        .iter()
        .rposition(|(_, role, _)| is_read(role))
        .map_or(0, |last| last + 1);
    let mut conversation = Conversation {
        answer: Vec::new(),
        context: Vec::new(),
        answered,
    };
    for (index, (path, role, message)) in messages.iter().enumerate() {
        if answered && index >= turn && *role == "assistant" {
            conversation.answer.extend(stretches(path, message)?);
        } else {
            let content = [
                "reasoning_content",
                "reasoning",
                "content",
                "tool_calls",
                "function_call",
            ];
            for value in content
                .iter()
                .filter_map(|&part| fields::get(message, part))
            {
                fields::texts(value, &mut conversation.context);
            }
        }
    }
    Ok(conversation)
}

/// The stretches of one message of the assistant, in the order in which it wrote them: reasoning
/// (under either of its names), then content, which is a text or a list of parts, then calls of tools.
pub(super) fn stretches<'v>(path: &str, message: &'v Object) -> Result<Vec<&'v str>, String> {
    let mut found = Vec::new();
    if let Some((field, value)) = fields::first(message, &["reasoning_content", "reasoning"]) {
        found.push(string(&format!("{path}.{field}"), value)?);
    }
    match fields::get(message, "content") {
        None => {}
        Some(Value::String(text)) => found.push(text),
        Some(Value::Array(parts)) => parts
            .iter()
            .for_each(|part| part_stretches(part, &mut found)),
        Some(_) => {
            return Err(format!(
                "field `{path}.content` is neither a text nor a list of parts"
            ));
        }
    }
    if let Some(refusal) = fields::get(message, "refusal") {
        found.push(string(&format!("{path}.refusal"), refusal)?);
    }
    if let Some(calls) = fields::get(message, "tool_calls") {
        for call in array(&format!("{path}.tool_calls"), calls)? {
            found.extend(call.get("function").and_then(arguments));
        }
    }
    found.extend(fields::get(message, "function_call").and_then(arguments));
    Ok(found)
}

/// The arguments of a call, where they are a text.
pub(super) fn arguments(call: &Value) -> Option<&str> {
    call.get("arguments")?.as_str()
}

/// The texts of a part of a content: text, refusal, or thinking, which may be a list of parts again.
fn part_stretches<'v>(part: &'v Value, found: &mut Vec<&'v str>) {
    for kind in ["thinking", "text", "refusal"] {
        match part.get(kind) {
            Some(Value::String(text)) => found.push(text),
            Some(Value::Array(parts)) => parts.iter().for_each(|part| part_stretches(part, found)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_turn_is_the_answer_and_all_else_is_context() {
        // Chat messages as in requests of OpenAI's chat completions, with one call of a tool.
        let messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "reasoning": "A tool knows.", "content": "One moment.",
             "tool_calls": [{"id": "c1", "type": "function",
                             "function": {"name": "weather", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "assistant", "content": "It rains."},
        ]);
        let conversation = take_apart("messages", &messages).unwrap();
        assert!(conversation.answered);
        assert_eq!(
            conversation.answer,
            ["A tool knows.", "One moment.", "{}", "It rains."]
        );
        assert_eq!(
            conversation.context,
            ["Be brief.", "Hi", "Hello.", "Weather?", "rain"]
        );
    }

    #[test]
    fn every_part_of_a_message_is_a_stretch() {
        let message = json!({"role": "assistant", "reasoning_content": "hm", "content": [
            {"type": "thinking", "thinking": "a", "signature": "s"},
            {"type": "thinking", "thinking": [{"type": "text", "text": "b"}]},
            {"type": "text", "text": "c"}, {"type": "image_url", "image_url": {"url": "u"}},
            {"type": "refusal", "refusal": "d"}],
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
                           {"id": "2", "function": {"name": "g", "arguments": {"x": 1}}}]});
        let found = stretches("m", message.as_object().unwrap()).unwrap();
        assert_eq!(found, ["hm", "a", "b", "c", "d", "{\"x\": 1}"]);
        let legacy = json!({"content": null, "function_call": {"name": "f", "arguments": "{}"}});
        assert_eq!(stretches("m", legacy.as_object().unwrap()).unwrap(), ["{}"]);
        let bad = json!({"tool_calls": 7});
        let error = stretches("m", bad.as_object().unwrap()).unwrap_err();
        assert!(error.contains("m.tool_calls"), "{error}");
        // What was called in an earlier turn was read.
        let turns = json!([
            {"role": "assistant", "content": null, "tool_calls": message["tool_calls"]},
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}]);
        let context = take_apart("messages", &turns).unwrap().context;
        assert!(context.contains(&"{\"x\": 1}"), "{context:?}");
    }

    #[test]
    fn without_a_last_word_everything_is_context() {
        let messages =
            json!([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]);
        let conversation = take_apart("messages", &messages).unwrap();
        assert!(!conversation.answered && conversation.answer.is_empty());
        assert_eq!(conversation.context, ["a", "b"]);
    }

    #[test]
    fn errors_name_the_message() {
        let error = |value| take_apart("messages", &value).err().unwrap();
        assert!(error(json!("hi")).contains("`messages`"));
        assert!(error(json!([{"role": "user"}, {"content": "x"}])).contains("messages[1]"));
        let content = json!([{"role": "assistant", "content": 7}]);
        assert!(error(content).contains("messages[0].content"));
    }
}
