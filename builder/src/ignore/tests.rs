//! The tables of patterns. A row is `lines | path | +` if the path is left out, `-` if it is kept; `,`
//! separates lines.

use super::*;

/// Runs a table; the number of its rows.
fn check(table: &str, parse: impl Fn(&str) -> Ignore) -> usize {
    let rows = table.lines().map(str::trim).filter(|row| !row.is_empty());
    rows.map(|row| {
        let [lines, path, expected] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let ignored = parse(lines).ignores(path.as_bytes());
        assert_eq!(if ignored { "+" } else { "-" }, expected, "{row}");
    })
    .count()
}

const PATTERNS: &str = r"
    foo | foo | +
    foo | foo/bar | +
    foo | foo/bar/baz | +
    foo | a/foo | -
    foo | foobar | -
    foo | Foo | -
    foo | fo | -
    foo/ | foo | +
    foo/ | foo/bar | +
    /foo | foo | +
    /foo/ | foo/bar | +
    ./foo | foo | +
    foo/. | foo | +
    foo//bar | foo/bar | +
    foo/../bar | bar | +
    foo/../bar | foo | -
    .. | foo | -
    ../foo | foo | -
    . | foo | -
    / | foo | -
    foo/bar | foo/bar | +
    foo/bar | foo | -
    foo/bar | foo/barbaz | -
    foo/bar | foo/bar/baz | +
    * | foo | +
    * | foo/bar | +
    * | .foo | +
    *.go | a.go | +
    *.go | a.gox | -
    *.go | a/b.go | -
    *.go | .go | +
    *.go | d.go/x | +
    f* | foo | +
    f* | foo/bar | +
    f* | a/foo | -
    */foo | a/foo | +
    */foo | foo | -
    */foo | a/b/foo | -
    */foo | a/foo/b | +
    */*/foo | a/b/foo | +
    */temp* | somedir/temporary.txt | +
    */temp* | somedir/temp | +
    */*/temp* | somedir/subdir/temporary.txt | +
    temp? | tempa | +
    temp? | temp | -
    temp? | tempab | -
    temp? | temp/ | -
    a?c | a/c | -
    a?c | aßc | +
    a*c | a/c | -
    a*c | abbbc | +
    a*b*c | axxbyyc | +
    ** | a | +
    ** | a/b/c | +
    ** | .hidden | +
    **/ | a | +
    **/* | a | +
    **/* | a/b | +
    **/foo | foo | +
    **/foo | a/foo | +
    **/foo | a/b/foo | +
    **/foo | afoo | -
    **/foo | a/foo/b | +
    **/foo | foo/b | +
    **/foo/bar | foo/bar | +
    **/foo/bar | a/foo/bar | +
    **/foo/bar | a/foobar | -
    **foo | foo | +
    **foo | barfoo | +
    **foo | a/xfoo | +
    **foo | foox | -
    **foo | barfoo/x | +
    **/*.go | a.go | +
    **/*.go | a/b.go | +
    **/*.go | a/b/c.go | +
    **/*.go | a/b.gox | -
    **/.git | .git | +
    **/.git | a/.git/config | +
    foo** | foo | +
    foo** | foobar | +
    foo** | foo/bar | +
    foo** | a/foo | -
    foo/** | foo | -
    foo/** | foo/bar | +
    foo/** | foo/bar/baz | +
    foo/** | foobar | -
    foo/**/bar | foo/bar | +
    foo/**/bar | foo/x/bar | +
    foo/**/bar | foo/x/y/bar | +
    foo/**/bar | foo/xbar | -
    foo/**/bar | foobar | -
    foo**bar | foobar | +
    foo**bar | foox/bar | +
    foo**bar | fooxbar | -
    foo/**/*.o | foo/a.o | +
    foo/**/*.o | foo/x/a.o | +
    a/**/b/**/c | a/b/c | +
    a/**/b/**/c | a/x/b/y/c | +
    a/**/b/**/c | a/c | -
    *** | a/b | +
    [abc] | a | +
    [abc] | d | -
    [a-c]x | bx | +
    [a-c]x | dx | -
    [^a-c]x | dx | +
    [^a-c]x | ax | -
    [!a]x | !x | +
    [!a]x | bx | -
    [\-a]x | -x | +
    [\]a]x | ]x | +
    foo[a] | fooa/b | +
    \* | * | +
    \* | a | -
    \?x | ?x | +
    a\bc | abc | +
    \#foo | #foo | +
    \!foo | !foo | +
    a.b | a.b | +
    a.b | axb | -
    a.* | a.b | +
    a+b | a+b | +
    a+* | a+b | +
    (a)* | (a)b | +
    {a}* | {a}b | +
    $a* | $ab | +
    a^b | a^b | +
    a^b* | a^bc | -
    ^a* | ab | +
    ···foo··· | foo | +
    foo·bar | foo bar | +
    foo·bar | foo | -
    #foo | #foo | -
    ·#foo | #foo | +
    !foo | foo | -
    foo,!foo | foo | -
    foo,!foo | foo/bar | -
    !foo,foo | foo | +
    foo,!foo/bar | foo/bar | -
    foo,!foo/bar | foo/baz | +
    foo,!foo/bar | foo | +
    foo,!foo/bar | foo/bar/x | -
    foo,!foo/bar,foo/bar/x | foo/bar/x | +
    foo,!foo/bar,foo/bar/x | foo/bar/y | -
    foo,!·foo/bar | foo/bar | -
    foo,!/foo/bar | foo/bar | -
    foo,!./foo/bar/ | foo/bar | -
    *,!foo | foo | -
    *,!foo | bar | +
    *,!foo | foo/x | -
    *,!*.md | a.md | -
    *,!*.md | d/a.md | +
    **,!**/*.md | d/a.md | -
    *.md,!README*.md,README-secret.md | README.md | -
    *.md,!README*.md,README-secret.md | README-secret.md | +
    *.md,README-secret.md,!README*.md | README-secret.md | -
    docs,!docs/**/*.txt | docs/a/b.txt | -
    docs,!docs/**/*.txt | docs/a/b.md | +
    **/node_modules,!keep/node_modules | keep/node_modules/x | -
    **/node_modules,!keep/node_modules | other/node_modules/x | +
    foo, | foo | +
    ,foo | foo | +
    !!foo | foo | -
    *,!!foo | !foo | -
    한* | 한국 | +
    a/../../b | b | -
