//! Secrets in what commands write: each is shown as `***`.
//!
//! Here: what is masked, and doing so in a stream. Not here: which secrets a command has.
//!
//! Occurrences are found from the left, the longest first, and do not overlap. Bytes go on as soon as they cannot be part
//! of a secret: what is held back between two pushes is always the beginning of one. Invariant: what comes out does not
//! depend on how the text was split.

use std::cmp::Reverse;

/// What stands for a secret.
const SHOWN: &[u8] = b"***";
/// Bytes of the shortest value that is masked: shorter ones would hide words of the output and say where they are.
const LEAST_BYTES: usize = 4;
/// Bytes of the shortest line of a value that is masked by itself.
const LEAST_LINE_BYTES: usize = 8;

/// A filter for one stream of output.
#[derive(Clone)]
pub(crate) struct Mask {
    /// What is looked for, by its first byte, the longest first; empty if there is nothing.
    by_first: Vec<Vec<Vec<u8>>>,
    /// The end of the text so far; the beginning of a secret, or empty.
    held: Vec<u8>,
}

/// What begins at a place in the text.
enum Found {
    /// A secret of so many bytes.
    Secret(usize),
    /// Perhaps a secret: the text ends too early to tell.
    Beginning,
    Nothing,
}

impl Mask {
    /// Hides `secrets`, without the line ends that they end with, and their longer lines.
    pub(crate) fn new(secrets: Vec<Vec<u8>>) -> Mask {
        let mut by_first: Vec<Vec<Vec<u8>>> = Vec::new();
        for value in secrets.iter().flat_map(|secret| values(secret)) {
            by_first.resize(256, Vec::new());
            by_first[usize::from(value[0])].push(value.to_vec());
        }
        for values in &mut by_first {
            values.sort_unstable_by(|a, b| Reverse(a.len()).cmp(&Reverse(b.len())).then_with(|| a.cmp(b)));
            values.dedup();
        }
        Mask { by_first, held: Vec::new() }
    }

    /// Takes the next bytes of the text and passes on all that can be decided.
    pub(crate) fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        if self.held.is_empty() {
            let decided = self.scan(bytes, false, sink);
            self.held.extend_from_slice(&bytes[decided..]);
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(bytes);
            let decided = self.scan(&text, false, sink);
            text.drain(..decided);
            self.held = text;
        }
    }

    /// Takes the end of the text; the next push begins another.
    pub(crate) fn finish(&mut self, sink: &mut dyn FnMut(&[u8])) {
        let text = std::mem::take(&mut self.held);
        self.scan(&text, true, sink);
    }

    /// Passes on the text up to the returned place, from where on a secret may begin. Nothing is left if the text ends
    /// here.
    fn scan(&self, text: &[u8], is_end: bool, sink: &mut dyn FnMut(&[u8])) -> usize {
        let mut pass = |bytes: &[u8]| {
            if !bytes.is_empty() {
                sink(bytes);
            }
        };
        let (mut passed, mut at) = (0, 0);
        while let Some(skipped) = self.next_candidate(&text[at..]) {
            at += skipped;
            match self.look(&text[at..], is_end) {
                Found::Nothing => at += 1,
                Found::Secret(length) => {
                    pass(&text[passed..at]);
                    pass(SHOWN);
                    at += length;
                    passed = at;
                }
                Found::Beginning => {
                    pass(&text[passed..at]);
                    return at;
                }
            }
        }
        pass(&text[passed..]);
        text.len()
    }

    /// Where the next byte is with which a secret begins.
    fn next_candidate(&self, text: &[u8]) -> Option<usize> {
        if self.by_first.is_empty() {
            return None;
        }
        text.iter().position(|byte| !self.by_first[usize::from(*byte)].is_empty())
    }

    /// What begins where `text`, which is not empty, begins. A longer secret that is still possible goes before a
    /// shorter one that is there.
    fn look(&self, text: &[u8], is_end: bool) -> Found {
        for value in &self.by_first[usize::from(text[0])] {
            if text.starts_with(value) {
                return Found::Secret(value.len());
            }
            if !is_end && value.starts_with(text) {
                return Found::Beginning;
            }
        }
        Found::Nothing
    }
}

