//! Next-token distributions along a text: what a test with open weights reads.
//!
//! A suspect whose weights (or whose log-probabilities) can be read is asked for the distribution
//! of every next token of a text, not for one sample of it. Of each distribution only the most
//! probable entries are kept. An entry that is absent has probability "unknown, at most the rest"
//! and takes no part in any sum, so that leaving entries out loses evidence and cannot make it.
//!
//! Shape: `tokens` t_0 .. t_(n-1); position `at`, from `first` to n - 1, holds entries (id, p) of
//! p(. | t_0 .. t_(at-1)), that is, of the distribution that `tokens[at]` was drawn from or
//! stands in for. Positions before `first` have none (nothing comes before t_0; the rest of a
//! prompt may have been left out).

/// A text and the next-token distributions along it, entries one after another.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredText {
    tokens: Vec<u32>,
    first: usize,
    /// Where the entries of position `first + i` end.
    ends: Vec<usize>,
    /// Ids and probabilities, by ascending id inside a position.
    entries: Vec<(u32, f32)>,
}

/// One position of a [`ScoredText`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position<'a> {
    /// Its index in the tokens; the tokens before it are its context.
    pub at: usize,
    /// The token that stands there.
    pub token: u32,
    /// Ids and probabilities of the kept entries, by ascending id; often, but not always, with
    /// `token` among them.
    pub top: &'a [(u32, f32)],
}

/// Probabilities may exceed 1 in sum by this much: rounding of 16-bit logits and of printed
/// log-probabilities. A sum above it is no distribution.
pub const SUM_TOLERANCE: f64 = 1e-3;

/// Why numbers are no distributions along a text. `at` counts tokens from 0.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ScoredTextError {
    /// A token of the text is not in the vocabulary.
    #[error("position {at}: token {id} is no id of this vocabulary of {vocabulary}")]
    Token {
        /// Where.
        at: usize,
        /// The id.
        id: u32,
        /// Number of ids.
        vocabulary: usize,
    },
    /// An entry's token is not in the vocabulary.
    #[error("position {at}: entry {id} is no id of this vocabulary of {vocabulary}")]
    Entry {
        /// Where.
        at: usize,
        /// The id.
        id: u32,
        /// Number of ids.
        vocabulary: usize,
    },
    /// A probability is negative, infinite or not a number.
    #[error("position {at}: entry {id} has probability {probability}")]
    Probability {
        /// Where.
        at: usize,
        /// The id.
        id: u32,
        /// What was given (after exponentiation, for log-probabilities).
        probability: f64,
    },
    /// More than one entry of one id.
    #[error("position {at}: entry {id} is given twice")]
    Duplicate {
        /// Where.
        at: usize,
        /// The id.
        id: u32,
    },
    /// The probabilities of a position exceed 1 in sum.
    #[error(
        "position {at}: the probabilities add up to {sum:.6}, above 1; are they log-probabilities (natural logarithms) after the softmax?"
    )]
    Sum {
        /// Where.
        at: usize,
        /// The sum.
        sum: f64,
    },
    /// Positions reach past the end of the tokens, or stop before it.
    #[error("{positions} distributions from position {first} on do not fit {tokens} tokens")]
    Length {
        /// Number of tokens.
        tokens: usize,
        /// The first position with a distribution.
        first: usize,
        /// Number of distributions.
        positions: usize,
    },
}

impl ScoredText {
    /// From probabilities: one list of (id, p) for every token from `first` on, in any order; a
    /// list may be empty.
    ///
    /// # Errors
    /// An id outside the vocabulary, a probability that is none, an id twice at one position, a
    /// sum above 1 + [`SUM_TOLERANCE`], or a number of lists that does not fit the tokens.
    pub fn new<L>(
        vocabulary: usize,
        tokens: Vec<u32>,
        first: usize,
        positions: impl IntoIterator<Item = L>,
    ) -> Result<Self, ScoredTextError>
    where
        L: IntoIterator<Item = (u32, f64)>,
    {
        let outside = tokens.iter().position(|&id| id as usize >= vocabulary);
        if let Some(at) = outside {
            let id = tokens[at];
            return Err(ScoredTextError::Token { at, id, vocabulary });
        }
        let mut text = Self {
            tokens,
            first,
            ends: Vec::new(),
            entries: Vec::new(),
        };
        for position in positions {
            text.push(vocabulary, position)?;
        }
        if first + text.ends.len() != text.tokens.len() {
            return Err(ScoredTextError::Length {
                tokens: text.tokens.len(),
                first,
                positions: text.ends.len(),
            });
        }
        text.entries.shrink_to_fit();
        Ok(text)
    }

