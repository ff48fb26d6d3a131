//! The variants of `toys.toml`.

use crate::base::failure::{Outcome, unknown};
use crate::train::settings::{self, Settings, Sources};
use toml_edit::{DocumentMut, Item, Table};
use toys::{PriorIn, Toy};

/// The definitions of the variants.
const TOYS: &str = include_str!("../../toys.toml");

/// Variants that are compared in one table and one picture.
pub struct Group {
    /// Name of the table and the picture.
    pub picture: String,
    pub variants: Vec<Variant>,
}

/// An algorithm with settings, as it learns a toy.
pub struct Variant {
    pub name: String,
    /// Its algorithm.
    pub algo: String,
    pub prior: PriorIn,
    /// Half the side of the square of actions, in the toy's units.
    pub scale: f64,
    pub updates: u64,
    pub settings: Settings,
}

/// Which variants to learn, and how long.
#[derive(Default)]
pub struct Choice {
    /// Only these pictures; if empty, all.
    pub pictures: Vec<String>,
    /// Only these variants; if empty, all.
    pub variants: Vec<String>,
    /// Actor updates of every variant, instead of the file's.
    pub updates: Option<u64>,
}

/// The toy with a name.
///
/// # Errors
/// There is none; with the nearest name.
pub fn named(name: &str) -> Outcome<Toy> {
    let names = Toy::ALL.map(Toy::name);
    let found = Toy::ALL.into_iter().find(|toy| toy.name() == name);
    found.ok_or_else(|| unknown("toy", name, &names))
}

/// The groups of a toy's variants, in the file's order.
///
/// # Errors
/// An unknown picture or variant, with the nearest name; invalid settings.
pub fn groups(toy: Toy, choice: &Choice) -> Outcome<Vec<Group>> {
    let file: DocumentMut = TOYS.parse().expect("toys.toml is valid TOML");
    let of_toy = table(&file[toy.name()]);
    let (pictures, variants) = (table(&of_toy["updates"]), table(&of_toy["variants"]));
    check("picture", &choice.pictures, pictures)?;
    check("variant", &choice.variants, variants)?;
    let wanted =
        |names: &[String], name: &str| names.is_empty() || names.iter().any(|other| other == name);
    let all: Vec<(&str, Table)> =
        variants.iter().map(|(name, own)| (name, whole(variants, table(own)))).collect();
    let mut groups = Vec::new();
    for (picture, updates) in pictures.iter().filter(|(name, _)| wanted(&choice.pictures, name)) {
        let of_picture = all.iter().filter(|(name, keys)| {
            text(keys, "picture") == Some(picture) && wanted(&choice.variants, name)
        });
        let variants: Outcome<Vec<Variant>> = of_picture
            .map(|(name, keys)| {
                let updates = keys.get("updates").unwrap_or(updates).as_integer();
                let updates = choice.updates.or(updates.map(|number| number as u64));
                variant(toy, name, keys, table(&file[algo(keys)]), updates.expect("updates"))
            })
            .collect();
        groups.push(Group { picture: picture.to_string(), variants: variants? });
    }
    groups.retain(|group| !group.variants.is_empty());
    Ok(groups)
}

/// The keys of a variant, which override those of the variant named by `like`.
fn whole(variants: &Table, own: &Table) -> Table {
    let mut all = match text(own, "like") {
        Some(other) => whole(variants, table(&variants[other])),
        None => Table::new(),
    };
    put_over(&mut all, own);
    all
}

fn put_over(under: &mut Table, keys: &Table) {
    for (key, item) in keys.iter() {
        match (under.get_mut(key).and_then(Item::as_table_mut), item.as_table()) {
            (Some(section), Some(keys)) => put_over(section, keys),
            _ => drop(under.insert(key, item.clone())),
        }
    }
}

/// Checks that the file has all names.
fn check(what: &str, names: &[String], table: &Table) -> Outcome<()> {
    let known: Vec<&str> = table.iter().map(|(name, _)| name).collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(unknown(what, name, &known)),
        None => Ok(()),
    }
}

/// A variant from its keys, which override those that its algorithm's variants share.
fn variant(toy: Toy, name: &str, own: &Table, shared: &Table, updates: u64) -> Outcome<Variant> {
    let mut set = keys(shared);
    set.extend(keys(own));
    if let Some(share) = own.get("alpha_falls_over").and_then(Item::as_float) {
        let fall = (updates as f64 * share).round();
        set.push(format!("entropy.alpha_decay_updates={fall}"));
    }
    let sources = Sources { algo: algo(own), preset: "default", set: &set, ..Sources::default() };
    Ok(Variant {
        name: name.to_string(),
        algo: algo(own).to_string(),
        prior: prior(text(own, "pi_old")),
        scale: own.get("scale").and_then(Item::as_float).unwrap_or(toy.scale()),
        updates,
        settings: settings::resolve(&sources)?,
    })
}

fn algo(own: &Table) -> &str {
    text(own, "algo").expect("toys.toml names every variant's algorithm")
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
    use agent::QScale;
    use smfp::{SmfpConfig, Squash};

    fn only(variants: &[&str], updates: Option<u64>) -> Choice {
        let variants = variants.iter().map(|name| name.to_string()).collect();
        Choice { variants, updates, ..Choice::default() }
    }

    fn config(toy: Toy, name: &str, updates: Option<u64>) -> SmfpConfig {
        let variant = groups(toy, &only(&[name], updates)).unwrap().remove(0).variants.remove(0);
        variant.settings.read()
    }

    #[test]
    fn every_variant_is_in_a_picture_and_its_settings_fit() {
        let file: DocumentMut = TOYS.parse().unwrap();
        for toy in Toy::ALL {
            let groups = groups(toy, &Choice::default()).unwrap();
            let shown: Vec<&Variant> = groups.iter().flat_map(|group| &group.variants).collect();
            assert_eq!(shown.len(), table(&file[toy.name()]["variants"]).len(), "{}", toy.name());
            assert!(shown.iter().all(|variant| variant.updates >= 2000));
        }
    }

    #[test]
    fn a_variants_keys_go_over_its_algorithms() {
        let config = config(Toy::ThreeModes, "semi-implicit-8", None);
        assert_eq!((config.actor.width, config.actor.depth), (128, 3));
        assert_eq!(config.entropy.latents, 8);
        assert_eq!(config.entropy.alpha_decay_updates, 0);
    }

    #[test]
    fn a_falling_alpha_falls_over_its_share_of_the_updates() {
        let falls = |updates| {
            let config = config(Toy::ThreeModes, "semi-implicit-8-falling", updates);
            config.entropy.alpha_decay_updates
        };
        assert_eq!((falls(None), falls(Some(600))), (5_000, 300));
    }

    #[test]
    fn a_variant_has_the_keys_of_the_one_that_it_is_like_under_its_own() {
        let config = config(Toy::ThreeModes, "semi-implicit-8-falling-wide", Some(100));
        let inherited = (config.objective.q_scale, config.entropy.alpha_decay_updates);
        assert_eq!(inherited, (QScale::None, 50));
        let own = (config.policy.bound_penalty, config.policy.squash, config.entropy.latents);
        assert_eq!(own, (100.0, Squash::Clip, 8));
    }

    #[test]
    fn a_variants_own_length_goes_over_its_pictures() {
        let groups = groups(Toy::ThreeModes, &only(&["sac", "sigma-0"], None)).unwrap();
        let updates: Vec<u64> = groups[0].variants.iter().map(|variant| variant.updates).collect();
        assert_eq!(updates, [40_000, 50_000]);
    }
}
