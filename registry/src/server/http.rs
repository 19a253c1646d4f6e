//! HTTP/1.1 from the server's side: heads, bodies with a length or in chunks, `Expect`, keep-alive. Nothing here
//! knows registries.
//!
//! Order on a connection: a head, the body as far as the handler reads it, the rest of the body, the answer, the
//! next head. What does not parse is answered once and ends the connection.
//!
//! Invariants: a head has a size and a time in which it must be whole; a body has one meaning, so that nobody can hide
//! a request in it (RFC 9112, 6.3); what a handler leaves of a body is read up to a limit, or the connection ends.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::time::Instant;

use super::Limits;

/// What a handler left of a body is read to its end if it is no longer than this, so that the answer arrives.
const MAX_DRAIN_BYTES: u64 = 64 * 1024 * 1024;
/// The size of a chunk is a number and perhaps extensions.
const MAX_CHUNK_LINE_BYTES: u64 = 4 * 1024;

/// A request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Whether the client would like to go on with this connection.
    keeps: bool,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The path, with its percent-encoding.
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

    /// The host that the client believes to speak with; nothing if it says nothing.
    ///
    /// # Errors
    /// When it names several.
    pub(crate) fn host(&self) -> Result<&str, ()> {
        let mut hosts = self.headers.iter().filter(|(key, _)| key == "host").map(|(_, value)| value.as_str());
        let first = hosts.next().unwrap_or_default();
        if hosts.next().is_some() { Err(()) } else { Ok(first) }
    }

    /// How the body ends; `None` where two headers contradict each other or neither is understood.
    fn framing(&self) -> Option<Framing> {
        let values = |name: &'static str| -> Vec<&str> {
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
        };
        match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
            ([], []) => Some(Framing::Length(0)),
            ([length], []) if length.bytes().all(|digit| digit.is_ascii_digit()) => {
                length.parse().ok().map(Framing::Length)
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => {
                Some(Framing::Chunked { left: 0, is_first: true })
            }
            _ => None,
        }
    }
}

/// The values of `name` in `a=b&c=d`.
pub(crate) fn pairs(form: &str, name: &str) -> Vec<String> {
    let pairs = form.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let plus = |value: &str| value.replace('+', " ");
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(&plus(value))).collect()
}

/// Undoes percent-encoding; what is no UTF-8 then is no name of anything here.
pub(crate) fn decode(text: &str) -> String {
    String::from_utf8_lossy(&crate::download::decode(text)).into_owned()
}

/// A request, whose body comes as it is read.
pub(crate) struct Request<'a> {
    pub(crate) head: Head,
    pub(crate) body: &'a mut dyn Read,
}

/// What comes of a request.
#[allow(clippy::large_enum_variant, reason = "it is moved once")]
pub(crate) enum Outcome {
    Reply(Reply),
    /// The connection ends without an answer.
    Close,
}

/// An answer.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Content,
    pub(crate) delivery: Delivery,
}

/// Bytes to be sent: a blob of a storage, or whatever else is the body of an answer.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// A file, open where they begin, and their number.
    File(File, u64),
}

impl Default for Content {
    fn default() -> Content {
        Content::Bytes(Vec::new())
    }
}

impl Content {
    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, length) => *length,
        }
    }

    /// The bytes from `start` on, `length` of them.
    pub(crate) fn part(self, start: u64, length: u64) -> io::Result<Content> {
        Ok(match self {
            Content::Bytes(bytes) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Content::Bytes(bytes[place(start)..place(start.saturating_add(length))].to_vec())
            }
            Content::File(mut file, _) => {
                file.seek(SeekFrom::Start(start))?;
                Content::File(file, length)
            }
        })
    }

    /// The bytes, in memory.
    #[cfg(feature = "testing")]
    pub(crate) fn bytes(&mut self) -> io::Result<&mut Vec<u8>> {
        if let Content::File(file, length) = self {
            let mut bytes = Vec::new();
            file.take(*length).read_to_end(&mut bytes)?;
            *self = Content::Bytes(bytes);
        }
        match self {
            Content::Bytes(bytes) => Ok(bytes),
            Content::File(..) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// How an answer's body is sent. The default is whole and at once; tests want otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    /// How many bytes of it, after which the connection ends.
    pub(crate) shown: usize,
    /// How many at once.
    pub(crate) piece: usize,
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery { shown: usize::MAX, piece: usize::MAX }
    }
}

