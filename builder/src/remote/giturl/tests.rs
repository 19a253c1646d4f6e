//! Addresses of repositories: what each text means, as a source of `ADD` and as a context.

use super::super::{HttpForm, Remote, is_remote, parse as parse_remote};
use super::*;

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

/// A repository, as text: address, reference, subdirectory, and what else is not as usual.
fn shown(source: &GitSource) -> String {
    let mut shown = format!("git {}", source.remote.wire());
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            shown.push_str(&format!(" {name}={value}"));
        }
    };
    add("ref", source.reference.clone());
    add("subdir", source.subdir.as_ref().map(|path| path.display().to_string()));
    add("checksum", source.checksum.clone());
    add("keep", source.keep_git_dir.map(|keep| keep.to_string()));
    add("submodules", (!source.submodules).then(|| "false".to_owned()));
    add("mtime", source.mtime.map(|mtime| format!("{mtime:?}")));
    add("by-commit", source.fetch_by_commit.then(|| "true".to_owned()));
    shown
}

fn read(text: &str, form: Form) -> String {
    match parse_remote(text, form) {
        Ok(Some(Remote::Git(source))) => shown(&source),
        Ok(Some(Remote::Http(source))) => {
            let expected = if form == Form::Add { HttpForm::File } else { HttpForm::Context };
            assert_eq!(source.form, expected);
            "http".to_owned()
        }
        Ok(None) => "local".to_owned(),
        Err(error) => format!("error {error}"),
    }
}

