//! Log-probabilities of an answer, in the two forms that endpoints print.

use serde_json::{Map, Value, json};
use watermark_core::text::Tokenizer;

use super::request::Api;
use crate::model::{Model, ModelError};

/// One position: its token and the most probable ones, with ln p at temperature 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Position {
    token: u32,
    ln: f64,
    top: Vec<(u32, f64)>,
}

/// Reads `text`, whose answer begins at `first` (at least 1), with the `most` most probable tokens of every position of
/// the answer.
pub(super) fn read(
    model: &dyn Model,
    text: &[u32],
    first: usize,
    most: usize,
) -> Result<Vec<Position>, ModelError> {
    let mut positions = Vec::with_capacity(text.len() - first);
    model.read(text, &mut |at, logits| {
        let Some(&token) = text.get(at + 1) else {
            return;
        };
        if at + 1 < first {
            return;
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits
            .iter()
            .map(|&logit| f64::from(logit - largest).exp())
            .sum();
        let total = f64::from(largest) + sum.ln();
        let ln = |id: u32| f64::from(logits[id as usize]) - total;
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let by = |a: &u32, b: &u32| {
            let (left, right) = (logits[*a as usize], logits[*b as usize]);
            right.total_cmp(&left).then(a.cmp(b))
        };
        if most > 0 && most < order.len() {
            order.select_nth_unstable_by(most - 1, by);
        }
        order.truncate(most);
        order.sort_unstable_by(by);
        let top = order.into_iter().map(|id| (id, ln(id)));
        positions.push(Position {
            token,
            ln: ln(token),
            // A token that cannot come has no number in JSON.
            top: top.filter(|(_, ln)| ln.is_finite()).collect(),
        });
    })?;
    Ok(positions)
}

/// The field `logprobs` of a choice.
pub(super) fn print(api: Api, positions: &[Position], tokenizer: &dyn Tokenizer) -> Value {
    let text = |id: u32| tokenizer.decode(&[id]);
    // JSON has no infinity: a token from outside the model's own vocabulary gets a number that is as good as none.
    let finite = |ln: f64| ln.max(-9999.0);
    match api {
        Api::Chat => {
            let printed = |id: u32, ln: f64| {
                let text = text(id);
                json!({"token": text, "logprob": finite(ln), "bytes": text.as_bytes()})
            };
            let content = positions.iter().map(|position| {
                let mut entry = printed(position.token, position.ln);
                let top = position.top.iter().map(|&(id, ln)| printed(id, ln));
                entry["top_logprobs"] = top.collect();
                entry
            });
            json!({"content": content.collect::<Vec<_>>()})
        }
        Api::Completions => {
            let tokens: Vec<String> = positions.iter().map(|p| text(p.token)).collect();
            let offsets = tokens.iter().scan(0, |offset, token| {
                let at = *offset;
                *offset += token.chars().count();
                Some(at)
            });
            let top = positions.iter().map(|position| {
                let top = position.top.iter();
                let map: Map<String, Value> = top.map(|&(id, ln)| (text(id), json!(ln))).collect();
                map
            });
            json!({
                "text_offset": offsets.collect::<Vec<_>>(),
                "token_logprobs": positions.iter().map(|p| finite(p.ln)).collect::<Vec<_>>(),
                "top_logprobs": top.collect::<Vec<_>>(),
                "tokens": tokens,
            })
        }
    }
}
