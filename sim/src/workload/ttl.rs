// SPDX-License-Identifier: Apache-2.0
//! Files that expire after a few seconds; some are extended in time.

use dulse_store::{Step, Transaction};
use dulse_types::Entry;
use dulse_types::entry::UnknownFields;
use rand::Rng;

use super::Workload;
use super::make::{any_path, file, one};
use crate::world::World;

const PATHS: [&str; 4] = ["/x", "/y", "/z/x", "/z/y"];

pub(crate) struct Ttl;

impl Workload for Ttl {
    fn weight(&self) -> u32 {
        4
    }

    fn group(&self, world: &mut World, filer: usize) -> Vec<Transaction> {
        let path = any_path(&PATHS, &mut world.rng);
        let entry = expiring(world, filer);
        let step = match world.rng.random_range(0..8) {
            0..=3 => Step::Create { path, entry },
            4..=5 => Step::Update {
                path,
                entry,
                delete_chunks: true,
            },
            6 => Step::Link {
                from: path,
                to: any_path(&PATHS, &mut world.rng),
            },
            _ => Step::Rename {
                from: path,
                to: any_path(&PATHS, &mut world.rng),
            },
        };
        vec![one(step)]
    }
}

fn expiring(world: &mut World, f: usize) -> Entry {
    let entry = file(&mut world.rng);
    let now_ns = world.filers[f].now_ns();
    let Ok(mut fields) = entry.fields() else {
        return entry;
    };
    let attributes = fields.attrs_mut();
    attributes.crtime = now_ns / 1_000_000_000;
    attributes.mtime = attributes.crtime;
    attributes.ttl_sec = world.rng.random_range(1..6);
    fields.to_entry(&UnknownFields::default())
}
