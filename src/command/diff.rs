//! `lbuild diff`: what differs between two images, between an image and its base, or between two heights of an image's
//! layers. Letters are those of `docker diff`: added, changed, deleted.

use builder::deliver::Complete;
use builder::rework;
use layerfs::entry::Kind;
use layerfs::file_index::{Aspect, Difference, FileTree, Node, compare};
use oci::DiffId;
use serde::Serialize;

use crate::args::{DiffArgs, Format, LayerRange};
use crate::command::Session;
use crate::command::files::{self, Layers, Object};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Home;
use crate::{output, text};

/// The whole answer for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    changes: Vec<Change>,
    layers: Vec<Sum>,
    total: Sum,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    path: String,
    kind: &'static str,
    /// In what the two differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    what: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Object>,
}

/// How much of the difference one layer of the second image makes, or all do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sum {
    /// Counted from 1 at the bottom.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff_id: Option<DiffId>,
    added: u64,
    changed: u64,
    deleted: u64,
    /// Bytes of the files that were added or changed.
    added_size: u64,
    /// Bytes of the files that are no longer there, or were others before.
    deleted_size: u64,
}

pub(crate) fn diff(args: &DiffArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let (before, after) = sides(args, &home)?;
    let trees = (files::tree(&before, &home)?, files::tree(&after, &home)?);
    let differences = compare(&trees.0, &trees.1, args.times);
    let sums = sums(&differences, &trees.1, &after);
    let total = sums.iter().fold(Sum::default(), |total, sum| total.with(sum));
    match args.format {
        Format::Json => {
            let changes = differences.iter().map(change).collect();
            output::print_json(&Answer { changes, layers: sums, total })?;
        }
        Format::Table => output::print(&report(&differences, &sums, &total))?,
    }
    Ok(if args.exit_code && !differences.is_empty() { Exit::Failed } else { Exit::Done })
}

/// The layers of the first image and of the second.
fn sides(args: &DiffArgs, home: &Home) -> Result<(Layers, Layers), Failure> {
    let image = files::open(&args.image, args.platform.as_ref(), home)?;
    let layers = files::layers(&image)?;
    if let Some(other) = &args.other {
        let other = files::open(other, args.platform.as_ref(), home)?;
        return Ok((layers, files::layers(&other)?));
    }
    let LayerRange { from, to } = match args.layers {
        Some(range) if range.to <= layers.len() => range,
        Some(_) => {
            let count = text::count(layers.len() as u64, "layer");
            return Err(Failure::usage(format!("`{}` has {count}", args.image)));
        }
        None => LayerRange { from: base_layers(&image, args, home)?, to: layers.len() },
    };
    Ok((layers[..from].to_vec(), layers[..to].to_vec()))
}

fn base_layers(image: &Complete, args: &DiffArgs, home: &Home) -> Result<usize, Failure> {
    let base = rework::base::find(image, &home.store)?;
    base.map(|base| base.config.value().rootfs.diff_ids.len()).ok_or_else(|| {
        Failure::no_base(&args.image).hint("name another image, or layers with `--layers 1..3`")
    })
}

