//! `-o`: where a built image goes, and in which form. (`docker buildx build`, "Set the export action".)
//!
//! `type=KIND,FIELD=VALUE,…`, or a directory alone, or `-` for a tar on standard output.

use std::path::PathBuf;
use std::str::FromStr;

use builder::deliver::{Family, Form, LayerForm, Method, Note, Readers};
use oci::{Platform, Reference};

use super::{annotation, fields};

/// One `-o`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Output {
    pub(crate) export: Export,
    /// `name=`; where there are none the image's own names count.
    pub(crate) names: Vec<Reference>,
    pub(crate) form: Form,
}

impl Output {
    /// Whether it leaves the image as the store has it: it stays there and nothing was said of its form, or it is wanted as files.
    pub(crate) fn is_kept(&self) -> bool {
        match self.export {
            Export::Files { .. } | Export::Nothing => true,
            Export::Image(Push::No) => self.form == Form::default(),
            Export::Image(Push::Named | Push::ByDigest) | Export::Layout { .. } => false,
        }
    }
}

/// What is done with the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Export {
    /// It stays in the store, and may be pushed.
    Image(Push),
    /// It is written as a layout.
    Layout {
        to: Destination,
        /// `tar=`, if it was said.
        archive: Option<bool>,
        readers: Readers,
    },
    /// Its files are written.
    Files {
        to: Files,
        /// `platform-split=`, if it was said.
        split: Option<bool>,
    },
    /// Nothing: building it was all.
    Nothing,
}

/// Whether an image is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    No,
    Named,
    /// By its digest alone, so that no tag changes.
    ByDigest,
}

/// Where files go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    Directory(PathBuf),
    Archive(Destination),
}

/// A place outside the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    Path(PathBuf),
}

/// `--compression`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MethodArg(pub(crate) Method);

impl FromStr for MethodArg {
    type Err = String;

    fn from_str(text: &str) -> Result<MethodArg, String> {
        method(text).map(MethodArg)
    }
}

const KINDS: &str = "image, registry, oci, docker, local, tar or cacheonly";

impl Output {
    fn plain(export: Export) -> Output {
        Output { export, names: Vec::new(), form: Form::default() }
    }

    /// Docker's archive in a file.
    pub(crate) fn docker_archive(path: PathBuf) -> Output {
        let to = Destination::Path(path);
        Output::plain(Export::Layout { to, archive: Some(true), readers: Readers::Docker })
    }

    /// An OCI layout in a directory.
    pub(crate) fn layout(path: PathBuf) -> Output {
        let to = Destination::Path(path);
        Output::plain(Export::Layout { to, archive: Some(false), readers: Readers::Oci })
    }

    /// Whether it writes to standard output.
    pub(crate) fn uses_stdout(&self) -> bool {
        let to = match &self.export {
            Export::Layout { to, .. } | Export::Files { to: Files::Archive(to), .. } => to,
            _ => return false,
        };
        *to == Destination::Stdout
    }
}

/// The fields as they came, before the type says which of them may be.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    to: Option<Destination>,
    archive: Option<bool>,
    split: Option<bool>,
    names: Vec<Reference>,
    push: Option<bool>,
    by_digest: bool,
    form: Form,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Output, String> {
        if text == "-" {
            let to = Files::Archive(Destination::Stdout);
            return Ok(Output::plain(Export::Files { to, split: None }));
        }
        if !text.is_empty() && !text.contains(['=', ',']) {
            let to = Files::Directory(text.into());
            return Ok(Output::plain(Export::Files { to, split: None }));
        }
        let mut fields = Fields::default();
        for field in fields::split(text)? {
            let pair = field.split_once('=');
            let (key, value) = pair.ok_or_else(|| format!("expected `FIELD=VALUE`, found `{field}`"))?;
            fields.take(key, value)?;
        }
        fields.output()
    }
}

