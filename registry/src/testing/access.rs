//! Whom the test registry lets in: its challenges, and the token server on the same port.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Access, Shared};
use crate::server::api::refuse;
use crate::server::http::{Head, Reply, Request, pairs};

/// The 401 for a request that may not pass.
pub(super) fn refusal(shared: &Shared, head: &Head) -> Option<Reply> {
    let authorization = head.header("authorization").unwrap_or_default();
    let unauthorized = |message| refuse(401, "UNAUTHORIZED", message);
    match &shared.setup.access {
        Access::Open => None,
        Access::Basic(username, password) => {
            let expected = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
            (authorization != expected)
                .then(|| unauthorized("who are you").with("www-authenticate", "Basic realm=\"test\""))
        }
        Access::Token(server) => {
            let (repository, actions) = wanted(head);
            let mut state = shared.state();
            let token = authorization.strip_prefix("Bearer ").and_then(|token| state.tokens.get_mut(token));
            if let Some((scopes, uses)) = token {
                let allows = |scope: &String| {
                    scope
                        .strip_prefix(&format!("repository:{repository}:"))
                        .is_some_and(|granted| actions.split(',').all(|a| granted.split(',').any(|g| g == a)))
                };
                if (repository.is_empty() || scopes.iter().any(allows)) && *uses > 0 {
                    *uses -= 1;
                    return None;
                }
            }
            let realm = server.realm.clone().unwrap_or_else(|| format!("{}/token", shared.base()));
            let scope = if repository.is_empty() {
                String::new()
            } else {
                format!(",scope=\"repository:{repository}:{actions}\"")
            };
            let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"{scope}");
            Some(unauthorized("show your token").with("www-authenticate", challenge))
        }
    }
}

/// The repository of a request and what it does there.
fn wanted(head: &Head) -> (String, &'static str) {
    let rest = head.path().strip_prefix("/v2/").unwrap_or_default();
    let end_points = ["/manifests/", "/tags/", "/referrers/"];
    let at = end_points.iter().find_map(|end_point| rest.rfind(end_point)).or_else(|| rest.find("/blobs/"));
    let actions = if matches!(head.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
    (rest[..at.unwrap_or(0)].to_owned(), actions)
}

pub(super) fn give_token(shared: &Shared, request: &mut Request<'_>) -> Reply {
    let Access::Token(server) = &shared.setup.access else { return Reply::new(404) };
    let head = &request.head;
    let mut form = String::new();
    if request.body.take(65536).read_to_string(&mut form).is_err() {
        return Reply::new(400);
    }
    let field = |name| pairs(&form, name).into_iter().next();
    let (is_welcome, scopes) = if head.method == "POST" {
        let scopes = field("scope").unwrap_or_default().split(' ').map(str::to_owned).collect();
        let is_welcome = match field("grant_type").as_deref() {
            Some("refresh_token") => server.refresh.is_some() && field("refresh_token") == server.refresh,
            Some("password") => field("username").zip(field("password")) == server.login,
            _ => false,
        };
        (is_welcome, scopes)
    } else if server.post_only {
        return Reply::new(405);
    } else {
        let is_welcome = server.login.as_ref().is_none_or(|(username, password)| {
            let expected = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
            head.header("authorization") == Some(&expected)
        });
        (is_welcome, head.queries("scope"))
    };
    if !is_welcome {
        return refuse(401, "UNAUTHORIZED", "incorrect username or password");
    }
    let mut state = shared.state();
    let token = format!("token-{}", state.seen.len());
    state.tokens.insert(token.clone(), (scopes, server.uses.unwrap_or(u32::MAX)));
    let name = if head.method == "POST" { "access_token" } else { "token" };
    Reply::new(200).body(format!(r#"{{"{name}":"{token}","expires_in":300}}"#))
}
