//! Requests that are written by hand, for tests of servers: nothing of this crate's client, nor of its server, vouches
//! for what is sent and what comes back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// What a server answers.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names and values, as they came.
    pub headers: Vec<(String, String)>,
    /// The body, as long as it is said to be.
    pub body: Vec<u8>,
}

/// Sends one request on a connection of its own. The body has its length in the head, unless `headers` say that it comes
/// in chunks.
#[track_caller]
pub fn ask(host: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(host).expect("the registry");
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !headers.iter().any(|(name, _)| *name == "transfer-encoding") {
        head += &format!("content-length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).expect("a request");
    stream.write_all(body).expect("its body");
    Answer::read(stream, method == "HEAD")
}

impl Answer {
    /// Reads one answer; one to HEAD has no body.
    #[track_caller]
    pub fn read(stream: impl Read, is_head: bool) -> Answer {
        let mut stream = BufReader::new(stream);
        let mut lines = std::iter::from_fn(|| {
            let mut line = String::new();
            stream.read_line(&mut line).expect("an answer");
            Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())
        });
        let status = lines.next().expect("an answer").split(' ').nth(1).expect("a status").parse();
        let pair =
            |line: String| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = lines.filter_map(pair).collect();
        let mut answer = Answer { status: status.expect("a status"), headers, body: Vec::new() };
        if let Some(length) = answer.header("content-length").filter(|_| !is_head) {
            answer.body = vec![0; length.parse().expect("a length")];
            stream.read_exact(&mut answer.body).expect("a body");
        }
        answer
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header that must be there.
    #[track_caller]
    pub fn must(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("`{name}` in {:?}", self.headers))
    }

    /// The body as JSON, which it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The specification's code of a refusal.
    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().expect("a code").to_owned()
    }

    /// The same, if it has this status, as it must.
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }

    /// A refusal has a body of the specification's form, with one of its codes. ("Error Codes".)
    #[track_caller]
    pub fn refuses(self, status: u16, code: &str) -> Answer {
        let answer = self.is(status);
        assert_eq!(answer.must("content-type"), "application/json");
        let error = &answer.json()["errors"][0];
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].is_string(), "{error}");
        answer
    }
}
