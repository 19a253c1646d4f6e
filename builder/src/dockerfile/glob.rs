//! Path patterns: the wildcards of `COPY` (Go's `filepath.Match`) and the lines of a `.dockerignore`.
//!
//! Both dialects become a list of items that is run as a set of states, so that a match costs at most the
//! length of the pattern times the length of the path, whatever either holds. Paths are bytes: what is no
//! UTF-8 counts byte by byte. The order of several patterns and `!` are `ignore.rs`.

/// A pattern that no path can be compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPattern {
    /// Where in the pattern, in bytes.
    pub offset: usize,
    /// What is wrong.
    pub message: &'static str,
}

impl std::fmt::Display for BadPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for BadPattern {}

/// Whether `name` as a whole matches `pattern` by the rules of Go's `filepath.Match`: `*` and `?` stop at
/// `/`, `[a-z]` and `[^a-z]` are classes, `\` escapes.
///
/// # Errors
/// A malformed pattern. (`COPY` lets such a pattern match nothing.)
pub fn filepath_match(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    Ok(Glob::wildcard(pattern)?.matches(name))
}

/// Whether `COPY` takes this source for a wildcard.
pub fn has_wildcard(pattern: &[u8]) -> bool {
    let mut escaped = false;
    pattern.iter().any(|&byte| {
        let special = !escaped && matches!(byte, b'*' | b'?' | b'[');
        escaped = byte == b'\\' && !escaped;
        special
    })
}

/// Go's `path.Clean`: no empty and no `.` components, each `..` taken together with the component before it.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|&last| last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    items: Vec<Item>,
    /// The bytes that every match begins with. Most paths differ there, which spares the run.
    head: Vec<u8>,
}

/// A letter: a Unicode scalar value, or a byte that belongs to none, moved out of their range.
type Letter = u32;
const STRAY_BYTE: Letter = 0x11_0000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// This letter.
    Letter(Letter),
    /// `?`: any letter but `/`.
    Any,
    /// `*`: letters other than `/`.
    Name,
    /// `**` at the end: letters.
    Rest,
    /// `**/`: nothing, or letters up to and with a `/`. Skips itself and the [`Item::Folders`] that follows.
    MaybeFolders,
    /// The letters and the `/` of a `**/` that is not empty.
    Folders,
    /// `[…]`; as in Go, a negated one takes `/` as well.
    Class { negated: bool, ranges: Vec<(Letter, Letter)> },
    /// `^` beside wildcards in a `.dockerignore`: the start of the path.
    Start,
}

impl Glob {
    fn new(items: Vec<Item>) -> Self {
        let mut head = Vec::new();
        for item in &items {
            let Item::Letter(letter) = item else { break };
            match char::from_u32(*letter) {
                Some(c) => head.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
                None => head.extend(u8::try_from(letter - STRAY_BYTE)),
            }
        }
        Self { items, head }
    }

    /// Go's `filepath.Match` dialect.
    ///
    /// # Errors
    /// A malformed pattern.
    pub fn wildcard(pattern: &[u8]) -> Result<Self, BadPattern> {
        compile(pattern, Dialect::Wildcard)
    }

    /// The dialect of `.dockerignore`, `COPY --exclude` and `COPY --parents`: `**` crosses `/`. The pattern
    /// must be [`clean`].
    ///
    /// # Errors
    /// A malformed pattern.
    pub fn path(pattern: &[u8]) -> Result<Self, BadPattern> {
        let plain = |text: &[u8]| !text.iter().any(|byte| b"*?[]\\".contains(byte));
        let literal = |text: &[u8]| letters(text).map(|(letter, _)| Item::Letter(letter)).collect::<Vec<_>>();
        // Three shapes are compared as text there, so that `^` is a letter, `a**` a head and `**a` a tail.
        if let Some(tail) = pattern.strip_prefix(b"**").filter(|tail| plain(tail)) {
            let items = match tail.strip_prefix(b"/") {
                Some(tail) => [vec![Item::MaybeFolders, Item::Folders], literal(tail)].concat(),
                None => [vec![Item::Rest], literal(tail)].concat(),
            };
            return Ok(Self::new(items));
        }
        if let Some(head) = pattern.strip_suffix(b"**").filter(|head| plain(head)) {
            return Ok(Self::new([literal(head), vec![Item::Rest]].concat()));
        }
        if plain(pattern) {
            return Ok(Self::new(literal(pattern)));
        }
        compile(pattern, Dialect::Path)
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        path.starts_with(&self.head) && self.run(path, |_| false).accepts()
    }

