//! The shell patterns inside substitutions: `*`, `?` and the escapes `\*`, `\?`, `\\`; no `[…]`.
//!
//! `*` and `?` do not match a line end. A pattern is run as a set of states, so the work is the product of
//! the lengths at most, whatever the pattern.

/// The escaped character that no escape exists for; `None` at the end of the pattern.
#[derive(Debug)]
pub(super) struct BadEscape(pub(super) Option<char>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Item {
    Char(char),
    AnyChar,
    AnyText,
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Item>);

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, BadEscape> {
        let mut items = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            items.push(match c {
                '*' if items.last() == Some(&Item::AnyText) => continue,
                '*' => Item::AnyText,
                '?' => Item::AnyChar,
                '\\' => match chars.next() {
                    // The first two are escaped only to get past the substitution's own syntax.
                    Some(c @ ('}' | '/' | '*' | '?' | '\\')) => Item::Char(c),
                    other => return Err(BadEscape(other)),
                },
                c => Item::Char(c),
            });
        }
        Ok(Self(items))
    }

    /// `value` without its shortest or longest head that matches.
    pub(super) fn trim_prefix<'v>(&self, value: &'v str, longest: bool) -> &'v str {
        let mut run = Run::new(&self.0);
        run.start(0);
        let mut end = run.accepted().map(|_| 0);
        for (at, c) in value.char_indices() {
            if (end.is_some() && !longest) || run.is_dead() {
                break;
            }
            run.step(c);
            if run.accepted().is_some() {
                end = Some(at + c.len_utf8());
            }
        }
        &value[end.unwrap_or(0)..]
    }

    /// `value` without its shortest or longest tail that matches.
    pub(super) fn trim_suffix<'v>(&self, value: &'v str, longest: bool) -> &'v str {
        let reversed: Vec<Item> = self.0.iter().rev().copied().collect();
        let mut run = Run::new(&reversed);
        run.start(0);
        let mut begin = run.accepted().map(|_| value.len());
        for (at, c) in value.char_indices().rev() {
            if (begin.is_some() && !longest) || run.is_dead() {
                break;
            }
            run.step(c);
            if run.accepted().is_some() {
                begin = Some(at);
            }
        }
        &value[..begin.unwrap_or(value.len())]
    }

    /// `value` with its first match, or all that do not overlap, replaced; `None` if it grows beyond `limit`
    /// bytes.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool, limit: usize) -> Option<String> {
        let mut out = String::new();
        let mut copied = 0;
        let mut search = 0;
        while let Some((start, end)) = self.find(value, search) {
            // An empty match right behind the last match is none.
            if end > copied || start == 0 {
                out.push_str(&value[copied..start]);
                out.push_str(replacement);
                copied = end;
            }
            if !all || out.len() > limit {
                break;
            }
            search = match value[search..].chars().next() {
                Some(c) if end < search + c.len_utf8() => search + c.len_utf8(),
                Some(_) => end,
                None => break,
            };
        }
        out.push_str(&value[copied..]);
        (out.len() <= limit).then_some(out)
    }

    /// The first match at or after `from`, as long as possible.
    fn find(&self, value: &str, from: usize) -> Option<(usize, usize)> {
        let mut run = Run::new(&self.0);
        let mut found: Option<(usize, usize)> = None;
        let mut at = from;
        loop {
            if found.is_none() {
                run.start(at);
            }
            if let Some(start) = run.accepted()
                && found.is_none_or(|(first, _)| start <= first)
            {
                found = Some((start, at));
            }
            if let Some((first, _)) = found {
                run.drop_after(first);
            }
            let Some(c) = value[at..].chars().next() else { return found };
            if run.is_dead() && found.is_some() {
                return found;
            }
            run.step(c);
            at += c.len_utf8();
        }
    }
}

/// The states that a text read so far may be in. A state is the number of items matched; each remembers the
/// leftmost start that leads to it.
struct Run<'p> {
    items: &'p [Item],
    states: Vec<Option<usize>>,
    /// The states of the letter before, kept for their memory.
    before: Vec<Option<usize>>,
    alive: usize,
}

impl<'p> Run<'p> {
    fn new(items: &'p [Item]) -> Self {
        let none = vec![None; items.len() + 1];
        Self { items, before: none.clone(), states: none, alive: 0 }
    }

    /// A match may begin here.
    fn start(&mut self, at: usize) {
        if self.states[0].is_none() {
            self.states[0] = Some(at);
            self.alive += 1;
        }
        self.close();
    }

    /// Texts of no letters match `*`.
    fn close(&mut self) {
        for (at, item) in self.items.iter().enumerate() {
            if *item == Item::AnyText
                && let Some(start) = self.states[at]
            {
                self.enter(at + 1, start);
            }
        }
    }

    fn enter(&mut self, state: usize, start: usize) {
        match &mut self.states[state] {
            Some(known) => *known = (*known).min(start),
            empty => {
                *empty = Some(start);
                self.alive += 1;
            }
        }
    }

    fn step(&mut self, c: char) {
        if self.alive == 0 {
            return;
        }
        std::mem::swap(&mut self.states, &mut self.before);
        self.states.fill(None);
        self.alive = 0;
        for (at, item) in self.items.iter().enumerate() {
            let Some(start) = self.before[at] else { continue };
            match item {
                Item::Char(wanted) if *wanted == c => self.enter(at + 1, start),
                Item::AnyChar if c != '\n' => self.enter(at + 1, start),
                Item::AnyText if c != '\n' => self.enter(at, start),
                _ => {}
            }
        }
        self.close();
    }

    /// The leftmost start of a text that matches as a whole.
    fn accepted(&self) -> Option<usize> {
        self.states[self.items.len()]
    }

    fn is_dead(&self) -> bool {
        self.alive == 0
    }

    /// Forgets what began after `start`.
    fn drop_after(&mut self, start: usize) {
        for state in &mut self.states {
            if state.is_some_and(|begun| begun > start) {
                *state = None;
                self.alive -= 1;
            }
        }
    }
}