    /// From natural logarithms of probabilities; as [`new`](Self::new). Minus infinity, and the
    /// -9999 that some servers print for it, is probability 0.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn from_ln<L>(
        vocabulary: usize,
        tokens: Vec<u32>,
        first: usize,
        positions: impl IntoIterator<Item = L>,
    ) -> Result<Self, ScoredTextError>
    where
        L: IntoIterator<Item = (u32, f64)>,
    {
        let exp = |list: L| list.into_iter().map(|(id, ln)| (id, ln.exp()));
        Self::new(vocabulary, tokens, first, positions.into_iter().map(exp))
    }

    fn push(
        &mut self,
        vocabulary: usize,
        position: impl IntoIterator<Item = (u32, f64)>,
    ) -> Result<(), ScoredTextError> {
        let at = self.first + self.ends.len();
        let start = self.entries.len();
        let mut sum = 0.0;
        for (id, probability) in position {
            if id as usize >= vocabulary {
                return Err(ScoredTextError::Entry { at, id, vocabulary });
            }
            if !probability.is_finite() || probability < 0.0 {
                return Err(ScoredTextError::Probability {
                    at,
                    id,
                    probability,
                });
            }
            sum += probability;
            self.entries.push((id, probability as f32));
        }
        if sum > 1.0 + SUM_TOLERANCE {
            return Err(ScoredTextError::Sum { at, sum });
        }
        self.entries[start..].sort_unstable_by_key(|&(id, _)| id);
        let twice = self.entries[start..].windows(2).find(|w| w[0].0 == w[1].0);
        if let Some(pair) = twice {
            return Err(ScoredTextError::Duplicate { at, id: pair[0].0 });
        }
        self.ends.push(self.entries.len());
        Ok(())
    }

    /// The whole text, context included.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The first position with a distribution.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The positions with their distributions, in order.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = Position<'_>> {
        self.ends.iter().enumerate().map(|(index, &end)| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            let at = self.first + index;
            Position {
                at,
                token: self.tokens[at],
                top: &self.entries[start..end],
            }
        })
    }

    /// The text up to token `end`, with the distributions from `first` on; both are cut to what
    /// there is.
    #[must_use]
    pub fn part(&self, first: usize, end: usize) -> Self {
        let end = end.min(self.tokens.len());
        let first = first.clamp(self.first, end.max(self.first));
        let mut part = Self {
            tokens: self.tokens[..end].to_vec(),
            first: first.min(end),
            ends: Vec::new(),
            entries: Vec::new(),
        };
        let inside = |position: &Position<'_>| (first..end).contains(&position.at);
        for position in self.positions().filter(inside) {
            part.entries.extend_from_slice(position.top);
            part.ends.push(part.entries.len());
        }
        part
    }

    /// The text as one line of JSON, without its end:
    /// `{"type":"watermark.logprobs","schema":1,"token_ids":[..],"logprobs":[null,[[id,ln p],..],..]}`,
    /// one list a token and `null` before [`first`](Self::first). Entries of probability 0 are
    /// left out, for their logarithm is no JSON.
    pub fn to_line(&self) -> String {
        let before = std::iter::repeat_n(None, self.first);
        let lists = self.positions().map(|position| {
            let entries = position.top.iter().filter(|&&(_, p)| p > 0.0);
            Some(entries.map(|&(id, p)| (id, p.ln())).collect::<Vec<_>>())
        });
        let line = Line {
            kind: "watermark.logprobs",
            schema: 1,
            token_ids: &self.tokens,
            logprobs: before.chain(lists).collect(),
        };
        serde_json::to_string(&line).expect("a scored text is plain data with finite numbers")
    }
}

impl Position<'_> {
    /// The kept probability of a token; `None` where its entry is absent.
    pub fn probability(&self, id: u32) -> Option<f32> {
        let index = self.top.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.top[index].1)
    }
}

/// A text with next-token distributions.
#[derive(serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Line<'a> {
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(extend("const" = "watermark.logprobs")))]
    kind: &'static str,
    #[cfg_attr(feature = "schema", schemars(extend("const" = 1)))]
    schema: u32,
    /// The text.
    token_ids: &'a [u32],
    /// One list a token, of ids with the natural logarithms of their probabilities; `null` before the first distribution.
    logprobs: Vec<Option<Vec<(u32, f32)>>>,
}