    /// Whether `path` or one of the folders it lies in matches.
    pub fn matches_or_parent(&self, path: &[u8]) -> bool {
        if !path.starts_with(&self.head) {
            return false;
        }
        let mut parent = false;
        let run = self.run(path, |accepts| {
            parent |= accepts;
            accepts
        });
        run.accepts() || parent
    }

    /// Whether something below the folder `dir` can match, or `dir` lies in a match.
    pub fn can_match_below(&self, dir: &[u8]) -> bool {
        let known = dir.len().min(self.head.len());
        if dir[..known] != self.head[..known] {
            return false;
        }
        let mut parent = false;
        let mut run = self.run(dir, |accepts| {
            parent |= accepts;
            accepts
        });
        parent || run.accepts() || {
            run.step(u32::from(b'/'));
            run.is_alive()
        }
    }

    /// Reads `path`; `at_slash` is told before each `/` whether the folder so far matches, and may end the
    /// run.
    fn run(&self, path: &[u8], mut at_slash: impl FnMut(bool) -> bool) -> Run<'_> {
        let mut run = Run::new(&self.items);
        let mut first = true;
        let mut read = |letter| {
            if !run.is_alive() || (letter == u32::from(b'/') && !first && at_slash(run.accepts())) {
                return false;
            }
            run.step(letter);
            first = false;
            true
        };
        // Most paths are ASCII, where taking letters apart is a waste.
        let _ = match path.is_ascii() {
            true => path.iter().all(|&byte| read(u32::from(byte))),
            false => letters(path).all(|(letter, _)| read(letter)),
        };
        run
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Wildcard,
    Path,
}

fn compile(pattern: &[u8], dialect: Dialect) -> Result<Glob, BadPattern> {
    let mut items = Vec::new();
    let mut rest = letters(pattern).peekable();
    let star = u32::from(b'*');
    while let Some((letter, offset)) = rest.next() {
        match u8::try_from(letter).unwrap_or(0) {
            b'*' if dialect == Dialect::Path && rest.next_if(|next| next.0 == star).is_some() => {
                let _ = rest.next_if(|next| next.0 == u32::from(b'/'));
                match rest.peek() {
                    // Twice says no more than once.
                    Some(_) if items.last() == Some(&Item::Folders) => {}
                    Some(_) => items.extend([Item::MaybeFolders, Item::Folders]),
                    None => items.push(Item::Rest),
                }
            }
            b'*' if items.last() == Some(&Item::Name) => {}
            b'*' => items.push(Item::Name),
            b'?' => items.push(Item::Any),
            b'^' if dialect == Dialect::Path => items.push(Item::Start),
            b'[' => items.push(class(&mut rest, offset)?),
            b'\\' => match rest.next() {
                Some((letter, _)) => items.push(Item::Letter(letter)),
                None => return Err(BadPattern { offset, message: "nothing follows the last `\\`" }),
            },
            _ => items.push(Item::Letter(letter)),
        }
    }
    Ok(Glob::new(items))
}

