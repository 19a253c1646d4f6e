//! Bearer tokens: how a credential is exchanged for one. (distribution: "Token Authentication
//! Specification" for GET, "OAuth 2" for POST.)
//!
//! Order: a password goes by GET with `Basic`, a refresh token by POST. Whoever does not know the one is
//! asked by the other. The token server's address comes from the registry and is checked before anything is
//! sent there.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::basic;
use crate::exchange::{Content, check, follow};
use crate::transport::{Body, Method, Response, Transport};
use crate::url::{Origin, Url, encode};
use crate::{Credential, Error};

const MAX_TOKEN_BYTES: u64 = 1024 * 1024;
/// What a token server means that gives no `expires_in`.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// How this program is called by token servers that list the user's sessions.
const CLIENT_ID: &str = "lbuild";

/// A bearer token and when to stop using it.
pub(crate) struct Token {
    token: String,
    /// Four fifths of its life: a request must end before the token does.
    fresh_until: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.token)
    }

    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.fresh_until
    }
}

/// What a token is for.
pub(crate) struct Subject<'a> {
    pub(crate) registry: &'a str,
    pub(crate) origin: &'a Origin,
    pub(crate) realm: &'a str,
    pub(crate) service: Option<&'a str>,
    pub(crate) scopes: Vec<String>,
}

/// Gets a token from the token server that the registry names.
pub(crate) fn fetch(
    transport: &Transport,
    subject: &Subject<'_>,
    credential: &Credential,
) -> Result<Token, Error> {
    if let Credential::Bearer { token } = credential {
        return Token::parse(token.clone(), None);
    }
    let follow_error = |reason| Error::Follow {
        from: subject.origin.to_string(),
        to: subject.realm.split('?').next().unwrap_or_default().to_owned(),
        reason,
    };
    let realm =
        Url::parse(subject.realm).ok_or_else(|| follow_error("expected the address of a token server"))?;
    if let Some(reason) = subject.origin.objection(&realm.origin) {
        return Err(follow_error(reason));
    }
    let retry = &transport.options().retry;
    let answer = retry.run(|_| match credential {
        Credential::Identity { username, token } => or_else_if_unknown(
            post(transport, &realm, subject, &[("grant_type", "refresh_token"), ("refresh_token", token)]),
            || get(transport, &realm, subject, Some((username.as_str(), token.as_str()))),
        ),
        Credential::Basic { username, password } => {
            let grant = [("grant_type", "password"), ("username", username), ("password", password)];
            or_else_if_unknown(get(transport, &realm, subject, Some((username, password))), || {
                post(transport, &realm, subject, &grant)
            })
        }
        _ => get(transport, &realm, subject, None),
    });
    let fail =
        |source| Error::Authenticate { registry: subject.registry.to_owned(), source: Box::new(source) };
    let answer = answer.map_err(fail)?;
    answer.token(&realm.to_string()).map_err(fail)
}

/// Token servers know GET, POST or both, and say in different ways that they do not.
fn or_else_if_unknown(
    first: Result<Answer, Error>,
    other: impl FnOnce() -> Result<Answer, Error>,
) -> Result<Answer, Error> {
    match first {
        Err(Error::Status { status: 404 | 405, .. }) => other(),
        // A refusal by both is the first one's: that is the way the credential is meant for.
        Err(refused @ Error::Status { status: 400 | 401, method: "POST", .. }) => {
            other().map_err(|_| refused)
        }
        result => result,
    }
}

fn get(
    transport: &Transport,
    realm: &Url,
    subject: &Subject<'_>,
    login: Option<(&str, &str)>,
) -> Result<Answer, Error> {
    let mut url = realm.clone();
    if let Some(service) = subject.service {
        url = url.with_query("service", service);
    }
    for scope in &subject.scopes {
        url = url.with_query("scope", scope);
    }
    let mut authorization = None;
    if let Some((username, password)) = login {
        // Without a name, the secret is a token by itself; the name is then what Docker writes for that.
        let username = if username.is_empty() { "<token>" } else { username };
        url = url.with_query("account", username);
        authorization = Some(basic(username, password));
    }
    let headers = vec![("accept", "application/json".to_owned())];
    let own = authorization.as_deref().map(|value| ("authorization", value));
    let response = follow(transport, Method::Get, &url, &headers, own.as_slice(), &Content::None)?;
    Answer::read(check(Method::Get, response)?)
}

fn post(
    transport: &Transport,
    realm: &Url,
    subject: &Subject<'_>,
    grant: &[(&str, &str)],
) -> Result<Answer, Error> {
    let scopes = subject.scopes.join(" ");
    let mut pairs = vec![("client_id", CLIENT_ID), ("scope", &scopes)];
    pairs.extend(subject.service.map(|service| ("service", service)));
    pairs.extend(grant);
    let form: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let form = form.join("&");
    let headers = [("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded")];
    // Not by `follow`: the form holds the secret, which must not go where a redirect points.
    let response = transport.send(Method::Post, realm, &headers, Body::Bytes(form.as_bytes()))?;
    Answer::read(check(Method::Post, response)?)
}

/// What a token server answers. The two ways differ in the token's name.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

impl Answer {
    fn read(response: Response) -> Result<Answer, Error> {
        let url = response.url.to_string();
        Answer::parse(&response.bytes(MAX_TOKEN_BYTES)?, &url)
    }

    fn parse(bytes: &[u8], url: &str) -> Result<Answer, Error> {
        let reason = "expected JSON with a token";
        serde_json::from_slice(bytes).map_err(|_| Error::Answer { url: url.to_owned(), reason })
    }

    fn token(self, realm: &str) -> Result<Token, Error> {
        let token = [self.token, self.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let fail = |reason| Error::Answer { url: realm.to_owned(), reason };
        let token = token.ok_or_else(|| fail("expected `token` or `access_token`"))?;
        let life = self.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Token::parse(token, Some(life.unwrap_or(DEFAULT_LIFE)))
            .map_err(|_| fail("the token has characters that no header may have"))
    }
}

/// The token of a token server's answer.
#[cfg(feature = "testing")]
pub(crate) fn parse(answer: &[u8], url: &str) -> Result<Token, Error> {
    Answer::parse(answer, url)?.token(url)
}

impl Token {
    /// `life` is `None` for a token of the user's own, which this client cannot renew.
    fn parse(token: String, life: Option<Duration>) -> Result<Token, Error> {
        const LONGEST: Duration = Duration::from_secs(24 * 3600);
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = "the token has characters that no header may have";
            return Err(Error::Answer { url: "the registry token".to_owned(), reason });
        }
        let life = life.unwrap_or(LONGEST).min(LONGEST);
        Ok(Token { token, fresh_until: Instant::now() + life * 4 / 5 })
    }
}
