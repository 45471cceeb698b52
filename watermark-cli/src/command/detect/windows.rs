//! `detect --windows`: marked passages of one input.

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::profile::Mark;
use watermark_core::scan::{DependentCells, Passage, Scan, Sequence};
use watermark_core::stats::LnP;
use watermark_core::stats::decoy::rank_p;
use watermark_core::text::{HfTokenizer, pieces};
use watermark_core::verdict::{Policy, Verdict};

use crate::input::Item;

/// A scan, with the places of its passages in the text.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Scanned {
    pub(crate) cells: u64,
    pub(crate) windows: u64,
    pub(crate) shortest: u64,
    /// Corrected for the search.
    #[serde(rename = "pLog10")]
    pub(crate) p: LnP,
    /// The same scan under keys that nobody used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decoys: Option<Rank>,
    pub(crate) passages: Vec<Found>,
}

/// Place of the key among keys that nobody used.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rank {
    pub(crate) rank: usize,
    pub(crate) of: usize,
    #[serde(rename = "pLog10")]
    pub(crate) p: LnP,
}

/// A passage with its text.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PassageInText")]
pub(crate) struct Found {
    #[serde(flatten)]
    pub(crate) passage: Passage,
    /// Characters of the text before the passage, and before what follows it. The text is that of the tokens.
    pub(crate) characters: [usize; 2],
    /// The passage's beginning and end.
    pub(crate) excerpt: String,
}

/// Scans an item; the shortest window has as many cells as a verdict needs.
pub(super) fn scan(
    mark: &Mark,
    tokenizer: &HfTokenizer,
    item: &Item,
    decoys: &[Mark],
    policy: &Policy,
) -> Result<Scanned, DependentCells> {
    let width = mark.scheme().context_width();
    let sequence = Sequence::new(width, &item.contexts, &item.segments);
    let of = |mark| Scan::of(mark, &sequence, policy.min_cells, policy.alpha);
    let found = of(mark)?;
    let others: Vec<Scan> = decoys.iter().map(of).collect::<Result<_, _>>()?;
    let rank = (!others.is_empty()).then(|| {
        let striking: Vec<f64> = others.iter().map(|other| -other.p.ln()).collect();
        let real = -found.p.ln();
        Rank {
            rank: 1 + striking.iter().filter(|&&other| other >= real).count(),
            of: others.len() + 1,
            p: rank_p(real, &striking),
        }
    });
    let pieces: Vec<String> = match found.passages.is_empty() {
        true => Vec::new(),
        false => {
            let segments = item.segments.iter();
            segments
                .flat_map(|segment| pieces(tokenizer, segment))
                .collect()
        }
    };
    let characters = |tokens: &[String]| {
        tokens
            .iter()
            .map(|piece| piece.chars().count())
            .sum::<usize>()
    };
    Ok(Scanned {
        cells: found.cells,
        windows: found.windows,
        shortest: found.shortest,
        p: found.p,
        decoys: rank,
        passages: found
            .passages
            .into_iter()
            .map(|passage| {
                let start = characters(&pieces[..passage.start]);
                let text = pieces[passage.start..passage.end].concat();
                Found {
                    characters: [start, start + text.chars().count()],
                    excerpt: excerpt(&text),
                    passage,
                }
            })
            .collect(),
    })
}

impl Scanned {
    /// By the corrected p; a text of fewer cells than the shortest window has says nothing.
    pub(super) fn verdict(&self, policy: &Policy) -> Verdict {
        if self.cells < policy.min_cells {
            Verdict::InsufficientEvidence
        } else if self.p.ln() <= policy.alpha.ln() {
            Verdict::Rejected
        } else {
            Verdict::NotRejected
        }
    }

    /// For people, below the line of the input.
    pub(super) fn lines(&self) -> String {
        let rank = self.decoys.as_ref().map_or(String::new(), |rank| {
            format!(", rank {} of {} among unused keys", rank.rank, rank.of)
        });
        let mut out = format!(
            "  windows    p = {} for the best of {} windows of {} cells or more, corrected for the search{rank}\n",
            self.p, self.windows, self.shortest
        );
        for found in &self.passages {
            let Passage { start, end, p, .. } = &found.passage;
            let [from, to] = found.characters;
            out += &format!(
                "  passage    tokens {start} to {end}, characters {from} to {to}, p = {p}: {:?}\n",
                found.excerpt
            );
        }
        out
    }
}

/// Characters shown of a passage's beginning, and of its end.
const SHOWN: usize = 60;

fn excerpt(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= 2 * SHOWN {
        return text.to_owned();
    }
    let (head, tail) = (&letters[..SHOWN], &letters[letters.len() - SHOWN..]);
    format!(
        "{} ... {}",
        String::from_iter(head),
        String::from_iter(tail)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_show_both_ends() {
        assert_eq!(excerpt("short"), "short");
        let long = format!("é{}ß", "x".repeat(500));
        let shown = excerpt(&long);
        assert!(shown.starts_with('é') && shown.ends_with('ß'));
        assert_eq!(shown.chars().count(), 2 * SHOWN + 5);
    }
}