/// A text, and what it is as a source of `ADD`.
const TEXTS: &[(&str, &str)] = &[
    // Which is which.
    ("https://h/a.git", "git https://h/a.git"),
    ("http://h/a.git", "git http://h/a.git"),
    ("HTTPS://h/a.git", "git HTTPS://h/a.git"),
    ("https://h/a", "http"),
    ("https://h/a.git/", "http"),
    ("https://h/a.gitx", "http"),
    ("https://h/a?b=.git", "http"),
    ("https://h/a#b.git", "http"),
    ("https://h/.git", "git https://h/.git"),
    ("https://h", "http"),
    ("http://h/a.tar.gz", "http"),
    ("git://h/a", "git git://h/a"),
    ("git://h/a.git", "git git://h/a.git"),
    ("git://h:9418/a", "git git://h:9418/a"),
    ("ssh://h/a", "git ssh://h/a"),
    ("ssh://git@h:22/a.git", "git ssh://git@h:22/a.git"),
    ("git@h:a/b.git", "git git@h:a/b.git"),
    ("git@h:a/b", "git git@h:a/b"),
    ("other-user_1@h.example:a", "git other-user_1@h.example:a"),
    ("git@h:/abs/b.git", "git git@h:/abs/b.git"),
    ("github.com/a/b", "local"),
    ("github.com/a/b.git", "local"),
    ("./https://h/a.git", "local"),
    ("../git@h:a", "local"),
    ("/git@h:a", "local"),
    ("a/b.git", "local"),
    ("a@b", "local"),
    ("h:a/b.git", "local"),
    ("a b@h:c", "local"),
    ("@h:c", "local"),
    ("-git@h:c", "local"),
    ("git@-h:c", "local"),
    ("git@h:-c", "local"),
    ("git@h:", "local"),
    ("", "local"),
    (".", "local"),
    ("://h/a.git", "local"),
    ("a/b://h", "local"),
    ("https:/h/a.git", "local"),
    // Fragments.
    ("https://h/a.git#", "git https://h/a.git"),
    ("https://h/a.git#main", "git https://h/a.git ref=main"),
    ("https://h/a.git#main:", "git https://h/a.git ref=main"),
    ("https://h/a.git#main:dir", "git https://h/a.git ref=main subdir=dir"),
    ("https://h/a.git#:dir/x", "git https://h/a.git subdir=dir/x"),
    ("https://h/a.git#:/dir/./x/", "git https://h/a.git subdir=dir/x"),
    ("https://h/a.git#main:/", "git https://h/a.git ref=main"),
    ("https://h/a.git#main:a:b", "git https://h/a.git ref=main subdir=a:b"),
    ("https://h/a.git#refs/heads/x/y", "git https://h/a.git ref=refs/heads/x/y"),
    ("https://h/a.git#x%2Fy:d%20e", "git https://h/a.git ref=x/y subdir=d e"),
    ("https://h/a.git#v1.0-rc+1", "git https://h/a.git ref=v1.0-rc+1"),
    ("https://h/a.git#@x", "git https://h/a.git ref=@x"),
    ("https://h/a.git#0123abc", "git https://h/a.git ref=0123abc"),
    ("git@h:a#main:d", "git git@h:a ref=main subdir=d"),
    ("git@h:a/b.git#", "git git@h:a/b.git"),
    ("ssh://h/a#main", "git ssh://h/a ref=main"),
    // Queries.
    ("https://h/a.git?", "git https://h/a.git"),
    ("https://h/a.git?ref=x", "git https://h/a.git ref=x"),
    ("https://h/a.git?ref=pull/1/head", "git https://h/a.git ref=pull/1/head"),
    ("https://h/a.git?tag=v1", "git https://h/a.git ref=refs/tags/v1"),
    ("https://h/a.git?tag=refs/tags/v1", "git https://h/a.git ref=refs/tags/v1"),
    ("https://h/a.git?branch=x", "git https://h/a.git ref=refs/heads/x"),
    ("https://h/a.git?branch=refs/heads/x", "git https://h/a.git ref=refs/heads/x"),
    ("https://h/a.git?branch=x&ref=refs/heads/x", "git https://h/a.git ref=refs/heads/x"),
    ("https://h/a.git?subdir=d", "git https://h/a.git subdir=d"),
    ("https://h/a.git?subdir=d#main", "git https://h/a.git ref=main subdir=d"),
    ("https://h/a.git?subdir=d#main:/d", "git https://h/a.git ref=main subdir=d"),
    ("https://h/a.git?ref=x#x", "git https://h/a.git ref=x"),
    ("https://h/a.git?commit=ABCDEF1", "git https://h/a.git ref=abcdef1 checksum=abcdef1"),
    ("https://h/a.git?checksum=abcd&commit=abcd", "git https://h/a.git ref=abcd checksum=abcd"),
    ("https://h/a.git?checksum=abcd#main", "git https://h/a.git ref=main checksum=abcd"),
    ("https://h/a.git?keep-git-dir", "git https://h/a.git keep=true"),
    ("https://h/a.git?keep-git-dir=0", "git https://h/a.git keep=false"),
    ("https://h/a.git?submodules", "git https://h/a.git"),
    ("https://h/a.git?submodules=F", "git https://h/a.git submodules=false"),
    ("https://h/a.git?mtime=commit", "git https://h/a.git mtime=Commit"),
    ("https://h/a.git?mtime=checkout", "git https://h/a.git mtime=Checkout"),
    ("https://h/a.git?fetch-by-commit=false", "git https://h/a.git"),
    ("https://h/a.git?ref=a%2Bb", "git https://h/a.git ref=a+b"),
    ("https://h/a.git?&ref=x&", "git https://h/a.git ref=x"),
    ("git@h:a?ref=x#x:d", "git git@h:a ref=x subdir=d"),
    ("git://h/a?tag=v1", "git git://h/a ref=refs/tags/v1"),
    // Credentials.
    ("https://user:secret@h/a.git", "git https://user:secret@h/a.git"),
    ("https://user:se@cret@h:1/a.git", "git https://user:se@cret@h:1/a.git"),
];

#[test]
fn texts_name_repositories_files_or_paths() {
    for (text, expected) in TEXTS {
        assert_eq!(read(text, Form::Add), *expected, "{text}");
        assert_eq!(is_remote(text, Form::Add), *expected != "local", "{text}");
    }
    let by_commit = format!("https://h/a.git?fetch-by-commit&commit={HASH}#main");
    let expected = format!("git https://h/a.git ref=main checksum={HASH} by-commit=true");
    assert_eq!(read(&by_commit, Form::Add), expected);
}