impl Fields {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let layers = &mut self.form.layers;
        match key {
            "type" => self.kind = Some(value.to_owned()),
            "dest" if value == "-" => self.to = Some(Destination::Stdout),
            "dest" if !value.is_empty() => self.to = Some(Destination::Path(value.into())),
            "tar" => self.archive = Some(boolean(key, value)?),
            "platform-split" => self.split = Some(boolean(key, value)?),
            "name" => {
                let names = value.split(',').filter(|name| !name.is_empty());
                let names = names.map(|name| name.parse().map_err(|error: oci::Error| error.to_string()));
                self.names = names.collect::<Result<_, _>>()?;
            }
            "push" => self.push = Some(boolean(key, value)?),
            "push-by-digest" => self.by_digest = boolean(key, value)?,
            "compression" => layers.method = method(value)?,
            "compression-level" => layers.level = Some(level(value)?),
            "force-compression" => layers.force = boolean(key, value)?,
            "oci-mediatypes" => {
                self.form.family = Some(if boolean(key, value)? { Family::Oci } else { Family::Docker });
            }
            // Files never are later than `SOURCE_DATE_EPOCH` where there is one.
            "rewrite-timestamp" if boolean(key, value)? => {}
            "rewrite-timestamp" => {
                return Err(
                    "`rewrite-timestamp=false` cannot be: files are never later than `SOURCE_DATE_EPOCH`"
                        .to_owned(),
                );
            }
            // The store always has the image, and unpacks it when it runs.
            "store" | "unpack" => boolean(key, value).map(drop)?,
            // An image can be found by its digest whatever it is called.
            "name-canonical" => boolean(key, value).map(drop)?,
            _ => match note(key, value)? {
                Some(note) => self.form.notes.push(note),
                None => return Err(format!("unknown field `{key}={value}`")),
            },
        }
        Ok(())
    }

    fn output(self) -> Result<Output, String> {
        let kind = self.kind.clone().ok_or_else(|| format!("no `type`: expected {KINDS}"))?;
        check_level(self.form.layers)?;
        if self.form.layers.method == Method::Zstd && self.form.family == Some(Family::Docker) {
            return Err("Docker's media types have none for zstd: leave `oci-mediatypes` out".to_owned());
        }
        if !["image", "registry", "oci", "docker", "local", "tar", "cacheonly"].contains(&kind.as_str()) {
            return Err(format!("unknown type `{kind}`: expected {KINDS}"));
        }
        let is_image = matches!(kind.as_str(), "image" | "registry");
        let is_layout = kind == "oci" || kind == "docker" && self.to.is_some();
        let is_files = matches!(kind.as_str(), "local" | "tar");
        for (is_there, is_allowed, field) in [
            (self.to.is_some(), is_layout || is_files, "dest"),
            (self.archive.is_some(), is_layout, "tar"),
            (self.split.is_some(), is_files, "platform-split"),
            (self.push.is_some() || self.by_digest, is_image, "push"),
            (!self.names.is_empty() || self.form != Form::default(), !is_files, "name` and `compression"),
        ] {
            if is_there && !is_allowed {
                return Err(format!("`{field}` means nothing with `type={kind}`"));
            }
        }
        let to = || self.to.clone().unwrap_or(Destination::Stdout);
        let export = match kind.as_str() {
            "registry" | "image" => Export::Image(match (self.by_digest, self.push) {
                (true, _) => Push::ByDigest,
                (false, Some(false)) => Push::No,
                (false, None) if kind == "image" => Push::No,
                (false, _) => Push::Named,
            }),
            "oci" => Export::Layout { to: to(), archive: self.archive, readers: Readers::Oci },
            // Without a file Docker's builder hands the image to the daemon: here that is the store.
            "docker" if self.to.is_none() => Export::Image(Push::No),
            "docker" => Export::Layout { to: to(), archive: self.archive, readers: Readers::Docker },
            "tar" => Export::Files { to: Files::Archive(to()), split: self.split },
            "local" => match to() {
                Destination::Path(path) => Export::Files { to: Files::Directory(path), split: self.split },
                Destination::Stdout => return Err("`type=local` needs a directory: `dest=DIR`".to_owned()),
            },
            _ => Export::Nothing,
        };
        if let Export::Layout { to: Destination::Stdout, archive: Some(false), .. } = export {
            return Err("a directory cannot be written to standard output".to_owned());
        }
        Ok(Output { export, names: self.names, form: self.form })
    }
}

pub(super) fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("expected `{key}=true` or `{key}=false`, found `{value}`")),
    }
}

fn method(value: &str) -> Result<Method, String> {
    match value {
        "uncompressed" => Ok(Method::Uncompressed),
        "gzip" => Ok(Method::Gzip),
        "zstd" => Ok(Method::Zstd),
        "estargz" => Ok(Method::Estargz),
        other => Err(format!("unknown compression `{other}`: expected gzip, zstd, estargz or uncompressed")),
    }
}

fn level(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("expected `compression-level` as a number, found `{value}`"))
}

/// Which levels there are depends on the method, which may stand behind the level.
pub(crate) fn check_level(layers: LayerForm) -> Result<(), String> {
    let most = if layers.method == Method::Zstd { 22 } else { 9 };
    match layers.level {
        Some(level) if !(1..=most).contains(&level) => {
            Err(format!("expected `compression-level` from 1 to {most}, found {level}"))
        }
        _ => Ok(()),
    }
}

/// `annotation.KEY`, `annotation-TYPE.KEY`, `annotation-TYPE[PLATFORM].KEY`
fn note(key: &str, value: &str) -> Result<Option<Note>, String> {
    let Some(rest) = key.strip_prefix("annotation") else { return Ok(None) };
    // A platform may have dots, in brackets.
    let dot = match rest.find(']') {
        Some(end) => rest[end..].find('.').map(|dot| end + dot),
        None => rest.find('.'),
    };
    let Some((what, key)) = dot.map(|dot| (&rest[..dot], &rest[dot + 1..])) else { return Ok(None) };
    let (level, platform): (_, Option<Platform>) = match what.strip_prefix('-') {
        Some(what) => annotation::level(what)?,
        None => annotation::level(&format!("manifest{what}"))?,
    };
    if key.is_empty() {
        return Err("an annotation needs a name: `annotation.NAME=VALUE`".to_owned());
    }
    Ok(Some(Note { level, platform, key: key.to_owned(), value: value.to_owned() }))
}