impl Reply {
    pub(crate) fn new(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    /// With a header, in place of one of that name.
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = Content::Bytes(body.into());
        self
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(key, _)| key == name)
    }
}

/// How the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With a chunk of no bytes; `left` of the present one are still to come.
    Chunked { left: u64, is_first: bool },
    /// It has ended.
    Done,
}

/// Why there is no head.
pub(crate) enum NoHead {
    /// The connection ended, or broke.
    End,
    /// What came is not HTTP, or too much of it: the status to say so with.
    Malformed(u16),
}

/// One connection.
pub(crate) struct Wire<S: Read + Write> {
    stream: BufReader<S>,
    limits: Limits,
}

impl<S: Read + Write> Wire<S> {
    pub(crate) fn new(stream: S, limits: Limits) -> Wire<S> {
        Wire { stream: BufReader::with_capacity(64 * 1024, stream), limits }
    }

    /// The next request's head.
    pub(crate) fn head(&mut self) -> Result<Head, NoHead> {
        // Between two requests a client may be silent; within a head it may not.
        if self.stream.fill_buf().map_err(|_| NoHead::End)?.is_empty() {
            return Err(NoHead::End);
        }
        let deadline = Instant::now() + self.limits.head_time;
        let mut left = self.limits.head_bytes;
        let mut first = self.line(&mut left, 400, Some(deadline))?;
        if first.is_empty() {
            first = self.line(&mut left, 400, Some(deadline))?;
        }
        let mut head = parse_request_line(&first).ok_or(NoHead::Malformed(400))?;
        loop {
            let line = self.line(&mut left, 431, Some(deadline))?;
            if line.is_empty() {
                break;
            }
            head.headers.push(parse_header(&line).ok_or(NoHead::Malformed(400))?);
        }
        let connection = head.header("connection").unwrap_or_default().to_ascii_lowercase();
        head.keeps = head.keeps && !connection.split(',').any(|option| option.trim() == "close");
        Ok(head)
    }

    /// One line without its end, CR LF or LF alone. (RFC 9112, 2.2.)
    fn line(&mut self, left: &mut u64, too_long: u16, deadline: Option<Instant>) -> Result<String, NoHead> {
        let mut line = self.bytes_of_line(left, too_long, deadline)?;
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|_| NoHead::Malformed(400))
    }

    /// One line up to its LF.
    fn bytes_of_line(
        &mut self,
        left: &mut u64,
        too_long: u16,
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>, NoHead> {
        let mut line = Vec::new();
        loop {
            let buffer = self.stream.fill_buf().map_err(|_| NoHead::End)?;
            if buffer.is_empty() {
                return Err(NoHead::End);
            }
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(buffer.len(), |at| at + 1);
            line.extend_from_slice(&buffer[..taken]);
            self.stream.consume(taken);
            *left = left.checked_sub(taken as u64).ok_or(NoHead::Malformed(too_long))?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(NoHead::Malformed(408));
            }
            if end.is_some() {
                break;
            }
        }
        line.pop();
        Ok(line)
    }

    /// The body that follows `head`; `None` where that is not clear.
    pub(crate) fn body(&mut self, head: &Head) -> Option<Incoming<'_, S>> {
        let framing = match head.framing()? {
            Framing::Length(0) => Framing::Done,
            framing => framing,
        };
        let waits = head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        Some(Incoming { waits: waits && framing != Framing::Done, wire: self, framing })
    }

    /// Sends an answer; says whether the connection goes on.
    pub(crate) fn reply(&mut self, head: Option<&Head>, reply: Reply, goes_on: bool) -> io::Result<bool> {
        let is_head = head.is_some_and(|head| head.method == "HEAD");
        let length = reply.body.length();
        let is_cut = length > reply.delivery.shown as u64;
        let ends = reply.headers.iter().any(|(name, value)| name == "connection" && value == "close");
        let goes_on = goes_on && !is_cut && !ends && head.is_some_and(|head| head.keeps);
        let mut text = format!("HTTP/1.1 {} {}\r\n", reply.status, reason(reply.status));
        for (name, value) in &reply.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !reply.has("content-length") && !ends && !matches!(reply.status, 204 | 304) {
            text.push_str(&format!("content-length: {length}\r\n"));
        }
        if !goes_on && !ends && !is_cut {
            text.push_str("connection: close\r\n");
        }
        text.push_str("\r\n");
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes())?;
        if !is_head {
            match reply.body {
                Content::Bytes(bytes) => {
                    for piece in bytes[..reply.delivery.shown.min(bytes.len())].chunks(reply.delivery.piece) {
                        stream.write_all(piece)?;
                        stream.flush()?;
                    }
                }
                Content::File(file, length) => {
                    let sent = io::copy(&mut file.take(length), stream)?;
                    if sent != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
        stream.flush()?;
        Ok(goes_on)
    }
}

/// The body of a request.
pub(crate) struct Incoming<'a, S: Read + Write> {
    wire: &'a mut Wire<S>,
    framing: Framing,
    /// Whether the client sends nothing before it is told to.
    waits: bool,
}

