//! Docker's `config.json` and podman's `auth.json`, written: what `login` and `logout` change.
//!
//! Whatever else stands in the file stays. Where the file names a helper for the registry, the helper keeps the secret
//! and the file an empty entry, as Docker does. Which helper that is, and what it calls the registry, is said where
//! it is asked (`keychain`). A helper keeps whole hosts: a namespace that it would have to keep is refused.
//!
//! Invariants: the file is replaced in one step and is its owner's alone (0600), whoever that was before; a link to it
//! stays a link; of two that change it at once neither loses anything.

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::helper;
use super::keychain::{normal, prefixes, server};
use crate::Error;
use crate::file::read_if_there;

/// A file of credentials that is being changed.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// What it was opened as, which a look-up goes by too: a link may have another name than what it leads to.
    name: PathBuf,
    fields: Map<String, Value>,
}

/// Where a secret was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the file, where whoever can read it can read the secret.
    File,
    /// By this helper.
    Helper(String),
}

impl ConfigFile {
    /// Reads the file, which need not be there.
    ///
    /// # Errors
    /// [`Error::ReadFile`] and [`Error::ParseKeychain`].
    pub fn open(path: &Path) -> Result<ConfigFile, Error> {
        let name = path.to_owned();
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let fields = read(&path)?;
        Ok(ConfigFile { path, name, fields })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a name and a password for `registry`: `HOST`, `HOST:PORT` or `HOST/NAMESPACE`.
    ///
    /// # Errors
    /// [`Error::WriteFile`], [`Error::RunHelper`] and [`Error::AskHelper`]; [`Error::KeepNamespace`] where a helper
    /// would have to keep a namespace.
    pub fn store(&mut self, registry: &str, username: &str, password: &str) -> Result<Kept, Error> {
        let fail = |source| Error::WriteFile { path: self.path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(self.folder()).map_err(fail)?;
        let _turn = self.take_turn()?;
        let name = normal(registry);
        let key = server(&self.name, &name).to_owned();
        let (entry, kept) = match self.helper(&name) {
            Some(helper) if is_namespace(&name) => {
                return Err(Error::KeepNamespace { program: helper::program(&helper), registry: name });
            }
            Some(helper) => {
                helper::store(&helper, &key, username, password)?;
                (json!({}), Kept::Helper(helper))
            }
            None => (json!({"auth": STANDARD.encode(format!("{username}:{password}"))}), Kept::File),
        };
        let auths = self.auths();
        auths.retain(|other, _| normal(other) != name);
        auths.insert(key, entry);
        self.save()?;
        Ok(kept)
    }

    /// Forgets `registry`; says whether it was known.
    ///
    /// # Errors
    /// As [`ConfigFile::store`].
    pub fn erase(&mut self, registry: &str) -> Result<bool, Error> {
        let _turn = self.take_turn()?;
        let name = normal(registry);
        // What it has is the host's, which a namespace does not end.
        if let Some(helper) = self.helper(&name).filter(|_| !is_namespace(&name)) {
            helper::erase(&helper, server(&self.name, &name))?;
        }
        let auths = self.auths();
        let before = auths.len();
        auths.retain(|other, _| normal(other) != name);
        let was_known = auths.len() < before;
        if was_known {
            self.save()?;
        }
        Ok(was_known)
    }

    /// The helper that the file names for `name`, or for a part of it, or for all: the one that a look-up asks.
    fn helper(&self, name: &str) -> Option<String> {
        let helpers = self.fields.get("credHelpers").and_then(Value::as_object);
        // Of two spellings a look-up takes the later one.
        let of = |key: &String| helpers?.iter().rev().find(|(other, _)| normal(other) == *key);
        let own = prefixes(name).iter().find_map(of).map(|(_, helper)| helper);
        let helper = own.or_else(|| self.fields.get("credsStore"));
        helper.and_then(Value::as_str).filter(|helper| !helper.is_empty()).map(str::to_owned)
    }

    fn auths(&mut self) -> &mut Map<String, Value> {
        let auths = self.fields.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        auths.as_object_mut().expect("it was made an object")
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Waits until nobody else changes a file of the folder, and reads what they have made of this one; the turn ends
    /// with the value. Where there can be no lock, or is nothing to lock, it is anybody's turn.
    fn take_turn(&mut self) -> Result<Option<File>, Error> {
        let folder = File::open(self.folder()).ok().filter(|folder| folder.lock().is_ok());
        self.fields = read(&self.path)?;
        Ok(folder)
    }

    fn save(&self) -> Result<(), Error> {
        let fail = |source| Error::WriteFile { path: self.path.clone(), source };
        let mut text = serde_json::to_string_pretty(&self.fields)
            .expect("what was read as JSON, and strings, have a JSON form");
        text.push('\n');
        // Processes of different containers may have one number, but not the turn.
        let temporary = self.folder().join(format!(".lbuild-{}", std::process::id()));
        std::fs::remove_file(&temporary).ok();
        let write = || {
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            if let Ok(before) = self.path.metadata() {
                // Whose it was can read it still, if that was somebody else; only root can see to that.
                fchown(&file, Some(before.uid()), Some(before.gid())).ok();
            }
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)
        };
        write().map_err(|error| {
            // The error that matters is the one being returned.
            std::fs::remove_file(&temporary).ok();
            fail(error)
        })
    }
}

fn is_namespace(name: &str) -> bool {
    name.contains('/')
}

fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    match read_if_there(path)? {
        Some(text) if !text.trim().is_empty() => serde_json::from_str(&text)
            .map_err(|source| Error::ParseKeychain { path: path.to_owned(), source }),
        _ => Ok(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;
    use crate::{Credential, Keychain};

    const HUB_KEY: &str = "https://index.docker.io/v1/";

    fn lookup(path: &Path, name: &str) -> Credential {
        let keychain = Keychain::from_files(&[path.to_owned()]).unwrap();
        keychain.lookup(&name.parse().unwrap()).unwrap()
    }

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn what_is_stored_is_found_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        for (server, name) in [
            ("localhost:5000", "localhost:5000/a"),
            ("https://registry.example/v2/", "registry.example/a"),
            ("docker.io", "debian"),
            ("ghcr.io/me", "ghcr.io/me/app"),
        ] {
            assert_eq!(ConfigFile::open(&path).unwrap().store(server, "u", "p:q").unwrap(), Kept::File);
            assert_eq!(lookup(&path, name), basic("u", "p:q"), "{server}");
        }
        let fields = || serde_json::from_str::<Value>(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(fields()["auths"][HUB_KEY]["auth"].is_string(), "Docker finds its own there");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let mut changed = fields();
        changed["psFormat"] = json!("x");
        std::fs::write(&path, changed.to_string()).unwrap();
        assert!(ConfigFile::open(&path).unwrap().erase("index.docker.io").unwrap());
        assert!(!ConfigFile::open(&path).unwrap().erase("docker.io").unwrap());
        assert_eq!(lookup(&path, "debian"), Credential::Anonymous);
        assert_eq!(fields()["psFormat"], "x");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left over");
        let podmans = folder.path().join("auth.json");
        ConfigFile::open(&podmans).unwrap().store("docker.io", "u", "p").unwrap();
        assert!(std::fs::read_to_string(&podmans).unwrap().contains("\"docker.io\""));
    }

    #[test]
    fn nobody_loses_an_account_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, "{}").unwrap();
        // Only root can make it somebody else's.
        let is_foreign = chown(&path, Some(1234), Some(1234)).is_ok();
        let files: Vec<_> = (0..8).map(|_| ConfigFile::open(&path).unwrap()).collect();
        std::thread::scope(|scope| {
            for (number, mut file) in files.into_iter().enumerate() {
                let registry = format!("r{number}.example");
                scope.spawn(move || file.store(&registry, "u", "p").unwrap());
            }
        });
        for number in 0..8 {
            assert_eq!(lookup(&path, &format!("r{number}.example/a")), basic("u", "p"));
        }
        assert!(!is_foreign || path.metadata().unwrap().uid() == 1234);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_link_stays_a_link_and_what_is_no_json_stays_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real.json"), folder.path().join("config.json"));
        std::fs::write(&file, "{}").unwrap();
        symlink(&file, &link).unwrap();
        ConfigFile::open(&link).unwrap().store("h.example", "u", "p").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(lookup(&file, "h.example/a"), basic("u", "p"));
        std::fs::write(&file, "[nonsense").unwrap();
        assert!(matches!(ConfigFile::open(&link), Err(Error::ParseKeychain { .. })));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "[nonsense");
    }
}
