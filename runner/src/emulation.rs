//! Whether this machine executes programs of an architecture: by itself, by an interpreter that is registered
//! with binfmt_misc, or not at all.
//!
//! The kernel decides by an executable's first bytes, and so does this: the ELF header of the architecture is
//! held against the entries. What they are called does not matter. Nothing is registered here.
//!
//! Facts from the kernel's document "binfmt-misc" and elf(5).

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where the kernel shows its entries, once `binfmt_misc` is mounted.
const ENTRIES: &str = "/proc/sys/fs/binfmt_misc";

/// How this machine executes programs of an architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// By itself.
    Native,
    /// By an interpreter.
    Registered {
        /// Its path.
        interpreter: PathBuf,
        /// Whether the kernel holds it open (flag `F`). Without that, a container needs the interpreter at
        /// this path in its own file system.
        fixed: bool,
    },
    /// Not at all; or `binfmt_misc` is not mounted, so that nobody can tell.
    Missing,
}

/// How this machine executes programs of an architecture, by its OCI name such as `arm64`.
///
/// 32-bit programs of the machine's own kind count as native: the kernel executes them unless it was built
/// or born without, which only trying tells.
#[must_use]
pub fn find(architecture: &str) -> Emulation {
    find_in(Path::new(ENTRIES), architecture)
}

fn find_in(directory: &Path, architecture: &str) -> Emulation {
    if NATIVE.first() == Some(&architecture) {
        return Emulation::Native;
    }
    let registered = Elf::of(architecture).and_then(|elf| registered(directory, &elf.header()));
    match registered {
        Some(entry) => Emulation::Registered { interpreter: entry.interpreter, fixed: entry.fixed },
        None if NATIVE.contains(&architecture) => Emulation::Native,
        None => Emulation::Missing,
    }
}

/// What the processor executes; its own kind first.
#[cfg(target_arch = "x86_64")]
const NATIVE: &[&str] = &["amd64", "386"];
#[cfg(target_arch = "aarch64")]
const NATIVE: &[&str] = &["arm64", "arm"];

/// The entry that takes a program that starts like this.
fn registered(directory: &Path, header: &[u8]) -> Option<Entry> {
    let is_on = |file: &str| fs::read(directory.join(file)).is_ok_and(|text| text == b"enabled\n");
    if !is_on("status") {
        return None;
    }
    let files = fs::read_dir(directory).ok()?.flatten().map(|file| file.path());
    let entries = files
        .filter(|path| !path.ends_with("status") && !path.ends_with("register"))
        .filter_map(|path| Entry::parse(&fs::read(path).ok()?));
    entries.into_iter().find(|entry| entry.takes(header))
}

/// One enabled entry that goes by bytes and not by a file's name.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    interpreter: PathBuf,
    fixed: bool,
    offset: usize,
    magic: Vec<u8>,
    /// Which bits count; as long as `magic`, or empty for all.
    mask: Vec<u8>,
}

impl Entry {
    /// Reads the kernel's lines: `enabled`, `interpreter PATH`, `flags: OPF`, `offset 0`, `magic HEX`,
    /// `mask HEX`.
    fn parse(text: &[u8]) -> Option<Entry> {
        let lines = || text.split(|&byte| byte == b'\n');
        let value = |key: &str| lines().find_map(|line| line.strip_prefix(key.as_bytes()));
        if !lines().any(|line| line == b"enabled") {
            return None;
        }
        let mask = match value("mask ") {
            Some(mask) => bytes(mask)?,
            None => Vec::new(),
        };
        let interpreter = std::ffi::OsString::from_vec(value("interpreter ")?.to_vec());
        Some(Entry {
            interpreter: interpreter.into(),
            fixed: value("flags: ")?.contains(&b'F'),
            offset: std::str::from_utf8(value("offset ")?).ok()?.parse().ok()?,
            magic: bytes(value("magic ")?)?,
            mask,
        })
    }

    fn takes(&self, header: &[u8]) -> bool {
        let mask = self.mask.iter().copied().chain(std::iter::repeat(0xff));
        // What lies behind the header differs from program to program: an entry that looks there takes none.
        let found = header.get(self.offset..).unwrap_or_default();
        found.len() >= self.magic.len()
            && self
                .magic
                .iter()
                .zip(mask)
                .zip(found)
                .all(|((magic, mask), found)| (magic ^ found) & mask == 0)
    }
}

