//! Who a process is: `USER` and `--user` against the passwd and group files of a root file system.
//!
//! Rules: `user`, `uid`, `user:group`, `uid:gid`, `:group`. A number is never looked up as a name
//! (CVE-2026-46680) and need not be in the file. Supplementary groups are those that list the user, only
//! when no group was asked for; the primary group is always among them (CVE-2022-36109). Both files are
//! hostile: found inside the root, opened only if regular, and read up to a limit (CVE-2026-47262).

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Failure, Result};
use crate::resolve;

/// The most of a passwd or group file that is read.
const FILE_BYTES: u64 = 4 << 20;
/// The longest line that counts.
const LINE_BYTES: usize = 64 << 10;
/// The largest id, as Docker has it.
const LARGEST_ID: u32 = i32::MAX as u32;

/// A user as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory: from the passwd file, else `/`.
    pub home: String,
}

/// What is wrong with a user specification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum UserProblem {
    /// No such name in `/etc/passwd`.
    NoUser,
    /// No such name in `/etc/group`.
    NoGroup,
    /// A number beyond what Docker takes.
    IdTooLarge,
    /// The file is not a regular file.
    NotAFile {
        /// Its path in the container.
        path: String,
    },
    /// The file is larger than what is read.
    FileTooLarge {
        /// Its path in the container.
        path: String,
    },
    /// The file cannot be read.
    Unreadable {
        /// Its path in the container.
        path: String,
        /// The error number.
        errno: i32,
    },
}

impl fmt::Display for UserProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserProblem::NoUser => write!(f, "no such user in the container's `/etc/passwd`"),
            UserProblem::NoGroup => write!(f, "no such group in the container's `/etc/group`"),
            UserProblem::IdTooLarge => write!(f, "expected ids of at most {LARGEST_ID}"),
            UserProblem::NotAFile { path } => write!(f, "the container's `{path}` is not a regular file"),
            UserProblem::FileTooLarge { path } => {
                write!(f, "the container's `{path}` is larger than {} MiB", FILE_BYTES >> 20)
            }
            UserProblem::Unreadable { path, errno } => {
                write!(
                    f,
                    "cannot read the container's `{path}`: {}",
                    std::io::Error::from_raw_os_error(*errno)
                )
            }
        }
    }
}

/// Looks a user up in a root file system.
pub fn lookup(root: BorrowedFd<'_>, spec: &str) -> Result<Identity> {
    resolve(root, spec).map_err(Error::from)
}

/// [`lookup`] with an error that travels.
pub(crate) fn resolve(root: BorrowedFd<'_>, spec: &str) -> std::result::Result<Identity, Failure> {
    let fail = |problem| Failure::User { spec: spec.to_owned(), problem };
    let passwd = read(root, "/etc/passwd").map_err(fail)?;
    let group = read(root, "/etc/group").map_err(fail)?;
    identify(spec, &passwd, &group).map_err(fail)
}

/// A user or a group as asked for.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Id(u32),
    Name(&'a str),
}

impl<'a> Asked<'a> {
    fn parse(text: &'a str) -> std::result::Result<Self, UserProblem> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            match text.parse() {
                Ok(id) if id <= LARGEST_ID => Ok(Asked::Id(id)),
                _ => Err(UserProblem::IdTooLarge),
            }
        } else {
            Ok(Asked::Name(text))
        }
    }
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// The rules, on the contents of the two files.
fn identify(spec: &str, passwd: &str, group: &str) -> std::result::Result<Identity, UserProblem> {
    let (user, asked_group) = match spec.split_once(':') {
        None => (spec, ""),
        Some((user, group)) => (user, group),
    };
    let asked = if user.is_empty() { Asked::Id(0) } else { Asked::parse(user)? };
    let entry = match asked {
        Asked::Id(uid) => users(passwd).find(|user| user.uid == uid),
        Asked::Name(name) => Some(users(passwd).find(|user| user.name == name).ok_or(UserProblem::NoUser)?),
    };
    let uid = match (asked, &entry) {
        (Asked::Id(uid), _) => uid,
        (Asked::Name(_), Some(user)) => user.uid,
        (Asked::Name(_), None) => return Err(UserProblem::NoUser),
    };
    let home = entry.as_ref().map(|user| user.home).filter(|home| home.starts_with('/')).unwrap_or("/");
    let mut groups = Vec::new();
    let gid = if asked_group.is_empty() {
        let gid = entry.as_ref().map_or(0, |user| user.gid);
        if let Some(user) = &entry {
            let listed = group_entries(group)
                .filter(|group| group.members.split(',').any(|member| member == user.name))
                .map(|group| group.gid);
            groups.extend(listed);
        }
        gid
    } else {
        match Asked::parse(asked_group)? {
            Asked::Id(gid) => gid,
            Asked::Name(name) => {
                group_entries(group).find(|group| group.name == name).ok_or(UserProblem::NoGroup)?.gid
            }
        }
    };
    groups.retain(|&listed| listed != gid);
    groups.insert(0, gid);
    // The kernel sorts and refuses more than NGROUPS_MAX; a group listed twice counts once.
    groups[1..].sort_unstable();
    groups.dedup();
    Ok(Identity { uid, gid, groups, home: home.to_owned() })
}

