//! How long the language takes: a Dockerfile of a megabyte in each shape that could hurt, words to expand,
//! patterns to match. `cargo bench --bench parse` prints the best of a few rounds in milliseconds; nothing is
//! asserted, the promise is a Dockerfile of a megabyte within 100 ms.
#![allow(clippy::print_stdout, reason = "a bench tells its figures")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use builder::dockerfile::expand::{expand_heredoc, expand_word};
use builder::dockerfile::parse;
use builder::ignore::Ignore;

const MEGABYTE: usize = 1 << 20;
const ROUNDS: usize = 5;

fn main() {
    println!("{:<44} {:>8} {:>10}", "a Dockerfile of", "bytes", "ms");
    for (name, text) in dockerfiles() {
        report(name, text.len(), || drop(black_box(parse(&text))));
    }
    println!("\n{:<44} {:>8} {:>10}", "a text to expand of", "bytes", "ms");
    for (name, text) in texts() {
        report(name, text.len(), || {
            drop(black_box(expand_word(&text, '\\', &variable)));
            drop(black_box(expand_heredoc(&text, &variable)));
        });
    }
    println!("\n{:<44} {:>8} {:>10}", "an ignore file of, 10 000 paths", "bytes", "ms");
    let paths: Vec<String> =
        (0..10_000).map(|n| format!("src/module{}/part{n}/file{n}.rs", n % 100)).collect();
    for (name, text) in ignore_files() {
        let ignore = Ignore::parse(text.as_bytes()).expect("patterns");
        report(name, text.len(), || {
            let ignored = paths.iter().filter(|path| ignore.ignores(path.as_bytes())).count();
            black_box(ignored);
        });
    }
}

fn report(name: &str, bytes: usize, mut work: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed());
    }
    println!("{name:<44} {bytes:>8} {:>10.1}", best.as_secs_f64() * 1000.0);
}

/// `head`, then pieces until a megabyte is full.
fn filled(head: &str, piece: impl Fn(usize) -> String) -> String {
    let mut text = head.to_owned();
    let mut number = 0;
    while text.len() < MEGABYTE {
        text.push_str(&piece(number));
        number += 1;
    }
    text
}

fn dockerfiles() -> Vec<(&'static str, String)> {
    let from = "FROM scratch\n";
    let mut one_line_of_heredocs = from.to_owned() + "COPY ";
    let names: Vec<String> = (0..60_000).map(|n| format!("n{n}")).collect();
    for (number, name) in names.iter().enumerate() {
        let _ = write!(one_line_of_heredocs, "<<{name} {}", if number % 1_000 == 0 { "\\\n" } else { "" });
    }
    one_line_of_heredocs.push_str("/x/\n");
    names.iter().for_each(|name| one_line_of_heredocs.extend([name, "\n"]));
    vec![
        (
            "ordinary lines",
            filled(from, |n| format!("# step {n}\nRUN apt-get install -y pack{n} && rm -rf /x\n")),
        ),
        ("long lines", filled(from, |_| format!("RUN echo {}\n", "a b ".repeat(16_000)))),
        ("long lines of letters beyond ASCII", filled(from, |_| format!("ENV {}\n", "ä=ö ".repeat(10_000)))),
        ("many ENV", filled(from, |n| format!("ENV KEY{n}=\"${{KEY}} x\" B=$A\n"))),
        ("one ENV of many pairs", filled(&format!("{from}ENV \\\n"), |n| format!(" K{n}=v{n} \\\n"))),
        ("one ARG of many names", filled(&format!("{from}ARG \\\n"), |n| format!(" K{n}=v{n} \\\n"))),
        ("tiny heredocs", filled(from, |_| "RUN <<E\nx\nE\n".to_owned())),
        ("one COPY of many heredocs", one_line_of_heredocs),
        ("one heredoc", filled(&format!("{from}RUN <<E\n"), |n| format!("echo {n}\n")) + "E\n"),
        ("one heredoc that is never closed", filled(&format!("{from}RUN <<E\n"), |n| format!("echo {n}\n"))),
        ("one RUN of short continuations", filled(&format!("{from}RUN true"), |_| " \\\n a".to_owned())),
        (
            "one RUN of long continuations",
            filled(&format!("{from}RUN true"), |_| format!(" \\\n {}", "a".repeat(60_000))),
        ),
        ("one line of a megabyte", from.to_owned() + "RUN " + &"a b ".repeat(MEGABYTE / 4)),
        ("comments", filled(from, |n| format!("# comment {n}\n"))),
        (
            "comments inside an instruction",
            filled(&format!("{from}RUN a \\\n"), |n| format!("# comment {n}\n")),
        ),
        ("empty continuations", filled(from, |_| "RUN a \\\n\n b\n".to_owned())),
        (
            "mounts",
            filled(&format!("{from}RUN "), |n| {
                format!(
                    "--mount=type=cache,target=/c{n},sharing=locked{}",
                    if n % 1_000 == 0 { " \\\n" } else { " " }
                )
            }) + " x\n",
        ),
        ("JSON", filled(&format!("{from}CMD [\"a\""), |n| format!(", \"\\u00e9{n}\"")) + "]\n"),
        ("brackets", from.to_owned() + "CMD " + &"[".repeat(MEGABYTE)),
        ("copied paths", filled(&format!("{from}COPY "), |n| format!("path/to/{n} ")) + "/x/\n"),
        ("stages", filled("", |n| format!("FROM scratch AS s{n}\n"))),
        ("nested ONBUILD", from.to_owned() + &"ONBUILD ".repeat(MEGABYTE / 8) + "RUN x\n"),
        ("unknown instructions", filled(from, |_| "RUNN x\n".to_owned())),
        ("unknown flags", filled(&format!("{from}COPY "), |n| format!("--frm{n}=x ")) + "a b\n"),
    ]
}

fn variable(name: &str) -> Option<String> {
    match name {
        "SET" => Some("value".to_owned()),
        "LONG" => Some("ab".repeat(500)),
        _ => None,
    }
}

fn texts() -> Vec<(&'static str, String)> {
    vec![
        ("letters", filled("", |_| "letters ".to_owned())),
        ("variables that are set", filled("", |_| "$SET ".to_owned())),
        ("variables that are not set", filled("", |n| format!("$UNSET{n} "))),
        ("defaults", filled("", |_| "${UNSET:-${SET:+x}} ".to_owned())),
        ("quotes", filled("", |_| "\"a $SET\" 'b' ".to_owned())),
        ("defaults inside each other", "${A:-".repeat(MEGABYTE / 5)),
        ("defaults, 100 deep", filled("", |_| "${A:-".repeat(100) + &"x".repeat(1_000) + &"}".repeat(100))),
        ("replacements", filled("", |_| "${LONG//a*b?a/x} ".to_owned())),
        ("a pattern of many stars", format!("${{LONG##{}}}", "*a".repeat(20_000))),
    ]
}

fn ignore_files() -> Vec<(&'static str, String)> {
    let lines = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    vec![
        ("20 names", lines(20, &|n| format!("folder{n}\n"))),
        ("20 names at any depth", lines(20, &|n| format!("**/folder{n}\n"))),
        ("20 wildcards", lines(20, &|n| format!("*/mod*{n}/**/*.o\n"))),
        ("1 000 names", lines(1_000, &|n| format!("folder{n}\n"))),
        ("`**/` 1 000 times", "**/".repeat(1_000) + "x"),
        ("`*a` 200 times", "*a".repeat(200)),
    ]
}
