//! Which positions count: the one rule that writer and reader share, and the exhibit's cells.
//!
//! A *window* is the h token ids before a position; a *cell* is (window, token). A window lies
//! inside one segment (a prompt never enters it), so the first h positions of a segment have
//! none. Over an exhibit every cell counts once: a repeated cell is the same coin again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::cells::Cells;

/// The window of position `at` of a segment; `None` in the first h positions.
#[inline]
pub fn window(segment: &[u32], at: usize, context_width: usize) -> Option<&[u32]> {
    segment.get(at.checked_sub(context_width)?..at)
}

/// The stretches of an answer's ids between special tokens (`special`, ascending): each is a segment. None is empty.
///
/// Special tokens (ends of text and turns, markers of reasoning and of tool calls) are no text of the answer. They are
/// never scored and stand in no window. A [`Session`](crate::sampler::Session) starts a segment after each, and what
/// comes before one is the same with it or without, so writer and reader agree, whether the reader has the ids with
/// the markers or without them.
pub fn segments<'t>(tokens: &'t [u32], special: &'t [u32]) -> impl Iterator<Item = &'t [u32]> {
    tokens
        .split(|token| special.binary_search(token).is_ok())
        .filter(|segment| !segment.is_empty())
}

/// A 64-bit fingerprint of a run of tokens, without a key: two multiplications a token.
///
/// It serves equality only. Two different cells are taken for one with probability about
/// n^2 / 2^65 over an exhibit of n cells, which drops a cell and cannot add one.
#[inline]
pub(crate) fn fingerprint(tokens: &[u32]) -> u64 {
    let mut state = 0x243f_6a88_85a3_08d3 ^ tokens.len() as u64;
    for &token in tokens {
        let product = u128::from(state ^ (u64::from(token) | 0x1319_8a2e_0000_0000))
            * 0x9e37_79b9_7f4a_7c15_u128;
        state = (product >> 64) as u64 ^ product as u64;
    }
    let product = u128::from(state) * 0xd6e8_feb8_6659_fd93_u128;
    (product >> 64) as u64 ^ product as u64
}

/// The fingerprints are hashes already.
#[derive(Default, Clone, Debug)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 keys are hashed");
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A set of fingerprints.
pub(crate) type Fingerprints = HashSet<u64, BuildHasherDefault<Identity>>;

/// Windows that stand in prompts: what follows them does not count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Excluded(Fingerprints);

impl Excluded {
    /// Every window of a prompt; without context its tokens themselves.
    pub(crate) fn insert(&mut self, prompt: &[u32], context_width: usize) {
        let windows = prompt.windows(context_width.max(1));
        self.0.extend(windows.map(fingerprint));
    }

    /// Whether a cell, h context tokens and the token after them, does not count.
    #[inline]
    pub(crate) fn has_cell(&self, cell: &[u32]) -> bool {
        let width = cell.len() - 1;
        self.has(if width == 0 { cell } else { &cell[..width] })
    }

    #[inline]
    fn has(&self, window: &[u32]) -> bool {
        !self.0.is_empty() && self.0.contains(&fingerprint(window))
    }
}

/// Where the tokens of an exhibit went. `tokens = partial + excluded + repeated + scored`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Segments (answers, documents) taken in.
    pub segments: u64,
    /// Tokens of these segments.
    pub tokens: u64,
    /// Without a full window: the first h of a segment.
    pub partial: u64,
    /// In a window that also stands in a prompt or conversation.
    pub excluded: u64,
    /// Cells met before in the exhibit.
    pub repeated: u64,
    /// Distinct cells.
    pub cells: u64,
}

impl Counts {
    /// A segment, and its first h tokens.
    pub(crate) fn segment(&mut self, segment: &[u32], context_width: usize) {
        self.segments += 1;
        self.tokens += segment.len() as u64;
        self.partial += segment.len().min(context_width) as u64;
    }
}

