//! Compression of layers, both ways.
//!
//! What is written depends on the bytes, the method and the level, never on the number of threads:
//! * gzip is one member, made as pigz makes it: blocks of 128 KiB, each compressed on its own (`deflate`) with the last
//!   32 KiB of the block before as dictionary, joined at whole bytes;
//! * zstd always runs its multi-threaded form, with a fixed job size.
//!
//! What it takes of memory depends on neither the layer nor the machine: so many threads work as fit into
//! `MEMORY_BYTES`, and zstd's tables stop growing at level 12. The last per cent that larger ones would save costs a
//! hundred megabytes a thread, and then as much to read.
//!
//! What is read may be several gzip members or zstd frames one after the other, as RFC 1952 and RFC 8878 allow
//! and several builders write, with zeros behind them.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::Crc;
use oci::Compression;
use zstd::zstd_safe::CParameter;

use super::deflate::Deflate;

/// How to compress: the method and how hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// The method.
    pub compression: Compression,
    /// 1 to 9 for gzip, 1 to 22 for zstd; means nothing for none. Others are brought into range.
    pub level: u32,
}

impl Codec {
    /// The method at its usual level: 7 for gzip, 3 for zstd. At 6, which is others' usual one, layers of words and noise are
    /// a thousandth larger than BuildKit's.
    pub fn new(compression: Compression) -> Codec {
        let level = match compression {
            Compression::None => 0,
            Compression::Gzip => 7,
            Compression::Zstd => 3,
        };
        Codec { compression, level }
    }

    /// Compresses `source` into `out` with this many threads beside the caller's, or fewer where they would take too
    /// much memory.
    pub fn compress(self, source: &mut dyn Read, out: &mut dyn Write, threads: usize) -> io::Result<()> {
        let threads = threads.clamp(1, self.most_threads());
        match self.compression {
            Compression::None => io::copy(source, out).map(drop),
            Compression::Gzip => gzip(source, out, self.level.clamp(1, 9), threads),
            Compression::Zstd => zstd(source, out, self.level.clamp(1, 22), threads),
        }
    }
}

/// What the threads of one compression may take together, in bytes.
const MEMORY_BYTES: usize = 64 << 20;

impl Codec {
    fn most_threads(self) -> usize {
        // A state and a probe, and the blocks that wait to be compressed or written; zstd: a job, what it looks back at
        // and what it becomes, and the tables.
        let thread_bytes = match (self.compression, self.level) {
            (Compression::None | Compression::Gzip, _) => 2 << 20,
            (Compression::Zstd, 0..=4) => 7 << 20,
            (Compression::Zstd, 5..=8) => 12 << 20,
            (Compression::Zstd, 9) => 18 << 20,
            (Compression::Zstd, _) => 32 << 20,
        };
        MEMORY_BYTES / thread_bytes
    }
}

/// The method that some bytes were compressed by, judging by their beginning.
pub fn detect(beginning: &[u8]) -> Compression {
    match beginning {
        [0x1f, 0x8b, 8, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Reads what `source` holds, decompressed; how it is compressed is seen from its first bytes.
pub fn decoder<'a>(source: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut source = BufReader::with_capacity(256 * 1024, Head::new(source)?);
    Ok(match detect(source.fill_buf()?) {
        Compression::None => Box::new(source),
        method => Box::new(Members { method, state: State::Between(source), any: false }),
    })
}

/// A source whose first read gives enough to recognise a method, however short its own reads are.
struct Head<R> {
    bytes: [u8; 4],
    /// Which of `bytes` are still to be given.
    rest: std::ops::Range<usize>,
    source: R,
}

impl<R: Read> Head<R> {
    fn new(mut source: R) -> io::Result<Head<R>> {
        let mut bytes = [0; 4];
        let count = fill(&mut source, &mut bytes)?;
        Ok(Head { bytes, rest: 0..count, source })
    }
}

impl<R: Read> Read for Head<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            return self.source.read(buffer);
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes[self.rest.start..self.rest.start + count]);
        self.rest.start += count;
        Ok(count)
    }
}

/// Decompresses members, or frames, one after the other.
struct Members<R: BufRead> {
    method: Compression,
    state: State<R>,
    any: bool,
}

