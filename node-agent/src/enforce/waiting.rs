//! Before a first NodePolicy is known.

use std::collections::BTreeSet;
use std::net::IpAddr;

use selvage_nftables::render::LocalFacts;
use selvage_nftables::render::owners::{self, Owner};
use tokio::time::Instant;

use super::kernel::{Kernel, KernelError};
use super::table::Tables;
use super::{Enforcer, FOREIGN_RETRY, VERIFY, endpoints};
use crate::facts::cni_dir::CniView;
use crate::facts::links::NodeLinks;

impl<K: Kernel> Enforcer<K> {
    /// Nothing is written before something is known, but for what closes a reused address. Says when to look again.
    pub(super) async fn wait(
        &mut self,
        cni: &CniView,
        links: &NodeLinks,
        held: Option<Instant>,
    ) -> Option<Instant> {
        let closed = self.close_reused(cni, links).await;
        let now = Instant::now();
        if closed.is_err() || self.verify_at <= now {
            self.tables = Tables::default();
            self.verify_at = now + VERIFY;
        }
        let Err(error) = closed else { return held };
        tracing::error!(%error, "can't close the addresses that other pods have now; trying again");
        let again = now + FOREIGN_RETRY;
        Some(held.map_or(again, |held| held.min(again)))
    }

    /// Before a first NodePolicy is known, an earlier agent's table judges. An address that it gave to one pod, and
    /// that the CNI plugin has given to another since, is taken out of it: closed until its own policy comes.
    async fn close_reused(&mut self, cni: &CniView, links: &NodeLinks) -> Result<(), KernelError> {
        let holders = endpoints::holders(cni, &links.interfaces, &self.pod_interfaces);
        if self.applied || holders.is_empty() {
            return Ok(());
        }
        self.read_if_due().await?;
        let mut owners = self.tables.inet.owners();
        let reused = |(address, old): &(&IpAddr, &Owner)| {
            holders.get(*address).is_some_and(|holder| !old.may_be(*holder))
        };
        let reused: BTreeSet<IpAddr> = owners.iter().filter(reused).map(|(address, _)| *address).collect();
        let Some(standing) = self.tables.inet.changeable().filter(|_| !reused.is_empty()) else {
            return Ok(());
        };
        tracing::info!(addresses = ?reused, "other pods have these addresses now; closing them until their policy comes");
        let mut wanted = standing.clone();
        owners::close(&mut wanted, &reused);
        let facts = LocalFacts::default();
        self.commit_ruleset(&wanted, &facts).await?;
        self.forget(reused.clone()).await?;
        owners.retain(|address, _| !reused.contains(address));
        owners::record(&mut wanted, &owners);
        self.commit_ruleset(&wanted, &facts).await?;
        Ok(())
    }
}