/// What of a secret is masked: the whole, and each line of several without the blanks around it, since tools indent and
/// cut at lines. Only what is long enough.
fn values(secret: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = secret.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    let whole = &secret[..end];
    let lines = whole.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.filter(|line| line.len() >= LEAST_LINE_BYTES);
    std::iter::once(whole).filter(|whole| whole.len() >= LEAST_BYTES).chain(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], pieces: &[&[u8]]) -> String {
        let mut mask = Mask::new(secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect());
        let mut output = Vec::new();
        for piece in pieces {
            mask.push(piece, &mut |bytes| output.extend_from_slice(bytes));
        }
        mask.finish(&mut |bytes| output.extend_from_slice(bytes));
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn secrets_are_hidden_wherever_the_text_is_split() {
        let cases: [(&[&str], &str, &str); 16] = [
            (&[], "nothing to hide", "nothing to hide"),
            (&["hunter2"], "", ""),
            (&["hunter2"], "login hunter2, hunter2hunter2.", "login ***, ******."),
            (&["hunter2\n"], "hunter2 and hunter2\n", "*** and ***\n"),
            (&["hunter2\r\n"], "hunter2\r\n", "***\r\n"),
            (&["hunter2\n\n"], "hunter2\n\n", "***\n\n"),
            (&["hunter2"], "hunter", "hunter"),
            (&["hunter2"], "huhunter2", "hu***"),
            (&["abc", "abc\n", "\n", ""], "abc\n", "abc\n"),
            (&["abcd\n"], "abcd", "***"),
            // The leftmost, and there the longest; what is too short for that may still hide a shorter one.
            (&["abcd", "abcdefgh", "efgh1"], "abcdefgh1 abcdef abcdefgh", "***1 ***ef ***"),
            (&["abcd", "bcdefg"], "abcdefg", "***efg"),
            (&["aaaa"], "aaaaaaaaa", "******a"),
            // Lines of a value, long enough, without the blanks around them.
            (&["first line\n  second\n  third line\n"], "third line, second, first line", "***, second, ***"),
            (&["first line\nsecond\nthird line"], "> first line\nsecond\nthird line\n", "> ***\n"),
            (&["first line\r\n        \r\nlast one"], "first line        last one", "***        ***"),
        ];
        for (secrets, text, expected) in cases {
            let text = text.as_bytes();
            assert_eq!(masked(secrets, &[text]), expected, "{secrets:?}");
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(masked(secrets, &bytes), expected, "{secrets:?} byte by byte");
            for at in 0..=text.len() {
                assert_eq!(
                    masked(secrets, &[&text[..at], &text[at..]]),
                    expected,
                    "{secrets:?} split at {at}"
                );
            }
        }
    }

    #[test]
    fn bytes_go_on_as_soon_and_as_they_are() {
        let mut mask = Mask::new(vec![b"hunter2".to_vec()]);
        let steps =
            [("a hun", "a "), ("ter", ""), ("s; hunter", "hunters; "), ("2h", "***"), ("i\n", "hi\n")];
        for (piece, expected) in steps {
            let mut output = Vec::new();
            mask.push(piece.as_bytes(), &mut |bytes| output.extend_from_slice(bytes));
            assert_eq!(String::from_utf8(output).unwrap(), expected, "{piece:?}");
        }

        let mut none = Mask::new(vec![b"no\n".to_vec()]);
        let text = b"no\0\xff";
        let mut seen = Vec::new();
        none.push(text, &mut |bytes| seen.push(bytes.as_ptr_range()));
        assert_eq!(seen, [text.as_ptr_range()]);
        none.push(b"", &mut |_| panic!("an empty piece"));
        none.finish(&mut |_| panic!("something was held back"));
    }

    #[test]
    fn a_text_begins_anew_after_its_end() {
        let mut mask = Mask::new(vec![b"hunter2".to_vec()]);
        let mut output = Vec::new();
        for piece in [&b"hunt"[..], b"er2"] {
            mask.push(piece, &mut |bytes| output.extend_from_slice(bytes));
            mask.finish(&mut |bytes| output.extend_from_slice(bytes));
        }
        assert_eq!(output, b"hunter2");
    }

    /// Numbers that look random and are the same in every run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: u64) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % limit).unwrap()
        }

        /// Few different bytes, so that secrets occur, overlap and begin with each other.
        fn text(&mut self, longest: u64) -> Vec<u8> {
            (0..self.below(longest + 1)).map(|_| b"aaab\n"[self.below(5)]).collect()
        }
    }

    /// The rule, word for word, on the whole text.
    fn by_definition(values: &[&[u8]], text: &[u8]) -> Vec<u8> {
        let (mut output, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let here = values.iter().filter(|value| text[at..].starts_with(value));
            match here.map(|value| value.len()).max() {
                Some(length) => {
                    output.extend_from_slice(SHOWN);
                    at += length;
                }
                None => {
                    output.push(text[at]);
                    at += 1;
                }
            }
        }
        output
    }

    #[test]
    fn random_texts_are_masked_by_the_rule_and_show_no_secret() {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut hidden = 0;
        for round in 0..5000 {
            let secrets: Vec<Vec<u8>> = (0..numbers.below(4)).map(|_| numbers.text(20)).collect();
            let values: Vec<&[u8]> = secrets.iter().flat_map(|secret| values(secret)).collect();
            let mut text = Vec::new();
            for _ in 0..numbers.below(8) {
                text.extend(numbers.text(12));
                if let Some(secret) = secrets.get(numbers.below(4)) {
                    text.extend_from_slice(&secret[..numbers.below(secret.len() as u64 + 1)]);
                    text.extend_from_slice(secret);
                }
            }
            let mut mask = Mask::new(secrets.clone());
            let mut output = Vec::new();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + numbers.below(rest.len().min(9) as u64));
                mask.push(piece, &mut |bytes| output.extend_from_slice(bytes));
                let held = &mask.held;
                assert!(
                    held.is_empty()
                        || values.iter().any(|value| value.len() > held.len() && value.starts_with(held)),
                    "round {round}: holds {held:?}"
                );
                rest = after;
            }
            mask.finish(&mut |bytes| output.extend_from_slice(bytes));
            assert_eq!(output, by_definition(&values, &text), "round {round}");
            let shows = |value: &&[u8]| output.windows(value.len()).any(|window| window == *value);
            assert!(!values.iter().any(shows), "round {round}");
            hidden += usize::from(output != text);
        }
        assert!(hidden > 1000, "only {hidden} texts had a secret");
    }
}
