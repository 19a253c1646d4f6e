//! One repository: what its references stand for, and the copy of what was fetched from it.
//!
//! The copy is a bare repository in the store, `remote/git/<digest of the address>`, beside a lock that is held
//! while it is filled or read. Each commit is fetched by itself, without history; a server that does not give out
//! commits by their hash is asked for all branches and tags instead. What is fetched stays under
//! `refs/lbuild/<hash>`, so that a later fetch need not bring it again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use layerfs::IoResultExt;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::program::{Call, Identity, Program};
use super::submodule::{self, Submodule};
use crate::remote::forget::is_at;
use crate::remote::{Address, FetchError, FetchRequest, Fetcher, GitSource, Origin, giturl, record};

/// A commit, as a repository named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    /// The commit's hash.
    pub(super) commit: String,
    /// What the reference points to: the commit, or a tag that leads to it.
    pub(super) object: String,
    /// The reference in full.
    pub(super) name: Option<String>,
}

impl Pin {
    /// A commit by its hash.
    pub(super) fn commit(hash: &str) -> Pin {
        Pin { commit: hash.to_owned(), object: hash.to_owned(), name: None }
    }

    /// The object, as far as it leads to a commit, for git's command line.
    fn as_commit(&self) -> String {
        format!("{}^{{commit}}", self.object)
    }

    fn is_sha256(&self) -> bool {
        self.object.len() == 64
    }
}

/// Where the first repository is, the one that was asked for: what the user gave without saying for whom is for it,
/// and for those of its submodules that are at the same place.
#[derive(Clone, Copy)]
pub(super) struct Home<'a> {
    pub(super) origin: Origin<'a>,
    /// Whether the user named it himself, and not the Dockerfile.
    pub(super) is_own: bool,
}

impl Home<'_> {
    fn has(&self, address: &Address) -> bool {
        address.origin() == self.origin
    }
}

/// A repository somewhere.
pub(super) struct Repository<'a> {
    program: Program<'a>,
    fetcher: &'a Fetcher<'a>,
    /// The address without credentials: for git's command line.
    remote: String,
}

