//! `lbuild history`: the lines that an image's configuration has about its making, the last one first; of an index,
//! those of the host's image or else of the first.

use builder::deliver::Artifact;
use oci::{Descriptor, History};
use serde::Serialize;
use time::OffsetDateTime;

use crate::args::{Format, HistoryArgs};
use crate::command::{self, Session, images};
use crate::exit::Exit;
use crate::failure::Failure;
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
}

pub(crate) fn history(args: &HistoryArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.look_home()?;
    let stored = home.find(&args.image)?;
    let artifact = Artifact::load(&home.store, &stored.descriptor).map_err(home.failure("read the image"))?;
    let Some(image) = command::representative(&artifact) else {
        return Err(Failure::no_such_image(&args.image));
    };
    let mut rows = rows(&image.config.value().history, &image.manifest.value().layers);
    // Only the image as a whole has an id; what was before its last line is no image of its own.
    let id = home::image_id(&home.store, &stored).unwrap_or(image.config.digest());
    if let Some(last) = rows.first_mut() {
        last.id = Some(images::id(&id, args.no_trunc || args.format == Format::Json));
    }
    match args.format {
        Format::Json => output::print_json(&rows)?,
        Format::Table => output::print(&table(&rows, args.no_trunc, OffsetDateTime::now_utc()))?,
    }
    Ok(Exit::Done)
}

/// Lines and layers, the last one first. Layers without a line come as a line without words.
fn rows(history: &[History], layers: &[Descriptor]) -> Vec<Row> {
    let mut sizes = layers.iter().map(|layer| layer.size);
    let mut rows: Vec<Row> = history
        .iter()
        .map(|line| Row {
            id: None,
            created: line.created.clone(),
            created_by: line.created_by.clone().unwrap_or_default(),
            size: if line.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
            comment: line.comment.clone().unwrap_or_default(),
        })
        .collect();
    rows.extend(sizes.map(|size| Row {
        id: None,
        created: None,
        created_by: String::new(),
        size,
        comment: String::new(),
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
        let rows = rows(&history, &[layer(1), layer(2), layer(3)]);
        let shown: Vec<(&str, u64)> = rows.iter().map(|row| (row.created_by.as_str(), row.size)).collect();
        assert_eq!(shown, [("", 3), ("RUN c", 2), ("ENV b", 0), ("COPY a", 1)]);
    }
}
