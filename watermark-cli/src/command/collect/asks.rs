//! What a collection would send: for dry runs.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::budget::Caps;
use super::folder::Collection;
use super::prompts::Ask;

/// What would be sent, without repeated attempts.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asks {
    requests: u64,
    worst: AtWorst,
    /// The first request, as a line of `prompts.jsonl`.
    first: Value,
    /// What `collection.json` says.
    collection: Collection,
}

/// The most that the requests can cost.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AtWorst {
    input_tokens: u64,
    /// `null` where a request sets no limit.
    output_tokens: Option<u64>,
    /// In the unit of the prices; `null` where they are not known.
    cost: Option<f64>,
}

impl Asks {
    /// `asks` are the requests that would be sent; `first` is the line of the first.
    pub(super) fn new<'a>(
        collection: Collection,
        caps: &Caps,
        asks: impl Iterator<Item = &'a Ask> + Clone,
        first: &str,
    ) -> Self {
        let input = asks.clone().map(|ask| ask.worst.input).sum();
        let output: Option<u64> = asks.clone().map(|ask| ask.worst.output).sum();
        Self {
            requests: asks.count() as u64,
            worst: AtWorst {
                input_tokens: input,
                output_tokens: output,
                cost: output.and_then(|output| caps.cost_of(input, output)),
            },
            first: serde_json::from_str(first).unwrap_or_default(),
            collection,
        }
    }

    /// For people.
    pub(crate) fn lines(&self, line: &mut dyn FnMut(&str, String)) {
        let endpoint = self.collection.endpoint.as_deref().unwrap_or_default();
        line("asks", format!("{} requests to {endpoint}", self.requests));
        let AtWorst {
            input_tokens,
            output_tokens,
            cost,
        } = &self.worst;
        let output = output_tokens.map_or("an unknown number".to_owned(), |n| n.to_string());
        line(
            "at worst",
            format!("{input_tokens} tokens read and {output} written, without repeated attempts"),
        );
        if let Some(cost) = cost {
            line("cost", format!("{cost:.4} at worst"));
        }
        if self.collection.collector_held_key {
            line("collector", "holds the key (--until)".to_owned());
        }
        if !self.first.is_null() {
            line("first", self.first.to_string());
        }
    }
}
