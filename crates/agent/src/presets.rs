//! Preset files: the shared sections, and what an algorithm's own file puts over them.

use serde::de::DeserializeOwned;
use toml_edit::{DocumentMut, Item, Table};

/// Every section that several algorithms have, with defaults and comments.
const SECTIONS: &str = include_str!("../sections.toml");

/// All keys of an algorithm with the values and comments of its preset `default`.
///
/// `presets` is its preset file: `shared` names the sections that it takes from
/// `sections.toml`, `[default.SECTION]` lists what differs there, or every key of a
/// section of its own. Tables per task (`[default.task...]`) are left to the caller.
///
/// # Panics
/// The preset file names a shared section or key that does not exist. It is part of the program,
/// and every one is read in a test.
pub fn defaults(presets: &DocumentMut) -> DocumentMut {
    let sections: DocumentMut = SECTIONS.parse().expect("sections.toml is valid TOML");
    let mut document = DocumentMut::new();
    for name in shared(presets) {
        document.insert(name, sections[name].clone());
    }
    let own = presets["default"].as_table().expect("[default] is a table");
    for (name, item) in own.iter().filter(|(name, _)| *name != "task") {
        let keys = item.as_table().expect("a preset holds sections");
        match document.get_mut(name).and_then(Item::as_table_mut) {
            Some(section) => replace(section, name, keys),
            None => drop(document.insert(name, item.clone())),
        }
    }
    document
}

/// The shared sections that a preset file names.
fn shared(presets: &DocumentMut) -> impl Iterator<Item = &str> {
    let names = presets["shared"].as_array().expect("a preset file names its shared sections");
    names.iter().map(|name| name.as_str().expect("a section's name"))
}

/// Replaces values of a section; comments stay.
fn replace(section: &mut Table, name: &str, keys: &Table) {
    for (key, item) in keys.iter() {
        let slot = section.get_mut(key).and_then(Item::as_value_mut);
        let slot = slot.unwrap_or_else(|| panic!("{name}.{key} is no key of sections.toml"));
        *slot = item.as_value().expect("a key has a value").clone();
    }
}

/// Reads a document as a configuration.
///
/// # Errors
/// One line: the key, and what is wrong with its value.
pub fn read<C: DeserializeOwned>(document: DocumentMut) -> Result<C, String> {
    let deserializer = toml_edit::de::Deserializer::from(document);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().message().replace('\n', " ");
        let message = message
            .replace("expected usize", "expected a whole number from 0")
            .replace("expected u64", "expected a whole number from 0");
        format!("{path}: {message}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_has_the_shared_sections_that_it_names_with_its_own_values_over_them() {
        let presets: DocumentMut = r#"
            shared = ["candidates"]
            [default.candidates]
            act = 4
            [default.own]
            # What it is.
            key = 1.5
            [other.candidates]
            act = 8
        "#
        .parse()
        .unwrap();
        let document = defaults(&presets);
        let names: Vec<&str> = document.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["candidates", "own"]);
        assert_eq!(document["candidates"]["act"].as_integer(), Some(4));
        assert_eq!(document["candidates"]["target"].as_integer(), Some(1));
        assert_eq!(document["own"]["key"].as_float(), Some(1.5));
        let act = document["candidates"].as_table().unwrap().key("act").unwrap();
        let comment = act.leaf_decor().prefix().and_then(|text| text.as_str()).unwrap();
        assert!(comment.contains("# Actions proposed per state"), "{comment}");
    }
}
