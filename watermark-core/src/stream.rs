//! READ, for one key and a corpus of any size: tokens are scored as they come, and what is kept is a fingerprint and
//! a score for every distinct cell, in memory or, beyond a budget, in sorted runs on disk.
//!
//! The numbers are those of an [`Exhibit`](crate::window::Exhibit) and [`score`](crate::detect::score): every coin
//! counts once, whatever the order of the text, the number of parts it was read in, or the budget. An exhibit
//! can be read under many keys, tells repeats and sources apart and feeds every test; a stream has one key and one
//! test, in a fraction of the time and memory.

use std::collections::HashMap;
use std::fs::File;
use std::hash::BuildHasherDefault;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::detect::{Score, Test, TestId};
use crate::parallel::in_parallel;
use crate::prf::{BATCH, MAX_CONTEXT, Windows};
use crate::profile::Mark;
use crate::scheme::NOT_KEYED;
use crate::window::{Counts, Excluded, Identity};

type Coins = HashMap<u64, u32, BuildHasherDefault<Identity>>;

/// A detector that takes tokens one segment after another.
#[derive(Debug)]
pub struct Stream<'m> {
    mark: &'m Mark,
    counts: Counts,
    excluded: Excluded,
    batch: Pending,
    /// Fingerprint of a coin to its score.
    coins: Coins,
    /// The sum of their scores.
    sum: u64,
    /// The coins of merged streams; one may be in several tables.
    merged: Vec<Coins>,
    spill: Option<Spill>,
}

/// Cells that wait until a batch is full.
#[derive(Debug)]
struct Pending {
    windows: Vec<u32>,
    tokens: [u32; BATCH],
    len: usize,
}

/// Where coins go that do not fit in memory.
#[derive(Debug)]
struct Spill {
    directory: PathBuf,
    /// Coins in memory at most.
    most: usize,
    runs: Vec<File>,
}

/// What a stream found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where the tokens went.
    pub counts: Counts,
    /// The statistic.
    pub score: Score,
    /// Where it was asked for: SHA-256 of `"wmk1/coins" || h u8 || n u64 LE || SHA-256 of the n fingerprints, u64 LE each, ascending`: two
    /// readers with the key agree on what was counted. It says nothing to others.
    pub digest: Option<[u8; 32]>,
}

impl Found {
    /// The test, every coin once.
    pub fn test(&self, mark: &Mark) -> Test {
        Test::from_score(TestId::ClosedCells, mark.scheme().null(), self.score).under(mark)
    }
}

impl<'m> Stream<'m> {
    /// A stream that keeps all distinct cells in memory, 14 to 28 bytes each.
    pub fn new(mark: &'m Mark) -> Self {
        Self {
            mark,
            counts: Counts::default(),
            excluded: Excluded::default(),
            batch: Pending {
                windows: Vec::with_capacity(BATCH * MAX_CONTEXT),
                tokens: [0; BATCH],
                len: 0,
            },
            coins: Coins::default(),
            sum: 0,
            merged: Vec::new(),
            spill: None,
        }
    }

    /// A stream that keeps at most `cells` distinct cells in memory, at least a thousand; the others go to unnamed files
    /// in `directory`, 12 bytes each, which vanish with the stream.
    #[must_use]
    pub fn bounded(mark: &'m Mark, cells: usize, directory: PathBuf) -> Self {
        Self {
            spill: Some(Spill {
                directory,
                most: cells.max(1000),
                runs: Vec::new(),
            }),
            ..Self::new(mark)
        }
    }

    /// Excludes every window that stands in `prompt`, as [`Exhibit::exclude`](crate::window::Exhibit::exclude). For
    /// all prompts before the first segment.
    pub fn exclude(&mut self, prompt: &[u32]) {
        let width = self.mark.scheme().context_width();
        self.excluded.insert(prompt, width);
    }

