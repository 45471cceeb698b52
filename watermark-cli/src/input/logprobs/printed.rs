//! Distributions whose tokens are texts: `logprobs` of chat completions and of completions.

use serde_json::Value;

use crate::input::fields::{Object, array, get, object, string};

/// A token as a server prints it.
pub(super) struct Printed<'v> {
    pub(super) text: &'v str,
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) ln: f64,
}

/// One position: the token that stands there, and the most probable ones.
pub(super) struct Step<'v> {
    pub(super) token: Printed<'v>,
    /// Whether the token's own log-probability was given.
    pub(super) has_own: bool,
    pub(super) top: Vec<Printed<'v>>,
}

fn number(field: &str, value: &Value) -> Result<f64, String> {
    value
        .as_f64()
        .ok_or_else(|| format!("field `{field}` is not a number"))
}

/// `logprobs.content` of a chat completion.
pub(super) fn chat<'v>(content: &'v Value, path: &str) -> Result<Vec<Step<'v>>, String> {
    let printed = |value: &'v Value, path: &str| -> Result<Printed<'v>, String> {
        let token = object(path, value)?;
        let part =
            |name: &str| get(token, name).ok_or_else(|| format!("field `{path}` has no `{name}`"));
        let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
        let bytes = get(token, "bytes").and_then(Value::as_array);
        Ok(Printed {
            text: string(&format!("{path}.token"), part("token")?)?,
            bytes: bytes
                .filter(|bytes| !bytes.is_empty())
                .and_then(|bytes| bytes.iter().map(byte).collect()),
            ln: number(&format!("{path}.logprob"), part("logprob")?)?,
        })
    };
    let mut steps = Vec::new();
    for (index, value) in array(path, content)?.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let token = printed(value, &path)?;
        let mut top = Vec::new();
        if let Some(list) = value.get("top_logprobs").filter(|list| !list.is_null()) {
            let path = format!("{path}.top_logprobs");
            for (index, value) in array(&path, list)?.iter().enumerate() {
                top.push(printed(value, &format!("{path}[{index}]"))?);
            }
        }
        steps.push(Step {
            token,
            has_own: true,
            top,
        });
    }
    Ok(steps)
}

/// `logprobs` of a completion: lists side by side. Null entries are those of an echoed prompt's
/// first token.
pub(super) fn completion<'v>(
    logprobs: &'v Object,
    tokens: &'v Value,
    path: &str,
) -> Result<Vec<Step<'v>>, String> {
    let tokens = array(&format!("{path}.tokens"), tokens)?;
    let side = |name: &str| -> Result<Option<&'v [Value]>, String> {
        let Some(list) = get(logprobs, name) else {
            return Ok(None);
        };
        let path = format!("{path}.{name}");
        let list = array(&path, list)?;
        match list.len() == tokens.len() {
            true => Ok(Some(list)),
            false => Err(format!(
                "field `{path}` has {} entries for {} tokens",
                list.len(),
                tokens.len()
            )),
        }
    };
    let own = side("token_logprobs")?;
    let tops = side("top_logprobs")?;
    let mut steps = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let text = string(&format!("{path}.tokens[{index}]"), token)?;
        let own = own.map(|list| &list[index]).filter(|own| !own.is_null());
        let ln = own
            .map(|own| number(&format!("{path}.token_logprobs[{index}]"), own))
            .transpose()?;
        let mut top = Vec::new();
        if let Some(map) = tops.map(|list| &list[index]).filter(|map| !map.is_null()) {
            let path = format!("{path}.top_logprobs[{index}]");
            for (text, value) in object(&path, map)? {
                top.push(Printed {
                    text,
                    bytes: None,
                    ln: number(&path, value)?,
                });
            }
        }
        steps.push(Step {
            token: Printed {
                text,
                bytes: None,
                ln: ln.unwrap_or(f64::NEG_INFINITY),
            },
            has_own: ln.is_some(),
            top,
        });
    }
    Ok(steps)
}
