//! The tables of expansions. A row is `text => result`, or `text => ! part of the error`; blanks round both
//! parts go, `·` stands for a blank that counts.

use super::*;

/// `A` is a word, `E` empty, `U` unset, the others what patterns and splitting need.
const VARIABLES: [(&str, &str); 11] = [
    ("A", "apple"),
    ("E", ""),
    ("K", "한국어"),
    ("P", "/usr/lib/x.tar.gz"),
    ("S", "two words"),
    ("D", "one.two.three"),
    ("STAR", "a*b?c\\d"),
    ("Q", "say \"hi\""),
    ("R", "$1${x}"),
    ("L", "abab"),
    ("N", "one\ntwo"),
];

fn variable(name: &str) -> Option<String> {
    VARIABLES.iter().find(|known| known.0 == name).map(|known| known.1.to_owned())
}

/// Runs a table; the number of its rows.
fn check(table: &str, expand: impl Fn(&str) -> Result<String, ExpandError>) -> usize {
    let rows = table.lines().filter(|line| !line.trim().is_empty());
    rows.map(|row| {
        let (text, expected) = row.split_once("=>").expect(row);
        let (text, expected) = (text.trim().replace('·', " "), expected.trim().replace('·', " "));
        match (expand(&text), expected.strip_prefix("! ")) {
            (Ok(value), None) => assert_eq!(value, expected, "{row}"),
            (Err(error), Some(part)) => {
                assert!(error.message.contains(part), "{row}: {error}");
                assert!(error.offset <= text.len(), "{row}");
            }
            (Ok(value), Some(_)) => panic!("{row}: gave `{value}`"),
            (Err(error), None) => panic!("{row}: failed with `{error}`"),
        }
    })
    .count()
}

fn word(text: &str, escape: char) -> Result<String, ExpandError> {
    expand_word(text, escape, &variable).map(|expanded| expanded.value)
}

