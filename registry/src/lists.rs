//! Lists that come in pages: tags, and what refers to a manifest. (OCI distribution-spec, "Listing Tags".)
//!
//! Invariants: a page leads only to its own registry; a list ends, even where its pages lead in a circle or ever on, and
//! one that is not whole is no list.

use std::collections::HashSet;

use oci::Reference;
use serde::Deserialize;

use crate::client::pull_scope;
use crate::exchange::{Call, Content, Way};
use crate::transport::{Headers, Method, Response};
use crate::url::Url;
use crate::{Client, Error};

/// Some registries refuse to give more at once.
const PAGE: &str = "1000";
/// As many entries as a list has at most.
const MAX_ENTRIES: usize = 1_000_000;

/// The tags of a repository.
const TAGS: List =
    List { accept: "application/json", max_page_bytes: 16 * 1024 * 1024, max_pages: MAX_ENTRIES };

/// A kind of list: how it is asked for, and how large it is at most.
pub(crate) struct List {
    pub(crate) accept: &'static str,
    pub(crate) max_page_bytes: u64,
    pub(crate) max_pages: usize,
}

impl Client {
    /// All tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// As [`Client::resolve`]; [`Error::Answer`] for a list that does not end.
    pub fn tags(&self, repository: &Reference) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let way = self.exchange.way(repository)?;
        let first = way.url("tags/list").with_query("n", PAGE);
        self.pages(&TAGS, &way, repository, first, |url, bytes| {
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|_| Error::Answer { url: url.to_string(), reason: "expected a list of tags" })?;
            Ok(page.tags.unwrap_or_default())
        })
    }

    /// The entries of all pages of a list, from its `first` on.
    ///
    /// # Errors
    /// As [`Client::resolve`] and `parse`; [`Error::Answer`] for a list that does not end.
    pub(crate) fn pages<T>(
        &self,
        list: &List,
        way: &Way,
        repository: &Reference,
        first: Url,
        parse: impl Fn(&Url, Vec<u8>) -> Result<Vec<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut entries: Vec<T> = Vec::new();
        let mut seen = HashSet::new();
        let mut url = first;
        loop {
            let is_new = seen.insert(url.wire());
            if !is_new || seen.len() > list.max_pages || entries.len() > MAX_ENTRIES {
                return Err(Error::Answer { url: url.to_string(), reason: "expected an end of its pages" });
            }
            let call = Call {
                method: Method::Get,
                url: url.clone(),
                way,
                scopes: vec![pull_scope(repository)],
                headers: Headers::from([("accept", list.accept.to_owned())]),
                content: Content::None,
            };
            let response = self.exchange.persist(&call)?;
            let next = next_page(&response)?;
            entries.extend(parse(&url, response.bytes(list.max_page_bytes)?)?);
            match next {
                Some(next) => url = next,
                None => return Ok(entries),
            }
        }
    }
}

/// Where the next page is, if there is one: on the same registry and nowhere else. (RFC 8288.)
fn next_page(response: &Response) -> Result<Option<Url>, Error> {
    let links = response.headers.get_all("link").iter().filter_map(|value| value.to_str().ok());
    let Some(target) = links.flat_map(|links| links.split(", ")).find_map(next_target) else {
        return Ok(None);
    };
    let reason = "a list goes on at its own registry only";
    match response.url.join(target) {
        Some(next) if next.origin == response.url.origin => Ok(Some(next)),
        Some(next) => Err(Error::Follow { from: response.url.to_string(), to: next.to_string(), reason }),
        None => {
            Err(Error::Answer { url: response.url.to_string(), reason: "its `Link` header is no address" })
        }
    }
}

/// The address of `<ADDRESS>; rel="next"`.
fn next_target(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"') == "next"
    };
    parameters.split(';').any(is_next).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_next_page() {
        for (link, expected) in [
            ("</v2/a/tags/list?n=1&last=b>; rel=\"next\"", Some("/v2/a/tags/list?n=1&last=b")),
            ("<x>; title=\"t\"; rel=next", Some("x")),
            ("<x>; rel=\"prev\"", None),
            ("<x>", None),
            ("x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_target(link), expected, "{link}");
        }
    }
}
