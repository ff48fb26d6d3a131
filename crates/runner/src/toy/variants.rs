//! The variants of `toys.toml`.

use crate::failure::{Outcome, unknown};
use crate::settings::{self, Settings, Sources};
use toml_edit::{DocumentMut, Item, Table};
use toys::{PriorIn, Toy};

/// What each variant is.
const TOYS: &str = include_str!("../../toys.toml");

/// One setting of one algorithm that learns a toy.
pub struct Variant {
    pub name: String,
    /// The picture that shows it.
    pub picture: String,
    pub prior: PriorIn,
    /// Half the side of the square of actions, in the toy's units.
    pub scale: f64,
    pub updates: u64,
    pub settings: Settings,
}

/// The toy of a name.
///
/// # Errors
/// There is none, with the nearest name.
pub fn toy(name: &str) -> Outcome<Toy> {
    let names = Toy::ALL.map(Toy::name);
    let found = Toy::ALL.into_iter().find(|toy| toy.name() == name);
    found.ok_or_else(|| unknown("toy", name, &names))
}

/// The variants of a toy: those named, in the file's order, or all. `updates` goes
/// over the file's.
///
/// # Errors
/// An unknown variant, with the nearest name; settings that do not fit.
pub fn variants(toy: Toy, names: &[String], updates: Option<u64>) -> Outcome<Vec<Variant>> {
    let file: DocumentMut = TOYS.parse().expect("toys.toml is valid TOML");
    let of_toy = table(&file[toy.name()]);
    let all = table(&of_toy["variants"]);
    let known: Vec<&str> = all.iter().map(|(name, _)| name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(unknown("variant", name, &known));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|other| other == name);
    all.iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, own)| {
            let own = table(own);
            let algo = text(own, "algo").unwrap_or_default();
            let given = || of_toy["updates"][algo].as_integer().expect("an algorithm's updates");
            let updates = updates.unwrap_or_else(|| given() as u64);
            let mut set = keys(table(&file[algo]));
            set.extend(keys(own));
            if let Some(share) = own.get("alpha_falls_over").and_then(Item::as_float) {
                let fall = (updates as f64 * share).round();
                set.push(format!("entropy.alpha_decay_updates={fall}"));
            }
            let sources = Sources { algo, preset: "default", set: &set, ..Sources::default() };
            Ok(Variant {
                name: name.to_string(),
                picture: text(own, "picture").unwrap_or_default().to_string(),
                prior: prior(text(own, "pi_old")),
                scale: own.get("scale").and_then(Item::as_float).unwrap_or(toy.scale()),
                updates,
                settings: settings::resolve(&sources)?,
            })
        })
        .collect()
}

fn prior(name: Option<&str>) -> PriorIn {
    match name {
        None | Some("replay") => PriorIn::Replay,
        Some("value") => PriorIn::Value,
        Some(other) => panic!("toys.toml: pi_old is \"{other}\""),
    }
}

fn table(item: &Item) -> &Table {
    item.as_table().expect("toys.toml has a table here")
}

fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key).and_then(Item::as_str)
}

/// The keys of a preset's sections, as `--set` takes them.
fn keys(variant: &Table) -> Vec<String> {
    let sections = variant.iter().filter_map(|(name, item)| Some((name, item.as_table()?)));
    sections
        .flat_map(|(section, keys)| {
            keys.iter()
                .map(move |(key, value)| format!("{section}.{key}={}", value.to_string().trim()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::AlgorithmConfig;
    use smfp::{EntropyEstimate, SmfpConfig};

    fn config(toy: Toy, name: &str, updates: Option<u64>) -> SmfpConfig {
        let variant = variants(toy, &[name.to_string()], updates).unwrap().remove(0);
        match variant.settings.algorithm {
            AlgorithmConfig::Smfp(config) => config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_variant_has_a_picture_and_settings_that_fit() {
        for toy in Toy::ALL {
            let all = variants(toy, &[], None).unwrap();
            assert!(all.len() > 5);
            for variant in all {
                assert!(!variant.picture.is_empty(), "{}", variant.name);
                assert!(variant.updates >= 2000, "{}", variant.name);
            }
        }
    }

    #[test]
    fn a_variants_keys_go_over_its_algorithms() {
        let config = config(Toy::ThreeModes, "semi-implicit-8", None);
        assert_eq!((config.actor.width, config.actor.depth), (128, 3));
        assert_eq!(config.entropy.estimate, EntropyEstimate::SemiImplicit);
        assert_eq!(config.entropy.latents, 8);
        assert_eq!(config.entropy.alpha_decay_updates, 0);
    }

    #[test]
    fn a_falling_alpha_falls_over_its_share_of_the_updates() {
        let falls = |updates| {
            let config = config(Toy::ThreeModes, "semi-implicit-8-falling", updates);
            config.entropy.alpha_decay_updates
        };
        assert_eq!((falls(None), falls(Some(600))), (20_000, 300));
    }
}
