//! What is believed of a server and of a repository, and what they get to know of the user.

use builder::remote::{FetchError, Form};

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
