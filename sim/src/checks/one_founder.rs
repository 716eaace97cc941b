// SPDX-License-Identifier: Apache-2.0
//! One filer founds the cluster; the others join it. Design §5, "Join".

use dulse_types::Origin;

use super::{Check, Seen};
use crate::world::World;

#[derive(Default)]
pub(crate) struct OneFounder(Vec<Origin>);

impl Check for OneFounder {
    fn name(&self) -> &'static str {
        "one founder"
    }

    fn saw(&mut self, _world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Founded(origin) = seen else {
            return Ok(());
        };
        self.0.push(*origin);
        if self.0.len() > 1 {
            return Err(format!("several filers founded a cluster: {:?}", self.0));
        }
        Ok(())
    }
}
