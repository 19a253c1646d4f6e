//! What a key is made of.
//!
//! | step | components |
//! |---|---|
//! | `RUN` | parent, argument vector, script, environment (arguments among it), working directory, user, network, platform |
//! | `COPY`, `ADD` | parent, destination, owner, mode, unpacking, content of the sources |
//! | `WORKDIR` | parent, path, user |
//!
//! Never: times, proxies, limits, hosts, the words of the instruction, the name of the stage. The content of sources is
//! a digest over type, mode, owner, link, xattrs and data (`layerfs::checksum`).
//!
//! Every name and value is hashed with its length before it, so no two lists of components have one key.

use oci::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// Changes whenever the meaning of a component or of a result does.
const VERSION: &str = "1";

/// Names the result of a step before it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub Digest);

/// One input of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// What it is.
    pub name: String,
    /// Its value, as readable text.
    pub value: String,
}

/// Collects components.
#[derive(Clone, Debug)]
pub struct KeyBuilder {
    components: Vec<Component>,
}

impl KeyBuilder {
    /// The key of a `kind` of step on top of `parent`.
    pub fn new(kind: &str, parent: Digest) -> KeyBuilder {
        let mut builder = KeyBuilder { components: Vec::new() };
        builder.add("version", VERSION);
        builder.add("layer format", layerfs::layer::pack::LAYER_FORMAT.to_string());
        builder.add("step", kind);
        builder.add("parent", parent.to_string());
        builder
    }

    /// Adds one component.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        self.components.push(Component { name: name.to_owned(), value: value.into() });
    }

    /// Adds a list, each element on its own.
    pub fn add_all<T: Into<String>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        self.add(&format!("{name} count"), values.len().to_string());
        for value in values {
            self.add(name, value);
        }
    }

    /// The key and what it was made of.
    pub fn finish(self) -> (Key, Vec<Component>) {
        let mut hasher = Hasher::new();
        for Component { name, value } in &self.components {
            for text in [name, value] {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        (Key(hasher.finish()), self.components)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[(&str, &str)]) -> Key {
        let mut builder = KeyBuilder::new("RUN", Digest::of(b""));
        for (name, value) in parts {
            builder.add(name, *value);
        }
        builder.finish().0
    }

    #[test]
    fn concatenation_cannot_collide() {
        let lists: [&[(&str, &str)]; 5] = [
            &[("env", "ab"), ("env", "c")],
            &[("env", "a"), ("env", "bc")],
            &[("env", "abc")],
            &[("enva", "bc")],
            &[],
        ];
        for (i, a) in lists.iter().enumerate() {
            for b in &lists[i + 1..] {
                assert_ne!(key(a), key(b));
            }
        }
        let list = |values: &[&str]| {
            let mut builder = KeyBuilder::new("RUN", Digest::of(b""));
            builder.add_all("arg", values.iter().copied());
            builder.add_all("env", ["x"]);
            builder.finish().0
        };
        assert_ne!(list(&["a", "b"]), list(&["a"]));
        assert_eq!(list(&["a"]), list(&["a"]));
    }
}
