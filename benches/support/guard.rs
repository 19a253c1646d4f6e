//! The folder of a run, and its end. It is a file system of its own, new and with a journal, as users have it: what a
//! machine's own disk did shortly before (ext4 without a journal looks at every inode that was freed in the last
//! minutes) would otherwise be a part of what is measured. Builders leave mounts and daemons behind when a run is
//! interrupted, so a shell stands guard: it starts the bench proper, outlives it, ends what is below the folder and
//! removes it.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the guarded process its folder.
const FOLDER: &str = "LBUILD_BENCH_FOLDER";

/// `$0` is the folder, the rest the bench. A signal from the terminal reaches the bench by itself. Daemons die with the
/// bench (`setpriv --pdeathsig`); their mounts, which may lie on each other, do not, nor do the control groups that they
/// make for their children.
const SCRIPT: &str = r#"folder=$0
trap : INT TERM HUP
groups() { find /sys/fs/cgroup -maxdepth 2 -type d \( -name docker -o -name libpod_parent \) | sort; }
before=$(groups)
disk=$folder.disk
truncate -s 48G "$disk" && mkfs.ext4 -q -F -E assume_storage_prezeroed=1 "$disk" &&
    loop=$(losetup --direct-io=on --find --show "$disk") && mount "$loop" "$folder" &&
    rmdir "$folder/lost+found" || { echo "the bench could not make a disk of its own" >&2; exit 1; }
"$@" & bench=$!
wait $bench; code=$?
if kill -0 $bench 2>/dev/null; then kill $bench 2>/dev/null; wait $bench; fi
tries=0
while [ $tries -lt 50 ]; do
    mounts=$(awk -v f="$folder/" 'index($2, f) == 1 {print $2}' /proc/self/mounts | sort -r)
    [ -z "$mounts" ] && umount "$folder" 2>/dev/null && break
    for mount in $mounts; do umount -l "$mount" 2>/dev/null; done
    tries=$((tries + 1)); sleep 0.1
done
losetup --detach "$loop"; rm -f "$disk"; rmdir "$folder"
for group in $(groups); do
    case "$before" in *"$group"*) ;; *) find "$group" -depth -type d -exec rmdir {} + 2>/dev/null;; esac
done
exit $code"#;

/// The run's folder, below the system's temporary one. Its path is short, because podman's has to be.
///
/// The first call in a process that is not guarded yet does not return: the shell takes its place.
pub(crate) fn folder() -> PathBuf {
    if let Some(folder) = env::var_os(FOLDER) {
        return folder.into();
    }
    let folder = tempfile::Builder::new().prefix("lbb-").tempdir().expect("a temporary folder").keep();
    let bench = env::current_exe().expect("this program");
    let error = Command::new("sh")
        .arg("-c")
        .arg(SCRIPT)
        .arg(&folder)
        .arg(bench)
        .args(env::args_os().skip(1))
        .env(FOLDER, &folder)
        .exec();
    panic!("sh: {error}");
}

/// `program ARGS`, which dies with the bench.
pub(crate) fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}
