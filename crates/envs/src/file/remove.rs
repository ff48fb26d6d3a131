//! Takes objects out of a model before MuJoCo compiles it.

use std::path::Path;

use mujoco_rs::wrappers::mj_editing::MjSpec;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};

use super::document::{Removal, TaskFile};
use super::fields::matches;
use super::problem::{Problem, shown};
use crate::error::Error;
use crate::ffi::{delete, names};
use crate::models::{load, load_edited};

/// Kinds of objects that can be taken out, by MJCF's names.
pub(super) const KINDS: [(&str, MjtObjBase); 10] = [
    ("actuator", MjtObjBase::mjOBJ_ACTUATOR),
    ("body", MjtObjBase::mjOBJ_BODY),
    ("camera", MjtObjBase::mjOBJ_CAMERA),
    ("equality", MjtObjBase::mjOBJ_EQUALITY),
    ("geom", MjtObjBase::mjOBJ_GEOM),
    ("joint", MjtObjBase::mjOBJ_JOINT),
    ("light", MjtObjBase::mjOBJ_LIGHT),
    ("sensor", MjtObjBase::mjOBJ_SENSOR),
    ("site", MjtObjBase::mjOBJ_SITE),
    ("tendon", MjtObjBase::mjOBJ_TENDON),
];

impl Removal {
    /// Whether an object of this kind is meant. No pattern means the world.
    fn chooses(&self, name: &str) -> bool {
        matches(&self.name, name) && !(self.kind.0 == "body" && name == "world")
    }

    /// Takes the objects out of a specification; with a body all that hangs on it and what refers to it.
    fn carry_out(&self, spec: &mut MjSpec) -> Result<(), Problem> {
        let Self { kind: (kind, object), name, at } = self;
        if *kind == "body" && name == "world" {
            return Err(Problem::new(*at, "the world can't be removed"));
        }
        let known = names(spec, *object);
        let mut chosen = known.iter().filter(|known| self.chooses(known)).peekable();
        if chosen.peek().is_none() && name.contains('*') {
            let message = format!("no {kind} of the model matches '{}'", shown(name));
            return Err(Problem::new(*at, message));
        }
        if chosen.peek().is_none() {
            return Err(Problem::unknown(*at, kind, name, known.iter().map(String::as_str)));
        }
        for name in chosen {
            // A body that matches may hang on one that is already deleted.
            delete(spec, *object, name).map_err(|reason| {
                Problem::new(*at, format!("{kind} '{}' can't be removed: {reason}", shown(name)))
            })?;
        }
        Ok(())
    }

    /// Checks that a compiled model has none of the objects.
    fn check(&self, model: &MjModel) -> Result<(), Problem> {
        let Self { kind: (kind, object), at, .. } = self;
        let mut names = (0..count(model, *object)).filter_map(|i| model.id_to_name(*object, i));
        let found = names.find(|found| self.chooses(found));
        found.map_or(Ok(()), |found| {
            let found = shown(found);
            let message =
                format!("the compiled model has {kind} '{found}', expected its MJCF file");
            Err(Problem::new(*at, message))
        })
    }
}

fn count(model: &MjModel, object: MjtObjBase) -> usize {
    (match object {
        MjtObjBase::mjOBJ_ACTUATOR => model.nu(),
        MjtObjBase::mjOBJ_BODY => model.nbody(),
        MjtObjBase::mjOBJ_CAMERA => model.ncam(),
        MjtObjBase::mjOBJ_EQUALITY => model.neq(),
        MjtObjBase::mjOBJ_GEOM => model.ngeom(),
        MjtObjBase::mjOBJ_JOINT => model.njnt(),
        MjtObjBase::mjOBJ_LIGHT => model.nlight(),
        MjtObjBase::mjOBJ_SENSOR => model.nsensor(),
        MjtObjBase::mjOBJ_SITE => model.nsite(),
        _ => model.ntendon(),
    }) as usize
}

