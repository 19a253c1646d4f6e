//! `WWW-Authenticate` headers, read. (RFC 9110, 11.6.1; distribution's token authentication.)
//!
//! Sans-IO. Several challenges may stand in one header or in several; values may be quoted and then contain
//! commas. `Bearer` goes before `Basic` wherever both are offered.

/// What a registry wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A user name and a password with every request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// The token server's address.
        realm: String,
        /// The registry's name at the token server.
        service: Option<String>,
        /// What the request at hand needs.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best challenge of these header values; `None` if none is understood.
    pub(crate) fn pick<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut basic = None;
        for (scheme, parameters) in headers.flat_map(parse) {
            let get =
                |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            match scheme.as_str() {
                "bearer" => {
                    if let Some(realm) = get("realm") {
                        return Some(Challenge::Bearer {
                            realm,
                            service: get("service"),
                            scope: get("scope"),
                        });
                    }
                }
                "basic" => basic = Some(Challenge::Basic),
                _ => {}
            }
        }
        basic
    }

    /// What is left to remember when the request that was refused is past.
    pub(crate) fn without_scope(mut self) -> Challenge {
        if let Challenge::Bearer { scope, .. } = &mut self {
            *scope = None;
        }
        self
    }
}

type Parameters = Vec<(String, String)>;

/// Splits one header into challenges: a scheme and its parameters, names in lower case.
fn parse(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (token, after) = token(rest);
        if token.is_empty() {
            return challenges;
        }
        let after = after.trim_start();
        match (after.strip_prefix('='), challenges.last_mut()) {
            (Some(after), Some((_, parameters))) => {
                let (value, after) = value(after.trim_start());
                parameters.push((token.to_ascii_lowercase(), value));
                rest = after;
            }
            // A parameter of no challenge, or base64 padding: nothing that can be understood.
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push((token.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A quoted string with its escapes undone, or a bare value up to the next comma or space.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (bare, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return (bare.to_owned(), rest);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '"' if !escaped => return (value, &quoted[at + 1..]),
            '\\' if !escaped => escaped = true,
            _ => {
                value.push(c);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn picks_the_challenge() {
        let full = bearer("https://a/t", Some("s"), Some("repository:x:pull,push"));
        let cases: &[(&[&str], Option<Challenge>)] = &[
            (&[r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#], full.clone()),
            (
                &[r#"bearer  Realm = "https://a/t" , service=s, scope="repository:x:pull,push",error="x""#],
                full,
            ),
            (&[r#"Basic realm="x", Bearer realm="https://a/t""#], bearer("https://a/t", None, None)),
            (&[r#"Basic realm="x""#, r#"Bearer realm="https://a/t""#], bearer("https://a/t", None, None)),
            (&["Negotiate", "Basic"], Some(Challenge::Basic)),
            (&["Negotiate YWJj==, Basic realm=x"], Some(Challenge::Basic)),
            (&[r#"Bearer realm="a\"b,c\\""#], bearer(r#"a"b,c\"#, None, None)),
            (&["Bearer service=s"], None),
            (&[r#"Bearer realm="unclosed"#], bearer("unclosed", None, None)),
            (&["", ",,", "=x", "Digest realm=x"], None),
            (&[], None),
        ];
        for (headers, expected) in cases {
            assert_eq!(&Challenge::pick(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    #[test]
    fn ends_on_any_bytes() {
        let alphabet = ["Bearer", "realm", "=", "\"", ",", " ", "\\", "ü", "x"];
        for seed in 0..alphabet.len().pow(5) {
            let mut rest = seed;
            let mut text = String::new();
            for _ in 0..5 {
                text.push_str(alphabet[rest % alphabet.len()]);
                rest /= alphabet.len();
            }
            // Only that it ends, whatever it says.
            let _challenge = Challenge::pick(std::iter::once(text.as_str()));
        }
    }
}