impl<'a> Repository<'a> {
    /// Takes an address apart, and finds who the user is there.
    pub(super) fn open(
        fetcher: &'a Fetcher<'a>,
        request: &'a FetchRequest<'a>,
        address: &Address,
        home: Home<'_>,
    ) -> Repository<'a> {
        let options = &fetcher.options;
        let (remote, secrets) = match address.origin().scheme {
            "http" | "https" => (address.to_string(), credentials(address, request, home)),
            _ => (address.wire().to_owned(), Vec::new()),
        };
        let identity = match address.origin().scheme {
            "ssh" if home.is_own && home.has(address) => Identity::Own,
            "ssh" if options.ssh_auth_sock.is_some() => Identity::Agent,
            _ => Identity::None,
        };
        let program = Program { options, request, address: address.to_string(), identity, secrets };
        Repository { program, fetcher, remote }
    }

    /// The address for people.
    pub(super) fn shown(&self) -> String {
        self.program.address.clone()
    }

    /// Which commit is meant.
    pub(super) fn resolve(&self, source: &GitSource) -> Result<Pin, FetchError> {
        if let Some(checksum) = source.checksum.as_deref().filter(|_| source.fetch_by_commit) {
            return Ok(Pin::commit(checksum));
        }
        let reference = source.reference.as_deref().unwrap_or("HEAD");
        if giturl::is_full_hash(reference) {
            return Ok(Pin::commit(reference));
        }
        let peeled = format!("{reference}^{{}}");
        let listing = self.list(&[reference, &peeled])?;
        if let Some(pin) = choose(&listing, reference) {
            return Ok(pin);
        }
        match giturl::is_hash_beginning(reference) {
            true => self.complete(reference),
            false => Err(self.no_reference(reference)),
        }
    }

    /// References and what they point to, as the repository has them: all, or those that end in a pattern.
    fn list(&self, patterns: &[&str]) -> Result<Vec<(String, String)>, FetchError> {
        let mut args = arguments(&["ls-remote", "--", &self.remote]);
        args.extend(patterns.iter().map(OsStr::new));
        let call = Call { is_remote: true, ..Call::new("read the references of", &args) };
        Ok(parse_references(&self.program.run(&call)?))
    }

    /// The commit whose hash begins so: that of a reference, or else of any that branches and tags lead to.
    fn complete(&self, beginning: &str) -> Result<Pin, FetchError> {
        let references = self.list(&[])?;
        let mut tips: Vec<&str> = references.iter().map(|(hash, _)| hash.as_str()).collect();
        tips.sort_unstable();
        tips.dedup();
        let mut fitting = tips.iter().filter(|hash| hash.starts_with(beginning));
        if let (Some(hash), None) = (fitting.next(), fitting.next()) {
            return Ok(Pin::commit(hash));
        }
        let is_sha256 = tips.first().is_some_and(|hash| hash.len() == 64);
        let copy = self.copy(is_sha256)?;
        copy.fetch_all()?;
        match copy.find(&format!("{beginning}^{{commit}}")) {
            Ok(hash) => Ok(Pin::commit(&hash)),
            Err(FetchError::Git { .. }) => Err(self.no_reference(beginning)),
            Err(error) => Err(error),
        }
    }

    fn no_reference(&self, reference: &str) -> FetchError {
        FetchError::Reference { address: self.shown(), reference: reference.to_owned() }
    }

    /// The copy, with the commit in it.
    ///
    /// Which commit a tag leads to is at first what the server says (`NAME^{}`), and a checksum was compared with
    /// that: now that the tag is here, it must say the same. An object by its own hash needs nobody's word.
    pub(super) fn with(&self, pin: &Pin) -> Result<Copy<'_>, FetchError> {
        let copy = self.copy(pin.is_sha256())?;
        if !copy.has(pin)? {
            copy.fetch(pin)?;
        }
        let found = copy.peel(pin)?;
        if found != pin.commit && pin.object != pin.commit {
            let (address, expected) = (self.shown(), pin.commit.clone());
            return Err(FetchError::Checksum { address, expected, found });
        }
        Ok(copy)
    }

    /// The copy, made if it is missing; others wait until it is dropped.
    fn copy(&self, is_sha256: bool) -> Result<Copy<'_>, FetchError> {
        let format = if is_sha256 { "--object-format=sha256" } else { "--object-format=sha1" };
        let name = record::digest_of(&[self.remote.as_bytes(), format.as_bytes()]).hex();
        let folder = record::git_folder(self.fetcher.store)?;
        let lock = lock(&folder.join(format!("{name}.lock")), self.program.request)?;
        let path = folder.join(&name);
        let copy = Copy { repository: self, path, format, _lock: lock };
        if copy.path.exists() {
            // What a git that was killed held. Nobody else has the copy now.
            for stale in ["shallow.lock", "packed-refs.lock", "config.lock", INDEX] {
                drop(fs::remove_file(copy.path.join(stale)));
            }
            return Ok(copy);
        }
        let unfinished = folder.join(format!("{name}.new"));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).at("delete", &unfinished).map_err(FetchError::store(FILL))?;
        }
        let mut args = arguments(&["init", "--quiet", "--bare", "--template=", format, "--"]);
        args.push(unfinished.as_os_str());
        self.program.run(&Call::new("make a copy of", &args))?;
        fs::rename(&unfinished, &copy.path).at("create", &copy.path).map_err(FetchError::store(FILL))?;
        Ok(copy)
    }
}

const FILL: &str = "keep a copy of the repository";
const INDEX: &str = "lbuild-index";

/// A repository's copy in the store, locked.
pub(super) struct Copy<'a> {
    repository: &'a Repository<'a>,
    path: PathBuf,
    format: &'static str,
    _lock: File,
}