const WORDS: &str = r#"
    hello => hello
    he'll'o => hello
    he'llo => ! never closed
    he\'llo => he'llo
    he\\'llo => ! never closed
    "hello" => hello
    "he'llo" => he'llo
    "hel'lo" => hel'lo
    'hello there' => hello there
    'hello there => ! never closed
    "hello there => ! never closed
    "hello\" there" => hello" there
    'hello\there' => hello\there
    'hello\' there => hello\ there
    'hello"there' => hello"there
    '$A' => $A
    '${A' => ${A
    a''b => ab
    a""b => ab
    '' =>
    "" =>
    a b => a b
    a··b => a··b
    he\llo => hello
    \h\e => he
    hello\ => hello
    "hello\" => ! never closed
    "hello\ => ! never closed
    "he\llo" => he\llo
    "he\\llo" => he\llo
    "\$A" => $A
    "\\$A" => \apple
    "\`" => \`
    "\n" => \n
    \$A => $A
    \\$A => \apple
    \\\$A => \$A
    '\$A' => \$A
    \a\b\c => abc
    \" => "
    \' => '
    ` => `
    $ => $
    a$ => a$
    $. => $.
    $.x => $.x
    "$" => $
    "$." => $.
    $/x => $/x
    $ A => $ A
    $A => apple
    ${A} => apple
    x$A => xapple
    x${A}y => xappley
    $Ay => 
    $A.y => apple.y
    $A-y => apple-y
    $A$A => appleapple
    ${A}${A} => appleapple
    "$A" => apple
    "${A}" => apple
    "x$A" => xapple
    "x '$A'" => x 'apple'
    $U =>
    x${U}y => xy
    "$U" =>
    $E =>
    x${E}y => xy
    $K => 한국어
    한국$A => 한국apple
    ${K}글 => 한국어글
    $K글 =>
    안녕'\t\n하세요' => 안녕\t\n하세요
    안녕\t하세요 => 안녕t하세요
    $S => two words
    $Q => say "hi"
    "$Q" => say "hi"
    $1 =>
    he$1x => hex
    he$.x => he$.x
    $12ab => ab
    ${12}ab => ab
    $@x => x
    $*x => x
    $#x => x
    $?x => x
    $-x => x
    $!x => x
    $$x => x
    $$ =>
    $0x => x
    ${@} =>
    ${#} =>
    $_ =>
    $_A =>
    ${A => ! missing `}`
    ${ => ! missing `}`
    ${} => ! bad substitution
    ${:} => ! bad substitution
    ${:x} => ! bad substitution
    ${{A} => ! bad substitution
    ${{A}} => ! bad substitution
    x${ => ! missing `}`
    "${A" => ! unsupported modifier
    ${A } => ! unsupported modifier
    ${A.} => ! unsupported modifier
    ${A=x} => ! unsupported modifier `=`
    ${A:=x} => ! unsupported modifier `:=`
    ${A:#x} => ! unsupported modifier `:#`
    ${A:%x} => ! unsupported modifier `:%`
    ${A^^} => ! unsupported modifier `^`
    ${A,,} => ! unsupported modifier `,`
    ${A:0:2} => ! unsupported modifier `:0`
    ${A:/a/b} => ! unsupported modifier `:/`
    ${A@Q} => ! unsupported modifier `@`
    ${A: => ! missing `}`
    ${A:- => ! missing `}`
    ${A:-x => ! missing `}`
    ${A-x => ! missing `}`
    ${A:-$ => ! missing `}`
    ${A-x} => apple
    ${A:-x} => apple
    ${E-x} =>
    ${E:-x} => x
    ${U-x} => x
    ${U:-x} => x
    ${U-} =>
    ${U:-} =>
    ${U:-a b} => a b
    ${U:-'a b'} => a b
    ${U:-"a b"} => a b
    ${U:-'a}b'} => a}b
    ${U:-a\}b} => a}b
    ${U:-a\$b} => a$b
    ${U:-$A} => apple
    ${U:-${A}} => apple
    ${U:-${E:-$A}} => apple
    ${U:-${E:-${U-deep}}} => deep
    ${U:-${A}x}y => applexy
    "${U:-x}" => x
    "${U:-'x'}" => x
    ${U:-"$A"} => apple
    ${U:-'$A'} => $A
    ${U:--x} => -x
    ${U--x} => -x
    ${U:-:-x} => :-x
    ${U:-https://x:1/y} => https://x:1/y
    ${A+x} => x
    ${A:+x} => x
    ${E+x} => x
    ${E:+x} =>
    ${U+x} =>
    ${U:+x} =>
    ${A:+} =>
    ${A:+$A/bin} => apple/bin
    ${A:+:$A} => :apple
    ${E:+:$E} =>
    ${U+$A} =>
    ${A?bad} => apple
    ${A:?bad} => apple
    ${A?} => apple
    ${E?bad} =>
    ${E:?bad} => ! E: bad
    ${E:?} => ! E: is not allowed to be empty
    ${U?bad} => ! U: bad
    ${U?} => ! U: is not allowed to be unset
    ${U:?bad} => ! U: bad
    ${U:?} => ! U: is not allowed to be unset
    ${U:?$A is missing} => ! U: apple is missing
    ${U:-${U?inner}} => ! U: inner
    ${A:-${U?inner}} => ! U: inner
    ${P#/usr} => /lib/x.tar.gz
    ${P#usr} => /usr/lib/x.tar.gz
    ${P#*/} => usr/lib/x.tar.gz
    ${P##*/} => x.tar.gz
    ${P#*} => /usr/lib/x.tar.gz
    ${P##*} =>
    ${P#} => /usr/lib/x.tar.gz
    ${P##} => /usr/lib/x.tar.gz
    ${P#?} => usr/lib/x.tar.gz
    ${P#????} => /lib/x.tar.gz
    ${P#????*} => /lib/x.tar.gz
    ${P%.gz} => /usr/lib/x.tar
    ${P%.*} => /usr/lib/x.tar
    ${P%%.*} => /usr/lib/x
    ${P%/*} => /usr/lib
    ${P%%/*} =>
    ${P%*} => /usr/lib/x.tar.gz
    ${P%%*} =>
    ${P%} => /usr/lib/x.tar.gz
    ${P%.zip} => /usr/lib/x.tar.gz
    ${P%???} => /usr/lib/x.tar
    ${K#?} => 국어
    ${K%?} => 한국
    ${K#한} => 국어
    ${D#*.} => two.three
    ${D##*.} => three
    ${D%.*} => one.two
    ${D%%.*} => one
    ${D%.t*e} => one.two
    ${D%%.t*} => one
    ${D#[o]ne} => one.two.three
    ${D#o?e} => .two.three
    ${STAR#a\*} => b?c\d
    ${STAR#a\?} => a*b?c\d
    ${STAR#a?b\?} => c\d
    ${STAR##*\\} => d
    ${STAR%\\*} => a*b?c
    ${STAR#\x} => ! bad escape `\x`
    ${STAR#x\ => ! missing `}`
    ${U#*} =>
    ${E##*} =>
    ${P#$U/usr} => /lib/x.tar.gz
    ${P#${U:-/usr}} => /lib/x.tar.gz
    ${A#"ap"} => ple
    ${A#'ap'} => ple
    ${A#$A} =>
    ${A/p/P} => aPple
    ${A//p/P} => aPPle
    ${A/x/y} => apple
    ${A//x/y} => apple
    ${A/p/} => aple
    ${A//p/} => ale
    ${A/p*/x} => ax
    ${A//?/x} => xxxxx
    ${A/*/x} => x
    ${A//*/x} => x
    ${A/a/$K} => 한국어pple
    ${A/$U/x} => xapple
    ${A//$U/-} => -a-p-p-l-e-
    ${E//*/x} => x
    ${E/x/y} =>
    ${U/x/y} =>
    ${L/ab/c} => cab
    ${L//ab/c} => cc
    ${L//b*b/c} => ac
    ${L//a/aa} => aabaab
    ${L//b?/X} => aXb
    ${D/./-} => one-two.three
    ${D//./-} => one-two-three
    ${D//\*/-} => one.two.three
    ${D//./} => onetwothree
    ${P//\//-} => -usr-lib-x.tar.gz
    ${P/\/usr/x} => x/lib/x.tar.gz
    ${STAR/\*/+} => a+b?c\d
    ${STAR/\?/+} => a*b+c\d
    ${STAR/\\/+} => a*b?c+d
    ${A//p/$R} => a$1${x}$1${x}le
    ${A/p/$R} => a$1${x}ple
    ${A/p} => ! missing `/`
    ${A/p/x => ! missing `}`
    ${A/ => ! missing `/`
    ${A/\x/y} => ! bad escape `\x`
    ${K//?/x} => xxx
    ${K/국/x} => 한x어
"#;

#[test]
fn a_word_is_expanded() {
    let rows = check(WORDS, |text| word(text, '\\'));
    assert!(rows >= 200, "{rows} rows");
}

#[test]
fn the_escape_may_be_a_backtick() {
    let table = r#"
        `$A => $A
        C:\$A => C:\apple
        C:\x\y => C:\x\y
        "C:\$A" => C:\apple
        "`$A" => $A
        "`"" => "
        "``" => `
        '`$A' => `$A
        a` => a
        ${U:-`}} => }
    "#;
    assert_eq!(check(table, |text| word(text, '`')), 10);
}

#[test]
fn words_split_after_expansion() {
    let table = r#"
        a b => a|b
        ··a···b·· => a|b
        $S => two|words
        "$S" => two words
        '$S' => $S
        x$S => xtwo|words
        "x $S" y => x two words|y
        x"$S"y => xtwo wordsy
        x\ y => x y
        $U =>
        "" =>
        a "" b => a|b
        $U$A => apple
        ${U:-a b} => a|b
        "${U:-a b}" => a b
        $A$S => appletwo|words
        $N => one|two
        80 $A 90 => 80|apple|90
        a$U b => a|b
        'a => ! never closed
    "#;
    let words = |text: &str| expand_words(text, '\\', &variable).map(|expanded| expanded.value.join("|"));
    assert_eq!(check(table, words), 20);
}

#[test]
fn bodies_of_heredocs_keep_their_quotes() {
    let table = r#"
        'a' => 'a'
        "$A" => "apple"
        '$A' => 'apple'
        it's $A => it's apple
        \$A => $A
        \\$A => \apple
        \n => n
        ${U:-'x'} => 'x'
        ${U:-"x y"} => "x y"
        a "b => a "b
    "#;
    let body = |text: &str| expand_heredoc(text, &variable).map(|expanded| expanded.value);
    assert_eq!(check(table, body), 10);
}

#[test]
fn unset_variables_are_told_once_each() {
    for (text, expected) in [
        ("$A", vec![]),
        ("$U $U ${V}", vec!["U", "V"]),
        ("${U:-$V}", vec!["V"]),
        ("${U-x} ${U:+x} ${U+x}", vec![]),
        ("${U#x} ${V/a/b}", vec!["U", "V"]),
        ("'$U' \\$U", vec![]),
        ("\"$U\"", vec!["U"]),
    ] {
        assert_eq!(expand_word(text, '\\', &variable).unwrap().unset, expected, "{text}");
    }
}

#[test]
fn an_error_names_its_place() {
    for (text, offset) in [("ab$A ${A^}", 5), ("a'b", 1), ("ab\"c", 2), ("x${A:-y", 1), ("x ${U?} ${U:?}", 2)]
    {
        assert_eq!(word(text, '\\').unwrap_err().offset, offset, "{text}");
    }
}

#[test]
fn stars_do_not_cross_lines() {
    assert_eq!(word("${N##*}", '\\').unwrap(), "\ntwo");
    assert_eq!(word("${N//?/x}", '\\').unwrap(), "xxx\nxxx");
}

#[test]
fn hostile_texts_end_in_errors_not_in_overflow() {
    let deep = "${U:-".repeat(100_000);
    assert!(word(&deep, '\\').unwrap_err().message.contains("inside each other"));
    let many = |_: &str| Some("x".repeat(1 << 20));
    let error = expand_word(&"$A".repeat(64), '\\', &many).unwrap_err();
    assert!(error.message.contains("more than"), "{error}");
    let long = format!("${{V//*a*a*a*a*a*a*b/{}}}", "r".repeat(100));
    let value = |_: &str| Some("a".repeat(20_000));
    assert_eq!(expand_word(&long, '\\', &value).unwrap().value.len(), 20_000);
}

#[test]
fn heredoc_words_keep_what_is_not_known() {
    assert_eq!(
        raw_words(r#"cat <<"E" '<<F' $x ${y:-z} a\ b"#).unwrap(),
        ["cat", r#"<<"E""#, "'<<F'", "$x", "${y:-z}", r"a\ b"]
    );
    assert_eq!(unquoted_words(r#""E"'F'\G$x"#).unwrap(), ["EFG$x"]);
}