";

#[test]
fn the_last_line_that_matches_decides() {
    let parse = |lines: &str| Ignore::parse(lines.replace(',', "\n").replace('·', " ").as_bytes()).unwrap();
    let rows = check(PATTERNS, parse);
    assert!(rows >= 140, "{rows} rows");
}

#[test]
fn lines_may_end_in_crlf_and_begin_with_a_mark() {
    let ignore = Ignore::parse("\u{feff}# comment\r\n\r\nfoo\r\n!foo/bar\r\n".as_bytes()).unwrap();
    assert_eq!(ignore.decide(b"foo"), Decision { ignored: true, line: Some(3) });
    assert_eq!(ignore.decide(b"foo/bar/x"), Decision { ignored: false, line: Some(4) });
    assert_eq!(ignore.decide(b"x"), Decision { ignored: false, line: None });
    assert_eq!(ignore.decide(b""), Decision { ignored: false, line: None });
    assert_eq!(Ignore::parse(b"*").unwrap().decide(b"."), Decision { ignored: false, line: None });
}

#[test]
fn bad_lines_are_named() {
    for (text, line, part) in [
        ("a\n!", 2, "must follow `!`"),
        ("a\n\n!  \n", 3, "must follow `!`"),
        ("[", 1, "never closed"),
        ("a\nb[a-", 2, "never closed"),
        ("[]a]", 1, "must be escaped"),
        ("[a-c-]x", 1, "must be escaped"),
        ("a\\", 1, "nothing follows"),
        ("*\\", 1, "nothing follows"),
    ] {
        let error = Ignore::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{text:?}");
        assert!(error.source.to_string().contains(part), "{text:?}: {}", error.source);
    }
}

#[test]
fn excluded_folders_are_entered_only_for_a_reason() {
    for (lines, folder, expected) in [
        ("foo", "foo", false),
        ("foo,!foo/bar", "foo", true),
        ("foo,!foo/bar", "foo/bar", true),
        ("foo,!foo/bar", "foo/baz", false),
        ("foo", "kept", true),
        ("*", "", true),
        ("!foo/bar,foo", "foo", false),
        ("foo,!fooo/bar", "foo", false),
        ("*,!src/*.rs", "src", true),
        ("*,!src/*.rs", "doc", false),
        ("*,!src/*.rs", "src/deep", false),
        ("*,!**/*.rs", "doc", true),
        ("*,!**rs", "doc", true),
        ("*,!src/**", "src", true),
        ("*,!src/**", "doc", false),
        ("*,!src/**/x", "src/a/b", true),
        ("*,!a?/x", "ab", true),
        ("*,!a?/x", "abc", false),
    ] {
        let ignore = Ignore::parse(lines.replace(',', "\n").as_bytes()).unwrap();
        assert_eq!(ignore.may_reinclude_below(folder.as_bytes()), expected, "{lines} {folder}");
    }
}

#[test]
fn patterns_of_exclude_keep_their_slash() {
    let table = "
        foo | foo | +
        /foo | foo | -
        foo/ | foo/x | +
        *.txt !a.txt | a.txt | -
        *.txt !a.txt | b.txt | +
        **/*.tmp | a/b.tmp | +
    ";
    assert_eq!(check(table, |patterns| Ignore::from_patterns(patterns.split(' ')).unwrap()), 6);
    assert_eq!(Ignore::from_patterns(["a", "!"]).unwrap_err().line, 2);
}

#[test]
fn paths_need_not_be_text() {
    let ignore = Ignore::parse(b"a\xff*\n?\n").unwrap();
    assert!(ignore.ignores(b"a\xffb"));
    assert!(ignore.ignores(b"\xfe"));
    assert!(!ignore.ignores(b"a\xfeb"));
}

#[test]
fn hostile_patterns_take_no_longer_than_others() {
    let pattern = "**/*a".repeat(300);
    let ignore = Ignore::parse(pattern.as_bytes()).unwrap();
    assert!(!ignore.ignores("a/".repeat(200).as_bytes()));
}
