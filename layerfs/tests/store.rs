//! The store on a real file system, used by several threads and processes. Needs root.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{FILE, TestStore, diff_id, id, listing, listing_of, run, step, store, tar, view};
use layerfs::Error;
use layerfs::gc::{Collected, Roots};
use layerfs::layer::codec::{Codec, decoder};
use layerfs::layer::pack::PackOptions;
use layerfs::layout::Target;
use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use oci::{
    ChainId, Compression, Descriptor, DiffId, Digest, ImageConfig, Manifest, MediaType, Raw, Reference,
};

/// An image of one layer, made from the snapshot `name`.
fn image(store: &Store, name: &str) -> Descriptor {
    let packed =
        store.put_layer(&store.snapshots().changes(&id(name)).unwrap(), PackOptions::default()).unwrap();
    let layer = store.compressed(packed.diff_id, Codec::new(Compression::Gzip), 2).unwrap();
    let mut config =
        ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.rootfs.kind = "layers".into();
    config.rootfs.diff_ids = vec![packed.diff_id];
    let config = store.put_document(&Raw::write(config), MediaType::OciConfig).unwrap();
    store.put_document(&Raw::write(Manifest::oci(config, vec![layer])), MediaType::OciManifest).unwrap()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn blobs_are_what_their_digests_say() {
    let test = store();
    let store = &test.store;
    let digest = Digest::of(b"hello");
    let descriptor = Descriptor::new(MediaType::OciConfig, digest, 5);
    for (bytes, good) in [(&b"hell"[..], false), (b"hello!", false), (b"jello", false), (b"hello", true)] {
        assert_eq!(store.put_verified(&mut &bytes[..], &descriptor).is_ok(), good);
        let mut writer = store.writer().unwrap();
        writer.write_all(bytes).unwrap();
        assert_eq!(writer.commit_verified(&descriptor).is_ok(), good);
        assert_eq!(store.has(&digest), good);
    }
    assert_eq!(store.put(&mut &b"hello"[..]).unwrap(), (digest, 5));
    assert_eq!(store.read_document(&descriptor).unwrap(), b"hello");
    // Damage is noticed.
    let path = store.blob_path(&digest);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "jello").unwrap();
    assert!(matches!(store.read_document(&descriptor), Err(Error::ReadBlob { .. })));
    std::fs::write(&path, "").unwrap();
    store.put_verified(&mut &b"hello"[..], &descriptor).unwrap();
    assert_eq!(store.read_document(&descriptor).unwrap(), b"hello");
    let large = Descriptor::new(MediaType::OciConfig, digest, 1 << 40);
    assert!(matches!(store.read_document(&large), Err(Error::TooLarge { .. })));
    assert!(matches!(store.open_blob(&Digest::of(b"no")), Err(Error::MissingBlob { .. })));
}

#[test]
fn names_come_and_go() {
    let test = store();
    let store = &test.store;
    step(store, None, "a", "echo a > a");
    step(store, None, "b", "echo b > b");
    let (a, b) = (image(store, "a"), image(store, "b"));
    let (one, two) = (reference("127.0.0.1:5000/app:1"), reference("debian"));
    store.tag(&one, &a).unwrap();
    store.tag(&two, &a).unwrap();
    store.tag(&one, &b).unwrap();
    assert_eq!(store.images().unwrap().len(), 2);
    store.tag(&two, &b).unwrap();
    let dangling: Vec<_> =
        store.images().unwrap().into_iter().filter(|image| image.reference.is_none()).collect();
    assert_eq!(dangling.len(), 1);
    assert_eq!(dangling[0].descriptor, a);
    let config = store.manifest(&a).unwrap().value().config.digest;
    for text in [
        config.to_string(),
        config.hex(),
        config.short(),
        a.digest.to_string(),
        a.digest.hex()[..20].to_owned(),
    ] {
        assert_eq!(store.find(&text).unwrap().unwrap().descriptor, a, "{text}");
    }
    assert_eq!(store.find("debian:latest").unwrap().unwrap().descriptor, b);
    assert_eq!(store.find(&format!("debian@{}", b.digest)).unwrap().unwrap().descriptor, b);
    assert_eq!(store.find("nothing").unwrap(), None);
    store.tag(&reference("again:1"), &a).unwrap();
    assert!(store.images().unwrap().iter().all(|image| image.reference.is_some()));
    assert!(store.untag(&one).unwrap());
    assert!(!store.untag(&one).unwrap());
    assert_eq!(store.forget(&b.digest).unwrap(), [two]);
    store.keep(&b).unwrap();
    store.keep(&a).unwrap();
    assert_eq!(store.images().unwrap().len(), 2);
    assert!(!store.forget_nameless(&a.digest).unwrap(), "it is `again:1`");
    assert!(store.forget_nameless(&b.digest).unwrap());
    assert!(!store.forget_nameless(&b.digest).unwrap());
    assert_eq!(store.images().unwrap().len(), 1);
}

