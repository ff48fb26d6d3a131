//! Tasks that are files, with small models.

mod expressions;
mod first_files;
mod hostile;
mod rules;

use std::fs;

use crate::env::Env;
use crate::error::Error;

/// A task of two joints.
fn task(folder: &std::path::Path, rules: &str) -> Result<Env, Error> {
    let model = "<mujoco><worldbody><body name='b'><joint name='x' type='slide'/>\
                 <joint name='y' type='slide' axis='0 1 0'/><geom size='1'/></body></worldbody>\
                 <actuator><motor joint='x' ctrlrange='-1 1'/></actuator>\
                 <keyframe><key name='home' qpos='1 2'/></keyframe></mujoco>";
    fs::write(folder.join("robot.xml"), model).unwrap();
    fs::write(folder.join("task.toml"), rules).unwrap();
    Env::make(folder.join("task.toml").to_str().unwrap())
}

/// A body that can fly, above a floor, with an actuator that has an activation.
fn flyer(folder: &std::path::Path, rules: &str) -> Result<Env, Error> {
    let model = "<mujoco><worldbody><geom name='floor' type='plane' size='1 1 1'/>\
                 <body name='cube' pos='0 0 1'><freejoint/><geom type='box' size='1 1 1'/></body>\
                 <body name='arm' pos='0 9 9'><joint name='arm'/><geom size='1'/></body></worldbody>\
                 <actuator><general joint='arm' ctrlrange='-2 3' dyntype='filter' dynprm='1'/>\
                 </actuator></mujoco>";
    fs::write(folder.join("flyer.xml"), model).unwrap();
    fs::write(folder.join("flyer.toml"), rules).unwrap();
    Env::make(folder.join("flyer.toml").to_str().unwrap())
}

const RAISED: &str = "model = \"flyer.xml\"\nreward = \"1\"\n[start]\nraise = 0.125\n[start.set]\n\
    \"qpos[2]\" = -0.25\n\"qpos[3:7]\" = \"unit(normal())\"\nqvel = 7\n\
    act = \"uniform(actuator_ctrlrange.low, actuator_ctrlrange.high)\"\n\
    [observation]\nheight = \"qpos[2]\"\nquat = \"qpos[3:7]\"\nact = \"act\"\nncon = \"ncon\"\n\
    lowest = \"qpos[2] - sum(abs(xmat('cube').[zx, zy, zz]))\"\nspeed = \"qvel[0]\"\n";
