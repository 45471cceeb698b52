//! Time and memory of a detector as the corpus grows, the tokens streamed from a file; and what a second thread
//! gives.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::Serialize;
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
    /// Nanoseconds of one core a token, reading the file included.
    pub ns_per_token: f64,
    /// The same with at most `bounded_cells` cells in memory and the others in runs on disk.
    pub bounded_ns_per_token: f64,
    /// Elapsed time of one thread over that of two on halves of the corpus, merged.
    pub two_threads: f64,
}

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
const PIECE: usize = 1 << 20;

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
        let mut corpus = Corpus::write(size, directory)?;
        let start = cpu_seconds();
        let whole = corpus.read(0..size, Stream::new(&mark))?.finish()?;
        let ns_per_token = (cpu_seconds() - start) * 1e9 / size as f64;
        let start = cpu_seconds();
        let stream = Stream::bounded(&mark, bounded_cells, directory.to_owned());
        let bounded = corpus.read(0..size, stream)?.finish()?;
        let bounded_ns_per_token = (cpu_seconds() - start) * 1e9 / size as f64;
        if bounded.score != whole.score {
            return Err(io::Error::other("two ways of reading disagree"));
        }
        let start = Instant::now();
        corpus.read(0..size, Stream::new(&mark))?.finish()?;
        let one = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let (mut first, mut second) = (corpus.again()?, corpus.again()?);
        let half = size / 2;
        let mark = &mark;
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(move || first.read(0..half, Stream::new(mark)));
            let second = second.read(half..size, Stream::new(mark));
            (first.join().expect("no panic"), second)
        });
        let mut both = first?;
        both.merge(second?)?;
        both.finish()?;
        growths.push(Growth {
            tokens: size,
            cells: whole.score.cells,
            ns_per_token,
            bounded_ns_per_token,
            two_threads: one / start.elapsed().as_secs_f64(),
        });
    }
    Ok(growths)
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

    fn read<'m>(
        &mut self,
        range: core::ops::Range<u64>,
        stream: Stream<'m>,
    ) -> io::Result<Stream<'m>> {
        self.again()?.read(range, stream)
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
            for segment in ids.chunks(1000) {
                stream.push(segment)?;
            }
            left -= count;
        }
        Ok(stream)
    }
}
