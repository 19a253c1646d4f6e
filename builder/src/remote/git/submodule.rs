//! The submodules of a commit: paths and commits from its tree, addresses from its `.gitmodules`.
//!
//! Both come from a hostile repository. A path counts only where the tree has a commit at it; an address must pass
//! [`giturl::submodule`]. What the tree has and `.gitmodules` does not know stays an empty directory.

use std::collections::BTreeMap;

use super::repository::Pin;
use crate::remote::{Address, FetchError, giturl};

/// A repository inside of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submodule {
    /// Where it is in the other's tree.
    pub(super) path: String,
    pub(super) address: Address,
    pub(super) pin: Pin,
}

/// Reads `git config -z --list` of `.gitmodules`, and `git ls-tree -r -z` of the commit. Addresses that begin with
/// `./` or `../` are relative to `base` (gitmodules(5)).
pub(super) fn read(config: &[u8], listing: &[u8], base: &str) -> Result<Vec<Submodule>, FetchError> {
    let addresses = parse_config(config);
    let mut submodules = Vec::new();
    for (path, hash) in parse_links(listing) {
        let Some(url) = addresses.get(path) else { continue };
        let failed = |source| FetchError::SubmoduleAddress { path: path.to_owned(), source };
        let address = giturl::submodule(&absolute(url, base)).map_err(failed)?;
        submodules.push(Submodule { path: path.to_owned(), address, pin: Pin::commit(hash) });
    }
    Ok(submodules)
}

/// Addresses by path. `update = none` says that a submodule is not wanted.
fn parse_config(config: &[u8]) -> BTreeMap<String, String> {
    let mut sections: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for entry in config.split(|&byte| byte == 0) {
        let Some((key, value)) = std::str::from_utf8(entry).ok().and_then(|entry| entry.split_once('\n'))
        else {
            continue;
        };
        if let Some((name, field)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.')) {
            sections.entry(name).or_default().insert(field, value);
        }
    }
    let wanted = sections.into_values().filter(|fields| fields.get("update") != Some(&"none"));
    wanted
        .filter_map(|fields| Some(((*fields.get("path")?).to_owned(), (*fields.get("url")?).to_owned())))
        .collect()
}

/// Path and hash of each commit in a tree: `160000 commit <hash> TAB <path>`.
fn parse_links(listing: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    listing.split(|&byte| byte == 0).filter_map(|entry| {
        let entry = std::str::from_utf8(entry).ok()?.strip_prefix("160000 commit ")?;
        let (hash, path) = entry.split_once('\t')?;
        giturl::is_full_hash(hash).then_some((path, hash))
    })
}

/// Resolves `./` and `../` at the beginning of an address.
fn absolute(url: &str, base: &str) -> String {
    let (mut rest, mut base) = (url, base.trim_end_matches('/').to_owned());
    let mut is_relative = false;
    loop {
        if let Some(below) = rest.strip_prefix("./") {
            rest = below;
        } else if let Some(above) = rest.strip_prefix("../") {
            rest = above;
            // Neither the host nor what stands before it is a directory.
            let first = base.find("://").map_or(0, |at| at + 3);
            match base[first..].rfind('/').or_else(|| base[first..].rfind(':').filter(|_| first == 0)) {
                Some(at) if base.as_bytes()[first + at] == b':' => base.truncate(first + at + 1),
                Some(at) => base.truncate(first + at),
                None => {}
            }
        } else {
            break;
        }
        is_relative = true;
    }
    match is_relative {
        true if base.ends_with(':') => format!("{base}{rest}"),
        true => format!("{base}/{rest}"),
        false => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_addresses_are_resolved() {
        for (url, base, expected) in [
            ("https://h/x.git", "https://g/a/b.git", "https://h/x.git"),
            ("../c.git", "https://g/a/b.git", "https://g/a/c.git"),
            ("../../c.git", "https://g/a/b.git/", "https://g/c.git"),
            ("../../../../c.git", "https://g/a/b.git", "https://g/c.git"),
            ("./c.git", "https://g/a/b.git", "https://g/a/b.git/c.git"),
            ("../c.git", "git@g:a/b.git", "git@g:a/c.git"),
            ("../../c.git", "git@g:a/b.git", "git@g:c.git"),
            ("../c.git", "git@g:b.git", "git@g:c.git"),
            ("../c", "ssh://git@g:22/a/b", "ssh://git@g:22/a/c"),
            ("..", "https://g/a", ".."),
        ] {
            assert_eq!(absolute(url, base), expected, "{url} from {base}");
        }
    }

    #[test]
    fn submodules_are_where_the_tree_has_commits() {
        let hash = "a".repeat(40);
        let config = "submodule.one.path\nlib/one\0submodule.one.url\n../one.git\0\
                      submodule.b.c.path\ntwo\0submodule.b.c.url\nhttps://h/two\0\
                      submodule.no.path\nno\0submodule.no.url\nhttps://h/no\0submodule.no.update\nnone\0\
                      submodule.gone.path\ngone\0submodule.gone.url\nhttps://h/gone\0core.bare\0";
        let listing = format!(
            "100644 blob {hash}\tgone\0160000 commit {hash}\tlib/one\0160000 commit {hash}\ttwo\0\
             160000 commit {hash}\tno\0160000 commit {hash}\tunknown\0160000 commit short\tbad\0"
        );
        let found = read(config.as_bytes(), listing.as_bytes(), "https://g/a/b.git").unwrap();
        let found: Vec<_> =
            found.iter().map(|module| (module.path.as_str(), module.address.wire())).collect();
        assert_eq!(found, [("lib/one", "https://g/a/one.git"), ("two", "https://h/two")]);
    }

    #[test]
    fn addresses_that_act_on_this_machine_are_refused() {
        let hash = "a".repeat(40);
        let listing = format!("160000 commit {hash}\tx\0");
        for url in [
            "/etc",
            "file:///etc",
            "ext::sh -c id",
            "ssh://-oProxyCommand=id/x",
            "-x",
            "fd::1",
            "git@-o:x",
            "git@h:-x",
            "https://h/\nx",
        ] {
            let config = format!("submodule.x.path\nx\0submodule.x.url\n{url}\0");
            let read = read(config.as_bytes(), listing.as_bytes(), "https://g/a.git");
            assert!(matches!(read, Err(FetchError::SubmoduleAddress { .. })), "{url}: {read:?}");
        }
    }
}
