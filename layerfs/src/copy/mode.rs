//! The argument of `--chmod`: octal digits, or symbols as `chmod(1)` takes them.
//!
//! The symbols follow chmod(1) of GNU with a umask of 0: `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`, comma-separated.

use std::str::FromStr;

use crate::confined::Kind;
use crate::{Error, Result};

/// How to change the mode of what is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange {
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Absolute(u32),
    Symbolic(Vec<Action>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Action {
    /// The bits that may change.
    affected: u32,
    operator: Operator,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permissions {
    /// These bits, and execution of directories and of what somebody may execute already (`X`).
    Bits { bits: u32, execute_if_any: bool },
    /// Those that the class at this shift has.
    Copy { shift: u32 },
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o1007;
const EXECUTE: u32 = 0o111;

impl ModeChange {
    /// The new mode of a file of this kind and mode. Links have no mode of their own.
    pub fn apply(&self, kind: Kind, mode: u32) -> u32 {
        match &self.form {
            _ if kind == Kind::Symlink => mode,
            Form::Absolute(mode) => *mode,
            Form::Symbolic(actions) => actions.iter().fold(mode, |mode, action| action.apply(kind, mode)),
        }
    }

    /// The mode itself, if the change does not depend on the mode before.
    pub fn absolute(&self) -> Option<u32> {
        match self.form {
            Form::Absolute(mode) => Some(mode),
            Form::Symbolic(_) => None,
        }
    }
}

impl Action {
    fn apply(self, kind: Kind, mode: u32) -> u32 {
        let bits = match self.permissions {
            Permissions::Copy { shift } => ((mode >> shift) & 7) * EXECUTE,
            Permissions::Bits { bits, execute_if_any } => {
                let execute = execute_if_any && (kind == Kind::Directory || mode & EXECUTE != 0);
                bits | if execute { EXECUTE } else { 0 }
            }
        };
        let bits = bits & self.affected;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => mode & !self.affected | bits,
        }
    }
}

impl FromStr for ModeChange {
    type Err = Error;

    fn from_str(text: &str) -> Result<ModeChange> {
        let octal = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        let form = match u32::from_str_radix(text, 8) {
            Ok(mode) if octal && mode <= 0o7777 => Some(Form::Absolute(mode)),
            _ if octal => None,
            _ => symbolic(text).map(Form::Symbolic),
        };
        form.map(|form| ModeChange { form }).ok_or_else(|| Error::Chmod { text: text.to_owned() })
    }
}

fn symbolic(text: &str) -> Option<Vec<Action>> {
    let mut actions = Vec::new();
    for clause in text.split(',') {
        let operators = clause.find(['+', '-', '='])?;
        let (who, mut rest) = clause.split_at(operators);
        let affected = affected(who)?;
        while !rest.is_empty() {
            let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |next| next + 1);
            let operator = match rest.as_bytes()[0] {
                b'+' => Operator::Add,
                b'-' => Operator::Remove,
                _ => Operator::Set,
            };
            actions.push(Action { affected, operator, permissions: permissions(&rest[1..end])? });
            rest = &rest[end..];
        }
    }
    Some(actions)
}

fn affected(who: &str) -> Option<u32> {
    if who.is_empty() {
        return Some(0o7777);
    }
    who.chars().try_fold(0, |bits, class| {
        Some(
            bits | match class {
                'u' => USER,
                'g' => GROUP,
                'o' => OTHERS,
                'a' => 0o7777,
                _ => return None,
            },
        )
    })
}

fn permissions(text: &str) -> Option<Permissions> {
    match text {
        "u" => return Some(Permissions::Copy { shift: 6 }),
        "g" => return Some(Permissions::Copy { shift: 3 }),
        "o" => return Some(Permissions::Copy { shift: 0 }),
        _ => {}
    }
    let (mut bits, mut execute_if_any) = (0, false);
    for permission in text.chars() {
        match permission {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= EXECUTE,
            'X' => execute_if_any = true,
            's' => bits |= 0o6000,
            't' => bits |= 0o1000,
            _ => return None,
        }
    }
    Some(Permissions::Bits { bits, execute_if_any })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applies_octal_and_symbolic_modes() {
        use Kind::{Directory, File, Symlink};
        for (text, kind, before, after) in [
            ("755", File, 0o644, 0o755),
            ("0644", Directory, 0o755, 0o644),
            ("4755", File, 0o600, 0o4755),
            ("07777", File, 0, 0o7777),
            ("0", File, 0o777, 0),
            ("755", Symlink, 0o777, 0o777),
            ("u=rwX,go=rX", File, 0o600, 0o644),
            ("u=rwX,go=rX", File, 0o700, 0o755),
            ("u=rwX,go=rX", Directory, 0o700, 0o755),
            ("a+x", File, 0o644, 0o755),
            ("+x", File, 0o644, 0o755),
            ("a-w", File, 0o666, 0o444),
            ("go=", File, 0o755, 0o700),
            ("g=u", File, 0o740, 0o770),
            ("u+s", File, 0o755, 0o4755),
            ("g+s", Directory, 0o755, 0o2755),
            ("+t", Directory, 0o777, 0o1777),
            ("u=rw,u+x", File, 0o044, 0o744),
            ("u+r-w", File, 0o200, 0o400),
            ("u=rwx", File, 0o4755, 0o755),
        ] {
            let change: ModeChange = text.parse().unwrap();
            assert_eq!(change.apply(kind, before), after, "{text} on {before:o}");
        }
    }

    #[test]
    fn refuses_what_is_no_mode() {
        for text in [
            "",
            "8",
            "10000",
            "99999999999",
            "u",
            "u=q",
            "z+x",
            "u=rwx,",
            ",u=r",
            "rwx",
            "+755",
            "-1",
            "u=ug",
        ] {
            let error = text.parse::<ModeChange>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not a mode: expected")), "{error}");
        }
    }
}
