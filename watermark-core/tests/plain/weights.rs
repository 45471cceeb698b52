//! SPEC.md section 13 in a straight line: cells and weights of every test, and their sums. Lists are searched
//! from the front; nothing is hashed or sorted early.

use super::Plain;

/// h context tokens and the token after them.
pub(crate) type Cell = Vec<u32>;

/// A text as a model reads it: from token `first` on one list of (id, probability) a token.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) tokens: Vec<u32>,
    pub(crate) first: usize,
    pub(crate) top: Vec<Vec<(u32, f32)>>,
}

/// What a suspect said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) h: usize,
    pub(crate) exclude: Vec<Vec<u32>>,
    pub(crate) segments: Vec<Vec<u32>>,
}

fn cell(segment: &[u32], at: usize, h: usize) -> Cell {
    segment[at - h..=at].to_vec()
}

fn with(window: &[u32], token: u32) -> Cell {
    [window, &[token]].concat()
}

impl Said {
    /// Whether position `at` of a segment counts: it has a window, which is not excluded.
    fn counts(&self, segment: &[u32], at: usize) -> bool {
        if at < self.h {
            return false;
        }
        let outside = match self.h {
            0 => &segment[at..=at],
            h => &segment[at - h..at],
        };
        let mut prompts = self.exclude.iter();
        !prompts.any(|prompt| prompt.windows(outside.len()).any(|run| run == outside))
    }

    /// The cell at every position that counts, repeats included.
    fn places(&self) -> Vec<Cell> {
        let mut places = Vec::new();
        for segment in &self.segments {
            for at in 0..segment.len() {
                if self.counts(segment, at) {
                    places.push(cell(segment, at, self.h));
                }
            }
        }
        places
    }

    /// Distinct cells, each with its count n, in order of first appearance.
    fn counted(&self) -> Vec<(Cell, u64)> {
        let mut counted: Vec<(Cell, u64)> = Vec::new();
        for place in self.places() {
            match counted.iter_mut().find(|(cell, _)| *cell == place) {
                Some((_, n)) => *n += 1,
                None => counted.push((place, 1)),
            }
        }
        counted
    }

    pub(crate) fn closed_cells(&self) -> Vec<(Cell, i64)> {
        let once = |(cell, _)| (cell, 1);
        self.counted().into_iter().map(once).collect()
    }

    pub(crate) fn closed_sqrt(&self) -> Vec<(Cell, i64)> {
        let root = |(cell, n)| (cell, root_64(n));
        self.counted().into_iter().map(root).collect()
    }

    /// In whole numbers: 8 n N / Q to the nearest, halves up, is floor((16 n N + Q) / (2 Q)).
    pub(crate) fn closed_inverse_variance(&self) -> Vec<(Cell, i64)> {
        let counted = self.counted();
        let weight = |(cell, n): &(Cell, u64)| {
            let (mut sum, mut squares) = (0, 0);
            for (other, m) in &counted {
                if other[..self.h] == cell[..self.h] {
                    sum += m;
                    squares += m * m;
                }
            }
            let rounded = (16 * n * sum + squares) / (2 * squares);
            (cell.clone(), rounded as i64)
        };
        nonzero(counted.iter().map(weight))
    }

    pub(crate) fn closed_corpus(&self, corpus: &[Vec<u32>]) -> Vec<(Cell, i64)> {
        let weight = |(cell, n): (Cell, u64)| {
            let texts = corpus.iter().flat_map(|text| text.windows(self.h + 1));
            let m = texts.filter(|run| *run == cell).count() as u64;
            (cell, root_64(n + m))
        };
        self.counted().into_iter().map(weight).collect()
    }

    /// `read` are the segments, with what the reference read before them.
    pub(crate) fn closed_reference(&self, read: &[Read]) -> Vec<(Cell, i64)> {
        let mut sums = Vec::new();
        for text in read {
            let segment = &text.tokens[text.first..];
            for at in 0..segment.len() {
                if !self.counts(segment, at) {
                    continue;
                }
                let window = &segment[at - self.h..at];
                add(&mut sums, with(window, segment[at]), 1.0);
                for &(token, p) in &by_id(&text.top[at]) {
                    add(&mut sums, with(window, token), -f64::from(p));
                }
            }
        }
        fixed(sums, 64.0)
    }

    /// Cells whose windows the logs emitted, by place of first emission, then by token.
    pub(crate) fn supervised(&self, logs: &[Vec<u32>]) -> Vec<Cell> {
        let emitted = emitted(logs, self.h);
        let mut chosen: Vec<(usize, Cell)> = Vec::new();
        for (cell, _) in self.counted() {
            let place = emitted.iter().position(|window| *window == cell[..self.h]);
            if let Some(place) = place {
                chosen.push((place, cell));
            }
        }
        chosen.sort_by_key(|(place, cell)| (*place, cell[self.h]));
        chosen.into_iter().map(|(_, cell)| cell).collect()
    }

    pub(crate) fn never_emitted(&self, logs: &[Vec<u32>]) -> Vec<Cell> {
        let emitted = emitted(logs, self.h);
        let unseen = |cell: &Cell| !emitted.contains(&cell[..self.h].to_vec());
        let cells = self.counted().into_iter().map(|(cell, _)| cell);
        cells.filter(unseen).collect()
    }
}

