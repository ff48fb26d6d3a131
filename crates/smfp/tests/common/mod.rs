//! Configurations for tests.

use serde::Deserialize;
use smfp::SmfpConfig;
use toml_edit::{DocumentMut, Table};

/// Preset `default` with the keys ("section.key") of some tables over it.
/// Whatever else the tables hold (other tables) is left out.
pub fn configuration(layers: &[&Table]) -> SmfpConfig {
    let presets: DocumentMut = smfp::PRESETS.parse().unwrap();
    let mut config = presets["default"].as_table().unwrap().clone();
    config.remove("task");
    let keys = layers.iter().flat_map(|layer| layer.iter());
    for (key, value) in keys.filter(|(_, item)| item.is_value()) {
        let (section, name) = key.split_once('.').unwrap();
        assert!(config[section].get(name).is_some(), "{key} is no key of the preset");
        config[section][name] = value.clone();
    }
    let deserializer = toml_edit::de::Deserializer::from(DocumentMut::from(config));
    let config = SmfpConfig::deserialize(deserializer).unwrap();
    config.validate().unwrap();
    config
}
