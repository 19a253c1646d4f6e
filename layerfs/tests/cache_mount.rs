//! Directories that outlive a build, used by several threads and processes. Needs root.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{nest, path, run, store};
use layerfs::cache_mount::Sharing::{Locked, Private, Shared};
use layerfs::cache_mount::{CacheMount, CacheMounts, Sharing};
use layerfs::confined::{NewDirectory, Owner, Root};
use layerfs::gc::Roots;
use layerfs::store::Store;
use layerfs::{Error, IoResultExt};
use rustix::fs::{CWD, FileType, Mode};

fn nothing(_: &Root) -> layerfs::Result<()> {
    Ok(())
}

/// Takes it now or not at all.
fn try_take(mounts: &CacheMounts, id: &str, sharing: Sharing) -> Option<CacheMount> {
    mounts.take(id, sharing, &nothing, &|| true).unwrap()
}

fn take(mounts: &CacheMounts, id: &str, sharing: Sharing) -> CacheMount {
    try_take(mounts, id, sharing).expect("nobody has it")
}

/// The directory itself, for `std::fs`.
fn inside(mount: &CacheMount, name: &str) -> PathBuf {
    path(mount.root().as_fd()).join(name)
}

fn inode(mount: &CacheMount) -> u64 {
    inside(mount, "").metadata().unwrap().ino()
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn who_excludes_whom() {
    let test = store();
    let mounts = test.store.cache_mounts();
    for (held, wanted, same) in [
        (Shared, Shared, Some(true)),
        (Shared, Locked, None),
        (Locked, Shared, None),
        (Locked, Locked, None),
        (Private, Shared, None),
        (Private, Locked, None),
        (Private, Private, Some(false)),
        (Shared, Private, Some(false)),
        (Locked, Private, Some(false)),
    ] {
        let holder = take(&mounts, "id", held);
        let found = try_take(&mounts, "id", wanted).map(|other| inode(&other) == inode(&holder));
        assert_eq!(found, same, "{held:?}, then {wanted:?}");
        let other = take(&mounts, "other id", wanted);
        assert_ne!(inode(&holder), inode(&other));
    }
}

/// A process that is being started has the locks of this one until it becomes another program.
static FORKS: RwLock<()> = RwLock::new(());

#[test]
fn private_directories_are_used_again() {
    let _no_forks = FORKS.read().unwrap();
    let test = store();
    let mounts = test.store.cache_mounts();
    let three = || [(); 3].map(|()| take(&mounts, "id", Private));
    let first = three();
    for (instance, mount) in first.iter().enumerate() {
        std::fs::write(inside(mount, "instance"), instance.to_string()).unwrap();
    }
    drop(first);
    for (instance, mount) in three().iter().enumerate() {
        assert_eq!(std::fs::read_to_string(inside(mount, "instance")).unwrap(), instance.to_string());
    }
    let instances: Vec<usize> = mounts.list().unwrap().iter().map(|info| info.instance).collect();
    assert_eq!(instances, [0, 1, 2]);
}

#[test]
fn a_lock_is_waited_for_and_holds() {
    let test = store();
    let mounts = test.store.cache_mounts();
    let counter = |mount: &CacheMount| inside(mount, "counter");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mounts = &mounts;
            scope.spawn(move || {
                for _ in 0..5 {
                    let mount = mounts.take("id", Locked, &nothing, &|| false).unwrap().unwrap();
                    let before = std::fs::read_to_string(counter(&mount)).unwrap_or_default();
                    let count: usize = before.parse().unwrap_or(0);
                    std::thread::yield_now();
                    std::fs::write(counter(&mount), (count + 1).to_string()).unwrap();
                    drop(mount);
                    // The others who share are never there at the same time as a lock.
                    drop(mounts.take(&format!("{thread}"), Shared, &nothing, &|| false).unwrap());
                }
            });
        }
    });
    let mount = take(&mounts, "id", Shared);
    assert_eq!(std::fs::read_to_string(counter(&mount)).unwrap(), "20");
    assert_eq!((entries(&test.store.root().join("ingest")), mounts.list().unwrap().len()), (0, 5));
    // Whoever waits asks again and again whether to go on.
    let asked = AtomicUsize::new(0);
    let give_up = || asked.fetch_add(1, Ordering::Relaxed) == 3;
    assert!(mounts.take("id", Locked, &nothing, &give_up).unwrap().is_none());
    assert_eq!(asked.into_inner(), 4);
}