/// The cells of everything that one suspect said: each once, in order of first appearance, with
/// the number of times that it came.
///
/// An exhibit is the clean regime's evidence ([`crate::regime`]): its prompts, its text and the
/// decision to stop collecting do not depend on the key.
#[derive(Clone, Debug)]
pub struct Exhibit {
    counts: Counts,
    excluded: Excluded,
    /// Fingerprint of a cell to its index.
    seen: HashMap<u64, u32, BuildHasherDefault<Identity>>,
    cells: Cells,
    /// The index of the cell at every counted position, in order of the text.
    places: Vec<u32>,
    /// Where in `places` the stretches start, and whose they are.
    stretches: Vec<(usize, u32)>,
}

impl Exhibit {
    /// An empty exhibit for windows of `context_width` tokens.
    pub fn new(context_width: usize) -> Self {
        Self {
            counts: Counts::default(),
            excluded: Excluded::default(),
            seen: HashMap::default(),
            cells: Cells::new(context_width),
            places: Vec::new(),
            stretches: Vec::new(),
        }
    }

    /// Excludes every window that stands anywhere in `prompt` (a prompt, a system prompt or a
    /// turn of a conversation): a model may repeat from it without having learned it. With
    /// h = 0 there is no window, and the prompt's tokens are excluded themselves.
    ///
    /// Call it for all prompts of the exhibit before the first [`push`](Self::push): exclusion
    /// does not reach back.
    pub fn exclude(&mut self, prompt: &[u32]) {
        self.excluded.insert(prompt, self.context_width());
    }

    /// Takes in the tokens of one answer, as the answer to a prompt of its own.
    pub fn push(&mut self, segment: &[u32]) {
        let source = self.stretches.last().map_or(0, |&(_, source)| source + 1);
        self.push_from(source, segment);
    }

    /// Takes in the tokens of one answer to the prompt of number `source`: several segments of a
    /// conversation, or several answers to one prompt, share it. Statistics by prompt need it.
    pub fn push_from(&mut self, source: u32, segment: &[u32]) {
        let width = self.context_width();
        self.counts.segment(segment, width);
        self.stretches.push((self.places.len(), source));
        self.seen.reserve(segment.len().saturating_sub(width));
        for cell in segment.windows(width + 1) {
            if self.excluded.has_cell(cell) {
                self.counts.excluded += 1;
            } else {
                self.count(cell);
            }
        }
    }

    /// h.
    pub fn context_width(&self) -> usize {
        self.cells.context_width()
    }

    /// Where the tokens went.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The distinct cells, in order of first appearance.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// How often each cell came, in the cells' order.
    pub fn times(&self) -> Vec<u32> {
        let mut times = vec![0; self.cells.len()];
        self.places
            .iter()
            .for_each(|&index| times[index as usize] += 1);
        times
    }

    /// The text as stretches of one source: its number, and the cell at each counted position.
    pub fn stretches(&self) -> impl Iterator<Item = (u32, &[u32])> {
        let ends = self.stretches.iter().skip(1).map(|&(start, _)| start);
        self.stretches
            .iter()
            .zip(ends.chain([self.places.len()]))
            .map(|(&(start, source), end)| (source, &self.places[start..end]))
    }

    /// The exhibit without the answers to one prompt; its exclusions stay.
    #[must_use]
    pub fn without(&self, source: u32) -> Self {
        let mut rest = Self {
            excluded: self.excluded.clone(),
            ..Self::new(self.context_width())
        };
        for (other, places) in self.stretches().filter(|&(other, _)| other != source) {
            rest.counts.segments += 1;
            rest.counts.tokens += places.len() as u64;
            rest.stretches.push((rest.places.len(), other));
            for &place in places {
                let (window, token) = self.cells.get(place as usize);
                rest.count(&[window, &[token]].concat());
            }
        }
        rest
    }