/// The rest of a `[…]` that began at `start`, by `filepath.Match`'s grammar: at least one range, `-` and `]`
/// escaped.
fn class(
    rest: &mut std::iter::Peekable<impl Iterator<Item = (Letter, usize)>>,
    start: usize,
) -> Result<Item, BadPattern> {
    const UNCLOSED: &str = "this `[` is never closed";
    let is = |letter: Letter, byte: u8| letter == u32::from(byte);
    let negated = rest.next_if(|next| is(next.0, b'^')).is_some();
    let mut ranges = Vec::new();
    let bound = |rest: &mut std::iter::Peekable<_>| {
        let unclosed = BadPattern { offset: start, message: UNCLOSED };
        let (letter, offset): (Letter, usize) = rest.next().ok_or(unclosed.clone())?;
        match letter {
            _ if is(letter, b'\\') => rest.next().map(|next: (Letter, usize)| next.0).ok_or(unclosed),
            _ if is(letter, b'-') || is(letter, b']') => {
                Err(BadPattern { offset, message: "a `-` or `]` inside `[…]` must be escaped by `\\`" })
            }
            _ => Ok(letter),
        }
    };
    loop {
        if !ranges.is_empty() && rest.next_if(|next| is(next.0, b']')).is_some() {
            return Ok(Item::Class { negated, ranges });
        }
        let low = bound(rest)?;
        let high = if rest.next_if(|next| is(next.0, b'-')).is_some() { bound(rest)? } else { low };
        ranges.push((low, high));
    }
}

/// The letters of a text with their places.
fn letters(text: &[u8]) -> impl Iterator<Item = (Letter, usize)> {
    let mut offset = 0;
    text.utf8_chunks().flat_map(move |chunk| {
        let valid = chunk.valid().char_indices().map(move |(at, c)| (u32::from(c), offset + at));
        let stray_at = offset + chunk.valid().len();
        offset = stray_at + chunk.invalid().len();
        let stray = chunk.invalid().iter().enumerate();
        valid.chain(stray.map(move |(at, &byte)| (STRAY_BYTE + u32::from(byte), stray_at + at)))
    })
}

/// The states that the path read so far may be in; a state is the number of items matched.
struct Run<'g> {
    items: &'g [Item],
    states: States,
    next: States,
    alive: bool,
}

impl<'g> Run<'g> {
    fn new(items: &'g [Item]) -> Self {
        let mut states = States::new(items.len() + 1);
        let next = states.clone();
        states.insert(0);
        let mut run = Self { items, states, next, alive: true };
        run.close(true);
        run
    }

    /// Moves on over what may be empty.
    fn close(&mut self, first: bool) {
        let mut from = 0;
        while let Some(at) = self.states.first_from(from) {
            from = at + 1;
            match self.items.get(at) {
                Some(Item::Name | Item::Rest) => self.states.insert(at + 1),
                Some(Item::MaybeFolders) => {
                    self.states.insert(at + 1);
                    self.states.insert(at + 2);
                }
                Some(Item::Start) if first => self.states.insert(at + 1),
                _ => {}
            }
        }
    }

    fn step(&mut self, letter: Letter) {
        let slash = letter == u32::from(b'/');
        self.next.clear();
        self.alive = false;
        let mut from = 0;
        while let Some(at) = self.states.first_from(from) {
            from = at + 1;
            let Some(item) = self.items.get(at) else { break };
            let (stay, go) = match item {
                Item::Letter(wanted) => (false, *wanted == letter),
                Item::Any => (false, !slash),
                Item::Name => (!slash, false),
                Item::Rest => (true, false),
                Item::Folders => (true, slash),
                Item::Class { negated, ranges } => {
                    let inside = ranges.iter().any(|&(low, high)| low <= letter && letter <= high);
                    (false, inside != *negated)
                }
                Item::MaybeFolders | Item::Start => (false, false),
            };
            if stay {
                self.next.insert(at);
            }
            if go {
                self.next.insert(at + 1);
            }
            self.alive |= stay || go;
        }
        std::mem::swap(&mut self.states, &mut self.next);
        self.close(false);
    }

    fn accepts(&self) -> bool {
        self.states.contains(self.items.len())
    }

    fn is_alive(&self) -> bool {
        self.alive
    }
}