impl Copy<'_> {
    fn call<'a>(&'a self, act: &'static str, args: &'a [&'a OsStr]) -> Call<'a> {
        Call { git_dir: Some(&self.path), ..Call::new(act, args) }
    }

    fn run(&self, act: &'static str, args: &[&str]) -> Result<Vec<u8>, FetchError> {
        self.repository.program.run(&self.call(act, &arguments(args)))
    }

    fn has(&self, pin: &Pin) -> Result<bool, FetchError> {
        match self.peel(pin) {
            Err(FetchError::Git { .. }) => Ok(false),
            found => found.map(|_| true),
        }
    }

    /// The commit that the object is or leads to, by what is here.
    fn peel(&self, pin: &Pin) -> Result<String, FetchError> {
        self.find(&pin.as_commit())
    }

    /// The hash of a commit, by an expression that git reads.
    fn find(&self, expression: &str) -> Result<String, FetchError> {
        let output =
            self.run("find a commit in", &["rev-parse", "--verify", "--end-of-options", expression])?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// Fetches one commit, or, where the server does not give it out, everything.
    fn fetch(&self, pin: &Pin) -> Result<(), FetchError> {
        let refspec = format!("+{0}:refs/lbuild/{0}", pin.object);
        let alone = self.fetch_refs(&["--depth=1"], &[&refspec]);
        match alone {
            Err(FetchError::Git { .. }) => {}
            other => return other,
        }
        self.fetch_all()?;
        match self.has(pin)? {
            true => Ok(()),
            false => alone,
        }
    }

    /// Fetches all branches and tags with all their history.
    fn fetch_all(&self) -> Result<(), FetchError> {
        let is_shallow = self.path.join("shallow").exists();
        let depth: &[&str] = if is_shallow { &["--unshallow"] } else { &[] };
        self.fetch_refs(depth, &["+refs/heads/*:refs/lbuild/heads/*", "+refs/tags/*:refs/lbuild/tags/*"])
    }

    fn fetch_refs(&self, depth: &[&str], refspecs: &[&str]) -> Result<(), FetchError> {
        let mut args =
            arguments(&["fetch", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--quiet"]);
        args.extend(depth.iter().map(OsStr::new));
        args.extend(["--", &self.repository.remote].map(OsStr::new));
        args.extend(refspecs.iter().map(OsStr::new));
        let call = Call { is_remote: true, ..self.call("fetch from", &args) };
        self.repository.program.run(&call).map(drop)
    }

    /// Writes the commit's files into an empty directory.
    pub(super) fn check_out(&self, pin: &Pin, work: &Path) -> Result<(), FetchError> {
        let (commit, index) = (pin.as_commit(), self.path.join(INDEX));
        let args = arguments(&["read-tree", "--reset", "-u", &commit]);
        let call =
            Call { work_tree: Some(work), index: Some(&index), ..self.call("check out the files of", &args) };
        let done = self.repository.program.run(&call);
        drop(fs::remove_file(&index));
        done.map(drop)
    }

    /// Makes a repository of its own in an empty directory, with this commit alone, and checks it out.
    pub(super) fn clone_into(&self, pin: &Pin, work: &Path) -> Result<(), FetchError> {
        const ACT: &str = "make a repository from";
        let program = &self.repository.program;
        let git_dir = work.join(".git");
        let mut args = arguments(&["init", "--quiet", "--template=", self.format, "--"]);
        args.push(work.as_os_str());
        program.run(&Call::new(ACT, &args))?;
        let inside = |args: &[&OsStr]| {
            let config = &[("protocol.file.allow", "always")];
            let call =
                Call { git_dir: Some(&git_dir), work_tree: Some(work), config, ..Call::new(ACT, args) };
            program.run(&call).map(drop)
        };
        let refspec = match &pin.name {
            Some(name) if name.starts_with("refs/tags/") => format!("+{}:{name}", pin.object),
            Some(name) => match name.strip_prefix("refs/heads/") {
                Some(branch) => format!("+{}:refs/remotes/origin/{branch}", pin.object),
                None => pin.object.clone(),
            },
            None => pin.object.clone(),
        };
        let mut args = arguments(&["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head"]);
        args.extend([OsStr::new("--"), self.path.as_os_str(), OsStr::new(&refspec)]);
        inside(&args)?;
        inside(&arguments(&["config", "remote.origin.url", &self.repository.remote]))?;
        inside(&arguments(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"]))?;
        inside(&arguments(&["checkout", "--quiet", "--detach", &pin.as_commit(), "--"]))
    }

    /// When the commit was made, in Unix seconds.
    pub(super) fn time_of(&self, pin: &Pin) -> Result<i64, FetchError> {
        const ACT: &str = "read a commit of";
        let args = ["log", "-1", "--no-show-signature", "--format=%ct", &pin.as_commit(), "--"];
        let output = self.run(ACT, &args)?;
        let text = String::from_utf8_lossy(&output);
        text.trim().parse().map_err(|_| FetchError::Git {
            act: ACT,
            address: self.repository.shown(),
            output: format!("expected its time, found `{}`", text.trim()),
        })
    }

    /// The submodules of a commit, as it names and pins them.
    pub(super) fn submodules(&self, pin: &Pin) -> Result<Vec<Submodule>, FetchError> {
        const ACT: &str = "read the submodules of";
        let commit = pin.as_commit();
        let found = self.run(ACT, &["ls-tree", "-z", "--full-tree", &commit, ".gitmodules"])?;
        // Only a file: a link of this name is somebody's trick.
        if !found.starts_with(b"100") {
            return Ok(Vec::new());
        }
        let blob = format!("{commit}:.gitmodules");
        // What it includes are files of this machine.
        let config = self.run(ACT, &["config", "-z", "--list", "--no-includes", "--blob", &blob])?;
        let listing = self.run(ACT, &["ls-tree", "-r", "-z", "--full-tree", &commit])?;
        submodule::read(&config, &listing, &self.repository.remote)
    }
}

fn arguments<'a>(args: &[&'a str]) -> Vec<&'a OsStr> {
    args.iter().map(|arg| OsStr::new(*arg)).collect()
}

/// What the user gave for the host, as configuration for git: a header as it is, a token, or what the address
/// itself has (study of BuildKit, 1.6, point 23). A submodule that is reached without TLS gets nothing of the
/// user's, unless all that came before did so too. With a credential git follows no redirect, since it would take
/// the header along.
fn credentials(address: &Address, request: &FetchRequest<'_>, home: Home<'_>) -> Vec<(String, String)> {
    let (scheme, is_home) = (address.origin().scheme, home.has(address));
    let named = |suffix: &str| {
        request.secret_line(&format!("GIT_AUTH_HEADER{suffix}")).or_else(|| {
            let token = request.secret_line(&format!("GIT_AUTH_TOKEN{suffix}"))?;
            Some(registry::download::basic(b"x-access-token", token.as_bytes()))
        })
    };
    let is_private = scheme == "https" || is_home;
    let for_host = || address.hosts().into_iter().find_map(|host| named(&format!(".{host}")));
    let given = if is_private { for_host() } else { None };
    let given = given.or_else(|| if is_home { named("") } else { None });
    let Some(header) = given.or_else(|| registry::download::login(address.wire())) else {
        return Vec::new();
    };
    let origin = format!("http.{scheme}://{}/", address.authority());
    vec![
        (format!("{origin}.extraHeader"), format!("Authorization: {header}")),
        (format!("{origin}.followRedirects"), "false".to_owned()),
    ]
}

/// Lines of `<hash> TAB <reference>`.
fn parse_references(output: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(output);
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    let pairs = pairs.filter(|(hash, _)| giturl::is_full_hash(hash));
    pairs.map(|(hash, name)| (hash.to_owned(), name.to_owned())).collect()
}

/// What a reference as the user has it stands for: a branch before a tag, as `git checkout` has it.
fn choose(listing: &[(String, String)], reference: &str) -> Option<Pin> {
    let find = |name: &str| listing.iter().find(|(_, found)| found == name).map(|(hash, _)| hash.clone());
    let whole = [reference.to_owned()];
    let parts = ["refs/heads/", "refs/tags/", "refs/"].map(|prefix| format!("{prefix}{reference}"));
    let is_whole = reference == "HEAD" || reference.starts_with("refs/");
    let names: &[String] = if is_whole { &whole } else { &parts };
    names.iter().find_map(|name| {
        let object = find(name)?;
        let commit = find(&format!("{name}^{{}}")).unwrap_or_else(|| object.clone());
        Some(Pin { commit, object, name: Some(name.clone()).filter(|name| name != "HEAD") })
    })
}

/// Waits for the lock; a lock that can be waited for cannot be given up (flock(2) has no time limit).
fn lock(path: &Path, request: &FetchRequest<'_>) -> Result<File, FetchError> {
    const LONGEST_WAIT: Duration = Duration::from_millis(50);
    let failed = FetchError::store(FILL);
    let mut wait = Duration::from_millis(1);
    loop {
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.at("open", path).map_err(&failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at(&file, path) => return Ok(file),
            // It was deleted with its repository in between.
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                request.check()?;
                std::thread::sleep(wait);
                wait = LONGEST_WAIT.min(wait * 2);
            }
            Err(errno) => return Err(errno).at("lock", path).map_err(&failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    #[test]
    fn a_submodule_without_tls_gets_nothing_of_the_users() {
        let secret = |name: &str| {
            let text = match name {
                "GIT_AUTH_TOKEN" => "for home",
                "GIT_AUTH_TOKEN.h" | "GIT_AUTH_TOKEN.h:80" => "for host",
                _ => return None,
            };
            Some(text.as_bytes().to_vec())
        };
        let request = FetchRequest { secret: &secret, give_up: &|| false, progress: &|_, _| {} };
        let header = |text: &str| Some(registry::download::basic(b"x-access-token", text.as_bytes()));
        for (home, address, expected) in [
            ("https://h/a", "https://h/b", header("for host")),
            ("https://h/a", "http://h/b", None),
            ("https://h/a", "http://h:80/b", None),
            ("git@h:a", "http://h/b", None),
            ("git@h:a", "https://h/b", header("for host")),
            ("http://h/a", "http://h/b", header("for host")),
            ("http://g/a", "http://h/b", None),
            ("https://g/a", "https://g/b", header("for home")),
            ("https://g/a", "https://g:8443/b", None),
            ("https://g/a", "http://g/b", None),
            ("ssh://g:80/a", "http://g:80/b", None),
            ("https://g/a", "http://me:own@g/b", Some(registry::download::basic(b"me", b"own"))),
        ] {
            let (home, address) = (Address::new(home.to_owned()), Address::new(address.to_owned()));
            let found = credentials(&address, &request, Home { origin: home.origin(), is_own: true });
            let expected = expected.map(|header| format!("Authorization: {header}"));
            assert_eq!(found.first().map(|(_, value)| value), expected.as_ref(), "{home} {address}");
        }
    }

    #[test]
    fn a_reference_is_chosen_by_its_whole_name() {
        let listing = format!(
            "{}\tHEAD\n{}\trefs/heads/both\n{}\trefs/heads/x/only\n{}\trefs/tags/both\n{}\trefs/tags/only\n{}\trefs/tags/only^{{}}\n\
             {}\trefs/pull/1/head\nwarning: a line\tof something else\n",
            hash('0'),
            hash('1'),
            hash('2'),
            hash('3'),
            hash('4'),
            hash('5'),
            hash('6'),
        );
        let listing = parse_references(listing.as_bytes());
        assert_eq!(listing.len(), 7);
        for (reference, commit, object, name) in [
            ("HEAD", '0', '0', None),
            ("both", '1', '1', Some("refs/heads/both")),
            ("refs/tags/both", '3', '3', Some("refs/tags/both")),
            ("only", '5', '4', Some("refs/tags/only")),
            ("x/only", '2', '2', Some("refs/heads/x/only")),
            ("pull/1/head", '6', '6', Some("refs/pull/1/head")),
        ] {
            let name = name.map(str::to_owned);
            let pin = Pin { commit: hash(commit), object: hash(object), name };
            assert_eq!(choose(&listing, reference), Some(pin), "{reference}");
        }
        for reference in ["head", "nly", "heads/only", "refs/heads/only", ""] {
            assert_eq!(choose(&listing, reference), None, "{reference}");
        }
    }
}