/// The well-formed lines of a passwd file; the others count for nothing, as in libc.
fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
        let (_comment, home) = (fields.next(), fields.next().unwrap_or("/"));
        Some(User { name, uid: id(uid)?, gid: id(gid)?, home })
    })
}

/// The well-formed lines of a group file.
fn group_entries(group: &str) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (_password, gid) = (fields.next()?, fields.next()?);
        Some(Group { name, gid: id(gid)?, members: fields.next().unwrap_or("") })
    })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#') && line.len() <= LINE_BYTES)
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&id| id <= LARGEST_ID)
}

/// Reads a file of the root; an absent one is empty.
fn read(root: BorrowedFd<'_>, path: &str) -> std::result::Result<String, UserProblem> {
    let unreadable =
        |errno: Errno| UserProblem::Unreadable { path: path.to_owned(), errno: errno.raw_os_error() };
    // A handle first: opening a device may act on it, opening a pipe may wait for ever. Magic links do not
    // exist in a root file system.
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let place = match resolve::handle(root, Path::new(path), how) {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(unreadable(errno)),
    };
    let stat = fstat(&place).map_err(unreadable)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(UserProblem::NotAFile { path: path.to_owned() });
    }
    // The same file again, whatever its name leads to by now.
    let handle = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = open(handle, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(unreadable)?;
    let mut bytes = Vec::new();
    File::from(file).take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| {
        UserProblem::Unreadable { path: path.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    })?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(UserProblem::FileTooLarge { path: path.to_owned() });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\napp:x:1000:1001::/home/app:/bin/sh\n\
                          1234:x:7:7::/trap:/bin/sh\nnohome:x:1002:1002\nrel:x:1003:1003::rel:\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:app,root\napp:x:1001:app\nwheel:x:10:app,other\n5:x:99:\n";

    #[test]
    fn docker_s_rules() {
        let identity = |uid, gid, groups: &[u32], home: &str| {
            Ok(Identity { uid, gid, groups: groups.to_vec(), home: home.to_owned() })
        };
        for (spec, expected) in [
            ("", identity(0, 0, &[0, 50], "/root")),
            ("root", identity(0, 0, &[0, 50], "/root")),
            ("app", identity(1000, 1001, &[1001, 10, 50], "/home/app")),
            ("1000", identity(1000, 1001, &[1001, 10, 50], "/home/app")),
            ("app:staff", identity(1000, 50, &[50], "/home/app")),
            ("app:", identity(1000, 1001, &[1001, 10, 50], "/home/app")),
            (":staff", identity(0, 50, &[50], "/root")),
            ("4321", identity(4321, 0, &[0], "/")),
            ("4321:4322", identity(4321, 4322, &[4322], "/")),
            // A number is an id even when an image has a user or group of that name.
            ("1234", identity(1234, 0, &[0], "/")),
            ("app:5", identity(1000, 5, &[5], "/home/app")),
            ("nohome", identity(1002, 1002, &[1002], "/")),
            ("rel", identity(1003, 1003, &[1003], "/")),
            ("ghost", Err(UserProblem::NoUser)),
            ("app:ghost", Err(UserProblem::NoGroup)),
            ("-1", Err(UserProblem::NoUser)),
            ("2147483647", identity(2_147_483_647, 0, &[0], "/")),
            ("2147483648", Err(UserProblem::IdTooLarge)),
            ("99999999999999999999", Err(UserProblem::IdTooLarge)),
        ] {
            assert_eq!(identify(spec, PASSWD, GROUP), expected, "`{spec}`");
        }
    }

    #[test]
    fn long_lines_count_for_nothing() {
        let group = format!("big:x:5:app{}\n", ",x".repeat(LINE_BYTES));
        assert_eq!(identify("app", PASSWD, &group).unwrap().groups, [1001]);
    }
}