/// What each layer makes of the difference, without those that make nothing.
fn sums(differences: &[Difference<'_>], after: &FileTree, layers: &Layers) -> Vec<Sum> {
    let numbered = |(place, (_, diff_id)): (usize, &(_, DiffId))| Sum {
        layer: Some(place + 1),
        diff_id: Some(*diff_id),
        ..Sum::default()
    };
    let mut sums: Vec<Sum> = layers.iter().enumerate().map(numbered).collect();
    let mut elsewhere = Sum::default();
    for difference in differences {
        let layer = match difference.after {
            Some(node) => Some(node.layer),
            None => after.removed_by(&difference.path),
        };
        // What another image has and this one never had is no layer's doing.
        layer.and_then(|layer| sums.get_mut(layer)).unwrap_or(&mut elsewhere).count(difference);
    }
    sums.push(elsewhere);
    sums.retain(|sum| sum.added + sum.changed + sum.deleted > 0);
    sums
}

impl Sum {
    fn count(&mut self, difference: &Difference<'_>) {
        let size = |node: Option<&Node>| node.map_or(0, |node| files::size(&node.kind));
        match (difference.before, difference.after) {
            (None, _) => self.added += 1,
            (_, None) => self.deleted += 1,
            _ => self.changed += 1,
        }
        self.added_size += size(difference.after);
        self.deleted_size += size(difference.before);
    }

    fn with(&self, other: &Sum) -> Sum {
        Sum {
            layer: None,
            diff_id: None,
            added: self.added + other.added,
            changed: self.changed + other.changed,
            deleted: self.deleted + other.deleted,
            added_size: self.added_size + other.added_size,
            deleted_size: self.deleted_size + other.deleted_size,
        }
    }
}

fn change(difference: &Difference<'_>) -> Change {
    let kind = match (difference.before, difference.after) {
        (None, _) => "added",
        (_, None) => "deleted",
        _ => "changed",
    };
    Change {
        path: files::absolute(&difference.path),
        kind,
        what: difference.aspects.iter().map(|aspect| aspect.name()).collect(),
        before: difference.before.map(Object::of),
        after: difference.after.map(Object::of),
    }
}

fn report(differences: &[Difference<'_>], sums: &[Sum], total: &Sum) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let mut out: String = differences.iter().map(line).collect();
    out += "\n";
    let cells: Vec<[String; 6]> = sums
        .iter()
        .map(|sum| {
            let number = sum.layer.map_or_else(|| "-".to_owned(), |layer| layer.to_string());
            row(number, sum)
        })
        .chain([row("all".to_owned(), total)])
        .collect();
    out + &text::table(["LAYER", "ADDED", "CHANGED", "DELETED", "BYTES ADDED", "BYTES DELETED"], &cells)
}

fn row(name: String, sum: &Sum) -> [String; 6] {
    let [added, changed, deleted] = [sum.added, sum.changed, sum.deleted].map(|count| count.to_string());
    [name, added, changed, deleted, text::size(sum.added_size), text::size(sum.deleted_size)]
}

/// `C /etc/passwd (size 12B -> 14B, mode 0644 -> 0600)`
fn line(difference: &Difference<'_>) -> String {
    let path = files::absolute(&difference.path);
    match (difference.before, difference.after) {
        (Some(before), Some(after)) => {
            let told: Vec<String> =
                difference.aspects.iter().map(|aspect| tell(*aspect, before, after)).collect();
            format!("C {path} ({})\n", told.join(", "))
        }
        (None, Some(node)) => format!("A {path} ({})\n", what(node)),
        (Some(node), None) => format!("D {path} ({})\n", what(node)),
        (None, None) => String::new(),
    }
}

fn what(node: &Node) -> String {
    match &node.kind {
        Kind::File { size } => format!("file, {}", text::size(*size)),
        Kind::Symlink { target } => format!("link to {}", files::shown(target)),
        kind => files::kind(kind).to_owned(),
    }
}

fn tell(aspect: Aspect, before: &Node, after: &Node) -> String {
    let both = |of: &dyn Fn(&Node) -> String| format!("{} {} -> {}", aspect.name(), of(before), of(after));
    match aspect {
        Aspect::Type => both(&|node| files::kind(&node.kind).to_owned()),
        Aspect::Mode => both(&|node| format!("{:04o}", node.mode)),
        Aspect::Owner => both(&|node| format!("{}:{}", node.uid, node.gid)),
        Aspect::Size => both(&|node| text::size(files::size(&node.kind))),
        Aspect::Time => both(&|node| files::moment(node.mtime)),
        Aspect::Target => both(&|node| match &node.kind {
            Kind::Symlink { target } => files::shown(target),
            _ => String::new(),
        }),
        Aspect::Content | Aspect::Device | Aspect::Xattrs => aspect.name().to_owned(),
    }
}