enum State<R: BufRead> {
    Between(R),
    Gzip(Box<flate2::bufread::GzDecoder<R>>),
    Zstd(zstd::stream::read::Decoder<'static, R>),
    /// At the end, or after an error.
    Done,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (count, source) = match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Ok(0),
                State::Between(source) => match self.next(source)? {
                    Some(state) => {
                        self.state = state;
                        continue;
                    }
                    None => return Ok(0),
                },
                State::Gzip(mut member) => match member.read(buffer)? {
                    0 => (0, member.into_inner()),
                    count => {
                        self.state = State::Gzip(member);
                        return Ok(count);
                    }
                },
                State::Zstd(mut frame) => match frame.read(buffer)? {
                    0 => (0, frame.finish()),
                    count => {
                        self.state = State::Zstd(frame);
                        return Ok(count);
                    }
                },
            };
            debug_assert_eq!(count, 0);
            self.any = true;
            self.state = State::Between(source);
        }
    }
}

impl<R: BufRead> Members<R> {
    /// Begins the next member; none if only zeros follow.
    fn next(&self, mut source: R) -> io::Result<Option<State<R>>> {
        if self.any && !skip_zeros(&mut source)? {
            return Ok(None);
        }
        Ok(Some(match self.method {
            Compression::Gzip => State::Gzip(Box::new(flate2::bufread::GzDecoder::new(source))),
            _ => State::Zstd(zstd::stream::read::Decoder::with_buffer(source)?.single_frame()),
        }))
    }
}

/// Passes over zeros; says whether anything follows. Members begin with a byte that is not zero.
fn skip_zeros(source: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = source.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        match (bytes.is_empty(), zeros) {
            (true, _) => return Ok(false),
            (false, 0) => return Ok(true),
            _ => source.consume(zeros),
        }
    }
}

/// The unit of parallel work, in bytes. Part of the format: another size gives other bytes.
const BLOCK: usize = 128 * 1024;

/// Some bytes of the source, and what a worker makes of them.
struct Job {
    block: Arc<Vec<u8>>,
    before: Option<Arc<Vec<u8>>>,
    last: bool,
    result: SyncSender<Vec<u8>>,
}

/// How a member begins: deflate; no name, no time; an unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A gzip member of some bytes that are at hand: what `Codec` makes of them.
pub(super) fn gzip_member(deflate: &mut Deflate, bytes: &[u8]) -> Vec<u8> {
    let mut out = GZIP_HEAD.to_vec();
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut at = 0;
    loop {
        let end = bytes.len().min(at + BLOCK);
        out.extend(deflate.block(&bytes[..at], &bytes[at..end], end == bytes.len()));
        at = end;
        if at == bytes.len() {
            out.extend(crc.sum().to_le_bytes());
            out.extend(crc.amount().to_le_bytes());
            return out;
        }
    }
}

fn gzip(source: &mut dyn Read, out: &mut dyn Write, level: u32, threads: usize) -> io::Result<()> {
    out.write_all(&GZIP_HEAD)?;
    let (jobs, queue) = sync_channel::<Job>(threads);
    // The workers alone keep the queue, so that where they have all panicked nobody waits for them.
    let queue = Arc::new(std::sync::Mutex::new(queue));
    let crc = std::thread::scope(|scope| {
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            scope.spawn(move || work(&queue, level));
        }
        drop(queue);
        // `jobs` is dropped at the end of this call, which ends the workers, whatever the outcome.
        feed(source, out, jobs, threads)
    })?;
    out.write_all(&crc.sum().to_le_bytes())?;
    out.write_all(&crc.amount().to_le_bytes())
}

/// Hands the blocks of `source` to the workers and writes their results in order.
fn feed(
    source: &mut dyn Read,
    out: &mut dyn Write,
    jobs: SyncSender<Job>,
    threads: usize,
) -> io::Result<Crc> {
    let mut crc = Crc::new();
    let mut waiting: VecDeque<Receiver<Vec<u8>>> = VecDeque::new();
    let mut collect = |waiting: &mut VecDeque<Receiver<Vec<u8>>>, most: usize| {
        while waiting.len() > most {
            let first = waiting.pop_front().expect("there are more than `most`");
            out.write_all(&first.recv().map_err(|_| gone())?)?;
        }
        io::Result::Ok(())
    };
    let mut before = None;
    let mut block = read_block(source)?;
    loop {
        let next = if block.len() == BLOCK { read_block(source)? } else { Vec::new() };
        let last = next.is_empty();
        crc.update(&block);
        let block_read = Arc::new(std::mem::replace(&mut block, next));
        let (result, receiver) = sync_channel(1);
        let job = Job { block: Arc::clone(&block_read), before: before.replace(block_read), last, result };
        jobs.send(job).map_err(|_| gone())?;
        waiting.push_back(receiver);
        if last {
            collect(&mut waiting, 0)?;
            return Ok(crc);
        }
        collect(&mut waiting, 2 * threads)?;
    }
}

