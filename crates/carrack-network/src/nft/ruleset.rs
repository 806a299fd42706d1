//! The static rules of a bridge. They are made whole or not at all, and made anew when they are missing or were
//! written by another version; a container changes only the two maps.

use netlink_packet_core::{NLM_F_APPEND, NlasIterator};

use super::attribute::Attributes;
use super::expression::{
    Is, Part, accept, drop, from_loopback, from_subnet, input, jump, masquerade, of_known_connection,
    of_translated_destination, output, to_local, to_loopback, translate_by_address_and_port,
    translate_by_port,
};
use super::ports::{ADDRESS_PORTS, Map, PORTS, PortMaps};
use super::transaction::{Transaction, Verb, ask, attributes_of};
use crate::netlink::{Netlink, Purpose};
use crate::{Attachment, Bridge, InterfaceName, Result};

/// Part of the table's comment. Raise it whenever a rule changes: a table with another comment is replaced.
const VERSION: u32 = 1;

const GUARD: &str = "guard";
const FORWARD: &str = "forward";
const PUBLISH: &str = "publish";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const POSTROUTING: &str = "postrouting";

/// Where a chain hangs: (type, hook, priority).
type Hook = (&'static str, u32, i32);
const AT_PREROUTING: u32 = 0;
const AT_FORWARD: u32 = 2;
const AT_OUTPUT: u32 = 3;
const AT_POSTROUTING: u32 = 4;

const CHAINS: [(&str, Option<Hook>); 6] = [
    (GUARD, Some(("filter", AT_PREROUTING, -300))),
    (FORWARD, Some(("filter", AT_FORWARD, 0))),
    (PUBLISH, None),
    (PREROUTING, Some(("nat", AT_PREROUTING, -100))),
    (OUTPUT, Some(("nat", AT_OUTPUT, -100))),
    (POSTROUTING, Some(("nat", AT_POSTROUTING, 100))),
];

/// Every rule as (chain, parts), with `nft`'s notation above it.
fn rules(bridge: &Bridge) -> Vec<(&'static str, Vec<Part>)> {
    use Is::{Equal, NotEqual};
    let name = bridge.name.as_str();
    vec![
        // 127.0.0.0/8 never comes from a wire. Without this, a port published on 127.0.0.1 would answer to the whole
        // network, and `route_localnet` would open the host's own loopback services to containers (CVE-2020-8558).
        // iifname != "lo" ip daddr 127.0.0.0/8 drop
        (GUARD, vec![input(NotEqual, "lo"), to_loopback(), drop()]),
        // iifname != "lo" ip saddr 127.0.0.0/8 drop
        (GUARD, vec![input(NotEqual, "lo"), from_loopback(), drop()]),
        // Into the network go answers and what came to a published port; a neighbour that routes packets for
        // container addresses to this host reaches nothing else.
        // oifname != BRIDGE accept
        (FORWARD, vec![output(NotEqual, name), accept()]),
        // iifname BRIDGE accept
        (FORWARD, vec![input(Equal, name), accept()]),
        // ct state established,related accept
        (FORWARD, vec![of_known_connection(), accept()]),
        // ct status dnat accept
        (FORWARD, vec![of_translated_destination(), accept()]),
        // drop
        (FORWARD, vec![drop()]),
        // A port of one address goes before a port of all addresses.
        // dnat ip to ip daddr . meta l4proto . th dport map @address_ports
        (PUBLISH, vec![translate_by_address_and_port(ADDRESS_PORTS)]),
        // dnat ip to meta l4proto . th dport map @ports
        (PUBLISH, vec![translate_by_port(PORTS)]),
        // fib daddr type local jump publish
        (PREROUTING, vec![to_local(), jump(PUBLISH)]),
        // fib daddr type local jump publish
        (OUTPUT, vec![to_local(), jump(PUBLISH)]),
        // Out to the world with the host's address, whatever the container claims to be.
        // iifname BRIDGE oifname != BRIDGE masquerade
        (POSTROUTING, vec![input(Equal, name), output(NotEqual, name), masquerade()]),
        // A container that calls a published port of the host must get its answer through the host. The source is
        // told by its address because a frame that br_netfilter passes through here has no input interface.
        // ip saddr SUBNET oifname BRIDGE ct status dnat masquerade
        (
            POSTROUTING,
            vec![from_subnet(bridge.subnet), output(Equal, name), of_translated_destination(), masquerade()],
        ),
        // The host that calls 127.0.0.1: a container cannot answer to that.
        // ip saddr 127.0.0.0/8 oifname BRIDGE masquerade
        (POSTROUTING, vec![from_loopback(), output(Equal, name), masquerade()]),
    ]
}

/// Whether the rules of this version are in the kernel.
fn is_current(netlink: &mut Netlink, bridge: &Bridge) -> Result<bool> {
    let question = Attributes::new().text(TABLE_NAME, bridge.name.as_str());
    let purpose = Purpose::new("look up", format!("nft table ip {}", bridge.name));
    let replies = ask(netlink, (Verb::GetTable, 0), question, purpose)?.unwrap_or_default();
    let expected = userdata(bridge);
    Ok(replies.iter().any(|reply| {
        let mut attributes = NlasIterator::new(attributes_of(reply)).flatten();
        attributes.any(|attribute| attribute.kind() == TABLE_USERDATA && attribute.value() == expected)
    }))
}

/// Makes the rules where they are missing, then with the published ports of all `leases`.
pub(crate) fn ensure(
    netlink: &mut Netlink,
    bridge: &Bridge,
    leases: impl FnOnce() -> Result<Vec<Attachment>>,
) -> Result<()> {
    if is_current(netlink, bridge)? {
        return Ok(());
    }
    create(bridge).commit(netlink)?;
    let mut maps = PortMaps::new(netlink, &bridge.name);
    leases()?.iter().try_for_each(|lease| maps.restore(lease.address, &lease.ports))
}

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;

/// The table's comment as `nft` writes it: type 0, length, text with its terminating zero.
fn userdata(bridge: &Bridge) -> Vec<u8> {
    let comment = format!("carrack ruleset {VERSION} for {}\0", bridge.subnet);
    // Far below 255: the longest subnet takes 18 characters.
    [&[0, comment.len() as u8], comment.as_bytes()].concat()
}

fn create(bridge: &Bridge) -> Transaction {
    let name = &bridge.name;
    let mut transaction = Transaction::new();
    let purpose =
        |operation, kind, part: &str| Purpose::new(operation, format!("nft {kind} ip {name} {part}"));
    let table = || Attributes::new().text(TABLE_NAME, name.as_str());
    transaction.push(Verb::DestroyTable, 0, table(), purpose("replace", "table", ""));
    let with_comment = table().bytes(TABLE_USERDATA, &userdata(bridge));
    transaction.push(Verb::NewTable, 0, with_comment, purpose("create", "table", ""));
    for map in Map::ALL {
        transaction.push(Verb::NewSet, 0, map.declare(name.as_str()), purpose("create", "map", map.name()));
    }
    for (chain, hook) in CHAINS {
        transaction.push(
            Verb::NewChain,
            0,
            encode_chain(name, chain, hook),
            purpose("create", "chain", chain),
        );
    }
    for (chain, parts) in rules(bridge) {
        let rule = encode_rule(name, chain, parts);
        transaction.push(Verb::NewRule, NLM_F_APPEND, rule, purpose("create", "rule of chain", chain));
    }
    transaction
}

fn encode_chain(bridge: &InterfaceName, name: &str, hook: Option<Hook>) -> Attributes {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const HOOK_NUMBER: u16 = 1;
    const HOOK_PRIORITY: u16 = 2;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const NF_ACCEPT: u32 = 1;
    let chain = Attributes::new().text(TABLE, bridge.as_str()).text(NAME, name);
    match hook {
        None => chain,
        Some((kind, number, priority)) => {
            let hook =
                Attributes::new().number(HOOK_NUMBER, number).number(HOOK_PRIORITY, priority.cast_unsigned());
            chain.nest(HOOK, hook).number(POLICY, NF_ACCEPT).text(TYPE, kind)
        }
    }
}

fn encode_rule(bridge: &InterfaceName, chain: &str, parts: Vec<Part>) -> Attributes {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    const ELEMENT: u16 = 1;
    let expressions = parts.into_iter().flatten().map(super::expression::Expression::encode);
    Attributes::new().text(TABLE, bridge.as_str()).text(CHAIN, chain).list(EXPRESSIONS, ELEMENT, expressions)
}