/// Reads pairs of hexadecimal digits.
fn bytes(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits
        .chunks(2)
        .map(|pair| match pair {
            &[high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

/// What tells the programs of an architecture apart.
#[derive(Clone, Copy)]
struct Elf {
    is_64: bool,
    is_big_endian: bool,
    machine: u16,
}

impl Elf {
    fn of(architecture: &str) -> Option<Elf> {
        let elf = |is_64, is_big_endian, machine| Some(Elf { is_64, is_big_endian, machine });
        match architecture {
            "386" => elf(false, false, libc::EM_386),
            "amd64" => elf(true, false, libc::EM_X86_64),
            "arm" => elf(false, false, libc::EM_ARM),
            "arm64" => elf(true, false, libc::EM_AARCH64),
            "loong64" => elf(true, false, 258),
            "mips" => elf(false, true, libc::EM_MIPS),
            "mips64" => elf(true, true, libc::EM_MIPS),
            "mips64le" => elf(true, false, libc::EM_MIPS),
            "mipsle" => elf(false, false, libc::EM_MIPS),
            "ppc64" => elf(true, true, libc::EM_PPC64),
            "ppc64le" => elf(true, false, libc::EM_PPC64),
            "riscv64" => elf(true, false, 243),
            "s390x" => elf(true, true, libc::EM_S390),
            _ => None,
        }
    }

    /// The header of a program for Linux, as far as it is the same for all.
    fn header(self) -> [u8; 64] {
        let half = |value: u16| if self.is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut header = [0; 64];
        header[..4].copy_from_slice(b"\x7fELF");
        header[4] = if self.is_64 { 2 } else { 1 };
        header[5] = if self.is_big_endian { 2 } else { 1 };
        header[6] = 1;
        header[16..18].copy_from_slice(&half(libc::ET_EXEC));
        header[18..20].copy_from_slice(&half(self.machine));
        let version = half(1);
        let at = if self.is_big_endian { 22 } else { 20 };
        header[at..at + 2].copy_from_slice(&version);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's qemu-user-static registers them: name, magic, mask.
    const DEBIAN: &[(&str, &str, &str)] = &[
        (
            "qemu-aarch64",
            "7f454c460201010000000000000000000200b700",
            "ffffffffffffff00fffffffffffffffffeffffff",
        ),
        ("qemu-arm", "7f454c4601010100000000000000000002002800", "ffffffffffffff00fffffffffffffffffeffffff"),
        (
            "qemu-s390x",
            "7f454c4602020100000000000000000000020016",
            "ffffffffffffff00fffffffffffffffffffeffff",
        ),
        (
            "qemu-ppc64le",
            "7f454c4602010100000000000000000002001500",
            "ffffffffffffff00fffffffffffffffffeffff00",
        ),
        (
            "qemu-riscv64",
            "7f454c460201010000000000000000000200f300",
            "ffffffffffffff00fffffffffffffffffeffffff",
        ),
        (
            "qemu-mips",
            "7f454c46010201000000000000000000000200080000000000000000000000000000000000000000",
            "ffffffffffffff00fffffffffffffffffffeffff0000000000000000000000000000000000000020",
        ),
    ];

    fn machine(status: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("status"), status).unwrap();
        for (name, magic, mask) in DEBIAN {
            let path = format!("/usr/libexec/{name}");
            entry(directory.path(), name, "enabled", &path, "OPF", &format!("{magic}\nmask {mask}"));
        }
        directory
    }

    fn entry(directory: &Path, name: &str, state: &str, interpreter: &str, flags: &str, magic: &str) {
        let text = format!("{state}\ninterpreter {interpreter}\nflags: {flags}\noffset 0\nmagic {magic}\n");
        fs::write(directory.join(name), text).unwrap();
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn entries_are_found_by_what_they_take() {
        let machine = machine("enabled\n");
        let by = |name: &str| Emulation::Registered {
            interpreter: format!("/usr/libexec/{name}").into(),
            fixed: true,
        };
        for (architecture, expected) in [
            ("amd64", Emulation::Native),
            ("386", Emulation::Native),
            ("arm64", by("qemu-aarch64")),
            ("arm", by("qemu-arm")),
            ("s390x", by("qemu-s390x")),
            ("ppc64le", by("qemu-ppc64le")),
            ("riscv64", by("qemu-riscv64")),
            ("mips", by("qemu-mips")),
            ("mips64", Emulation::Missing),
            ("mipsle", Emulation::Missing),
            ("ppc64", Emulation::Missing),
            ("loong64", Emulation::Missing),
            ("wasm", Emulation::Missing),
        ] {
            assert_eq!(find_in(machine.path(), architecture), expected, "{architecture}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_is_switched_off_or_not_there_does_not_count() {
        let off = machine("disabled\n");
        assert_eq!(find_in(off.path(), "arm64"), Emulation::Missing);
        assert_eq!(find_in(&off.path().join("absent"), "arm64"), Emulation::Missing);
        assert_eq!(find_in(&off.path().join("absent"), "386"), Emulation::Native);

        let directory = machine("enabled\n");
        let magic = DEBIAN[0].1;
        entry(directory.path(), "qemu-aarch64", "disabled", "/x", "F", magic);
        assert_eq!(find_in(directory.path(), "arm64"), Emulation::Missing);
        entry(directory.path(), "any", "enabled", "/y z", "", magic);
        let expected = Emulation::Registered { interpreter: "/y z".into(), fixed: false };
        assert_eq!(find_in(directory.path(), "arm64"), expected);
    }

    #[test]
    fn entries_that_are_none_are_passed_over() {
        for text in [
            "",
            "enabled\n",
            "enabled\ninterpreter /x\nflags: \nextension .py\n",
            "enabled\ninterpreter /x\nflags: \noffset 0\nmagic 7f4\n",
            "enabled\ninterpreter /x\nflags: \noffset 0\nmagic 7g\n",
            "enabled\ninterpreter /x\nflags: \noffset -1\nmagic 7f\n",
            "disabled\ninterpreter /x\nflags: \noffset 0\nmagic 7f\n",
        ] {
            assert_eq!(Entry::parse(text.as_bytes()), None, "{text:?}");
        }
        let entry = Entry::parse(b"enabled\ninterpreter /x\nflags: \noffset 62\nmagic 0000\n").unwrap();
        assert!(entry.takes(&[0; 64]) && !entry.takes(&[1; 64]) && !entry.takes(&[0; 63]));
    }
}
