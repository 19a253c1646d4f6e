//! Huffman codes whose words have a greatest length, and their canonical words (RFC 1951, 3.2.2).

use super::low;

/// A code: for each symbol how long its word is, 0 if it has none, and the word, the bit that is written first the lowest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code<const N: usize> {
    pub(super) lengths: [u8; N],
    pub(super) words: [u16; N],
}

/// No word is longer.
const LONGEST_WORD: usize = 15;

impl<const N: usize> Code<N> {
    /// The best code for symbols that are used so often, with words of at most `limit` bits. At least two symbols get a
    /// word, so that every decoder finds the code complete.
    pub(super) fn of(counts: &[u32; N], limit: usize) -> Code<N> {
        let mut sorted = [0u64; N];
        let mut used = 0;
        for (symbol, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            sorted[used] = u64::from(*count) << 16 | symbol as u64;
            used += 1;
        }
        // What is missing to two are the lowest symbols that are not used.
        for symbol in (0..N).filter(|symbol| counts[*symbol] == 0).take(2usize.saturating_sub(used)) {
            sorted[used] = symbol as u64;
            used += 1;
        }
        let sorted = &mut sorted[..used];
        sorted.sort_unstable();
        let mut weights = [0u32; N];
        sorted
            .iter()
            .zip(&mut weights)
            .for_each(|(pair, weight)| *weight = (pair >> 16 & 0xffff_ffff) as u32);
        let per_length = words_per_length(&mut weights[..used], limit);
        let mut lengths = [0; N];
        let mut rarest = sorted.iter();
        for length in (1..=limit).rev() {
            for pair in rarest.by_ref().take(per_length[length] as usize) {
                lengths[(pair & 0xffff) as usize] = (low(length) & 0xf) as u8;
            }
        }
        Code::of_lengths(lengths)
    }

    /// The canonical words for these lengths.
    pub(super) const fn of_lengths(lengths: [u8; N]) -> Code<N> {
        let mut per_length = [0u16; LONGEST_WORD + 1];
        let mut symbol = 0;
        while symbol < N {
            per_length[lengths[symbol] as usize] += 1;
            symbol += 1;
        }
        per_length[0] = 0;
        let mut next = [0u16; LONGEST_WORD + 2];
        let mut length = 1;
        while length <= LONGEST_WORD {
            next[length + 1] = (next[length] + per_length[length]) << 1;
            length += 1;
        }
        let mut words = [0; N];
        symbol = 0;
        while symbol < N {
            let length = lengths[symbol] as usize;
            if length > 0 {
                words[symbol] = next[length].reverse_bits() >> (16 - length);
                next[length] += 1;
            }
            symbol += 1;
        }
        Code { lengths, words }
    }

    /// How many bits symbols take that are used so often.
    pub(super) fn bits(&self, counts: &[u32]) -> u64 {
        self.lengths.iter().zip(counts).map(|(length, count)| u64::from(*length) * u64::from(*count)).sum()
    }
}

/// How many words of each length the best code has for these weights, the lowest first, of which there are two or more.
///
/// A. Moffat, J. Katajainen, In-Place Calculation of Minimum-Redundancy Codes (1995): `nodes` becomes the parents of the
/// tree's inner nodes, then their depths.
fn words_per_length(nodes: &mut [u32], limit: usize) -> [u32; LONGEST_WORD + 1] {
    let count = nodes.len();
    let (mut leaf, mut root) = (0, 0);
    for next in 0..count - 1 {
        let mut lightest = |nodes: &mut [u32]| {
            if leaf >= count || root < next && nodes[root] < nodes[leaf] {
                let weight = nodes[root];
                nodes[root] = u32::from(low(next));
                root += 1;
                weight
            } else {
                leaf += 1;
                nodes[leaf - 1]
            }
        };
        let weight = lightest(nodes) + lightest(nodes);
        nodes[next] = weight;
    }
    let mut per_length = [0; LONGEST_WORD + 1];
    // The root is the last inner node; each inner node makes two nodes of one.
    nodes[count - 2] = 0;
    per_length[1] = 2;
    for inner in (0..count - 2).rev() {
        let depth = nodes[nodes[inner] as usize] + 1;
        nodes[inner] = depth;
        // A node that is too deep goes where there still is a word to be made two of.
        let mut length = (depth as usize).min(limit - 1);
        while per_length[length] == 0 {
            length -= 1;
        }
        per_length[length] -= 1;
        per_length[length + 1] += 2;
    }
    per_length
}