impl<S: Read + Write> Incoming<'_, S> {
    /// Reads what nobody wanted; says whether the next request can be told from it.
    pub(crate) fn drain(mut self) -> bool {
        if self.framing == Framing::Done {
            return true;
        }
        if self.waits {
            return false;
        }
        let drained = io::copy(&mut (&mut self).take(MAX_DRAIN_BYTES), &mut io::sink());
        drained.is_ok() && self.framing == Framing::Done
    }

    /// How many bytes come next without a break; 0 at the end.
    fn run(&mut self) -> io::Result<u64> {
        match self.framing {
            Framing::Done => Ok(0),
            Framing::Length(left) => Ok(left),
            Framing::Chunked { left, .. } if left > 0 => Ok(left),
            Framing::Chunked { is_first, .. } => {
                if !is_first && !self.text_line(&mut { MAX_CHUNK_LINE_BYTES })?.is_empty() {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let line = self.text_line(&mut { MAX_CHUNK_LINE_BYTES })?;
                let digits = line.split(';').next().unwrap_or_default().trim_end_matches([' ', '\t']);
                let is_size = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let size = u64::from_str_radix(digits, 16).ok().filter(|_| is_size);
                let left = size.ok_or(io::ErrorKind::InvalidData)?;
                self.framing = Framing::Chunked { left, is_first: false };
                if left == 0 {
                    // Trailers say nothing that matters here, and are no more than a head may be.
                    let mut trailers = self.wire.limits.head_bytes;
                    while !self.text_line(&mut trailers)?.is_empty() {}
                    self.framing = Framing::Done;
                }
                Ok(left)
            }
        }
    }

    /// A line between chunks. Where somebody stands between who takes LF alone for part of an extension, it would hide
    /// the next request in it, so here a line ends with CR LF.
    fn text_line(&mut self, left: &mut u64) -> io::Result<String> {
        let line = self.wire.bytes_of_line(left, 400, None);
        let line = line.ok().and_then(|mut line| {
            let is_ended = line.pop() == Some(b'\r') && !line.contains(&b'\r');
            String::from_utf8(line).ok().filter(|_| is_ended)
        });
        line.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl<S: Read + Write> Read for Incoming<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.framing == Framing::Done {
            return Ok(0);
        }
        if std::mem::take(&mut self.waits) {
            let stream = self.wire.stream.get_mut();
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            stream.flush()?;
        }
        let run = self.run()?;
        if run == 0 {
            return Ok(0);
        }
        let room = buffer.len().min(usize::try_from(run).unwrap_or(usize::MAX));
        let count = self.wire.stream.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = run - count as u64;
        self.framing = match self.framing {
            Framing::Length(_) if left == 0 => Framing::Done,
            Framing::Length(_) => Framing::Length(left),
            _ => Framing::Chunked { left, is_first: false },
        };
        Ok(count)
    }
}

fn parse_request_line(line: &str) -> Option<Head> {
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_target = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
    let keeps = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return None,
    };
    let is_whole = is_method && is_target && words.next().is_none();
    is_whole.then(|| Head {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        keeps,
    })
}