#[cfg(feature = "schema")]
crate::schema::by_form!(ScoredText, Line<'_>, "LogProbs");

#[cfg(test)]
mod tests {
    use super::*;

    type Lists = Vec<Vec<(u32, f64)>>;

    fn text(lists: Lists) -> Result<ScoredText, ScoredTextError> {
        ScoredText::new(8, vec![1, 2, 3], 1, lists)
    }

    #[test]
    fn positions_say_where_they_stand_and_sort_their_entries() {
        let text = text(vec![vec![(5, 0.25), (2, 0.5)], vec![]]).unwrap();
        let positions: Vec<_> = text.positions().collect();
        let expected = Position {
            at: 1,
            token: 2,
            top: &[(2, 0.5), (5, 0.25)],
        };
        assert_eq!(positions[0], expected);
        assert_eq!((positions[1].at, positions[1].token), (2, 3));
        assert!(positions[1].top.is_empty());
        assert_eq!(positions[0].probability(5), Some(0.25));
        assert_eq!(positions[0].probability(3), None);
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_its_position() {
        use ScoredTextError as E;
        let refused = |second: Vec<(u32, f64)>| text(vec![vec![(1, 1.0)], second]).unwrap_err();
        assert!(matches!(
            refused(vec![(8, 0.1)]),
            E::Entry {
                at: 2,
                id: 8,
                vocabulary: 8
            }
        ));
        for bad in [f64::NAN, f64::INFINITY, -1e-9] {
            let error = refused(vec![(0, 0.1), (1, bad)]);
            assert!(
                matches!(error, E::Probability { at: 2, id: 1, .. }),
                "{error}"
            );
        }
        let error = refused(vec![(4, 0.1), (3, 0.1), (4, 0.2)]);
        assert!(matches!(error, E::Duplicate { at: 2, id: 4 }));
        let error = refused(vec![(0, 0.6), (1, 0.4021)]);
        assert!(matches!(error, E::Sum { at: 2, .. }));
        assert!(text(vec![vec![(0, 0.6), (1, 0.4009)], vec![]]).is_ok());
        let error = text(vec![vec![]]).unwrap_err();
        assert!(matches!(error, E::Length { tokens: 3, .. }));
        let error = text(vec![vec![]; 3]).unwrap_err();
        assert!(matches!(error, E::Length { positions: 3, .. }));
        let error = ScoredText::new(3, vec![0, 3], 2, Lists::new()).unwrap_err();
        assert!(matches!(error, E::Token { at: 1, id: 3, .. }));
    }

    #[test]
    fn a_part_keeps_its_context() {
        let text = text(vec![vec![(5, 0.25), (2, 0.5)], vec![(7, 1.0)]]).unwrap();
        let last = ScoredText::new(8, vec![1, 2, 3], 2, [[(7, 1.0)]]).unwrap();
        assert_eq!(text.part(2, 9), last);
        assert_eq!(text.part(0, 3), text);
        let middle = text.part(1, 2);
        assert_eq!((middle.tokens(), middle.first()), (&[1, 2][..], 1));
        assert_eq!(middle.positions().len(), 1);
        assert_eq!(text.part(0, 1).positions().len(), 0);
        assert_eq!(text.part(0, 0).first(), 0);
    }

    #[test]
    fn logarithms_are_natural_and_minus_infinity_is_zero() {
        let lists = [[(0, -std::f64::consts::LN_2), (1, f64::NEG_INFINITY)]];
        let text = ScoredText::from_ln(4, vec![0, 0], 1, lists).unwrap();
        let position = text.positions().next().unwrap();
        assert_eq!(position.top, [(0, 0.5), (1, 0.0)]);
    }

    #[test]
    fn a_line_holds_all_but_the_zeros() {
        let text = text(vec![vec![(2, 0.5), (1, 0.0)], vec![(3, 1.0)]]).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text.to_line()).unwrap();
        let ln2 = f64::from(0.5_f32.ln());
        assert_eq!(line["token_ids"], serde_json::json!([1, 2, 3]));
        assert_eq!(line["logprobs"][0], serde_json::Value::Null);
        assert_eq!(line["logprobs"][1][0][0], 2);
        assert!((line["logprobs"][1][0][1].as_f64().unwrap() - ln2).abs() < 1e-6);
        assert_eq!(line["logprobs"][1].as_array().unwrap().len(), 1);
        assert_eq!(line["logprobs"][2][0][1], 0.0);
    }
}