#[test]
fn a_new_directory_is_seen_when_it_is_complete() {
    let test = store();
    let mounts = test.store.cache_mounts();
    let fails = |root: &Root| {
        root.make_dirs(Path::new("half/done"), &NewDirectory::default())?;
        Err(rustix::io::Errno::NOSPC).at("write", "seed")
    };
    let error = mounts.take("id", Locked, &fails, &|| true).unwrap_err();
    assert!(matches!(error, Error::File { act: "write", .. }), "{error}");
    assert_eq!((mounts.list().unwrap().len(), entries(&test.store.root().join("ingest"))), (0, 0));

    let made = AtomicUsize::new(0);
    let seed = |root: &Root| {
        assert!(mounts.list().unwrap().is_empty(), "it is not there yet");
        made.fetch_add(1, Ordering::Relaxed);
        root.dress(&NewDirectory { mode: 0o1770, owner: Owner { uid: 7, gid: 8 }, modified: None })?;
        root.make_dirs(Path::new("seed"), &NewDirectory::default()).map(drop)
    };
    for sharing in [Locked, Private, Shared] {
        let mount = mounts.take("id", sharing, &seed, &|| true).unwrap().unwrap();
        let meta = inside(&mount, "").metadata().unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o1770, 7, 8));
        assert!(inside(&mount, "seed").is_dir());
    }
    assert_eq!(made.into_inner(), 1);
    let plain = take(&mounts, "plain", Shared);
    assert_eq!(inside(&plain, "").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn two_who_make_the_same_get_one() {
    let test = store();
    let mounts = test.store.cache_mounts();
    // Both are making it when either is let go on.
    let barrier = std::sync::Barrier::new(2);
    let create = |root: &Root| {
        barrier.wait();
        root.make_dirs(Path::new("seed"), &NewDirectory::default()).map(drop)
    };
    let inodes: Vec<u64> = std::thread::scope(|scope| {
        let one = || inode(&mounts.take("id", Shared, &create, &|| false).unwrap().unwrap());
        let threads = [scope.spawn(one), scope.spawn(one)];
        threads.map(|thread| thread.join().unwrap()).to_vec()
    });
    assert_eq!(inodes[0], inodes[1]);
    assert_eq!((mounts.list().unwrap().len(), entries(&test.store.root().join("ingest"))), (1, 0));
}

#[test]
fn mounts_show_the_directory_and_nothing_else() {
    let _alone = FORKS.write().unwrap();
    let test = store();
    let mounts = test.store.cache_mounts();
    let mount = take(&mounts, "id", Shared);
    let (one, two) = (mount.try_clone_mount().unwrap(), mount.try_clone_mount().unwrap());
    run(one.as_fd(), "echo a > a; mkdir -p d/e; ln -s / out; ln -s ../../../../.. up; ln -s d/e in");
    run(two.as_fd(), "test \"$(cat a)\" = a");
    rustix::fs::mknodat(CWD, inside(&mount, "null"), FileType::CharacterDevice, Mode::RWXU, 0x103).unwrap();
    run(mount.try_clone_mount().unwrap().as_fd(), "! echo x > null");

    let below = |way: &str| mount.try_clone_mount_at(Path::new(way)).unwrap();
    for way in ["d/e", "/d/e", "in", "d/../d/e/", "up/in", "out/out/d/e"] {
        let made = path(below(way).as_fd()).metadata().unwrap().ino();
        assert_eq!(made, inside(&mount, "d/e").metadata().unwrap().ino(), "{way}");
    }
    let made = path(below("out/etc/new").as_fd()).metadata().unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid()), (0o755, 0));
    assert!(inside(&mount, "etc/new").is_dir() && !Path::new("/etc/new").exists());
    run(below("out").as_fd(), "test -e a; test -d etc/new");
    assert!(matches!(mount.try_clone_mount_at(Path::new("a")), Err(Error::NotADirectory { .. })));
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounted.contains(test.dir.path().to_str().unwrap()), "{mounted}");
    assert_eq!(test.store.root().metadata().unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn ids_are_no_paths() {
    let test = store();
    let mounts = test.store.cache_mounts();
    let long = "x/".repeat(5000);
    let mut ids = vec!["", ".", "..", "../../outside", "/root/.cache", "a\0b", "a\nb", "ä", long.as_str()];
    for id in &ids {
        std::fs::write(inside(&take(&mounts, id, Shared), "id"), id).unwrap();
    }
    for id in &ids {
        assert_eq!(std::fs::read_to_string(inside(&take(&mounts, id, Shared), "id")).unwrap(), *id);
    }
    let listed: Vec<String> = mounts.list().unwrap().into_iter().map(|info| info.id).collect();
    ids.sort_unstable();
    assert_eq!(listed, ids);
    assert_eq!(entries(test.dir.path()), 1);
}

#[test]
fn they_are_listed_and_removed() {
    let test = store();
    let mounts = test.store.cache_mounts();
    let (large, small) = (take(&mounts, "large", Shared), take(&mounts, "small", Private));
    std::fs::write(inside(&large, "one"), vec![1; 1 << 20]).unwrap();
    std::fs::hard_link(inside(&large, "one"), inside(&large, "two")).unwrap();
    drop(nest(large.root().as_fd(), 3000));
    drop(small);
    let infos = mounts.list().unwrap();
    let seen: Vec<_> = infos.iter().map(|info| (info.id.as_str(), info.instance, info.in_use)).collect();
    assert_eq!(seen, [("large", 0, true), ("small", 0, false)]);
    assert!(infos[0].size_bytes >= 1 << 20 && infos[1].size_bytes < 1 << 20, "{infos:?}");
    assert!(infos[0].size_bytes < 20 << 20, "a file counts once: {infos:?}");
    assert!(infos[0].created <= infos[0].last_used && infos[0].created.elapsed().is_ok());

    assert_eq!(mounts.remove(&infos[0]).unwrap(), None);
    assert!(inside(&large, "one").exists());
    drop(large);
    for info in &infos {
        assert!(mounts.remove(info).unwrap().unwrap() > 0);
        assert_eq!(mounts.remove(info).unwrap(), Some(0));
    }
    assert!(mounts.list().unwrap().is_empty());
    assert_eq!(
        (entries(&test.store.root().join("mounts")), entries(&test.store.root().join("trash"))),
        (0, 0)
    );
    assert_eq!(entries(&inside(&take(&mounts, "large", Shared), "")), 0);

    // A collection leaves them alone, whether somebody has one or not.
    let held = take(&mounts, "large", Shared);
    test.store.collect(|_| Ok(Roots::default())).unwrap();
    drop(held);
    test.store.collect(|_| Ok(Roots::default())).unwrap();
    assert_eq!(test.store.cache_mounts().list().unwrap().len(), 1);
}

#[test]
fn a_damaged_record_costs_nothing_but_itself() {
    let test = store();
    let mounts = test.store.cache_mounts();
    std::fs::write(inside(&take(&mounts, "id", Shared), "kept"), "").unwrap();
    let dir = std::fs::read_dir(test.store.root().join("mounts")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(dir.join("record.json"), "").unwrap();
    std::fs::write(test.store.root().join("mounts/other"), "").unwrap();
    let [info] = mounts.list().unwrap().try_into().unwrap();
    assert_eq!(Path::new(&info.id), dir.file_name().unwrap());
    assert!(inside(&take(&mounts, "id", Shared), "kept").exists());
    assert_eq!(mounts.list().unwrap()[0].id, "id");
    assert!(mounts.remove(&info).unwrap().unwrap() > 0);
}

#[test]
#[ignore = "no test: `what_a_killed_process_had_is_free` runs it in a process of its own and kills that"]
fn holder_to_kill() {
    let mut lines = std::io::stdin().lines();
    let mut line = || lines.next().unwrap().unwrap();
    let (root, making) = (line(), line() == "making");
    let store = Store::open(root.as_ref()).unwrap();
    let mut rest = String::new();
    let mut until_killed = || {
        writeln!(std::io::stderr(), "ready").unwrap();
        std::io::stdin().read_to_string(&mut rest).unwrap();
    };
    let until_killed = std::cell::RefCell::new(&mut until_killed);
    let create = |root: &Root| {
        root.make_dirs(Path::new("half"), &NewDirectory::default())?;
        if making {
            (until_killed.borrow_mut())();
        }
        Ok(())
    };
    let _held = store.cache_mounts().take("id", Locked, &create, &|| true).unwrap().unwrap();
    (until_killed.borrow_mut())();
}

/// Starts a process that holds a directory, or is making it.
fn holder(root: &Path, state: &str) -> Child {
    let _alone = FORKS.write().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["holder_to_kill", "--exact", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}\n{state}", root.display()).unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    child
}

#[test]
fn what_a_killed_process_had_is_free() {
    let test = store();
    let root = test.store.root();
    let mounts = test.store.cache_mounts();
    let ingest = || entries(&root.join("ingest"));
    let mut child = holder(root, "making");
    drop(Store::open(root).unwrap());
    assert_eq!((mounts.list().unwrap().len(), ingest()), (0, 1));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(Store::open(root).unwrap());
    assert_eq!((mounts.list().unwrap().len(), ingest()), (0, 0));

    let mut child = holder(root, "holding");
    assert!(try_take(&mounts, "id", Shared).is_none());
    assert!(mounts.list().unwrap()[0].in_use);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(inside(&take(&mounts, "id", Locked), "half").is_dir());
}
