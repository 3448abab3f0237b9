//! Who wants which channel, and what the connection knows of it. Sans I/O.
//!
//! Redis answers every `SUBSCRIBE` and `UNSUBSCRIBE`, in order. At most one of them is under way for a channel, and when
//! its answer comes it is compared with the wish of that moment: so whatever the order of wishes, the last one wins, and
//! an answer is never taken for that of another command.

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;
use fanway_protocol::Channel;
use tokio::sync::oneshot;

/// All channels that are wanted or not yet let go.
#[derive(Default)]
pub(crate) struct Desk {
    entries: HashMap<Channel, Entry, RandomState>,
    /// Calls that wait for a confirmation. Not in the entries: there are very many of those, and few calls.
    waiting: HashMap<Channel, Vec<oneshot::Sender<()>>, RandomState>,
    /// Channels whose wish and wire may differ. Only filled while there is a connection.
    differing: VecDeque<Channel>,
    /// Whether there is a connection.
    online: bool,
    /// How many are wanted.
    wanted: usize,
    /// Channels of which an answer is awaited.
    unanswered: usize,
}

#[derive(Default)]
struct Entry {
    wanted: bool,
    wire: Wire,
    /// It was confirmed on a connection that was lost, so that publications may have been missed.
    interrupted: bool,
}

/// What the connection knows of a channel.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Wire {
    #[default]
    Off,
    /// `SUBSCRIBE` was sent.
    Subscribing,
    On,
    /// `UNSUBSCRIBE` was sent.
    Unsubscribing,
}

impl Desk {
    /// Wants a channel. `None` when it is confirmed already; otherwise resolves when it will be.
    pub(crate) fn want(&mut self, channel: &Channel) -> Option<oneshot::Receiver<()>> {
        let entry = self.entries.entry(channel.clone()).or_default();
        if !entry.wanted {
            entry.wanted = true;
            self.wanted += 1;
        }
        if entry.wire == Wire::On {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let calls = self.waiting.entry(channel.clone()).or_default();
        // Calls that gave up leave their end here: clear it when it would grow.
        if calls.len() == calls.capacity() {
            calls.retain(|call| !call.is_closed());
        }
        calls.push(sender);
        if self.online && entry.wire == Wire::Off {
            self.differing.push_back(channel.clone());
        }
        Some(receiver)
    }

    /// Wants it no more. Calls that wait for it are told by the drop of their sender.
    pub(crate) fn unwant(&mut self, channel: &Channel) {
        let Some(entry) = self.entries.get_mut(channel).filter(|entry| entry.wanted) else { return };
        (entry.wanted, entry.interrupted) = (false, false);
        self.waiting.remove(channel);
        self.wanted -= 1;
        match entry.wire {
            Wire::Off => drop(self.entries.remove(channel)),
            Wire::On => self.differing.push_back(channel.clone()),
            Wire::Subscribing | Wire::Unsubscribing => {}
        }
    }

    /// How many channels are wanted.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// There is a new connection, which knows nothing.
    pub(crate) fn connected(&mut self) {
        self.online = true;
        self.differing = self.entries.keys().cloned().collect();
    }

    /// The connection is lost.
    pub(crate) fn lost(&mut self) {
        (self.online, self.unanswered) = (false, 0);
        self.differing = VecDeque::new();
        self.entries.retain(|_, entry| entry.wanted);
        for entry in self.entries.values_mut() {
            entry.interrupted |= entry.wire == Wire::On;
            entry.wire = Wire::Off;
        }
    }

    /// Takes what is to be sent now: channels to subscribe and to unsubscribe, together at most `limit`. The caller sends all.
    ///
    /// While an answer is awaited, wishes wait for it: one alone is sent at once, and those that come in a storm together.
    /// As soon as there are `limit` of them they wait no longer.
    pub(crate) fn take_due(&mut self, limit: usize) -> (Vec<Channel>, Vec<Channel>) {
        let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
        if self.unanswered > 0 && self.differing.len() < limit {
            return (subscribe, unsubscribe);
        }
        while subscribe.len() + unsubscribe.len() < limit {
            let Some(channel) = self.differing.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&channel) else { continue };
            match (entry.wanted, entry.wire) {
                (true, Wire::Off) => {
                    entry.wire = Wire::Subscribing;
                    subscribe.push(channel);
                }
                (false, Wire::On) => {
                    entry.wire = Wire::Unsubscribing;
                    unsubscribe.push(channel);
                }
                _ => {}
            }
        }
        if self.differing.is_empty() {
            // After a break it had room for all channels.
            self.differing = VecDeque::new();
        }
        self.unanswered += subscribe.len() + unsubscribe.len();
        (subscribe, unsubscribe)
    }

