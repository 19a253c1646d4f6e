//! `lbuild history`: the lines that an image's configuration has about its making, the last one first; of an index,
//! those of the host's image or else of the first. `--sizes` tells what their layers hold, as dive does.

use builder::deliver::{Artifact, Complete};
use layerfs::file_index::LayerSums;
use oci::{Descriptor, History};
use serde::Serialize;
use time::OffsetDateTime;

use crate::args::{Format, HistoryArgs};
use crate::command::{Session, files, images};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Home;
use crate::{home, output, text};

/// How much of a command the table shows, in characters.
const SHOWN: usize = 60;

/// One line of history; the names are Docker's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: Option<String>,
    created: Option<String>,
    created_by: String,
    /// Bytes of the line's layer as it is stored; 0 without one.
    size: u64,
    comment: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    sums: Option<Sums>,
}

/// What a layer holds; the bytes are those of files, uncompressed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sums {
    files: u64,
    content_size: u64,
    /// Bytes of lower layers, and of its own, that it hides or writes anew.
    hides_size: u64,
    /// Bytes of it that cannot be seen in the image.
    wasted_size: u64,
}

impl From<LayerSums> for Sums {
    fn from(sums: LayerSums) -> Sums {
        let LayerSums { files, bytes, hidden_bytes, hides_bytes } = sums;
        Sums { files, content_size: bytes, hides_size: hides_bytes, wasted_size: hidden_bytes }
    }
}

pub(crate) fn history(args: &HistoryArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.look_home()?;
    let stored = home.find(&args.image)?;
    let artifact = Artifact::load(&home.store, &stored.descriptor).map_err(home.failure("read the image"))?;
    let Some(image) = artifact.representative() else {
        return Err(Failure::no_such_image(&args.image));
    };
    let sums = args.sizes.then(|| sums(image, &home)).transpose()?;
    let mut rows = rows(&image.config.value().history, &image.manifest.value().layers, sums.as_deref());
    // Only the image as a whole has an id; what was before its last line is no image of its own.
    let id = home::image_id(&home.store, &stored).unwrap_or(image.config.digest());
    if let Some(last) = rows.first_mut() {
        last.id = Some(images::id(&id, args.no_trunc || args.format == Format::Json));
    }
    match args.format {
        Format::Json => output::print_json(&rows)?,
        Format::Table if args.sizes => output::print(&sizes(&rows, args.no_trunc))?,
        Format::Table => output::print(&table(&rows, args.no_trunc, OffsetDateTime::now_utc()))?,
    }
    Ok(Exit::Done)
}

/// What each layer holds, bottom first.
fn sums(image: &Complete, home: &Home) -> Result<Vec<Sums>, Failure> {
    let tree = files::tree(&files::layers(image)?, home)?;
    Ok(tree.sums().into_iter().map(Sums::from).collect())
}

/// Lines and layers, the last one first. Layers without a line come as a line without words.
fn rows(history: &[History], layers: &[Descriptor], sums: Option<&[Sums]>) -> Vec<Row> {
    let mut held = layers.iter().enumerate().map(|(place, layer)| {
        let sums = sums.and_then(|sums| sums.get(place)).copied();
        (layer.size, sums)
    });
    let mut rows: Vec<Row> = history
        .iter()
        .map(|line| {
            let layer = if line.empty_layer { None } else { held.next() };
            let (size, sums) = layer.unwrap_or((0, sums.map(|_| Sums::default())));
            Row {
                id: None,
                created: line.created.clone(),
                created_by: line.created_by.clone().unwrap_or_default(),
                size,
                comment: line.comment.clone().unwrap_or_default(),
                sums,
            }
        })
        .collect();
    rows.extend(held.map(|(size, sums)| Row {
        id: None,
        created: None,
        created_by: String::new(),
        size,
        comment: String::new(),
        sums,
    }));
    rows.reverse();
    rows
}

fn table(rows: &[Row], no_trunc: bool, now: OffsetDateTime) -> String {
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let by = row.created_by.replace('\n', " ");
            [
                row.id.clone().unwrap_or_else(|| "<missing>".to_owned()),
                row.created.as_deref().map(|created| text::age(created, now)).unwrap_or_default(),
                if no_trunc { by } else { text::shorten(&by, SHOWN) },
                text::size(row.size),
                row.comment.clone(),
            ]
        })
        .collect();
    text::table(["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], &cells)
}

/// What the layers hold and hide, and how much of the image that wastes.
fn sizes(rows: &[Row], no_trunc: bool) -> String {
    let sums = |row: &Row| row.sums.unwrap_or_default();
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            let by = row.created_by.replace('\n', " ");
            let Sums { files, content_size, hides_size, wasted_size } = sums(row);
            let by = if no_trunc { by } else { text::shorten(&by, SHOWN) };
            let [content, hides, wasted] = [content_size, hides_size, wasted_size].map(text::size);
            [by, text::size(row.size), files.to_string(), content, hides, wasted]
        })
        .collect();
    let head = ["CREATED BY", "SIZE", "FILES", "CONTENT", "HIDES", "WASTED"];
    let all: u64 = rows.iter().map(|row| sums(row).content_size).sum();
    let wasted: u64 = rows.iter().map(|row| sums(row).wasted_size).sum();
    let share = wasted.saturating_mul(1000).checked_div(all).unwrap_or(0);
    let (all, wasted) = (text::size(all), text::size(wasted));
    text::table(head, &cells) + &format!("\n{wasted} of {all} are wasted ({}.{}%)\n", share / 10, share % 10)
}

#[cfg(test)]
mod tests {
    use oci::{Compression, Digest, MediaType};

    use super::*;

    #[test]
    fn layers_belong_to_the_lines_that_made_them() {
        let line = |by: &str, empty_layer| History {
            created_by: Some(by.into()),
            empty_layer,
            ..History::default()
        };
        let layer = |size| Descriptor::new(MediaType::OciLayer(Compression::Gzip), Digest::of(b""), size);
        let history = [line("COPY a", false), line("ENV b", true), line("RUN c", false)];
        let rows = rows(&history, &[layer(1), layer(2), layer(3)], None);
        let shown: Vec<(&str, u64)> = rows.iter().map(|row| (row.created_by.as_str(), row.size)).collect();
        assert_eq!(shown, [("", 3), ("RUN c", 2), ("ENV b", 0), ("COPY a", 1)]);
    }
}
