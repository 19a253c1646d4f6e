//! What clap says of an option that there is not, made of use: its own advice to pass it as a value helps nobody, and
//! who comes from Docker is told what stands in the option's place.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Options of `docker run`, and what is there instead.
const OF_DOCKER_RUN: [(&[&str], &str); 4] = [
    (
        &["-p", "--publish", "-P", "--publish-all"],
        "the container has this machine's network: its ports are open as they are",
    ),
    (&["--name"], "a container ends with `lbuild run`, so it needs no name"),
    (
        &["-d", "--detach"],
        "`lbuild run` stays until the program ends; `&` of the shell puts it into the background",
    ),
    (&["--mount"], "`-v HOST:CONTAINER[:ro]` shows a directory or a file"),
];

/// The error with advice that helps, or with none.
pub(super) fn guide(mut error: clap::Error, is_run: bool) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => option.clone(),
        _ => return error,
    };
    error.remove(ContextKind::Suggested);
    let known = OF_DOCKER_RUN.iter().find(|(names, _)| is_run && names.contains(&option.as_str()));
    if let Some((_, advice)) = known {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(*advice)]));
    }
    error
}

#[cfg(test)]
mod tests {
    use crate::args::parse;

    #[test]
    fn advice_is_of_use() {
        for (line, says, says_not) in [
            ("run -p 80:80 app", "its ports are open", "as a value"),
            ("run --name=x app", "needs no name", "as a value"),
            ("run -d app", "background", "as a value"),
            ("inspect -p app", "unexpected argument '-p'", "tip"),
            ("build --no-cachee .", "'--no-cache'", "as a value"),
        ] {
            let words = std::iter::once("lbuild").chain(line.split(' ')).map(Into::into);
            let said = parse(words).unwrap_err().to_string();
            assert!(said.contains(says) && !said.contains(says_not), "{line}: {said}");
        }
    }

    #[test]
    fn values_are_refused_with_what_is_expected() {
        for (line, says) in [
            ("build --jobs 0 .", "expected a number from 1 on"),
            ("serve --addr :5000", "expected an address and a port"),
            ("serve --addr example.com:5000", "expected an address and a port"),
            ("serve --addr localhost", "expected an address and a port"),
        ] {
            let words = std::iter::once("lbuild").chain(line.split(' ')).map(Into::into);
            let said = parse(words).unwrap_err().to_string();
            assert!(said.contains(says), "{line}: {said}");
        }
        let words = ["lbuild", "serve", "--addr", "localhost:7"].map(Into::into);
        let crate::args::Verb::Serve(args) = parse(words).unwrap().verb else { panic!("another verb") };
        assert_eq!(args.addr.to_string(), "127.0.0.1:7");
    }
}