    /// `SUBSCRIBE` was answered. Returns the channel if its subscribers must be told that the feed is whole again:
    /// unless a call waited for it, which tells them itself.
    pub(crate) fn subscribed(&mut self, name: &str) -> Option<Channel> {
        let (channel, entry) =
            self.entries.get_key_value(name).map(|(channel, _)| channel.clone()).zip(self.entries.get_mut(name))?;
        self.unanswered -= usize::from(entry.wire == Wire::Subscribing);
        entry.wire = Wire::On;
        if !entry.wanted {
            self.differing.push_back(channel);
            return None;
        }
        let mut told = false;
        for call in self.waiting.remove(name).into_iter().flatten() {
            told |= call.send(()).is_ok();
        }
        if self.waiting.is_empty() {
            self.waiting = HashMap::default();
        }
        let restored = std::mem::take(&mut entry.interrupted) || !told;
        restored.then_some(channel)
    }

    /// `UNSUBSCRIBE` was answered.
    pub(crate) fn unsubscribed(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        self.unanswered -= usize::from(entry.wire == Wire::Unsubscribing);
        entry.wire = Wire::Off;
        if !entry.wanted {
            self.entries.remove(name);
        } else if let Some((channel, _)) = self.entries.get_key_value(name) {
            self.differing.push_back(channel.clone());
        }
    }