/// A name and a value. What begins with a blank continues the line before, which nobody needs (RFC 9112, 5.2).
fn parse_header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    let value = value.trim_matches([' ', '\t']);
    (is_name && !value.contains(|c: char| c.is_control() && c != '\t'))
        .then(|| (name.to_ascii_lowercase(), value.to_owned()))
}

fn reason(status: u16) -> &'static str {
    ureq::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that has said all it will say.
    struct Said {
        said: io::Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Said {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.said.read(buffer)
        }
    }

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn wire(text: &str) -> Wire<Said> {
        let said = io::Cursor::new(text.as_bytes().to_vec());
        Wire::new(Said { said, heard: Vec::new() }, Limits::default())
    }

    /// The bodies of the requests in `text`, and how it ends: a status, or 0 at the end of the connection.
    fn bodies(text: &str) -> (Vec<String>, u16) {
        let mut wire = wire(text);
        let mut bodies = Vec::new();
        loop {
            let head = match wire.head() {
                Ok(head) => head,
                Err(NoHead::End) => return (bodies, 0),
                Err(NoHead::Malformed(status)) => return (bodies, status),
            };
            let Some(mut body) = wire.body(&head) else { return (bodies, 400) };
            let mut bytes = Vec::new();
            if body.read_to_end(&mut bytes).is_err() {
                return (bodies, 1);
            }
            bodies.push(String::from_utf8(bytes).unwrap());
            assert!(body.drain());
        }
    }

    #[test]
    fn bodies_have_a_length_or_chunks() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n", vec!["", ""]),
            ("PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n", vec!["abc", ""]),
            (
                "PATCH / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: x\r\n\r\n\
                 GET / HTTP/1.1\r\n\r\n",
                vec!["abc0123456789", ""],
            ),
            ("\r\nGET / HTTP/1.1\n\n", vec![""]),
        ] {
            assert_eq!(bodies(text), (expected.iter().map(|body| (*body).to_owned()).collect(), 0), "{text}");
        }
    }

    #[test]
    fn what_has_two_meanings_is_refused() {
        for (head, status) in [
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: +1\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n", 400),
            ("GET / HTTP/1.1\r\nA : b\r\n", 400),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n", 400),
            ("GET  / HTTP/1.1\r\n", 400),
            ("GET / HTTP/3\r\n", 400),
            ("\x16\x03\x01\x02\n", 400),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 1),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 1),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nx\r\n0\r\n", 1),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r;\r\nx\r\n0\r\n", 1),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\nx\r\n0\r\n", 1),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\n0\r\n", 1),
            ("PUT / HTTP/1.1\r\nContent-Length: 10\r\n", 1),
        ] {
            assert_eq!(bodies(&format!("{head}\r\n")), (vec![], status), "{head}");
        }
    }

    #[test]
    fn heads_end() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
        assert_eq!(bodies(&long), (vec![], 400));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(20_000));
        assert_eq!(bodies(&many), (vec![], 431));
    }

    #[test]
    fn a_head_that_comes_line_by_line_has_no_more_time_than_another() {
        let limits = Limits { head_time: std::time::Duration::ZERO, ..Limits::default() };
        let late = Wire { limits, ..wire("GET / HTTP/1.1\r\nA: b\r\n\r\n") }.head();
        assert!(matches!(late, Err(NoHead::Malformed(408))));
    }

    #[test]
    fn trailers_end() {
        let trailers = |count| {
            let head = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            bodies(&format!("{head}1\r\nx\r\n0\r\n{}\r\n", "a: b\r\n".repeat(count)))
        };
        assert_eq!(trailers(100), (vec!["x".to_owned()], 0));
        assert_eq!(trailers(20_000), (vec![], 1));
    }

    #[test]
    fn who_waits_is_told_to_go_on_when_the_body_is_read() {
        let mut wire = wire("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
        let Ok(head) = wire.head() else { panic!("no head") };
        assert!(!wire.body(&head).unwrap().drain(), "nobody knows whether the body comes");
        assert!(wire.stream.get_ref().heard.is_empty());
        io::copy(&mut wire.body(&head).unwrap(), &mut io::sink()).unwrap();
        assert_eq!(wire.stream.get_ref().heard, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
}
