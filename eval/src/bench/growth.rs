//! Time and memory of a detector as the corpus grows, the tokens streamed from a file; and what a second thread
//! gives.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::Serialize;
use watermark_core::profile::Mark;
use watermark_core::stream::Stream;

use super::{VOCABULARY, cpu_seconds, green};

/// One size of corpus.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Growth {
    /// Tokens.
    pub tokens: u64,
    /// Distinct cells.
    pub cells: u64,
    /// Nanoseconds of one core a token, reading the file included and all cells in memory; not for corpora of
    /// more than [`IN_MEMORY`] tokens.
    pub ns_per_token: Option<f64>,
    /// The same with at most `bounded_cells` cells in memory and the others in runs on disk.
    pub bounded_ns_per_token: f64,
    /// Elapsed time of one thread over that of two on halves of the corpus, merged, in memory.
    pub two_threads: Option<f64>,
    /// The most memory that the process has had so far, in MiB, where the system tells.
    pub peak_memory_mib: Option<u64>,
}

/// Tokens of the largest corpus whose cells are all held in memory, some 3 GiB.
pub const IN_MEMORY: u64 = 100_000_000;

/// Tokens that repeat as natural ones do: a token of rank r about as often as 1/r, in runs that come again.
fn tokens(count: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let ln = (VOCABULARY as f64).ln();
    let mut text: Vec<u32> = Vec::with_capacity(count);
    while text.len() < count {
        let r = rng.next_u32();
        // One step in fifty copies twenty tokens from anywhere before.
        if r.is_multiple_of(50) && text.len() > 20 {
            let from = rng.next_u32() as usize % (text.len() - 20);
            text.extend_from_within(from..from + 20);
        } else {
            let u = f64::from(rng.next_u32()) / 4_294_967_296.0;
            text.push(((u * ln).exp() as u32).min(VOCABULARY as u32) - 1);
        }
    }
    text.truncate(count);
    text
}

/// Tokens that are in memory at once.
const PIECE: usize = 1000 * SEGMENT;

/// Tokens of a segment, wherever a corpus is cut.
const SEGMENT: usize = 1000;

/// Measures corpora of these sizes, in `directory`.
///
/// # Errors
/// The directory cannot be written, or lacks room: 4 bytes a token, and 12 a distinct cell.
pub fn run(
    sizes: &[u64],
    bounded_cells: usize,
    directory: &Path,
    hear: &dyn Fn(&str),
) -> io::Result<Vec<Growth>> {
    let mark = green(0.25);
    let mut growths = Vec::new();
    for &size in sizes {
        hear(&format!("{size} tokens"));
        let corpus = Corpus::write(size, directory)?;
        let start = cpu_seconds();
        let stream = Stream::bounded(&mark, bounded_cells, directory.to_owned());
        let bounded = corpus.read(0..size, stream)?.finish()?;
        let bounded_ns_per_token = (cpu_seconds() - start) * 1e9 / size as f64;
        let (mut ns_per_token, mut two_threads) = (None, None);
        if size <= IN_MEMORY {
            let (start, clock) = (cpu_seconds(), Instant::now());
            let whole = corpus.read(0..size, Stream::new(&mark))?.finish()?;
            ns_per_token = Some((cpu_seconds() - start) * 1e9 / size as f64);
            let one = clock.elapsed().as_secs_f64();
            let clock = Instant::now();
            let both = corpus.read_by_two(size, &mark)?.finish()?;
            two_threads = Some(one / clock.elapsed().as_secs_f64());
            if [whole.score, both.score] != [bounded.score; 2] {
                return Err(io::Error::other("two ways of reading disagree"));
            }
        }
        growths.push(Growth {
            tokens: size,
            cells: bounded.score.cells,
            ns_per_token,
            bounded_ns_per_token,
            two_threads,
            peak_memory_mib: peak_memory_mib(),
        });
    }
    Ok(growths)
}

fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

/// Token ids in a file, four bytes each.
struct Corpus {
    file: tempfile::NamedTempFile,
}

impl Corpus {
    fn write(size: u64, directory: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(directory)?);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut left = size;
        while left > 0 {
            let count = left.min(PIECE as u64);
            for token in tokens(count as usize, &mut rng) {
                file.write_all(&token.to_le_bytes())?;
            }
            left -= count;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self { file })
    }

    /// The file, opened once more.
    fn again(&self) -> io::Result<Part> {
        Ok(Part(self.file.reopen()?))
    }

    fn read<'m>(&self, range: core::ops::Range<u64>, stream: Stream<'m>) -> io::Result<Stream<'m>> {
        self.again()?.read(range, stream)
    }

    /// Half of the corpus on another thread, then both halves as one.
    fn read_by_two<'m>(&self, size: u64, mark: &'m Mark) -> io::Result<Stream<'m>> {
        let (mut first, mut second) = (self.again()?, self.again()?);
        let half = size / 2 / SEGMENT as u64 * SEGMENT as u64;
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(move || first.read(0..half, Stream::new(mark)));
            let second = second.read(half..size, Stream::new(mark));
            (first.join().expect("no panic"), second)
        });
        let mut both = first?;
        both.merge(second?)?;
        Ok(both)
    }
}

struct Part(File);

impl Part {
    fn read<'m>(
        &mut self,
        range: core::ops::Range<u64>,
        mut stream: Stream<'m>,
    ) -> io::Result<Stream<'m>> {
        self.0.seek(io::SeekFrom::Start(4 * range.start))?;
        let mut file = BufReader::new(&mut self.0);
        let mut bytes = vec![0; 4 * PIECE];
        let mut left = (range.end - range.start) as usize;
        while left > 0 {
            let count = left.min(PIECE);
            file.read_exact(&mut bytes[..4 * count])?;
            let ids: Vec<u32> = bytes[..4 * count]
                .as_chunks()
                .0
                .iter()
                .map(|&four| u32::from_le_bytes(four))
                .collect();
            for segment in ids.chunks(SEGMENT) {
                stream.push(segment)?;
            }
            left -= count;
        }
        Ok(stream)
    }
}
