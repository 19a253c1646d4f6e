//! The checks of [`Mount::resolve`], option by option.

use super::{Mount, MountKind, MountOption, MountSpec, Sharing};
use crate::dockerfile::diagnostic::{Diagnostic, Span};
use crate::dockerfile::instruction::Word;

/// Every key, aliases included.
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "env",
    "size",
    "mode",
    "uid",
    "gid",
];
const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARINGS: [&str; 3] = ["shared", "private", "locked"];

/// What has been said so far, with the place of what may prove wrong later.
struct Draft {
    kind: MountKind,
    span: Span,
    from: Option<(String, Span)>,
    source: Option<(String, Span)>,
    target: Option<String>,
    id: Option<String>,
    read_only: Option<bool>,
    required: bool,
    size_bytes: Option<u64>,
    sharing: Option<(Sharing, Span)>,
    mode: Option<(u32, Span)>,
    uid: Option<(u32, Span)>,
    gid: Option<(u32, Span)>,
    env: Option<(String, Span)>,
}

pub(super) fn resolve(
    mount: &Mount,
    expand: &mut dyn FnMut(&Word) -> Result<String, Diagnostic>,
) -> Result<MountSpec, Diagnostic> {
    let mut draft = Draft::new(mount.span);
    for option in &mount.options {
        match &option.value {
            None => draft.flag(option)?,
            Some(word) => {
                let value = expand(word)?;
                draft.set(&option.key, word.span, &value)?;
            }
        }
    }
    draft.finish()
}

impl Draft {
    fn new(span: Span) -> Self {
        Self {
            kind: MountKind::Bind,
            span,
            from: None,
            source: None,
            target: None,
            id: None,
            read_only: None,
            required: false,
            size_bytes: None,
            sharing: None,
            mode: None,
            uid: None,
            gid: None,
            env: None,
        }
    }

    /// An option without `=`.
    fn flag(&mut self, option: &MountOption) -> Result<(), Diagnostic> {
        let key = &option.key;
        match key.text.as_str() {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = true;
            }
            known if KEYS.contains(&known) => {
                return Err(Diagnostic::error(key.span, format!("mount option `{known}` needs a value"))
                    .hint(format!("write `{known}=…`")));
            }
            _ => return Err(unknown_key(key)),
        }
        Ok(())
    }

    /// An option with `=`.
    fn set(&mut self, key: &Word, at: Span, value: &str) -> Result<(), Diagnostic> {
        match key.text.as_str() {
            "type" => self.kind = kind(at, value)?,
            "from" => self.from = non_empty(value).map(|value| (value, key.span.to(at))),
            "source" | "src" => self.source = non_empty(value).map(|value| (value, key.span.to(at))),
            "target" | "dst" | "destination" => self.target = non_empty(value),
            "readonly" | "ro" => self.read_only = Some(boolean(key, at, value)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(key, at, value)?),
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = boolean(key, at, value)?;
            }
            "size" => {
                self.only_for(key, &[MountKind::Tmpfs])?;
                self.size_bytes = Some(size(at, value)?).filter(|&bytes| bytes > 0);
            }
            "id" => self.id = non_empty(value),
            "env" => self.env = non_empty(value).map(|value| (value, key.span.to(at))),
            "sharing" => self.sharing = Some((sharing(at, value)?, key.span.to(at))),
            "mode" => self.mode = Some((number(key, at, value, 8)?, key.span.to(at))),
            "uid" => self.uid = Some((number(key, at, value, 10)?, key.span.to(at))),
            "gid" => self.gid = Some((number(key, at, value, 10)?, key.span.to(at))),
            _ => return Err(unknown_key(key)),
        }
        Ok(())
    }

    fn only_for(&self, key: &Word, kinds: &[MountKind]) -> Result<(), Diagnostic> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("`type={}`", kind.name())).collect();
        let message = format!("mount option `{}` is not known for `type={}`", key.text, self.kind.name());
        Err(Diagnostic::error(key.span, message).hint(format!("it must come after {}", kinds.join(" or "))))
    }

    /// The checks that need the whole, then the mount.
    fn finish(self) -> Result<MountSpec, Diagnostic> {
        self.check_ownership()?;
        self.check_foreign()?;
        let (mode, uid, gid) = (value(self.mode), value(self.uid), value(self.gid));
        let (from, source) = (value(self.from), value(self.source));
        let target = self.target.clone().unwrap_or_default();
        Ok(match self.kind {
            MountKind::Bind => {
                MountSpec::Bind { target, source, from, writable: self.read_only == Some(false) }
            }
            MountKind::Cache => MountSpec::Cache {
                target,
                id: self.id,
                source,
                from,
                read_only: self.read_only == Some(true),
                sharing: value(self.sharing).unwrap_or_default(),
                mode,
                uid,
                gid,
            },
            MountKind::Tmpfs => MountSpec::Tmpfs { target, size_bytes: self.size_bytes },
            MountKind::Secret => {
                let env = value(self.env);
                let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
                let id = self.id.or(source).or_else(|| self.target.as_deref().and_then(base));
                let id = id
                    .filter(|id| !id.is_empty())
                    .ok_or_else(|| Diagnostic::error(self.span, "a secret mount needs `id=` or `target=`"))?;
                let default = || format!("/run/secrets/{}", base(&id).unwrap_or_default());
                let target = self.target.or_else(|| env.is_none().then(default));
                MountSpec::Secret { id, target, env, required: self.required, mode, uid, gid }
            }
            MountKind::Ssh => {
                let id = self.id.unwrap_or_else(|| "default".to_owned());
                MountSpec::Ssh { id, target: self.target, required: self.required, mode, uid, gid }
            }
        })
    }

    fn check_ownership(&self) -> Result<(), Diagnostic> {
        if !matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            return Ok(());
        }
        for (name, given) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
            if let Some((_, at)) = given {
                let message = format!("mount option `{name}` is not known for `type={}`", self.kind.name());
                return Err(Diagnostic::error(at, message));
            }
        }
        Ok(())
    }

    /// Options of one type given with another.
    fn check_foreign(&self) -> Result<(), Diagnostic> {
        let name = self.kind.name();
        if let Some((_, at)) = self.sharing
            && self.kind != MountKind::Cache
        {
            let message =
                format!("mount option `sharing` is known for `type=cache` only, not for `type={name}`");
            return Err(Diagnostic::error(at, message));
        }
        if let Some((_, at)) = &self.env
            && self.kind != MountKind::Secret
        {
            let message =
                format!("mount option `env` is known for `type=secret` only, not for `type={name}`");
            return Err(Diagnostic::error(*at, message));
        }
        if let Some((_, at)) = &self.from
            && matches!(self.kind, MountKind::Secret | MountKind::Ssh)
        {
            return Err(Diagnostic::error(
                *at,
                format!("mount option `from` is not known for `type={name}`"),
            ));
        }
        match (&self.source, self.kind) {
            (Some((_, at)), MountKind::Ssh) => {
                Err(Diagnostic::error(*at, "mount option `source` is not known for `type=ssh`"))
            }
            (Some((_, at)), MountKind::Secret) if self.id.is_some() => {
                Err(Diagnostic::error(*at, "a secret mount takes `id=` or `source=`, not both"))
            }
            _ => Ok(()),
        }
    }
}

