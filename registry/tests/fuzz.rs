//! A bounded run of the properties that `fuzz/` looks at without end: what registries and clients send, with stretches
//! cut, doubled and exchanged. The numbers are no accident but a sequence with a fixed seed, so every run is the same and
//! a failure names its round.

mod properties;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A sequence of numbers that looks like chance (Marsaglia's xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).expect("below a usize")
    }

    fn stretch(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        (from, from + self.below((length - from).min(60) + 1))
    }

    /// One of the seeds with a few changes.
    fn changed(&mut self, seeds: &[&str], words: &[&str]) -> Vec<u8> {
        let mut text = seeds[self.below(seeds.len())].as_bytes().to_vec();
        for _ in 0..self.below(5) {
            let (from, to) = self.stretch(text.len());
            match self.below(5) {
                0 => drop(text.drain(from..to)),
                1 => {
                    let part = text[from..to].to_vec();
                    text.splice(from..from, part);
                }
                2 => {
                    let other = seeds[self.below(seeds.len())].as_bytes();
                    let (start, end) = self.stretch(other.len());
                    text.splice(from..to, other[start..end].iter().copied());
                }
                3 => drop(text.splice(from..to, words[self.below(words.len())].bytes())),
                _ => {
                    let flipped = 1 << self.below(8);
                    text.iter_mut().skip(from).take(1).for_each(|byte| *byte ^= flipped);
                }
            }
        }
        text
    }
}

fn rounds(seeds: &[&str], words: &[&str], check: fn(&[u8])) {
    for seed in seeds {
        check(seed.as_bytes());
    }
    for round in 1..=20_000_u64 {
        let mut chance = Chance(round.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let bytes = chance.changed(seeds, words);
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| check(&bytes))) {
            std::panic::set_hook(Box::new(|_| {}));
            let text = String::from_utf8_lossy(&bytes);
            resume_unwind(Box::new(format!("round {round}:\n{text}\n{cause:?}")));
        }
    }
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const JSON: &[&str] =
    &["null", "[]", "{}", "0", "-1", "18446744073709551616", "\"\"", ",", ":", "{", "}", "\"x\":1,", "true"];

#[test]
fn manifests() {
    let part =
        format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{DIGEST}","size":2}}"#);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"a/b","config":{part},"layers":[{part},{part}],"subject":{part},"annotations":{{"a":"b"}},"other":[1]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{part}],"annotations":null}}"#
    );
    let both = format!(r#"{{"schemaVersion":2,"config":{part},"layers":null,"manifests":[]}}"#);
    rounds(&[&manifest, &index, &both], JSON, properties::manifest);
}

#[test]
fn configurations() {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","config":{{"Env":["A=b"],"Cmd":null,"ExposedPorts":{{"80/tcp":{{}}}},"Healthcheck":{{"Test":["NONE"]}},"Labels":{{"a":"b"}},"OnBuild":["RUN x"]}},"rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}},"history":[{{"created_by":"x","empty_layer":true}}],"other":1}}"#
    );
    rounds(&[&config, "{}"], JSON, properties::config);
}

#[test]
fn challenges() {
    let seeds = [
        r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#,
        "Basic realm=\"x\"\nBearer realm=\"https://a/t\"",
        r#"Negotiate YWJj==, Bearer realm="a\"b,c\\" , error=x"#,
    ];
    let words = ["\"", "\\", ",", "=", " ", "\n", "Bearer ", "realm=", "ü", "\t", "Basic"];
    rounds(&seeds, &words, |bytes| properties::challenge(&String::from_utf8_lossy(bytes)));
}

#[test]
fn tokens() {
    let seeds = [
        r#"{"token":"abc","access_token":"def","expires_in":300,"issued_at":"2020-01-01T00:00:00Z"}"#,
        r#"{"access_token":"a.b-c_d==","expires_in":1e300}"#,
        r#"{"token":""}"#,
    ];
    rounds(&seeds, &[JSON, &["\\n", "\\u0000", "é", " "]].concat(), properties::token);
}

#[test]
fn requests() {
    let seeds = [
        "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nPUT /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        "PATCH /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\n\r\n",
        "HEAD / HTTP/1.0\nExpect: 100-continue\nContent-Length: 0\n\n",
    ];
    let words =
        ["\r\n", "\n", ":", " ", "0", "ffffffffffffffff", "Content-Length: 9\r\n", "HTTP/1.1", "\0", "\t"];
    rounds(&seeds, &words, properties::requests);
}
