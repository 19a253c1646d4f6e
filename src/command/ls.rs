//! `lbuild ls`: files of an image, as `ls` shows them, without mounting or unpacking it.
//!
//! Links are followed inside the image, as `ls` follows them: on the way to a path always, at its end if they lead to
//! a directory and `--long` does not ask for the link itself.

use layerfs::entry::Kind;
use layerfs::file_index::{FileTree, Node, NodeId};
use serde::Serialize;

use crate::args::{Format, LsArgs};
use crate::command::Session;
use crate::command::files::{self, Object};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// One line for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    path: String,
    #[serde(flatten)]
    object: Object,
}

/// What is listed together: names with what they name, and the directory that they are in.
struct Listing<'a> {
    directory: Option<Vec<u8>>,
    entries: Vec<(Vec<u8>, &'a Node)>,
}

pub(crate) fn ls(args: &LsArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let image = files::open(&args.image, args.platform.as_ref(), &home)?;
    let tree = files::tree(&files::layers(&image)?, &home)?;
    let is_dir = |id: &NodeId| tree.node(*id).kind == Kind::Directory;
    let followed = tree.find(args.path.as_bytes(), true).filter(|(_, id)| !args.long && is_dir(id));
    let Some((path, id)) = followed.or_else(|| tree.find(args.path.as_bytes(), false)) else {
        return Err(Failure::no_such_file(&args.path, &args.image));
    };
    let listings = listings(&tree, path, id, args);
    match args.format {
        Format::Json => output::print_json(&rows(&listings))?,
        Format::Table => output::print(&text(&listings, args))?,
    }
    Ok(Exit::Done)
}

fn listings<'a>(tree: &'a FileTree, path: Vec<u8>, id: NodeId, args: &LsArgs) -> Vec<Listing<'a>> {
    let node = tree.node(id);
    if args.directory || node.kind != Kind::Directory {
        return vec![Listing { directory: None, entries: vec![(path, node)] }];
    }
    let children = |dir: NodeId, path: &[u8]| Listing {
        directory: Some(path.to_vec()),
        entries: tree.children(dir).map(|(name, id)| (name.to_vec(), tree.node(id))).collect(),
    };
    let mut listings = vec![children(id, &path)];
    if args.recursive {
        let directories = tree.below(id).filter(|(_, _, node)| node.kind == Kind::Directory);
        listings.extend(directories.map(|(path, id, _)| children(id, &path)));
    }
    listings
}

fn rows(listings: &[Listing<'_>]) -> Vec<Row> {
    let path = |directory: &Option<Vec<u8>>, name: &[u8]| match directory.as_deref() {
        None | Some(b"") => files::absolute(name),
        Some(directory) => files::absolute(&[directory, b"/", name].concat()),
    };
    let of = |listing: &Listing<'_>| -> Vec<Row> {
        let entries = listing.entries.iter();
        entries
            .map(|(name, node)| Row { path: path(&listing.directory, name), object: Object::of(node) })
            .collect()
    };
    listings.iter().flat_map(of).collect()
}

fn text(listings: &[Listing<'_>], args: &LsArgs) -> String {
    let mut blocks = Vec::new();
    for listing in listings {
        let mut block = String::new();
        if let Some(directory) = listing.directory.as_ref().filter(|_| args.recursive) {
            block += &format!("{}:\n", files::absolute(directory));
        }
        let name = |name: &[u8]| match listing.directory {
            Some(_) => files::shown(name),
            None => files::absolute(name),
        };
        if args.long {
            block += &table(&listing.entries, name);
        } else {
            block.extend(listing.entries.iter().map(|(path, _)| name(path) + "\n"));
        }
        blocks.push(block);
    }
    blocks.join("\n")
}

/// Columns of `ls -ln --time-style=long-iso`, with seconds.
fn table(entries: &[(Vec<u8>, &Node)], name: impl Fn(&[u8]) -> String) -> String {
    let cells: Vec<[String; 6]> = entries
        .iter()
        .map(|(_, node)| {
            let size = match &node.kind {
                Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                    format!("{major}, {minor}")
                }
                Kind::Symlink { target } => target.len().to_string(),
                kind => files::size(kind).to_string(),
            };
            let time = files::moment(node.mtime).replace('T', " ").replace('Z', "");
            let (links, uid, gid) = (node.names.to_string(), node.uid.to_string(), node.gid.to_string());
            [mode(node), links, uid, gid, size, time]
        })
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |([mode, links, uid, gid, size, time], (path, node)): (&[String; 6], &(Vec<u8>, &Node))| {
        let [_, links_width, uid_width, gid_width, size_width, time_width] = widths;
        let target = match &node.kind {
            Kind::Symlink { target } => format!(" -> {}", files::shown(target)),
            _ => String::new(),
        };
        format!(
            "{mode} {links:>links_width$} {uid:>uid_width$} {gid:>gid_width$} {size:>size_width$} \
             {time:>time_width$} {}{target}\n",
            name(path)
        )
    };
    cells.iter().zip(entries).map(line).collect()
}

/// Type and permissions in letters.
fn mode(node: &Node) -> String {
    let kind = match node.kind {
        Kind::File { .. } | Kind::HardLink { .. } => '-',
        Kind::Directory => 'd',
        Kind::Symlink { .. } => 'l',
        Kind::CharDevice { .. } => 'c',
        Kind::BlockDevice { .. } => 'b',
        Kind::Fifo => 'p',
    };
    let bits = if kind == 'l' { 0o777 } else { node.mode };
    let mut text = kind.to_string();
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let class = bits >> shift;
        text.push(if class & 4 != 0 { 'r' } else { '-' });
        text.push(if class & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & special != 0, class & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    // As `ls` marks access by other rules than these.
    if node.xattrs.contains_key(&b"security.capability"[..]) {
        text.push('+');
    }
    text
}
