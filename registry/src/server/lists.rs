//! Lists: tags, repositories, referrers. (OCI distribution-spec, "Content Discovery".)

use oci::{Index, MediaType, Raw};
use serde_json::{Value, json};

use super::api::{self, Answer, Api, refuse};
use super::blobs::parse_digest;
use super::http::{Head, Reply};
use super::storage::Repository;
use crate::url::encode;

/// How long a list is that says nothing of its length.
const DEFAULT_PAGE: usize = 1000;

impl Api {
    pub(super) fn tags(&self, head: &Head, repository: &Repository) -> Answer {
        let unknown = || refuse(404, "NAME_UNKNOWN", "repository name not known to registry");
        let tags = self.storage.tags(repository)?.ok_or_else(unknown)?;
        let page = Page::of(tags, head)?;
        let path = format!("/v2/{}/tags/list", repository.name);
        let body = json!({"name": repository.name, "tags": page.items}).to_string();
        Ok(page.link(api::json(200, body), &path))
    }

    pub(super) fn catalog(&self, head: &Head, host: &str) -> Answer {
        let page = Page::of(self.storage.repositories(host)?, head)?;
        let body = json!({"repositories": page.items}).to_string();
        Ok(page.link(api::json(200, body), "/v2/_catalog"))
    }

    pub(super) fn referrers(&self, head: &Head, repository: &Repository, subject: &str) -> Answer {
        let mut found = self.storage.referrers(repository, &parse_digest(subject)?)?;
        let wanted = head.query("artifactType");
        if let Some(wanted) = &wanted {
            found.retain(|entry| entry.extra.get("artifactType").and_then(Value::as_str) == Some(wanted));
        }
        let index = Raw::write(Index::oci(found));
        let reply = Reply::new(200).with("content-type", MediaType::OciIndex).body(index.bytes());
        Ok(match wanted {
            Some(_) => reply.with("oci-filters-applied", "artifactType"),
            None => reply,
        })
    }
}

/// A part of a list.
struct Page {
    items: Vec<String>,
    /// Whether more follows.
    goes_on: bool,
    size: usize,
}

impl Page {
    /// What `n` and `last` ask for, in the order of the bytes.
    fn of(mut items: Vec<String>, head: &Head) -> Result<Page, Reply> {
        let size = match head.query("n") {
            None => DEFAULT_PAGE,
            Some(n) => n
                .parse()
                .map_err(|_| refuse(400, "PAGINATION_NUMBER_INVALID", "expected a number for `n`"))?,
        };
        items.sort_unstable();
        items.dedup();
        if let Some(last) = head.query("last") {
            items.retain(|item| *item > last);
        }
        let goes_on = items.len() > size && size > 0;
        items.truncate(size);
        Ok(Page { items, goes_on, size })
    }

    fn link(&self, reply: Reply, path: &str) -> Reply {
        match self.items.last().filter(|_| self.goes_on) {
            Some(last) => {
                let next = format!("<{path}?n={}&last={}>; rel=\"next\"", self.size, encode(last));
                reply.with("link", next)
            }
            None => reply,
        }
    }
}
