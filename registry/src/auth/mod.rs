//! Who the user is to a registry: from a challenge and a credential to an `Authorization` value.
//!
//! What lives here: which value goes with a request, and that it is fetched once for all threads. What does
//! not: where it may be sent (`exchange` sends it to the registry's own origin alone).
//!
//! The way: a registry's first 401 carries a challenge; it is remembered for the registry. `Basic` is
//! answered from the [`keychain`]. `Bearer` is answered by a token for the scopes at hand, kept until four
//! fifths of its life are over or the registry refuses it.

pub(crate) mod challenge;
pub mod config_file;
mod helper;
pub mod keychain;
pub(crate) mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::Reference;

use crate::transport::{Response, Transport, lock};
use crate::url::Origin;
use crate::{Credential, Error};
use challenge::Challenge;
use token::{Subject, Token};

type Slot = Arc<Mutex<Option<Token>>>;

/// On whose behalf a request goes out, and for what.
pub(crate) struct Need<'a> {
    /// The registry's own origin.
    pub(crate) origin: &'a Origin,
    /// Names the repository whose credential is used.
    pub(crate) reference: &'a Reference,
    /// Token scopes, the most needed first: some servers read only that one.
    pub(crate) scopes: &'a [String],
}

/// Challenges and tokens that are known. Shared by threads.
#[derive(Default)]
pub(crate) struct Authority {
    challenges: Mutex<HashMap<Origin, Challenge>>,
    tokens: Mutex<HashMap<(Origin, Vec<String>), Slot>>,
}

impl Authority {
    /// The value to send without being asked; nothing before the registry's first challenge.
    pub(crate) fn known(&self, transport: &Transport, need: &Need<'_>) -> Result<Option<String>, Error> {
        let challenge = lock(&self.challenges).get(need.origin).cloned();
        challenge.map_or(Ok(None), |challenge| self.meet(transport, need, &challenge, None))
    }

    /// The value to send after a 401 to a request that carried `sent`; nothing if there is no other.
    pub(crate) fn answer(
        &self,
        transport: &Transport,
        need: &Need<'_>,
        refusal: &Response,
        sent: Option<&str>,
    ) -> Result<Option<String>, Error> {
        let values = || {
            let values = refusal.headers.get_all("www-authenticate").iter();
            values.filter_map(|value| value.to_str().ok())
        };
        let Some(challenge) = Challenge::pick(values()) else {
            let header: String = values().collect::<Vec<_>>().join(", ").chars().take(200).collect();
            let registry = need.reference.registry().to_owned();
            return if header.is_empty() { Ok(None) } else { Err(Error::Challenge { registry, header }) };
        };
        lock(&self.challenges).insert(need.origin.clone(), challenge.clone().without_scope());
        let value = self.meet(transport, need, &challenge, sent)?;
        Ok(value.filter(|value| Some(value.as_str()) != sent))
    }

    fn meet(
        &self,
        transport: &Transport,
        need: &Need<'_>,
        challenge: &Challenge,
        refused: Option<&str>,
    ) -> Result<Option<String>, Error> {
        let keychain = &transport.options().keychain;
        match challenge {
            Challenge::Basic => Ok(match keychain.lookup(need.reference)? {
                Credential::Basic { username, password } => Some(basic(&username, &password)),
                Credential::Identity { username, token } => Some(basic(&username, &token)),
                Credential::Bearer { token } => Some(format!("Bearer {token}")),
                Credential::Anonymous => None,
            }),
            Challenge::Bearer { realm, service, scope } => {
                let key = (need.origin.clone(), sorted(need.scopes));
                let slot = lock(&self.tokens).entry(key).or_default().clone();
                // Held while the token is fetched, so that one thread fetches and the others take.
                let mut slot = lock(&slot);
                if let Some(token) = &*slot {
                    let header = token.header();
                    if token.is_fresh() && Some(header.as_str()) != refused {
                        return Ok(Some(header));
                    }
                }
                let subject = Subject {
                    registry: need.reference.registry(),
                    origin: need.origin,
                    realm,
                    service: service.as_deref(),
                    scopes: with_asked(need.scopes, scope.as_deref()),
                };
                let credential = keychain.lookup(need.reference)?;
                let token = token::fetch(transport, &subject, &credential)?;
                let header = token.header();
                *slot = Some(token);
                Ok(Some(header))
            }
        }
    }
}

/// The value for a name and a password. (RFC 7617.)
pub(crate) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

fn sorted(scopes: &[String]) -> Vec<String> {
    let mut scopes = scopes.to_vec();
    scopes.sort();
    scopes
}

/// Our scopes, then what the challenge asks for beyond them: some registries know a repository by another name.
fn with_asked(scopes: &[String], asked: Option<&str>) -> Vec<String> {
    let mut all = scopes.to_vec();
    for asked in asked.unwrap_or_default().split_ascii_whitespace() {
        let (resource, actions) = asked.rsplit_once(':').unwrap_or((asked, ""));
        let is_covered = scopes.iter().any(|ours| {
            ours.rsplit_once(':').is_some_and(|(name, ours)| {
                name == resource && actions.split(',').all(|action| ours.split(',').any(|o| o == action))
            })
        });
        if !is_covered {
            all.push(asked.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_what_is_needed_and_no_more() {
        let ours = ["repository:a:pull".to_owned()];
        for (asked, expected) in [
            ("repository:a:pull", vec!["repository:a:pull"]),
            ("repository:a:pull registry:catalog:*", vec!["repository:a:pull", "registry:catalog:*"]),
            ("repository:proxy/a:pull", vec!["repository:a:pull", "repository:proxy/a:pull"]),
            ("repository:a:pull,push", vec!["repository:a:pull", "repository:a:pull,push"]),
            ("", vec!["repository:a:pull"]),
        ] {
            assert_eq!(with_asked(&ours, Some(asked)), expected, "{asked}");
        }
        assert_eq!(with_asked(&[], Some("repository:a:pull")), ["repository:a:pull"]);
    }
}
