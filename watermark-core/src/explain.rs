//! A text token by token: what the detector does with each, and how strongly it speaks.
//!
//! Nothing is computed here that the test does not compute: places, exclusions and repeats are those of an
//! [`Exhibit`], scores those of its cells. The scored tokens' scores add up to the statistic.

use serde::Serialize;

use crate::profile::Mark;
use crate::scheme::Null;
use crate::text::{Tokenizer, pieces};
use crate::window::Exhibit;

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Its cell is met here for the first time and counts.
    Scored,
    /// Among the first h of its segment: it has no whole window.
    PartialContext,
    /// Its window stands in something that the model was given to read.
    InPrompt,
    /// Its cell was met before in the exhibit.
    RepeatedCell,
    /// The mark's function has no key at this window: some of other engines have such.
    NotKeyed,
}

/// How a score stands to what chance gives, in standard deviations of one cell's score.
///
/// A reading aid, and no test: in text without the mark a good share of the tokens is above chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// Below the mean under the null hypothesis.
    Below,
    /// From the mean to 1.5 standard deviations above it.
    Above,
    /// Further up. A green list with gamma of more than 0.31 has none.
    FarAbove,
}

impl Strength {
    /// The strength of a cell's score in natural units.
    pub fn of(null: &Null, score: f64) -> Self {
        let z = (score - null.mean()) / null.variance().sqrt();
        if z < 0.0 {
            Self::Below
        } else if z < 1.5 {
            Self::Above
        } else {
            Self::FarAbove
        }
    }

    /// One character that says the same without colour.
    pub fn sign(self) -> char {
        match self {
            Self::Below => '-',
            Self::Above => '+',
            Self::FarAbove => '#',
        }
    }
}

/// One token.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Its place among all tokens of the text, from 0.
    pub at: usize,
    /// Its id.
    pub id: u32,
    /// Its share of the text. A character that several tokens make up belongs to the last of them.
    pub text: String,
    /// What became of it.
    pub status: Status,
    /// In the null's natural units, where it is scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// How that stands to chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<Strength>,
}

/// A text with what the detector does to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The law of a cell's score under the null hypothesis.
    pub null: Null,
    /// The tokens, segment after segment.
    pub tokens: Vec<Token>,
}

impl Explanation {
    /// Explains the segments of one answer. The windows of `contexts`, what the model was given to read, do
    /// not count. Time is linear in the number of tokens.
    pub fn of(
        mark: &Mark,
        tokenizer: &dyn Tokenizer,
        contexts: &[Vec<u32>],
        segments: &[Vec<u32>],
    ) -> Self {
        let width = mark.scheme().context_width();
        let null = mark.scheme().null();
        let mut exhibit = Exhibit::new(width);
        contexts.iter().for_each(|context| exhibit.exclude(context));
        segments.iter().for_each(|segment| exhibit.push(segment));
        let scores = exhibit.cells().scores(mark);
        // Of every cell that counts its score, until it is met.
        let mut fresh = vec![None; scores.values().len()];
        for index in scores.first_of_coin() {
            fresh[index] = Some(null.natural(scores.values()[index]));
        }
        let mut tokens = Vec::new();
        for (segment, (_, places)) in segments.iter().zip(exhibit.stretches()) {
            let mut places = places.iter();
            for (at, (&id, text)) in segment.iter().zip(pieces(tokenizer, segment)).enumerate() {
                let (status, score) = if at < width {
                    (Status::PartialContext, None)
                } else if exhibit.excludes_cell(&segment[at - width..=at]) {
                    (Status::InPrompt, None)
                } else {
                    let place = places.next().map(|&place| place as usize);
                    let keyed = place.is_none_or(|place| scores.counts(place));
                    match place.and_then(|place| fresh[place].take()) {
                        Some(score) => (Status::Scored, Some(score)),
                        None if !keyed => (Status::NotKeyed, None),
                        None => (Status::RepeatedCell, None),
                    }
                };
                tokens.push(Token {
                    at: tokens.len(),
                    id,
                    text,
                    status,
                    score,
                    strength: score.map(|score| Strength::of(&null, score)),
                });
            }
        }
        Self { null, tokens }
    }

    /// How many tokens have a status.
    pub fn count(&self, status: Status) -> usize {
        let tokens = self.tokens.iter();
        tokens.filter(|token| token.status == status).count()
    }

    /// Mean score of the scored tokens, in natural units; the null's own where there are none.
    pub fn mean(&self) -> f64 {
        let scores = self.tokens.iter().filter_map(|token| token.score);
        match self.count(Status::Scored) {
            0 => self.null.mean(),
            scored => scores.sum::<f64>() / scored as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::score;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::Profile;
    use crate::text::ByteTokenizer;

    fn mark(name: &str) -> Mark {
        let key = SlotKey::from_parts([7; 32], Epoch::new("t").unwrap(), 0);
        Profile::built_in(name).unwrap().bind(&key).unwrap()
    }

    /// What is told token by token is what the test counts, for every kind of scheme.
    #[test]
    fn tokens_add_up_to_the_test() {
        let context = b"the union is that".map(u32::from).to_vec();
        let segments = [
            b"state of the union is that of a union of states"
                .map(u32::from)
                .to_vec(),
            Vec::new(),
            vec![1],
            b"a union of states is a state of the union"
                .map(u32::from)
                .to_vec(),
        ];
        for name in crate::profile::BUILT_IN
            .into_iter()
            .chain(["hf-kgw-lefthash:512", "sglang-gumbel"])
        {
            let mark = mark(name);
            let contexts = std::slice::from_ref(&context);
            let explained = Explanation::of(&mark, &ByteTokenizer, contexts, &segments);
            let mut exhibit = Exhibit::new(mark.scheme().context_width());
            exhibit.exclude(&context);
            segments.iter().for_each(|segment| exhibit.push(segment));
            let (counts, whole) = (exhibit.counts(), score(&mark, &exhibit));
            let count = |status| explained.count(status) as u64;
            assert_eq!(explained.tokens.len() as u64, counts.tokens, "{name}");
            assert_eq!(count(Status::PartialContext), counts.partial, "{name}");
            assert_eq!(count(Status::InPrompt), counts.excluded, "{name}");
            assert_eq!(count(Status::Scored), whole.cells, "{name}");
            let sum: f64 = explained.tokens.iter().filter_map(|t| t.score).sum();
            let expected = mark.scheme().null().natural(whole.sum);
            assert!((sum - expected).abs() < 1e-6, "{name}: {sum} {expected}");
            let text: String = explained.tokens.iter().map(|t| t.text.as_str()).collect();
            assert!(text.starts_with("state of the union"), "{text}");
        }
    }

    #[test]
    fn strengths_have_signs_of_their_own() {
        let null = Null::Gamma { shape: 1 };
        let of = |score| Strength::of(&null, score).sign();
        assert_eq!((of(0.5), of(1.0), of(2.4), of(2.6)), ('-', '+', '+', '#'));
        let null = mark("greenlist-h1").scheme().null();
        assert_eq!(Strength::of(&null, 0.0), Strength::Below);
        assert_ne!(Strength::of(&null, 1.0), Strength::Below);
    }

    #[test]
    fn nothing_is_explained_as_nothing() {
        let explained = Explanation::of(&mark("gumbel-dual-h2"), &ByteTokenizer, &[], &[]);
        assert!(explained.tokens.is_empty());
        assert_eq!(explained.mean(), explained.null.mean());
    }
}