    /// Takes in the tokens of one segment.
    ///
    /// # Errors
    /// Beyond the budget: the directory cannot be written.
    pub fn push(&mut self, segment: &[u32]) -> io::Result<()> {
        let width = self.mark.scheme().context_width();
        self.counts.segment(segment, width);
        for cell in segment.windows(width + 1) {
            if self.excluded.has_cell(cell) {
                self.counts.excluded += 1;
                continue;
            }
            self.batch.windows.extend_from_slice(&cell[..width]);
            self.batch.tokens[self.batch.len] = cell[width];
            self.batch.len += 1;
            if self.batch.len == BATCH {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        const WHICH: [u32; BATCH] = {
            let mut which = [0; BATCH];
            let mut i = 0;
            while i < BATCH {
                which[i] = i as u32;
                i += 1;
            }
            which
        };
        let (mut scores, mut coins) = ([0; BATCH], [0; BATCH]);
        let len = self.batch.len;
        let width = self.mark.scheme().context_width();
        let windows = Windows {
            ids: &self.batch.windows,
            count: len,
            stride: width,
            width,
        };
        self.mark.scheme().score_batch(
            &windows,
            &WHICH[..len],
            &self.batch.tokens[..len],
            &mut scores[..len],
            Some(&mut coins[..len]),
        );
        self.batch.windows.clear();
        self.batch.len = 0;
        // No score exceeds 2 * 32 ln 2 * 2^24, below 2^30.
        let pairs = coins.iter().zip(scores).take(len);
        self.take_in(pairs.map(|(&coin, score)| (coin, score as u32)));
        self.make_room()
    }

    fn take_in(&mut self, coins: impl Iterator<Item = (u64, u32)>) {
        for (coin, points) in coins.filter(|&(coin, _)| coin != NOT_KEYED) {
            if self.coins.insert(coin, points).is_none() {
                self.sum += u64::from(points);
            }
        }
    }

    fn make_room(&mut self) -> io::Result<()> {
        match &mut self.spill {
            Some(spill) if self.coins.len() + BATCH > spill.most => {
                spill.write(sorted(&mut self.coins))
            }
            _ => Ok(()),
        }
    }

    /// Adds what another stream under the same mark has read, as if its segments had been pushed here. Excluded windows
    /// are each stream's own.
    ///
    /// # Errors
    /// As [`push`](Self::push), and the other's runs cannot be read.
    pub fn merge(&mut self, mut other: Self) -> io::Result<()> {
        self.flush()?;
        other.flush()?;
        self.counts.segments += other.counts.segments;
        self.counts.tokens += other.counts.tokens;
        self.counts.partial += other.counts.partial;
        self.counts.excluded += other.counts.excluded;
        self.merged.push(other.coins);
        self.merged.extend(other.merged);
        match (&mut self.spill, other.spill) {
            (Some(mine), Some(other)) => mine.runs.extend(other.runs),
            (mine @ None, other) => *mine = other,
            _ => {}
        }
        if self.spill.is_some() {
            self.join();
            self.make_room()?;
        }
        Ok(())
    }

    /// Makes one table of all.
    fn join(&mut self) {
        for coins in core::mem::take(&mut self.merged) {
            // With room beforehand: in the order of one table, which is nearly that of the hashes, a growing
            // table would fill from one side and search ever longer.
            self.coins.reserve(coins.len());
            self.take_in(coins.into_iter());
        }
    }

    /// The statistic over all tables, none of them changed: a coin counts in the first table that has it. One
    /// thread a table, each for its share of the coins.
    fn count(&self) -> Score {
        let mut score = Score {
            cells: self.coins.len() as u64,
            sum: self.sum,
        };
        let tables: Vec<&Coins> = core::iter::once(&self.coins).chain(&self.merged).collect();
        if self.merged.is_empty() {
            return score;
        }
        let parts: Vec<u64> = (0..tables.len() as u64).collect();
        let threads = NonZeroUsize::new(parts.len()).unwrap_or(NonZeroUsize::MIN);
        let shares = in_parallel(threads, &parts, &|&part| {
            let mut share = Score::default();
            for (index, table) in tables.iter().enumerate().skip(1) {
                for (coin, &points) in table.iter() {
                    let mine = (coin >> 32) % parts.len() as u64 == part;
                    let before = &tables[..index];
                    if mine && !before.iter().any(|table| table.contains_key(coin)) {
                        share.cells += 1;
                        share.sum += u64::from(points);
                    }
                }
            }
            share
        });
        for share in shares {
            score.cells += share.cells;
            score.sum += share.sum;
        }
        score
    }

    /// Everything that was read.
    ///
    /// # Errors
    /// Beyond the budget: a run cannot be read back.
    pub fn finish(mut self) -> io::Result<Found> {
        self.flush()?;
        if self
            .spill
            .as_ref()
            .is_some_and(|spill| !spill.runs.is_empty())
        {
            return self.finish_with_digest();
        }
        let score = self.count();
        Ok(self.found(score, None))
    }

    /// The same with a digest of what was counted, for which the coins are sorted.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_with_digest(mut self) -> io::Result<Found> {
        self.flush()?;
        self.join();
        let mut score = Score::default();
        let mut hash = Sha256::new();
        let mut count = |coin: u64, points: u32| {
            score.cells += 1;
            score.sum += u64::from(points);
            hash.update(coin.to_le_bytes());
        };
        let memory = sorted(&mut self.coins);
        let runs = self
            .spill
            .take()
            .map(|spill| spill.runs)
            .unwrap_or_default();
        if runs.is_empty() {
            memory.for_each(|(coin, points)| count(coin, points));
        } else {
            let mut merge = Merge::new(runs, memory)?;
            while let Some((coin, points)) = merge.next()? {
                count(coin, points);
            }
        }
        let mut digest = Sha256::new();
        digest.update(b"wmk1/coins");
        digest.update([self.mark.scheme().context_width() as u8]);
        digest.update(score.cells.to_le_bytes());
        digest.update(hash.finalize());
        Ok(self.found(score, Some(digest.finalize().into())))
    }

    fn found(&self, score: Score, digest: Option<[u8; 32]>) -> Found {
        let mut counts = self.counts;
        counts.cells = score.cells;
        counts.repeated = counts.tokens - counts.partial - counts.excluded - counts.cells;
        Found {
            counts,
            score,
            digest,
        }
    }
}

/// The coins in ascending order, leaving none.
fn sorted(coins: &mut Coins) -> impl Iterator<Item = (u64, u32)> + use<> {
    let mut all: Vec<(u64, u32)> = coins.drain().collect();
    all.sort_unstable();
    all.into_iter()
}

impl Spill {
    fn write(&mut self, coins: impl Iterator<Item = (u64, u32)>) -> io::Result<()> {
        let mut file = BufWriter::new(tempfile::tempfile_in(&self.directory)?);
        for (coin, points) in coins {
            file.write_all(&coin.to_le_bytes())?;
            file.write_all(&points.to_le_bytes())?;
        }
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.runs.push(file);
        Ok(())
    }
}

/// Sorted runs as one, each coin once.
struct Merge<I> {
    runs: Vec<BufReader<File>>,
    memory: I,
    /// The next coin of every source; the last source is memory.
    heads: std::collections::BinaryHeap<core::cmp::Reverse<(u64, u32, usize)>>,
}

impl<I: Iterator<Item = (u64, u32)>> Merge<I> {
    fn new(runs: Vec<File>, memory: I) -> io::Result<Self> {
        let mut merge = Self {
            runs: runs.into_iter().map(BufReader::new).collect(),
            memory,
            heads: Default::default(),
        };
        for source in 0..=merge.runs.len() {
            merge.draw(source)?;
        }
        Ok(merge)
    }

    fn draw(&mut self, source: usize) -> io::Result<()> {
        let next = match self.runs.get_mut(source) {
            None => self.memory.next(),
            Some(run) => {
                let mut record = [0; 12];
                match run.read_exact(&mut record) {
                    Ok(()) => {
                        let (coin, points) = record.split_at(8);
                        Some((
                            u64::from_le_bytes(coin.try_into().expect("eight bytes")),
                            u32::from_le_bytes(points.try_into().expect("four bytes")),
                        ))
                    }
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                    Err(error) => return Err(error),
                }
            }
        };
        if let Some((coin, points)) = next {
            self.heads.push(core::cmp::Reverse((coin, points, source)));
        }
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<(u64, u32)>> {
        let Some(core::cmp::Reverse((coin, points, source))) = self.heads.pop() else {
            return Ok(None);
        };
        self.draw(source)?;
        while let Some(&core::cmp::Reverse((same, _, source))) = self.heads.peek() {
            if same != coin {
                break;
            }
            self.heads.pop();
            self.draw(source)?;
        }
        Ok(Some((coin, points)))
    }
}