/// Every window that logs emit, in order: before each token that has one, and after the last token.
fn emitted(logs: &[Vec<u32>], h: usize) -> Vec<Vec<u32>> {
    let mut emitted = Vec::new();
    for segment in logs {
        for at in h..=segment.len() {
            emitted.push(segment[at - h..at].to_vec());
        }
    }
    emitted
}

pub(crate) fn open_argmax(h: usize, texts: &[Read]) -> Vec<(Cell, i64)> {
    let mut cells: Vec<(Cell, i64)> = Vec::new();
    each_position(h, texts, |window, top| {
        let mut best: Option<(u32, f32)> = None;
        for &(token, p) in top {
            if best.is_none_or(|(_, most)| p > most) {
                best = Some((token, p));
            }
        }
        if let Some((token, _)) = best {
            let cell = with(window, token);
            if !cells.iter().any(|(known, _)| *known == cell) {
                cells.push((cell, 1));
            }
        }
    });
    cells
}

pub(crate) fn open_soft(h: usize, texts: &[Read]) -> Vec<(Cell, i64)> {
    let mut sums = Vec::new();
    each_position(h, texts, |window, top| {
        for &(token, p) in top {
            add(&mut sums, with(window, token), f64::from(p));
        }
    });
    fixed(sums, 1_048_576.0)
}

pub(crate) fn open_contrast(
    h: usize,
    texts: &[Read],
    references: &[Vec<Read>],
) -> Vec<(Cell, i64)> {
    let mut sums = Vec::new();
    each_position(h, texts, |window, top| {
        for &(token, p) in top {
            add(&mut sums, with(window, token), f64::from(p));
        }
    });
    let share = -1.0 / references.len() as f64;
    for reference in references {
        each_position(h, reference, |window, top| {
            for &(token, p) in top {
                add(&mut sums, with(window, token), share * f64::from(p));
            }
        });
    }
    fixed(sums, 1_048_576.0)
}

/// Every position of neutral texts that has a list and a window, with both.
fn each_position(h: usize, texts: &[Read], mut take: impl FnMut(&[u32], &[(u32, f32)])) {
    for text in texts {
        for at in text.first..text.tokens.len() {
            if at >= h {
                let top = by_id(&text.top[at - text.first]);
                take(&text.tokens[at - h..at], &top);
            }
        }
    }
}

fn by_id(top: &[(u32, f32)]) -> Vec<(u32, f32)> {
    let mut top = top.to_vec();
    top.sort_by_key(|&(id, _)| id);
    top
}

fn add(sums: &mut Vec<(Cell, f64)>, cell: Cell, term: f64) {
    match sums.iter_mut().find(|(known, _)| *known == cell) {
        Some((_, sum)) => *sum += term,
        None => sums.push((cell, term)),
    }
}

/// To the nearest integer, halves away from zero. The scale is a power of two, so that the product is exact.
fn fixed(sums: Vec<(Cell, f64)>, scale: f64) -> Vec<(Cell, i64)> {
    let rounded = |sum: f64| {
        let size = (sum * scale).abs();
        let below = size.floor();
        let nearest = if size - below >= 0.5 {
            below + 1.0
        } else {
            below
        };
        nearest as i64 * if sum < 0.0 { -1 } else { 1 }
    };
    nonzero(sums.into_iter().map(|(cell, sum)| (cell, rounded(sum))))
}

fn nonzero(weights: impl Iterator<Item = (Cell, i64)>) -> Vec<(Cell, i64)> {
    weights.filter(|&(_, weight)| weight != 0).collect()
}

/// floor(sqrt(64 n)).
fn root_64(n: u64) -> i64 {
    let mut root = 0;
    while (root + 1) * (root + 1) <= 64 * n {
        root += 1;
    }
    root as i64
}

/// Number of coins with a weight, and T.
pub(crate) fn weighed(plain: &Plain, weights: &[(Cell, i64)]) -> (u64, i128) {
    let h = usize::from(plain.context_width);
    let mut coins = Vec::new();
    let mut sum = 0;
    for (cell, weight) in weights {
        sum += i128::from(*weight) * i128::from(plain.score(&cell[..h], cell[h]));
        let coin = coin(plain, cell);
        match coins.iter_mut().find(|(known, _)| *known == coin) {
            Some((_, total)) => *total += weight,
            None => coins.push((coin, *weight)),
        }
    }
    let left = coins.iter().filter(|(_, weight)| *weight != 0).count();
    (left as u64, sum)
}

/// The same where every coin counts once.
pub(crate) fn counted_once(plain: &Plain, cells: &[Cell]) -> (u64, i128) {
    let h = usize::from(plain.context_width);
    let (mut met, mut sum) = (Vec::new(), 0);
    for cell in cells {
        let coin = coin(plain, cell);
        if !met.contains(&coin) {
            met.push(coin);
            sum += i128::from(plain.score(&cell[..h], cell[h]));
        }
    }
    (met.len() as u64, sum)
}

/// What two cells of one coin have in common: of scheme 5 the anchor and the token, else the cell.
fn coin(plain: &Plain, cell: &Cell) -> (Option<[u8; 32]>, Cell) {
    let h = usize::from(plain.context_width);
    if plain.scheme == 5 {
        (Some(plain.deciding(&cell[..h], cell[h])), vec![cell[h]])
    } else {
        (None, cell.clone())
    }
}
