//! How to run an image that changes its base: what it has from the old base comes from the new one, what it has set
//! itself stays. A merge of three, field by field; variables, labels, ports and volumes one by one.

use std::collections::BTreeSet;

use oci::ContainerConfig;
use serde_json::{Map, Value};

/// `own` on `new` in place of `old`.
pub(super) fn merge(own: &ContainerConfig, old: &ContainerConfig, new: &ContainerConfig) -> ContainerConfig {
    let [own, old, new] = [own, old, new].map(fields);
    let names: BTreeSet<&String> = [&own, &old, &new].into_iter().flat_map(Map::keys).collect();
    let merged = names.into_iter().filter_map(|name| {
        let (own, old, new) = (own.get(name), old.get(name), new.get(name));
        let value = match name.as_str() {
            "Env" => variables(own, old, new),
            "Labels" | "ExposedPorts" | "Volumes" => pairs(own, old, new),
            _ => theirs_unless_changed(own, old, new).cloned(),
        };
        Some((name.clone(), value?))
    });
    serde_json::from_value(Value::Object(merged.collect()))
        .expect("fields of configurations, as they were written")
}

fn fields(config: &ContainerConfig) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// What was set on top of the old base stays; what was the old base's becomes the new base's.
fn theirs_unless_changed<T: PartialEq>(own: Option<T>, old: Option<T>, new: Option<T>) -> Option<T> {
    if own == old { new } else { own }
}

fn pairs(own: Option<&Value>, old: Option<&Value>, new: Option<&Value>) -> Option<Value> {
    let [own, old, new] = [own, old, new].map(|map| map.and_then(Value::as_object));
    let names: BTreeSet<&String> = [own, old, new].into_iter().flatten().flat_map(Map::keys).collect();
    let of = |map: Option<&Map<String, Value>>, name: &String| map.and_then(|map| map.get(name)).cloned();
    let merged: Map<String, Value> = names
        .into_iter()
        .filter_map(|name| {
            let value = theirs_unless_changed(of(own, name), of(old, name), of(new, name))?;
            Some((name.clone(), value))
        })
        .collect();
    (!merged.is_empty()).then_some(Value::Object(merged))
}

/// In the order of the new base, then of the image.
fn variables(own: Option<&Value>, old: Option<&Value>, new: Option<&Value>) -> Option<Value> {
    let [own, old, new] = [own, old, new].map(|list| split(list));
    let of = |list: &[(String, String)], name: &str| {
        list.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    };
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in new.iter().chain(&own) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let merged: Vec<Value> = names
        .into_iter()
        .filter_map(|name| theirs_unless_changed(of(&own, name), of(&old, name), of(&new, name)))
        .map(Value::String)
        .collect();
    (!merged.is_empty()).then_some(Value::Array(merged))
}

/// Names, each with its whole text.
fn split(list: Option<&Value>) -> Vec<(String, String)> {
    let texts = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    texts.map(|text| (text.split('=').next().unwrap_or_default().to_owned(), text.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: Value) -> ContainerConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_was_the_old_bases_is_the_new_ones() {
        let old = json!({"Env": ["PATH=/bin", "A=1", "GONE=1"], "Labels": {"v": "1", "gone": "1"}, "Cmd": ["old"],
            "User": "5", "Shell": ["/old"], "Healthcheck": {"Test": ["NONE"]}, "Domainname": "old"});
        let own = json!({"Env": ["PATH=/bin", "A=2", "GONE=1", "OWN=1"], "Labels": {"v": "1", "gone": "1", "own": "1"},
            "Cmd": ["own"], "User": "5", "Shell": ["/old"], "Healthcheck": {"Test": ["NONE"]}, "Domainname": "old",
            "ExposedPorts": {"80/tcp": {}}, "WorkingDir": "/own"});
        let new = json!({"Env": ["NEW=1", "PATH=/usr/bin:/bin", "A=3"], "Labels": {"v": "2"}, "Cmd": ["new"],
            "User": "6", "Volumes": {"/v": {}}, "Domainname": "new"});
        let merged = merge(&config(own), &config(old), &config(new));
        let expected = json!({"Env": ["NEW=1", "PATH=/usr/bin:/bin", "A=2", "OWN=1"], "Labels": {"v": "2", "own": "1"},
            "Cmd": ["own"], "User": "6", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "WorkingDir": "/own",
            "Domainname": "new"});
        assert_eq!(serde_json::to_value(merged).unwrap(), expected);
    }

    #[test]
    fn what_the_image_took_away_stays_away() {
        // A new entry point takes the base's command away.
        let old = json!({"Cmd": ["sh"], "Labels": {"a": "1"}});
        let own = json!({"Entrypoint": ["x"]});
        let new = json!({"Cmd": ["bash"], "Labels": {"a": "2"}});
        let merged = serde_json::to_value(merge(&config(own), &config(old), &config(new))).unwrap();
        assert_eq!(merged, json!({"Entrypoint": ["x"]}));
    }
}
