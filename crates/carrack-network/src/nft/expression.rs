//! The few expressions of nf_tables that the rules need (linux/netfilter/nf_tables.h), as pieces of a rule.
//!
//! Values go through registers: the 16-byte register 1, which is also the 4-byte registers 8, 9, 10 and 11.

use super::attribute::Attributes;
use crate::Subnet;

/// One expression: its name and its attributes.
pub(super) struct Expression(&'static str, Attributes);

/// A part of a rule as one writes it, such as `iifname "lo"`.
pub(super) type Part = Vec<Expression>;

const REGISTER: u32 = 1;
const SECOND_WORD: u32 = 9;
const THIRD_WORD: u32 = 10;
const VERDICT_REGISTER: u32 = 0;
const INTERFACE_NAME_LEN: usize = 16;

impl Expression {
    fn new(name: &'static str, attributes: Attributes) -> Self {
        Self(name, attributes)
    }

    /// As an element of a rule's list of expressions.
    pub fn encode(self) -> Attributes {
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        Attributes::new().text(NAME, self.0).nest(DATA, self.1)
    }
}

/// A comparison with register 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    Equal = 0,
    NotEqual = 1,
}

/// The interface a packet came in by.
pub(super) fn input(is: Is, name: &str) -> Part {
    const IIFNAME: u32 = 6;
    vec![meta(IIFNAME, REGISTER), compare_interface(is, name)]
}

/// The interface a packet goes out by.
pub(super) fn output(is: Is, name: &str) -> Part {
    const OIFNAME: u32 = 7;
    vec![meta(OIFNAME, REGISTER), compare_interface(is, name)]
}

/// `ip daddr 127.0.0.0/8`.
pub(super) fn to_loopback() -> Part {
    vec![ip_header(16, 1), compare(Is::Equal, &[127])]
}

/// `ip saddr 127.0.0.0/8`.
pub(super) fn from_loopback() -> Part {
    vec![ip_header(12, 1), compare(Is::Equal, &[127])]
}

/// `ip saddr SUBNET`.
pub(super) fn from_subnet(subnet: Subnet) -> Part {
    let (network, netmask) = subnet.network_and_mask();
    vec![ip_header(12, 4), mask(netmask.octets()), compare(Is::Equal, &network.octets())]
}

/// `fib daddr type local`: the destination is an address of this host.
pub(super) fn to_local() -> Part {
    const DREG: u16 = 1;
    const RESULT: u16 = 2;
    const FLAGS: u16 = 3;
    const ADDRESS_TYPE: u32 = 3;
    const OF_DESTINATION: u32 = 1 << 1;
    const LOCAL: u32 = 2;
    let attributes =
        Attributes::new().number(DREG, REGISTER).number(RESULT, ADDRESS_TYPE).number(FLAGS, OF_DESTINATION);
    vec![Expression::new("fib", attributes), compare(Is::Equal, &LOCAL.to_ne_bytes())]
}

/// `ct state established,related`.
pub(super) fn of_known_connection() -> Part {
    const STATE: u32 = 0;
    const ESTABLISHED: u32 = 1 << 1;
    const RELATED: u32 = 1 << 2;
    any_bit_of_connection(STATE, ESTABLISHED | RELATED)
}

/// `ct status dnat`: the packet came to a published port.
pub(super) fn of_translated_destination() -> Part {
    const STATUS: u32 = 2;
    const DESTINATION_NAT: u32 = 1 << 5;
    any_bit_of_connection(STATUS, DESTINATION_NAT)
}

fn any_bit_of_connection(key: u32, bits: u32) -> Part {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    let load = Expression::new("ct", Attributes::new().number(DREG, REGISTER).number(KEY, key));
    vec![load, mask(bits.to_ne_bytes()), compare(Is::NotEqual, &0_u32.to_ne_bytes())]
}

/// `accept`.
pub(super) fn accept() -> Part {
    const NF_ACCEPT: u32 = 1;
    vec![verdict(Attributes::new().number(VERDICT_CODE, NF_ACCEPT))]
}

/// `drop`.
pub(super) fn drop() -> Part {
    const NF_DROP: u32 = 0;
    vec![verdict(Attributes::new().number(VERDICT_CODE, NF_DROP))]
}

/// `jump CHAIN`.
pub(super) fn jump(chain: &str) -> Part {
    const NFT_JUMP: i32 = -3;
    const CHAIN: u16 = 2;
    vec![verdict(Attributes::new().number(VERDICT_CODE, NFT_JUMP.cast_unsigned()).text(CHAIN, chain))]
}