/// Loads a task's model without what its file removes.
///
/// A compiled model (MJB) can't be changed, but may be that of a run of this task: then the objects
/// are not in it.
///
/// # Errors
/// [`Error::TaskFile`]: the model has no such object, or can't be compiled without it; those of
/// [`load`].
pub(crate) fn load_without(file: &TaskFile, model: &Path) -> Result<MjModel, Error> {
    let in_file = |problem: Problem| problem.in_file(&file.path, &file.text);
    if file.remove.is_empty() {
        return load(model);
    }
    if model.extension().is_some_and(|extension| extension == "mjb") {
        let model = load(model)?;
        file.remove.iter().try_for_each(|removal| removal.check(&model)).map_err(in_file)?;
        return Ok(model);
    }
    let first = file.remove[0].at;
    load_edited(
        model,
        |spec| {
            let mut removals = file.remove.iter();
            removals.try_for_each(|removal| removal.carry_out(spec)).map_err(in_file)
        },
        |reason| {
            let message = format!("without these objects MuJoCo rejects the model: {reason}");
            in_file(Problem::new(first, message))
        },
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::KINDS;
    use crate::env::Env;
    use crate::error::Error;
    use crate::models::{compile, models_dir};

    const ARENA: &str = "<mujoco><worldbody>
        <geom name='wall_x' size='1' pos='5 0 0'/><geom name='wall_y' size='1' pos='0 5 0'/>
        <body name='robot' pos='0 0 2'>
          <joint name='hip' type='slide'/><geom name='hull' size='1'/><site name='imu'/>
        </body>
        <body name='ball'>
          <freejoint name='ball'/><geom name='ball' size='1'/>
          <body name='bell'><geom name='bell' size='1'/></body>
        </body></worldbody>
        <actuator><motor name='hip' joint='hip' ctrlrange='-1 1'/></actuator>
        <sensor><gyro name='gyro' site='imu'/><framepos objtype='body' objname='bell'/></sensor>
        </mujoco>";

    /// The file of a task that removes objects of a model in the same folder.
    fn write(folder: &Path, removed: &str) -> String {
        fs::write(folder.join("arena.xml"), ARENA).unwrap();
        let rules = format!(
            "model = \"arena.xml\"\nreward = \"1\"\n[model_edits.remove]\n{removed}\n\
             [observation]\nqpos = \"qpos\"\ngeoms = \"geom_xpos\"\nsensors = \"sensordata\"\n"
        );
        fs::write(folder.join("task.toml"), rules).unwrap();
        folder.join("task.toml").display().to_string()
    }

    #[test]
    fn objects_are_removed_with_what_hangs_on_them_and_refers_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let widths = |env: &Env| -> Vec<usize> {
            env.spec().observation.iter().map(|term| term.length).collect()
        };
        let whole = write(folder.path(), "");
        assert_eq!(widths(&Env::make(&whole).unwrap()), [8, 15, 6]);
        let whole = compile(&whole, None).unwrap();

        let file = write(folder.path(), "geom = [\"wall_*\"]\nbody = [\"ball\"]");
        let env = Env::make(&file).unwrap();
        assert_eq!(widths(&env), [1, 3, 3]);

        // A run keeps the compiled model, which has been without the objects since then.
        let model = folder.path().join("model.mjb");
        fs::write(&model, compile(&file, None).unwrap()).unwrap();
        assert_eq!(Env::make_with_model(&file, &model).unwrap().spec().obs_dim, 7);
        fs::write(&model, whole).unwrap();
        let message = Env::make_with_model(&file, &model).err().unwrap().to_string();
        assert!(message.contains("body 'ball', expected its MJCF file"), "{message}");
    }

    #[test]
    fn what_cannot_be_removed_is_refused_in_one_line_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        for (removed, words) in [
            ("geom = [\"wall_x\", \"wal_y\"]", &[":4:19: unknown geom 'wal_y'", "'wall_y'"][..]),
            ("geom = [\"tree_*\"]", &[":4:9: no geom of the model matches 'tree_*'"]),
            ("geom = \"wall_x\"", &[":4:1: geom: expected names"]),
            ("geom = [1]", &[":4:1: geom: expected names"]),
            ("goem = [\"wall_x\"]", &[":4:1: unknown key 'goem'", "'geom'"]),
            ("body = [\"world\"]", &[":4:9:", "the world"]),
            ("body = [\"*\"]", &["no actuators"]),
            ("site = [\"imu\"]", &[":4:9:", "MuJoCo rejects", "sensor"]),
            ("geom = [\"hull\"]", &[":4:9:", "MuJoCo rejects", "mass"]),
            ("actuator = [\"hip\"]", &["no actuators"]),
        ] {
            let message = Env::make(&write(folder.path(), removed)).err().unwrap().to_string();
            assert!(!message.contains('\n'), "{message}");
            for word in words {
                assert!(message.contains(word), "{removed}: {message}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// MuJoCo compiles what is left, or says why it can't.
        #[test]
        fn any_objects_may_be_removed_from_a_model(
            model in prop::sample::select(vec!["dm_control/finger", "dm_control/quadruped", "go1/go1"]),
            removed in prop::collection::vec((0..KINDS.len(), "[a-z]{0,2}"), 1..4),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut text = String::new();
            for (i, (kind, letters)) in removed.iter().enumerate() {
                if removed[..i].iter().all(|(other, _)| other != kind) {
                    text += &format!("{} = [\"{letters}*\"]\n", KINDS[*kind].0);
                }
            }
            let model = models_dir().join(model).display().to_string();
            let rules = format!(
                "model = \"{model}.xml\"\nreward = \"0\"\n[model_edits.remove]\n{text}\n\
                 [observation]\ntime = \"time\"\n"
            );
            let file = folder.path().join("task.toml");
            fs::write(&file, rules).unwrap();
            match Env::make(file.to_str().unwrap()) {
                Ok(mut env) => {
                    env.reset(Some(1), &mut [0.0]);
                    env.step(&vec![0.1; env.spec().act_dim], &mut [0.0]).unwrap();
                }
                Err(error) => {
                    prop_assert!(matches!(error, Error::TaskFile { .. }), "{error}");
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }
}
