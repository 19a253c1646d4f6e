//! `--registry-mirror`: registries that are asked for Docker Hub's images before the Hub is.
//!
//! An image that came from a mirror is known by the mirror's name for it, so that its layers come from there too.

use builder::error::ImageError;
use builder::source::{BaseImage, ImageSource, Progress};
use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use oci::{Platform, Reference};

/// The registry that is mirrored.
const HUB: &str = "docker.io";

/// Images, those of the Hub from a mirror if one has them.
pub(super) struct Mirrored<'a> {
    pub(super) images: &'a dyn ImageSource,
    pub(super) store: &'a Store,
    /// `HOST[:PORT][/PATH]`, in the order in which they are asked.
    pub(super) mirrors: &'a [String],
}

impl ImageSource for Mirrored<'_> {
    fn resolve(&self, name: &Reference, platform: &Platform, fresh: bool) -> Result<BaseImage, ImageError> {
        // What was built or pulled under this name goes before what any registry has.
        let is_here = || self.store.find(&name.familiar()).is_ok_and(|found| found.is_some());
        if name.registry() == HUB && (fresh || !is_here()) {
            for alias in self.mirrors.iter().filter_map(|mirror| alias(name, mirror)) {
                match self.images.resolve(&alias, platform, fresh) {
                    // Another mirror may have it, and the Hub has everything.
                    Err(ImageError::Registry(_)) => {}
                    result => return result,
                }
            }
        }
        self.images.resolve(name, platform, fresh)
    }

    fn fetch(&self, image: &BaseImage, progress: Progress<'_>) -> Result<(), ImageError> {
        self.images.fetch(image, progress)
    }

    fn snapshot(&self, image: &BaseImage, progress: Progress<'_>) -> Result<Option<SnapshotId>, ImageError> {
        self.images.snapshot(image, progress)
    }
}

/// What `mirror` calls the Hub's image; none where that is no name.
fn alias(name: &Reference, mirror: &str) -> Option<Reference> {
    let sign = if name.digest().is_some() { '@' } else { ':' };
    let mirror = mirror.trim_end_matches('/');
    format!("{mirror}/{}{sign}{}", name.repository(), name.target()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_keep_the_hubs_names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, mirror, expected) in [
            ("alpine", "mirror.gcr.io", "mirror.gcr.io/library/alpine:latest".to_owned()),
            ("me/app:1", "host:5000/hub/", "host:5000/hub/me/app:1".to_owned()),
            (&format!("alpine:3@{digest}"), "host:5000", format!("host:5000/library/alpine@{digest}")),
        ] {
            let alias = alias(&name.parse().unwrap(), mirror).expect(name);
            assert_eq!(alias.familiar(), expected, "{name}");
        }
        assert_eq!(alias(&"alpine".parse().unwrap(), "not a host"), None);
    }
}
