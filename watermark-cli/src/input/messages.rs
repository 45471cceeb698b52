//! Conversations: which texts the assistant wrote last, and which it only read.

use serde_json::Value;

use super::fields::{self, Object, array, object, string};

/// A conversation, taken apart.
pub(super) struct Conversation<'v> {
    /// The stretches of the assistant's last turn: reasoning and text of each of its messages
    /// after the last message of the user.
    pub(super) answer: Vec<&'v str>,
    /// Every other text: system, users, tools, earlier turns.
    pub(super) context: Vec<&'v str>,
    /// Whether the assistant had the last word.
    pub(super) answered: bool,
}

/// Takes a list of messages (role, content) apart.
///
/// Calls of tools are neither answer nor context: servers print their arguments anew, so that
/// the tokens are not those that were sampled; what a tool answered is context.
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
            let content = ["reasoning_content", "reasoning", "content"];
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
/// (under either of its names), then content, which is a text or a list of parts.
pub(super) fn stretches<'v>(path: &str, message: &'v Object) -> Result<Vec<&'v str>, String> {
    let mut found = Vec::new();
    if let Some((field, value)) = fields::first(message, &["reasoning_content", "reasoning"]) {
        found.push(string(&format!("{path}.{field}"), value)?);
    }
    match fields::get(message, "content") {
        None => {}
        Some(Value::String(text)) => found.push(text),
        Some(Value::Array(parts)) => {
            for part in parts {
                let kept = ["text", "refusal"]
                    .iter()
                    .filter_map(|&kind| part.get(kind));
                found.extend(kept.filter_map(Value::as_str));
            }
        }
        Some(_) => {
            return Err(format!(
                "field `{path}.content` is neither a text nor a list of parts"
            ));
        }
    }
    if let Some(refusal) = fields::get(message, "refusal") {
        found.push(string(&format!("{path}.refusal"), refusal)?);
    }
    Ok(found)
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
            ["A tool knows.", "One moment.", "It rains."]
        );
        assert_eq!(
            conversation.context,
            ["Be brief.", "Hi", "Hello.", "Weather?", "rain"]
        );
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