#[test]
fn a_context_may_leave_out_githubs_scheme() {
    for (text, expected) in [
        ("github.com/a/b", "git https://github.com/a/b"),
        ("github.com/a/b.git#x:d", "git https://github.com/a/b.git ref=x subdir=d"),
        ("github.com/a/b?tag=v1", "git https://github.com/a/b ref=refs/tags/v1"),
        ("github.com", "local"),
        ("github.commerce/a", "local"),
        ("./github.com/a/b", "local"),
        ("https://h/a", "http"),
        ("git@h:a", "git git@h:a"),
        ("dir", "local"),
    ] {
        assert_eq!(read(text, Form::Context), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("ftp://h/a", "nothing is fetched by `ftp`, as `ftp://h/a` wants"),
        ("file:///a.git", "nothing is fetched by `file`"),
        ("ext://h/a.git", "nothing is fetched by `ext`"),
        ("ssh://h", "`ssh://h` is no address: expected a path"),
        ("ssh://-oProxyCommand=x/a", "no part of it may begin with `-`"),
        ("ssh://-l@h/a", "no part of it may begin with `-`"),
        ("ssh://user:pass@h/a", "as the user, and no password"),
        ("ssh://%2doProxyCommand=x@h/a", "as the user, and no password"),
        ("ssh://a%40b@h/a", "as the user, and no password"),
        ("ssh://a@b@h/a", "as the user, and no password"),
        ("ssh://$(id)@h/a", "as the user, and no password"),
        ("ssh://@h/a", "as the user, and no password"),
        ("git://user:pass@h/a", "as the user, and no password"),
        ("ssh://u@h%2d/a", "expected a host name"),
        ("ssh://u@[-oProxyCommand]/a", "expected a host name"),
        ("ssh://u@a:b:22/a", "expected a host name"),
        ("ssh://h:+22/a", "expected a port"),
        ("git://h/-x", "no part of it may begin with `-`"),
        ("https:///a.git", "expected a host name"),
        ("https://h:x/a.git", "expected a port"),
        ("https://h:70000/a.git", "expected a port"),
        ("https://h$(id)/a.git", "expected a host name"),
        ("https://h/a b.git", "a space or a control character"),
        ("git://h/a\nb", "a space or a control character"),
        ("https://h/a.git#-x", "`-x` cannot be a reference"),
        ("https://h/a.git#a..b", "`a..b` cannot be a reference"),
        ("https://h/a.git#a b", "cannot be a reference"),
        ("https://h/a.git#a*", "cannot be a reference"),
        ("https://h/a.git#a^{}", "cannot be a reference"),
        ("https://h/a.git#a@{1}", "cannot be a reference"),
        ("https://h/a.git#/a", "cannot be a reference"),
        ("https://h/a.git#a.lock", "cannot be a reference"),
        ("https://h/a.git#@", "cannot be a reference"),
        ("https://h/a.git#%0a", "cannot be a reference"),
        ("https://h/a.git#%zz", "`%zz` does not decode"),
        ("https://h/a.git#%f", "`%f` does not decode"),
        ("https://h/a.git#%ff", "`%ff` does not decode"),
        ("https://h/a.git#main:..", "the subdirectory `..` may leave"),
        ("https://h/a.git#main:a/../../b", "may leave the repository"),
        ("https://h/a.git?subdir=%2e%2e/x", "may leave the repository"),
        ("https://h/a.git#:a%00b", "may leave the repository"),
        ("https://h/a.git?refs=x", "`refs` means nothing"),
        ("https://h/a.git?x", "`x` means nothing"),
        ("https://h/a.git?ref", "`ref` of the query cannot be ``: expected a value"),
        ("https://h/a.git?tag=", "`tag` of the query cannot be ``"),
        ("https://h/a.git?ref=x&ref=x", "`ref` stands twice"),
        ("https://h/a.git?ref=x#y", "two values for ref: `y` and `x`"),
        ("https://h/a.git?tag=x&branch=x", "two values for tag and branch"),
        ("https://h/a.git?tag=x&ref=x", "two values for ref: `x` and `refs/tags/x`"),
        ("https://h/a.git?subdir=a#:b", "two values for subdir: `b` and `a`"),
        ("https://h/a.git?checksum=abcd&commit=abce", "two values for checksum"),
        ("https://h/a.git?checksum=abc", "`abc` is no checksum"),
        ("https://h/a.git?checksum=main", "`main` is no checksum"),
        ("https://h/a.git?submodules=maybe", "`submodules` of the query cannot be `maybe`"),
        ("https://h/a.git?mtime=now", "expected `checkout` or `commit`"),
        ("https://h/a.git?fetch-by-commit", "the commit in `checksum`"),
        ("https://h/a.git?fetch-by-commit&commit=abcd", "all digits of the commit"),
        ("git@h:a#a:..", "may leave the repository"),
    ] {
        let found = read(text, Form::Add);
        assert!(found.starts_with("error ") && found.contains(expected), "{text}: {found}");
        assert!(is_remote(text, Form::Add), "{text}");
    }
}

#[test]
fn a_checksum_goes_with_the_address_or_against_it() {
    let git = |text: &str| parse_remote(text, Form::Add).unwrap().unwrap();
    let shown_with = |text: &str, checksum: &str| match git(text).with_checksum(checksum) {
        Ok(Remote::Git(source)) => shown(&source),
        Ok(Remote::Http(source)) => format!("http {}", source.checksum.unwrap()),
        Err(error) => format!("error {error}"),
    };
    let sha256 = format!("sha256:{}", "0".repeat(64));
    for (text, checksum, expected) in [
        ("https://h/a.git", "ABCD", "git https://h/a.git checksum=abcd"),
        ("https://h/a.git?checksum=abcd#x", "abcd", "git https://h/a.git ref=x checksum=abcd"),
        ("https://h/a.git?checksum=abcd", "abce", "error two values for checksum: `abcd` and `abce`"),
        ("https://h/a.git", "sha256:0", "error `sha256:0` is no checksum: expected 4 to 64"),
        ("https://h/a", &sha256, "http sha256:0000"),
        ("https://h/a", "abcd", "error `abcd` is no checksum: expected `sha256:`"),
        ("https://h/a", "sha512:00", "error `sha512:00` is no checksum"),
    ] {
        let found = shown_with(text, checksum);
        assert!(found.starts_with(expected), "{text}: {found}");
    }
    let kept = |text: &str, keep| match git(text).with_keep_git_dir(keep) {
        Remote::Git(source) => source.keep_git_dir,
        Remote::Http(_) => panic!("{text}"),
    };
    assert_eq!(kept("https://h/a.git", true), Some(true));
    assert_eq!(kept("https://h/a.git", false), None);
    assert_eq!(kept("https://h/a.git?keep-git-dir", false), Some(true));
}

#[test]
fn nothing_shows_a_password() {
    for (text, expected) in [
        ("https://user:secret@h/a.git?tag=secret", "https://h/a.git"),
        ("https://user:secret@h:1/a?secret#secret", "https://h:1/a"),
        ("ssh://user@h/a", "ssh://h/a"),
        ("git@h:a/b", "git@h:a/b"),
    ] {
        let remote = parse_remote(text, Form::Add).unwrap().unwrap();
        assert_eq!(remote.to_string(), expected);
        let debug = format!("{remote:?}").replace("refs/tags/secret", "");
        assert!(!debug.contains("secret"), "{debug}");
    }
    for text in [
        "ftp://u:secret@h/a",
        "ssh://u:secret@h/a",
        "https://u:secret@h:x/a.git",
        "https://u:secret@h/a b.git",
    ] {
        let error = parse_remote(text, Form::Add).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

/// Every beginning and every single deletion of long texts: no panic, and never a wrong kind of text.
#[test]
fn no_text_is_too_strange() {
    let texts = [
        format!("https://u:p@h:1/a.git?ref=x&commit={HASH}&subdir=%C3%BC&mtime=commit#x:/%F0%9F%A6%80/y"),
        "git@h-1.x:ä/ö.git?tag=%00#ü:€".to_owned(),
        "ssh://[::1]:22/~u/a#@{:%".to_owned(),
    ];
    for text in &texts {
        for at in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
            let rest = text[at..].chars().next().map_or(0, char::len_utf8);
            for text in [text[..at].to_owned(), format!("{}{}", &text[..at], &text[at + rest..])] {
                for form in [Form::Add, Form::Context] {
                    if let Ok(Some(Remote::Git(source))) = parse_remote(&text, form) {
                        let subdir = source.subdir.unwrap_or_default();
                        assert!(subdir.components().all(|part| matches!(part, Component::Normal(_))));
                        assert!(
                            source.reference.is_none_or(|name| !name.is_empty() && !name.starts_with('-'))
                        );
                    }
                }
            }
        }
    }
}
