//! `--annotation`: notes on an image's documents.

use std::str::FromStr;

use builder::deliver::Level;
use oci::Platform;

/// `[TYPE[PLATFORM],…:]KEY=VALUE`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Annotation {
    /// What it is put on; never empty.
    pub(crate) levels: Vec<(Level, Option<Platform>)>,
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Annotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Annotation, String> {
        let expected = || format!("expected `KEY=VALUE` or `TYPE:KEY=VALUE`, found `{text}`");
        let (left, value) = text.split_once('=').ok_or_else(expected)?;
        let (levels, key) = match left.split_once(':') {
            None => (vec![(Level::Manifest, None)], left),
            Some((levels, key)) => (levels.split(',').map(level).collect::<Result<_, _>>()?, key),
        };
        if key.is_empty() {
            return Err(expected());
        }
        Ok(Annotation { levels, key: key.to_owned(), value: value.to_owned() })
    }
}

/// `manifest` or `manifest[linux/amd64]`
pub(super) fn level(text: &str) -> Result<(Level, Option<Platform>), String> {
    let (name, platform) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((name, platform)) => (name, Some(platform)),
        None => (text, None),
    };
    let level = match name {
        "manifest" => Level::Manifest,
        "manifest-descriptor" => Level::ManifestDescriptor,
        "index" => Level::Index,
        "index-descriptor" => Level::IndexDescriptor,
        _ => {
            return Err(format!(
                "unknown type `{text}`: expected manifest, manifest-descriptor, index or index-descriptor"
            ));
        }
    };
    let platform = platform.map(|platform| platform.parse().map_err(|error: oci::Error| error.to_string()));
    Ok((level, platform.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_may_say_what_they_are_for() {
        let arm: Platform = "linux/arm64".parse().unwrap();
        let any = |level| (level, None);
        for (text, levels, key, value) in [
            ("a=b", vec![any(Level::Manifest)], "a", "b"),
            ("a=b:c=d", vec![any(Level::Manifest)], "a", "b:c=d"),
            ("a=", vec![any(Level::Manifest)], "a", ""),
            ("index:a.b/c=d", vec![any(Level::Index)], "a.b/c", "d"),
            ("index,manifest:a=b", vec![any(Level::Index), any(Level::Manifest)], "a", "b"),
            ("manifest-descriptor:a=b", vec![any(Level::ManifestDescriptor)], "a", "b"),
            ("index-descriptor:a=b", vec![any(Level::IndexDescriptor)], "a", "b"),
            ("manifest[linux/arm64]:a=b", vec![(Level::Manifest, Some(arm))], "a", "b"),
        ] {
            let expected = Annotation { levels, key: key.into(), value: value.into() };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("a", "expected `KEY=VALUE`"),
            ("=b", "expected `KEY=VALUE`"),
            ("index:=b", "expected `KEY=VALUE`"),
            ("layer:a=b", "unknown type `layer`"),
            ("manifest[]:a=b", "platform"),
            ("manifest[x:a=b", "unknown type `manifest[x`"),
        ] {
            let error = text.parse::<Annotation>().expect_err(text);
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