const VERDICT_CODE: u16 = 1;

/// `masquerade`.
pub(super) fn masquerade() -> Part {
    vec![Expression::new("masq", Attributes::new())]
}

/// `dnat ip to meta l4proto . th dport map @MAP`.
pub(super) fn translate_by_port(map: &str) -> Part {
    vec![meta(L4PROTO, REGISTER), destination_port(SECOND_WORD), look_up(map), translate_destination()]
}

/// `dnat ip to ip daddr . meta l4proto . th dport map @MAP`.
pub(super) fn translate_by_address_and_port(map: &str) -> Part {
    vec![
        ip_header(16, 4),
        meta(L4PROTO, SECOND_WORD),
        destination_port(THIRD_WORD),
        look_up(map),
        translate_destination(),
    ]
}

const L4PROTO: u32 = 16;

fn meta(key: u32, register: u32) -> Expression {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    Expression::new("meta", Attributes::new().number(DREG, register).number(KEY, key))
}

fn ip_header(offset: u32, length: u32) -> Expression {
    const NETWORK_HEADER: u32 = 1;
    payload(REGISTER, NETWORK_HEADER, offset, length)
}

fn destination_port(register: u32) -> Expression {
    const TRANSPORT_HEADER: u32 = 2;
    payload(register, TRANSPORT_HEADER, 2, 2)
}

fn payload(register: u32, base: u32, offset: u32, length: u32) -> Expression {
    const DREG: u16 = 1;
    const BASE: u16 = 2;
    const OFFSET: u16 = 3;
    const LEN: u16 = 4;
    let attributes = Attributes::new()
        .number(DREG, register)
        .number(BASE, base)
        .number(OFFSET, offset)
        .number(LEN, length);
    Expression::new("payload", attributes)
}

fn compare_interface(is: Is, name: &str) -> Expression {
    let mut value = [0; INTERFACE_NAME_LEN];
    value[..name.len()].copy_from_slice(name.as_bytes());
    compare(is, &value)
}

fn compare(is: Is, value: &[u8]) -> Expression {
    const SREG: u16 = 1;
    const OP: u16 = 2;
    const DATA: u16 = 3;
    Expression::new(
        "cmp",
        Attributes::new().number(SREG, REGISTER).number(OP, is as u32).nest(DATA, data(value)),
    )
}

fn mask(bits: [u8; 4]) -> Expression {
    const SREG: u16 = 1;
    const DREG: u16 = 2;
    const LEN: u16 = 3;
    const MASK: u16 = 4;
    const XOR: u16 = 5;
    let attributes = Attributes::new()
        .number(SREG, REGISTER)
        .number(DREG, REGISTER)
        .number(LEN, 4)
        .nest(MASK, data(&bits))
        .nest(XOR, data(&0_u32.to_ne_bytes()));
    Expression::new("bitwise", attributes)
}

fn verdict(verdict: Attributes) -> Expression {
    const DREG: u16 = 1;
    const DATA: u16 = 2;
    const VERDICT: u16 = 2;
    let value = Attributes::new().nest(VERDICT, verdict);
    Expression::new("immediate", Attributes::new().number(DREG, VERDICT_REGISTER).nest(DATA, value))
}

/// Replaces the key in register 1 by the map's value for it; a key that is not in the map ends the rule.
fn look_up(map: &str) -> Expression {
    const SET: u16 = 1;
    const SREG: u16 = 2;
    const DREG: u16 = 3;
    Expression::new("lookup", Attributes::new().text(SET, map).number(SREG, REGISTER).number(DREG, REGISTER))
}

/// The new destination is the address in register 1 and the port in the word after it.
fn translate_destination() -> Expression {
    const TYPE: u16 = 1;
    const FAMILY: u16 = 2;
    const ADDRESS: u16 = 3;
    const PORT: u16 = 5;
    const DNAT: u32 = 1;
    let attributes = Attributes::new()
        .number(TYPE, DNAT)
        .number(FAMILY, super::transaction::FAMILY_IPV4.into())
        .number(ADDRESS, REGISTER)
        .number(PORT, SECOND_WORD);
    Expression::new("nat", attributes)
}

/// `NFTA_DATA_VALUE`: a constant.
pub(super) fn data(value: &[u8]) -> Attributes {
    const VALUE: u16 = 1;
    Attributes::new().bytes(VALUE, value)
}