#[test]
fn other_programs_use_the_store_in_place() {
    let test = store();
    let store = &test.store;
    step(
        store,
        None,
        "a",
        "mkdir -p d/e; echo a > d/a; ln d/a d/b; ln -s a d/l; chmod 4711 d/a; chown 12:34 d/e; printf s > \"$(printf 'l%.0s' $(seq 150))\"",
    );
    let image = image(store, "a");
    for name in ["127.0.0.1:5000/app:1", "docker.io/library/debian:bookworm", "debian:latest"] {
        store.tag(&reference(name), &image).unwrap();
        let name = reference(name).familiar();
        let skopeo = Command::new("skopeo")
            .arg("inspect")
            .arg(format!("oci:{}:{name}", store.root().display()))
            .output()
            .unwrap();
        assert!(skopeo.status.success(), "{}", String::from_utf8_lossy(&skopeo.stderr));
        let bundle = test.dir.path().join(name.replace(['/', ':'], "_"));
        let umoci = Command::new("umoci")
            .args(["unpack", "--image"])
            .arg(format!("{}:{name}", store.root().display()))
            .arg(&bundle)
            .output()
            .unwrap();
        assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
        assert_eq!(listing(&bundle.join("rootfs")), listing_of(view(store, "a").root()));
    }
}

#[test]
fn exports_are_whole_and_always_the_same() {
    let test = store();
    let store = &test.store;
    step(store, None, "a", "echo a > a");
    let image = image(store, "a");
    let names = [reference("app:1"), reference("app:2")];
    let dir = test.dir.path().join("layout");
    for _ in 0..2 {
        store.export(&image, &names, Target::Directory(&dir)).unwrap();
    }
    // What is no layout alone, such as a store, is not replaced.
    std::fs::write(dir.join("note"), "dear").unwrap();
    for kept in [&dir, store.root()] {
        let refused = store.export(&image, &names, Target::Directory(kept));
        assert!(matches!(refused, Err(Error::File { act: "replace", .. })), "{refused:?}");
    }
    assert!(store.has(&image.digest));
    std::fs::remove_file(dir.join("note")).unwrap();
    let bundle = test.dir.path().join("bundle");
    let umoci = Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:app:2", dir.display()))
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
    assert_eq!(listing(&bundle.join("rootfs")), listing_of(view(store, "a").root()));
    let (one, two) = (test.dir.path().join("1.tar"), test.dir.path().join("2.tar"));
    store.export(&image, &names, Target::Archive(&one)).unwrap();
    store.export(&image, &names, Target::Archive(&two)).unwrap();
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());
    let skopeo = Command::new("skopeo")
        .arg("inspect")
        .arg(format!("oci-archive:{}:app:1", one.display()))
        .output()
        .unwrap();
    assert!(skopeo.status.success(), "{}", String::from_utf8_lossy(&skopeo.stderr));
    // A missing blob leaves nothing half done.
    let layer = store.manifest(&image).unwrap().value().layers[0].digest;
    std::fs::remove_file(store.blob_path(&layer)).unwrap();
    let before = std::fs::read_dir(test.dir.path()).unwrap().count();
    for target in
        [Target::Archive(&test.dir.path().join("3.tar")), Target::Directory(&test.dir.path().join("other"))]
    {
        assert!(matches!(store.export(&image, &names, target), Err(Error::MissingBlob { .. })));
    }
    assert_eq!(std::fs::read_dir(test.dir.path()).unwrap().count(), before);
}

