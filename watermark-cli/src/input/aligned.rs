//! Distributions along answers that are known: which stretch of a read text is which answer.
//!
//! A model that reads an answer may be given the prompt before it, and formats differ in whether the
//! prompt's own positions are kept. So nothing in the read text says where the answer starts; the
//! answer does: **every text must end with the next answer**, token by token. An answer of several
//! segments (a reasoning and a reply; what a writer's session split) may be one text or one text a
//! segment. Answers of fewer than two tokens may be missing, since some forms cannot hold them. All
//! else is refused: a text that does not fit, and an answer that was not read.

use watermark_core::battery::Mismatch;
use watermark_core::openweights::ScoredText;

use super::Item;

/// A text up to the end of a segment.
#[derive(Debug, PartialEq)]
pub(crate) struct Aligned {
    /// Its distributions are those of the segment.
    pub(crate) text: ScoredText,
    /// Where the segment starts in it.
    pub(crate) start: usize,
}

/// A segment that is not empty, and its answer's number.
type Segment<'i> = (usize, &'i [u32]);

/// Finds the answers of `items`, in order, at the ends of `texts`.
///
/// # Errors
/// The first text and token that do not fit; one text too few is the text behind the last.
pub(crate) fn align<'t>(
    texts: impl IntoIterator<Item = &'t ScoredText>,
    items: &[Item],
) -> Result<Vec<Aligned>, Mismatch> {
    let segments: Vec<Segment<'_>> = items
        .iter()
        .enumerate()
        .flat_map(|(item, Item { segments, .. })| segments.iter().map(move |s| (item, &s[..])))
        .filter(|(_, segment)| !segment.is_empty())
        .collect();
    let mut aligned = Vec::new();
    let mut next = 0;
    let mut read = 0;
    for (index, text) in texts.into_iter().enumerate() {
        read = index + 1;
        let long = (next..segments.len()).find(|&at| segments[at].1.len() >= 2);
        // The short ones before it come second: one token is the end of many texts.
        let mut candidates = long.into_iter().chain(next..long.unwrap_or(segments.len()));
        let found = candidates.find_map(|at| Some((at, fits(&segments, at, text.tokens())?)));
        let Some((at, count)) = found else {
            let wanted = long.map_or(&[][..], |at| segments[at].1);
            let at = difference(text, wanted);
            return Err(Mismatch { text: index, at });
        };
        next = at + count;
        let tokens: usize = segments[at..next].iter().map(|(_, s)| s.len()).sum();
        let mut start = text.tokens().len() - tokens;
        for (_, segment) in &segments[at..next] {
            let end = start + segment.len();
            let text = text.part(start, end);
            aligned.push(Aligned { text, start });
            start = end;
        }
    }
    match segments[next..].iter().any(|(_, s)| s.len() >= 2) {
        true => Err(Mismatch { text: read, at: 0 }),
        false => Ok(aligned),
    }
}

/// How many segments from `at` on the tokens end with: all of an answer, or one.
fn fits(segments: &[Segment<'_>], at: usize, tokens: &[u32]) -> Option<usize> {
    let (item, segment) = segments[at];
    let whole = segments[at..]
        .iter()
        .take_while(|(i, _)| *i == item)
        .count();
    let begins = at == 0 || segments[at - 1].0 != item;
    if begins && whole > 1 {
        let answer: Vec<u32> = segments[at..at + whole]
            .iter()
            .flat_map(|(_, s)| *s)
            .copied()
            .collect();
        if tokens.ends_with(&answer) {
            return Some(whole);
        }
    }
    tokens.ends_with(segment).then_some(1)
}

/// The first token that differs, if the answer starts where the distributions or the text's end say.
fn difference(text: &ScoredText, segment: &[u32]) -> usize {
    let tokens = text.tokens();
    let start = match text.first() {
        0 | 1 => tokens.len().saturating_sub(segment.len()),
        first => first,
    };
    let pairs = tokens[start..].iter().zip(segment);
    start + pairs.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(answers: &[&[&[u32]]]) -> Vec<Item> {
        let item = |segments: &&[&[u32]]| Item {
            label: None,
            domain: None,
            name: String::new(),
            contexts: Vec::new(),
            segments: segments.iter().map(|s| s.to_vec()).collect(),
            source: None,
        };
        answers.iter().map(item).collect()
    }

    /// A text with a distribution at every token from `first` on.
    fn text(tokens: &[u32], first: usize) -> ScoredText {
        let lists = tokens[first..].iter().map(|&token| [(token, 0.5)]);
        ScoredText::new(100, tokens.to_vec(), first, lists).unwrap()
    }

    /// Starts, first distributions and ends.
    fn places(texts: &[ScoredText], items: &[Item]) -> Result<Vec<[usize; 3]>, Mismatch> {
        let place = |a: &Aligned| [a.start, a.text.first(), a.text.tokens().len()];
        Ok(align(texts, items)?.iter().map(place).collect())
    }

    #[test]
    fn the_answer_says_where_it_starts() {
        let items = items(&[&[&[1, 2, 3]], &[&[]], &[&[4]], &[&[5, 6], &[7, 8]]]);
        // Alone; with a prompt whose positions were kept; with one whose were not.
        let expected = [[2, 2, 5], [1, 1, 3], [3, 3, 5]];
        let read = [text(&[9, 9, 1, 2, 3], 1), text(&[9, 5, 6, 7, 8], 1)];
        assert_eq!(places(&read, &items).unwrap(), expected);
        let read = [
            text(&[1, 2, 3], 1),
            text(&[9, 4], 1),
            text(&[9, 5, 6, 7, 8], 1),
        ];
        let alone = [[0, 1, 3], [1, 1, 2], [1, 1, 3], [3, 3, 5]];
        assert_eq!(places(&read, &items).unwrap(), alone);
        let read = [
            text(&[9, 9, 1, 2, 3], 2),
            text(&[5, 6], 1),
            text(&[9, 7, 8], 1),
        ];
        let parts = [[2, 2, 5], [0, 1, 2], [1, 1, 3]];
        assert_eq!(places(&read, &items).unwrap(), parts);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let items = items(&[&[&[1, 2, 3]], &[&[4, 5, 6]]]);
        let at = |texts: &[ScoredText]| places(texts, &items).unwrap_err();
        assert_eq!(at(&[text(&[1, 7, 3], 1)]), Mismatch { text: 0, at: 1 });
        let swapped = [text(&[4, 5, 6], 1), text(&[1, 2, 3], 1)];
        assert_eq!(at(&swapped), Mismatch { text: 0, at: 0 });
        let fewer = [text(&[1, 2, 3], 1)];
        assert_eq!(at(&fewer), Mismatch { text: 1, at: 0 });
        let more = [
            text(&[1, 2, 3], 1),
            text(&[4, 5, 6], 1),
            text(&[4, 5, 6], 1),
        ];
        assert_eq!(at(&more).text, 2);
        assert_eq!(at(&[]), Mismatch { text: 0, at: 0 });
    }
}