impl MountKind {
    /// The word after `type=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

fn value<T>(given: Option<(T, Span)>) -> Option<T> {
    given.map(|(value, _)| value)
}

fn non_empty(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn unknown_key(key: &Word) -> Diagnostic {
    let text = key.text.as_str();
    Diagnostic::error(key.span, format!("unknown mount option `{text}`")).did_you_mean(text, KEYS)
}

fn kind(at: Span, value: &str) -> Result<MountKind, Diagnostic> {
    Ok(match value.to_ascii_lowercase().as_str() {
        "bind" => MountKind::Bind,
        "cache" => MountKind::Cache,
        "tmpfs" => MountKind::Tmpfs,
        "secret" => MountKind::Secret,
        "ssh" => MountKind::Ssh,
        _ => {
            let message = format!("unknown mount type `{value}`");
            return Err(Diagnostic::error(at, message).did_you_mean(value, KINDS));
        }
    })
}

fn sharing(at: Span, value: &str) -> Result<Sharing, Diagnostic> {
    Ok(match value.to_ascii_lowercase().as_str() {
        "shared" => Sharing::Shared,
        "private" => Sharing::Private,
        "locked" => Sharing::Locked,
        _ => {
            let message = format!("unknown value `{value}` for mount option `sharing`");
            return Err(Diagnostic::error(at, message).did_you_mean(value, SHARINGS));
        }
    })
}

/// The words that Go's `strconv.ParseBool` takes.
fn boolean(key: &Word, at: Span, value: &str) -> Result<bool, Diagnostic> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => {
            let message = format!("mount option `{}` is `true` or `false`, not `{value}`", key.text);
            Err(Diagnostic::error(at, message))
        }
    }
}

fn number(key: &Word, at: Span, value: &str, radix: u32) -> Result<u32, Diagnostic> {
    let digits = !value.is_empty() && value.chars().all(|c| c.is_digit(radix));
    digits.then(|| u32::from_str_radix(value, radix).ok()).flatten().ok_or_else(|| {
        let kind = if radix == 8 { "an octal number" } else { "a number" };
        Diagnostic::error(at, format!("mount option `{}` is {kind}, not `{value}`", key.text))
    })
}

/// Sizes as Docker writes them: a decimal number, blanks, then `b`, `k`, `m`, `g`, `t` or `p`, optionally
/// with `b` or `ib`, in any case; all of them powers of 1024.
fn size(at: Span, value: &str) -> Result<u64, Diagnostic> {
    let bad = || {
        Diagnostic::error(at, format!("mount option `size` is a number of bytes, not `{value}`"))
            .hint("write for example `size=64m`")
    };
    let split = value.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(unit.as_str(), "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    if !matches!(unit.len(), 0..=3) || unit.ends_with("bb") || unit.ends_with('i') {
        return Err(bad());
    }
    let number: f64 = number.parse().map_err(|_| bad())?;
    let bytes = number * 1024f64.powi(power);
    // The comparison keeps the cast in range.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    if bytes < 9.2e18 { Ok(bytes as u64) } else { Err(bad()) }
}
