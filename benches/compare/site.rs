//! Where a run happens: its folder, its registry, the builders that are there, and what the user asked for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::builders::{Build, Builder, Containers, Dockerd, Lbuild};
use crate::support::measure::installed;
use crate::support::registry::Registry;

/// `FROM scratch` and a shell: nobody has to pull.
const BASE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) registry: Registry,
    pub(crate) builders: Vec<Builder>,
    wanted: Option<Vec<String>>,
}

impl Site {
    /// `PEERS=lbuild,docker,buildah,podman,crun,runc,skopeo,floor` chooses among those that are installed; `LBUILD=FILE`
    /// measures that binary.
    pub(crate) fn open(folder: &Path) -> Site {
        let wanted = env::var("PEERS").ok().map(|list| list.split(',').map(str::to_lowercase).collect());
        let registry = Registry::start(&folder.join("registry"));
        let mut site = Site { folder: folder.to_owned(), registry, builders: Vec::new(), wanted };
        let program =
            env::var_os("LBUILD").map_or_else(|| env!("CARGO_BIN_EXE_lbuild").into(), PathBuf::from);
        let program = fs::canonicalize(program).expect("lbuild's binary");
        site.builders.push(Builder::Lbuild(Lbuild { program, root: folder.join("lbuild") }));
        if site.wants("docker") && installed("dockerd") {
            site.builders.push(Builder::BuildKit(Dockerd::start(&folder.join("docker"))));
        }
        if site.wants("buildah") && installed("buildah") && installed("runc") {
            site.builders.push(Builder::Buildah(Containers { folder: folder.join("c") }));
        }
        site
    }

    /// Whether the user wants to see `peer`, whose first word is its program. BuildKit is a part of docker.
    pub(crate) fn wants(&self, peer: &str) -> bool {
        let first = peer
            .split([' ', ':', ','])
            .next()
            .unwrap_or_default()
            .to_lowercase()
            .replace("buildkit", "docker");
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&first))
    }

    /// Whether nobody was left out by wish.
    pub(crate) fn everybody(&self) -> bool {
        self.wanted.is_none()
    }

    /// Whether `peer` is wanted and there.
    pub(crate) fn has(&self, peer: &str) -> bool {
        self.wants(peer) && installed(peer)
    }

    pub(crate) fn lbuild(&self) -> &Lbuild {
        match &self.builders[0] {
            Builder::Lbuild(lbuild) => lbuild,
            _ => unreachable!("lbuild is the first"),
        }
    }

    pub(crate) fn dockerd(&self) -> Option<&Dockerd> {
        self.builders.iter().find_map(|builder| match builder {
            Builder::BuildKit(dockerd) => Some(dockerd),
            _ => None,
        })
    }

    /// Storage for podman, whether or not buildah takes part.
    pub(crate) fn containers(&self) -> Containers {
        Containers { folder: self.folder.join("c") }
    }

    /// A context with busybox in it, and a Dockerfile of the base and `steps`. It lives as long as the run.
    pub(crate) fn project(&self, name: &str, steps: &str) -> &Project<'_> {
        let context = self.folder.join(name);
        fs::create_dir_all(&context).expect("a folder");
        fs::copy("/bin/busybox", context.join("busybox")).expect("busybox-static is installed");
        let dockerfile = self.folder.join(format!("{name}.Dockerfile"));
        fs::write(&dockerfile, format!("{BASE}{steps}")).expect("a Dockerfile");
        Box::leak(Box::new(Project { site: self, name: name.to_owned(), context, dockerfile }))
    }
}

/// Something to build.
pub(crate) struct Project<'a> {
    pub(crate) site: &'a Site,
    pub(crate) name: String,
    pub(crate) context: PathBuf,
    pub(crate) dockerfile: PathBuf,
}

impl Project<'_> {
    /// The name that `builder`'s image has, in the run's registry.
    pub(crate) fn reference(&self, builder: &str) -> String {
        format!("{}/{}/{}:1", self.site.registry.address, self.name, builder.to_lowercase())
    }

    /// Calls `work` with the build of this project by `builder`.
    pub(crate) fn with<T>(&self, builder: &str, round: usize, work: impl FnOnce(&Build) -> T) -> T {
        let reference = self.reference(builder);
        work(&Build { context: &self.context, dockerfile: &self.dockerfile, reference: &reference, round })
    }
}
