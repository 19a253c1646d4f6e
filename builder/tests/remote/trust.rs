//! What is believed of a server and of a repository, and what they get to know of the user.

use std::os::unix::fs::PermissionsExt;

use builder::remote::{Address, FetchError, Form};

use crate::git::Server;
use crate::support::{Place, remote};
use crate::web::Web;

#[test]
fn the_commit_of_a_tag_is_not_what_the_server_says() {
    let (server, web) = (Server::start(), Web::start());
    let repo = server.example("app", &[]);
    let honest = repo.git(&["rev-parse", "heavy^{commit}"]);
    repo.write("a", "evil");
    let evil = repo.commit("evil");
    repo.git(&["tag", "-f", "-a", "-m", "x", "heavy"]);
    repo.git(&["clone", "--quiet", "--bare", ".", web.path("app.git").to_str().unwrap()]);
    let bare = web.path("app.git");
    repo.git(&["--git-dir", bare.to_str().unwrap(), "update-server-info"]);
    let references = std::fs::read_to_string(bare.join("info/refs")).unwrap();
    let lie = |from: &str, to: &str| {
        let lied = references
            .replace(&format!("{from}\trefs/tags/heavy^{{}}"), &format!("{to}\trefs/tags/heavy^{{}}"));
        std::fs::write(bare.join("info/refs"), lied).unwrap();
    };
    let place = Place::new();
    for options in ["", "&checksum=", "&keep-git-dir=1&checksum="] {
        lie(&evil, &honest);
        let checksum = if options.ends_with('=') { honest.as_str() } else { "" };
        let pinned = remote(&web.url(&format!("app.git?tag=heavy{options}{checksum}")), Form::Add);
        match place.fetch(&pinned) {
            Err(FetchError::Checksum { expected, found, .. }) => {
                assert_eq!((&expected, &found), (&honest, &evil), "{options}");
            }
            other => panic!("{options}: {other:?}"),
        }
        // An honest server may have the same.
        lie(&evil, &evil);
        let found = place.fetch(&remote(&web.url("app.git?tag=heavy"), Form::Add)).unwrap();
        assert_eq!((found.commit.as_ref(), place.files(&found)["a"].as_str()), (Some(&evil), "evil"));
    }
    // Who names the tag object by its hash needs no server to say what it leads to.
    let tag = repo.git(&["rev-parse", "heavy"]);
    let found = place.fetch(&remote(&web.url(&format!("app.git#{tag}")), Form::Add)).unwrap();
    assert_eq!(place.files(&found)["a"], "evil");
    assert!(place.is_clean());
}

/// The user's environment, with everything in it that is nobody's business.
fn environment(place: &mut Place) {
    let home = place.dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join(".netrc"), "default login me password pass-word\n").unwrap();
    let bin = place.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let seen = place.dir.path().join("seen");
    let script = format!("#!/bin/sh\n{{ env; echo \"$@\"; }} > {}\nexit 255\n", seen.display());
    std::fs::write(bin.join("ssh"), script).unwrap();
    std::fs::set_permissions(bin.join("ssh"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    place.options.environment = vec![
        ("PATH".into(), path.into()),
        ("HOME".into(), home.into()),
        ("SSH_AUTH_SOCK".into(), "/own-agent".into()),
        ("AWS_SECRET_ACCESS_KEY".into(), "se-cret".into()),
        ("https_proxy".into(), "http://proxy:1".into()),
    ];
}

#[test]
fn ssh_knows_the_users_keys_where_the_user_lets_it() {
    let mut place = Place::new();
    environment(&mut place);
    let home = format!("HOME={}/home\n", place.dir.path().display());
    let (own, lent) = ("SSH_AUTH_SOCK=/own-agent\n", "SSH_AUTH_SOCK=/lent-agent\n");
    let (no_keys, no_file) = ("-F /dev/null -o IdentityAgent=none", "-o IdentityAgent=SSH_AUTH_SOCK");
    let context = "git@host:me/app";
    for (url, is_lent, has, has_not) in [
        ("ssh://git@host/other", false, vec![no_keys, "-o IdentityFile=none"], vec![&*home, "SSH_AUTH_SOCK"]),
        ("ssh://git@host/other", true, vec![no_file, &home, lent], vec![no_keys, own]),
        (context, false, vec![&home, own], vec!["-o Identity"]),
        (context, true, vec![&home, lent], vec!["-o Identity", own]),
    ] {
        place.options.ssh_auth_sock = is_lent.then(|| "/lent-agent".into());
        place.options.own = vec![Address::new(context.to_owned())];
        let error = place.fetch(&remote(url, Form::Add)).unwrap_err();
        assert!(matches!(error, FetchError::Git { .. }), "{error:?}");
        let seen = std::fs::read_to_string(place.dir.path().join("seen")).unwrap();
        std::fs::remove_file(place.dir.path().join("seen")).unwrap();
        for text in has.into_iter().chain(["https_proxy=http://proxy:1\n", "BatchMode=yes"]) {
            assert!(seen.contains(text), "{url} {is_lent}: no {text} in {seen}");
        }
        for text in has_not.into_iter().chain(["se-cret"]) {
            assert!(!seen.contains(text), "{url} {is_lent}: {text} in {seen}");
        }
    }
}

#[test]
fn passwords_in_files_are_not_found() {
    let web = Web::guarded();
    let mut place = Place::new();
    environment(&mut place);
    place.options.own = vec![Address::new(web.url("app.git"))];
    place.options.ssh_auth_sock = Some("/lent-agent".into());
    place.fetch(&remote(&web.url("app.git"), Form::Add)).unwrap_err();
    // Asked for a password, git shows an empty one, of nobody.
    let shown = web.credentials();
    assert!(shown.iter().all(|shown| shown == "Basic Og=="), "{shown:?}");
}

#[test]
fn a_submodule_of_another_scheme_is_not_home() {
    let (server, web, place) = (Server::start(), Web::start(), Place::new());
    let outer = server.init("outer", &[]);
    let commit = outer.commit("first");
    outer.link("sub", &web.url("inner.git"), &commit);
    let named = format!("GIT_AUTH_TOKEN.{}", web.address);
    let result =
        place.fetch_with(&server.remote("outer"), &[(&named, "to-ken"), ("GIT_AUTH_TOKEN", "to-ken")]);
    assert!(matches!(result, Err(FetchError::Submodule { .. })), "{result:?}");
    assert_eq!(web.credentials(), Vec::<String>::new());
}

#[test]
fn a_list_of_submodules_includes_no_file_of_this_machine() {
    let (server, place) = (Server::start(), Place::new());
    let repo = server.init("app", &[]);
    let commit = repo.commit("first");
    repo.link("sub", "../app", &commit);
    let file = server.path("config");
    std::fs::write(&file, "[submodule \"sub\"]\n\turl = ../secret-of-this-machine\n").unwrap();
    repo.git(&["config", "-f", ".gitmodules", "include.path", file.to_str().unwrap()]);
    repo.git(&["add", ".gitmodules"]);
    repo.git(&["commit", "--quiet", "-m", "include"]);
    let found = place.fetch(&server.remote("app")).unwrap();
    assert!(place.files(&found).contains_key("sub"));
}