#[cfg(test)]
mod tests {
    use builder::deliver::Level;

    use super::*;

    fn path(path: &str) -> Destination {
        Destination::Path(path.into())
    }

    #[test]
    fn outputs_have_a_type_and_a_place() {
        let layout = |to, archive, readers| Export::Layout { to, archive, readers };
        let files = |to, split| Export::Files { to, split };
        for (text, expected) in [
            ("type=oci,dest=a.tar", layout(path("a.tar"), None, Readers::Oci)),
            ("dest=a,type=oci,tar=false", layout(path("a"), Some(false), Readers::Oci)),
            ("type=oci,dest=-", layout(Destination::Stdout, None, Readers::Oci)),
            ("type=oci", layout(Destination::Stdout, None, Readers::Oci)),
            ("type=docker,dest=a", layout(path("a"), None, Readers::Docker)),
            ("type=docker", Export::Image(Push::No)),
            ("type=image", Export::Image(Push::No)),
            ("type=image,push=true,unpack=true", Export::Image(Push::Named)),
            ("type=image,push-by-digest=true,name=a,name-canonical=true", Export::Image(Push::ByDigest)),
            ("type=registry", Export::Image(Push::Named)),
            ("type=registry,push=false", Export::Image(Push::No)),
            ("type=local,dest=out", files(Files::Directory("out".into()), None)),
            ("type=tar,dest=out.tar,platform-split=0", files(Files::Archive(path("out.tar")), Some(false))),
            ("type=tar", files(Files::Archive(Destination::Stdout), None)),
            ("out", files(Files::Directory("out".into()), None)),
            ("-", files(Files::Archive(Destination::Stdout), None)),
            ("type=cacheonly", Export::Nothing),
        ] {
            assert_eq!(text.parse::<Output>().map(|output| output.export), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("", "expected `FIELD=VALUE`"),
            ("dest=a", "no `type`"),
            ("type=zip,dest=a", "unknown type `zip`"),
            ("type=oci,dest=", "unknown field `dest=`"),
            ("type=oci,dest=-,tar=false", "cannot be written to standard output"),
            ("type=local", "needs a directory"),
            ("type=local,dest=a,tar=true", "`tar` means nothing with `type=local`"),
            ("type=local,dest=a,compression=zstd", "means nothing with `type=local`"),
            ("type=oci,dest=a,push=true", "`push` means nothing with `type=oci`"),
            ("type=image,dest=a", "`dest` means nothing with `type=image`"),
            ("type=image,tar=yes", "expected `tar=true` or `tar=false`, found `yes`"),
            ("type=oci,dest=a,rewrite-timestamp=false", "cannot be"),
        ] {
            let error = text.parse::<Output>().expect_err(text);
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn forms_are_read_from_fields() {
        let form = |text: &str| text.parse::<Output>().unwrap().form;
        let zstd = form("type=oci,dest=a,compression=zstd,compression-level=19,force-compression=true");
        assert_eq!(zstd.layers, LayerForm { method: Method::Zstd, level: Some(19), force: true });
        assert_eq!(form("type=docker,dest=a,oci-mediatypes=false").family, Some(Family::Docker));
        assert_eq!(
            form("type=registry,oci-mediatypes=true,rewrite-timestamp=true").family,
            Some(Family::Oci)
        );
        let notes = form(
            "type=image,annotation.a.b=1,annotation-index.c=2,annotation-manifest-descriptor[linux/arm64].d=3",
        );
        let note = |level, platform: Option<&str>, key: &str, value: &str| Note {
            level,
            platform: platform.map(|text| text.parse().unwrap()),
            key: key.into(),
            value: value.into(),
        };
        let expected = [
            note(Level::Manifest, None, "a.b", "1"),
            note(Level::Index, None, "c", "2"),
            note(Level::ManifestDescriptor, Some("linux/arm64"), "d", "3"),
        ];
        assert_eq!(notes.notes, expected);
        for (text, expected) in [
            ("compression=lz4", "unknown compression `lz4`"),
            ("compression-level=10", "from 1 to 9, found 10"),
            ("compression-level=0", "from 1 to 9, found 0"),
            ("compression=zstd,compression-level=23", "from 1 to 22, found 23"),
            ("compression-level=fast", "as a number"),
            ("compression=zstd,oci-mediatypes=false", "none for zstd"),
            ("annotation-layer.a=b", "unknown type `layer`"),
            ("annotation.=b", "needs a name"),
            ("annotations.a=b", "unknown"),
            ("name=A", "lower case"),
        ] {
            let error = format!("type=oci,dest=a,{text}").parse::<Output>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
