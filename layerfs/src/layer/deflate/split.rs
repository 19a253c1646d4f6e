//! Decides which chunks of a block share a code: neighbours do where that takes no more bits, by estimate.

use super::tokens::{Chunk, Counts};

/// 2^`MANTISSA` steps between powers of two; `FRACTION` bits behind the point.
const MANTISSA: u32 = 8;
const FRACTION: u32 = 10;

/// By the bits behind the highest of a number, the logarithm of 1 + that.
const LOG2: [u16; 1 << MANTISSA] = {
    let mut logs = [0; 1 << MANTISSA];
    let mut step = 0;
    while step < 1 << MANTISSA {
        // Squaring doubles the logarithm: each time it passes 1 is a bit of it.
        let mut value: u64 = ((1 << MANTISSA) + step as u64) << (30 - MANTISSA);
        let mut bit = 0;
        while bit < FRACTION {
            value = (value * value) >> 30;
            logs[step] <<= 1;
            if value >= 2 << 30 {
                value >>= 1;
                logs[step] |= 1;
            }
            bit += 1;
        }
        step += 1;
    }
    logs
};

/// The logarithm of a number that is not 0, in 2^-10.
#[inline(always)]
fn log2(number: u32) -> u32 {
    let power = number.ilog2();
    let mantissa = (u64::from(number) << 32 >> power >> (32 - MANTISSA)) as usize & ((1 << MANTISSA) - 1);
    power * (1 << FRACTION) + u32::from(LOG2[mantissa])
}

/// The bits of a block with these counts, its head included, by estimate; those that follow symbols left out. In 2^-10.
fn cost(counts: &Counts) -> u64 {
    let (literals, used) = entropy(&counts.litlens);
    let (distances, far) = entropy(&counts.distances);
    let head = HEAD + PER_SYMBOL * u64::from(used + far);
    literals + distances + (head << FRACTION)
}

const HEAD: u64 = 100;
const PER_SYMBOL: u64 = 4;

fn entropy(counts: &[u32]) -> (u64, u32) {
    let (mut sum, mut used, mut total) = (0, 0, 0);
    for count in counts.iter().copied() {
        if count > 0 {
            sum += u64::from(count) * u64::from(log2(count));
            used += 1;
            total += count;
        }
    }
    (u64::from(total) * u64::from(log2(total.max(1))) - sum, used)
}

/// Joins neighbours, those first that gain most, until none gain.
pub(super) fn join(chunks: &mut Vec<Chunk>) {
    let mut costs: Vec<u64> = chunks.iter().map(|chunk| cost(&chunk.counts)).collect();
    let joint = |chunks: &[Chunk], first: usize| {
        let mut counts = chunks[first].counts.clone();
        counts.add(&chunks[first + 1].counts);
        cost(&counts)
    };
    let mut joints: Vec<u64> = (1..chunks.len()).map(|second| joint(chunks, second - 1)).collect();
    loop {
        let gain = |first: usize| (costs[first] + costs[first + 1]).checked_sub(joints[first]);
        let best = (0..joints.len()).filter_map(|first| gain(first).map(|gain| (gain, first))).max();
        let Some((_, first)) = best else { return };
        let second = chunks.remove(first + 1);
        chunks[first].counts.add(&second.counts);
        chunks[first].bytes += second.bytes;
        chunks[first].runs += second.runs;
        costs[first] = joints[first];
        costs.remove(first + 1);
        joints.remove(first);
        if first < joints.len() {
            joints[first] = joint(chunks, first);
        }
        if first > 0 {
            joints[first - 1] = joint(chunks, first - 1);
        }
    }
}
