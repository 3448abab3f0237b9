//! Limits of what one user, or one client address, may cost the node: see [`crate::quota`].

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fanway_protocol::Channel;

use super::Hub;
use crate::identity::{AuthFailure, Identity};
use crate::quota::{Address, Kind, Limited, NODE_CHANNELS, Payer, USER_CONNECTIONS};
use crate::session::Resume;

/// Time after which a user with too many sessions may try again: nobody knows when one of them ends.
const CONNECTIONS_WAIT: Duration = Duration::from_secs(5);

impl Hub {
    /// The address of a client, as what may pay for what it does.
    pub fn address(&self, address: IpAddr) -> Address {
        self.quotas.address(address)
    }

    /// Owner of the buckets for what a client does.
    pub fn payer(&self, identity: &Identity, address: Option<Address>) -> Payer {
        self.quotas.payer(identity, address)
    }

    /// Admits a poll or an event stream of a client, before it has a session. All channels that this node does not have are
    /// paid for at once, so that who waits as long as advised passes; those of the token's own claim cost nothing.
    ///
    /// # Errors
    /// The client, or its user on other connections, is beyond a limit.
    pub fn admit(
        &self,
        identity: &Identity,
        address: Option<Address>,
        kind: Kind,
        resume: &Resume,
    ) -> Result<(), Limited> {
        if self.is_beyond_connections(identity, 1) {
            return Err(self.beyond_connections());
        }
        let (payer, now) = (self.payer(identity, address), Instant::now());
        self.take(payer, kind, 1, now)?;
        let channels = resume.points.iter().map(|point| &point.channel);
        let new =
            channels.filter(|channel| !identity.channels.contains(channel) && self.find(channel).is_none()).count();
        self.take(payer, Kind::NewChannels, new as u32, now)
    }

    /// Counts an invalid credential of a client address. Who presents one that has just expired is no attacker.
    ///
    /// # Errors
    /// The address has presented too many.
    pub fn admit_failure(&self, address: Option<Address>, failure: &AuthFailure) -> Result<(), Limited> {
        match (address, failure) {
            (Some(address), AuthFailure::Invalid { .. }) => {
                self.take(Payer::Address(address), Kind::FailedTokens, 1, Instant::now())
            }
            _ => Ok(()),
        }
    }

    /// Lets a client use a channel. One that this node has costs nothing.
    ///
    /// # Errors
    /// The node does not have it, and the client has used up its quota of such channels.
    pub(crate) fn open(&self, channel: &Channel, payer: Payer) -> Result<(), Limited> {
        if payer == Payer::Nobody || self.find(channel).is_some() {
            return Ok(());
        }
        self.take(payer, Kind::NewChannels, 1, Instant::now())
    }

    /// Takes tokens or none, and counts a refusal.
    pub(crate) fn take(&self, payer: Payer, kind: Kind, n: u32, now: Instant) -> Result<(), Limited> {
        self.quotas.take(payer, kind, n, now).inspect_err(|limited| self.count_limited(limited.label))
    }

    /// Counts what a limit refused or delayed.
    pub(crate) fn count_limited(&self, label: &str) {
        self.metrics.limited_total.with_label_values(&[label]).inc();
    }

    /// Counts a channel beyond those that a node may have.
    pub(super) fn beyond_channels(&self) -> Limited {
        self.count_limited(NODE_CHANNELS);
        Limited { wait: self.limits.channel_linger, label: NODE_CHANNELS }
    }

    /// Whether the user has as many sessions as a user may, besides `more` that are about to begin.
    pub(crate) fn is_beyond_connections(&self, identity: &Identity, more: u32) -> bool {
        let most = self.user_connections;
        most > 0 && self.has_more_sessions(identity, most.saturating_sub(more) as usize)
    }

    /// Counts a session that its user has too many of.
    pub(crate) fn beyond_connections(&self) -> Limited {
        self.count_limited(USER_CONNECTIONS);
        Limited { wait: CONNECTIONS_WAIT, label: USER_CONNECTIONS }
    }
}
