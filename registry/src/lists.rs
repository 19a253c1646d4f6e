//! Lists that come in pages: tags. (OCI distribution-spec, "Listing Tags".)
//!
//! Invariants: a page leads only to its own registry; a list ends, even where its pages lead in a circle.

use oci::Reference;
use serde::Deserialize;

use crate::client::pull_scope;
use crate::exchange::{Call, Content};
use crate::transport::{Headers, Method, Response};
use crate::url::Url;
use crate::{Client, Error};

const MAX_PAGE_BYTES: u64 = 16 * 1024 * 1024;
/// Some registries refuse to give more at once.
const PAGE: &str = "1000";
/// As many tags as are read in all.
const MAX_TAGS: usize = 1_000_000;

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
        let mut tags: Vec<String> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let way = self.exchange.way(repository)?;
        let mut url = way.url("tags/list").with_query("n", PAGE);
        loop {
            let fail = |reason| Error::Answer { url: url.to_string(), reason };
            if !seen.insert(url.wire()) || tags.len() > MAX_TAGS {
                return Err(fail("expected an end of its pages"));
            }
            let call = Call {
                method: Method::Get,
                url: url.clone(),
                way: &way,
                scopes: vec![pull_scope(repository)],
                headers: Headers::from([("accept", "application/json".to_owned())]),
                content: Content::None,
            };
            let response = self.exchange.persist(&call)?;
            let next = next_page(&response)?;
            let bytes = response.bytes(MAX_PAGE_BYTES)?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|_| fail("expected a list of tags"))?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => url = next,
                None => return Ok(tags),
            }
        }
    }
}

/// Where the next page is, if there is one: on the same registry and nowhere else. (RFC 8288.)
pub(crate) fn next_page(response: &Response) -> Result<Option<Url>, Error> {
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
