//! Images as trees of files, for the verbs that look into them: what is in their layers is read from the store's file
//! indexes, and shown in one way.

use std::fmt::Write as _;

use builder::deliver::{Artifact, Complete};
use builder::{rework, source};
use layerfs::entry::{Kind, Time};
use layerfs::file_index::{FileTree, Node};
use oci::{Descriptor, DiffId, Digest, Platform, Reference};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::command;
use crate::failure::Failure;
use crate::home::Home;

/// Layers with their diff ids, bottom first.
pub(super) type Layers = Vec<(Descriptor, DiffId)>;

/// The image that `text` names: for `platform`, or the one that tells of an index. The base of a build that nobody
/// pulled is on no list, and is found all the same.
pub(super) fn open(text: &str, platform: Option<&Platform>, home: &Home) -> Result<Complete, Failure> {
    let fail = home.failure("read the image");
    let Some(stored) = home.store.find(text).map_err(home.failure("find the image"))? else {
        let host = Platform::host();
        let name = text.parse::<Reference>().ok();
        let base = name.and_then(|name| source::resolved_to(&home.store, &name, platform.unwrap_or(&host)));
        let base = base.ok_or_else(|| Failure::no_such_image(text))?;
        return Complete::load(&home.store, &base).map_err(fail);
    };
    if let Some(platform) = platform {
        return command::image_for(home, &stored.descriptor, platform, &format!("look into `{text}`"));
    }
    let artifact = Artifact::load(&home.store, &stored.descriptor).map_err(fail)?;
    artifact.representative().cloned().ok_or_else(|| Failure::no_such_image(text))
}

/// The layers of an image.
pub(super) fn layers(image: &Complete) -> Result<Layers, Failure> {
    Ok(rework::layers(image)?)
}

/// What a container of these layers would see.
pub(super) fn tree(layers: &[(Descriptor, DiffId)], home: &Home) -> Result<FileTree, Failure> {
    home.store.file_tree(layers).map_err(|error| unreadable(&error, home))
}

/// Layers that cannot be looked into.
pub(super) fn unreadable(error: &layerfs::Error, home: &Home) -> Failure {
    let failure = Failure::store("look into the layers", error, home.store.root());
    match error {
        layerfs::Error::MissingBlob { .. } => {
            failure.hint("`lbuild pull NAME` fetches all layers of an image")
        }
        _ => failure,
    }
}

/// An object as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Object {
    #[serde(rename = "Type")]
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    modified: String,
    links: u32,
    /// The layer that it is from, counted from 1 at the bottom.
    layer: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    xattrs: std::collections::BTreeMap<String, String>,
}

impl Object {
    pub(super) fn of(node: &Node) -> Object {
        let xattrs = node.xattrs.iter().map(|(name, value)| (shown(name), value_text(value)));
        Object {
            kind: kind(&node.kind),
            mode: format!("{:04o}", node.mode),
            uid: node.uid,
            gid: node.gid,
            size: size(&node.kind),
            modified: moment(node.mtime),
            links: node.names,
            layer: node.layer + 1,
            digest: node.content,
            target: match &node.kind {
                Kind::Symlink { target } => Some(shown(target)),
                _ => None,
            },
            device: match &node.kind {
                Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                    Some(format!("{major}:{minor}"))
                }
                _ => None,
            },
            xattrs: xattrs.collect(),
        }
    }
}

/// The word for a kind.
pub(super) fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::File { .. } | Kind::HardLink { .. } => "file",
        Kind::Directory => "directory",
        Kind::Symlink { .. } => "link",
        Kind::CharDevice { .. } => "character device",
        Kind::BlockDevice { .. } => "block device",
        Kind::Fifo => "pipe",
    }
}

/// Bytes of a regular file; nothing else has any.
pub(super) fn size(kind: &Kind) -> u64 {
    match kind {
        Kind::File { size } => *size,
        _ => 0,
    }
}

/// A time as RFC 3339, in seconds; one that no calendar has by its number.
pub(super) fn moment(time: Time) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(time.seconds).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| format!("@{}", time.seconds))
}

/// A name or path for people: what would control a terminal, or is no text, stands as `\xNN`.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match crate::text::printable(c.encode_utf8(&mut [0; 4])).chars().next() {
                Some(same) if same == c => out.push(c),
                _ => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape(&mut out, byte)),
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(&mut out, *byte));
    }
    out
}

fn escape(out: &mut String, byte: u8) {
    // Writing to a string does not fail.
    let _ = write!(out, "\\x{byte:02x}");
}

/// The value of an attribute: as text, or as digits where it is none. (As getfattr has it.)
fn value_text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if crate::text::printable(text) == text => text.to_owned(),
        _ => value.iter().fold("0x".to_owned(), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        }),
    }
}

/// A path as people type it.
pub(super) fn absolute(path: &[u8]) -> String {
    format!("/{}", shown(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_no_name() {
        for (name, expected) in [
            (&b"plain \xc3\xa9"[..], "plain é"),
            (b"new\nline", "new\\x0aline"),
            (b"\x1b[2J", "\\x1b[2J"),
            (b"bad\xffname", "bad\\xffname"),
            ("\u{202e}".as_bytes(), "\\xe2\\x80\\xae"),
        ] {
            assert_eq!(shown(name), expected);
        }
        assert_eq!(value_text(b"text"), "text");
        assert_eq!(value_text(b"\x01\x00"), "0x0100");
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(moment(Time::from_seconds(1_000_000_000)), "2001-09-09T01:46:40Z");
        assert_eq!(moment(Time::from_seconds(-1)), "1969-12-31T23:59:59Z");
        assert_eq!(moment(Time::from_seconds(i64::MAX)), format!("@{}", i64::MAX));
    }
}
