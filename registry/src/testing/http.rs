//! HTTP/1.1 from the server's side, as much as the test registry needs: `Content-Length` bodies, keep-alive,
//! `Expect`. Nothing here knows registries.

use std::io::{self, BufRead, BufReader, Read, Write};

const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// A request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A query parameter, with its percent-encoding undone.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        self.queries(name).into_iter().next()
    }

    /// Every value of a query parameter.
    pub(crate) fn queries(&self, name: &str) -> Vec<String> {
        pairs(self.target.split_once('?').map_or("", |(_, query)| query), name)
    }

    pub(crate) fn length(&self) -> usize {
        self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// The values of `name` in `a=b&c=d`.
pub(crate) fn pairs(form: &str, name: &str) -> Vec<String> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }
}

/// One connection.
pub(crate) struct Wire<S: Read + Write> {
    stream: BufReader<S>,
}

impl<S: Read + Write> Wire<S> {
    pub(crate) fn new(stream: S) -> Wire<S> {
        Wire { stream: BufReader::new(stream) }
    }

    /// The next request's head; `None` at the connection's end.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        let mut lines = Vec::new();
        let mut limited = (&mut self.stream).take(MAX_HEAD_BYTES);
        loop {
            let mut line = Vec::new();
            if limited.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            let line = String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData)?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut words = lines.first().ok_or(io::ErrorKind::InvalidData)?.split(' ').map(str::to_owned);
        let (Some(method), Some(target), Some(_)) = (words.next(), words.next(), words.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let header = |line: &String| {
            line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Ok(Some(Head { method, target, headers: lines[1..].iter().filter_map(header).collect() }))
    }

    /// Reads `length` bytes of a body.
    pub(crate) fn body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Tells a client that asked first to send its body.
    pub(crate) fn go_on(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        self.stream.get_mut().flush()
    }

    /// Sends an answer; `shown` of its body's bytes, each `piece` bytes flushed by themselves.
    pub(crate) fn reply(
        &mut self,
        reply: &Reply,
        is_head: bool,
        shown: usize,
        piece: usize,
    ) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} -\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length =
            reply.headers.iter().any(|(name, _)| name == "content-length" || name == "connection");
        if !has_length && reply.status != 204 {
            head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
        }
        head.push_str("\r\n");
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        if !is_head {
            for piece in reply.body[..shown.min(reply.body.len())].chunks(piece) {
                stream.write_all(piece)?;
                stream.flush()?;
            }
        }
        stream.flush()
    }
}