    /// The channel of that name, if it is wanted.
    pub(crate) fn channel(&self, name: &str) -> Option<Channel> {
        self.entries.get_key_value(name).filter(|(_, entry)| entry.wanted).map(|(channel, _)| channel.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn channel(number: u8) -> Channel {
        Channel::new(&format!("c{number}")).unwrap()
    }

    /// A server that answers in order.
    #[derive(Default)]
    struct Server {
        subscribed: HashSet<Channel>,
        answers: VecDeque<(bool, Channel)>,
    }

    impl Server {
        fn take(&mut self, (subscribe, unsubscribe): (Vec<Channel>, Vec<Channel>)) {
            for channel in subscribe {
                assert!(self.subscribed.insert(channel.clone()), "subscribed twice");
                self.answers.push_back((true, channel));
            }
            for channel in unsubscribe {
                assert!(self.subscribed.remove(&channel), "unsubscribed what was not subscribed");
                self.answers.push_back((false, channel));
            }
        }

        fn answer(&mut self, desk: &mut Desk) -> bool {
            match self.answers.pop_front() {
                Some((true, channel)) => drop(desk.subscribed(channel.as_str())),
                Some((false, channel)) => desk.unsubscribed(channel.as_str()),
                None => return false,
            }
            true
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Want(u8),
        Unwant(u8),
        Send(usize),
        Answer,
        Lose,
        Connect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4u8).prop_map(Step::Want),
            4 => (0..4u8).prop_map(Step::Unwant),
            3 => (1..4usize).prop_map(Step::Send),
            4 => Just(Step::Answer),
            1 => Just(Step::Lose),
            2 => Just(Step::Connect),
        ]
    }

    proptest! {
        #[test]
        fn the_last_wish_wins(steps in vec(step(), 0..80)) {
            let (mut desk, mut server, mut online) = (Desk::default(), Server::default(), false);
            let mut wishes = HashSet::new();
            let mut calls = Vec::new();
            for step in steps {
                match step {
                    Step::Want(number) => {
                        wishes.insert(channel(number));
                        match desk.want(&channel(number)) {
                            Some(call) => calls.push((channel(number), call)),
                            // Confirmed already must mean that the server delivers.
                            None => prop_assert!(server.subscribed.contains(&channel(number))),
                        }
                    }
                    Step::Unwant(number) => {
                        wishes.remove(&channel(number));
                        desk.unwant(&channel(number));
                    }
                    Step::Send(limit) if online => server.take(desk.take_due(limit)),
                    Step::Answer if online => drop(server.answer(&mut desk)),
                    Step::Lose if online => {
                        (server, online) = (Server::default(), false);
                        desk.lost();
                    }
                    Step::Connect if !online => {
                        online = true;
                        desk.connected();
                    }
                    _ => {}
                }
                prop_assert_eq!(desk.wanted(), wishes.len());
            }
            if !online {
                desk.connected();
            }
            loop {
                server.take(desk.take_due(usize::MAX));
                if !server.answer(&mut desk) {
                    break;
                }
            }
            prop_assert_eq!(&server.subscribed, &wishes);
            prop_assert_eq!((desk.entries.len(), desk.unanswered), (wishes.len(), 0));
            prop_assert!(desk.waiting.is_empty() && desk.differing.capacity() == 0);
            for (channel, mut call) in calls {
                // Every call is answered, or told that the channel was given up.
                let answered = call.try_recv();
                prop_assert!(answered.is_ok() || matches!(answered, Err(oneshot::error::TryRecvError::Closed)), "{:?}", channel);
            }
        }
    }

    #[test]
    fn one_wish_is_sent_at_once_and_those_of_a_storm_together() {
        let mut desk = Desk::default();
        desk.connected();
        drop(desk.want(&channel(0)));
        assert_eq!(desk.take_due(4).0, [channel(0)]);
        (1..=3).for_each(|n| drop(desk.want(&channel(n))));
        assert_eq!(desk.take_due(4).0, [], "an answer is awaited");
        desk.subscribed("c0");
        assert_eq!(desk.take_due(4).0.len(), 3);
        (4..=7).for_each(|n| drop(desk.want(&channel(n))));
        assert_eq!(desk.take_due(4).0.len(), 4, "many do not wait");
        drop(desk.want(&channel(8)));
        desk.lost();
        desk.connected();
        assert_eq!(desk.take_due(10).0.len(), 9);
        for n in 0..=8 {
            desk.subscribed(&format!("c{n}"));
            desk.unwant(&channel(n));
        }
        assert_eq!(desk.take_due(10).1.len(), 9);
        (0..=8).for_each(|n| desk.unsubscribed(&format!("c{n}")));
        assert_eq!((desk.unanswered, desk.entries.len()), (0, 0));
    }

    #[test]
    fn restored_is_told_where_no_call_tells_it() {
        let mut desk = Desk::default();
        let mut server = Server::default();
        desk.connected();
        let mut call = desk.want(&channel(1)).unwrap();
        drop(desk.want(&channel(2)));
        server.take(desk.take_due(10));
        assert_eq!(desk.subscribed("c1"), None);
        assert_eq!(call.try_recv(), Ok(()));
        assert_eq!(desk.subscribed("c2"), Some(channel(2)), "its call had given up");
        desk.lost();
        desk.connected();
        assert_eq!(desk.take_due(10).0.len(), 2);
        assert_eq!(desk.subscribed("c1"), Some(channel(1)));
        assert_eq!(desk.subscribed("c1"), Some(channel(1)), "an answer too many does no harm");
        assert_eq!(desk.subscribed("unknown"), None);
    }
}
