//! `lbuild images`: what the store has, the newest first.
//!
//! An index is one line: its id is its digest, its size that of all its images.

use std::cmp::Reverse;

use builder::deliver::Artifact;
use layerfs::layout::StoredImage;
use oci::{Digest, Reference};
use serde::Serialize;
use time::OffsetDateTime;

use crate::args::{Format, ImagesArgs};
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{self, Home};
use crate::{output, text};

/// One line of the list; the names are Docker's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: Digest,
    repository: Option<String>,
    tag: Option<String>,
    digest: Digest,
    created: Option<String>,
    /// Bytes of all layers as they are stored, each counted once.
    size: u64,
}

pub(crate) fn images(args: &ImagesArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.look_home()?;
    let wanted = args.name.as_deref().map(Filter::parse).transpose()?;
    let stored = home.store.images().map_err(home.failure("list the images"))?;
    let mut rows: Vec<Row> = stored
        .iter()
        .filter(|image| wanted.as_ref().is_none_or(|wanted| wanted.accepts(image)))
        .filter_map(|image| row(image, &home))
        .collect();
    rows.sort_by_key(|row| (Reverse(row.created.clone()), row.repository.clone(), row.tag.clone()));
    if args.quiet {
        let mut ids: Vec<String> = rows.iter().map(|row| id(&row.id, args.no_trunc) + "\n").collect();
        ids.dedup();
        output::print(&ids.concat())?;
    } else if args.format == Format::Json {
        output::print_json(&rows)?;
    } else {
        output::print(&table(&rows, args.no_trunc, OffsetDateTime::now_utc()))?;
    }
    Ok(Exit::Done)
}

/// An image whose documents are damaged or missing cannot be shown; `rmi` by its name still removes it.
fn row(image: &StoredImage, home: &Home) -> Option<Row> {
    let artifact = Artifact::load(&home.store, &image.descriptor).ok()?;
    let shown = artifact.representative()?;
    let reference = image.reference.as_ref();
    Some(Row {
        id: home::image_id(&home.store, image)?,
        repository: reference.map(repository),
        tag: reference.and_then(Reference::tag).map(str::to_owned),
        digest: image.descriptor.digest,
        created: shown.config.value().created.clone(),
        size: command::layers(&artifact).values().sum(),
    })
}

fn table(rows: &[Row], no_trunc: bool, now: OffsetDateTime) -> String {
    let none = || "<none>".to_owned();
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            [
                row.repository.clone().unwrap_or_else(none),
                row.tag.clone().unwrap_or_else(none),
                id(&row.id, no_trunc),
                row.created.as_deref().map(|created| text::age(created, now)).unwrap_or_default(),
                text::size(row.size),
            ]
        })
        .collect();
    text::table(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &cells)
}

/// An id as people see it: the first digits, or all.
pub(super) fn id(digest: &Digest, whole: bool) -> String {
    if whole { digest.to_string() } else { digest.hex()[..12].to_owned() }
}

/// A name without tag and digest, as people type it.
pub(super) fn repository(reference: &Reference) -> String {
    let name = reference.name();
    let name = name.strip_prefix("docker.io/").unwrap_or(&name);
    name.strip_prefix("library/").unwrap_or(name).to_owned()
}

/// A name whose tag may be left open.
struct Filter {
    reference: Reference,
    any_tag: bool,
}

impl Filter {
    fn parse(text: &str) -> Result<Filter, Failure> {
        let reference: Reference = text.parse().map_err(Failure::usage)?;
        let has_tag = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
        Ok(Filter { reference, any_tag: !has_tag })
    }

    fn accepts(&self, image: &StoredImage) -> bool {
        let Some(reference) = &image.reference else { return false };
        reference.name() == self.reference.name() && (self.any_tag || reference.tag() == self.reference.tag())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_dockers() {
        let row = |repository: Option<&str>, size| Row {
            id: Digest::of(b"id"),
            repository: repository.map(Into::into),
            tag: repository.map(|_| "1".into()),
            digest: Digest::of(b"digest"),
            created: Some("2001-09-09T01:46:40Z".into()),
            size,
        };
        let now = OffsetDateTime::from_unix_timestamp(1_000_007_200).unwrap();
        let id = id(&Digest::of(b"id"), false);
        let text = table(&[row(Some("127.0.0.1:5000/app"), 12_300_000), row(None, 5)], false, now);
        let expected = format!(
            "REPOSITORY           TAG      IMAGE ID       CREATED       SIZE\n\
             127.0.0.1:5000/app   1        {id}   2 hours ago   12.3MB\n\
             <none>               <none>   {id}   2 hours ago   5B\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_name_without_a_tag_stands_for_all_tags() {
        let image = |name: &str| StoredImage {
            reference: Some(name.parse().unwrap()),
            descriptor: oci::Descriptor::new(oci::MediaType::OciManifest, Digest::of(b""), 0),
        };
        for (filter, name, expected) in [
            ("app", "app:1", true),
            ("app:1", "app:1", true),
            ("app:2", "app:1", false),
            ("localhost:5000/app", "localhost:5000/app:1", true),
            ("app", "other:1", false),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().accepts(&image(name)), expected, "{filter} {name}");
        }
    }
}