#[test]
fn what_is_exported_is_verified_and_anybody_may_read_it() {
    let test = store();
    let store = &test.store;
    step(store, None, "a", "echo a > a");
    let image = image(store, "a");
    let (dir, plain) = (test.dir.path().join("layout"), test.dir.path().join("plain"));
    store.export(&image, &[], Target::Directory(&dir)).unwrap();
    std::fs::write(&plain, "").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for name in ["index.json".to_owned(), image.digest.blob_path()] {
        assert_eq!(mode(&dir.join(&name)), mode(&plain), "{name}");
    }
    let layer = store.manifest(&image).unwrap().value().layers[0].digest;
    let path = store.blob_path(&layer);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
    let other = test.dir.path().join("other");
    let error = store.export(&image, &[], Target::Directory(&other)).unwrap_err();
    assert!(matches!(error, Error::ReadBlob { digest, .. } if digest == layer), "{error:?}");
    assert!(!other.exists() && !store.has(&layer));
}

#[test]
fn layers_are_compressed_once() {
    let test = store();
    let bytes = tar(&[("a", FILE)]);
    let (digest, _) = test.store.put(&mut &bytes[..]).unwrap();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let codec = Codec::new(compression);
        let blob = test.store.compressed(DiffId(digest), codec, 2).unwrap();
        let mut back = Vec::new();
        decoder(test.store.open_blob(&blob.digest).unwrap()).unwrap().read_to_end(&mut back).unwrap();
        assert!(back == bytes);
        assert_eq!(blob.media_type, MediaType::OciLayer(compression));
        assert_eq!(test.store.compressed(DiffId(digest), codec, 1).unwrap(), blob);
        if compression != Compression::None {
            std::fs::remove_file(test.store.blob_path(&blob.digest)).unwrap();
            assert_eq!(test.store.compressed(DiffId(digest), codec, 3).unwrap(), blob);
            assert!(test.store.has(&blob.digest));
        }
    }
}

