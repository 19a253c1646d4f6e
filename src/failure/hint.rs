//! What a user may do about a failure, guessed from its chain of causes.
//!
//! Only guesses that are right most of the time; no hint is better than a wrong one.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use builder::error::ImageError;
use builder::remote::FetchError;
use builder::transfer::TransferError;
use oci::{Platform, Reference};
use registry::{Credential, Keychain};
use runner::emulation::Emulation;

/// What hints may look at.
#[derive(Clone, Copy, Default)]
pub(crate) struct Facts<'a> {
    /// The state directory.
    pub(crate) root: Option<&'a Path>,
    /// Who the user is.
    pub(crate) keychain: Option<&'a Keychain>,
}

/// The hint of the first link that has one.
pub(crate) fn of(
    error: &(dyn StdError + 'static),
    reference: Option<&Reference>,
    facts: &Facts<'_>,
) -> Option<String> {
    chain(error).find_map(|link| {
        if let (Some(error), Some(reference)) = (as_registry(link), reference) {
            return for_registry(error, reference, facts);
        }
        if let Some(ImageError::Platform { wanted, .. }) = link.downcast_ref() {
            return Some(format!("pull or build it for `{wanted}` under this name"));
        }
        if is_too_high(link) {
            return Some(
                "an overlay file system has no more than 500 layers; `lbuild squash` makes one of several"
                    .to_owned(),
            );
        }
        if let Some(layerfs::Error::Site { .. }) = link.downcast_ref() {
            return Some("name a new or an empty directory by `--root DIR`".to_owned());
        }
        if let Some(layerfs::Error::NewerStore { .. }) = link.downcast_ref() {
            return Some("use that lbuild, or another store by `--root DIR`".to_owned());
        }
        if let Some(layerfs::Error::NoOverlay { .. } | layerfs::Error::TooManyLayers { .. }) =
            link.downcast_ref()
        {
            return Some("`--snapshotter copy` needs no overlay file systems".to_owned());
        }
        if let Some(layerfs::Error::NoFuseOverlay { .. }) = link.downcast_ref() {
            return Some("install the package `fuse-overlayfs`, or say `--snapshotter copy`".to_owned());
        }
        if is_read_only(link) {
            return Some(
                "the store is on a read-only file system; `--root DIR` takes another place".to_owned(),
            );
        }
        is_full_disk(link).then(|| full_disk(facts.root))
    })
}

/// Whether the kernel takes no further layer: it says so only by refusing the call.
fn is_too_high(link: &(dyn StdError + 'static)) -> bool {
    matches!(link.downcast_ref(), Some(layerfs::Error::Mount { step: "add a layer", source })
        if source.kind() == io::ErrorKind::InvalidInput)
}

fn is_read_only(link: &(dyn StdError + 'static)) -> bool {
    let error = link.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

/// What stands in the way of a container.
pub(crate) fn for_container(error: &runner::Error) -> Option<String> {
    use runner::Error;
    match error {
        Error::Limit { .. } => {
            Some("without the limit it runs; see `--memory`, `--cpus` and `--pids-limit`".to_owned())
        }
        Error::Setup { step: runner::Step::Clone, source } if source.raw_os_error() == Some(1) => {
            Some("lbuild itself seems to be in a container that may not make namespaces".to_owned())
        }
        Error::ProgramNotExecutable { source, .. } if source.raw_os_error() == Some(8) => {
            Some("the program is for another processor, or a script without `#!`".to_owned())
        }
        _ => None,
    }
}

/// A program that this machine's processor does not run.
pub(crate) fn for_emulation(error: &runner::Error, platform: &Platform) -> Option<String> {
    if !error.is_foreign_program() || Platform::host().accepts(platform) {
        return None;
    }
    Some(match runner::emulation::find(&platform.architecture) {
        Emulation::Missing => format!(
            "programs of `{platform}` need an emulator that the kernel knows: install Debian's `qemu-user-static`, or \
             run `docker run --privileged --rm tonistiigi/binfmt --install {}`",
            platform.architecture
        ),
        Emulation::Registered { interpreter, fixed: false } => format!(
            "the emulator `{}` is registered without the flag `F`, so it is looked for in the image: register it with \
             that flag, as Debian's `qemu-user-static` does",
            interpreter.display()
        ),
        Emulation::Native | Emulation::Registered { .. } => return None,
    })
}

/// A secret that nobody gave.
pub(crate) fn for_secret(id: &str) -> String {
    format!("`--secret id={id},src=FILE` gives it from a file, `--secret id={id},env=NAME` from a variable")
}

/// An agent that nobody gave, or that does not answer.
pub(crate) fn for_agent(id: &str, is_given: bool) -> String {
    match is_given {
        true => "does `ssh-add -l` reach it?".to_owned(),
        false => format!("`--ssh {id}` lends the agent of `$SSH_AUTH_SOCK`, `--ssh {id}=SOCKET` another one"),
    }
}

/// What stands in the way of a download.
pub(crate) fn for_fetch(error: &FetchError, facts: &Facts<'_>) -> Option<String> {
    match error {
        FetchError::RunGit { source } if source.kind() == io::ErrorKind::NotFound => {
            Some("repositories are fetched by git: `apt-get install git`".to_owned())
        }
        FetchError::Submodule { source, .. } => for_fetch(source, facts),
        FetchError::Download { source } if source.is_unauthorized() => {
            Some("`--secret id=HTTP_AUTH_TOKEN_HOST,env=NAME` gives a token for `HOST`".to_owned())
        }
        error => is_full_disk(error).then(|| full_disk(facts.root)),
    }
}

/// Whether a link of the chain says that a disk or a quota is full.
pub(crate) fn is_full_disk(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|link| {
        link.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        })
    })
}

fn full_disk(root: Option<&Path>) -> String {
    match root {
        Some(root) => format!(
            "the disk of `{}` is full; `lbuild prune` frees what builds keep, `lbuild rmi` what `lbuild images` \
             lists, and `--root DIR` takes another place",
            root.display()
        ),
        None => "the disk is full".to_owned(),
    }
}

fn for_registry(error: &registry::Error, reference: &Reference, facts: &Facts<'_>) -> Option<String> {
    let host = reference.registry();
    if error.is_unauthorized() {
        let known = facts.keychain.map(|keychain| keychain.lookup(reference));
        return Some(match known {
            Some(Ok(Credential::Anonymous)) => {
                format!("no credentials for `{host}` in `~/.docker/config.json`; run `lbuild login {host}`")
            }
            _ => format!("the credentials for `{host}` do not suffice; run `lbuild login {host}` again"),
        });
    }
    if error.is_not_found() {
        let tag = reference.tag().filter(|_| reference.digest().is_none());
        return tag.map(|tag| format!("is the tag `{tag}` right? `{host}` has no such image"));
    }
    if error.is_rate_limited() {
        return Some(format!(
            "`{host}` limits how much one may ask; `lbuild login {host}` raises the limit for many"
        ));
    }
    if error.is_unreachable() {
        return Some(unreachable(error, host));
    }
    None
}

/// Why no answer came can only be read from the words of the TLS library and the system.
fn unreachable(error: &registry::Error, host: &str) -> String {
    let words: String = chain(error).map(|link| link.to_string().to_lowercase()).collect();
    let says = |any: &[&str]| any.iter().any(|word| words.contains(word));
    if says(&["certificate", "unknownissuer"]) {
        format!("if `{host}` has a certificate of your own authority, add `--cacert FILE`")
    } else if says(&["corrupt message", "invalidcontenttype", "wrong version", "tls"]) {
        format!("if `{host}` speaks plain HTTP, add `--insecure-registry {host}`")
    } else if says(&["refused"]) && words.contains("http://") {
        format!("is a registry running at `{host}`?")
    } else if says(&["refused"]) {
        format!(
            "is a registry running at `{host}`? if it speaks plain HTTP only, add `--insecure-registry {host}`"
        )
    } else if says(&["lookup", "resolve", "dns", "name or service"]) {
        format!("is `{host}` spelled right, and is there a network?")
    } else {
        format!("is there a network, and does it reach `{host}`?")
    }
}

fn as_registry<'a>(link: &'a (dyn StdError + 'static)) -> Option<&'a registry::Error> {
    let of_image = || match link.downcast_ref() {
        Some(ImageError::Registry(error)) => Some(error),
        _ => None,
    };
    let of_transfer = || match link.downcast_ref() {
        Some(TransferError::Registry(error)) => Some(error),
        _ => None,
    };
    link.downcast_ref().or_else(of_image).or_else(of_transfer)
}

/// The error, its cause, that one's cause, …
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |link: &&'a (dyn StdError + 'static)| (*link).source())
}