    /// Takes in one counted position.
    fn count(&mut self, cell: &[u32]) {
        let next = self.cells.len() as u32;
        let index = *self.seen.entry(fingerprint(cell)).or_insert(next);
        self.places.push(index);
        if index == next {
            self.counts.cells += 1;
            self.cells.push(cell);
        } else {
            self.counts.repeated += 1;
        }
    }

    /// Whether a window stands in one of the prompts.
    pub fn excludes(&self, window: &[u32]) -> bool {
        self.excluded.has(window)
    }

    /// Whether a cell, h context tokens and the token after them, is left out for a prompt.
    pub(crate) fn excludes_cell(&self, cell: &[u32]) -> bool {
        self.excluded.has_cell(cell)
    }

    /// The index of a cell, if the exhibit has it.
    pub fn find(&self, window: &[u32], token: u32) -> Option<usize> {
        let mut cell = [0; crate::prf::MAX_CONTEXT + 1];
        let cell = cell.get_mut(..=window.len())?;
        cell[..window.len()].copy_from_slice(window);
        cell[window.len()] = token;
        self.seen
            .get(&fingerprint(cell))
            .map(|&index| index as usize)
    }

    /// [`Cells::digest`] of the cells.
    pub fn digest(&self) -> [u8; 32] {
        self.cells.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_accounted_for() {
        let mut exhibit = Exhibit::new(2);
        exhibit.exclude(&[9, 1, 2]);
        exhibit.push(&[1, 2, 3, 4, 3, 4, 3]);
        exhibit.push(&[3, 4, 3]);
        exhibit.push(&[5]);
        let counts = *exhibit.counts();
        let expected = Counts {
            segments: 3,
            tokens: 11,
            partial: 5,
            excluded: 1,
            repeated: 2,
            cells: 3,
        };
        assert_eq!(counts, expected);
        let cells: Vec<_> = exhibit.cells().iter().collect();
        assert_eq!(cells, [(&[2, 3][..], 4), (&[3, 4], 3), (&[4, 3], 4)]);
        assert_eq!(exhibit.times(), [1, 3, 1]);
        let stretches: Vec<_> = exhibit.stretches().collect();
        assert_eq!(stretches, [(0, &[0, 1, 2, 1][..]), (1, &[1]), (2, &[])]);
        assert_eq!(exhibit.find(&[3, 4], 3), Some(1));
        assert_eq!(exhibit.find(&[3, 4], 4), None);
        assert!(exhibit.excludes(&[9, 1]) && !exhibit.excludes(&[3, 4]));
    }

    #[test]
    fn without_context_the_token_itself_is_the_cell() {
        let mut exhibit = Exhibit::new(0);
        exhibit.exclude(&[7]);
        exhibit.push(&[1, 7, 1, 2]);
        let cells: Vec<_> = exhibit.cells().iter().map(|(_, token)| token).collect();
        assert_eq!(cells, [1, 2]);
        assert_eq!(exhibit.counts().excluded, 1);
    }

    #[test]
    fn the_digest_ignores_the_order_of_segments() {
        let digest = |segments: &[&[u32]]| {
            let mut exhibit = Exhibit::new(1);
            segments.iter().for_each(|segment| exhibit.push(segment));
            exhibit.digest()
        };
        assert_eq!(
            digest(&[&[1, 2, 3], &[4, 5]]),
            digest(&[&[4, 5], &[1, 2, 3]])
        );
        assert_ne!(digest(&[&[1, 2, 3]]), digest(&[&[1, 2, 4]]));
    }

    #[test]
    fn the_rule_for_the_window_is_that_of_the_exhibit() {
        let segment = [1, 2, 3, 4];
        for width in 0..5 {
            let mut exhibit = Exhibit::new(width);
            exhibit.push(&segment);
            let by_rule: Vec<_> = (0..segment.len())
                .filter_map(|at| Some((window(&segment, at, width)?, segment[at])))
                .collect();
            assert_eq!(exhibit.cells().iter().collect::<Vec<_>>(), by_rule);
        }
    }
}