/// A set of small numbers, a bit each; the usual few need no memory of their own.
#[derive(Clone)]
enum States {
    Few([u64; 2]),
    Many(Box<[u64]>),
}

impl States {
    /// An empty set of numbers below `limit`.
    fn new(limit: usize) -> Self {
        if limit <= 128 { Self::Few([0; 2]) } else { Self::Many(vec![0; limit.div_ceil(64)].into()) }
    }

    fn words(&self) -> &[u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(words) => words,
        }
    }

    fn clear(&mut self) {
        self.words_mut().fill(0);
    }

    fn insert(&mut self, number: usize) {
        self.words_mut()[number / 64] |= 1 << (number % 64);
    }

    fn contains(&self, number: usize) -> bool {
        self.words()[number / 64] >> (number % 64) & 1 == 1
    }

    /// The least number that is not below `from`.
    fn first_from(&self, from: usize) -> Option<usize> {
        let words = self.words();
        let mut at = from / 64;
        let mut word = words.get(at)? & (u64::MAX << (from % 64));
        while word == 0 {
            at += 1;
            word = *words.get(at)?;
        }
        Some(at * 64 + word.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filepath_match_follows_go() {
        // `None` is a malformed pattern.
        let table: &[(&str, &str, Option<bool>)] = &[
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*/b", "a/c/b", Some(false)),
            ("*a*b*/z", "xaybw/z", Some(true)),
            ("*a*b*/z", "xaybw/zz", Some(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            (r"a\*b", "a*b", Some(true)),
            (r"a\*b", "ab", Some(false)),
            ("a?b", "aßb", Some(true)),
            ("a[^a]b", "aßb", Some(true)),
            ("a??b", "aßb", Some(false)),
            ("[a-ω]*", "α", Some(true)),
            ("*[a-ω]", "A", Some(false)),
            ("a?b", "a/b", Some(false)),
            ("a*b", "a/b", Some(false)),
            (r"[\]a]", "]", Some(true)),
            (r"[\-]", "-", Some(true)),
            (r"[x\-]", "x", Some(true)),
            (r"[x\-]", "z", Some(false)),
            ("[[]x", "[x", Some(true)),
            ("[*]", "*", Some(true)),
            ("[*]", "a", Some(false)),
            ("[z-a]", "m", Some(false)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[-x]", "x", None),
            (r"\", "a", None),
            ("[a-b-c]", "a", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("[^bc", "a", None),
            ("a[", "a", None),
            ("*x", "xxx", Some(true)),
            ("", "", Some(true)),
            ("", "a", Some(false)),
            (".*", ".hidden", Some(true)),
            ("*", ".hidden", Some(true)),
            ("**", "a/b", Some(false)),
        ];
        for &(pattern, name, expected) in table {
            let found = filepath_match(pattern.as_bytes(), name.as_bytes()).ok();
            assert_eq!(found, expected, "{pattern} {name}");
        }
        assert_eq!(filepath_match(b"a?\xff", b"a\xfe\xff"), Ok(true), "stray bytes count one by one");
    }

    #[test]
    fn many_stars_cost_no_more_than_the_product() {
        let pattern = b"*a".repeat(200);
        assert_eq!(filepath_match(&pattern, &b"a".repeat(2_000)), Ok(true));
        assert_eq!(filepath_match(&[&pattern[..], b"b"].concat(), &b"a".repeat(2_000)), Ok(false));
    }

    #[test]
    fn clean_follows_go() {
        for (path, expected) in [
            ("", "."),
            ("a/", "a"),
            ("./a", "a"),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("..", ".."),
            ("../../a", "../../a"),
            ("a/../..", ".."),
            ("/", "/"),
            ("/..", "/"),
            ("/a/../..//b/", "/b"),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn wildcards_are_recognised() {
        for (pattern, expected) in [("a", false), ("a*", true), (r"\*", false), ("[a", true), (r"\\?", true)]
        {
            assert_eq!(has_wildcard(pattern.as_bytes()), expected, "{pattern}");
        }
    }
}