fn work(queue: &std::sync::Mutex<Receiver<Job>>, level: u32) {
    let mut deflate = Deflate::new(level);
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_poisoned) => return,
        };
        let Ok(job) = job else { return };
        let before = job.before.as_ref().map_or(&[][..], |before| &before[..]);
        if job.result.send(deflate.block(before, &job.block, job.last)).is_err() {
            return;
        }
    }
}

/// From this level on zstd would take larger tables, and from 17 on a larger window.
const ZSTD_BOUNDED: u32 = 12;

fn zstd(source: &mut dyn Read, out: &mut dyn Write, level: u32, threads: usize) -> io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(out, level.cast_signed())?;
    // One worker and many make the same bytes; none at all makes others.
    encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
    encoder.set_parameter(CParameter::JobSize(2 * 1024 * 1024))?;
    if level >= ZSTD_BOUNDED {
        // Logarithms of how far it looks back, and of how many places each table has, in four bytes each.
        for bound in [CParameter::WindowLog(22), CParameter::ChainLog(22), CParameter::HashLog(21)] {
            encoder.set_parameter(bound)?;
        }
    }
    io::copy(source, &mut encoder)?;
    encoder.finish().map(drop)
}

/// A full block, or what is left.
fn read_block(source: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut block = vec![0; BLOCK];
    let count = fill(source, &mut block)?;
    block.truncate(count);
    Ok(block)
}

/// Reads until `buffer` is full or the source ends.
fn fill(source: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn gone() -> io::Error {
    io::Error::other("a compressing thread has ended early")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text-like, then noise, then zeros: compressible to every degree.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..length)
            .map(|place| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match place * 3 / length.max(1) {
                    0 => b"the quick brown fox"[place % 19],
                    1 => state.to_be_bytes()[0],
                    _ => 0,
                }
            })
            .collect()
    }

    fn compress(bytes: &[u8], compression: Compression, threads: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Codec::new(compression).compress(&mut &bytes[..], &mut out, threads).unwrap();
        out
    }

    fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decoder(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn reads_back_at_every_size_and_thread_count() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 17, 9_000_000] {
            let bytes = sample(length);
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let once = compress(&bytes, compression, 1);
                assert_eq!(detect(&once), compression, "{length}");
                assert!(decompress(&once).unwrap() == bytes, "{compression:?} {length}");
                for threads in [2, 3, 8] {
                    assert!(
                        compress(&bytes, compression, threads) == once,
                        "{compression:?} {length} {threads}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_member_of_bytes_at_hand_is_that_of_a_stream() {
        for length in [0, 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 9] {
            let bytes = sample(length);
            let member = gzip_member(&mut Deflate::new(6), &bytes);
            assert!(member == compress(&bytes, Compression::Gzip, 2), "{length}");
        }
    }

    #[test]
    fn every_level_takes_every_byte() {
        let bytes = sample(3 * BLOCK);
        for level in 1..=9 {
            let mut out = Vec::new();
            Codec { compression: Compression::Gzip, level }.compress(&mut &bytes[..], &mut out, 2).unwrap();
            assert!(decompress(&out).unwrap() == bytes, "{level}");
        }
    }

    #[test]
    fn high_levels_have_the_same_bytes_for_any_number_of_threads() {
        let bytes = sample(6_000_000);
        for level in [ZSTD_BOUNDED - 1, ZSTD_BOUNDED, 22] {
            let codec = Codec { compression: Compression::Zstd, level };
            let compress = |threads| {
                let mut out = Vec::new();
                codec.compress(&mut &bytes[..], &mut out, threads).unwrap();
                out
            };
            let once = compress(1);
            assert!(decompress(&once).unwrap() == bytes, "{level}");
            assert!([2, 9].into_iter().all(|threads| compress(threads) == once), "{level}");
            assert!((1..=4).contains(&codec.most_threads()), "{level}");
        }
    }

    #[test]
    fn one_member_that_any_gunzip_reads() {
        let bytes = sample(3 * BLOCK + 5);
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&compress(&bytes, Compression::Gzip, 3)[..])
            .read_to_end(&mut out)
            .unwrap();
        assert!(out == bytes);
    }

    #[test]
    fn several_members_and_trailing_zeros() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut two = compress(b"one ", compression, 1);
            two.extend(compress(b"two", compression, 1));
            assert_eq!(decompress(&two).unwrap(), b"one two");
            two.extend([0; 700]);
            assert_eq!(decompress(&two).unwrap(), b"one two");
            two.push(b'x');
            assert!(decompress(&two).is_err());
            let whole = compress(&sample(BLOCK), compression, 1);
            assert!(decompress(&whole[..whole.len() - 3]).is_err());
        }
        let mut skippable = vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7];
        skippable.extend(compress(b"x", Compression::Zstd, 1));
        assert_eq!(decompress(&skippable).unwrap(), b"x");
    }
}
