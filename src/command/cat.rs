//! `lbuild cat`: files of an image, out of the layers that have them. Every byte is verified; a damaged layer is
//! noticed at the end of the file at the latest.

use std::io::{self, Write};

use layerfs::entry::Kind;
use layerfs::file_index::FileTree;

use crate::args::CatArgs;
use crate::command::Session;
use crate::command::files;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Home;

pub(crate) fn cat(args: &CatArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let image = files::open(&args.image, args.platform.as_ref(), &home)?;
    let layers = files::layers(&image)?;
    let indexes = home.store.file_indexes(&layers).map_err(|error| files::unreadable(&error, &home))?;
    let tree = FileTree::of(&indexes).map_err(|error| files::unreadable(&error, &home))?;
    for path in &args.paths {
        let Some((_, id)) = tree.find(path.as_bytes(), true) else {
            return Err(Failure::no_such_file(path, &args.image));
        };
        let node = tree.node(id);
        let (Kind::File { .. }, Some(place)) = (&node.kind, node.place) else {
            return Err(Failure::not_a_file(path, files::kind(&node.kind)));
        };
        let (layer, diff_id) = &layers[node.layer];
        let mut content = home
            .store
            .content(layer, *diff_id, &indexes[node.layer].records[place])
            .map_err(|error| files::unreadable(&error, &home))?;
        print(&mut content, path, &home)?;
    }
    Ok(Exit::Done)
}

fn print(content: &mut impl io::Read, path: &str, home: &Home) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::store(&format!("read `{path}`"), &error, home.store.root())),
        };
        if !written(out.write_all(&buffer[..count]))? {
            return Ok(());
        }
    }
    written(out.flush()).map(drop)
}

/// Whether anybody reads on; one who has gone away has read enough.
fn written(result: io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::environment_because("cannot write to standard output", error.to_string())),
    }
}
