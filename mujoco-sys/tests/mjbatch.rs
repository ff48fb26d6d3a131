//! The committed bindings match the unpacked header, and the library works with them.

use std::ffi::{CStr, c_int, c_void};
use std::path::Path;
use std::{fs, ptr};

use mujoco_rs::mujoco_c::{mj_step, mjData, mjModel};
use mujoco_rs::wrappers::mj_data::{MjData, MjtState};
use mujoco_rs::wrappers::mj_model::MjModel;
use mujoco_sys::{
    HEADER_SHA256, mjBatchConfig, mjb_apply, mjb_deleteBatch, mjb_error, mjb_makeBatch, mjb_nsim,
    mjb_nstate, mjb_nthread, mjb_state, mjb_stateComponent, mjb_status, mjb_step,
};
use sha2::{Digest, Sha256};

const PENDULUM: &str = r#"
<mujoco>
  <worldbody>
    <body>
      <joint type="hinge" axis="0 1 0"/>
      <geom type="capsule" size=".05" fromto="0 0 0 .3 0 -.4"/>
    </body>
  </worldbody>
</mujoco>"#;

#[test]
fn bindings_were_generated_from_the_unpacked_header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let header = fs::read(root.join("third_party/mujoco/include/mujoco/mjbatch.h"))
        .expect("run `scripts/just setup` first");
    let found: String = Sha256::digest(header).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, HEADER_SHA256, "run scripts/regenerate-bindings.sh and commit the result");
}

#[test]
fn a_batch_steps_every_simulation_as_mj_step_does() {
    const SIMULATIONS: usize = 5;
    const STEPS: c_int = 40;
    let model = MjModel::from_xml_string(PENDULUM).unwrap();
    let angle = |simulation: usize| 0.1 * simulation as f64;
    let expected: Vec<f64> = (0..SIMULATIONS)
        .map(|simulation| {
            let mut data = MjData::new(&model);
            data.qpos_mut()[0] = angle(simulation);
            (0..STEPS).for_each(|_| data.step());
            data.qpos()[0]
        })
        .collect();

    let config = mjBatchConfig { nthread: 2, persistent: false };
    let mut error = [0; 200];
    // SAFETY: the model outlives the call, the batch is made of a copy of it; the error buffer has
    // the given length; the batch is deleted once, after its last use, and the state rows
    // are nsim x nstate numbers of the batch.
    let found = unsafe {
        let batch =
            mjb_makeBatch(model.ffi(), SIMULATIONS as c_int, &config, error.as_mut_ptr(), 200);
        assert!(!batch.is_null(), "{:?}", CStr::from_ptr(error.as_ptr()));
        assert_eq!((mjb_nsim(batch), mjb_nthread(batch)), (SIMULATIONS as c_int, 2));

        let width = mjb_nstate(batch) as usize;
        assert_eq!(width, model.state_size(MjtState::mjSTATE_INTEGRATION as u32));
        let mut size = 0;
        let qpos = mjb_stateComponent(batch, MjtState::mjSTATE_QPOS as c_int, &mut size);
        assert_eq!(size, 1);
        for simulation in 0..SIMULATIONS {
            *qpos.add(simulation * width) = angle(simulation);
        }
        let failed = mjb_step(batch, ptr::null(), 0, STEPS, 0);
        assert_eq!(failed, 0, "{:?}", CStr::from_ptr(mjb_error(batch, 0)));
        assert!((0..SIMULATIONS).all(|simulation| *mjb_status(batch).add(simulation) == 0));
        assert!(!mjb_state(batch).is_null());
        let found: Vec<f64> =
            (0..SIMULATIONS).map(|simulation| *qpos.add(simulation * width)).collect();
        mjb_deleteBatch(batch);
        found
    };
    assert_eq!(found, expected);
}

#[test]
fn apply_calls_the_function_once_for_every_simulation() {
    unsafe extern "C" fn step_twice(
        model: *const mjModel,
        data: *mut mjData,
        simulation: c_int,
        calls: *mut c_void,
    ) {
        // SAFETY: MuJoCo calls this with a simulation that no other thread uses during the
        // call, and `calls` is the array below, with one entry per simulation.
        unsafe {
            mj_step(model, data);
            mj_step(model, data);
            *calls.cast::<u32>().add(simulation as usize) += 1;
        }
    }

    let model = MjModel::from_xml_string(PENDULUM).unwrap();
    let timestep = model.opt().timestep;
    let mut calls = [0_u32; 3];
    let config = mjBatchConfig { nthread: 2, persistent: true };
    // SAFETY: as above; `step_twice` gets the array that it expects, alive during the call.
    let time = unsafe {
        let batch = mjb_makeBatch(model.ffi(), 3, &config, ptr::null_mut(), 0);
        assert!(!batch.is_null());
        let failed =
            mjb_apply(batch, ptr::null(), 0, Some(step_twice), calls.as_mut_ptr().cast(), 1);
        assert_eq!(failed, 0);
        let time = mjb_stateComponent(batch, MjtState::mjSTATE_TIME as c_int, ptr::null_mut());
        let time = *time.add(2 * mjb_nstate(batch) as usize);
        mjb_deleteBatch(batch);
        time
    };
    assert_eq!(calls, [1; 3]);
    assert_eq!(time, 2.0 * timestep);
}