#[test]
fn collection_frees_what_nothing_names() {
    let mut test = store();
    step(&test.store, None, "a", "mkdir d; echo a > d/a");
    step(&test.store, Some("a"), "b", "echo b > b");
    step(&test.store, None, "c", "echo c > c");
    let image = image(&test.store, "a");
    let diff = test.store.snapshots().changes(&id("a")).map(|_| ()).and_then(|()| {
        let config = test.store.config(test.store.manifest(&image)?.value())?;
        Ok(config.value().rootfs.diff_ids[0])
    });
    let chain = SnapshotId::chain(ChainId::bottom(diff.unwrap()));
    let active = test.store.snapshots().prepare(None).unwrap();
    test.store.snapshots().commit(active, &chain).unwrap();
    let name = reference("app");
    test.store.tag(&name, &image).unwrap();
    let loose = test.store.put_bytes(b"loose").unwrap();
    let pinned = test.store.put_bytes(b"pinned").unwrap();
    let recorded = test.store.put_bytes(b"recorded").unwrap();
    let record = format!("{{\"digest\":\"{recorded}\"}}");
    test.store.write_record("resolved/x.json".as_ref(), record.as_bytes()).unwrap();
    let roots = || Roots { blobs: vec![pinned], snapshots: vec![id("b")], ..Roots::default() };
    let collect = |store: &Store| store.collect(|_| Ok(roots())).unwrap();
    // Nothing goes that this store has made, nor what another one looks at.
    assert_eq!(collect(&test.store), Collected::default());
    test.store.release();
    let second = Store::open(test.store.root()).unwrap();
    assert_eq!(second.hold(&loose).unwrap(), Some(5));
    let active = second.snapshots().prepare(Some(&id("c"))).unwrap();
    drop(second);
    assert_eq!(collect(&test.store), Collected::default(), "as long as there is anything of it");
    drop(active);
    let freed = collect(&test.store);
    assert!(matches!(freed, Collected { blobs: 1, snapshots: 1, bytes: 1.. }), "{freed:?}");
    assert!(!test.store.has(&loose) && test.store.has(&pinned) && test.store.has(&recorded));
    let snapshots = test.store.snapshots();
    assert!(snapshots.contains(&id("a")) && snapshots.contains(&id("b")) && snapshots.contains(&chain));
    assert!(!snapshots.contains(&id("c")));
    drop(snapshots);
    test.store.export(&image, &[], Target::Archive(&test.dir.path().join("still.tar"))).unwrap();
    test.store.untag(&name).unwrap();
    test.store.release();
    let freed = collect(&test.store);
    assert!(matches!(freed, Collected { blobs: 4, snapshots: 1, .. }), "{freed:?}");
    assert_eq!(std::fs::read_dir(test.store.root().join("memo")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(test.store.root().join("trash")).unwrap().count(), 0);
}

#[test]
fn what_is_named_meanwhile_stays() {
    let mut test = store();
    step(&test.store, None, "a", "echo a > a");
    step(&test.store, None, "b", "echo b > b");
    let (a, b) = (image(&test.store, "a"), image(&test.store, "b"));
    test.store.keep(&a).unwrap();
    test.store.keep(&b).unwrap();
    // Both had no name when it was decided that they go.
    test.store.tag(&reference("app:1"), &a).unwrap();
    test.store.release();
    let forgotten = [a.digest, b.digest].into();
    test.store.collect(|_| Ok(Roots { forgotten, ..Roots::default() })).unwrap();
    assert!(test.store.has(&a.digest) && !test.store.has(&b.digest));
}

#[test]
fn the_first_of_twins_stays() {
    let test = store();
    let store = &test.store;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                let snapshots = store.snapshots();
                let active = snapshots.prepare(None).unwrap();
                run(active.root(), &format!("echo {thread} > a; echo {thread} > b"));
                snapshots.commit(active, &id("twin")).unwrap();
                assert!(snapshots.contains(&id("twin")));
                store.put_bytes(b"twin").unwrap();
                let name = reference(&format!("thread:{thread}"));
                store.tag(&name, &Descriptor::new(MediaType::OciManifest, Digest::of(b"twin"), 4)).unwrap();
            });
        }
    });
    run(view(store, "twin").root(), "cmp a b");
    assert_eq!(store.images().unwrap().len(), 8);
    assert_eq!(std::fs::read_dir(store.root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn views_and_stacks() {
    let test = store();
    let store = &test.store;
    step(store, None, "0", "mkdir d; echo 0 > d/0");
    for layer in 1..150 {
        step(store, Some(&(layer - 1).to_string()), &layer.to_string(), &format!("echo {layer} > d/{layer}"));
    }
    let top = view(store, "149");
    run(top.root(), "test $(ls d | wc -l) = 150; test \"$(cat d/77)\" = 77");
    for shown in ["0", "149"] {
        let error = std::fs::write(common::path(view(store, shown).root()).join("x"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    let active = store.snapshots().prepare(Some(&id("149"))).unwrap();
    // What a container would attach shows the same files, whoever changes them.
    let clone = active.try_clone_root().unwrap();
    let third = active.try_clone_root().unwrap();
    run(clone.as_fd(), "echo x > from-clone; rm d/0");
    run(active.root(), "test -e from-clone; test ! -e d/0; echo y > from-root");
    run(third.as_fd(), "test -e from-root");
    drop((clone, third));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(test.dir.path().to_str().unwrap()), "{mounts}");
    assert!(!mounts.contains("/proc/self/fd"), "{mounts}");
    let upper = active.upper_path();
    drop(active);
    assert!(!upper.exists());
    assert!(matches!(store.snapshots().prepare(Some(&id("none"))), Err(Error::MissingSnapshot { .. })));
    assert_eq!(store.driver(), layerfs::snapshot::Driver::Overlay);
    assert!(store.snapshots().remove(&id("149")).unwrap() > 0);
    assert!(!store.snapshots().contains(&id("149")));
}

#[test]
#[ignore = "no test: `killed_writers_leave_nothing` runs it in a process of its own and kills that"]
fn writer_to_kill() {
    let mut root = String::new();
    std::io::stdin().read_line(&mut root).unwrap();
    let store = Store::open(root.trim().as_ref()).unwrap();
    let mut blob = store.writer().unwrap();
    blob.write_all(b"half").unwrap();
    let active = store.snapshots().prepare(None).unwrap();
    run(active.root(), "echo half > half");
    let mut out = std::io::stderr();
    writeln!(out, "ready").unwrap();
    // Until the parent kills this process.
    std::io::stdin().read_to_string(&mut root).unwrap();
}

#[test]
fn killed_writers_leave_nothing() {
    let test = store();
    let root = test.store.root();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["writer_to_kill", "--exact", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", root.display()).unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    let ingest = || std::fs::read_dir(root.join("ingest")).unwrap().count();
    // What is being made is nobody else's to clear.
    drop(Store::open(root).unwrap());
    assert_eq!(ingest(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(Store::open(root).unwrap());
    assert_eq!(ingest(), 0);
    assert_eq!(std::fs::read_dir(root.join("blobs/sha256")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(root.join("snapshots")).unwrap().count(), 0);
}

#[test]
fn ids_read_back() {
    let key = id("x");
    assert_eq!(key.to_string().parse::<SnapshotId>().unwrap(), key);
    let chain = SnapshotId::chain(ChainId::bottom(diff_id(b"x")));
    assert_eq!(chain.to_string().parse::<SnapshotId>().unwrap(), chain);
    for bad in ["", "key-", "key-../x", "chain-12", "x"] {
        assert!(bad.parse::<SnapshotId>().is_err(), "{bad}");
    }
}

#[test]
fn an_alias_is_its_snapshot_until_that_is_gone() {
    let test = store();
    let snapshots = test.store.snapshots();
    step(&test.store, None, "one", "echo 1 > f");
    let chain = SnapshotId::chain(ChainId(Digest::of(b"chain")));
    snapshots.alias(&id("one"), &chain).unwrap();
    snapshots.alias(&id("one"), &chain).unwrap();
    assert!(snapshots.contains(&chain));
    let (by_alias, by_name) = (snapshots.view(&chain).unwrap(), snapshots.view(&id("one")).unwrap());
    assert_eq!(listing_of(by_alias.root()), listing_of(by_name.root()));
    // What is built on the alias is built on the snapshot.
    let active = snapshots.prepare(Some(&chain)).unwrap();
    snapshots.commit(active, &id("two")).unwrap();
    assert!(snapshots.view(&id("two")).is_ok());

    snapshots.remove(&id("one")).unwrap();
    assert!(!snapshots.contains(&chain));
    let active = snapshots.prepare(None).unwrap();
    snapshots.commit(active, &chain).unwrap();
    assert!(snapshots.contains(&chain), "an alias of nothing gives way");
    step(&test.store, None, "other", "echo 2 > f");
    step(&test.store, Some("other"), "three", "echo 3 > f");
    snapshots.alias(&id("three"), &chain).unwrap();
    assert!(snapshots.changes(&chain).unwrap().lower.is_none(), "a snapshot does not give way");
}

#[test]
fn a_damaged_tar_is_never_compressed() {
    let test = store();
    // With zeros behind its end, as tar(1) pads it.
    let bytes = [tar(&[("a", FILE)]), vec![0; 512]].concat();
    let last = bytes.len() - 1;
    let compressed = |diff_id, method| test.store.compressed(diff_id, Codec::new(method), 2).map(drop);
    let methods: [&dyn Fn(DiffId) -> layerfs::Result<()>; 3] = [
        &|diff_id| compressed(diff_id, Compression::Gzip),
        &|diff_id| compressed(diff_id, Compression::Zstd),
        &|diff_id| test.store.estargz(diff_id, 6).map(drop),
    ];
    // A header, content, and what no reader of archives looks at.
    for (compress, place) in
        methods.iter().flat_map(|method| [0, 512, 600, last].map(|place| (method, place)))
    {
        let digest = test.store.put_bytes(&bytes).unwrap();
        let path = test.store.blob_path(&digest);
        let mut damaged = bytes.clone();
        damaged[place] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, damaged).unwrap();
        let error = compress(DiffId(digest)).unwrap_err();
        assert!(matches!(error, Error::ReadBlob { digest: found, .. } if found == digest), "{error:?}");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nor found again");
    }
    assert_eq!(std::fs::read_dir(test.store.root().join("memo")).unwrap().count(), 0);
}

#[test]
fn what_is_not_wanted_any_more_is_not_compressed() {
    let test = store();
    let bytes = tar(&[("a", FILE)]);
    let digest = test.store.put_bytes(&bytes).unwrap();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let codec = Codec::new(compression);
        test.store.compressed_while(DiffId(digest), codec, 2, &|| false).unwrap_err();
        assert_eq!(std::fs::read_dir(test.store.root().join("memo")).unwrap().count(), 0);
        assert_eq!(test.store.hold(&digest).unwrap(), Some(bytes.len() as u64), "the tar stays");
    }
    let gzip = Codec::new(Compression::Gzip);
    let made = test.store.compressed_while(DiffId(digest), gzip, 2, &|| true).unwrap();
    assert_eq!(test.store.compressed(DiffId(digest), gzip, 1).unwrap(), made);
}

#[test]
fn a_damaged_snapshot_is_not_there_and_gives_way() {
    let test = store();
    let snapshots = test.store.snapshots();
    for damage in ["", "{\"ancestors\":[\"key-"] {
        step(&test.store, None, "a", "echo old > f");
        std::fs::write(test.store.root().join(format!("snapshots/{}/meta.json", id("a"))), damage).unwrap();
        assert!(!snapshots.contains(&id("a")));
        assert!(matches!(snapshots.view(&id("a")), Err(Error::MissingSnapshot { .. })));
        step(&test.store, None, "a", "echo new > f");
        run(view(&test.store, "a").root(), "test $(cat f) = new");
        snapshots.remove(&id("a")).unwrap();
    }
}

#[test]
fn devices_are_inert_outside_of_containers() {
    let test = store();
    step(&test.store, None, "base", "mknod null c 1 3");
    for parent in [None, Some(id("base"))] {
        let active = test.store.snapshots().prepare(parent.as_ref()).unwrap();
        run(active.root(), "mknod zero c 1 5");
        let open = |root| std::fs::File::open(common::path(root).join("zero")).map(drop);
        assert_eq!(open(active.root()).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        // A container's own rules decide about its mount.
        open(active.try_clone_root().unwrap().as_fd()).unwrap();
    }
}

/// As if the machine had lost its power since.
fn boot_anew(test: TestStore) -> TestStore {
    let TestStore { store, dir } = test;
    let root = store.root().to_owned();
    drop(store);
    std::fs::write(root.join("state.json"), "{\"format\":1,\"boot\":\"another\"}").unwrap();
    TestStore { store: Store::open(&root).unwrap(), dir }
}

#[test]
fn what_was_not_synced_is_not_trusted_in_another_boot() {
    let test = store();
    step(&test.store, None, "synced", "echo 1 > f");
    let synced = test.store.put_bytes(b"synced").unwrap();
    test.store.settle().unwrap();
    step(&test.store, None, "loose", "echo 2 > f");
    let [whole, zeros] = [&b"whole"[..], b"bytes"].map(|bytes| test.store.put_bytes(bytes).unwrap());
    let mode = |test: &TestStore, digest| {
        std::os::unix::fs::PermissionsExt::mode(
            &test.store.blob_path(digest).metadata().unwrap().permissions(),
        ) & 0o777
    };
    // What a file system shows of a file whose data never came to the disk.
    std::fs::write(test.store.blob_path(&zeros), [0; 5]).unwrap();
    assert_eq!(test.store.hold(&zeros).unwrap(), Some(5), "in this boot memory is as good as the disk");

    let test = boot_anew(test);
    assert_eq!((mode(&test, &synced), mode(&test, &whole), mode(&test, &zeros)), (0o444, 0o400, 0o400));
    let snapshots = test.store.snapshots();
    assert!(snapshots.contains(&id("synced")) && !snapshots.contains(&id("loose")));
    assert_eq!(test.store.hold(&whole).unwrap(), Some(5));
    assert_eq!(mode(&test, &whole), 0o444);
    assert_eq!(test.store.hold(&zeros).unwrap(), None);
    assert_eq!(std::fs::read_dir(test.store.root().join("quarantine")).unwrap().count(), 1);
    test.store.put_bytes(b"bytes").unwrap();
    assert_eq!(test.store.hold(&zeros).unwrap(), Some(5));
    // Whoever makes the same bytes anew does not take the old ones for them.
    std::fs::write(test.store.blob_path(&zeros), [0; 5]).unwrap();
    drop(snapshots);
    let test = boot_anew(test);
    let mut writer = test.store.writer().unwrap();
    writer.write_all(b"bytes").unwrap();
    writer.commit().unwrap();
    assert_eq!(std::fs::read(test.store.blob_path(&zeros)).unwrap(), b"bytes");
    // And only once a boot.
    let again = Store::open(test.store.root()).unwrap();
    assert_eq!(mode(&test, &zeros), 0o440);
    drop(again);
}

#[test]
fn a_newer_store_is_left_alone() {
    let test = store();
    std::fs::write(test.store.root().join("state.json"), "{\"format\":99,\"boot\":\"\",\"more\":1}").unwrap();
    for opened in [Store::open(test.store.root()), Store::look(test.store.root())] {
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::NewerStore { format: 99, .. }), "{error:?}");
    }
    // What cannot be read says nothing, and what is not known harms nobody.
    std::fs::write(test.store.root().join("state.json"), "").unwrap();
    std::fs::write(test.store.root().join("of a later version"), "").unwrap();
    drop(Store::open(test.store.root()).unwrap());
}

#[test]
fn looking_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = Store::look(&dir.path().join("none")).unwrap();
    assert!(nothing.images().unwrap().is_empty() && !dir.path().join("none").exists());
    let test = store();
    step(&test.store, None, "a", "echo a > a");
    let image = image(&test.store, "a");
    test.store.tag(&reference("app"), &image).unwrap();
    let onlooker = Store::look(test.store.root()).unwrap();
    assert_eq!(onlooker.find("app").unwrap().unwrap().descriptor, image);
    onlooker.manifest(&image).unwrap();
    assert_eq!(std::fs::read_dir(test.store.root().join("leases")).unwrap().count(), 1);
}

#[test]
fn a_damaged_blob_is_put_aside_when_it_is_found() {
    let test = store();
    step(&test.store, None, "a", "echo a > a");
    let image = image(&test.store, "a");
    let path = test.store.blob_path(&image.digest);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = test.store.manifest(&image).unwrap_err();
    assert!(matches!(error, Error::ReadBlob { digest, .. } if digest == image.digest), "{error:?}");
    assert!(!test.store.has(&image.digest));
    assert!(matches!(test.store.manifest(&image), Err(Error::MissingBlob { .. })));
    // A descriptor that lies is no reason to put a good blob aside.
    let good = test.store.put_bytes(b"good").unwrap();
    let lie = Descriptor::new(oci::MediaType::OciManifest, good, 99);
    assert!(matches!(test.store.read_document(&lie), Err(Error::ReadBlob { .. })));
    assert!(test.store.has(&good));
}
